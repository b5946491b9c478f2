//! The Redis component against real servers.

mod backups;
mod elsewhere;
mod findings;
mod modes;
mod password;
mod scratch;
mod swap;

use std::collections::{BTreeMap, BTreeSet};

use restore_testing::redis::Case;

/// After the restore, and after two more restarts, exactly the backup's content.
async fn ends_as_the_backup(case: &Case, content: &BTreeMap<String, String>) {
    assert_same(&case.server().content(), content);
    for _ in 0..2 {
        case.server().restart();
        assert_same(&case.server().content(), content);
    }
    case.assert_checked().await;
}

/// Says in a few words how two contents differ, instead of printing both.
fn assert_same(found: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) {
    let keys: BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
    let mut differ = keys
        .into_iter()
        .filter(|key| found.get(*key) != wanted.get(*key))
        .map(|key| format!("{key}: {:?}, wanted {:?}", found.get(key), wanted.get(key)));
    let some: Vec<String> = differ.by_ref().take(3).collect();
    let more = differ.count();
    assert!(some.is_empty(), "{some:#?} and {more} more");
}

/// The codes of what an inspection finds.
async fn codes(case: &Case) -> Vec<String> {
    let inspection = case.component.inspect(&case.cx().await).await.unwrap();
    let codes = inspection.findings.into_iter().map(|f| f.code);
    codes.collect()
}
