//! `[platform]`, `[nodes.NAME]`, `[services.NAME]` and `[volumes.NAME]` of a swarm.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::ground::LISTEN;
use crate::contract::config::{section_of, take_kind};
use crate::contract::{ConfigDuration, SiteConfig, parse_section};
use crate::model::{Endpoint, Error, ErrorKind, Result};
use crate::platforms::docker::address::{Address, AddressKeys, SOCKET};
use crate::platforms::docker::host_services::is_of_host;
use crate::platforms::local::parse_endpoint;

/// How long a service may take to come up, unless the site says otherwise.
const START: Duration = Duration::from_secs(120);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlatformSection {
    socket: Option<PathBuf>,
    endpoint: Option<String>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ssh_config: Option<PathBuf>,
    agent: Option<PathBuf>,
    advertise: Option<String>,
    listen: Option<String>,
    #[serde(default)]
    variables: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeSection {
    endpoint: Option<String>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ssh_config: Option<PathBuf>,
    image: Option<String>,
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
    /// Read by the site, whose services are also those of other platforms.
    #[serde(rename = "after")]
    _after: Option<IgnoredAny>,
    #[serde(rename = "wait")]
    _wait: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VolumeSection {
    name: Option<String>,
    path: Option<PathBuf>,
    node: Option<String>,
    /// Use `path` whoever could lead it elsewhere, and where it leads now.
    #[serde(default)]
    follow: bool,
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
    /// The node that has it, where the swarm does not say.
    pub(super) node: Option<String>,
    /// Whether `path` is used whoever could lead it elsewhere.
    pub(super) follow: bool,
}

/// A node of the swarm, as the site names it.
#[derive(Clone, Debug)]
pub(super) struct NodeConfig {
    /// Its host name, or its id.
    pub(super) name: String,
    pub(super) address: Option<Address>,
    /// What containers beside its volumes are made from, instead of their services' own.
    pub(super) image: Option<String>,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct SwarmConfig {
    pub(super) site: String,
    pub(super) address: Address,
    /// The program that serves volumes of other nodes, where it is not this one.
    pub(super) agent: Option<PathBuf>,
    /// The address by which other nodes reach a swarm that a run begins; `None`: it begins none.
    pub(super) advertise: Option<String>,
    /// Where such a swarm listens for them.
    pub(super) listen: String,
    /// Variables of our environment that compose files may use.
    pub(super) variables: Vec<String>,
    pub(super) nodes: Vec<NodeConfig>,
    /// The names of all services, in the order of the file.
    pub(super) order: Vec<String>,
    pub(super) services: Vec<ServiceConfig>,
    pub(super) volumes: Vec<VolumeConfig>,
    /// The nodes that volumes and components are said to be on.
    pub(super) bound_to: Vec<String>,
    /// Some component deploys a stack.
    pub(super) deploys: bool,
}

impl SwarmConfig {
    pub(super) fn read(config: &SiteConfig, base: &Path) -> Result<Self> {
        let mut table = config.platform.clone();
        take_kind("platform", &mut table, &["swarm"])?;
        let platform: PlatformSection = parse_section("platform", table)?;
        let services = config
            .services
            .iter()
            .filter(|(_, value)| !is_of_host(value))
            .map(|(key, value)| service(key, value))
            .collect::<Result<_>>()?;
        let volumes: Vec<VolumeConfig> = config
            .volumes
            .iter()
            .map(|(key, value)| {
                let section: VolumeSection = section_of(&format!("volumes.{key}"), value)?;
                Ok(VolumeConfig {
                    name: section.name.unwrap_or_else(|| key.clone()),
                    key: key.clone(),
                    path: section.path.map(|path| base.join(path)),
                    node: section.node,
                    follow: section.follow,
                })
            })
            .collect::<Result<_>>()?;
        let of_volumes = volumes.iter().filter_map(|it| it.node.clone());
        let components = config.components.values();
        let of_components = components.filter_map(|it| it.get("node")?.as_str());
        let mut bound_to: Vec<String> =
            of_volumes.chain(of_components.map(str::to_owned)).collect();
        bound_to.sort();
        bound_to.dedup();
        let keys = AddressKeys {
            endpoint: platform.endpoint,
            ca: platform.ca,
            cert: platform.cert,
            key: platform.key,
            ssh_config: platform.ssh_config,
        };
        let address = match (platform.socket, keys.read("platform", base)?) {
            (Some(_), Some(_)) => {
                return Err(Error::new(
                    ErrorKind::Config,
                    "config.two_engines",
                    "[platform] names its engine twice: `socket` and `endpoint`",
                )
                .hint("keep the one that holds"));
            }
            (_, Some(address)) => address,
            (socket, None) => Address::Unix(base.join(socket.unwrap_or_else(|| SOCKET.into()))),
        };
        let nodes = config
            .nodes
            .iter()
            .map(|(name, value)| node(name, value, base))
            .collect::<Result<_>>()?;
        Ok(Self {
            site: config.site.name.clone(),
            address,
            agent: platform.agent.map(|path| base.join(path)),
            advertise: platform.advertise,
            listen: platform.listen.unwrap_or_else(|| LISTEN.to_owned()),
            variables: platform.variables,
            nodes,
            order: config.services.keys().cloned().collect(),
            services,
            volumes,
            bound_to,
            deploys: config
                .components
                .values()
                .any(|section| section.get("redeploy").and_then(Value::as_bool) == Some(true)),
        })
    }
}

fn node(name: &str, value: &Value, base: &Path) -> Result<NodeConfig> {
    let path = format!("nodes.{name}");
    let section: NodeSection = section_of(&path, value)?;
    let keys = AddressKeys {
        endpoint: section.endpoint,
        ca: section.ca,
        cert: section.cert,
        key: section.key,
        ssh_config: section.ssh_config,
    };
    Ok(NodeConfig {
        name: name.to_owned(),
        address: keys.read(&path, base)?,
        image: section.image,
    })
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
        assert_eq!(config.address, Address::Unix("/base/d.sock".into()));
        assert_eq!(config.services[0].name, "hosting_app");
        assert_eq!(config.services[1].name, "hosting_postgres");
        assert_eq!(config.services[1].key, "db");
        assert_eq!(config.volumes[0].name, "hosting_data");
        assert_eq!(config.bound_to, [""; 0]);
        let config =
            read("[volumes.a]\nnode = 'two'\n[volumes.b]\nnode = 'one'\n[volumes.c]\nnode = 'two'")
                .unwrap();
        assert_eq!(config.bound_to, ["one", "two"]);
    }

    #[test]
    fn unknown_keys_are_refused() {
        for (text, says) in [
            ("sockt = 'x'", "`sockt`"),
            ("[services.x]\nready = 'soon'", "soon"),
            ("[services.x]\ncommand = ['x']", "`command`"),
            ("[services.x]\nendpoint = 'x'", "HOST:PORT"),
            ("[volumes.x]\npth = 'x'", "`pth`"),
            ("[nodes.x]\nendpont = 'x'", "`endpont`"),
            ("[nodes.x]\nca = 'x'", "belongs to an `endpoint`"),
            ("socket = 'x'\nendpoint = 'ssh://x'", "twice"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.message().contains(says), "{text}: {error}");
        }
    }
}
