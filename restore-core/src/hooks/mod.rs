//! The kinds of hooks: commands, and webhooks. When they are called is the engine's business.

mod command;
pub(crate) mod kinds;
mod webhook;

use std::time::Duration;

use crate::contract::{ConfigDuration, HookMoment, HookNotice, HookSubject};
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

/// The keys that hooks of every kind have.
struct Calls {
    when: Vec<HookMoment>,
    subjects: Option<Vec<HookSubject>>,
    timeout: Duration,
}

impl Calls {
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

    fn has(&self, when: HookMoment, subject: HookSubject) -> bool {
        let subjects = self.subjects.as_ref();
        self.when.contains(&when) && subjects.is_none_or(|it| it.contains(&subject))
    }
}
