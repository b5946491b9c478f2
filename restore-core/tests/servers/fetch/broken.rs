//! Fetches that are broken off in every way, and go on.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use restore_core::backup::Verdict;
use restore_core::{ErrorKind, Event, FetchOptions};
use restore_testing::remote::*;

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

/// What is not whole never has the backup's name.
#[tokio::test]
async fn cut_at_any_offset_it_goes_on_and_nothing_half_is_taken_for_whole() {
    let fixture = Fixture::new();
    make_backup(&fixture.there(""), FILES);
    let total: i64 = 17_500_000;
    for offset in [0, 1_000, 5_000, 100_000, 3_000_000, 9_000_000, 17_000_000] {
        let site = fixture.site();
        fixture.wire.mend();
        // Once without a cut, so that the session for the listing is there.
        site.stores()[1].1.list().await.unwrap();
        let before = fixture.wire.passed();
        fixture.wire.cut_after(offset, true);
        let error = site
            .fetch(ID, FetchOptions::new().tries(0))
            .await
            .unwrap_err();
        assert_eq!(error.code(), "ssh.connection_lost", "{offset}: {error}");
        assert!(fixture.wire.is_down());
        assert!(!fixture.here(ID).exists(), "{offset}");
        assert_eq!(site.stores()[0].1.list().await.unwrap(), []);

        fixture.wire.mend();
        let report = site.fetch(ID, FetchOptions::new()).await.unwrap();
        assert_eq!(report.verdict, Some(Verdict::Verified));
        assert_same(&fixture.there(""), &fixture.here(ID));
        assert_eq!(names(&fixture.here("")), [ID]);
        assert_eq!(report.kept + report.received, report.bytes);
        assert!(
            report.kept > 0 || offset < 3_000_000,
            "{offset}: nothing was kept"
        );
        // Both together transferred hardly more than one whole fetch does.
        let passed = fixture.wire.passed() - before;
        assert!(
            passed < total + 6_000_000,
            "{offset}: {passed} bytes came through"
        );
        std::fs::remove_dir_all(fixture.here(ID)).unwrap();
    }
}

#[tokio::test]
async fn a_cut_wire_that_is_mended_is_not_even_an_error() {
    let fixture = Fixture::new();
    make_backup(&fixture.there(""), FILES);
    let site = fixture.site();
    site.stores()[1].1.list().await.unwrap();
    fixture.wire.cut_after(6_000_000, false);
    let again = Arc::new(AtomicBool::new(false));
    let seen = again.clone();
    let options = FetchOptions::new().events(Arc::new(move |event: &Event| {
        if let Event::Finding { finding } = event {
            assert_eq!(finding.code, "fetch.again");
            seen.store(true, Ordering::SeqCst);
        }
    }));
    let report = site.fetch(ID, options).await.unwrap();
    assert_eq!(report.verdict, Some(Verdict::Verified));
    assert!(
        again.load(Ordering::SeqCst),
        "nobody said that the wire was cut"
    );
    assert_same(&fixture.there(""), &fixture.here(ID));
}

/// Breaks a fetch off somewhere in the middle of the largest file.
async fn break_off(fixture: &Fixture) -> PathBuf {
    let site = fixture.site();
    // The session for the listing is there, so that what comes is the files.
    site.stores()[1].1.list().await.unwrap();
    fixture.wire.cut_after(14_000_000, true);
    let options = FetchOptions::new().tries(0);
    let error = site.fetch(ID, options).await.unwrap_err();
    assert_eq!(error.code(), "ssh.connection_lost", "{error}");
    fixture.wire.mend();
    assert!(!fixture.here(ID).exists());
    let part = fixture.here(&format!(".fetching-{ID}/{ID}/{}", FILES[0].0));
    assert!(std::fs::metadata(&part).unwrap().len() > 0);
    part
}

#[tokio::test]
async fn what_is_left_of_an_earlier_fetch_is_not_believed() {
    for damage in [
        "flip",
        "hole",
        "longer",
        "ledger",
        "another file",
        "nothing",
    ] {
        let fixture = Fixture::new();
        make_backup(&fixture.there(""), FILES);
        let part = break_off(&fixture).await;
        let ledger = fixture.here(&format!(".fetching-{ID}/ledger"));
        match damage {
            "flip" => {
                let file = OpenOptions::new().write(true).open(&part).unwrap();
                file.write_all_at(b"flipped", 1000).unwrap();
            }
            "hole" => std::fs::File::create(&part)
                .unwrap()
                .set_len(3_000_000)
                .unwrap(),
            "longer" => {
                let mut file = OpenOptions::new().append(true).open(&part).unwrap();
                file.write_all(&[7; 100_000]).unwrap();
            }
            "ledger" => std::fs::write(&ledger, "{\"path\":").unwrap(),
            "another file" => {
                std::fs::write(part.with_file_name("planted.dump"), "planted").unwrap();
            }
            _ => {}
        }
        let report = fixture.site().fetch(ID, FetchOptions::new()).await.unwrap();
        assert_eq!(report.verdict, Some(Verdict::Verified), "{damage}");
        assert_same(&fixture.there(""), &fixture.here(ID));
        match damage {
            "ledger" => assert_eq!(report.kept, 0),
            // Of a file that was changed nothing is; whether there is another one depends.
            "flip" | "hole" => {}
            _ => assert!(report.kept > 0, "{damage}"),
        }
        assert_eq!(names(&fixture.here("")), [ID]);
    }
}

#[tokio::test]
async fn a_file_that_changes_meanwhile_is_an_error_whatever_the_manifest_can_tell() {
    for with_checksums in [true, false] {
        for when in [0, 17_000_000] {
            let fixture = Fixture::new();
            let make = if with_checksums {
                make_backup
            } else {
                make_backup_b
            };
            make(&fixture.there(""), FILES);
            // The smallest may have been read already, or not: both must be noticed.
            let victim = fixture.there(FILES[4].0);
            let original = std::fs::read(&victim).unwrap();
            let options = at(when, {
                let victim = victim.clone();
                // The protocol tells times in seconds.
                move || write_later(&victim, b"another content!!")
            });
            let site = fixture.site();
            let error = site.fetch(ID, options).await.unwrap_err();
            assert_eq!(
                (error.code(), error.kind()),
                ("fetch.changed", ErrorKind::Verification),
                "{error}"
            );
            assert!(!fixture.here(ID).exists());
            // Let be, it is fetched; what did not change does not come again.
            write_later(&victim, &original);
            let report = site.fetch(ID, FetchOptions::new()).await.unwrap();
            assert!(report.kept > 0);
            assert_same(&fixture.there(""), &fixture.here(ID));
        }
    }
}

/// Writes a file, and dates it another second than before.
fn write_later(path: &Path, content: &[u8]) {
    let before = std::fs::metadata(path).unwrap().modified().unwrap();
    std::fs::write(path, content).unwrap();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(before + std::time::Duration::from_secs(60))
        .unwrap();
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_freed_it_goes_on() {
    let fixture = Fixture::new();
    make_backup(&fixture.there(""), FILES);
    let small = Mount::new("24m");
    let site = fixture.site_into(&small.path);
    let filler = small.path.join("filler");
    let options = at(4_000_000, {
        let filler = filler.clone();
        move || {
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
    assert!(
        error
            .hint_text()
            .unwrap()
            .contains("goes on where it stopped")
    );
    assert!(!small.path.join(ID).exists());
    // Still full: said before anything is transferred.
    let error = site.fetch(ID, FetchOptions::new()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        ("fetch.no_room", ErrorKind::Preflight),
        "{error}"
    );
    std::fs::remove_file(filler).unwrap();
    let report = site.fetch(ID, FetchOptions::new()).await.unwrap();
    assert_eq!(report.verdict, Some(Verdict::Verified));
    assert!(report.kept > 0);
    assert_same(&fixture.there(""), &small.path.join(ID));
}

#[tokio::test]
async fn two_fetches_of_one_backup_do_not_meet() {
    let fixture = Fixture::new();
    make_backup(&fixture.there(""), FILES);
    break_off(&fixture).await;
    let work = fixture.here(&format!(".fetching-{ID}"));
    let folder = std::fs::File::open(&work).unwrap();
    folder.lock().unwrap();
    let site = fixture.site();
    let error = site.fetch(ID, FetchOptions::new()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        ("fetch.under_way", ErrorKind::Locked),
        "{error}"
    );
    drop(folder);
    // Nor in a folder that somebody else can write into.
    std::fs::set_permissions(&work, std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = site.fetch(ID, FetchOptions::new()).await.unwrap_err();
    assert_eq!(error.code(), "fetch.foreign_folder", "{error}");
    std::fs::set_permissions(&work, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert!(site.fetch(ID, FetchOptions::new()).await.unwrap().kept > 0);
}

#[tokio::test]
async fn killed_around_the_rename_it_is_either_fetched_or_to_be_gone_on_with() {
    let fixture = Fixture::new();
    make_backup(&fixture.there(""), FILES);
    let site = fixture.site();
    site.fetch(ID, FetchOptions::new()).await.unwrap();
    let work = fixture.here(&format!(".fetching-{ID}"));
    // Killed after the rename: the ledger is left.
    std::fs::create_dir(&work).unwrap();
    std::fs::set_permissions(&work, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(work.join("ledger"), "").unwrap();
    assert!(
        site.fetch(ID, FetchOptions::new())
            .await
            .unwrap()
            .already_there
    );
    assert_eq!(names(&fixture.here("")), [ID]);
}

/// A small file system of its own.
struct Mount {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Mount {
    fn new(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("small");
        std::fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size},mode=755"),
                "tmpfs",
            ])
            .arg(&path)
            .status()
            .unwrap();
        assert!(mounted.success());
        Self { path, _dir: dir }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
