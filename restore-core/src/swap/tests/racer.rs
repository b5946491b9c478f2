//! Somebody who owns the volume swaps what leads to a run's data for links, again and again, while
//! a run does all that it does. `RESTORE_RACES` says how often (50).

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::{put, temporary};
use crate::archive::{PackPolicy, Sink, SinkFile, Source, UnpackPolicy};
use crate::contract::Volume;
use crate::model::{Progress, RunId};
use crate::swap::LocalVolume;
use crate::swap::scope::{Discard, SwapScope};

const STRANGER: u32 = 65_534;

/// What a backup would have in it.
#[derive(Clone, Default)]
struct Packed(Arc<std::sync::Mutex<Vec<u8>>>);

impl Packed {
    fn has(&self, text: &[u8]) -> bool {
        let bytes = self.0.lock().unwrap();
        bytes.windows(text.len()).any(|part| part == text)
    }
}

impl std::io::Write for Packed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl SinkFile for Packed {
    fn seal(self: Box<Self>) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs as the stranger until told to stop; how many swaps it made.
fn race(root: &Path, victim: &Path, stop: &AtomicBool, made: &AtomicU64) {
    use rustix::process::{Gid, Uid};
    // Of this thread alone.
    rustix::thread::set_thread_groups(&[]).unwrap();
    rustix::thread::set_thread_gid(Gid::from_raw(STRANGER)).unwrap();
    rustix::thread::set_thread_uid(Uid::from_raw(STRANGER)).unwrap();
    assert!(
        std::fs::read_dir(victim).is_err(),
        "it is not the stranger's"
    );
    let mut number = 0_u64;
    let mut swap = |path: &Path| {
        number += 1;
        let aside = path.with_file_name(format!("aside-{number}"));
        if std::fs::rename(path, &aside).is_err() {
            return;
        }
        let _ = symlink(victim, path);
        made.fetch_add(1, Ordering::Relaxed);
        if !number.is_multiple_of(3) {
            let _ = std::fs::remove_file(path);
            let _ = std::fs::rename(&aside, path);
        }
    };
    while !stop.load(Ordering::Relaxed) {
        let Ok(entries) = std::fs::read_dir(root) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with(".restore-") {
                for inner in [
                    "staged",
                    "replaced",
                    "staged/sub",
                    "replaced/sub",
                    "left-out",
                ] {
                    swap(&path.join(inner));
                }
                swap(&path);
                let _ = std::fs::create_dir(&path);
                let _ = symlink(victim, path.join("staged"));
            } else if entry.file_name() == "sub" {
                swap(&path.join("deep"));
                swap(&path);
            }
        }
    }
}

fn unharmed(victim: &Path) -> bool {
    let meta = std::fs::metadata(victim).unwrap();
    let inner = std::fs::metadata(victim.join("root-only")).unwrap();
    let there = std::fs::read_dir(victim).unwrap().count();
    (meta.mode() & 0o7777, meta.uid(), there) == (0o700, 0, 1)
        && (inner.mode() & 0o7777, inner.uid()) == (0o600, 0)
        && std::fs::read(victim.join("root-only")).unwrap() == b"secret"
}

fn archive(directory: &Path) -> PathBuf {
    let source = directory.join("source");
    for number in 0..40 {
        put(&source, &format!("sub/deep/{number}"), "new", 0o644);
        put(&source, &format!("{number}"), "new", 0o644);
        let _ = symlink("sub", source.join(format!("link-{number}")));
    }
    let archive = directory.join("archive.tar");
    let packed = Command::new("tar")
        .args(["--owner=65534", "--group=65534", "-cf"])
        .arg(&archive)
        .arg("-C")
        .arg(&source)
        .arg(".")
        .status();
    assert!(packed.unwrap().success());
    archive
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_owns_the_volume_wins_no_race() {
    let tries: u32 = std::env::var("RESTORE_RACES")
        .ok()
        .and_then(|tries| tries.parse().ok())
        .unwrap_or(50);
    let directory = temporary();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let victim = directory.path().join("victim");
    put(&victim, "root-only", "secret", 0o600);
    std::fs::set_permissions(&victim, PermissionsExt::from_mode(0o700)).unwrap();
    let archive = archive(directory.path());
    let size = std::fs::metadata(&archive).unwrap().len();
    let made = Arc::new(AtomicU64::new(0));
    let mut swapped = 0;
    for number in 0..tries {
        let root = directory.path().join(format!("volume-{number}"));
        put(&root, "sub/deep/old", "live", 0o644);
        put(&root, "old", "live", 0o644);
        for own in ["sub/deep/old", "sub/deep", "sub", "old", ""] {
            chown(root.join(own), Some(STRANGER), Some(STRANGER)).unwrap();
        }
        let stop = Arc::new(AtomicBool::new(false));
        let racer = {
            let (root, victim) = (root.clone(), victim.clone());
            let (stop, made) = (stop.clone(), made.clone());
            std::thread::spawn(move || race(&root, &victim, &stop, &made))
        };
        let volume = LocalVolume::new(&root).kept_in(directory.path().join("state"));
        let run = RunId::generate();
        let scope = match number % 2 {
            0 => SwapScope::Everything,
            _ => SwapScope::Tree { keep: Vec::new() },
        };
        let source = Source::new(&archive, "archive.tar", Some(size), None);
        let policy = UnpackPolicy::default();
        let packed = Packed::default();
        let work = async {
            let _ = volume
                .unpack(&run, source, &policy, Progress::hidden())
                .await;
            swapped += u32::from(volume.swap(&run, &scope).await.is_ok());
            let _ = volume.compare(&run).await;
            let _ = volume.unswap(&run).await;
            let _ = volume.swap(&run, &scope).await;
            let sink = Sink::new("archive", Box::new(packed.clone()));
            let policy = PackPolicy::new(".", crate::archive::Compression::None);
            let _ = volume
                .pack(policy, sink, Progress::hidden(), Default::default())
                .await;
            let _ = volume.measure(&[]).await;
            let _ = volume.discard(&run, Discard::Replaced).await;
            let _ = volume.discard(&run, Discard::Staged).await;
        };
        let ended = tokio::time::timeout(Duration::from_secs(60), work).await;
        stop.store(true, Ordering::Relaxed);
        racer.join().unwrap();
        assert!(ended.is_ok(), "try {number} does not end");
        assert!(unharmed(&victim), "try {number}");
        assert!(
            !packed.has(b"secret"),
            "try {number}: what is root's alone is in the backup"
        );
    }
    assert!(
        made.load(Ordering::Relaxed) > u64::from(tries),
        "nobody raced"
    );
    println!("{swapped} of {tries} swaps were made all the same");
}
