//! The exit codes: what a script can rely on.

use restore_core::run::Outcome;
use restore_core::{Error, ErrorKind, Report};

/// Done, and checked.
pub(crate) const DONE: u8 = 0;
/// An unexpected error; also a check that failed under `restore check`.
pub(crate) const UNFORESEEN: u8 = 1;
/// Usage or configuration; also a question that was not answered with the id.
pub(crate) const USAGE: u8 = 2;
/// The backup failed verification.
pub(crate) const VERIFICATION: u8 = 3;
/// Preflight refused; nothing was touched.
pub(crate) const PREFLIGHT: u8 = 4;
/// The restore failed; the platform is as it was.
pub(crate) const FAILED: u8 = 5;
/// Stuck or left unfinished: the report says what is where and which commands work now.
pub(crate) const STUCK: u8 = 6;
/// Another run holds the lock.
pub(crate) const LOCKED: u8 = 7;
/// Done, but checks fail that failed before too, or services do not start on their old data.
pub(crate) const FAILING: u8 = 8;
/// Interrupted; undone.
pub(crate) const INTERRUPTED: u8 = 130;

/// What `--help` ends with.
pub(crate) const HELP: &str = "\
`restore help` lists topics to read in haste, such as exit-codes, stuck, from-nothing.

Exit codes:
    0  done, and every check passes
    1  an unexpected error, or a check that failed
    2  usage or configuration, or the question was not answered with the id
    3  the backup failed verification
    4  preflight refused; nothing was touched
    5  the restore failed; everything is back where it was
    6  stuck: the report says what is where and which commands work now
    7  another run holds the lock
    8  done, but a check fails that failed before too, or (after a rollback) the old data
       is back and something does not work on it
  130  interrupted; undone";

/// The code of an error that came before anything was touched, or outside a run.
pub(crate) fn of_error(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Config | ErrorKind::NotFound => USAGE,
        ErrorKind::Verification => VERIFICATION,
        ErrorKind::Preflight => PREFLIGHT,
        ErrorKind::Locked => LOCKED,
        ErrorKind::Interrupted => INTERRUPTED,
        ErrorKind::Stuck => STUCK,
        _ => UNFORESEEN,
    }
}

/// The code of a run that was begun, by what its report says.
pub(crate) fn of_report(report: &Report) -> u8 {
    match report.outcome {
        // Neither restored nor as it was: whatever the reason, someone must act.
        Outcome::Unfinished | Outcome::Stuck => return STUCK,
        _ => {}
    }
    match report.error().map(|error| error.kind()) {
        None if report.is_failing() => FAILING,
        None => DONE,
        Some(ErrorKind::Verification) => VERIFICATION,
        Some(ErrorKind::Interrupted) => INTERRUPTED,
        Some(ErrorKind::Stuck) => STUCK,
        Some(_) => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_code() {
        for (kind, code) in [
            (ErrorKind::Config, 2),
            (ErrorKind::NotFound, 2),
            (ErrorKind::Verification, 3),
            (ErrorKind::Preflight, 4),
            (ErrorKind::Stuck, 6),
            (ErrorKind::Locked, 7),
            (ErrorKind::Interrupted, 130),
            (ErrorKind::Failed, 1),
            (ErrorKind::Internal, 1),
        ] {
            assert_eq!(of_error(&Error::new(kind, "x.y", "z")), code, "{kind:?}");
        }
    }

    fn report(outcome: &str, kind: Option<&str>) -> Report {
        crate::samples::report(|value| {
            value["outcome"] = outcome.into();
            if let Some(kind) = kind {
                value["failure"] = serde_json::json!({
                    "step": "stage:redis", "kind": kind, "code": "a.b", "message": "no",
                    "hint": null,
                });
            }
        })
    }

    #[test]
    fn a_run_that_was_begun_has_the_code_of_its_end() {
        assert_eq!(of_report(&report("restored", None)), 0);
        assert_eq!(of_report(&report("rolled_back", None)), 0);
        assert_eq!(of_report(&report("drilled", None)), 0);
        assert_eq!(of_report(&report("undone", Some("failed"))), 5);
        assert_eq!(of_report(&report("undone", Some("not_found"))), 5);
        assert_eq!(of_report(&report("undone", Some("verification"))), 3);
        assert_eq!(of_report(&report("undone", Some("interrupted"))), 130);
        assert_eq!(of_report(&report("unfinished", Some("failed"))), 6);
        assert_eq!(of_report(&report("stuck", Some("interrupted"))), 6);
    }

    #[test]
    fn what_ended_and_does_not_work_has_a_code_of_its_own() {
        let failing = |outcome: &str, kind: Option<&str>| {
            let mut value = serde_json::to_value(report(outcome, kind)).unwrap();
            value["checks_after"] =
                serde_json::json!([{ "name": "health", "passed": false, "detail": "502" }]);
            of_report(&serde_json::from_value(value).unwrap())
        };
        assert_eq!(failing("restored", None), 8);
        assert_eq!(failing("rolled_back", None), 8);
        assert_eq!(failing("undone", Some("failed")), 5);
        assert_eq!(failing("stuck", None), 6);
    }
}
