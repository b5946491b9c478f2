//! From `kind = "…"` to a check.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::{command, http, log, process, redis, sql};
use crate::contract::config::table;
use crate::contract::registry::take_known_kind;
use crate::contract::{Check, ComponentDeps, Platform, Registry};
use crate::model::Result;

/// The kinds of checks that the library has.
pub const KINDS: [&str; 6] = ["http", "sql", "redis", "process", "log", "command"];

/// Makes the check `name` of one of the library's kinds from its table; relative paths in it are
/// taken from `base`. Nothing is connected to yet.
pub fn make(
    name: &str,
    value: &Value,
    platform: &Arc<dyn Platform>,
    base: &Path,
) -> Result<Arc<dyn Check>> {
    let parts = ComponentDeps::new(platform.clone(), base, base.join("work"));
    make_registered(name, value, &Registry::empty(), &parts)
}

/// As [`make`], also of a kind that the registry knows.
pub(crate) fn make_registered(
    name: &str,
    value: &Value,
    registry: &Registry,
    parts: &ComponentDeps,
) -> Result<Arc<dyn Check>> {
    let path = format!("checks.{name}");
    let mut table = table(&path, value)?;
    let kind = take_known_kind(&path, &mut table, &KINDS, registry.checks())?;
    if let Some(factory) = registry.checks().get(&kind) {
        return factory(name, table, parts);
    }
    let (platform, base) = (parts.platform.clone(), parts.base.as_path());
    Ok(match kind.as_str() {
        "http" => Arc::new(http::Http::new(name, table, base)?),
        "sql" => Arc::new(sql::Sql::new(name, table, platform, base)?),
        "redis" => Arc::new(redis::Redis::new(name, table, platform, base)?),
        "process" => Arc::new(process::Process::new(name, table, platform)?),
        "command" => Arc::new(command::Command::new(name, table, platform)?),
        _ => Arc::new(log::Log::new(name, table, platform)?),
    })
}
