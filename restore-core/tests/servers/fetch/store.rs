//! The store over SSH against the same directory read directly, and each of its refusals.

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

use restore_core::backup::{Backup, BackupId, Generation, Verdict, VerifyOptions};
use restore_core::component::Registry;
use restore_core::config::SiteConfig;
use restore_core::store::{BackupStore, DirectoryStore, SshConfig, SshStore};
use restore_core::{ErrorKind, FetchOptions, NoEvents, Site};
use restore_testing::remote::*;
use restore_testing::sshd::free_port;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

/// A server that shows one more folder in each, or nothing but `.` for ever: `python3 FILE MODE`.
const ENDLESS: &str = r#"
import struct, sys
def text(value): return struct.pack(">I", len(value)) + value
def read(count):
    got = sys.stdin.buffer.read(count)
    if len(got) < count: sys.exit()
    return got
def say(kind, body):
    sys.stdout.buffer.write(struct.pack(">IB", len(body) + 1, kind) + body)
    sys.stdout.buffer.flush()
def names(entries):
    mode = struct.pack(">II", 4, 0o040755)
    return struct.pack(">I", len(entries)) + b"".join(text(it) + text(b"") + mode for it in entries)
shown = False
while True:
    (length,) = struct.unpack(">I", read(4))
    packet = read(length)
    kind, number = packet[0], packet[1:5]
    if kind == 1: say(2, struct.pack(">I", 3))
    elif kind == 11:
        shown = False
        say(102, number + text(b"h"))
    elif kind == 12 and sys.argv[1] == "dots": say(104, number + names([b"."] * 4000))
    elif kind == 12 and not shown:
        shown = True
        say(104, number + names([b"d" * 200]))
    else: say(101, number + struct.pack(">I", 1 if kind == 12 else 0) + text(b"") + text(b""))
"#;

/// Not in memory, nor in time: it is listed every night.
#[tokio::test]
async fn a_server_whose_lists_do_not_end_is_given_up() {
    let fixture = Fixture::new();
    let program = fixture.dir.path().join("endless.py");
    std::fs::write(&program, ENDLESS).unwrap();
    let config = fixture.sshd.good_client(fixture.wire.port);
    for (mode, said) in [
        ("deep", "of more than 4096 bytes"),
        ("dots", "entries of one directory"),
    ] {
        let ssh = SshConfig {
            host: "nas".to_owned(),
            path: "/backups".to_owned(),
            config: Some(config.clone()),
            sftp_server: Some(format!("python3 {} {mode}", program.display())),
            ..SshConfig::default()
        };
        let store = SshStore::new(ssh).unwrap();
        let id: BackupId = ID.parse().unwrap();
        let files = tokio::time::timeout(Duration::from_secs(60), store.files(&id));
        let error = files.await.expect("it comes to an end").unwrap_err();
        assert_eq!(error.code(), "ssh.too_many_entries", "{error:#}");
        assert!(error.to_string().contains(said), "{error:#}");
    }
}

/// The folder `name` of the other host as a store.
fn ssh(fixture: &Fixture, name: &str) -> SshStore {
    SshStore::new(SshConfig {
        host: "nas".to_owned(),
        path: fixture.dir.path().join(name).display().to_string(),
        config: Some(fixture.sshd.good_client(fixture.wire.port)),
        ..SshConfig::default()
    })
    .unwrap()
}

/// Names of other tools are read as in a directory of this host, and what is no backup is said with why.
#[tokio::test]
async fn names_of_other_tools_are_read_as_in_a_directory() {
    let fixture = Fixture::new();
    let write = |path: &str, content: &str| {
        let path = fixture.dir.path().join("there").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    write("dated/backup_2024-02-15/db/shop.sql.gz", "content");
    write("dated/20240217-020000/unfinished.tar", "content");
    write("dated/notes.txt", "content");
    write("dated/old/x", "content");
    write("parts/postgres/2024-02-15.sql.gz", "content");
    write("parts/uploads/2024-02-15.tar", "content");
    write("parts/uploads/notes.txt", "content");
    write(
        "told/web-17/MANIFEST.txt",
        "Created: 2024-02-15 00:00:00\nTotal Files: 1\n",
    );
    write("told/web-17/www.tar", "content");
    write("told/web-18/www.tar", "content");
    let id: BackupId = "20240215-000000".parse().unwrap();
    for (name, pattern, files, backups, file, strangers) in [
        (
            "dated",
            "backup_{date}",
            false,
            2,
            "db/shop.sql.gz",
            &["notes.txt", "old"][..],
        ),
        (
            "parts",
            "*/{date}.*",
            true,
            1,
            "uploads/2024-02-15.tar",
            &["uploads/notes.txt"][..],
        ),
        (
            "told",
            "web-{manifest}",
            false,
            1,
            "www.tar",
            &["web-18"][..],
        ),
    ] {
        let direct = DirectoryStore::new(fixture.dir.path().join("there").join(name));
        let ssh = ssh(&fixture, &format!("there/{name}"));
        let (direct, ssh) = match files {
            true => (direct.of_files(pattern), ssh.of_files(pattern)),
            false => (direct.named(pattern), ssh.named(pattern)),
        };
        let (direct, ssh) = (direct.unwrap(), ssh.unwrap());
        let listed = direct.list().await.unwrap();
        assert_eq!((listed.len(), &listed[0]), (backups, &id), "{name}");
        assert_eq!(ssh.list().await.unwrap(), listed, "{name}");
        let found = direct.strangers().await.unwrap();
        let named: Vec<&str> = found.iter().map(|it| it.path.as_str()).collect();
        assert_eq!(named, strangers, "{found:?}");
        assert_eq!(ssh.strangers().await.unwrap(), found);
        let there = direct.files(&id).await.unwrap();
        assert!(there.iter().any(|it| it.path == file), "{there:?}");
        assert_eq!(ssh.files(&id).await.unwrap(), there);
        let mut content = String::new();
        let mut reader = ssh.read(&id, file, 3).await.unwrap();
        reader.read_to_string(&mut content).await.unwrap();
        assert_eq!(content, "tent", "{name}");
        for store in [Arc::new(ssh) as Arc<dyn BackupStore>, Arc::new(direct)] {
            let backup = Backup::open(store, id.clone()).await.unwrap();
            assert_eq!(backup.generation(), Generation::B, "{name}");
        }
    }
}

/// Without any list of its own it is whole all the same; here its fetch has to say so.
#[tokio::test]
async fn a_backup_of_another_tool_is_fetched_and_stays_unverifiable() {
    let fixture = Fixture::new();
    let folder = fixture.dir.path().join("there/backup_2024-02-15");
    std::fs::create_dir_all(folder.join("db")).unwrap();
    std::fs::write(folder.join("db/shop.sql"), "content").unwrap();
    std::fs::write(folder.join("uploads.tar"), "more").unwrap();
    let nas = json!({
        "kind": "ssh", "host": "nas", "id": "backup_{date}",
        "config": fixture.sshd.good_client(fixture.wire.port),
        "path": fixture.dir.path().join("there"),
    });
    let main = json!({"kind": "directory", "path": fixture.here("")});
    let config = json!({
        "site": {"name": "x", "state": "state"},
        "stores": {"main": main, "nas": nas},
        "components": {},
    });
    let config = SiteConfig::from_value(config).unwrap();
    let site = Site::from_config(config, fixture.dir.path(), &Registry::default()).unwrap();
    let id: BackupId = "20240215-000000".parse().unwrap();
    let fetched = site.fetch(id.as_str(), FetchOptions::new()).await.unwrap();
    assert_eq!(fetched.generation, Generation::B);
    assert_eq!(fetched.verdict, Some(Verdict::Unverifiable));
    let (here, report) = site.bring(id.as_str(), FetchOptions::new()).await.unwrap();
    assert!(report.is_none() && here.store().directory().is_some());
    assert_eq!(here.generation(), Generation::B);
    assert_eq!(here.manifest().unwrap().total_files(), Some(2));
    let folder = fixture.here(id.as_str());
    let content = std::fs::read_to_string(folder.join("db/shop.sql")).unwrap();
    assert_eq!(content, "content");
    let again = site.fetch(id.as_str(), FetchOptions::new()).await.unwrap();
    assert!(again.already_there);
}

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
    let strangers = ssh.strangers().await.unwrap();
    assert_eq!(strangers, direct.strangers().await.unwrap());
    let named: Vec<&str> = strangers.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(named, ["20240217-020000", "20240231-000000"]);
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
