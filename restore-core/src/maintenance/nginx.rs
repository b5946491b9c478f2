//! Maintenance mode by nginx: a file in a directory that it includes first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::page;
use super::page::PageText;
use super::page_probe::{NotShown, PageProbe, PublishedPorts, ports};
use super::parse::Config;
use super::tool::Tool;
use crate::contract::{Maintenance, Platform, Program, Readiness, Table, parse_section};
use crate::model::{Error, ErrorKind, FILE_NAME, Finding, Result, RunId, Timestamp};
use crate::sys::durable::{self, Access};
use crate::sys::{check_ancestors, read_small};

/// What a new file is called until it is whole: nginx's `*.conf` does not take it in.
const NEW: &str = ".00-restore-maintenance.new";

/// Our file is not nearly as long.
const LONGEST: u64 = 4 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    service: Option<String>,
    conf_dir: PathBuf,
    #[serde(default)]
    shared: bool,
    #[serde(default)]
    follow: bool,
    test: Option<Vec<String>>,
    reload: Option<Vec<String>>,
    dump: Option<Vec<String>>,
    probe: Option<Vec<String>>,
    title: Option<String>,
    message: Option<String>,
}

/// `[maintenance] kind = "nginx"`.
pub(crate) struct Nginx {
    tool: Tool,
    conf_dir: PathBuf,
    /// The site says that all nodes have that directory from one file system.
    shared: bool,
    /// It may be used wherever its path leads.
    follow: bool,
    test: Vec<String>,
    reload: Vec<String>,
    dump: Vec<String>,
    probe: Vec<String>,
    words: PageText,
}

impl Nginx {
    pub(crate) fn new(table: Table, platform: Arc<dyn Platform>, base: &Path) -> Result<Self> {
        let section: Section = parse_section("maintenance", table)?;
        let or = |given: Option<Vec<String>>, usual: &[&str]| {
            given.unwrap_or_else(|| usual.iter().map(|word| (*word).to_owned()).collect())
        };
        let probe = or(section.probe, &["127.0.0.1"]);
        if probe.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "config.bad_value",
                "[maintenance] `probe` must name an address at which to prove that users are turned away",
            ));
        }
        Ok(Self {
            conf_dir: base.join(section.conf_dir),
            shared: section.shared,
            follow: section.follow,
            test: or(section.test, &["nginx", "-t"]),
            reload: or(section.reload, &["nginx", "-s", "reload"]),
            dump: or(section.dump, &["nginx", "-T"]),
            probe,
            words: PageText::new(section.title, section.message)?,
            tool: Tool {
                platform,
                service: section.service,
            },
        })
    }

    fn file(&self) -> PathBuf {
        self.conf_dir.join(FILE_NAME)
    }

    /// nginx's configuration as it is on disk now.
    async fn config(&self) -> Result<Config> {
        let said = self
            .tool
            .run_checked(&self.dump, "maintenance.config_broken")
            .await
            .map_err(|e| {
                e.hint("nginx does not accept its own configuration: fix that first (nginx -t)")
            })?;
        let seen = match &self.tool.service {
            Some(service) => self.tool.platform.path_in(service, &self.conf_dir).await?,
            None => Some(self.conf_dir.clone()),
        };
        let known = seen.is_some();
        let dir = seen.unwrap_or_else(|| self.conf_dir.clone());
        blocking(move || {
            let mut config = Config::parse(&said.stdout, &dir);
            if !known {
                // Under which name nginx sees our directory cannot be told from here: the proof
                // has to tell.
                config.before_ours = Some(0);
            }
            Ok(config)
        })
        .await
    }

    /// As `config`, also where a file left over from another run is what is wrong with it.
    async fn config_without_leftovers(&self) -> Result<Config> {
        match self.config().await {
            Err(_) if self.read().await?.is_some() => {
                self.remove().await?;
                self.config().await
            }
            other => other,
        }
    }

    /// Why nginx would not let our file win, where that can be told.
    fn in_the_way(&self, config: &Config) -> Option<Error> {
        let dir = self.conf_dir.display();
        let Some(before) = config.before_ours else {
            return Some(
                Error::new(
                    ErrorKind::Preflight,
                    "maintenance.not_included",
                    format!("nginx does not read *.conf in {dir} inside its http block"),
                )
                .hint(format!(
                    "add `include {dir}/*.conf;` at the top of http, or correct conf_dir"
                )),
            );
        };
        let shared = config
            .servers
            .iter()
            .take(before)
            .find_map(|server| Some((server, &server.listens.first()?.0)));
        shared.map(|(server, place)| {
            let name = server.names.first().map_or("without a name", String::as_str);
            Error::new(
                ErrorKind::Preflight,
                "maintenance.order",
                format!(
                    "nginx reads the server {name} on {place} before {dir}/{FILE_NAME}, so its users would not be turned away"
                ),
            )
            .hint(format!(
                "include {dir}/*.conf before other servers, and rename files there that sort before {FILE_NAME}"
            ))
        })
    }

    async fn read(&self) -> Result<Option<String>> {
        let path = self.file();
        let at = path.clone();
        match blocking(move || Ok(read_small(&at, LONGEST))).await? {
            Ok(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(format!("read {}", path.display()), e)),
        }
    }

    async fn write(&self, text: String) -> Result<()> {
        let (dir, follow) = (self.conf_dir.clone(), self.follow);
        blocking(move || {
            check_ancestors(&dir.join(FILE_NAME), follow)?;
            put(&dir, &text)
        })
        .await
    }

    async fn remove(&self) -> Result<()> {
        let dir = self.conf_dir.clone();
        blocking(move || take_away(&dir)).await
    }

    async fn test(&self) -> Result<()> {
        self.tool
            .run_checked_in_each(&self.test, "maintenance.test_failed")
            .await
    }

    async fn reload(&self) -> Result<()> {
        self.tool
            .run_checked_in_each(&self.reload, "maintenance.reload_failed")
            .await
            .map_err(|e| e.hint("does nginx run?"))
    }

    async fn put_up(&self, config: &Config, run: &RunId, since: Timestamp) -> Result<()> {
        let text = page::file(&config.servers, &self.words, run, since);
        self.write(text).await?;
        self.test().await.map_err(|e| {
            e.context("nginx refuses the maintenance page")
                .hint("users are served as before; see what nginx says about it")
        })?;
        self.reload().await?;
        self.proof(config, run).await?.shown(run).await
    }

    async fn take_down(&self, config: &Config, run: &RunId) -> Result<()> {
        self.remove().await?;
        self.test().await?;
        self.reload().await?;
        self.proof(config, run).await?.gone().await
    }

    /// What is asked from outside, where users come in.
    async fn proof(&self, config: &Config, run: &RunId) -> Result<PageProbe> {
        let mut doors = PublishedPorts::default();
        if let Some(service) = &self.tool.service {
            for port in ports(&config.servers) {
                let found = self.tool.platform.published(service, port).await?;
                doors.insert(port, found);
            }
        }
        PageProbe::new(&config.servers, &self.probe, &doors, run)
    }

    /// Whether users see no page of ours, although nginx refuses its configuration.
    async fn is_gone(&self, run: &RunId) -> bool {
        if !self.runs().await {
            return true;
        }
        // Without its configuration nobody knows where to ask.
        let Ok(config) = self.config().await else {
            return false;
        };
        match self.proof(&config, run).await {
            Ok(proof) => proof.gone().await.is_ok(),
            Err(_) => false,
        }
    }

    async fn runs(&self) -> bool {
        match &self.tool.service {
            Some(service) => {
                let state = self.tool.platform.service(service).await;
                state.is_ok_and(|state| state.running > 0)
            }
            None => true,
        }
    }

    /// What is said of an nginx on other nodes, which reads no file that is only on this host. The
    /// proof would find it too, but only once users are to be turned away.
    async fn out_of_reach(&self) -> Result<Option<Finding>> {
        let (Some(service), Some(nodes)) = (&self.tool.service, self.tool.platform.nodes()) else {
            return Ok(None);
        };
        if self.shared {
            return Ok(None);
        }
        let names = nodes.besides(service).await?;
        if names.is_empty() {
            return Ok(None);
        }
        let (dir, names) = (self.conf_dir.display(), names.join(" and "));
        let found = Finding::error(
            "maintenance.elsewhere",
            "maintenance",
            format!(
                "{service} runs on {names}, where it would not read a page that is put in {dir} of this host: its users would not be turned away"
            ),
        );
        Ok(Some(found.hint(format!(
            "keep {service} on this host's node (a placement constraint); or, where {dir} is of a file system that all its nodes mount there, say shared = true in [maintenance]"
        ))))
    }

    async fn look(&self, findings: &mut Vec<Finding>) -> Result<()> {
        if let Some(text) = self.read().await? {
            let run = text
                .lines()
                .next()
                .and_then(|line| line.split("run ").nth(1)?.split(',').next())
                .unwrap_or("unknown");
            findings.push(
                Finding::warning(
                    "maintenance.leftover",
                    "maintenance",
                    format!(
                        "{} is there, put up by hand (`restore page on`) or by a run, with the reference {run}: users may be turned away already",
                        self.file().display()
                    ),
                )
                .hint("where `restore history` knows an unfinished run of that id, finish it with `restore resume` or `restore rollback`; else `restore page off` takes the page down"),
            );
        }
        findings.extend(self.out_of_reach().await?);
        let config = self.config().await?;
        self.test().await?;
        if let Some(error) = self.in_the_way(&config) {
            findings.push(Finding::from_error("maintenance", &error));
        }
        if config.servers.is_empty() {
            findings.push(
                Finding::error(
                    "maintenance.no_servers",
                    "maintenance",
                    "nginx has no servers: there is nobody whom it could turn away",
                )
                .hint("is it the nginx that users reach? --no-maintenance restores without a page"),
            );
        }
        if !config.streams.is_empty() {
            findings.push(Finding::warning(
                "maintenance.streams",
                "maintenance",
                format!(
                    "nginx passes TCP or UDP through at {}: a page cannot turn those users away",
                    config.streams.join(", ")
                ),
            ));
        }
        let proof = self.proof(&config, &RunId::generate()).await?;
        let silent = proof.unreachable().await;
        if !silent.is_empty() {
            findings.push(
                Finding::error(
                    "maintenance.unreachable",
                    "maintenance",
                    format!(
                        "nobody answers at {}, so it could not be proven that users are turned away",
                        silent.join(", ")
                    ),
                )
                .hint("start nginx, or name addresses in `probe` at which it can be reached from here"),
            );
        }
        Ok(())
    }
}

#[async_trait]
impl Maintenance for Nginx {
    async fn inspect(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let (dir, follow) = (self.conf_dir.clone(), self.follow);
        let usable = blocking(move || Ok(usable(&dir, follow))).await?;
        if let Err(error) = usable {
            findings.push(Finding::from_error("maintenance", &error));
            return Ok(findings);
        }
        if let Err(error) = self.look(&mut findings).await {
            findings.push(Finding::from_error("maintenance", &error));
        }
        Ok(findings)
    }

    fn programs(&self) -> Vec<Program> {
        let service = self.tool.service.as_deref();
        let named = |key: &str, words: &[String]| {
            Program::of(format!("{key} of [maintenance]"), service, words)
        };
        let named = [
            named("test", &self.test),
            named("reload", &self.reload),
            named("dump", &self.dump),
        ];
        named.into_iter().flatten().collect()
    }

    fn reads(&self) -> Vec<PathBuf> {
        let main = self.conf_dir.parent().map(|it| it.join("nginx.conf"));
        main.into_iter().chain([self.conf_dir.clone()]).collect()
    }

    async fn readiness(&self) -> Readiness {
        if let Some(service) = &self.tool.service {
            let state = self.tool.platform.service(service).await;
            let service = service.clone();
            match state {
                Ok(state) if state.running == 0 => return Readiness::Down { service },
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let why = error.message().to_owned();
                    return Readiness::Absent { service, why };
                }
                _ => {}
            }
        }
        match self.config().await {
            Ok(_) => Readiness::Ready,
            Err(error) => Readiness::Broken {
                why: error.message().to_owned(),
            },
        }
    }

    fn section(&self) -> Option<Table> {
        let conf_dir = std::path::absolute(&self.conf_dir).ok()?;
        let section = json!({
            "kind": "nginx",
            "conf_dir": conf_dir.to_str()?,
            "shared": self.shared,
            "follow": self.follow,
            "test": self.test,
            "reload": self.reload,
            "dump": self.dump,
            "probe": self.probe,
        });
        let Value::Object(mut section) = section else {
            return None;
        };
        if let Some(service) = &self.tool.service {
            section.insert("service".to_owned(), json!(service));
        }
        Some(section)
    }

    async fn on(&self, run: &RunId, since: Timestamp) -> Result<()> {
        let (dir, follow) = (self.conf_dir.clone(), self.follow);
        blocking(move || usable(&dir, follow)).await?;
        let config = self.config_without_leftovers().await?;
        if config.servers.is_empty() {
            return Err(Error::new(
                ErrorKind::Preflight,
                "maintenance.no_servers",
                "nginx has no servers: there is nobody whom it could turn away",
            )
            .hint("is it the nginx that users reach? --no-maintenance restores without a page"));
        }
        let Err(error) = self.put_up(&config, run, since).await else {
            return Ok(());
        };
        // Which servers are in the way says more than which host they answered.
        let error = match self.in_the_way(&config) {
            Some(cause) if error.is(&NotShown) => cause.source(error),
            _ => error,
        };
        match self.take_down(&config, run).await {
            Ok(()) => Err(error),
            Err(also) => {
                let hint = error.hint_text().unwrap_or_default().to_owned();
                let hint = match hint.is_empty() {
                    true => String::new(),
                    false => format!("{hint}; "),
                };
                Err(error.hint(format!(
                    "{hint}the page could not be taken away wholly either ({also}): `restore page off` tries again"
                )))
            }
        }
    }

    async fn off(&self, run: &RunId) -> Result<()> {
        let before = self.read().await?;
        self.remove().await?;
        if let Err(error) = self.test().await {
            let why = match before {
                // What a restart would make of this configuration is worse than the page.
                Some(text) => {
                    self.write(text).await?;
                    "users stay turned away: nginx refuses its configuration without the page"
                }
                // Nothing to lift, where users see no page: what else is wrong with the
                // configuration is not for us to hold a run up for.
                None if self.is_gone(run).await => return Ok(()),
                None => {
                    "there is no file of a page, and users may still be shown one: nginx refuses its configuration"
                }
            };
            return Err(error
                .context(why)
                .hint("mend what nginx names (nginx -t shows it again), then try again"));
        }
        if let Err(error) = self.reload().await {
            // Down already: it will start without the page.
            return if self.runs().await {
                Err(error)
            } else {
                Ok(())
            };
        }
        let config = self.config().await?;
        let gone = self.proof(&config, run).await?.gone().await;
        match before {
            Some(_) => gone,
            None => gone.map_err(|error| {
                error.hint(format!(
                    "there was no {FILE_NAME} in {}: where conf_dir was another when the page went up, delete the file there and reload nginx; else see nginx's error log: did it refuse the reload?",
                    self.conf_dir.display()
                ))
            }),
        }
    }
}

/// Writes our file: whole and durable, or not at all.
fn put(dir: &Path, text: &str) -> Result<()> {
    let path = dir.join(FILE_NAME);
    // Each replica reads it, as whatever user it runs.
    let access = Access {
        mode: 0o644,
        owner: None,
    };
    durable::replace(&path, &dir.join(NEW), access, text)
        .map_err(|e| Error::io(format!("write {}", path.display()), e))
}

/// Removes our file, durably: a page that a power cut brings back would turn users away.
fn take_away(dir: &Path) -> Result<()> {
    let path = dir.join(FILE_NAME);
    durable::remove(&path).map_err(|e| Error::io(format!("remove {}", path.display()), e))
}

/// Whether our file could be written.
fn usable(dir: &Path, follow: bool) -> Result<()> {
    // Whoever owns it could have root write elsewhere, and nginx obey anything.
    check_ancestors(&dir.join(FILE_NAME), follow)?;
    let bad = |why: String| {
        Error::new(
            ErrorKind::Preflight,
            "maintenance.conf_dir",
            format!("conf_dir {} {why}", dir.display()),
        )
        .hint("name the directory that nginx includes first, and run as a user who may write there; --no-maintenance restores without a page")
    };
    match std::fs::metadata(dir) {
        Ok(meta) if !meta.is_dir() => Err(bad("is not a directory".to_owned())),
        Ok(_) => rustix::fs::access(dir, rustix::fs::Access::WRITE_OK)
            .map_err(|e| bad(format!("cannot be written: {e}"))),
        Err(e) => Err(bad(format!("cannot be opened: {e}"))),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::new(
            ErrorKind::Internal,
            "maintenance.task",
            format!("a task of the maintenance mode broke off: {e}"),
        )),
    }
}
