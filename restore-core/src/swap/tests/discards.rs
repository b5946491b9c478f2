//! What is discarded, and when that is refused.

use super::{Case, same};
use crate::contract::Volume;
use crate::swap::scope::{Discard, SwapScope, SwapState};

#[tokio::test]
async fn discarding_never_touches_live_data() {
    let case = Case::new();
    let scope = SwapScope::Everything;
    let before = case.live();
    let folder = case.root.join(case.run.folder());
    case.volume
        .discard(&case.run, Discard::Replaced)
        .await
        .unwrap();
    assert_eq!(case.state(), SwapState::Staged);
    assert!(!case.swap(&scope, Some(7)));
    assert_eq!(case.state(), SwapState::Swapping);
    for what in [Discard::Staged, Discard::Replaced] {
        let error = case.volume.discard(&case.run, what).await.unwrap_err();
        assert_eq!(error.code(), "volume.swap_begun");
    }
    let error = case.volume.stage_dir(&case.run).await.unwrap_err();
    assert_eq!(error.code(), "volume.swap_begun");
    assert!(case.swap(&scope, None));
    let after = case.live();
    case.volume
        .discard(&case.run, Discard::Staged)
        .await
        .unwrap();
    assert_eq!(case.state(), SwapState::Swapped);
    assert!(case.unswap(None));
    same("undone", &case.live(), &before);
    assert!(case.swap(&scope, None));
    case.volume
        .discard(&case.run, Discard::Replaced)
        .await
        .unwrap();
    case.volume
        .discard(&case.run, Discard::Replaced)
        .await
        .unwrap();
    same("confirmed", &case.live(), &after);
    assert!(!folder.exists());
    assert_eq!(case.state(), SwapState::Nothing);
    assert!(case.unswap(None), "nothing left to take back");
    same("confirmed", &case.live(), &after);
}

/// What was immutable deep below goes aside with what is above it, and cannot be deleted later.
#[tokio::test]
async fn what_nobody_may_delete_is_named() {
    let case = Case::new();
    let root = case.root.display().to_string();
    let chattr = |flag: &str| {
        let done = std::process::Command::new("find")
            .args([root.as_str(), "-path", "*/common/sub/deep.txt"])
            .args(["-exec", "chattr", flag, "{}", "+"])
            .output();
        done.is_ok_and(|done| done.status.success())
    };
    // That of the backup is no other.
    let staged = case.staged().join("common/sub/deep.txt");
    std::fs::remove_file(staged).unwrap();
    if !chattr("+i") {
        // Here nothing can be immutable.
        return;
    }
    let swapped = case.swap(&SwapScope::Everything, None);
    let refused = case.volume.discard(&case.run, Discard::Replaced).await;
    assert!(chattr("-i"));
    assert!(swapped);
    let refused = refused.unwrap_err();
    let hint = refused.hint_text().unwrap();
    assert!(
        hint.contains("`chattr -i -a ")
            && hint.contains("/common/sub/deep.txt` lets it be deleted"),
        "{hint}"
    );
    case.volume
        .discard(&case.run, Discard::Replaced)
        .await
        .unwrap();
    assert_eq!(case.state(), SwapState::Nothing);
}
