//! Services of the Docker host itself that a site stops and starts too, such as cron.

use serde_json::Value;

use crate::contract::SiteConfig;

/// Whether a section is that of a service of the host itself: it says how to start and stop it.
pub(crate) fn is_of_host(section: &Value) -> bool {
    ["start", "stop", "status"]
        .iter()
        .any(|key| section.get(key).is_some())
}

/// The services of the host itself, as a site of their own; `None` where there are none.
pub(crate) fn host_services(config: &SiteConfig) -> Option<SiteConfig> {
    let mut host = config.clone();
    host.platform.clear();
    host.volumes.clear();
    host.services.retain(|_, section| is_of_host(section));
    (!host.services.is_empty()).then_some(host)
}
