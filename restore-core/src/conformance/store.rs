//! Stores.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::AsyncReadExt;

use super::{Broken, Kept, broken, given, holds, must};
use crate::contract::{Backup, BackupStore, Manifest};
use crate::model::{BackupFile, BackupId, ErrorKind, Result};

/// A store of one's own, and a way behind its back.
#[async_trait]
pub trait StoreUnderTest: Send + Sync {
    /// The store, opened anew as another process would. Empty before the suite puts something in.
    async fn open(&self) -> Result<Arc<dyn BackupStore>>;

    /// Puts a file into a folder of the place itself, as whoever makes backups does. `folder` is a
    /// backup's id, or another name, which the store must not take for one.
    async fn put(&self, folder: &str, path: &str, content: &[u8]) -> Result<()>;

    /// A store of the same kind whose place does not exist or cannot be reached; `None` where
    /// there is no such thing.
    async fn unreachable(&self) -> Result<Option<Arc<dyn BackupStore>>>;
}

/// In the order of their times, which is not the order of their names.
const IDS: [&str; 3] = [
    "20240101-000000",
    "pre-restore-20240101-000000",
    "20240215-020000",
];
const NOT_BACKUPS: [&str; 3] = ["20240215-020000.partial", "lost+found", "20240231-000000"];
const ABSENT: &str = "20990101-000000";

/// Tries a store.
///
/// # Errors
///
/// The first clause of the contract of [`BackupStore`] that is not kept.
pub async fn store(under_test: Arc<dyn StoreUnderTest>) -> Kept {
    let under_test = under_test.as_ref();
    let store = given("open", under_test.open().await)?;
    let described = store.describe();
    holds(
        "`describe` gives a few words in one line",
        !described.trim().is_empty() && !described.contains('\n'),
        format!("{described:?}"),
    )?;
    holds(
        "an empty store is no error",
        must("an empty store is no error", store.list().await)?.is_empty(),
        "backups in it",
    )?;
    if let Some(unreachable) = given("unreachable", under_test.unreachable().await)? {
        holds(
            "an unreachable or absent store is an error",
            unreachable.list().await.is_err(),
            "a list",
        )?;
    }
    let content = fill(under_test).await?;
    // The same value: what is put in between must be seen.
    lists(store.as_ref()).await?;
    for store in [store, given("open", under_test.open().await)?] {
        lists(store.as_ref()).await?;
        files(store.as_ref(), &content).await?;
        reads(store.as_ref(), &content).await?;
        refuses(store.as_ref()).await?;
        opens(&store).await?;
    }
    at_once(&given("open", under_test.open().await)?, &content).await?;
    changes(under_test).await
}

fn id(text: &str) -> Kept<BackupId> {
    given("the suite's own ids", text.parse())
}

/// The files of the newest backup.
type Content = Vec<(&'static str, Vec<u8>)>;

async fn fill(under_test: &dyn StoreUnderTest) -> Kept<Content> {
    let large: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let content = vec![
        ("a b/ünï.txt", b"words".to_vec()),
        ("b/deep/er/file", large),
        ("b.txt", b"x".to_vec()),
        ("empty", Vec::new()),
        (
            Manifest::FILE_NAME,
            b"Backup ID: 20240215-020000\nTotal Files: 4\n".to_vec(),
        ),
    ];
    for folder in IDS.into_iter().chain(NOT_BACKUPS) {
        for (path, bytes) in &content {
            given("put", under_test.put(folder, path, bytes).await)?;
        }
    }
    Ok(content)
}

async fn lists(store: &dyn BackupStore) -> Kept {
    let clause = "`list` gives the ids of all backups, oldest first, and of nothing else";
    let found = must(clause, store.list().await)?;
    let found: Vec<&str> = found.iter().map(BackupId::as_str).collect();
    holds(clause, found == IDS, format!("{found:?}"))
}

async fn files(store: &dyn BackupStore, content: &Content) -> Kept {
    let clause = "`files` gives every file with its exact size, sorted by path";
    let mut wanted: Vec<BackupFile> = content
        .iter()
        .map(|(path, bytes)| BackupFile {
            path: (*path).to_owned(),
            size: bytes.len() as u64,
        })
        .collect();
    wanted.sort();
    for name in IDS {
        let found = must(clause, store.files(&id(name)?).await)?;
        holds(clause, found == wanted, format!("{found:?}"))?;
        let clause = "`odd_entries` gives nothing where there are only files";
        let odd = must(clause, store.odd_entries(&id(name)?).await)?;
        holds(clause, odd.is_empty(), format!("{odd:?}"))?;
    }
    Ok(())
}

async fn read(store: &dyn BackupStore, path: &str, offset: u64) -> Result<Vec<u8>> {
    let name: BackupId = IDS[2].parse()?;
    let mut bytes = Vec::new();
    store
        .read(&name, path, offset)
        .await?
        .read_to_end(&mut bytes)
        .await
        .map_err(|e| crate::model::Error::io(format!("read {path}"), e))?;
    Ok(bytes)
}

async fn reads(store: &dyn BackupStore, content: &Content) -> Kept {
    let clause = "`read` gives the bytes of a file from `offset` on";
    for (path, bytes) in content {
        let size = bytes.len();
        for offset in [0, 1, size / 2, size.saturating_sub(1), size] {
            let Some(rest) = bytes.get(offset..) else {
                continue;
            };
            let found = must(clause, read(store, path, offset as u64).await)?;
            holds(
                clause,
                found == rest,
                format!("{path} from {offset}: {} bytes, or other ones", found.len()),
            )?;
        }
        // An error is as good as nothing; bytes from nowhere are not.
        let beyond = read(store, path, size as u64 + 10).await;
        holds(
            "`read` gives no bytes from beyond the end",
            beyond.map_or(true, |bytes| bytes.is_empty()),
            format!("bytes of {path}"),
        )?;
        if let Some(local) = store.local_path(&id(IDS[2])?, path) {
            let clause = "`local_path` is where the same bytes are";
            let found = tokio::fs::read(&local).await;
            let found = found.map_err(|e| broken(clause, format!("{}: {e}", local.display())))?;
            holds(clause, found == *bytes, local.display())?;
        }
    }
    Ok(())
}

async fn refuses(store: &dyn BackupStore) -> Kept {
    let clause = "`files` of a backup that the store lacks is `NotFound`";
    match store.files(&id(ABSENT)?).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(broken(clause, format!("{:?}: {error}", error.kind()))),
        Ok(files) => return Err(broken(clause, format!("{files:?}"))),
    }
    for path in ["missing", "b", "b/deep", "empty/x", ""] {
        holds(
            "`read` of what is no file of the backup is an error",
            read(store, path, 0).await.is_err(),
            format!("bytes of {path:?}"),
        )?;
    }
    let other = format!("../{}/b.txt", IDS[0]);
    for path in [
        "/etc/passwd",
        "../../etc/passwd",
        "b/../b.txt",
        "./b.txt",
        &other,
    ] {
        holds(
            "no path leads out of a backup's folder, or goes through `.` or `..`",
            read(store, path, 0).await.is_err(),
            format!("bytes of {path:?}"),
        )?;
        holds(
            "`local_path` is `None` for a path that leads out of the backup's folder",
            store.local_path(&id(IDS[2])?, path).is_none(),
            format!("a path for {path:?}"),
        )?;
    }
    Ok(())
}

async fn opens(store: &Arc<dyn BackupStore>) -> Kept {
    let clause = "`Backup::open` reads the manifest through the store";
    let backup = must(clause, Backup::open(store.clone(), id(IDS[2])?).await)?;
    let said = backup
        .manifest()
        .and_then(|manifest| manifest.value("Backup ID"));
    holds(clause, said == Some(IDS[2]), format!("{said:?}"))?;
    let clause = "`latest` is the newest backup, safety backups left out";
    let latest = must(clause, crate::backup::latest::latest(store.as_ref()).await)?;
    let latest = latest.as_ref().map(BackupId::as_str);
    holds(clause, latest == Some(IDS[2]), format!("{latest:?}"))
}

async fn at_once(store: &Arc<dyn BackupStore>, content: &Content) -> Kept {
    let clause = "several readers at the same time each get the whole file";
    let Some((path, bytes)) = content.get(1) else {
        return Ok(());
    };
    let readers = (0..8).map(|_| read(store.as_ref(), path, 0));
    for found in futures_util::future::join_all(readers).await {
        let found = must(clause, found)?;
        holds(clause, found == *bytes, format!("{} bytes", found.len()))?;
    }
    Ok(())
}

/// No cache outlives a call.
async fn changes(under_test: &dyn StoreUnderTest) -> Result<(), Broken> {
    let clause = "every answer describes what is there now";
    let store = given("open", under_test.open().await)?;
    must(clause, store.list().await)?;
    must(clause, store.files(&id(IDS[0])?).await)?;
    given("put", under_test.put(ABSENT, "new", b"new").await)?;
    given("put", under_test.put(IDS[0], "later", b"later").await)?;
    let listed = must(clause, store.list().await)?;
    holds(clause, listed.contains(&id(ABSENT)?), format!("{listed:?}"))?;
    let files = must(clause, store.files(&id(IDS[0])?).await)?;
    holds(
        clause,
        files.iter().any(|file| file.path == "later"),
        format!("{files:?}"),
    )
}
