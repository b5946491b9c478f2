//! The store over SSH against the same directory read directly, and each of its refusals.

use std::os::unix::fs::symlink;
use std::sync::Arc;

use restore_core::backup::{Backup, BackupId, Verdict, VerifyOptions};
use restore_core::store::{BackupStore, DirectoryStore};
use restore_core::{ErrorKind, NoEvents};
use restore_testing::remote::*;
use restore_testing::sshd::free_port;
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn it_tells_the_same_as_the_directory_itself() {
    let fixture = Fixture::new();
    make_backup(&fixture.there(""), FILES);
    symlink("/etc/passwd", fixture.there("configs/link")).unwrap();
    for name in [
        "pre-restore-20240214-000000",
        ".fetching-20240216-020000",
        "20240231-000000",
    ] {
        std::fs::create_dir(fixture.dir.path().join("there").join(name)).unwrap();
    }
    std::fs::write(fixture.dir.path().join("there/20240217-020000"), "a file").unwrap();
    let site = fixture.site();
    let ssh = &site.stores()[1].1;
    let direct = DirectoryStore::new(fixture.dir.path().join("there"));
    let id: BackupId = ID.parse().unwrap();
    assert_eq!(ssh.list().await.unwrap(), direct.list().await.unwrap());
    assert_eq!(ssh.list().await.unwrap().len(), 2);
    assert_eq!(
        ssh.files(&id).await.unwrap(),
        direct.files(&id).await.unwrap()
    );
    assert_eq!(
        ssh.odd_entries(&id).await.unwrap(),
        direct.odd_entries(&id).await.unwrap()
    );
    assert_eq!(ssh.odd_entries(&id).await.unwrap().len(), 1);
    assert!(ssh.local_path(&id, "MANIFEST.txt").is_none());
    for (path, size) in FILES {
        let whole = std::fs::read(fixture.there(path)).unwrap();
        for offset in [0, 1, size / 2, *size, size + 5] {
            let mut bytes = Vec::new();
            let mut reader = ssh.read(&id, path, offset as u64).await.unwrap();
            reader.read_to_end(&mut bytes).await.unwrap();
            assert!(bytes == whole[offset.min(*size)..], "{path} from {offset}");
        }
    }
    // Given up in the middle: the next one is not disturbed.
    let mut reader = ssh.read(&id, FILES[0].0, 0).await.unwrap();
    reader.read_exact(&mut [0; 100]).await.unwrap();
    drop(reader);
    assert_eq!(ssh.files(&id).await.unwrap().len(), FILES.len() + 1);
    let backup = Backup::open(ssh.clone(), id).await.unwrap();
    let verification = backup
        .verify(
            VerifyOptions::default(),
            Arc::new(NoEvents),
            CancellationToken::new(),
        )
        .await
        .unwrap();
    // The link is what is wrong with it.
    assert_eq!(verification.verdict(), Verdict::Failed);
    assert_eq!(
        verification.findings().len(),
        1,
        "{:?}",
        verification.findings()
    );
}

#[tokio::test]
async fn each_refusal_is_an_error_of_its_own_with_a_next_step() {
    let fixture = Fixture::new();
    let sshd = &fixture.sshd;
    for (config, code, kind) in [
        (
            sshd.client("changed", sshd.port, Some("other-host"), "client"),
            "ssh.host_key_changed",
            ErrorKind::Config,
        ),
        (
            sshd.client("unknown", sshd.port, None, "client"),
            "ssh.host_key_unknown",
            ErrorKind::Config,
        ),
        (
            sshd.client("stranger", sshd.port, Some("host"), "stranger"),
            "ssh.login_refused",
            ErrorKind::Config,
        ),
        (
            sshd.client("nobody", free_port(), Some("host"), "client"),
            "ssh.unreachable",
            ErrorKind::Failed,
        ),
    ] {
        let site = fixture.try_site(&fixture.here(""), &config).unwrap();
        let error = site.stores()[1].1.list().await.unwrap_err();
        assert_eq!((error.code(), error.kind()), (code, kind), "{error}");
        assert!(error.hint_text().is_some() && !error.to_string().contains('\n'));
    }
    // Nothing was written into known_hosts by it.
    let known = std::fs::read_to_string(sshd.path("known_hosts-unknown")).unwrap();
    assert_eq!(known, "");

    let site = fixture.site();
    let ssh = &site.stores()[1].1;
    let id: BackupId = ID.parse().unwrap();
    let error = ssh.files(&id).await.unwrap_err();
    assert_eq!(error.code(), "store.no_such_backup");
    std::fs::remove_dir(fixture.dir.path().join("there")).unwrap();
    for error in [
        ssh.files(&id).await.unwrap_err(),
        ssh.list().await.unwrap_err(),
    ] {
        assert_eq!(
            (error.code(), error.kind()),
            ("store.absent", ErrorKind::NotFound)
        );
    }
}

#[tokio::test]
async fn a_session_that_ended_meanwhile_is_no_error() {
    let fixture = Fixture::new();
    make_backup(&fixture.there(""), &FILES[3..]);
    let site = fixture.site();
    let ssh = &site.stores()[1].1;
    assert_eq!(ssh.list().await.unwrap().len(), 1);
    fixture.wire.cut_after(0, false);
    // The idle session is cut by its next answer, and a new one takes its place.
    assert_eq!(ssh.list().await.unwrap().len(), 1);
    fixture.wire.cut_after(0, true);
    let error = ssh.list().await.unwrap_err();
    assert_eq!(error.code(), "ssh.connection_lost", "{error}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn paths_lead_nowhere_else() {
    let fixture = Fixture::new();
    make_backup(&fixture.there(""), &FILES[3..]);
    let site = fixture.site();
    for (_, store) in site.stores() {
        for path in ["../secret", "/etc/passwd", "a/../../b", "", "a//b", "a\0"] {
            let read = store.read(&ID.parse().unwrap(), path, 0).await;
            assert_eq!(read.err().unwrap().code(), "store.bad_path", "{path:?}");
        }
    }
}
