//! What a check found.

use serde::{Deserialize, Serialize};

use super::text::shown;

/// One check's outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "a check that fails is no error: see `passed`"]
pub struct CheckOutcome {
    /// The check's name, `postgres/tables`.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// What was seen, in one line.
    pub detail: String,
}

impl CheckOutcome {
    /// An outcome of the check `name`.
    pub fn new(name: impl Into<String>, passed: bool, detail: impl Into<String>) -> Self {
        Self {
            name: shown(&Into::<String>::into(name)).into_owned(),
            passed,
            detail: shown(&Into::<String>::into(detail)).into_owned(),
        }
    }
}
