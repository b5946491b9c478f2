//! The kinds of hooks: commands, and webhooks. When they are called is the engine's business.

mod command;
pub(crate) mod kinds;
mod webhook;

use std::time::Duration;

use serde::Deserialize;

use crate::contract::{ConfigDuration, HookMoment, HookNotice, HookSubject, Table, parse_section};
use crate::model::{Error, ErrorKind, Result};

/// How long a call may take where the configuration does not say.
const PATIENCE: ConfigDuration = ConfigDuration::from_secs(30);

/// What every kind is told, as bytes.
fn document(notice: &HookNotice) -> Result<Vec<u8>> {
    serde_json::to_vec(notice).map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            "hook.document",
            format!("the notice cannot be written as JSON: {error}"),
        )
    })
}

/// When a hook is called, and how long a call may take: what the keys `when`, `for` and `timeout` say, which
/// hooks of every kind have.
#[derive(Clone, Debug)]
pub struct HookCalls {
    when: Vec<HookMoment>,
    subjects: Option<Vec<HookSubject>>,
    timeout: Duration,
}

#[derive(Deserialize)]
struct Keys {
    when: Vec<HookMoment>,
    #[serde(rename = "for")]
    subjects: Option<Vec<HookSubject>>,
    timeout: Option<ConfigDuration>,
}

impl HookCalls {
    /// Takes these keys out of the table of `[hooks.NAME]`, for a kind of an embedder's own.
    pub fn take(name: &str, table: &mut Table) -> Result<Self> {
        let mut taken = Table::new();
        for key in ["when", "for", "timeout"] {
            if let Some(value) = table.remove(key) {
                taken.insert(key.to_owned(), value);
            }
        }
        let keys: Keys = parse_section(&format!("hooks.{name}"), taken)?;
        Self::new(name, keys.when, keys.subjects, keys.timeout)
    }

    /// From the keys of `[hooks.NAME]`.
    fn new(
        name: &str,
        when: Vec<HookMoment>,
        subjects: Option<Vec<HookSubject>>,
        timeout: Option<ConfigDuration>,
    ) -> Result<Self> {
        let bad = |what: &str| {
            Error::new(
                ErrorKind::Config,
                "config.bad_value",
                format!("[hooks.{name}] {what}"),
            )
        };
        if when.is_empty() {
            return Err(
                bad("`when` names no moment, so that it would never be called")
                    .hint("for example when = [\"on-failure\"]"),
            );
        }
        if let Some(subjects) = &subjects {
            let step = when.iter().find(|it| it.is_step());
            match step {
                _ if subjects.is_empty() => {
                    return Err(bad("`for` names nothing, so that it would never be called")
                        .hint("for example for = [\"drill\", \"backup\"]"));
                }
                Some(step) if !subjects.contains(&HookSubject::Run) => {
                    return Err(bad(&format!(
                        "`for` has no \"run\", and there is no {step} in anything else"
                    ))
                    .hint("add \"run\" to `for`, or take that moment out of `when`"));
                }
                _ => {}
            }
        }
        Ok(Self {
            when,
            subjects,
            timeout: timeout.unwrap_or(PATIENCE).0,
        })
    }

    /// Whether it is called at this moment of such work.
    pub fn has(&self, when: HookMoment, subject: HookSubject) -> bool {
        let subjects = self.subjects.as_ref();
        self.when.contains(&when) && subjects.is_none_or(|it| it.contains(&subject))
    }

    /// How long a call may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}
