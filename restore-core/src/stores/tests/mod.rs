//! Backups in a directory, as others leave and change them.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncRead;

use super::directory::DirectoryStore;
use super::names::{Found, SURVEYS, survey};
use super::patterns::NamePattern;
use crate::archive::{Compression, Digest, UnpackPolicy, estimate_source, hash_file};
use crate::backup::{FileStatus, ManifestIssue, Verdict, Verification, VerifyOptions};
use crate::contract::backup::NewBackup;
use crate::contract::{Backup, BackupStore};
use crate::model::{BackupFile, BackupId, NoEvents, Progress, Result};

const ID: &str = "20240215-020000";

fn id() -> BackupId {
    ID.parse().unwrap()
}

fn sha(content: &[u8]) -> Digest {
    Digest(Sha256::digest(content).into())
}

fn put(root: &Path, path: &str, content: &[u8]) {
    let at = root.join(path);
    std::fs::create_dir_all(at.parent().unwrap()).unwrap();
    std::fs::write(at, content).unwrap();
}

/// A backup of these files with a manifest of them.
fn backup_of(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let mut manifest = "=== Files ===\n".to_owned();
    for (path, content) in files {
        put(root.path(), &format!("{ID}/{path}"), content);
        manifest += &format!("{path}|1K|{}\n", sha(content));
    }
    put(
        root.path(),
        &format!("{ID}/MANIFEST.txt"),
        manifest.as_bytes(),
    );
    root
}

async fn open(root: &Path) -> Backup {
    let store = Arc::new(DirectoryStore::new(root));
    Backup::open(store, id()).await.unwrap()
}

async fn verified(backup: &Backup, options: VerifyOptions) -> Verification {
    let events = Arc::new(NoEvents);
    backup
        .verify(options, events, Default::default())
        .await
        .unwrap()
}

fn deeply(policies: Vec<(String, UnpackPolicy)>) -> VerifyOptions {
    VerifyOptions {
        deep: true,
        policies,
        ..VerifyOptions::default()
    }
}

/// Whoever writes the store puts a link to a file of somebody else's in the place of an artifact.
#[tokio::test]
async fn what_became_a_link_is_not_read() {
    let (secret, content) = (tempfile::tempdir().unwrap(), b"somebody else's".as_slice());
    put(secret.path(), "d/a.txt", content);
    for whole_folder in [false, true] {
        let root = backup_of(&[("d/a.txt", content)]);
        let backup = open(root.path()).await;
        let source = backup.source("d/a.txt").unwrap();
        hash_file(&source, Progress::hidden()).await.unwrap();
        let (from, to) = match whole_folder {
            true => (secret.path().join("d"), root.path().join(ID).join("d")),
            false => (
                secret.path().join("d/a.txt"),
                root.path().join(ID).join("d/a.txt"),
            ),
        };
        match whole_folder {
            true => std::fs::remove_dir_all(&to).unwrap(),
            false => std::fs::remove_file(&to).unwrap(),
        }
        symlink(from, to).unwrap();
        let error = hash_file(&source, Progress::hidden()).await.unwrap_err();
        assert!(error.message().contains("symbolic link"), "{error}");
        assert!(estimate_source(&source).is_err());
        assert!(source.open().is_err());
        let stored = backup.store().read(backup.id(), "d/a.txt", 0).await;
        assert!(stored.is_err());
        for options in [VerifyOptions::default(), deeply(Vec::new())] {
            let found = verified(&backup, options).await;
            let (path, status) = &found.files[0];
            let unread = matches!(status, FileStatus::Unreadable { .. });
            assert!(unread, "{path} {status:?}");
        }
        let (files, odd) = (
            backup.store().files(&id()).await.unwrap(),
            backup.store().odd_entries(&id()).await.unwrap(),
        );
        assert_eq!((files.len(), odd.len()), (1, 1), "{files:?} {odd:?}");
    }
}

/// Other tools' names have times and numbers in them, of which a backup of ours has none.
#[tokio::test]
async fn what_other_tools_name_gets_a_name_of_our_own() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(DirectoryStore::new(root.path()));
    let new = NewBackup::begin(
        store.as_ref(),
        id(),
        Compression::default(),
        Arc::new(NoEvents),
        Default::default(),
    );
    let new = new.await.unwrap();
    let all =
        |patterns: &[&str]| -> Vec<String> { patterns.iter().map(|it| (*it).to_owned()).collect() };
    let plain = new.writer("a").name(&all(&["b-*.sql", "x-{id}.sql"]));
    assert_eq!(plain.unwrap(), format!("x-{ID}.sql"));
    for none in [&["../*"][..], &[]] {
        let error = new.writer("a").name(&all(none)).unwrap_err();
        assert_eq!(error.code(), "backup.no_name");
    }
    let patterns = all(&["b-*.tar.bz2"]);
    for name in ["a", "b", "c"] {
        let writer = new.writer(name);
        let (path, _) = writer.archive(&patterns).unwrap();
        assert_eq!(path, format!("b-@{name}.tar.gz"));
        if name != "c" {
            writer.text(&path, name).await.unwrap();
        }
    }
    let manifest = new.manifest(Vec::new()).unwrap();
    new.publish(&manifest).await.unwrap();
    let backup = Backup::open(store, id()).await.unwrap();
    for name in ["a", "b"] {
        let found = backup.find_of(name, &patterns);
        assert_eq!(found, [format!("b-@{name}.tar.gz")]);
    }
    assert!(
        backup.find_of("c", &patterns).is_empty(),
        "it was not backed up"
    );
    assert_eq!(backup.find(&patterns).len(), 2);
}

#[tokio::test]
async fn a_description_is_used_only_as_the_manifest_has_it() {
    let said = br#"{"components": [{"artifacts": ["a.tar"], "facts": {"bytes": 7}}]}"#;
    let root = backup_of(&[("restore.json", said), ("a.tar", b"")]);
    let facts = open(root.path()).await.described("a.tar").await.unwrap();
    assert_eq!(facts.unwrap()["bytes"], 7);
    let other = String::from_utf8_lossy(said).replace('7', "8");
    put(root.path(), &format!("{ID}/restore.json"), other.as_bytes());
    let error = open(root.path())
        .await
        .described("a.tar")
        .await
        .unwrap_err();
    assert_eq!(error.code(), "backup.mismatch", "{error}");
    let root = backup_of(&[("a.tar", b"")]);
    put(root.path(), &format!("{ID}/restore.json"), said);
    let error = open(root.path())
        .await
        .described("a.tar")
        .await
        .unwrap_err();
    assert!(error.message().contains("not listed"), "{error}");
}

#[tokio::test]
async fn lists_that_contradict_each_other_are_no_manifest() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), &format!("{ID}/a"), b"a");
    let list = |content: &[u8]| format!("{}  a\n", sha(content)).into_bytes();
    put(root.path(), &format!("{ID}/a.sha256"), &list(b"a"));
    put(root.path(), &format!("{ID}/a.sha256sum"), &list(b"a"));
    let backup = open(root.path()).await;
    assert_eq!(backup.expected_digest("a"), Some(sha(b"a")));
    let found = verified(&backup, VerifyOptions::default()).await;
    assert_eq!(found.verdict(), Verdict::Verified);
    put(root.path(), &format!("{ID}/a.sha256sum"), &list(b"b"));
    let store = Arc::new(DirectoryStore::new(root.path()));
    let error = Backup::open(store, id()).await.unwrap_err();
    assert_eq!(error.code(), "manifest.duplicate", "{error}");
}

#[tokio::test]
async fn a_backup_with_a_list_is_another_one_where_a_hash_is_another() {
    let of = |content: &'static [u8]| async move {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), &format!("{ID}/a"), content);
        let list = format!("{}  a\n", sha(content));
        put(root.path(), &format!("{ID}/SHA256SUMS"), list.as_bytes());
        open(root.path()).await
    };
    let (one, other) = (of(b"one").await, of(b"two").await);
    assert!(one.is_identity(&of(b"one").await.identity()));
    assert!(!other.is_identity(&one.identity()));
    // As a run of an earlier version wrote it down, which did not look at hashes.
    let files = format!(
        "SHA256SUMS|{}\na|3\n",
        format!("{}  a\n", sha(b"one")).len()
    );
    assert!(one.is_identity(&sha(files.as_bytes()).to_string()));
}

#[tokio::test]
async fn an_archive_of_another_name_is_verified_as_one() {
    let program = restore_testing::stream::Header {
        name: "su",
        mode: 0o4755,
        owner: (70, 71),
        ..Default::default()
    };
    let archive = restore_testing::stream::Raw::default()
        .add(&program)
        .end()
        .0;
    let name = "uploads.backup";
    let root = backup_of(&[(name, &archive)]);
    let backup = open(root.path()).await;
    assert_eq!(backup.files().len(), 2);
    let policy = |elsewhere| {
        let policy = UnpackPolicy {
            elsewhere,
            ..UnpackPolicy::default()
        };
        vec![(name.to_owned(), policy)]
    };
    let found = verified(&backup, deeply(policy(false))).await;
    let refused = matches!(found.files[0].1, FileStatus::Refused { .. });
    assert!(refused, "{:?}", found.files);
    // Of a tree elsewhere nobody here knows the owner: that is said, and no refusal.
    let found = verified(&backup, deeply(policy(true))).await;
    assert_eq!(found.files[0].1, FileStatus::Verified);
    let path = name.to_owned();
    let remark = ManifestIssue::JudgedElsewhere { path, members: 1 };
    assert!(found.remarks.contains(&remark), "{:?}", found.remarks);
    assert_eq!(found.findings()[0].code, "verify.judged_elsewhere");
    // And what is no archive is none, whatever else it is.
    put(root.path(), &format!("{ID}/{name}"), b"just text");
    let found = verified(&backup, deeply(policy(false))).await;
    assert_eq!(found.verdict(), Verdict::Failed);
}

/// A folder of our own name and another tool's files of the same second.
#[test]
fn what_is_of_the_same_second_is_one_backup_and_strangers() {
    let root = tempfile::tempdir().unwrap();
    for name in [
        "0-20240215-020000.sql",
        "x-20240215-020000.sql",
        "x-20240216-020000.sql",
    ] {
        put(root.path(), name, b"");
    }
    std::fs::create_dir(root.path().join(ID)).unwrap();
    let names = NamePattern::parse("*-{date}-{time}.sql", true).unwrap();
    let found = survey(root.path(), Some(&names)).unwrap();
    assert_eq!(found.backups.len(), 2);
    assert_eq!(found.backups[&id()], Found::Folder(ID.to_owned()));
    let strangers: Vec<_> = found.strangers.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(
        strangers,
        ["0-20240215-020000.sql", "x-20240215-020000.sql"]
    );
    assert!(
        found
            .strangers
            .iter()
            .all(|it| it.what.contains("of the same second"))
    );

    let root = tempfile::tempdir().unwrap();
    for name in ["1-20240215", "20240215-000000"] {
        std::fs::create_dir(root.path().join(name)).unwrap();
    }
    let names = NamePattern::parse("1-{date}", false).unwrap();
    let found = survey(root.path(), Some(&names)).unwrap();
    let own = Found::Folder("20240215-000000".to_owned());
    assert_eq!(found.backups.into_values().collect::<Vec<_>>(), [own]);
    assert_eq!(found.strangers[0].path, "1-20240215");
}

/// Where each part of a backup has a folder of its own, those of one time are a backup. A link to a folder is not
/// followed.
#[tokio::test]
async fn files_in_folders_of_their_own_are_one_backup() {
    let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for path in [
        "db/2024-02-15.sql",
        "files/2024-02-15.tar",
        "files/2024-02-16.tar",
        "files/deep/2024-02-15.tar",
    ] {
        put(root.path(), path, b"content");
    }
    put(elsewhere.path(), "2024-02-15.tar", b"secret");
    symlink(elsewhere.path(), root.path().join("link")).unwrap();
    let store = DirectoryStore::new(root.path())
        .of_files("*/{date}.*")
        .unwrap();
    let midnight: BackupId = "20240215-000000".parse().unwrap();
    assert_eq!(store.list().await.unwrap().len(), 2);
    let files = store.files(&midnight).await.unwrap();
    let paths: Vec<&str> = files.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(paths, ["db/2024-02-15.sql", "files/2024-02-15.tar"]);
    let strangers = store.strangers().await.unwrap();
    let named: Vec<&str> = strangers.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(named, ["files/deep", "link"]);
    let found = store.local_path(&midnight, paths[1]).unwrap();
    assert_eq!(found, root.path().join(paths[1]));
    assert!(store.read(&midnight, paths[1], 0).await.is_ok());
    let behind = store.read(&midnight, "link/2024-02-15.tar", 0).await;
    assert!(behind.is_err());
}

/// Some tools number their folders, and write into each when it was made.
#[tokio::test]
async fn a_folder_is_of_the_time_that_its_manifest_says() {
    let root = tempfile::tempdir().unwrap();
    let manifest = |name: &str, text: &str| {
        put(
            root.path(),
            &format!("{name}/MANIFEST.txt"),
            text.as_bytes(),
        );
        put(root.path(), &format!("{name}/a.tar"), b"");
    };
    manifest("full-1", "Created: 2024-02-15 02:00:00\nTotal Files: 1\n");
    manifest("full-2", "Backup ID: 20240216-020000\nTotal Files: 1\n");
    manifest("full-3", "Created: yesterday\n");
    put(root.path(), "full-4/a.tar", b"");
    put(root.path(), "other/a.tar", b"");
    let store = DirectoryStore::new(root.path())
        .named("full-{manifest}")
        .unwrap();
    let listed = store.list().await.unwrap();
    assert_eq!(listed, [id(), "20240216-020000".parse().unwrap()]);
    let found = store.local_path(&id(), "a.tar").unwrap();
    assert_eq!(found, root.path().join("full-1/a.tar"));
    let strangers = store.strangers().await.unwrap();
    for (at, (path, what)) in [
        (
            "full-3",
            "`Created:` \"yesterday\", which is not understood",
        ),
        ("full-4", "has no MANIFEST.txt"),
        ("other", "full-{manifest}"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(strangers[at].path, path);
        assert!(strangers[at].what.contains(what), "{strangers:?}");
    }
    // Renamed by the next one: it is looked for again.
    let moved = root.path().join("full-9");
    std::fs::rename(root.path().join("full-1"), &moved).unwrap();
    let found = store.local_path(&id(), "a.tar").unwrap();
    assert_eq!(found, moved.join("a.tar"));
}

/// A backup of another tool can have very many files: the store is not looked through for each.
#[test]
fn files_of_other_tools_are_found_without_looking_through_the_store() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "b_2024-02-15/a", b"");
    put(root.path(), "a-20240215.sql", b"");
    let midnight: BackupId = "20240215-000000".parse().unwrap();
    let folders = DirectoryStore::new(root.path()).named("b_{date}").unwrap();
    let files = DirectoryStore::new(root.path())
        .of_files("*-{date}.sql")
        .unwrap();
    SURVEYS.set(0);
    for _ in 0..100 {
        let found = folders.local_path(&midnight, "a").unwrap();
        assert_eq!(found, root.path().join("b_2024-02-15/a"));
        let found = files.local_path(&midnight, "a-20240215.sql").unwrap();
        assert_eq!(found, root.path().join("a-20240215.sql"));
    }
    assert_eq!(SURVEYS.get(), 1);
    // What was found once is no answer any more once it is elsewhere.
    let moved = root.path().join("b_20240215");
    std::fs::rename(root.path().join("b_2024-02-15"), &moved).unwrap();
    assert_eq!(folders.local_path(&midnight, "a").unwrap(), moved.join("a"));
}

/// Who could lead the way to a store elsewhere would get all that is backed up, and choose what is restored.
#[tokio::test]
async fn nothing_is_written_where_somebody_else_leads_the_way() {
    let root = tempfile::tempdir().unwrap();
    let (theirs, victim) = (root.path().join("theirs"), root.path().join("victim"));
    std::fs::create_dir(&victim).unwrap();
    std::fs::create_dir(&theirs).unwrap();
    symlink(&victim, theirs.join("backups")).unwrap();
    std::fs::set_permissions(&theirs, PermissionsExt::from_mode(0o777)).unwrap();
    let store = DirectoryStore::new(theirs.join("backups"));
    for refused in [
        store.begin(&id()).await.map(drop),
        store.room().await.map(drop),
        store.check_way(),
    ] {
        assert_eq!(refused.unwrap_err().code(), "path.untrusted");
    }
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0);
    // Where that is meant.
    let store = store.followed(true);
    store.check_way().unwrap();
    store.room().await.unwrap();
    store.begin(&id()).await.unwrap();
    assert!(victim.join(ID).is_dir());
}

/// A store that says of each file that it has more bytes than there are.
struct Boaster(DirectoryStore);

#[async_trait]
impl BackupStore for Boaster {
    fn describe(&self) -> String {
        "a store that boasts".to_owned()
    }

    async fn list(&self) -> Result<Vec<BackupId>> {
        self.0.list().await
    }

    async fn files(&self, id: &BackupId) -> Result<Vec<BackupFile>> {
        let mut files = self.0.files(id).await?;
        files.iter_mut().for_each(|file| file.size = u64::MAX);
        files.reverse();
        Ok(files)
    }

    async fn read(
        &self,
        id: &BackupId,
        path: &str,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        self.0.read(id, path, offset).await
    }

    fn local_path(&self, _id: &BackupId, _path: &str) -> Option<std::path::PathBuf> {
        None
    }
}

#[tokio::test]
async fn sizes_that_a_store_makes_up_overflow_nothing() {
    let root = backup_of(&[("a", b"a"), ("b", b"b")]);
    let store = Arc::new(Boaster(DirectoryStore::new(root.path())));
    let backup = Backup::open(store, id()).await.unwrap();
    assert!(backup.file("a").is_some() && backup.file("b").is_some());
    let found = verified(&backup, VerifyOptions::default()).await;
    assert_eq!(
        (found.bytes, found.verdict()),
        (u64::MAX, Verdict::Verified)
    );
}
