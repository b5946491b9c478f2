//! Hooks: what a site wants done, or told, at certain moments of its runs, drills and backups.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Program;
use crate::model::{BackupReport, Failure, Report, Result};

/// The moment at which a hook is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HookMoment {
    /// Everything is staged, nothing is stopped yet and users are served: a failure turns the run
    /// back without their noticing.
    BeforeStop,
    /// All data is swapped, and what users see does not run yet: a failure turns the run back.
    AfterSwap,
    /// The services run again, behind the page: a failure turns the run back.
    AfterStart,
    /// It has ended as asked, and works. A failure is told and changes nothing.
    OnSuccess,
    /// It has ended otherwise. A failure is told and changes nothing.
    OnFailure,
}

impl HookMoment {
    const ALL: [Self; 5] = [
        Self::BeforeStop,
        Self::AfterSwap,
        Self::AfterStart,
        Self::OnSuccess,
        Self::OnFailure,
    ];

    /// Whether it is a step of a run, whose failure turns the run back, and not its end.
    pub fn is_step(self) -> bool {
        !matches!(self, Self::OnSuccess | Self::OnFailure)
    }

    fn word(self) -> &'static str {
        match self {
            Self::BeforeStop => "before-stop",
            Self::AfterSwap => "after-swap",
            Self::AfterStart => "after-start",
            Self::OnSuccess => "on-success",
            Self::OnFailure => "on-failure",
        }
    }

    /// The moment that the configuration calls so.
    pub(crate) fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.word() == word)
    }
}

impl fmt::Display for HookMoment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a hook is called about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HookSubject {
    /// A restore, or its resumption or rollback.
    Run,
    /// A drill.
    Drill,
    /// A backup.
    Backup,
}

impl fmt::Display for HookSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Run => "run",
            Self::Drill => "drill",
            Self::Backup => "backup",
        })
    }
}

/// What a hook is told: the JSON document that a command reads and a webhook gets. No secrets.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct HookNotice {
    /// One line for people.
    pub text: String,
    /// The site's name.
    pub site: String,
    /// The hook's name.
    pub hook: String,
    /// The moment.
    pub when: HookMoment,
    /// What it is about.
    pub subject: HookSubject,
    /// What is known of the run, or the drill, so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
    /// The backup that was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupReport>,
    /// Why it did not end as asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// One configured hook.
#[async_trait]
pub trait Hook: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &str;

    /// Whether it is called at this moment of such work.
    fn is_called(&self, when: HookMoment, subject: HookSubject) -> bool;

    /// How long a call may take. Then it is dropped, which ends whatever it has started.
    fn timeout(&self) -> Duration;

    /// Does what it is for. It may be called again where the process died in it. `Err` where that was
    /// not done; the error holds no secret.
    async fn call(&self, notice: &HookNotice) -> Result<()>;

    /// The programs that it needs.
    fn programs(&self) -> Vec<Program> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_called_as_the_configuration_calls_them() {
        for moment in HookMoment::ALL {
            let word = serde_json::to_value(moment).unwrap();
            assert_eq!(word, moment.to_string());
            assert_eq!(HookMoment::of(&moment.to_string()), Some(moment));
        }
        assert_eq!(HookMoment::of("before_stop"), None);
    }
}
