//! Backups made by real shell commands: listed, opened, verified, damaged in every way.

mod deep;
mod fixture;
mod store;

use std::os::unix::fs::symlink;
use std::sync::Arc;

use fixture::*;
use restore_core::backup::{FileStatus, Generation, Manifest, Verdict};
use restore_core::{ErrorKind, NoEvents, Severity};
use restore_testing::backups::{ID, relist};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_sound_backup_is_verified() {
    let fixture = Fixture::a();
    let backup = fixture.open().await.unwrap();
    assert_eq!(backup.generation(), Generation::A);
    for options in [plain(), deeply()] {
        let verification = fixture.verify(options).await;
        assert_eq!(found(&verification), [""; 0]);
        assert_eq!(verification.verdict(), Verdict::Verified);
        assert_eq!(verification.files.len(), backup.files().len() - 1);
        assert!(
            verification
                .files
                .iter()
                .all(|(_, status)| *status == FileStatus::Verified)
        );
        assert!(verification.bytes >= backup.summary().bytes);
        assert_eq!(verification.deeply_verified(), verification.deep);
        assert!(verification.into_result().is_ok());
    }
}

#[tokio::test]
async fn the_summary_is_what_the_manifest_and_the_folder_say() {
    let fixture = Fixture::a();
    let summary = fixture.open().await.unwrap().summary();
    assert_eq!(summary.id.as_str(), ID);
    assert_eq!(summary.kind.as_deref(), Some("Full"));
    assert!(summary.created.is_some() && summary.created_by.is_some());
    assert!(!summary.safety);
    assert_eq!(summary.files, 17);
    let fixture = Fixture::b();
    let summary = fixture.open().await.unwrap().summary();
    assert_eq!(summary.kind.as_deref(), Some("automated"));
    assert_eq!((summary.generation, summary.files), (Generation::B, 5));
}

/// CRLF and upper-case hashes fail nothing.
#[tokio::test]
async fn line_ends_and_letter_case_do_not_matter() {
    let fixture = Fixture::a();
    fixture.edit_manifest(|text| text.replace('\n', "\r\n"));
    assert_eq!(fixture.verify(plain()).await.verdict(), Verdict::Verified);
    let fixture = Fixture::a();
    fixture.edit_manifest(|text| {
        text.lines()
            .map(|line| match line.rsplit_once('|') {
                Some((rest, hash)) => format!("{rest}|{}\n", hash.to_uppercase()),
                None => format!("{line}\n"),
            })
            .collect()
    });
    assert_eq!(fixture.verify(plain()).await.verdict(), Verdict::Verified);
}

/// A name that starts with `=` is no section.
#[tokio::test]
async fn a_changed_file_with_an_odd_name_is_found() {
    for name in ["./=name.txt", "a|b.txt", "with space.txt"] {
        let fixture = Fixture::a();
        std::fs::write(fixture.path(name), "before").unwrap();
        relist(&fixture.folder, name);
        fixture.edit_manifest(|text| text.replace("Total Files: 18", "Total Files: 19"));
        let verification = fixture.verify(plain()).await;
        assert_eq!(
            verification.verdict(),
            Verdict::Verified,
            "{name}: {verification:?}"
        );
        std::fs::write(fixture.path(name), "after").unwrap();
        let verification = fixture.verify(plain()).await;
        let name = name.trim_start_matches("./");
        assert_eq!(found(&verification), [format!("verify.changed {name}")]);
    }
}

/// Missing, extra, short, changed, unlisted are findings of their own.
#[tokio::test]
async fn each_damage_has_its_own_finding() {
    type Damage = fn(&Fixture);
    let damages: [(&str, Damage); 8] = [
        ("verify.missing", |f| {
            std::fs::remove_file(f.path(DUMP)).unwrap();
        }),
        ("verify.changed", |f| f.edit(DUMP, |bytes| bytes[2000] ^= 1)),
        ("verify.changed", |f| {
            f.edit(DUMP, |bytes| bytes.truncate(9000))
        }),
        ("verify.short", |f| {
            f.rewrite_manifest_exactly();
            f.edit(DUMP, |bytes| bytes.truncate(9000));
        }),
        ("verify.long", |f| {
            f.rewrite_manifest_exactly();
            f.edit(DUMP, |bytes| bytes.push(0));
        }),
        ("verify.unreadable", |f| {
            std::fs::rename(f.path(DUMP), f.store.path().join("elsewhere")).unwrap();
            symlink(f.store.path().join("elsewhere"), f.path(DUMP)).unwrap();
        }),
        ("verify.unreadable", |f| {
            std::fs::remove_file(f.path(DUMP)).unwrap();
            rustix::fs::mknodat(
                rustix::fs::CWD,
                f.path(DUMP),
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::RUSR,
                0,
            )
            .unwrap();
        }),
        ("verify.unlisted", |f| {
            f.edit_manifest(|text| {
                let kept: String = text
                    .lines()
                    .filter(|line| !line.starts_with(DUMP))
                    .map(|line| format!("{line}\n"))
                    .collect();
                kept.replace("Total Files: 18", "Total Files: 17")
            });
        }),
    ];
    for (code, damage) in damages {
        let fixture = Fixture::a();
        damage(&fixture);
        for options in [plain(), deeply()] {
            let verification = fixture.verify(options).await;
            assert_eq!(found(&verification), [format!("{code} {DUMP}")]);
            assert_eq!(verification.verdict(), Verdict::Failed);
            let finding = &verification.findings()[0];
            assert_eq!(finding.severity, Severity::Error);
            assert!(finding.message.contains(DUMP), "{finding:?}");
            let error = verification.into_result().unwrap_err();
            assert_eq!(
                (error.kind(), error.code()),
                (ErrorKind::Verification, code)
            );
            assert!(error.hint_text().is_some());
        }
    }
}

#[tokio::test]
async fn all_damages_are_reported_at_once() {
    let fixture = Fixture::a();
    std::fs::remove_file(fixture.path(RDB)).unwrap();
    fixture.edit(DUMP, |bytes| bytes[2000] ^= 1);
    std::fs::write(fixture.path("volumes/loki-20240215-020000.tar.gz"), "stray").unwrap();
    std::fs::write(fixture.path("NOTES.txt"), "call Ann before you restore").unwrap();
    symlink("/etc", fixture.path("configs/etc")).unwrap();
    let verification = fixture.verify(plain()).await;
    assert_eq!(
        found(&verification),
        [
            "verify.unlisted NOTES.txt".to_owned(),
            "verify.unreadable configs/etc".to_owned(),
            format!("verify.changed {DUMP}"),
            format!("verify.missing {RDB}"),
            "verify.unlisted volumes/loki-20240215-020000.tar.gz".to_owned(),
        ]
    );
    assert_eq!(verification.findings()[0].severity, Severity::Warning);
    let error = verification.into_result().unwrap_err();
    assert_eq!(error.code(), "verify.unreadable");
    assert!(error.message().contains("3 more errors"), "{error}");
}

#[tokio::test]
async fn a_stray_note_alone_does_not_fail_a_backup() {
    let fixture = Fixture::a();
    std::fs::write(fixture.path("NOTES.txt"), "good one").unwrap();
    let verification = fixture.verify(plain()).await;
    assert_eq!(found(&verification), ["verify.unlisted NOTES.txt"]);
    assert_eq!(verification.verdict(), Verdict::Verified);
}

/// An empty or cut manifest vouches for nothing.
#[tokio::test]
async fn a_cut_manifest_does_not_pass() {
    let whole = Fixture::a();
    let text = std::fs::read_to_string(whole.path(Manifest::FILE_NAME)).unwrap();
    // Inside the first line of a file, between two lines, before the summary, inside it.
    let line = text.find("app/applications").unwrap();
    let lines = text.find("postgres/").unwrap();
    for at in [line + 30, lines, lines + 3, lines + 90, text.len() - 3] {
        let fixture = Fixture::a();
        fixture.edit_manifest(|text| text[..at].to_owned());
        match fixture.open().await {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Verification);
                assert!(error.message().contains(ID), "{error}");
            }
            Ok(_) => {
                let verification = fixture.verify(plain()).await;
                // What a line that is gone would have listed is still there.
                let code = match at == lines {
                    true => "verify.unlisted ",
                    false => "verify.manifest_cut MANIFEST.txt",
                };
                assert_ne!(verification.verdict(), Verdict::Verified);
                assert!(
                    found(&verification).iter().any(|f| f.starts_with(code)),
                    "cut at {at}: {verification:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_count_that_does_not_fit_is_reported() {
    let fixture = Fixture::a();
    fixture.edit_manifest(|text| text.replace("Total Files: 18", "Total Files: 20"));
    let verification = fixture.verify(plain()).await;
    assert_eq!(found(&verification), ["verify.count MANIFEST.txt"]);
    assert_eq!(verification.verdict(), Verdict::Failed);
    // The one trace that an interrupted copy of a backup without checksums leaves.
    let fixture = Fixture::b();
    std::fs::remove_file(fixture.path(RDB)).unwrap();
    let verification = fixture.verify(plain()).await;
    assert!(found(&verification).contains(&"verify.count MANIFEST.txt".to_owned()));
    assert_eq!(verification.verdict(), Verdict::Failed);
}

#[tokio::test]
async fn a_renamed_backup_is_noticed() {
    let fixture = Fixture::a();
    let id = "20240216-020000";
    std::fs::rename(&fixture.folder, fixture.store.path().join(id)).unwrap();
    let verification = open(fixture.store.path(), id)
        .await
        .unwrap()
        .verify(plain(), Arc::new(NoEvents), CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(found(&verification), [format!("verify.other_id {id}")]);
}

/// A manifest without file lines verifies nothing, and says so.
#[tokio::test]
async fn without_checksums_nothing_is_verified_and_nothing_failed() {
    let fixture = Fixture::b();
    for options in [plain(), deeply()] {
        let verification = fixture.verify(options).await;
        assert_eq!(verification.verdict(), Verdict::Unverifiable);
        assert_eq!(found(&verification), [format!("verify.unverifiable {ID}")]);
        assert!(
            verification
                .files
                .iter()
                .all(|(_, status)| *status == FileStatus::Unverifiable)
        );
        assert_eq!(verification.deeply_verified(), verification.deep);
        assert!(verification.into_result().is_ok());
    }
}

#[tokio::test]
async fn an_unfinished_backup_is_called_that() {
    let endings: [fn(&Fixture); 4] = [
        |f| std::fs::remove_file(f.path(Manifest::FILE_NAME)).unwrap(),
        |f| std::fs::write(f.path(Manifest::FILE_NAME), "").unwrap(),
        |f| f.edit_manifest(|text| text[..text.find("app/").unwrap()].to_owned()),
        |f| {
            std::fs::remove_dir_all(&f.folder).unwrap();
            std::fs::create_dir(&f.folder).unwrap();
        },
    ];
    for ending in endings {
        let fixture = Fixture::a();
        ending(&fixture);
        let verification = fixture.verify(plain()).await;
        assert_eq!(verification.verdict(), Verdict::Unfinished);
        assert_eq!(found(&verification)[0], format!("verify.unfinished {ID}"));
        let error = verification.into_result().unwrap_err();
        assert_eq!(error.code(), "verify.unfinished");
        assert_eq!(error.kind(), ErrorKind::Verification);
    }
}

/// Whatever rsync had copied when it was interrupted, and its own half-copied file.
#[tokio::test]
async fn an_interrupted_copy_is_not_taken_for_whole() {
    let fixture = Fixture::a();
    for path in [SQL, ALL_SQL, GLOBALS, RDB, AOF, GRAFANA] {
        std::fs::remove_file(fixture.path(path)).unwrap();
    }
    std::fs::write(
        fixture.path("postgres/.postgres-20240215-020000.sql.Xy12Zz"),
        "--\n",
    )
    .unwrap();
    let verification = fixture.verify(plain()).await;
    assert_eq!(verification.verdict(), Verdict::Failed);
    let found = found(&verification);
    assert_eq!(
        found
            .iter()
            .filter(|f| f.starts_with("verify.missing"))
            .count(),
        6,
        "{found:?}"
    );
    assert_eq!(found.len(), 7);
}

/// Random bytes, and the real manifest with random bytes changed, cut out and doubled.
#[test]
fn no_manifest_makes_the_parser_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % limit as u64).unwrap()
    };
    let fixture = Fixture::a();
    let real = std::fs::read(fixture.path(Manifest::FILE_NAME)).unwrap();
    let letters = b"=|:./\r\n\0 \\aE0\xff\xc3\xa4\xef\xbb\xbf";
    let (mut good, mut bad) = (0, 0);
    for round in 0..20_000 {
        let mut text = if round % 2 == 0 {
            real.clone()
        } else {
            Vec::new()
        };
        for _ in 0..random(if round % 2 == 0 { 4 } else { 200 }) {
            let at = random(text.len() + 1);
            match random(4) {
                0 if at < text.len() => text[at] = letters[random(letters.len())],
                1 => text.truncate(at.max(1)),
                2 => text.insert(at, u8::try_from(random(256)).unwrap()),
                _ => text.insert(at, letters[random(letters.len())]),
            }
        }
        match Manifest::parse(&text) {
            Ok(manifest) => {
                good += 1;
                for entry in &manifest.entries {
                    assert!(!entry.path.starts_with('/') && !entry.path.is_empty());
                    assert!(entry.path.split('/').all(|part| part != ".."));
                }
                let _ = manifest.to_text();
            }
            Err(error) => {
                bad += 1;
                assert_eq!(error.kind(), ErrorKind::Verification);
                assert!(error.message().contains("line "), "{error}");
            }
        }
    }
    assert!(good > 1000 && bad > 1000, "{good} good, {bad} bad");
}

/// Whatever list other people's scripts write, one rule: verified, failed, or unverifiable and said
/// once.
#[tokio::test]
async fn other_lists_than_a_manifest_are_read() {
    let store = tempfile::tempdir().unwrap();
    let folder = store.path().join(ID);
    let shell = |script: &str| {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("db")).unwrap();
        std::fs::write(folder.join("db/shop.sql.gz"), "a dump").unwrap();
        std::fs::write(folder.join("uploads.tar.gz"), "an archive").unwrap();
        let status = std::process::Command::new("sh")
            .args(["-ec", script])
            .current_dir(&folder)
            .status();
        assert!(status.unwrap().success());
    };
    let verify = async || {
        let backup = open(store.path(), ID).await.unwrap();
        let none = CancellationToken::new();
        backup
            .verify(plain(), Arc::new(NoEvents), none)
            .await
            .unwrap()
    };
    for (script, verdict) in [
        ("sha256sum db/* *.gz > SHA256SUMS", Verdict::Verified),
        ("sha256sum --tag db/* *.gz > sha256sums.txt", Verdict::Verified),
        ("printf %s \"$(sha256sum db/* *.gz)\" > SHA256SUMS", Verdict::Verified),
        ("cp db/shop.sql.gz 'a\\b.gz'; sha256sum db/* *.gz > SHA256SUMS", Verdict::Verified),
        (
            "echo 'Total Files: 2' > MANIFEST.txt; sha256sum db/* *.gz > SHA256SUMS",
            Verdict::Verified,
        ),
        ("sha256sum db/* *.gz > MANIFEST.txt", Verdict::Verified),
        ("for f in db/* *.gz; do sha256sum $PWD/$f > $f.sha256; done", Verdict::Verified),
        (
            "for f in db/* *.gz; do sha256sum $f | cut -c1-64 > $f.sha256; done",
            Verdict::Verified,
        ),
        (
            "{ echo '= Format: file|size|sha256'; echo '# a|b|c'
               for f in db/* *.gz; do echo \"$f|$(stat -c %s $f)|$(sha256sum $f | cut -c1-64)\"; done
             } > MANIFEST.txt",
            Verdict::Verified,
        ),
        ("md5sum db/* *.gz > MD5SUMS", Verdict::Unverifiable),
        ("md5sum db/* *.gz > MANIFEST.txt", Verdict::Unverifiable),
        (
            "sha256sum db/* > MANIFEST.txt; md5sum *.gz >> MANIFEST.txt",
            Verdict::Unverifiable,
        ),
        ("true", Verdict::Unfinished),
    ] {
        shell(script);
        let verification = verify().await;
        assert_eq!(verification.verdict(), verdict, "{script}: {:?}", found(&verification));
        let said = found(&verification);
        assert_eq!(said.len(), usize::from(verdict != Verdict::Verified), "{said:?}");
        if verdict == Verdict::Unfinished {
            continue;
        }
        let here = restore_core::store::DirectoryStore::new(store.path());
        let latest = restore_core::store::latest(&here);
        assert_eq!(latest.await.unwrap().unwrap().as_str(), ID, "{script}");
        std::fs::remove_file(folder.join("db/shop.sql.gz")).unwrap();
        assert_eq!(verify().await.verdict(), Verdict::Failed, "{script}");
        if verdict == Verdict::Verified {
            std::fs::write(folder.join("db/shop.sql.gz"), "a dumb").unwrap();
            assert_eq!(verify().await.verdict(), Verdict::Failed, "{script}");
        }
    }
}

/// The script of the documentation makes a backup that verifies, with the tools that it calls.
#[tokio::test]
async fn the_documented_script_makes_a_backup() {
    const DOCUMENT: &str = include_str!("../../../../docs/backup-format.md");
    let (_, rest) = DOCUMENT.split_once("```sh\n").unwrap();
    let (script, _) = rest.split_once("```").unwrap();
    let work = tempfile::tempdir().unwrap();
    let at = |path: &str| work.path().join(path);
    for (tool, body) in [
        ("pg_dump", "echo dump >\"$3\""),
        ("redis-cli", "echo snapshot >\"$2\""),
        ("crontab", "echo '0 1 * * * true'"),
    ] {
        std::fs::create_dir_all(at("bin")).unwrap();
        std::fs::write(at("bin").join(tool), format!("#!/bin/sh\n{body}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(at("bin").join(tool), mode).unwrap();
    }
    for path in ["store", "grafana", "root/etc/nginx"] {
        std::fs::create_dir_all(at(path)).unwrap();
    }
    let here = work.path().display();
    let script = script
        .replace("/mnt/backups", &format!("{here}/store"))
        .replace("/var/lib/grafana", &format!("{here}/grafana"))
        .replace("-C / ", &format!("-C {here}/root "));
    let path = std::env::var("PATH").unwrap();
    let done = std::process::Command::new("bash")
        .args(["-c", &script])
        .env("PATH", format!("{here}/bin:{path}"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let store: Arc<dyn restore_core::store::BackupStore> =
        Arc::new(restore_core::store::DirectoryStore::new(at("store")));
    let id = store.list().await.unwrap().pop().unwrap();
    let backup = restore_core::backup::Backup::open(store, id).await.unwrap();
    let verification = backup
        .verify(plain(), Arc::new(NoEvents), CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(found(&verification), [""; 0]);
    assert_eq!(verification.verdict(), Verdict::Verified);
    assert_eq!(verification.files.len(), 5);
}
