//! From `kind = "…"` to a platform.

use std::path::Path;
use std::sync::Arc;

use super::{compose, local, swarm};
use crate::contract::registry::take_known_kind;
use crate::contract::{Platform, Registry, SiteConfig};
use crate::model::Result;

/// Makes the platform that a site's configuration names; `state` is a private directory.
pub(crate) fn make(
    config: &SiteConfig,
    registry: &Registry,
    base: &Path,
    state: &Path,
) -> Result<Arc<dyn Platform>> {
    let kind = match config.platform.contains_key("kind") {
        true => take_known_kind(
            "platform",
            &mut config.platform.clone(),
            &["local", "swarm", "compose"],
            registry.platforms(),
        )?,
        false => "local".to_owned(),
    };
    if let Some(factory) = registry.platforms().get(&kind) {
        return factory(config, base, state);
    }
    match kind.as_str() {
        "compose" => compose::make(config, base, state),
        "swarm" => swarm::make(config, base, state),
        _ => local::make(config, base, state),
    }
}
