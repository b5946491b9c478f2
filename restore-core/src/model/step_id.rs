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
