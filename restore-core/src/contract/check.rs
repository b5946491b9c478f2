//! Checks: proofs that something works, made before a run and after it.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Program;
use crate::model::{CheckOutcome, Timestamp};

/// When a check can tell anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum When {
    /// Behind the maintenance page, before users are let in: a failure turns back.
    BeforeTraffic,
    /// Through the same door as users, once they are let in: a failure turns back too, with the
    /// page up again.
    AfterTraffic,
}

/// How often a check is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryMode {
    /// Once, for at most so long as its deadline: what is so now?
    Once,
    /// Until it passes or its deadline is over: does it come up?
    UntilDeadline,
}

/// One configured check.
#[async_trait]
pub trait Check: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &str;
    /// When it can tell anything.
    fn when(&self) -> When;
    /// Makes it and never hangs: it has a deadline of its own. `since` is when the services were
    /// started (or now, outside a run): log checks read from there.
    async fn run(&self, since: Timestamp, tries: RetryMode) -> CheckOutcome;

    /// The programs that it needs.
    fn programs(&self) -> Vec<Program> {
        Vec::new()
    }
}
