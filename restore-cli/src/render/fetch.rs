//! What a fetch came to.

use restore_core::FetchReport;
use restore_core::backup::Verdict;

use super::findings;
use crate::human;

/// One line, or some more where there is more to say.
pub(crate) fn fetched(report: &FetchReport) -> String {
    let (id, path) = (&report.id, report.path.display());
    if report.already_there {
        return match &report.from {
            Some(from) => format!(
                "Backup {id} is in {} already, with the files that {from} has; `restore verify {id}` reads them.\n",
                report.to
            ),
            None => format!(
                "Backup {id} is in {} already; no other store has it.\n",
                report.to
            ),
        };
    }
    let from = report.from.as_deref().unwrap_or("?");
    let files = human::count(usize::try_from(report.files).unwrap_or(usize::MAX), "file");
    #[expect(clippy::cast_precision_loss, reason = "a rate is rounded anyway")]
    let rate = report.received as f64 / report.seconds.max(0.001);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and a float saturates"
    )]
    let rate = human::bytes(rate as u64);
    let mut out = findings("Findings:", &report.findings);
    if !out.is_empty() {
        out.push('\n');
    }
    out += &format!(
        "Backup {id}: fetched from {from} to {path}: {files}, {} in {} ({rate}/s)",
        human::bytes(report.bytes),
        human::seconds(report.seconds)
    );
    if report.kept > 0 {
        out += &format!(", {} of it kept from before", human::bytes(report.kept));
    }
    out += match report.verdict {
        Some(Verdict::Verified) => "; VERIFIED.\n",
        _ => "; UNVERIFIABLE, it has no checksums.\n",
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_proven_is_said_and_nothing_else() {
        let mut value = json!({
            "id": "20240215-020000", "from": "nas", "to": "main", "path": "/b/20240215-020000",
            "already_there": false, "generation": "a", "verdict": "verified", "files": 2,
            "bytes": 3072, "received": 2048, "kept": 1024, "seconds": 2.0, "findings": [],
        });
        let text =
            |value: &serde_json::Value| fetched(&serde_json::from_value(value.clone()).unwrap());
        assert_eq!(
            text(&value),
            "Backup 20240215-020000: fetched from nas to /b/20240215-020000: 2 files, 3.0 KiB in \
             2.0 s (1.0 KiB/s), 1.0 KiB of it kept from before; VERIFIED.\n"
        );
        value["verdict"] = "unverifiable".into();
        value["kept"] = 0.into();
        assert!(text(&value).ends_with("(1.0 KiB/s); UNVERIFIABLE, it has no checksums.\n"));
        value["already_there"] = true.into();
        assert!(text(&value).contains("is in main already"));
    }
}
