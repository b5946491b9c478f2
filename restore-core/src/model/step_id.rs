//! The ids of a run's steps, as journals and reports have them: those of the way back begin with `undo:`.

use std::fmt::Display;

const UNDO: &str = "undo:";

/// The id of the step that takes another one back.
pub(crate) fn undo_of(step: impl Display) -> String {
    format!("{UNDO}{step}")
}

/// The step that this one takes back; `None` where it takes none back.
pub(crate) fn undoes(step: &str) -> Option<&str> {
    step.strip_prefix(UNDO)
}

/// The step without its direction.
pub(crate) fn either_way(step: &str) -> &str {
    undoes(step).unwrap_or(step)
}

/// What is done in a step, either way, and to what: a component, a service, a check. Some have no name there.
pub(crate) fn phase_and_subject(step: &str) -> (&str, Option<&str>) {
    match either_way(step).split_once(':') {
        Some((phase, subject)) => (phase, Some(subject)),
        None => (either_way(step), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_taken_apart() {
        assert_eq!(phase_and_subject("stage:db"), ("stage", Some("db")));
        let back = undo_of("cut-over:a:b");
        assert_eq!(phase_and_subject(&back), ("cut-over", Some("a:b")));
        assert_eq!(phase_and_subject("safety-backup"), ("safety-backup", None));
    }
}
