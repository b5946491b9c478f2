//! Who could have written what root will obey, and what no signature is about.

use std::sync::Arc;

use super::{PlannedComponent, Preflight};
use crate::contract::{Backup, BackupStore};
use crate::model::{Finding, Severity};

impl Preflight<'_> {
    /// Whether the backup lies where the site says. Whoever could lead the store's path elsewhere chooses what is restored,
    /// and is not who writes to the store. What is signed is the signer's wherever it lies.
    pub(super) fn look_at_way(&mut self) {
        let used = self.backup.store();
        // What is configured of a place counts, whoever has opened it.
        let same = |&store: &&Arc<dyn BackupStore>| {
            Arc::ptr_eq(store, used)
                || (used.directory().is_some() && store.directory() == used.directory())
        };
        let mut own = self.site.stores().iter().map(|(_, store)| store);
        let Err(error) = own.find(same).unwrap_or(used).check_way() else {
            return;
        };
        let mut finding = Finding::from_error(used.describe(), &error);
        if self.backup.signer().is_some() {
            finding.severity = Severity::Warning;
        }
        self.findings.push(finding);
    }
}

/// That in one line; `None` where root obeys nothing of it, and all of it is the backup's.
///
/// A manifest's checksums say that a backup is whole, and not who made it: whoever can write to its
/// store can make another one.
pub(super) fn provenance(backup: &Backup, components: &[PlannedComponent]) -> Option<String> {
    let all = |list: fn(&PlannedComponent) -> &Vec<String>| -> Vec<&str> {
        let all = components.iter().flat_map(list);
        all.map(String::as_str).collect()
    };
    let mut unsigned = all(|it| &it.inspection.unsigned);
    unsigned.sort_unstable();
    unsigned.dedup();
    let store = backup.store().describe();
    line(
        (backup.signer(), store.as_str()),
        &all(|it| &it.inspection.obeyed),
        &unsigned,
    )
}

fn line(
    (signer, store): (Option<&str>, &str),
    obeyed: &[&str],
    unsigned: &[&str],
) -> Option<String> {
    let what = match obeyed {
        [] => None,
        [first, second, third, _, ..] => Some(format!(
            "{first}, {second}, {third} and {} more",
            obeyed.len() - 3
        )),
        few => Some(few.join(", ")),
    };
    let of_backup = what.map(|what| match signer {
        Some(key) => format!("signed by {key}: {what}"),
        None => format!("unsigned: whoever can write to {store} becomes root here: {what}"),
    });
    let besides = (!unsigned.is_empty()).then(|| {
        format!(
            "under nobody's signature: {}: whoever can write there decides what is recovered",
            unsigned.join(", ")
        )
    });
    match (of_backup, besides) {
        (Some(of_backup), Some(besides)) => Some(format!("{of_backup}; {besides}")),
        (of_backup, besides) => of_backup.or(besides),
    }
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn what_nobody_has_signed_is_told_beside_what_is_signed() {
        let of = |signer, obeyed: &[&str], unsigned: &[&str]| {
            line((signer, "directory /b"), obeyed, unsigned).unwrap_or_default()
        };
        let key = Some("K");
        assert_eq!(of(key, &[], &[]), "");
        assert_eq!(of(key, &["a", "b"], &[]), "signed by K: a, b");
        let many = of(None, &["a", "b", "c", "d"], &[]);
        let expected =
            "unsigned: whoever can write to directory /b becomes root here: a, b, c and 1 more";
        assert_eq!(many, expected);
        let log = "under nobody's signature: the log in /w: whoever can write there decides what is recovered";
        assert_eq!(of(key, &[], &["the log in /w"]), log);
        assert_eq!(
            of(key, &["a"], &["the log in /w"]),
            format!("signed by K: a; {log}")
        );
    }
}
