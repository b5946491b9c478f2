//! A backup that was made.

use restore_core::BackupReport;

use super::findings;
use crate::human::{self, Side};

/// What is in it, and what to do with it.
pub(crate) fn backed_up(report: &BackupReport) -> String {
    let seconds = report.ended.since(report.started).as_secs_f64();
    let mut cells = vec![
        ["COMPONENT", "SIZE", "TIME", "FILES"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for component in &report.components {
        let mut first = Some((
            component.name.clone(),
            component.artifacts.iter().map(|file| file.size).sum(),
            human::seconds(component.seconds),
        ));
        let paths: Vec<&str> = component
            .artifacts
            .iter()
            .map(|f| f.path.as_str())
            .collect();
        // A component without anything to back up has its line all the same.
        let none = ["-"];
        for path in if paths.is_empty() {
            &none[..]
        } else {
            &paths[..]
        } {
            let (name, size, time) = first.take().map_or_else(Default::default, |first| {
                (first.0, human::bytes(first.1), first.2)
            });
            cells.push(vec![name, size, time, (*path).to_owned()]);
        }
    }
    let mut out = human::table(&[Side::Left, Side::Right, Side::Right, Side::Left], &cells);
    out += &findings("Findings:", &report.findings);
    let files = usize::try_from(report.files).unwrap_or(usize::MAX);
    out += &format!(
        "\nBackup {} is finished: {} in {}, {} of data.\n{}\n\n\
         `restore verify {} --deep` reads it through; `restore run {}` restores it.\n",
        report.id,
        human::count(files, "file"),
        human::seconds(seconds),
        human::bytes(report.bytes),
        report.place,
        report.id,
        report.id,
    );
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_made_is_told_in_one_look() {
        let report: BackupReport = serde_json::from_value(json!({
            "id": "20240215-020000", "store": "main", "place": "/b/20240215-020000",
            "kind": "full", "started": "2024-02-15T02:00:00Z", "ended": "2024-02-15T02:01:05Z",
            "files": 3, "bytes": 3_145_728,
            "components": [
                {"name": "postgres", "kind": "postgres", "seconds": 61.5, "facts": {}, "artifacts": [
                    {"path": "postgres/p.dump", "size": 1_048_576},
                    {"path": "postgres/p.sql", "size": 2_097_152}]},
                {"name": "crontab", "kind": "crontab", "seconds": 0.01, "facts": {}, "artifacts": []},
            ],
            "findings": [{"severity": "info", "code": "a.b", "subject": "crontab", "message": "none"}],
        }))
        .unwrap();
        assert_eq!(
            backed_up(&report),
            "\
COMPONENT     SIZE       TIME  FILES
postgres   3.0 MiB  1 min 2 s  postgres/p.dump
                               postgres/p.sql
crontab        0 B      10 ms  -

Findings:
  note: crontab: none

Backup 20240215-020000 is finished: 3 files in 1 min 5 s, 3.0 MiB of data.
/b/20240215-020000

`restore verify 20240215-020000 --deep` reads it through; `restore run 20240215-020000` restores it.
"
        );
    }
}
