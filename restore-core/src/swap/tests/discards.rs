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
