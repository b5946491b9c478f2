//! A swap or an undo is stopped before each of its changes, then finished or taken back.

use std::collections::BTreeMap;

use super::{Case, same, scopes};
use crate::swap::scope::SwapState;

#[test]
fn stopped_anywhere_a_swap_can_be_finished_or_taken_back() {
    for scope in scopes() {
        let case = Case::new();
        let before = case.live();
        assert!(case.swap(&scope, None), "{scope:?}");
        assert!(case.swap(&scope, None), "twice");
        assert_eq!(case.state(), SwapState::Swapped);
        let after = case.live();
        assert_ne!(before.keys().count(), 0);
        assert_ne!(before, after);
        for steps in 0.. {
            // Two cases that only differ in their inodes: one is finished, the other undone.
            let (finish, undo) = (Case::new(), Case::new());
            let whole = finish.swap(&scope, Some(steps));
            assert_eq!(undo.swap(&scope, Some(steps)), whole);
            assert!(finish.swap(&scope, None));
            let same_but_times = |is: &Case, should: &BTreeMap<String, String>, what: &str| {
                same(
                    &format!("{what} after {steps} changes of {scope:?}"),
                    &timeless(&is.live()),
                    &timeless(should),
                );
            };
            same_but_times(&finish, &after, "finished");
            assert!(undo.unswap(None));
            assert!(undo.unswap(None), "twice");
            same_but_times(&undo, &before, "undone");
            assert_ne!(undo.state(), SwapState::Swapped);
            // What was taken back can be made live once more.
            assert!(undo.swap(&scope, None));
            same_but_times(&undo, &after, "again");
            if whole {
                break;
            }
        }
    }
}

#[test]
fn an_undo_stopped_anywhere_can_be_finished_or_turned_round() {
    for scope in scopes() {
        let case = Case::new();
        let before = timeless(&case.live());
        assert!(case.swap(&scope, None));
        let after = timeless(&case.live());
        // From a whole swap, and from ones stopped in the middle.
        for swapped in [u64::MAX, 5, 12, 23] {
            for steps in 0.. {
                let (finish, turn) = (Case::new(), Case::new());
                finish.swap(&scope, Some(swapped));
                turn.swap(&scope, Some(swapped));
                let whole = finish.unswap(Some(steps));
                turn.unswap(Some(steps));
                let what = format!("undo after {steps} changes, swap after {swapped}: {scope:?}");
                assert!(finish.unswap(None));
                same(&what, &timeless(&finish.live()), &before);
                assert!(turn.swap(&scope, None));
                same(&what, &timeless(&turn.live()), &after);
                assert!(turn.unswap(None));
                same(&what, &timeless(&turn.live()), &before);
                if whole {
                    break;
                }
            }
        }
    }
}

/// Two cases made one after the other differ in their files' times.
fn timeless(tree: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    tree.iter()
        .map(|(path, entry)| {
            let words: Vec<&str> = entry
                .split(' ')
                .enumerate()
                .filter(|(at, _)| !(entry.starts_with("file ") && *at == 3))
                .map(|(_, word)| word)
                .collect();
            (path.clone(), words.join(" "))
        })
        .collect()
}
