//! Backups: the list, one backup, what verification found.

use restore_core::backup::{
    BackupSummary, FileStatus, Generation, ManifestIssue, Verdict, Verification,
};
use restore_core::site::{BackupKind, ListedBackup};
use serde::Serialize;

use super::findings;
use crate::human::{self, Side};

/// The list, oldest first; which store has it is shown where the site has several.
pub(crate) fn backups(rows: &[ListedBackup], places: &str, several: bool) -> String {
    if rows.is_empty() {
        return format!("There is no backup in {places}.\n");
    }
    let mut sides = vec![Side::Left, Side::Left, Side::Right, Side::Left, Side::Left];
    let mut cells: Vec<Vec<String>> = vec![
        ["ID", "MADE", "SIZE", "KIND", "CHECKSUMS"]
            .map(str::to_owned)
            .to_vec(),
    ];
    if several {
        sides.push(Side::Left);
        cells[0].push("STORE".to_owned());
    }
    for row in rows {
        let id = row.id.as_str();
        let safety = id.starts_with("pre-restore-");
        let stamp = id.strip_prefix("pre-restore-").unwrap_or(id);
        let wrong = match row.kind {
            BackupKind::Unreadable => "not readable",
            _ => "damaged",
        };
        let (size, checksums) = match (&row.summary, &row.packed) {
            (_, Some(packed)) => (
                human::bytes(packed.size),
                if packed.encrypted {
                    "encrypted"
                } else {
                    "packed"
                },
            ),
            (Some(summary), None) => (
                human::bytes(summary.bytes),
                match summary.generation {
                    _ if row.problem.is_some() => wrong,
                    Generation::A => "yes",
                    Generation::B => "no",
                    _ => "unfinished",
                },
            ),
            (None, None) => ("?".to_owned(), "damaged"),
        };
        let mut line = vec![
            id.to_owned(),
            human::stamp(stamp),
            size,
            match (safety, &row.summary) {
                (true, _) => "safety",
                (false, Some(summary)) if summary.generation == Generation::Unfinished => "-",
                (false, Some(_)) if row.lacking.is_empty() => "full",
                (false, Some(_)) => "partial",
                (false, None) => "-",
            }
            .to_owned(),
            checksums.to_owned(),
        ];
        if several {
            line.push(row.store.clone());
        }
        cells.push(line);
    }
    let mut out = human::table(&sides, &cells);
    for row in rows.iter().filter(|row| !row.lacking.is_empty()) {
        if !row.id.as_str().starts_with("pre-restore-") {
            out += &format!("\n{} has nothing for {}.\n", row.id, row.lacking.join(", "));
        }
    }
    for row in rows {
        if let Some(problem) = &row.problem {
            out += &format!("\n{problem}\n");
        }
    }
    out
}

/// A file of a backup.
#[derive(Serialize)]
pub(crate) struct FileRow {
    /// Relative path.
    pub(crate) path: String,
    /// Bytes; `None` where the manifest lists it and it is not there.
    pub(crate) size: Option<u64>,
    /// The hash that the manifest gives.
    pub(crate) sha256: Option<String>,
    /// The components that would be restored from it.
    pub(crate) components: Vec<String>,
}

/// One backup.
pub(crate) fn show(
    summary: &BackupSummary,
    store: &str,
    files: &[FileRow],
    lacking: &[String],
) -> String {
    let mut out = format!("Backup:     {} in {store}\n", summary.id);
    out += &format!(
        "Made:       {}{}\n",
        summary
            .created
            .clone()
            .unwrap_or_else(|| human::stamp(summary.id.stamp())),
        summary
            .created_by
            .as_ref()
            .map(|by| format!(" by {by}"))
            .unwrap_or_default(),
    );
    let kind = if summary.safety {
        "safety, taken before a restore"
    } else {
        "plain"
    };
    let own = summary
        .kind
        .as_ref()
        .map(|kind| format!(" ({kind})"))
        .unwrap_or_default();
    out += &format!("Kind:       {kind}{own}\n");
    out += &format!(
        "Checksums:  {}\n",
        match summary.generation {
            Generation::A => "yes",
            Generation::B => "no: it cannot be verified",
            _ => "none: the backup, or its copy to this place, was never finished",
        }
    );
    let count = usize::try_from(summary.files).unwrap_or(usize::MAX);
    out += &format!(
        "Files:      {}, {}\n",
        human::count(count, "file"),
        human::bytes(summary.bytes)
    );
    if !files.is_empty() {
        let mut cells = vec![
            ["SIZE", "CHECKSUM", "COMPONENT", "FILE"]
                .map(str::to_owned)
                .to_vec(),
        ];
        for file in files {
            cells.push(vec![
                file.size.map_or_else(|| "missing".to_owned(), human::bytes),
                file.sha256
                    .as_ref()
                    .map_or_else(|| "no".to_owned(), |hash| hash.chars().take(12).collect()),
                match file.components.is_empty() {
                    true => "-".to_owned(),
                    false => file.components.join(","),
                },
                file.path.clone(),
            ]);
        }
        out.push('\n');
        out += &human::table(&[Side::Right, Side::Left, Side::Left, Side::Left], &cells);
    }
    if !lacking.is_empty() {
        out += &format!(
            "\nIt has nothing for the components {}.\n",
            lacking.join(", ")
        );
    }
    out
}

/// What verification found: every file, then what is to be said, then the verdict.
pub(crate) fn verification(result: &Verification) -> String {
    let mut cells = Vec::new();
    for (path, status) in &result.files {
        let unread = result
            .remarks
            .iter()
            .any(|remark| matches!(remark, ManifestIssue::NotDeep { path: unread, .. } if unread == path));
        let word = match status {
            FileStatus::Verified => "ok",
            FileStatus::Missing => "missing",
            FileStatus::Short { .. } => "short",
            FileStatus::Long { .. } => "long",
            FileStatus::Changed => "changed",
            FileStatus::Unlisted => "unlisted",
            FileStatus::Unverifiable if result.deep && !unread => "readable",
            FileStatus::Unverifiable => "unverifiable",
            FileStatus::Unreadable { .. } => "unreadable",
            FileStatus::Refused { .. } | FileStatus::Unfit { .. } => "refused",
            _ => "?",
        };
        cells.push(vec![word.to_owned(), path.clone()]);
    }
    let mut out = human::table(&[Side::Left, Side::Left], &cells);
    out += &findings("Findings:", &result.findings());
    let files = human::count(result.files.len(), "file");
    let deep = if result.deeply_verified() {
        ", each read to its end as what it is"
    } else {
        ""
    };
    out += &match result.verdict() {
        Verdict::Verified => {
            format!("\nBackup {}: VERIFIED, {files}{deep}.\n", result.id)
        }
        Verdict::Unverifiable => {
            format!(
                "\nBackup {}: UNVERIFIABLE, it has no checksums; {files}{deep}.\n",
                result.id
            )
        }
        Verdict::Unfinished => format!("\nBackup {}: UNFINISHED.\n", result.id),
        _ => format!("\nBackup {}: FAILED verification.\n", result.id),
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use restore_core::store::PackedBackup;
    use serde_json::json;

    fn row(id: &str, store: &str, bytes: u64, generation: &str) -> ListedBackup {
        let summary = json!({
            "id": id, "generation": generation, "safety": id.starts_with("pre"),
            "files": 2, "bytes": bytes, "created": "Thu Feb 15", "created_by": "root",
        });
        serde_json::from_value(json!({
            "store": store, "id": id, "kind": "full", "summary": summary, "lacking": [],
            "problem": null,
        }))
        .unwrap()
    }

    #[test]
    fn the_list() {
        let mut rows = vec![
            row("20240214-020000", "main", 1_288_490_189, "b"),
            row("20240215-020000", "main", 900, "a"),
            row("pre-restore-20240215-093000", "main", 0, "unfinished"),
        ];
        rows[0].lacking = vec!["redis".to_owned()];
        assert_eq!(
            backups(&rows, "x", false),
            "\
ID                           MADE                    SIZE  KIND     CHECKSUMS
20240214-020000              2024-02-14 02:00:00  1.2 GiB  partial  no
20240215-020000              2024-02-15 02:00:00    900 B  full     yes
pre-restore-20240215-093000  2024-02-15 09:30:00      0 B  safety   unfinished

20240214-020000 has nothing for redis.
"
        );
        rows[0].lacking.clear();
        rows.truncate(2);
        rows[1].summary = None;
        rows[1].problem = Some("backup 20240215-020000: line 3 is no file line".to_owned());
        rows[1].store = "nas".to_owned();
        assert_eq!(
            backups(&rows, "x", true),
            "\
ID               MADE                    SIZE  KIND  CHECKSUMS  STORE
20240214-020000  2024-02-14 02:00:00  1.2 GiB  full  no         main
20240215-020000  2024-02-15 02:00:00        ?  -     damaged    nas

backup 20240215-020000: line 3 is no file line
"
        );
        rows[0].summary = None;
        rows[0].packed = PackedBackup::of("backup-20240214-020000.tar.gz.gpg", 2048, "");
        let text = backups(&rows, "x", true);
        assert!(
            text.contains("  2.0 KiB  -     encrypted  main\n"),
            "{text}"
        );
        assert_eq!(
            backups(&[], "directory /mnt/backups", false),
            "There is no backup in directory /mnt/backups.\n"
        );
    }

    #[test]
    fn one_backup() {
        let summary = row("20240215-020000", "main", 2048, "a").summary.unwrap();
        let file = |path: &str, size, sha: Option<&str>, components: &[&str]| FileRow {
            path: path.to_owned(),
            size,
            sha256: sha.map(str::to_owned),
            components: components.iter().map(|&name| name.to_owned()).collect(),
        };
        let files = [
            file(
                "postgres/p.dump",
                Some(2048),
                Some(&"ab".repeat(32)),
                &["db", "other"],
            ),
            file("redis/r.rdb", None, Some(&"cd".repeat(32)), &[]),
        ];
        assert_eq!(
            show(&summary, "directory /b", &files, &["crontab".to_owned()]),
            "\
Backup:     20240215-020000 in directory /b
Made:       Thu Feb 15 by root
Kind:       plain
Checksums:  yes
Files:      2 files, 2.0 KiB

   SIZE  CHECKSUM      COMPONENT  FILE
2.0 KiB  abababababab  db,other   postgres/p.dump
missing  cdcdcdcdcdcd  -          redis/r.rdb

It has nothing for the components crontab.
"
        );
    }

    #[test]
    fn verified_and_failed() {
        let mut value = json!({
            "id": "20240215-020000", "generation": "a", "deep": false,
            "files": [["a", "verified"], ["b", "verified"]], "remarks": [], "bytes": 9,
        });
        let text = |value: &serde_json::Value| {
            verification(&serde_json::from_value(value.clone()).unwrap())
        };
        assert_eq!(
            text(&value),
            "ok  a\nok  b\n\nBackup 20240215-020000: VERIFIED, 2 files.\n"
        );
        value["files"] = json!([["a", "verified"], ["b", "changed"]]);
        assert_eq!(
            text(&value),
            "\
ok       a
changed  b

Findings:
  error: b is not what was backed up: its SHA-256 is not the manifest's
    hint: copy the file again from where the backup was made, or choose another backup

Backup 20240215-020000: FAILED verification.
"
        );
    }

    #[test]
    fn without_checksums_nothing_is_called_ok() {
        let mut value = json!({
            "id": "20240215-020000", "generation": "b", "deep": false,
            "files": [["a", "unverifiable"]], "remarks": [], "bytes": 0,
        });
        let text = verification(&serde_json::from_value(value.clone()).unwrap());
        assert!(text.starts_with("unverifiable  a\n"), "{text}");
        assert!(text.contains("warning: 20240215-020000: "), "{text}");
        assert!(
            text.ends_with("Backup 20240215-020000: UNVERIFIABLE, it has no checksums; 1 file.\n"),
            "{text}"
        );
        value["deep"] = true.into();
        let text = verification(&serde_json::from_value(value).unwrap());
        assert!(text.starts_with("readable  a\n"), "{text}");
        assert!(
            text.ends_with("1 file, each read to its end as what it is.\n"),
            "{text}"
        );
    }
}
