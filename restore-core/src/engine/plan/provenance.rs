//! Who could have written what root will obey.

use super::PlannedComponent;
use crate::contract::Backup;

/// That in one line; `None` where root obeys nothing of it.
///
/// A manifest's checksums say that a backup is whole, and not who made it: whoever can write to its
/// store can make another one.
pub(super) fn provenance(backup: &Backup, components: &[PlannedComponent]) -> Option<String> {
    let obeyed: Vec<&str> = components
        .iter()
        .flat_map(|component| &component.inspection.obeyed)
        .map(String::as_str)
        .collect();
    let what = match obeyed.as_slice() {
        [] => return None,
        [first, second, third, _, ..] => {
            format!("{first}, {second}, {third} and {} more", obeyed.len() - 3)
        }
        few => few.join(", "),
    };
    Some(match backup.signer() {
        Some(key) => format!("signed by {key}: {what}"),
        None => format!(
            "unsigned: whoever can write to {} becomes root here: {what}",
            backup.store().describe()
        ),
    })
}
