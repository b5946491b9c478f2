//! What is refused before anything moves.

use super::{Case, MAINTENANCE, put, same, scopes, strings, temporary};
use crate::contract::Volume;
use crate::model::RunId;
use crate::swap::scope::{SwapScope, SwapState};
use crate::swap::{LocalVolume, SwapExecutor};

#[test]
fn a_path_in_neither_tree_is_refused_before_anything_moves() {
    let case = Case::new();
    let old = case.live();
    for (path, code) in [
        ("a.txtx", "swap.path_missing"),
        ("../volume/a.txt", "path.not_relative"),
        (&format!("conf.d/{MAINTENANCE}"), "swap.path_kept"),
    ] {
        let scope = SwapScope::Paths {
            paths: vec!["a.txt".to_owned(), path.to_owned()],
            keep: Vec::new(),
        };
        let error = case
            .volume
            .swap_now(&case.run, &scope, &mut SwapExecutor::default())
            .unwrap_err();
        assert_eq!(error.code(), code);
    }
    same("live", &case.live(), &old);
    assert_eq!(case.state(), SwapState::Staged);
}

#[test]
fn a_path_through_a_link_is_refused() {
    let case = Case::new();
    let old = case.live();
    let scope = SwapScope::Paths {
        paths: strings(["link-to-dir/same.txt"]),
        keep: Vec::new(),
    };
    let error = case
        .volume
        .swap_now(&case.run, &scope, &mut SwapExecutor::default())
        .unwrap_err();
    assert!(
        error.hint_text().unwrap().contains("symbolic link"),
        "{error}"
    );
    same("live", &case.live(), &old);
}

#[tokio::test]
async fn a_missing_volume_is_never_made() {
    let temporary = temporary();
    let root = temporary.path().join("typo");
    let volume = LocalVolume::new(&root);
    let run = RunId::generate();
    assert_eq!(
        volume.state(&run).await.unwrap_err().code(),
        "volume.missing"
    );
    assert_eq!(
        volume.stage_dir(&run).await.unwrap_err().code(),
        "volume.missing"
    );
    assert_eq!(
        volume.free_space().await.unwrap_err().code(),
        "volume.missing"
    );
    assert!(!root.exists());
}

#[tokio::test]
async fn without_anything_staged_nothing_is_emptied() {
    let temporary = temporary();
    put(temporary.path(), "data", "live", 0o644);
    let volume = LocalVolume::new(temporary.path());
    let run = RunId::generate();
    let error = volume.swap(&run, &SwapScope::Everything).await.unwrap_err();
    assert_eq!(error.code(), "volume.nothing_staged");
    assert!(temporary.path().join("data").is_file());
}

#[test]
fn a_mount_inside_is_refused_before_anything_moves() {
    let case = Case::new();
    let mount = case.root.join("common/sub");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(&mount)
        .status()
        .unwrap();
    assert!(mounted.success(), "this test mounts: run it as root");
    let results: Vec<_> = scopes()
        .iter()
        .map(|scope| {
            let result = case
                .volume
                .swap_now(&case.run, scope, &mut SwapExecutor::default());
            case.volume
                .unswap_now(&case.run, &mut SwapExecutor::default())
                .map(|()| result)
        })
        .collect();
    let unmounted = std::process::Command::new("umount").arg(&mount).status();
    assert!(unmounted.unwrap().success());
    for (scope, result) in scopes().iter().zip(results) {
        match (scope, result.unwrap()) {
            // Names entries that have nothing to do with the mount.
            (SwapScope::Entries(_), result) => result.unwrap(),
            (_, result) => assert_eq!(result.unwrap_err().code(), "swap.mount_inside"),
        }
    }
}
