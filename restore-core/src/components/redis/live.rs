//! The live server: what it says of itself, or what its files say where it does not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client::{Client, Info, Module, Refusal};
use super::data::{DataLayout, Mode, Product, major_minor};
use super::remote_task::{LiveFiles, Order};
use super::{Redis, holders};
use crate::contract::Volume;
use crate::model::{Error, ErrorKind, Finding, Result};
use crate::sys::{connect, trust};

/// How long a server at work may take for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was learned about the live server.
pub(super) struct Live {
    /// Its own words; `None` where it does not answer.
    pub(super) info: Option<Info>,
    pub(super) layout: DataLayout,
    pub(super) databases: u64,
    pub(super) dir: Option<String>,
    pub(super) maxmemory: Option<u64>,
    /// Whether it writes timestamps into its append-only file; `None` where it does not say.
    pub(super) timestamps: Option<bool>,
    pub(super) modules: Vec<Module>,
    pub(super) findings: Vec<Finding>,
}

impl Live {
    /// What it is, where it says so. Valkey also says which Redis it is like.
    pub(super) fn product(&self) -> Option<Product> {
        if let Some(version) = self.info.as_ref()?.text("valkey_version") {
            let (major, minor) = major_minor(version)?;
            return Some(Product::Valkey(major, minor));
        }
        let (major, minor) = major_minor(self.version()?)?;
        Some(Product::Redis(major, minor))
    }

    /// How many keys it has, in all databases; none where it does not answer.
    pub(super) fn keys(&self) -> u64 {
        let keyspace = self.info.as_ref().map(Info::keyspace).unwrap_or_default();
        let counts = keyspace.values().map(|it| it.keys);
        counts.fold(0, u64::saturating_add)
    }

    /// What it is and its version: that of Redis, which Valkey says too, is the one that it is like.
    pub(super) fn own_version(&self) -> Option<(&'static str, &str)> {
        let valkey = self.info.as_ref()?.text("valkey_version");
        let of_redis = || Some(("Redis", self.version()?));
        valkey.map(|version| ("Valkey", version)).or_else(of_redis)
    }

    /// The version of Redis that it says it has, or is like.
    pub(super) fn version(&self) -> Option<&str> {
        self.info.as_ref()?.text("redis_version")
    }
}

impl Redis {
    /// A client of the live server.
    pub(super) async fn client(&self) -> Result<Client> {
        self.patient_client(PATIENCE).await
    }

    /// A client of the live server, with so much time for one answer.
    pub(super) async fn patient_client(&self, patience: Duration) -> Result<Client> {
        let endpoint = self.platform.endpoint(&self.section.service).await?;
        let what = if endpoint.host.starts_with('/') {
            format!("redis at {}", endpoint.host)
        } else {
            format!("redis at {}:{}", endpoint.host, endpoint.port)
        };
        let server = connect::Redis {
            endpoint,
            username: self.section.username.clone(),
            password: self.section.password().read()?,
            tls: self.section.transport.clone(),
            patience,
        };
        Ok(Client::new(server, what))
    }

    /// What [`ask_server`](Self::ask_server) says, and which files the server loads.
    pub(super) async fn look(&self, volume: &dyn Volume) -> Result<Live> {
        let (mut live, appendonly) = self.ask_server().await?;
        live.layout.mode = self.mode(appendonly, volume, &mut live).await?;
        Ok(live)
    }

    /// Asks the live server, and whether it is at work with `appendonly`. That it is down, or does not tell everything, are findings; that it
    /// does not let us in is one that stops the run: the restored data could not be checked.
    pub(super) async fn ask_server(&self) -> Result<(Live, Option<bool>)> {
        let mut live = Live {
            info: None,
            layout: DataLayout::default(),
            databases: 16,
            dir: None,
            maxmemory: None,
            timestamps: None,
            modules: Vec::new(),
            findings: Vec::new(),
        };
        let mut appendonly = None;
        let asked = async {
            let client = self.client().await?;
            let info = client.info().await?;
            Ok::<_, Error>((client, info))
        };
        match asked.await {
            Ok((client, info)) => {
                appendonly = info.number("aof_enabled").map(|on| on == 1);
                live.maxmemory = info.number("maxmemory");
                self.role(&info, &mut live.findings);
                live.info = Some(info);
                self.settings(&client, &mut live, &mut appendonly).await?;
            }
            Err(e) if matches!(e.kind(), ErrorKind::Config | ErrorKind::NotFound) => return Err(e),
            Err(e) if e.is(&Refusal::Auth) || e.is(&Refusal::Permission) => {
                live.findings.push(Finding::from_error(&self.name, &e));
            }
            Err(e) => {
                let finding = self.silent(&e).await?;
                live.findings.push(finding);
            }
        }
        live.layout = live.layout.checked()?;
        Ok((live, appendonly))
    }

    /// A server that does not answer: one that is down can be restored, one that runs cannot be made to write what it holds before
    /// it is stopped, nor be asked what it has loaded.
    async fn silent(&self, error: &Error) -> Result<Finding> {
        let service = &self.section.service;
        let running = self.platform.service(service).await?.running > 0;
        if !running {
            return Ok(Finding::warning("redis.down", &self.name, error.message())
                .hint("its version and its settings cannot be compared with the backup's"));
        }
        Ok(Finding::error(
            "redis.silent",
            &self.name,
            format!("the service {service} runs, but does not answer: {}", error.message()),
        )
        .hint(format!(
            "correct the endpoint of [services.{service}] (a server that speaks TLS only needs a plain port or a unix socket as well). If the server hangs, stop it, which loses what it has not written, and plan again"
        )))
    }

    /// Refuses servers whose data is not their own.
    fn role(&self, info: &Info, findings: &mut Vec<Finding>) {
        if info.text("role") == Some("slave") {
            let master = info.text("master_host").unwrap_or("?");
            findings.push(
                Finding::error(
                    "redis.replica",
                    &self.name,
                    format!("the server is a replica of {master}: whatever is restored into it would be replaced by the master's data"),
                )
                .hint("restore the master"),
            );
        }
        if let Some(replicas @ 1..) = info.number("connected_slaves") {
            findings.push(
                Finding::warning(
                    "redis.has_replicas",
                    &self.name,
                    format!("{replicas} replicas follow the server: a failover while it is down makes one of them the master, and what is restored would be discarded"),
                )
                .hint("stop what promotes them (Sentinel) until the run is confirmed: replicas that stay replicas take what is restored from the server"),
            );
        }
        if info.number("cluster_enabled") == Some(1) {
            findings.push(Finding::error(
                "redis.cluster",
                &self.name,
                "the server is a node of a Redis Cluster, whose data is spread over several",
            )
            .hint("restore the cluster by its own means, and leave this component out with --only"));
        }
    }

    async fn settings(
        &self,
        client: &Client,
        live: &mut Live,
        appendonly: &mut Option<bool>,
    ) -> Result<()> {
        const NAMES: [&str; 8] = [
            "dir",
            "dbfilename",
            "appendonly",
            "appendfilename",
            "appenddirname",
            "databases",
            "maxmemory",
            "aof-timestamp-enabled",
        ];
        let mut found = BTreeMap::new();
        for name in NAMES {
            match client.setting(name).await {
                Ok(Some(value)) => {
                    found.insert(name, value);
                }
                Ok(None) => {}
                Err(e) if e.is(&Refusal::Unreachable) => return Err(e),
                Err(e) => {
                    live.findings.push(
                        Finding::warning(
                            "redis.settings_refused",
                            &self.name,
                            format!("its settings cannot be read ({e}): the usual file names and 16 databases are assumed"),
                        )
                        .hint("let the user call CONFIG GET"),
                    );
                    break;
                }
            }
        }
        let take = |name: &str, slot: &mut String| {
            if let Some(value) = found.get(name) {
                slot.clone_from(value);
            }
        };
        take("dbfilename", &mut live.layout.dbfilename);
        take("appendfilename", &mut live.layout.appendfilename);
        take("appenddirname", &mut live.layout.appenddirname);
        if let Some(value) = found.get("appendonly") {
            *appendonly = Some(value == "yes");
        }
        if let Some(value) = found.get("databases").and_then(|v| v.parse().ok()) {
            live.databases = value;
        }
        if let Some(value) = found.get("maxmemory").and_then(|v| v.parse().ok()) {
            live.maxmemory = Some(value);
        }
        live.timestamps = found.get("aof-timestamp-enabled").map(|it| it == "yes");
        live.dir = found.remove("dir");
        match client.modules().await {
            Ok(modules) => live.modules = modules,
            Err(e) => live.findings.push(Finding::info(
                "redis.modules_unknown",
                &self.name,
                format!("its modules cannot be listed ({e})"),
            )),
        }
        Ok(())
    }

    /// The server's modules that a scratch server loads, and what is told of the others. Their paths are what
    /// somebody says who answers at the server's endpoint: that may be any user of the host who has its port.
    pub(super) async fn loadable(&self, modules: &[Module]) -> (Vec<Module>, Option<Finding>) {
        let (mut loadable, mut others) = (Vec::new(), Vec::new());
        for module in modules {
            let Some(path) = module.path.as_deref().map(Path::new) else {
                continue;
            };
            let service = self.section.service.as_str();
            let seen = self.platform.path_in(service, path).await.ok().flatten();
            match may_load(&self.section.modules, path, seen.as_deref()) {
                true => loadable.push(module.clone()),
                false => others.push(format!("{:?}", path.display().to_string())),
            }
        }
        let finding = (!others.is_empty()).then(|| {
            let others = others.join(", ");
            Finding::warning(
                "redis.modules_untrusted",
                &self.name,
                format!(
                    "the server says that it has loaded {others}; others than root could have put that there, or nobody can tell from here: the scratch server that proves the data goes without, and refuses data that needs it"
                ),
            )
            .hint(format!(
                "where it is the server's own, allow it in the component's section: modules = [{others}]; else let it and each folder above be root's, with nobody else able to write there"
            ))
        });
        (loadable, finding)
    }

    /// Which files the server will load. What it says now comes first, then what the site says;
    /// without either both kinds are staged, so that whichever it loads is the backup's data.
    async fn mode(&self, says: Option<bool>, volume: &dyn Volume, live: &mut Live) -> Result<Mode> {
        let of = |on| if on { Mode::On } else { Mode::Off };
        let layout = live.layout.clone();
        let look = self.ask(volume, Order::Look { layout });
        Ok(match (says, self.section.appendonly) {
            (Some(says), site) => {
                if site.is_some_and(|site| site != says) {
                    let now = if says { "yes" } else { "no" };
                    live.findings.push(
                        Finding::warning(
                            "redis.appendonly_differs",
                            &self.name,
                            format!("the server runs with appendonly {now}, the site says otherwise: both kinds of file are staged"),
                        )
                        .hint("settings changed with CONFIG SET are lost when the server stops"),
                    );
                    return Ok(Mode::Unknown);
                }
                let started = match &live.info {
                    Some(info) if site.is_none() => self.starts_with_aof(info, volume).await,
                    _ => None,
                };
                if let Some(starts) = started.filter(|starts| *starts != says) {
                    let word = |on| if on { "yes" } else { "no" };
                    live.findings.push(
                        Finding::warning(
                            "redis.appendonly_differs",
                            &self.name,
                            format!(
                                "the server runs with appendonly {}, its configuration file says {}: both kinds of file are staged",
                                word(says),
                                word(starts)
                            ),
                        )
                        .hint("settings changed with CONFIG SET are lost when the server stops; CONFIG REWRITE keeps them"),
                    );
                    return Ok(Mode::Unknown);
                }
                // What an append-only file left behind is never loaded where both the server and whoever starts it say
                // that it keeps none.
                let settled = !says && (site == Some(false) || started == Some(false));
                if !settled && let Some(other) = contradicts(says, look.await?, live) {
                    live.findings.push(
                        Finding::warning("redis.appendonly_differs", &self.name, other).hint(
                            "settings changed with CONFIG SET are lost when the server stops",
                        ),
                    );
                    return Ok(Mode::Unknown);
                }
                of(says)
            }
            (None, Some(site)) => of(site),
            (None, None) => {
                let there: LiveFiles = look.await?;
                let seen = if there.folder { "is an" } else { "is no" };
                live.findings.push(
                    Finding::warning(
                        "redis.appendonly_unknown",
                        &self.name,
                        format!("whether it starts with appendonly cannot be asked (there {seen} {} in its directory): both kinds of file are staged", live.layout.appenddirname),
                    )
                    .hint("say appendonly = true or false in the component's section"),
                );
                Mode::Unknown
            }
        })
    }

    /// Whether the server's own directory is the volume: `Some(finding)` where it is another, or
    /// where that cannot be told.
    pub(super) async fn directory(
        &self,
        live: &Live,
        volume: &dyn Volume,
    ) -> Result<Option<Finding>> {
        let Some(dir) = live.dir.as_deref() else {
            return Ok(None);
        };
        let (service, name) = (&self.section.service, &self.section.volume);
        if volume.path().is_some_and(|path| !path.is_dir()) {
            return Ok(Some(
                Finding::error(
                    "redis.directory_gone",
                    &self.name,
                    format!(
                        "{service} runs, and {} is gone: what it holds is in its memory, or in {dir}",
                        volume.describe()
                    ),
                )
                .hint(format!(
                    "put the directory back where it was; or, where what {service} holds may be lost, stop it and run this again"
                )),
            ));
        }
        let seen = self.platform.volume_in(service, name).await?;
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let same = match (volume.path(), seen) {
            (None, None) => return Ok(None),
            // Names of another machine: what they lead to there is not known here.
            (None, Some(seen)) => seen == Path::new(dir.trim_end_matches('/')),
            (Some(path), seen) => {
                real(Path::new(dir)) == real(&path)
                    || seen.is_some_and(|seen| real(&seen) == real(Path::new(dir)))
            }
        };
        Ok((!same).then(|| {
            Finding::error(
                "redis.other_directory",
                &self.name,
                format!(
                    "the server's directory is {dir}, but the volume {} is {}: it would never load what is restored there",
                    self.section.volume,
                    volume.describe()
                ),
            )
            .hint("name the volume that holds the server's `dir`")
        }))
    }

    /// Refuses while a server may still be at work on the volume: it would write its own data
    /// over the restored one when it ends.
    pub(super) async fn ensure_down(&self, volume: &dyn Volume) -> Result<()> {
        let up = |what: String| {
            Error::new(
                ErrorKind::Failed,
                "redis.still_up",
                format!("{what}; it would write its data over what is put in place"),
            )
            .hint(format!(
                "stop the service {} and try again",
                self.section.service
            ))
        };
        let state = self.platform.service(&self.section.service).await?;
        if state.running > 0 {
            return Err(up(format!("{} still runs ({})", state.name, state.detail)));
        }
        // A service that is down may have no endpoint any more: then nothing can answer there.
        if let Ok(endpoint) = self.platform.endpoint(&self.section.service).await
            && answers(&endpoint).await
        {
            return Err(up(format!(
                "something still accepts connections at {}:{}",
                endpoint.host, endpoint.port
            )));
        }
        let holder = match volume.path() {
            Some(path) => {
                let holders = super::blocking(move || Ok(holders::servers_in(&path))).await?;
                holders.into_iter().next()
            }
            None => {
                let programs = self.platform.at_work_on(&self.section.volume).await?;
                programs.into_iter().find(|it| holders::is_server(it))
            }
        };
        if let Some(holder) = holder {
            return Err(up(format!("{holder} still works in {}", volume.describe())));
        }
        Ok(())
    }
}

/// Whether a scratch server loads this file, which it has at the path `seen` where it has one of this host.
fn may_load(named: &[PathBuf], path: &Path, seen: Option<&Path>) -> bool {
    let is_named = named.iter().any(|it| it == path);
    is_named || (seen == Some(path) && trust::is_ours(path))
}

/// How the files in the server's directory speak against what it says of appendonly.
fn contradicts(says: bool, seen: LiveFiles, live: &Live) -> Option<String> {
    let folder = &live.layout.appenddirname;
    if !seen.directory {
        return None;
    }
    // Before version 7 it was one file.
    let there = seen.manifest || (says && seen.single);
    let (now, seen) = match (says, there) {
        (true, true) | (false, false) => return None,
        (true, false) => ("yes", "is no"),
        (false, true) => ("no", "is a"),
    };
    Some(format!(
        "the server runs with appendonly {now}, but there {seen} manifest in {folder} of its directory: both kinds of file are staged"
    ))
}

/// Whether anything accepts a connection there.
async fn answers(endpoint: &crate::model::Endpoint) -> bool {
    let connecting = connect::accepts_redis(endpoint);
    tokio::time::timeout(Duration::from_secs(5), connecting)
        .await
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_module_is_loaded_where_nobody_else_could_put_it_or_where_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(dir.path(), mode).unwrap();
        };
        mode(0o755);
        let path = dir.path().join("x.so");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(may_load(&[], &path, Some(&path)));
        // One in a container: the file of that name on this host is another.
        assert!(!may_load(&[], &path, None));
        assert!(!may_load(&[], &path, Some(Path::new("/modules/x.so"))));
        mode(0o777);
        assert!(!may_load(&[], &path, Some(&path)));
        assert!(!may_load(&[dir.path().join("y.so")], &path, Some(&path)));
        assert!(may_load(std::slice::from_ref(&path), &path, Some(&path)));
        assert!(may_load(std::slice::from_ref(&path), &path, None));
    }
}
