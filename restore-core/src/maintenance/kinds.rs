//! From `kind = "…"` to a maintenance mode.

use std::path::Path;
use std::sync::Arc;

use super::{command, nginx};
use crate::contract::registry::take_known_kind;
use crate::contract::{ComponentDeps, Maintenance, Platform, Registry, Table};
use crate::model::Result;

/// The kinds of maintenance modes that the library has.
pub const KINDS: [&str; 2] = ["nginx", "command"];

/// Makes the maintenance mode of a site from `[maintenance]`, of one of the library's kinds;
/// relative paths are taken from `base`. Nothing is run yet.
pub fn make(
    table: Table,
    platform: &Arc<dyn Platform>,
    base: &Path,
) -> Result<Arc<dyn Maintenance>> {
    let parts = ComponentDeps::new(platform.clone(), base, base.join("work"));
    make_registered(table, &Registry::empty(), &parts)
}

/// As [`make`], also of a kind that the registry knows.
pub(crate) fn make_registered(
    mut table: Table,
    registry: &Registry,
    parts: &ComponentDeps,
) -> Result<Arc<dyn Maintenance>> {
    let kind = take_known_kind("maintenance", &mut table, &KINDS, registry.maintenance())?;
    if let Some(factory) = registry.maintenance().get(&kind) {
        return factory(table, parts);
    }
    let platform = parts.platform.clone();
    Ok(match kind.as_str() {
        "command" => Arc::new(command::CommandPage::new(table, platform, &parts.base)?),
        _ => Arc::new(nginx::Nginx::new(table, platform, &parts.base)?),
    })
}
