//! Deep verification, progress, cancellation.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use restore_core::backup::{FileStatus, Verdict, Verification};
use restore_core::{ErrorKind, Event, NoEvents};
use restore_testing::backups::relist;
use tokio_util::sync::CancellationToken;

use super::fixture::*;

#[tokio::test]
async fn only_deep_verification_finds_a_file_that_was_broken_when_it_was_listed() {
    type Damage = fn(&mut Vec<u8>);
    let cut: Damage = |bytes| bytes.truncate(bytes.len() * 6 / 10);
    let empty: Damage = |bytes| bytes.clear();
    let flip: Damage = |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
    };
    // The last database's dump is whole, the cluster's is not.
    let cut_cluster: Damage = |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let end = text
            .rfind("-- PostgreSQL database cluster dump complete")
            .unwrap();
        bytes.truncate(end);
    };
    for (path, damage) in [
        (DUMP, cut),
        (DUMP, flip),
        (DUMP, empty),
        (SQL, cut),
        (SQL, empty),
        (ALL_SQL, cut_cluster),
        (GLOBALS, cut),
        (RDB, cut),
        (RDB, flip),
        (AOF, cut),
        (AOF, (|bytes| bytes.truncate(bytes.len() - 3)) as Damage),
        (GRAFANA, cut),
        (GRAFANA, flip),
        (GRAFANA, empty),
        (JSON, cut),
    ] {
        let fixture = Fixture::a();
        fixture.edit(path, damage);
        relist(&fixture.folder, path);
        let verification = fixture.verify(plain()).await;
        assert_eq!(verification.verdict(), Verdict::Verified, "{path}");
        let verification = fixture.verify(deeply()).await;
        assert_eq!(found(&verification), [format!("verify.unreadable {path}")]);
        assert_eq!(verification.verdict(), Verdict::Failed);
        assert!(!verification.deeply_verified());
    }
}

/// Whole archives, of which one names a file outside and one is packed text by another name.
#[tokio::test]
async fn archives_are_read_as_what_they_hold() {
    let fixture = Fixture::a();
    let make = |script: &str| {
        let status = std::process::Command::new("bash")
            .args(["-c", &format!("set -eu; cd \"$0\"; {script}")])
            .arg(&fixture.folder)
            .status()
            .unwrap();
        assert!(status.success(), "{script}");
    };
    let evil = "volumes/evil-20240215-020000.tar.gz";
    let text = "volumes/text-20240215-020000.tar.gz";
    let good = [
        "app/docker-image-app_1.tar.gz",
        "postgres/extra.sql.gz",
        "volumes/links-20240215-020000.tar.gz",
    ];
    make(&format!(
        "tar czPf {evil} --transform 's,^configs,../configs,' configs"
    ));
    make(&format!("yes | head -c 5000 | gzip > {text}"));
    make(&format!("tar czf {} postgres redis", good[0]));
    make(&format!("gzip -c {SQL} > {}", good[1]));
    // Where a site lets links lead is not for the backup to say.
    make(&format!(
        "ln -s /usr/lib/nginx modules; tar czf {} modules; rm modules",
        good[2]
    ));
    for path in [evil, text].iter().chain(&good) {
        relist(&fixture.folder, path);
    }
    fixture.edit_manifest(|text| text.replace("Total Files: 18", "Total Files: 23"));
    let verification = fixture.verify(deeply()).await;
    // Each refused member is a finding.
    let mut found = found(&verification);
    found.dedup();
    assert_eq!(
        found,
        [
            format!("archive.member_refused {evil}"),
            format!("verify.unreadable {text}"),
        ]
    );
    let FileStatus::Refused { members } = status(&verification, evil) else {
        panic!("{verification:?}");
    };
    assert!(members[0].member.contains("../configs"), "{members:?}");
}

/// `pg_restore -l` accepts this one.
#[tokio::test]
async fn a_cut_dump_without_checksums_fails_deeply() {
    let fixture = Fixture::b();
    fixture.edit(DUMP, |bytes| bytes.truncate(bytes.len() * 6 / 10));
    assert_eq!(
        fixture.verify(plain()).await.verdict(),
        Verdict::Unverifiable
    );
    let verification = fixture.verify(deeply()).await;
    assert_eq!(verification.verdict(), Verdict::Failed);
    let FileStatus::Unreadable { reason } = status(&verification, DUMP) else {
        panic!("{verification:?}");
    };
    assert!(reason.contains("end of file"), "{reason}");
}

/// pg_restore takes what there is of these for all that there was, or reads it for ever.
#[tokio::test]
async fn dumps_in_the_formats_of_tar_and_of_folders_are_looked_into() {
    let fixture = Fixture::a();
    let script = r"
        set -eu; cd $0/postgres; mkdir d
        rows() { printf '1\n2\n\\.\n\n\n'; }
        echo PGDMP > d/toc.dat; rows > d/1.dat; rows | gzip > d/2.dat.gz
        tar cf whole.tar d
        tar cf whole.dump -b 2 --format=ustar -C d toc.dat 1.dat
        head -c 2048 whole.dump > cut.dump; gzip < cut.dump > packed.dump.gz; rm whole.dump
        printf '1\n' > d/1.dat; tar cf plain.tar d; cp plain.tar folder.dump; gzip < plain.tar > folder.dump.gz
        rows > d/1.dat; printf '1\n' | gzip > d/2.dat.gz; tar cf gzip.tar d; gzip gzip.tar
        mv d/2.dat.gz d/1.dat.gz; rm d/1.dat; echo contents > d/toc.dat
        mkdir other; echo contents > other/toc.dat; printf '1\n' > other/1.dat; tar cf other.tar other; rm -r other";
    let made = std::process::Command::new("bash")
        .args(["-c", script])
        .arg(&fixture.folder)
        .status();
    assert!(made.unwrap().success());
    // In one of the archives another program's files are called so.
    let good = [
        "postgres/whole.tar",
        "postgres/other.tar",
        "postgres/d/toc.dat",
    ];
    let broken = [
        ("postgres/cut.dump", "the end of the archive is missing"),
        (
            "postgres/packed.dump.gz",
            "the end of the archive is missing",
        ),
        ("postgres/plain.tar", "1.dat lacks the last line"),
        ("postgres/folder.dump", "1.dat lacks the last line"),
        ("postgres/folder.dump.gz", "1.dat lacks the last line"),
        ("postgres/gzip.tar.gz", "2.dat.gz lacks the last line"),
        ("postgres/d/1.dat.gz", "1.dat.gz lacks the last line"),
    ];
    for path in good.iter().chain(broken.iter().map(|(path, _)| path)) {
        relist(&fixture.folder, path);
    }
    fixture.edit_manifest(|text| text.replace("Total Files: 18", "Total Files: 28"));
    let verification = fixture.verify(deeply()).await;
    for (path, words) in broken {
        let FileStatus::Unreadable { reason } = status(&verification, path) else {
            panic!("{path}: {verification:?}");
        };
        assert!(reason.contains(words), "{path}: {reason}");
    }
    assert_eq!(found(&verification).len(), broken.len());
}

/// A dump of which the compression alone is there is sound to whoever looks at that alone.
#[tokio::test]
async fn compressed_nothing_is_no_dump() {
    let fixture = Fixture::a();
    let script = r"
        set -eu; cd $0
        gzip < /dev/null > postgres/none.dump; gzip < /dev/null > postgres/none.sql.gz
        xz < /dev/null > redis/none.rdb; gzip < redis/*-*.rdb | gzip > redis/twice.rdb
        gzip < redis/*-*.rdb > redis/once.rdb; gzip < /dev/null > configs/none.log.gz";
    let made = std::process::Command::new("bash")
        .args(["-c", script])
        .arg(&fixture.folder)
        .status();
    assert!(made.unwrap().success());
    let broken = [
        ("postgres/none.dump", "form of nothing"),
        ("postgres/none.sql.gz", "form of nothing"),
        ("redis/none.rdb", "form of nothing"),
        ("redis/twice.rdb", "compressed twice"),
    ];
    let sound = ["redis/once.rdb", "configs/none.log.gz"];
    for path in sound.iter().chain(broken.iter().map(|(path, _)| path)) {
        relist(&fixture.folder, path);
    }
    fixture.edit_manifest(|text| text.replace("Total Files: 18", "Total Files: 24"));
    let verification = fixture.verify(deeply()).await;
    for (path, words) in broken {
        let FileStatus::Unreadable { reason } = status(&verification, path) else {
            panic!("{path}: {verification:?}");
        };
        assert!(reason.contains(words), "{path}: {reason}");
    }
    assert_eq!(found(&verification).len(), broken.len());
}

#[tokio::test]
async fn a_missing_tool_is_visible() {
    let fixture = Fixture::a();
    let mut options = deeply();
    options.tools = Some(vec![fixture.path("configs")]);
    let verification = fixture.verify(options).await;
    assert_eq!(verification.verdict(), Verdict::Verified);
    assert!(!verification.deeply_verified());
    assert_eq!(
        found(&verification),
        [
            format!("verify.tool_missing {DUMP}"),
            format!("verify.tool_missing {AOF}"),
            format!("verify.tool_missing {RDB}"),
        ]
    );
    assert!(
        verification.findings()[0]
            .message
            .contains("postgresql-client")
    );
    assert!(verification.findings()[1].message.contains("redis-tools"));
}

#[tokio::test]
async fn a_dump_newer_than_the_tool_is_neither_sound_nor_broken() {
    let fixture = Fixture::b();
    // The archive format's minor version, which each newer pg_dump may raise.
    fixture.edit(DUMP, |bytes| bytes[6] = 99);
    let verification = fixture.verify(deeply()).await;
    assert_eq!(verification.verdict(), Verdict::Unverifiable);
    assert!(!verification.deeply_verified());
    assert!(found(&verification).contains(&format!("verify.not_deep {DUMP}")));
}

/// A backup is only read.
#[tokio::test]
async fn verifying_changes_nothing() {
    fn modified(folder: &Path) -> Vec<(PathBuf, std::time::SystemTime, Vec<u8>)> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let time = path.metadata().unwrap().modified().unwrap();
            if path.is_dir() {
                all.extend(modified(&path));
                all.push((path, time, Vec::new()));
            } else {
                let content = std::fs::read(&path).unwrap();
                all.push((path, time, content));
            }
        }
        all.sort();
        all
    }
    let fixture = Fixture::a();
    fixture.edit(AOF, |bytes| bytes.truncate(bytes.len() - 3));
    let before = modified(&fixture.folder);
    let _ = fixture.verify(deeply()).await;
    assert_eq!(modified(&fixture.folder), before);
}

#[tokio::test]
async fn progress_reaches_its_total_and_cancelling_interrupts() {
    let fixture = Fixture::a();
    let backup = fixture.open().await.unwrap();
    for options in [plain(), deeply()] {
        let last = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&last);
        let sink = move |event: &Event| {
            if let Event::Progress {
                subject,
                action,
                done,
                total,
            } = event
            {
                assert_eq!(
                    (subject.as_str(), action.as_str()),
                    ("backup 20240215-020000", "verify")
                );
                *seen.lock().unwrap() = Some((*done, *total));
            }
        };
        let verification = backup
            .verify(options, Arc::new(sink), CancellationToken::new())
            .await
            .unwrap();
        let bytes = verification.bytes;
        assert_eq!(*last.lock().unwrap(), Some((bytes, Some(bytes))));
    }
    let cancel = CancellationToken::new();
    cancel.cancel();
    let error = backup
        .verify(deeply(), Arc::new(NoEvents), cancel)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
}

/// What strangers wrote is parsed with no power over this host.
#[tokio::test]
async fn the_tools_run_as_nobody_where_we_are_root() {
    use std::os::unix::fs::PermissionsExt;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let fixture = Fixture::a();
    let tools = tempfile::tempdir().unwrap();
    std::fs::set_permissions(tools.path(), PermissionsExt::from_mode(0o755)).unwrap();
    for (tool, to) in [
        ("pg_restore", ">&2"),
        ("redis-check-rdb", ""),
        ("redis-check-aof", ""),
    ] {
        let script = format!("#!/bin/sh\necho \"error: run by $(id -u)\" {to}\nexit 1\n");
        std::fs::write(tools.path().join(tool), script).unwrap();
        std::fs::set_permissions(tools.path().join(tool), PermissionsExt::from_mode(0o755))
            .unwrap();
    }
    let mut options = deeply();
    options.tools = Some(vec![tools.path().to_owned()]);
    let verification = fixture.verify(options).await;
    for path in [DUMP, RDB, AOF] {
        let FileStatus::Unreadable { reason } = status(&verification, path) else {
            panic!("{path}: {verification:?}");
        };
        let user: u32 = reason.rsplit(' ').next().unwrap().parse().unwrap();
        assert_ne!(user, 0, "{path}");
    }
}

/// What is of Valkey's own format says nothing to the program of Redis; what both read, either reads.
#[tokio::test]
async fn snapshots_of_valkey_are_read_by_its_own_program() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::b();
    let tools = tempfile::tempdir().unwrap();
    std::fs::set_permissions(tools.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let tool = |name: &str, says: &str| {
        let path = tools.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\necho {says}\nexit 1\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    };
    let mut options = deeply();
    options.tools = Some(vec![tools.path().to_owned()]);
    let reason = |verification: &Verification| match status(verification, RDB) {
        FileStatus::Unreadable { reason } => reason.clone(),
        other => panic!("{other:?}"),
    };
    tool("redis-check-rdb", "'Wrong signature trying to load DB'");
    fixture.edit(RDB, |bytes| bytes[..9].copy_from_slice(b"VALKEY080"));
    let verification = fixture.verify(options.clone()).await;
    assert!(matches!(
        status(&verification, RDB),
        FileStatus::Unverifiable
    ));
    let told = format!("{:?}", verification.findings());
    assert!(told.contains("valkey-check-rdb is not installed"), "{told}");

    tool("valkey-check-rdb", "cut");
    let verification = fixture.verify(options.clone()).await;
    assert_eq!(reason(&verification), "valkey-check-rdb says: cut");

    std::fs::remove_file(tools.path().join("redis-check-rdb")).unwrap();
    fixture.edit(RDB, |bytes| bytes[..9].copy_from_slice(b"REDIS0011"));
    let verification = fixture.verify(options).await;
    assert_eq!(reason(&verification), "valkey-check-rdb says: cut");
}

/// A tool that never ends must not outlive the wish to stop.
#[tokio::test]
async fn cancelling_ends_a_tool_that_hangs() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::b();
    let tools = tempfile::tempdir().unwrap();
    // Where we are root it runs as somebody else, who is to write there.
    std::fs::set_permissions(tools.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let started = tools.path().join("started");
    let script = format!(
        "#!/bin/sh\necho $$ > {0}.new; mv {0}.new {0}; exec sleep 600\n",
        started.display()
    );
    for tool in ["pg_restore", "redis-check-rdb"] {
        std::fs::write(tools.path().join(tool), &script).unwrap();
        std::fs::set_permissions(tools.path().join(tool), PermissionsExt::from_mode(0o755))
            .unwrap();
    }
    let mut options = deeply();
    options.tools = Some(vec![tools.path().to_owned()]);
    let backup = fixture.open().await.unwrap();
    let cancel = CancellationToken::new();
    let stopper = async {
        while !started.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        cancel.cancel();
    };
    let verify = backup.verify(options, Arc::new(NoEvents), cancel.clone());
    let limit = std::time::Duration::from_secs(60);
    let (result, ()) = tokio::time::timeout(limit, async { tokio::join!(verify, stopper) })
        .await
        .unwrap();
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
    let pid: i32 = std::fs::read_to_string(&started)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let gone = async {
        // Reaped by the runtime soon after it was killed.
        while Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(limit, gone).await.unwrap();
}
