//! How a run ended.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a run ended, or that it has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// Under way, or its process died: `resume` or `rollback` finishes it.
    Unfinished,
    /// The backup's state is live and checked; what it replaced is kept until confirmed.
    Restored,
    /// A drill: everything was staged and proven, and deleted again; nothing live was touched.
    Drilled,
    /// It failed or was stopped; the platform is as it was.
    Undone,
    /// It had succeeded and was taken back; the platform is as it was before.
    RolledBack,
    /// Undoing it failed: some of it can be neither done nor undone now.
    Stuck,
    /// Ended by hand as the platform stood: nothing was moved, what it keeps is kept.
    Abandoned,
}

impl Outcome {
    /// The first line of a report.
    pub fn headline(self) -> &'static str {
        match self {
            Self::Unfinished => "Restore NOT FINISHED",
            Self::Restored => "Restored and checked",
            Self::Drilled => "Drill PASSED: the backup restores; nothing live was touched",
            Self::Undone => "Restore FAILED; the platform is as it was",
            Self::RolledBack => "Rolled back; the platform is as it was before the restore",
            Self::Stuck => "Restore STUCK: some of it can be neither done nor undone now",
            Self::Abandoned => "Abandoned: ended as the platform stood",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unfinished => "unfinished",
            Self::Restored => "restored",
            Self::Drilled => "drilled",
            Self::Undone => "undone",
            Self::RolledBack => "rolled back",
            Self::Stuck => "stuck",
            Self::Abandoned => "abandoned",
        })
    }
}
