//! Old backups to delete.

use restore_core::backup::{PrunePlan, Pruned};

use crate::human::{self, Side};

/// What would be deleted, and what stays.
pub(crate) fn prune_plan(plan: &PrunePlan) -> String {
    let mut out = format!("Backups in {} ({}):\n", plan.place, plan.store);
    let mut cells = Vec::new();
    let mut all: Vec<(&Pruned, bool)> = plan.keep.iter().map(|it| (it, false)).collect();
    all.extend(plan.delete.iter().map(|it| (it, true)));
    all.sort_by(|a, b| a.0.id.cmp(&b.0.id));
    for (backup, delete) in all {
        cells.push(vec![
            if delete { "  DELETE" } else { "  keep" }.to_owned(),
            backup.id.to_string(),
            human::bytes(backup.bytes),
            backup.why.clone(),
        ]);
    }
    out += &human::table(&[Side::Left, Side::Left, Side::Right, Side::Left], &cells);
    out += &match plan.delete.len() {
        0 => "\nNothing is to be deleted.\n".to_owned(),
        count => format!(
            "\n{} to delete, {} of room.\n",
            human::count(count, "backup"),
            human::bytes(plan.bytes())
        ),
    };
    out
}

/// What was deleted.
pub(crate) fn pruned(deleted: &[Pruned]) -> String {
    let bytes = deleted.iter().map(|it| it.bytes).sum();
    format!(
        "Deleted {}, {}.\n",
        human::count(deleted.len(), "backup"),
        human::bytes(bytes)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_backup_and_why() {
        let plan: PrunePlan = serde_json::from_value(json!({
            "store": "main", "place": "directory /b",
            "delete": [{"id": "20240101-000000", "bytes": 2048, "why": "finished"}],
            "keep": [{"id": "20240102-000000", "bytes": 1, "why": "the newest finished one"}],
        }))
        .unwrap();
        assert_eq!(
            prune_plan(&plan),
            "\
Backups in directory /b (main):
  DELETE  20240101-000000  2.0 KiB  finished
  keep    20240102-000000      1 B  the newest finished one

1 backup to delete, 2.0 KiB of room.
"
        );
        assert_eq!(pruned(&plan.delete), "Deleted 1 backup, 2.0 KiB.\n");
    }
}
