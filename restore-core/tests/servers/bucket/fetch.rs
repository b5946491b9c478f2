//! Fetching from a bucket: whole, cut at any offset, changed meanwhile, onto a full disk, packed

//! and encrypted.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use restore_core::backup::Verdict;
use restore_core::{ErrorKind, Event, FetchOptions};
use restore_testing::processes;
use restore_testing::remote::*;
use serde_json::json;

use super::ground::*;

/// A backup in the bucket, and its files here to compare with.
fn uploaded(files: &[(&str, usize)]) -> Ground {
    let ground = Ground::new();
    make_backup(&ground.path("there"), files);
    ground.upload(&ground.path("there"));
    ground
}

/// Calls `act` once, when so many bytes are done.
fn at(bytes: u64, act: impl Fn() + Send + Sync + 'static) -> FetchOptions {
    let done_already = AtomicBool::new(false);
    FetchOptions::new().events(Arc::new(move |event: &Event| {
        if let Event::Progress { action, done, .. } = event
            && action == "fetch"
            && *done >= bytes
            && !done_already.swap(true, Ordering::SeqCst)
        {
            act();
        }
    }))
}

#[tokio::test]
async fn a_backup_comes_whole_and_verified() {
    let ground = uploaded(FILES);
    // As consoles make folders.
    std::fs::write(ground.path("empty"), "").unwrap();
    for folder in ["", "configs/", "configs/env-files/"] {
        server().put(
            &ground.key(&format!("{ID}/{folder}")),
            &ground.path("empty"),
        );
    }
    let site = ground.site();
    let report = site.fetch("latest", FetchOptions::new()).await.unwrap();
    assert_eq!(report.verdict, Some(Verdict::Verified));
    assert_eq!(report.from.as_deref(), Some("cloud"));
    assert_eq!((report.received, report.kept), (report.bytes, 0));
    assert_eq!(report.findings, []);
    assert_same(&ground.path("there"), &ground.here(ID));
    assert_eq!(names(&ground.here("")), [ID]);
    // What is here is what a run takes, and what is listed is listed for both.
    let (backup, fetched) = site.bring(ID, FetchOptions::new()).await.unwrap();
    assert!(fetched.is_none() && backup.store().directory().is_some());
    let listed = site.backups().await.unwrap();
    let stores: Vec<&str> = listed.iter().map(|it| it.store.as_str()).collect();
    assert_eq!(stores, ["main", "cloud"]);
    std::fs::remove_dir_all(ground.here(ID)).unwrap();
    let (backup, fetched) = site.bring(ID, FetchOptions::new()).await.unwrap();
    assert!(fetched.is_some() && backup.store().directory().is_some());
}

#[tokio::test]
async fn cut_at_any_offset_it_goes_on_and_nothing_half_is_taken_for_whole() {
    let ground = uploaded(FILES);
    let total: i64 = 17_500_000;
    for offset in [0, 3_000, 100_000, 3_000_000, 9_000_000, 17_000_000] {
        let site = ground.site();
        ground.wire.mend();
        site.stores()[1].1.list().await.unwrap();
        let before = ground.wire.passed();
        ground.wire.cut_after(offset, true);
        let error = site
            .fetch(ID, FetchOptions::new().tries(0))
            .await
            .unwrap_err();
        assert!(
            matches!(
                error.code(),
                "object.connection_lost" | "object.unreachable"
            ),
            "{offset}: {error}"
        );
        assert!(
            ground.wire.is_down() && !ground.here(ID).exists(),
            "{offset}"
        );
        assert_eq!(site.stores()[0].1.list().await.unwrap(), []);

        ground.wire.mend();
        let report = site.fetch(ID, FetchOptions::new()).await.unwrap();
        assert_eq!(report.verdict, Some(Verdict::Verified));
        assert_same(&ground.path("there"), &ground.here(ID));
        assert_eq!(names(&ground.here("")), [ID]);
        assert_eq!(report.kept + report.received, report.bytes);
        assert!(
            report.kept > 0 || offset < 3_000_000,
            "{offset}: nothing was kept"
        );
        // Both together transferred hardly more than one whole fetch does.
        let passed = ground.wire.passed() - before;
        assert!(
            passed < total + 6_000_000,
            "{offset}: {passed} bytes came through"
        );
        std::fs::remove_dir_all(ground.here(ID)).unwrap();
    }
}

#[tokio::test]
async fn a_cut_wire_that_is_mended_is_not_even_an_error() {
    let ground = uploaded(FILES);
    let site = ground.site();
    site.stores()[1].1.list().await.unwrap();
    for offset in [2_000, 6_000_000] {
        ground.wire.cut_after(offset, false);
        let report = site.fetch(ID, FetchOptions::new()).await.unwrap();
        assert_eq!(report.verdict, Some(Verdict::Verified));
        assert_eq!(report.received, report.bytes);
        assert_same(&ground.path("there"), &ground.here(ID));
        std::fs::remove_dir_all(ground.here(ID)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_meanwhile_is_an_error_whatever_the_manifest_can_tell() {
    for with_checksums in [true, false] {
        // The smallest may have been read already, or not; the largest is being read.
        for (victim, size, when) in [
            (FILES[4].0, 17, 0),
            (FILES[4].0, 17, 17_000_000),
            (FILES[0].0, FILES[0].1, 1_000_000),
        ] {
            let ground = Ground::new();
            let make = if with_checksums {
                make_backup
            } else {
                make_backup_b
            };
            make(&ground.path("there"), FILES);
            ground.upload(&ground.path("there"));
            let (key, other) = (ground.key(&format!("{ID}/{victim}")), ground.path("other"));
            std::fs::write(&other, noise(size, 77)).unwrap();
            let options = at(when, {
                let key = key.clone();
                move || server().put(&key, &other)
            });
            let site = ground.site();
            // A connection that is lost then must not go on in the other version.
            ground.wire.cut_after(3_000_000, false);
            let error = site.fetch(ID, options).await.unwrap_err();
            assert_eq!(
                (error.code(), error.kind()),
                ("fetch.changed", ErrorKind::Verification),
                "{victim} at {when}: {error}"
            );
            assert!(!ground.here(ID).exists());
            // Let be, it is fetched; what did not change does not come again.
            server().put(&key, &ground.path("there").join(victim));
            let report = site.fetch(ID, FetchOptions::new()).await.unwrap();
            assert!(report.kept > 0);
            assert_same(&ground.path("there"), &ground.here(ID));
        }
    }
}

#[tokio::test]
async fn what_is_not_whole_there_is_not_fetched() {
    for (damage, code) in [
        ("unfinished", "verify.unfinished"),
        ("missing", "fetch.source_incomplete"),
        ("changed", "fetch.mismatch"),
    ] {
        let ground = uploaded(&FILES[3..]);
        let rdb = ground.key(&format!("{ID}/{}", FILES[3].0));
        match damage {
            "unfinished" => server().delete(&ground.key(&format!("{ID}/MANIFEST.txt"))),
            "missing" => server().delete(&rdb),
            _ => {
                std::fs::write(ground.path("other"), noise(FILES[3].1, 99)).unwrap();
                server().put(&rdb, &ground.path("other"));
            }
        }
        let error = ground
            .site()
            .fetch(ID, FetchOptions::new())
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), error.kind()),
            (code, ErrorKind::Verification),
            "{error}"
        );
        assert!(!ground.here(ID).exists());
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_freed_it_goes_on() {
    // Enough that the disk is full before all of it has come.
    let large = [("volumes/prometheus-20240215-020000.tar.gz", 80_000_000)];
    let ground = uploaded(&large);
    let small = ground.path("small");
    std::fs::create_dir(&small).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=96m,mode=755", "tmpfs"])
        .arg(&small)
        .status()
        .unwrap();
    assert!(mounted.success());
    let _mounted = Mounted(small.clone());
    let site = ground.site_with(&json!({}), &small, json!({})).unwrap();
    let filler = small.join("filler");
    let options = at(4_000_000, {
        let filler = filler.clone();
        move || {
            use std::io::Write;
            let mut file = std::fs::File::create(&filler).unwrap();
            while file.write_all(&[1; 4096]).is_ok() {}
        }
    });
    let error = site.fetch(ID, options).await.unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        ("io.disk_full", ErrorKind::Failed),
        "{error}"
    );
    assert!(!small.join(ID).exists());
    std::fs::remove_file(filler).unwrap();
    let report = site.fetch(ID, FetchOptions::new()).await.unwrap();
    assert!(report.kept > 0);
    assert_same(&ground.path("there"), &small.join(ID));
}

struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_and_encrypted_it_is_unlocked_as_it_comes_and_no_secret_is_to_be_seen() {
    let ground = Ground::new();
    make_backup(&ground.path("work").join(ID), FILES);
    restore_testing::write_secret(ground.path("pass"), "correct horse\n");
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(ground.path("pass"), closed).unwrap();
    let script = format!(
        "mkdir -m 700 gnupg && tar -C work -czf - {ID} | gpg --homedir gnupg --batch --no-tty \
         --pinentry-mode loopback --passphrase-file pass -c -o packed.gpg && \
         gpgconf --homedir gnupg --kill all"
    );
    let packed = Command::new("bash")
        .args(["-eo", "pipefail", "-c", &script])
        .current_dir(ground.dir.path())
        .output()
        .unwrap();
    assert!(packed.status.success(), "{packed:?}");
    let key = ground.key(&format!("backup-{ID}.tar.gz.gpg"));
    server().put(&key, &ground.path("packed.gpg"));
    let more = json!({"passphrase_file": "pass", "gnupg_home": "gnupg"});
    let site = ground
        .site_with(&more, &ground.here(""), json!({}))
        .unwrap();
    let error = site.backup("latest").await.unwrap_err();
    assert_eq!(error.code(), "backup.packed", "{error}");
    ground.wire.cut_after(8_000_000, false);
    let seen = Arc::new(Mutex::new(String::new()));
    let sink = seen.clone();
    let options = FetchOptions::new().events(Arc::new(move |event: &Event| {
        let mut seen = sink.lock().unwrap();
        if matches!(event, Event::Progress { .. }) && !seen.contains("--passphrase-fd 0") {
            seen.push_str(&processes());
        }
        seen.push_str(&format!("{event:?}\n"));
    }));
    let report = site.fetch("latest", options).await.unwrap();
    assert_same(&ground.path("work").join(ID), &ground.here(ID));
    let mut seen = seen.lock().unwrap().clone();
    assert!(
        seen.contains("--passphrase-fd 0"),
        "gpg was not seen at work"
    );
    seen.push_str(&format!("{report:?} {:?}", site.stores()[1].1.describe()));
    for secret in server().keys.iter().chain([&"correct horse".to_owned()]) {
        assert!(!seen.contains(secret.as_str()));
    }
}
