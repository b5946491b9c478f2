//! `[platform]`, `[services.NAME]` and `[volumes.NAME]` of a swarm.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::config::{ConfigDuration, SiteConfig, parse_section, section_of, take_kind};
use crate::error::Result;
use crate::platform::Endpoint;
use crate::platform::local::parse_endpoint;

/// Where the engine listens, unless the site says otherwise.
const SOCKET: &str = "/var/run/docker.sock";

/// How long a service may take to come up, unless the site says otherwise.
const START: Duration = Duration::from_secs(120);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlatformSection {
    socket: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceSection {
    name: Option<String>,
    endpoint: Option<String>,
    port: Option<u16>,
    ready: Option<Ready>,
    stop_timeout: Option<ConfigDuration>,
    start_timeout: Option<ConfigDuration>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VolumeSection {
    name: Option<String>,
    path: Option<PathBuf>,
}

/// When a service whose tasks run is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Ready {
    /// Its tasks run: the engine says so of a task with a health check once that has passed.
    #[default]
    Running,
    /// Its endpoint accepts a connection besides.
    Tcp,
}

/// A service, as the site names it.
#[derive(Clone, Debug)]
pub(super) struct ServiceConfig {
    /// What the site calls it.
    pub(super) key: String,
    /// What the swarm calls it, exactly.
    pub(super) name: String,
    pub(super) endpoint: Option<Endpoint>,
    /// The port that its server listens on inside its containers.
    pub(super) port: Option<u16>,
    pub(super) ready: Ready,
    /// How long its processes may need to end; `None`: as long as the swarm gives them.
    pub(super) stop_timeout: Option<Duration>,
    pub(super) start_timeout: Duration,
}

impl ServiceConfig {
    /// A service that the site does not name.
    pub(super) fn named(name: &str) -> Self {
        Self {
            key: name.to_owned(),
            name: name.to_owned(),
            endpoint: None,
            port: None,
            ready: Ready::default(),
            stop_timeout: None,
            start_timeout: START,
        }
    }
}

/// A volume, as the site names it.
#[derive(Clone, Debug)]
pub(super) struct VolumeConfig {
    /// What the site calls it.
    pub(super) key: String,
    /// What the engine calls it, exactly.
    pub(super) name: String,
    /// Where its files are on this host, where the engine does not say.
    pub(super) path: Option<PathBuf>,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct SwarmConfig {
    pub(super) site: String,
    pub(super) socket: PathBuf,
    /// The names of all services, in the order of the file.
    pub(super) order: Vec<String>,
    pub(super) services: Vec<ServiceConfig>,
    pub(super) volumes: Vec<VolumeConfig>,
}

/// Whether a section is that of a service of the host itself: cron, for one.
fn of_host(section: &Value) -> bool {
    ["start", "stop", "status"]
        .iter()
        .any(|key| section.get(key).is_some())
}

/// The services of the host itself, as a site of their own; `None` where there are none.
pub(super) fn host_services(config: &SiteConfig) -> Option<SiteConfig> {
    let mut host = config.clone();
    host.platform.clear();
    host.volumes.clear();
    host.services.retain(|_, section| of_host(section));
    (!host.services.is_empty()).then_some(host)
}

impl SwarmConfig {
    pub(super) fn read(config: &SiteConfig, base: &Path) -> Result<Self> {
        let mut table = config.platform.clone();
        take_kind("platform", &mut table, &["swarm"])?;
        let platform: PlatformSection = parse_section("platform", table)?;
        let services = config
            .services
            .iter()
            .filter(|(_, value)| !of_host(value))
            .map(|(key, value)| service(key, value))
            .collect::<Result<_>>()?;
        let volumes = config
            .volumes
            .iter()
            .map(|(key, value)| {
                let section: VolumeSection = section_of(&format!("volumes.{key}"), value)?;
                Ok(VolumeConfig {
                    name: section.name.unwrap_or_else(|| key.clone()),
                    key: key.clone(),
                    path: section.path.map(|path| base.join(path)),
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            site: config.site.name.clone(),
            socket: base.join(platform.socket.unwrap_or_else(|| SOCKET.into())),
            order: config.services.keys().cloned().collect(),
            services,
            volumes,
        })
    }
}

fn service(key: &str, value: &Value) -> Result<ServiceConfig> {
    let path = format!("services.{key}");
    let section: ServiceSection = section_of(&path, value)?;
    Ok(ServiceConfig {
        key: key.to_owned(),
        name: section.name.unwrap_or_else(|| key.to_owned()),
        endpoint: section
            .endpoint
            .as_deref()
            .map(|text| parse_endpoint(&path, text))
            .transpose()?,
        port: section.port,
        ready: section.ready.unwrap_or_default(),
        stop_timeout: section.stop_timeout.map(|time| time.0),
        start_timeout: section.start_timeout.map_or(START, |time| time.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SwarmConfig> {
        let site = format!(
            "[site]\nname = 'x'\nstate = 's'\n[stores]\n[components]\n[platform]\nkind = 'swarm'\n{text}"
        );
        SwarmConfig::read(&SiteConfig::from_toml(&site).unwrap(), Path::new("/base"))
    }

    #[test]
    fn names_are_the_keys_unless_given() {
        let config = read(
            "socket = 'd.sock'\n[services.hosting_app]\n[services.db]\nname = 'hosting_postgres'\nport = 5432\n[volumes.data]\nname = 'hosting_data'",
        )
        .unwrap();
        assert_eq!(config.socket, Path::new("/base/d.sock"));
        assert_eq!(config.services[0].name, "hosting_app");
        assert_eq!(config.services[1].name, "hosting_postgres");
        assert_eq!(config.services[1].key, "db");
        assert_eq!(config.volumes[0].name, "hosting_data");
    }

    #[test]
    fn unknown_keys_are_refused() {
        for (text, says) in [
            ("sockt = 'x'", "`sockt`"),
            ("[services.x]\nready = 'soon'", "soon"),
            ("[services.x]\ncommand = ['x']", "`command`"),
            ("[services.x]\nendpoint = 'x'", "HOST:PORT"),
            ("[volumes.x]\npth = 'x'", "`pth`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.message().contains(says), "{text}: {error}");
        }
    }
}
