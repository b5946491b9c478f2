//! An undo comes to its end whatever happened to the live tree and to the disk since the swap.

use std::os::unix::fs::symlink;

use super::{Case, MAINTENANCE, directory, fingerprint, put, same, scopes, temporary};
use crate::model::RunId;
use crate::swap::scope::{SwapScope, SwapState};
use crate::swap::{LocalVolume, SwapExecutor};

#[test]
fn what_services_did_in_between_does_not_stand_in_the_way_of_an_undo() {
    for scope in [SwapScope::Everything, scopes().remove(2)] {
        for steps in 0.. {
            let case = Case::new();
            let before = case.live();
            assert!(case.swap(&scope, None));
            let root = &case.root;
            put(root, "gone.txt", "made anew where one had been", 0o644);
            put(
                root,
                "gone/x/other",
                "made anew where a directory had been",
                0o644,
            );
            put(root, "stray", "made where none was", 0o644);
            put(root, "common/sub/stray/deep", "made where none was", 0o644);
            std::fs::remove_file(root.join("a.txt")).unwrap();
            std::fs::remove_file(root.join("new.txt")).unwrap();
            std::fs::remove_file(root.join("dir-to-file")).unwrap();
            directory(root, "dir-to-file", 0o755, 0);
            std::fs::remove_dir_all(root.join("conf.d")).unwrap();
            let page = root.join("conf.d").join(MAINTENANCE);
            if matches!(scope, SwapScope::Tree { .. }) {
                symlink("common", root.join("conf.d")).unwrap();
            }
            let whole = case.unswap(Some(steps));
            assert!(case.unswap(None));
            let mut before = before;
            if matches!(scope, SwapScope::Tree { .. }) {
                // It was deleted while it stayed: not the undo's to bring back.
                assert!(!page.exists());
                before.remove(&format!("conf.d/{MAINTENANCE}"));
            }
            same(
                &format!("{steps} changes, {scope:?}"),
                &case.live(),
                &before,
            );
            assert!(case.staged().join("stray").is_file());
            assert!(case.staged().join("common/sub/stray/deep").is_file());
            if whole {
                break;
            }
        }
    }
}

/// What its owner deletes while a swap goes on is nothing to move back, and nothing to refuse the undo for.
#[test]
fn what_is_deleted_before_the_swap_comes_to_it_holds_nothing_up() {
    for finished in [true, false] {
        for steps in 0.. {
            let case = Case::new();
            let mut before = case.live();
            let whole = case.swap(&SwapScope::Everything, Some(steps));
            if std::fs::remove_file(case.root.join("gone.txt")).is_ok() {
                before.remove("gone.txt");
            }
            assert!(!finished || case.swap(&SwapScope::Everything, None));
            let kept = case.volume.kept_now(&case.run).unwrap();
            let what = format!("{steps} changes, finished {finished}");
            assert_eq!(kept.present, kept.swapped, "{what}: {kept:?}");
            assert!(case.unswap(None), "{what}");
            same(&what, &case.live(), &before);
            if whole {
                break;
            }
        }
    }
}

/// With nothing to move back there is no undo: live data stays where it is.
#[test]
fn an_undo_without_what_was_replaced_moves_nothing() {
    for scope in [SwapScope::Everything, scopes().remove(2)] {
        let case = Case::new();
        assert!(case.swap(&scope, None));
        let after = case.live();
        let replaced = case.root.join(case.run.folder()).join("replaced");
        let aside = case.root.join(case.run.folder()).join("aside");
        std::fs::rename(&replaced, &aside).unwrap();
        let kept = case.volume.kept_now(&case.run).unwrap();
        assert_eq!(kept.present, 0, "{kept:?}");
        let error = case
            .volume
            .unswap_now(&case.run, &mut SwapExecutor::default())
            .unwrap_err();
        assert_eq!(error.code(), "volume.kept_gone", "{error}");
        same("refused", &case.live(), &after);
        // Put back, there is a way back.
        let _ = std::fs::remove_dir_all(&replaced);
        std::fs::rename(&aside, &replaced).unwrap();
        assert!(case.unswap(None));
    }
}

/// Of a swap that was broken off, too, it is known of each entry where it is.
#[test]
fn what_is_lost_of_half_a_swap_is_seen() {
    for steps in 0.. {
        let case = Case::new();
        let whole = case.swap(&SwapScope::Everything, Some(steps));
        let kept = case.volume.kept_now(&case.run).unwrap();
        assert_eq!(kept.present, kept.swapped, "{steps} changes: {kept:?}");
        let replaced = case.root.join(case.run.folder()).join("replaced");
        let lost = std::fs::read_dir(&replaced).is_ok_and(|mut it| it.next().is_some());
        let _ = std::fs::remove_dir_all(&replaced);
        let kept = case.volume.kept_now(&case.run).unwrap();
        // A name of two links is still live.
        assert!(
            lost || kept.present == kept.swapped,
            "{steps} changes: {kept:?}"
        );
        if whole {
            assert!(lost && kept.present == 0, "{kept:?}");
            break;
        }
    }
}

#[test]
fn a_disk_that_filled_up_does_not_stop_an_undo() {
    let small = Small::new();
    let root = small.0.path().join("volume");
    put(&root, "data", "live", 0o600);
    put(&root, "directory/data", "live", 0o600);
    let before = fingerprint(&root);
    let volume = LocalVolume::new(&root);
    let run = RunId::generate();
    let staged = volume.make_staged(&run).unwrap();
    put(&staged, "data", "staged", 0o600);
    put(&staged, "directory/data", "staged", 0o600);
    let scope = SwapScope::Tree { keep: Vec::new() };

    // Without room for it, a swap does not even begin.
    small.fill();
    let error = volume
        .swap_now(&run, &scope, &mut SwapExecutor::default())
        .unwrap_err();
    assert_eq!(error.code(), "io.disk_full");
    assert_eq!(volume.look(&run).unwrap(), SwapState::Staged);
    assert_eq!(fingerprint(&root), before);

    std::fs::remove_file(small.0.path().join("filler")).unwrap();
    volume
        .swap_now(&run, &scope, &mut SwapExecutor::default())
        .unwrap();
    small.fill();
    volume
        .unswap_now(&run, &mut SwapExecutor::default())
        .unwrap();
    same("undone", &fingerprint(&root), &before);
}

/// A file system of 2 MiB, gone when dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn new() -> Self {
        let directory = temporary();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "none"])
            .arg(directory.path())
            .status()
            .unwrap();
        assert!(mounted.success(), "this test mounts: run it as root");
        Self(directory)
    }

    fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.0.path().join("filler")).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        while file.write_all(&[1]).is_ok() {}
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg(self.0.path())
            .status();
    }
}
