//! Checks: proofs that something works, made before a run and after it.

mod attempt;
pub(crate) mod client;
mod command;
mod http;
mod log;
mod process;
mod redis;
mod sql;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::component::CheckOutcome;
use crate::config::{table, take_kind};
use crate::error::Result;
use crate::platform::Platform;
use crate::time::Timestamp;

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
pub enum Tries {
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
    async fn run(&self, since: Timestamp, tries: Tries) -> CheckOutcome;
}

/// The kinds of checks.
const KINDS: [&str; 6] = ["http", "sql", "redis", "process", "log", "command"];

/// Makes the check `name` from its table; relative paths in it are taken from `base`. Nothing is
/// connected to yet.
pub fn make(
    name: &str,
    value: &Value,
    platform: &Arc<dyn Platform>,
    base: &Path,
) -> Result<Arc<dyn Check>> {
    let path = format!("checks.{name}");
    let mut table = table(&path, value)?;
    let kind = take_kind(&path, &mut table, &KINDS)?;
    let platform = platform.clone();
    Ok(match kind.as_str() {
        "http" => Arc::new(http::Http::new(name, table, base)?),
        "sql" => Arc::new(sql::Sql::new(name, table, platform, base)?),
        "redis" => Arc::new(redis::Redis::new(name, table, platform, base)?),
        "process" => Arc::new(process::Process::new(name, table, platform)?),
        "command" => Arc::new(command::Command::new(name, table, platform)?),
        _ => Arc::new(log::Log::new(name, table, platform)?),
    })
}
