//! The directory store: what it lists, what it opens, and nothing outside of it.

use std::os::unix::fs::symlink;
use std::sync::Arc;

use restore_core::ErrorKind;
use restore_core::backup::{Backup, BackupId, Generation, Manifest, Verdict};
use restore_core::store::{BackupStore, DirectoryStore, latest};
use restore_testing::backups::{ID, generation_a, generation_b};
use tokio::io::AsyncReadExt;

use super::fixture::*;

#[tokio::test]
async fn a_store_lists_real_backups_alone_oldest_first() {
    let root = tempfile::tempdir().unwrap();
    for name in [
        "20240216-020000",
        "pre-restore-20240215-120000",
        "20240215-020000",
        "20240217-020000.partial",
        ".20240217-020000",
        "lost+found",
        "20240231-020000",
    ] {
        std::fs::create_dir(root.path().join(name)).unwrap();
    }
    std::fs::write(root.path().join("20240218-020000"), "a file").unwrap();
    symlink("20240216-020000", root.path().join("20240219-020000")).unwrap();
    let store = DirectoryStore::new(root.path());
    let ids: Vec<String> = store
        .list()
        .await
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        ids,
        [
            "20240215-020000",
            "pre-restore-20240215-120000",
            "20240216-020000"
        ]
    );
    let link: BackupId = "20240219-020000".parse().unwrap();
    let error = store.files(&link).await.unwrap_err();
    assert_eq!(error.code(), "store.not_a_folder");
}

#[tokio::test]
async fn an_absent_store_and_an_absent_backup_are_told_apart() {
    let root = tempfile::tempdir().unwrap();
    let error = open(root.path(), ID).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::NotFound, "store.no_such_backup")
    );
    assert!(error.message().contains(ID) && error.hint_text().is_some());
    let absent = root.path().join("nfs");
    for error in [
        DirectoryStore::new(&absent).list().await.unwrap_err(),
        open(&absent, ID).await.unwrap_err(),
    ] {
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::NotFound, "store.absent")
        );
        assert!(error.message().contains("nfs") && error.hint_text().is_some());
    }
    std::fs::write(&absent, "a file").unwrap();
    let error = DirectoryStore::new(&absent).list().await.unwrap_err();
    assert_eq!(error.code(), "store.not_a_directory");
}

#[tokio::test]
async fn files_are_read_from_an_offset_and_never_from_outside() {
    let fixture = Fixture::a();
    std::fs::write(fixture.store.path().join("secret"), "outside").unwrap();
    std::fs::create_dir(fixture.store.path().join("dir")).unwrap();
    std::fs::write(fixture.store.path().join("dir/inner"), "outside").unwrap();
    symlink("../secret", fixture.path("link")).unwrap();
    symlink("../dir", fixture.path("linked")).unwrap();
    let store = DirectoryStore::new(fixture.store.path());
    let id: BackupId = ID.parse().unwrap();

    let mut text = String::new();
    let mut reader = store.read(&id, JSON, 3).await.unwrap();
    reader.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("ID\": \"abc\""), "{text}");
    let mut reader = store.read(&id, JSON, 1 << 40).await.unwrap();
    assert_eq!(reader.read_to_string(&mut text).await.unwrap(), 0);

    for path in [
        "../secret",
        "/etc/passwd",
        "postgres/../../secret",
        "",
        ".",
        "a//b",
        "a\0",
    ] {
        let error = store.read(&id, path, 0).await.err().unwrap();
        assert_eq!(error.code(), "store.bad_path", "{path:?}");
        assert_eq!(store.local_path(&id, path), None, "{path:?}");
    }
    for path in ["link", "linked/inner", "postgres"] {
        assert!(store.read(&id, path, 0).await.is_err(), "{path}");
    }
    let files = store.files(&id).await.unwrap();
    assert!(files.is_sorted() && !files.iter().any(|file| file.path.starts_with("link")));
    let backup = fixture.open().await.unwrap();
    for path in ["link", "linked/inner", "../secret"] {
        assert_eq!(
            backup.source(path).unwrap_err().code(),
            "backup.no_such_file"
        );
    }
    assert!(backup.source(DUMP).unwrap().expected().is_some());
}

#[tokio::test]
async fn the_latest_backup_is_the_newest_finished_plain_one() {
    let root = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(root.path());
    assert_eq!(latest(&store).await.unwrap(), None);
    generation_a(root.path(), "20240215-020000");
    generation_b(root.path(), "20240216-020000");
    generation_a(root.path(), "pre-restore-20240220-020000");
    let unfinished = generation_a(root.path(), "20240217-020000");
    std::fs::remove_file(unfinished.join(Manifest::FILE_NAME)).unwrap();
    let empty = generation_a(root.path(), "20240218-020000");
    std::fs::write(empty.join(Manifest::FILE_NAME), "").unwrap();
    std::fs::create_dir(root.path().join("20240219-020000")).unwrap();
    let id = latest(&store).await.unwrap().unwrap();
    assert_eq!(id.as_str(), "20240216-020000");
    // A damaged manifest is for a person to look at, not to be passed over in silence.
    std::fs::write(empty.join(Manifest::FILE_NAME), "a|1|b\n").unwrap();
    let id = latest(&store).await.unwrap().unwrap();
    assert_eq!(id.as_str(), "20240218-020000");
    let error = open(root.path(), id.as_str()).await.unwrap_err();
    assert!(error.message().contains("line 1"), "{error}");
}

#[tokio::test]
async fn patterns_find_a_component_s_files() {
    let fixture = Fixture::a();
    let backup = fixture.open().await.unwrap();
    let patterns = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    let found = backup.find(&patterns(&[
        "volumes/grafana_data-{id}.tar.gz",
        "volumes/grafana-{id}.tar.gz",
    ]));
    assert_eq!(found, [GRAFANA]);
    assert_eq!(backup.find(&patterns(&["postgres/*-{id}.sql"])).len(), 3);
    assert!(backup.find(&patterns(&["*.dump"])).is_empty());
}

/// Folders and files as other tools name them: each is a backup by its time, and what is none is said.
#[tokio::test]
async fn names_of_other_tools_are_backups() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "content").unwrap();
    };
    write("backup_2024-02-15/db/shop.sql.gz");
    write("backup_2024-02-16/uploads.tar");
    write("20240217-020000/unfinished.tar");
    write("notes.txt");
    write("old/x");
    std::os::unix::fs::symlink("old", root.path().join("latest")).unwrap();
    let store = DirectoryStore::new(root.path())
        .named("backup_{date}")
        .unwrap();
    let ids = |ids: Vec<restore_core::backup::BackupId>| -> Vec<String> {
        ids.iter().map(|id| id.as_str().to_owned()).collect()
    };
    assert_eq!(
        ids(store.list().await.unwrap()),
        ["20240215-000000", "20240216-000000", "20240217-020000"]
    );
    let strangers = store.strangers().await.unwrap();
    let named: Vec<&str> = strangers.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(named, ["latest", "notes.txt", "old"]);
    assert!(strangers[2].what.contains("backup_{date}"), "{strangers:?}");
    // Of another tool, unverifiable; what has one of our names is unfinished without a manifest.
    let latest = restore_core::store::latest(&store).await.unwrap().unwrap();
    assert_eq!(latest.as_str(), "20240216-000000");
    let store = Arc::new(store);
    let backup = Backup::open(store.clone(), latest.clone()).await.unwrap();
    assert_eq!(backup.generation(), Generation::B);
    assert_eq!(
        backup.local_path("uploads.tar").unwrap(),
        root.path().join("backup_2024-02-16/uploads.tar")
    );
    assert_eq!(
        backup.verify_listing().await.unwrap().verdict(),
        Verdict::Unverifiable
    );
    assert_eq!(
        store.remove(&latest).await.unwrap_err().code(),
        "store.not_ours"
    );
    assert!(root.path().join("backup_2024-02-16").exists());

    let flat = tempfile::tempdir().unwrap();
    for name in [
        "shop-20240215-0230.sql.gz",
        "uploads-20240215-0230.tar",
        "shop-20240216-0230.sql.gz",
        "x",
    ] {
        std::fs::write(flat.path().join(name), "content").unwrap();
    }
    let store = Arc::new(
        DirectoryStore::new(flat.path())
            .of_files("*-{date}-{time}.*")
            .unwrap(),
    );
    assert_eq!(
        ids(store.list().await.unwrap()),
        ["20240215-023000", "20240216-023000"]
    );
    assert_eq!(store.strangers().await.unwrap().len(), 1);
    let backup = Backup::open(store, "20240215-023000".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(
        backup.find(&["uploads-*.tar.gz".to_owned()]),
        ["uploads-20240215-0230.tar"]
    );
    assert_eq!(backup.files().len(), 2);
    let source = backup.source("shop-20240215-0230.sql.gz").unwrap();
    assert!(source.path().exists());
}
