//! What whoever owns the volume, or anybody else, could write where a swap's list is.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use super::{put, temporary};
use crate::contract::Volume;
use crate::model::RunId;
use crate::swap::scope::{Discard, SwapScope, SwapState};
use crate::swap::{LocalVolume, RECORD, RecordKey, SwapExecutor};

const STRANGER: u32 = 65_534;

/// A volume of a stranger's, and a folder outside that is nobody else's.
struct Ground {
    _directory: tempfile::TempDir,
    root: PathBuf,
    victim: PathBuf,
    state: PathBuf,
    run: RunId,
}

impl Ground {
    fn new() -> Self {
        let directory = temporary();
        let path = |name: &str| directory.path().join(name);
        let (root, victim, state) = (path("volume"), path("victim"), path("state"));
        put(&root, "data", "live", 0o644);
        put(&root, "sub/data", "live", 0o644);
        put(&victim, "root-only", "secret", 0o600);
        std::fs::set_permissions(&victim, PermissionsExt::from_mode(0o700)).unwrap();
        for own in ["", "data", "sub", "sub/data"] {
            chown(root.join(own), Some(STRANGER), Some(STRANGER)).unwrap();
        }
        Self {
            _directory: directory,
            root,
            victim,
            state,
            run: RunId::generate(),
        }
    }

    fn apart(&self) -> LocalVolume {
        LocalVolume::new(&self.root).kept_in(&self.state)
    }

    fn sealed(&self) -> LocalVolume {
        LocalVolume::new(&self.root).sealed_with(Some(RecordKey::new([7; 32])))
    }

    fn folder(&self) -> PathBuf {
        self.root.join(self.run.folder())
    }

    fn stage(&self, volume: &LocalVolume) {
        let staged = volume.make_staged(&self.run).unwrap();
        put(&staged, "data", "new", 0o644);
        put(&staged, "sub/data", "new", 0o644);
    }

    fn is_unharmed(&self, what: &str) {
        let meta = std::fs::metadata(&self.victim).unwrap();
        let there: Vec<_> = std::fs::read_dir(&self.victim).unwrap().collect();
        let text = std::fs::read_to_string(self.victim.join("root-only")).unwrap();
        let inner = std::fs::metadata(self.victim.join("root-only")).unwrap();
        assert_eq!(
            (meta.mode() & 0o7777, meta.uid(), there.len(), text.as_str()),
            (0o700, 0, 1, "secret"),
            "{what}"
        );
        assert_eq!((inner.mode() & 0o7777, inner.uid()), (0o600, 0), "{what}");
    }

    /// A list as whoever owns the volume would like it to be.
    fn forged(&self, phase: &str) -> String {
        let victim = self.victim.display();
        let meta = |mode: u32, owner: u32| {
            format!(r#"{{"mode":{mode},"uid":{owner},"gid":{owner},"seconds":0,"nanoseconds":0}}"#)
        };
        format!(
            r#"{{"version":1,"phase":"{phase}","scope":"everything","dirs":[{{"path":"{victim}","old":{},"new":{},"whole":false}}],"moves":[{{"path":"../victim/root-only","live":true,"staged":true,"directory":false,"over":true}}]}}"#,
            meta(0o777, STRANGER),
            meta(0o777, STRANGER),
        )
    }
}

/// Does all that a run does; what it comes to does not matter.
fn all(volume: &LocalVolume, run: &RunId) {
    let scope = SwapScope::Everything;
    let _ = volume.look(run);
    let _ = volume.swap_now(run, &scope, &mut SwapExecutor::default());
    let _ = volume.unswap_now(run, &mut SwapExecutor::default());
    let _ = volume.swap_now(run, &scope, &mut SwapExecutor::default());
    let _ = volume.discard_now(run, Discard::Replaced);
    let _ = volume.discard_now(run, Discard::Staged);
}

#[test]
fn a_list_beside_the_data_is_not_believed_where_there_is_a_better_place() {
    for phase in ["swapping", "swapped", "undoing"] {
        let ground = Ground::new();
        let volume = ground.apart();
        ground.stage(&volume);
        put(&ground.folder(), RECORD, &ground.forged(phase), 0o600);
        chown(ground.folder().join(RECORD), Some(STRANGER), None).unwrap();
        assert_eq!(volume.look(&ground.run).unwrap(), SwapState::Staged);
        all(&volume, &ground.run);
        ground.is_unharmed(phase);
    }
}

#[test]
fn a_list_of_0_1_is_believed_only_where_nobody_else_can_have_written_it() {
    let old = r#"{"version":1,"phase":"swapped","scope":"everything","dirs":[],"moves":[{"path":"data","live":true,"staged":true,"directory":false,"over":true}]}"#;
    type Way = fn(&Ground);
    let ways: [(&str, Way); 4] = [
        ("folder", |ground| {
            chown(ground.folder(), Some(STRANGER), None).unwrap();
        }),
        ("file", |ground| {
            chown(ground.folder().join(RECORD), Some(STRANGER), None).unwrap();
        }),
        ("open", |ground| {
            let open = PermissionsExt::from_mode(0o777);
            std::fs::set_permissions(ground.folder(), open).unwrap();
        }),
        ("second name", |ground| {
            let other = ground.root.join("other");
            std::fs::hard_link(ground.folder().join(RECORD), other).unwrap();
        }),
    ];
    for (what, spoil) in ways {
        let ground = Ground::new();
        put(&ground.folder(), "staged/data", "old", 0o644);
        put(&ground.folder(), "replaced/data", "replaced", 0o644);
        put(&ground.folder(), RECORD, old, 0o600);
        let private = PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(ground.folder(), private).unwrap();
        for volume in [
            ground.apart(),
            ground.sealed(),
            LocalVolume::new(&ground.root),
        ] {
            spoil(&ground);
            let error = volume
                .unswap_now(&ground.run, &mut SwapExecutor::default())
                .unwrap_err();
            assert_eq!(error.code(), "swap.not_ours", "{what}: {error}");
            assert!(volume.discard_now(&ground.run, Discard::Replaced).is_err());
            let kept = ground.folder().join("replaced/data");
            assert!(kept.exists(), "{what}: what was live is still there");
            let _ = std::fs::remove_file(ground.root.join("other"));
        }
    }
    // Where root alone can write, the run is finished.
    let ground = Ground::new();
    put(&ground.folder(), "staged/x", "old", 0o644);
    put(&ground.folder(), "replaced/data", "replaced", 0o644);
    put(&ground.folder(), RECORD, old, 0o600);
    std::fs::set_permissions(ground.folder(), PermissionsExt::from_mode(0o700)).unwrap();
    let volume = ground.apart();
    assert_eq!(volume.look(&ground.run).unwrap(), SwapState::Swapped);
    volume
        .unswap_now(&ground.run, &mut SwapExecutor::default())
        .unwrap();
    let live = std::fs::read_to_string(ground.root.join("data")).unwrap();
    assert_eq!(live, "replaced");
    volume.discard_now(&ground.run, Discard::Staged).unwrap();
    assert!(!ground.folder().exists());
}

/// Any bytes: whatever is read as a list, or is not, nothing outside changes; and a sealed list
/// that differs in one bit is none.
#[test]
fn any_bytes_as_a_list_change_nothing_outside() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(limit).unwrap()).unwrap()
    };
    for round in 0..150 {
        let ground = Ground::new();
        let sealed = round % 2 == 0;
        let volume = match sealed {
            true => ground.sealed(),
            false => ground.apart(),
        };
        ground.stage(&volume);
        if round % 3 == 0 {
            let left = u64::try_from(random(9)).unwrap();
            let _ = volume.swap_now(
                &ground.run,
                &SwapScope::Everything,
                &mut SwapExecutor { left: Some(left) },
            );
        }
        let genuine = std::fs::read(ground.folder().join(RECORD)).unwrap_or_default();
        let words = [
            "swapping", "undoing", "staged", "version", "..", "/", "{", "}", "\"", "null",
        ];
        let mut bytes = match random(4) {
            0 => genuine.clone(),
            1 => ground.forged(words[random(3)]).into_bytes(),
            2 => (0..random(200))
                .map(|_| u8::try_from(random(256)).unwrap())
                .collect(),
            _ => ground
                .forged("swapping")
                .replace("\"version\":1", "\"version\":2")
                .into_bytes(),
        };
        for _ in 0..1 + random(4) {
            let at = random(bytes.len() + 1);
            match random(3) {
                0 if at < bytes.len() => bytes[at] ^= 1 << random(8),
                1 => bytes.truncate(at),
                _ => {
                    let word = words[random(words.len())].bytes();
                    bytes.splice(at..at, word);
                }
            }
        }
        std::fs::write(ground.folder().join(RECORD), &bytes).unwrap();
        if sealed && bytes != genuine {
            let error = volume.look(&ground.run).unwrap_err();
            assert!(error.code().starts_with("swap."), "{error}");
        }
        all(&volume, &ground.run);
        ground.is_unharmed(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn a_sealed_list_is_of_one_run_and_one_folder() {
    let ground = Ground::new();
    let volume = ground.sealed();
    ground.stage(&volume);
    assert_eq!(volume.look(&ground.run).unwrap(), SwapState::Staged);
    let other: RunId = "20200101-000000-aaaa".parse().unwrap();
    let away = ground.root.join(other.folder());
    std::fs::rename(ground.folder(), &away).unwrap();
    assert_eq!(volume.look(&other).unwrap_err().code(), "swap.not_ours");
    std::fs::create_dir(ground.folder()).unwrap();
    std::fs::copy(away.join(RECORD), ground.folder().join(RECORD)).unwrap();
    assert_eq!(
        volume.look(&ground.run).unwrap_err().code(),
        "swap.not_ours"
    );
    let unsealed = LocalVolume::new(&ground.root);
    assert!(unsealed.look(&ground.run).is_err());
}

#[test]
fn a_folder_that_was_moved_away_is_found() {
    let ground = Ground::new();
    let volume = ground.apart();
    ground.stage(&volume);
    let away = ground.root.join("away");
    std::fs::rename(ground.folder(), &away).unwrap();
    symlink(&ground.victim, ground.folder()).unwrap();
    volume
        .swap_now(
            &ground.run,
            &SwapScope::Everything,
            &mut SwapExecutor::default(),
        )
        .unwrap();
    let live = || std::fs::read_to_string(ground.root.join("data")).unwrap();
    assert_eq!(live(), "new");
    // And once it is the volume's owner's.
    std::fs::rename(ground.folder(), ground.root.join("again")).unwrap();
    put(
        &ground.folder(),
        "replaced/data",
        "not what was live",
        0o644,
    );
    volume
        .unswap_now(&ground.run, &mut SwapExecutor::default())
        .unwrap();
    assert_eq!(live(), "live");
    ground.is_unharmed("moved");
}

/// Looking moves nothing; and a directory that has the number of a deleted one is not that one.
#[test]
fn looking_renames_nothing() {
    let ground = Ground::new();
    let volume = ground.apart();
    ground.stage(&volume);
    let away = ground.root.join("away");
    std::fs::rename(ground.folder(), &away).unwrap();
    assert_eq!(volume.look(&ground.run).unwrap(), SwapState::Staged);
    assert!(away.exists() && !ground.folder().exists());
    // Without the staged tree of the list it is somebody else's directory.
    std::fs::rename(away.join("staged"), ground.root.join("other")).unwrap();
    put(&away, "staged/data", "somebody else's", 0o644);
    assert_eq!(volume.look(&ground.run).unwrap(), SwapState::Nothing);
    volume.discard_now(&ground.run, Discard::Staged).unwrap();
    assert!(away.join("staged/data").exists() && !ground.folder().exists());
}

/// Killed while it deletes, the list is forgotten already: nothing that gets the number of a deleted
/// directory is taken for the folder. What is left goes with the next try.
#[test]
fn what_is_left_of_a_deletion_that_was_killed_goes_with_the_next() {
    let ground = Ground::new();
    let volume = ground.apart();
    ground.stage(&volume);
    let trash = ground.root.join(format!("{}.trash", ground.run.folder()));
    volume.discard_now(&ground.run, Discard::Staged).unwrap();
    assert!(!trash.exists());
    put(&trash, "left", "of it", 0o644);
    volume.discard_now(&ground.run, Discard::Staged).unwrap();
    assert!(!trash.exists());
}

#[test]
fn links_in_the_folder_lead_nowhere() {
    for name in ["staged", "replaced", "left-out", "in-the-way"] {
        let ground = Ground::new();
        let volume = ground.apart();
        ground.stage(&volume);
        let there = ground.folder().join(name);
        if there.exists() {
            std::fs::rename(&there, ground.folder().join("aside")).unwrap();
        }
        symlink(&ground.victim, &there).unwrap();
        all(&volume, &ground.run);
        ground.is_unharmed(name);
    }
}

#[test]
fn pipes_and_locks_of_others_hold_nothing_up() {
    let ground = Ground::new();
    let volume = ground.apart();
    // Somebody who may look into the volume holds its lock.
    let held = std::fs::File::open(&ground.root).unwrap();
    held.lock().unwrap();
    ground.stage(&volume);
    let pipe = |path: &Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
    };
    for name in [RECORD, "swap.json.new", "reserve", "reserve.new"] {
        pipe(&ground.folder().join(name));
    }
    pipe(&ground.root.join("pipe"));
    let (done, ended) = std::sync::mpsc::channel();
    let (volume, run) = (volume.clone(), ground.run.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let swapped = runtime.block_on(volume.swap(&run, &SwapScope::Everything));
        let taken_back = runtime.block_on(volume.unswap(&run));
        let discarded = runtime.block_on(volume.discard(&run, Discard::Staged));
        done.send((swapped.is_ok(), taken_back.is_ok(), discarded.is_ok()))
    });
    let ended = ended.recv_timeout(std::time::Duration::from_secs(20));
    assert_eq!(ended.unwrap(), (true, true, true));
    drop(held);
}

#[tokio::test]
async fn a_lock_that_is_not_given_back_is_waited_for_no_longer_than_somebody_waits() {
    let ground = Ground::new();
    let volume = LocalVolume::new(&ground.root);
    let held = std::fs::File::open(&ground.root).unwrap();
    held.lock().unwrap();
    let staging = volume.stage_dir(&ground.run);
    let waited = tokio::time::timeout(std::time::Duration::from_millis(50), staging).await;
    assert!(waited.is_err());
    // The runtime ends with the test, which waits for all its threads.
}

#[tokio::test]
async fn a_target_behind_a_link_or_below_a_strangers_directory_is_refused() {
    let ground = Ground::new();
    let link = ground.root.with_file_name("link");
    symlink(&ground.root, &link).unwrap();
    let code = async |volume: LocalVolume| match volume.state(&ground.run).await {
        Ok(_) => String::new(),
        Err(error) => error.code().to_owned(),
    };
    assert_eq!(code(LocalVolume::new(&link)).await, "path.link");
    assert_eq!(code(LocalVolume::new(&link).followed(true)).await, "");
    let below = LocalVolume::new(ground.root.join("sub"));
    assert_eq!(code(below.clone()).await, "path.untrusted");
    assert!(below.measure(&[]).await.is_err());
    assert_eq!(code(below.followed(true)).await, "");
}
