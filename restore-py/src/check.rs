//! Checks written in Python.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pyo3::prelude::*;
use restore_core::check::{Check, RetryMode, When};
use restore_core::component::{CheckFactory, CheckOutcome, ComponentDeps};
use restore_core::config::{ConfigDuration, Table};
use restore_core::{ErrorKind, Result, Timestamp};
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout_at};

use crate::part::{Object, Raised, take_common};

/// How long a check goes on trying where the configuration does not say.
const PATIENCE: ConfigDuration = ConfigDuration::from_secs(30);

/// How long to wait between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// The keys that checks of every kind have.
#[derive(Deserialize)]
struct Common {
    when: Option<When>,
    timeout: Option<ConfigDuration>,
}

/// Makes checks of a Python class.
pub(crate) fn factory(class: Py<PyAny>, raised: Raised) -> CheckFactory {
    Arc::new(move |name: &str, mut table: Table, parts: &ComponentDeps| {
        let place = format!("checks.{name}");
        let common: Common = take_common(&place, &mut table, &["when", "timeout"])?;
        let object = Object::make(&place, &class, name, table, &parts.base, &raised)?;
        let check: Arc<dyn Check> = Arc::new(PyCheck {
            name: name.to_owned(),
            when: common.when.unwrap_or(When::BeforeTraffic),
            patience: common.timeout.unwrap_or(PATIENCE).0,
            object,
        });
        Ok(check)
    })
}

struct PyCheck {
    name: String,
    when: When,
    patience: Duration,
    object: Object,
}

impl PyCheck {
    /// Whether it passed, and what was seen. `since`: not where only the present is asked for.
    async fn attempt(&self, since: Option<Timestamp>) -> Result<(bool, String)> {
        let since = since.map(|at| at.to_string());
        let made = self.object.call("run", move |object| {
            object
                .call_method1("_restore_run", (since,))?
                .extract::<(bool, String)>()
        });
        made.await
    }
}

#[async_trait]
impl Check for PyCheck {
    fn name(&self) -> &str {
        &self.name
    }

    fn when(&self) -> When {
        self.when
    }

    async fn run(&self, since: Timestamp, tries: RetryMode) -> CheckOutcome {
        let outcome =
            |passed: bool, detail: String| CheckOutcome::new(self.name.as_str(), passed, detail);
        let once = tries == RetryMode::Once;
        let since = (!once).then_some(since);
        let deadline = Instant::now() + self.patience;
        loop {
            let detail = match timeout_at(deadline, self.attempt(since)).await {
                Ok(Ok((true, detail))) => return outcome(true, detail),
                Ok(Ok((false, detail))) => detail,
                // What the class itself does wrong it does again.
                Ok(Err(error)) if error.kind() == ErrorKind::Config => {
                    return outcome(false, error.to_string());
                }
                Ok(Err(error)) => error.to_string(),
                // The method goes on in its thread, and nobody hears what it says.
                Err(_) => return outcome(false, format!("no answer within {:?}", self.patience)),
            };
            if once {
                return outcome(false, detail);
            }
            if Instant::now() + PAUSE >= deadline {
                return outcome(false, format!("{detail}; tried for {:?}", self.patience));
            }
            sleep(PAUSE).await;
        }
    }
}
