//! The lines of a journal.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::contract::Staged;
use crate::engine::plan::Plan;
use crate::model::{CheckOutcome, Failure, Finding, Outcome, RunId, SafetyBackup, Timestamp};

/// What a process set out to do with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    Run,
    Resume,
    Rollback,
    Confirm,
    Abandon,
    /// No run: the maintenance page goes up or down.
    Page,
    /// No run at all: a backup is made.
    Backup,
    /// No run either: old backups are deleted.
    Prune,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Run => "run",
            Self::Resume => "resume",
            Self::Rollback => "rollback",
            Self::Confirm => "confirm",
            Self::Abandon => "abandon",
            Self::Page => "change of the maintenance page",
            Self::Backup => "backup",
            Self::Prune => "prune",
        })
    }
}

/// One line of a journal. Written and synced before the effect that it announces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub(crate) enum Record {
    /// Always the first: the whole plan, so that the journal alone tells what the run is.
    Begun {
        at: Timestamp,
        run: RunId,
        plan: Box<Plan>,
        checks: Vec<CheckOutcome>,
        /// Its place in the order of the site's runs, which clocks do not tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<u64>,
        /// What its backup was then: see [`Backup::identity`](crate::contract::Backup::identity).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        identity: Option<String>,
    },
    /// A process takes the run up.
    Attempt {
        at: Timestamp,
        action: Action,
        pid: u32,
    },
    /// A fact that the next effect destroys.
    Fact {
        component: String,
        key: String,
        value: Value,
    },
    /// A step begins.
    Intent { at: Timestamp, step: String },
    /// A step is done.
    Done {
        at: Timestamp,
        step: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        staged: Option<Staged>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        checks: Vec<CheckOutcome>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        safety: Option<SafetyBackup>,
    },
    /// A step failed.
    Failed {
        at: Timestamp,
        step: String,
        failure: Failure,
    },
    /// From here on the run is undone, never continued. `keep`: users have been served by the
    /// restored data, so it is put aside and not deleted.
    TurnedBack {
        at: Timestamp,
        keep: bool,
        failure: Option<Failure>,
    },
    /// Something noticed.
    Noticed { finding: Finding },
    /// The run ended. `Stuck` is an end that another attempt may change.
    Ended { at: Timestamp, outcome: Outcome },
    /// What the run had put aside is deleted.
    Confirmed { at: Timestamp },
}

impl Record {
    /// What a [`Boundary`](super::Boundary) calls it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Begun { .. } => "begun".to_owned(),
            Self::Attempt { action, .. } => format!("attempt {action}"),
            Self::Fact { component, key, .. } => format!("fact {component}/{key}"),
            Self::Intent { step, .. } => format!("intent {step}"),
            Self::Done { step, .. } => format!("done {step}"),
            Self::Failed { step, .. } => format!("failed {step}"),
            Self::TurnedBack { .. } => "turned back".to_owned(),
            Self::Noticed { finding } => format!("noticed {}", finding.code),
            Self::Ended { outcome, .. } => format!("ended {outcome}"),
            Self::Confirmed { .. } => "confirmed".to_owned(),
        }
    }
}
