//! `[platform]`, `[services.NAME]` and `[volumes.NAME]` of a Docker host with Compose projects.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::contract::config::{section_of, take_kind};
use crate::contract::nodes::no_nodes;
use crate::contract::{ConfigDuration, SiteConfig, parse_section};
use crate::model::{Endpoint, Error, ErrorKind, Result};
use crate::platforms::docker::address::SOCKET;
use crate::platforms::docker::host_services::is_of_host;
use crate::platforms::local::parse_endpoint;

/// How long a service may take to come up, unless the site says otherwise.
const START: Duration = Duration::from_secs(120);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlatformSection {
    project: Option<String>,
    socket: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceSection {
    project: Option<String>,
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
    project: Option<String>,
    name: Option<String>,
    #[serde(default)]
    external: bool,
    path: Option<PathBuf>,
    /// Use the directory whoever could lead its path elsewhere, and where it leads now.
    #[serde(default)]
    follow: bool,
}

/// When a service whose containers run is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Ready {
    /// Its containers run and stay so; those with a health check are healthy.
    #[default]
    Running,
    /// Its endpoint accepts a connection besides.
    Tcp,
}

/// A service of a Compose project, by the names of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ComposeName {
    pub(super) project: String,
    pub(super) service: String,
}

/// A service, as the site names it.
#[derive(Clone, Debug)]
pub(super) struct ServiceConfig {
    /// What the site calls it.
    pub(super) key: String,
    /// What Compose calls it, exactly.
    pub(super) name: ComposeName,
    pub(super) endpoint: Option<Endpoint>,
    /// The port that its server listens on inside its containers.
    pub(super) port: Option<u16>,
    pub(super) ready: Ready,
    /// How long its processes may need to end; `None`: as long as its containers give them.
    pub(super) stop_timeout: Option<Duration>,
    pub(super) start_timeout: Duration,
}

/// Where a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum VolumeSource {
    /// The volume that the compose files of a project call so; where there is none, the engine's
    /// own of exactly this name.
    Named {
        project: Option<String>,
        name: String,
    },
    /// The engine's own, of exactly this name.
    External(String),
    /// A directory of this host, as bind mounts have them.
    Directory(PathBuf),
}

/// A volume, as the site names it.
#[derive(Clone, Debug)]
pub(super) struct VolumeConfig {
    /// What the site calls it.
    pub(super) key: String,
    pub(super) source: VolumeSource,
    /// Whether its directory is used whoever could lead its path elsewhere.
    pub(super) follow: bool,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct ComposeConfig {
    pub(super) site: String,
    pub(super) socket: PathBuf,
    /// Whose services and volumes those are that name no project.
    pub(super) project: Option<String>,
    /// The names of all services, in the order of the file.
    pub(super) order: Vec<String>,
    pub(super) services: Vec<ServiceConfig>,
    pub(super) volumes: Vec<VolumeConfig>,
}

impl ComposeConfig {
    pub(super) fn read(config: &SiteConfig, base: &Path) -> Result<Self> {
        let mut table = config.platform.clone();
        take_kind("platform", &mut table, &["compose"])?;
        let platform: PlatformSection = parse_section("platform", table)?;
        if let Some(project) = &platform.project {
            check_name("platform", "project", project)?;
        }
        if let Some(name) = config.nodes.keys().next() {
            return Err(no_nodes(&format!("[nodes.{name}]"), "section"));
        }
        let default = platform.project.as_deref();
        let services = config
            .services
            .iter()
            .filter(|(_, value)| !is_of_host(value))
            .map(|(key, value)| service(key, value, default))
            .collect::<Result<_>>()?;
        let volumes = config
            .volumes
            .iter()
            .map(|(key, value)| volume(key, value, default, base))
            .collect::<Result<_>>()?;
        Ok(Self {
            site: config.site.name.clone(),
            socket: base.join(platform.socket.unwrap_or_else(|| SOCKET.into())),
            project: platform.project,
            order: config.services.keys().cloned().collect(),
            services,
            volumes,
        })
    }
}

fn service(key: &str, value: &Value, default: Option<&str>) -> Result<ServiceConfig> {
    let path = format!("services.{key}");
    let section: ServiceSection = section_of(&path, value)?;
    let project = section.project.or_else(|| default.map(str::to_owned));
    let Some(project) = project else {
        return Err(Error::new(
            ErrorKind::Config,
            "config.missing_key",
            format!("[{path}] needs the key `project`"),
        )
        .hint("name the Compose project there, or once for all services in [platform]; `docker compose ls` shows the names"));
    };
    let name = ComposeName {
        service: section.name.unwrap_or_else(|| key.to_owned()),
        project,
    };
    check_name(&path, "project", &name.project)?;
    check_name(&path, "name", &name.service)?;
    Ok(ServiceConfig {
        key: key.to_owned(),
        name,
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

fn volume(key: &str, value: &Value, default: Option<&str>, base: &Path) -> Result<VolumeConfig> {
    let path = format!("volumes.{key}");
    let section: VolumeSection = section_of(&path, value)?;
    let named = section.project.is_some() || section.name.is_some() || section.external;
    let source = match section.path {
        Some(_) if named => {
            return Err(Error::new(
                ErrorKind::Config,
                "config.bad_value",
                format!("[{path}] `path` names a directory, `project`, `name` and `external` a volume of the engine"),
            )
            .hint("keep what holds"));
        }
        Some(directory) => VolumeSource::Directory(base.join(directory)),
        None => {
            let name = section.name.unwrap_or_else(|| key.to_owned());
            match (section.external, section.project) {
                (true, Some(_)) => {
                    return Err(Error::new(
                        ErrorKind::Config,
                        "config.bad_value",
                        format!("[{path}] an `external` volume is of no `project`"),
                    )
                    .hint("keep the one that holds"));
                }
                (true, None) => VolumeSource::External(name),
                (false, project) => VolumeSource::Named {
                    project: project.or_else(|| default.map(str::to_owned)),
                    name,
                },
            }
        }
    };
    Ok(VolumeConfig {
        key: key.to_owned(),
        source,
        follow: section.follow,
    })
}

/// A name is one line of a label, and none is empty.
fn check_name(path: &str, key: &str, name: &str) -> Result<()> {
    if !name.is_empty() && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Config,
        "config.bad_value",
        format!("[{path}] `{key}`: {name:?} names nothing"),
    )
    .hint("`docker compose ls` shows the names of projects, `docker compose ps` those of services"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ComposeConfig> {
        let site = format!(
            "[site]\nname = 'x'\nstate = 's'\n[stores]\n[components]\n[platform]\nkind = 'compose'\n{text}"
        );
        ComposeConfig::read(&SiteConfig::from_toml(&site).unwrap(), Path::new("/base"))
    }

    #[test]
    fn names_are_the_keys_unless_given() {
        let config = read(
            "socket = 'd.sock'\nproject = 'shop'\n[services.web]\n[services.db]\nname = 'postgres'\nproject = 'data'\nport = 5432\n[services.cron]\nstart = ['x']\nstop = ['x']\nstatus = ['x']\n[volumes.data]\n[volumes.logs]\nname = 'all_logs'\nexternal = true\n[volumes.conf]\npath = 'conf'\n",
        )
        .unwrap();
        assert_eq!(config.socket, Path::new("/base/d.sock"));
        let name = |project: &str, service: &str| ComposeName {
            project: project.to_owned(),
            service: service.to_owned(),
        };
        let names: Vec<_> = config.services.iter().map(|it| it.name.clone()).collect();
        assert_eq!(names, [name("shop", "web"), name("data", "postgres")]);
        assert_eq!(config.order, ["web", "db", "cron"]);
        let sources: Vec<_> = config.volumes.into_iter().map(|it| it.source).collect();
        assert_eq!(
            sources,
            [
                VolumeSource::Named {
                    project: Some("shop".to_owned()),
                    name: "data".to_owned()
                },
                VolumeSource::External("all_logs".to_owned()),
                VolumeSource::Directory("/base/conf".into()),
            ]
        );
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        for (text, says) in [
            ("sockt = 'x'", "`sockt`"),
            ("[services.x]", "needs the key `project`"),
            ("project = ''", "names nothing"),
            (
                "project = 'p'\n[services.x]\nname = \"a\\nb\"",
                "names nothing",
            ),
            ("project = 'p'\n[services.x]\nready = 'soon'", "soon"),
            ("project = 'p'\n[services.x]\ncommand = ['x']", "`command`"),
            ("[volumes.x]\npth = 'x'", "`pth`"),
            ("[volumes.x]\npath = 'x'\nname = 'y'", "names a directory"),
            (
                "[volumes.x]\nexternal = true\nproject = 'y'",
                "of no `project`",
            ),
            ("[nodes.x]\nendpoint = 'ssh://x'", "only a swarm has nodes"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            assert!(error.message().contains(says), "{text}: {error}");
        }
    }
}
