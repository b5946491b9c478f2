//! From `kind = "…"` to a hook.

use std::sync::Arc;

use serde_json::Value;

use super::{command, webhook};
use crate::contract::config::table;
use crate::contract::registry::take_known_kind;
use crate::contract::{ComponentDeps, Hook, Registry};
use crate::model::Result;

/// The kinds of hooks that the library has.
pub const KINDS: [&str; 2] = ["command", "webhook"];

/// Makes the hook `name` from its table. Nothing is started and nothing connected to.
pub(crate) fn make(
    name: &str,
    value: &Value,
    registry: &Registry,
    parts: &ComponentDeps,
) -> Result<Arc<dyn Hook>> {
    let path = format!("hooks.{name}");
    let mut table = table(&path, value)?;
    let kind = take_known_kind(&path, &mut table, &KINDS, registry.hooks())?;
    if let Some(factory) = registry.hooks().get(&kind) {
        return factory(name, table, parts);
    }
    Ok(match kind.as_str() {
        "command" => Arc::new(command::Command::new(name, table, parts)?),
        _ => Arc::new(webhook::Webhook::new(name, table, &parts.base)?),
    })
}
