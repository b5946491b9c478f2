//! Maintenance mode by two commands of the site's own, for web servers that no other kind knows: it is proven by
//! what users are answered.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hyper::{Method, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::tool::Tool;
use crate::checks::client::{HttpProbe, HttpResponse, ProbeError, ask};
use crate::contract::{Maintenance, Platform, Program, Readiness, Table, parse_section};
use crate::model::{Error, ErrorKind, Finding, Result, RunId, Timestamp};
use crate::sys::connect::unverified;

/// A container is started and a proxy has noticed it within this time, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than that no answer is waited for.
const ANSWER: Duration = Duration::from_secs(2);

/// While a proxy changes over, one proof in a row may be luck.
const IN_A_ROW: u32 = 4;

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    service: Option<String>,
    on: Vec<String>,
    off: Vec<String>,
    urls: Vec<String>,
    hosts: Option<Vec<String>>,
    shows: String,
}

/// `[maintenance] kind = "command"`.
pub(crate) struct CommandPage {
    tool: Tool,
    on: Vec<String>,
    off: Vec<String>,
    urls: Vec<String>,
    hosts: Vec<String>,
    shows: String,
    doors: Vec<Door>,
}

/// Where users come in, and with which name.
struct Door {
    address: String,
    port: u16,
    tls: bool,
    path: String,
    host: String,
    /// In words.
    shown: String,
}

impl Door {
    fn of(url: &str, host: Option<&str>) -> Result<Self> {
        let bad = |why: &str| bad_value(&format!("`urls` has {url:?}, which {why}"));
        let uri: Uri = url.parse().map_err(|_| bad("is no address"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("is neither http nor https")),
        };
        let authority = uri.authority().ok_or_else(|| bad("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("holds a user or password"));
        }
        let shown = match host {
            Some(host) => format!("{url} for the host {host}"),
            None => url.to_owned(),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            address: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            tls,
            path: path.to_owned(),
            host: host.unwrap_or(authority.as_str()).to_owned(),
            shown,
        })
    }

    async fn ask(&self) -> Result<Answer> {
        let tls = match self.tls {
            true => {
                let name = match self.host.rsplit_once(':') {
                    Some((name, port)) if port.bytes().all(|it| it.is_ascii_digit()) => name,
                    _ => self.host.as_str(),
                };
                Some((unverified()?, name.trim_matches(['[', ']']).to_owned()))
            }
            false => None,
        };
        let question = HttpProbe {
            address: self.address.clone(),
            port: self.port,
            tls,
            proxy_protocol: false,
            method: Method::GET,
            path: self.path.clone(),
            host: Some(self.host.clone()),
            posted: None,
        };
        let asked = tokio::time::timeout(ANSWER, ask(&question)).await;
        Ok(asked.unwrap_or_else(|_| Err(ProbeError::NoAnswer(format!("within {ANSWER:?}")))))
    }
}

type Answer = std::result::Result<HttpResponse, ProbeError>;

fn bad_value(why: &str) -> Error {
    Error::new(
        ErrorKind::Config,
        "config.bad_value",
        format!("[maintenance] {why}"),
    )
}

impl CommandPage {
    pub(crate) fn new(table: Table, platform: Arc<dyn Platform>, base: &Path) -> Result<Self> {
        let section: Section = parse_section("maintenance", table)?;
        let (mut on, mut off) = (section.on, section.off);
        for (key, argv) in [("on", &mut on), ("off", &mut off)] {
            let Some(program) = argv.first_mut() else {
                return Err(bad_value(&format!("`{key}` must name a program")));
            };
            // A path of this host is taken from the folder of the file; in a service it is the service's.
            if section.service.is_none() && program.contains('/') {
                *program = base.join(&*program).display().to_string();
            }
        }
        if section.shows.trim().is_empty() {
            return Err(bad_value(
                "`shows` must be a text of the page, by which it is recognised",
            ));
        }
        let hosts = section.hosts.unwrap_or_default();
        let mut doors = Vec::new();
        for url in &section.urls {
            match hosts.is_empty() {
                true => doors.push(Door::of(url, None)?),
                false => {
                    for host in &hosts {
                        doors.push(Door::of(url, Some(host))?);
                    }
                }
            }
        }
        if doors.is_empty() {
            return Err(bad_value(
                "`urls` must name an address at which to prove that users are turned away",
            ));
        }
        Ok(Self {
            tool: Tool {
                platform,
                service: section.service,
            },
            on,
            off,
            urls: section.urls,
            hosts,
            shows: section.shows,
            doors,
        })
    }

    fn is_page(&self, answer: &Answer) -> bool {
        answer.as_ref().is_ok_and(|answer| {
            let body = String::from_utf8_lossy(&answer.body);
            answer.status == 503 && body.contains(&self.shows)
        })
    }

    /// Asks everywhere, round after round, until all answers are the page, or none is, several times in a row. Who
    /// does not answer shows no page. The error says what was left in the last round.
    async fn until(&self, page: bool) -> Result<std::result::Result<(), String>> {
        let deadline = Instant::now() + PATIENCE;
        let mut in_a_row = 0;
        loop {
            let mut left = Vec::new();
            for door in &self.doors {
                let answer = door.ask().await?;
                if self.is_page(&answer) == page {
                    continue;
                }
                left.push(match (page, answer) {
                    (false, _) => format!("{} still shows the page", door.shown),
                    (true, Ok(answer)) => {
                        let status = answer.status.as_u16();
                        format!("{} answers {status} without it", door.shown)
                    }
                    (true, Err(silence)) => format!("{}: {silence}", door.shown),
                });
            }
            if left.is_empty() {
                in_a_row += 1;
                if in_a_row >= IN_A_ROW {
                    return Ok(Ok(()));
                }
            } else if Instant::now() >= deadline {
                return Ok(Err(left.join(", ")));
            } else {
                in_a_row = 0;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn put_up(&self) -> Result<()> {
        self.tool
            .run_checked_in_each(&self.on, "maintenance.on_failed")
            .await
            .map_err(|e| e.hint("run it by hand; --no-maintenance restores without a page"))?;
        self.until(true).await?.map_err(|left| {
            Error::new(
                ErrorKind::Failed,
                "maintenance.page_not_seen",
                format!("users do not see the maintenance page everywhere: {left}"),
            )
            .hint(
                "what `on` of [maintenance] does must have each of `urls` answer 503 with the \
                 text of `shows`; --no-maintenance restores without a page",
            )
        })
    }

    async fn take_down(&self) -> Result<()> {
        let done = self
            .tool
            .run_checked_in_each(&self.off, "maintenance.off_failed")
            .await;
        if let Err(error) = done
            && !self.is_down().await
        {
            return Err(error.hint("run it by hand, then `restore page off`"));
        }
        // Of one that is down nobody answers; whoever else shows the page is found.
        self.until(false).await?.map_err(|left| {
            Error::new(
                ErrorKind::Failed,
                "maintenance.page_still_seen",
                format!("users still see the maintenance page: {left}"),
            )
            .hint("run `off` of [maintenance] by hand, then `restore page off`")
            .retryable()
        })
    }

    /// Whether its service is known not to run. Where nobody can be asked, nothing is known.
    async fn is_down(&self) -> bool {
        let Some(service) = &self.tool.service else {
            return false;
        };
        match self.tool.platform.service(service).await {
            Ok(state) => state.running == 0,
            Err(error) => error.kind() == ErrorKind::NotFound,
        }
    }
}

#[async_trait]
impl Maintenance for CommandPage {
    async fn inspect(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let mut silent = Vec::new();
        for door in &self.doors {
            let answer = door.ask().await?;
            if self.is_page(&answer) {
                findings.push(
                    Finding::warning(
                        "maintenance.page_seen",
                        "maintenance",
                        format!("{} shows the maintenance page already", door.shown),
                    )
                    .hint("where `restore history` knows an unfinished run, finish it with `restore resume` or `restore rollback`; else `restore page off` takes the page down"),
                );
            } else if let Err(ProbeError::Unreachable(why)) = answer {
                silent.push(format!("{} ({why})", door.shown));
            }
        }
        if !silent.is_empty() {
            findings.push(
                Finding::error(
                    "maintenance.nobody_there",
                    "maintenance",
                    format!(
                        "nobody answers at {}, so it could not be proven that users are turned away",
                        silent.join(", ")
                    ),
                )
                .hint("start the web server, or name in `urls` where it can be reached from here; where nobody is served anyway, --no-maintenance restores without a page"),
            );
        }
        Ok(findings)
    }

    fn programs(&self) -> Vec<Program> {
        let service = self.tool.service.as_deref();
        let named = |key: &str, words: &[String]| {
            Program::of(format!("{key} of [maintenance]"), service, words)
        };
        let named = [named("on", &self.on), named("off", &self.off)];
        named.into_iter().flatten().collect()
    }

    async fn readiness(&self) -> Readiness {
        let Some(service) = &self.tool.service else {
            return Readiness::Ready;
        };
        let service = service.clone();
        match self.tool.platform.service(&service).await {
            Ok(state) if state.running == 0 => Readiness::Down { service },
            Err(error) if error.kind() == ErrorKind::NotFound => Readiness::Absent {
                service,
                why: error.message().to_owned(),
            },
            _ => Readiness::Ready,
        }
    }

    fn section(&self) -> Option<Table> {
        let section = json!({
            "kind": "command",
            "on": self.on,
            "off": self.off,
            "urls": self.urls,
            "hosts": self.hosts,
            "shows": self.shows,
        });
        let Value::Object(mut section) = section else {
            return None;
        };
        if let Some(service) = &self.tool.service {
            section.insert("service".to_owned(), json!(service));
        }
        Some(section)
    }

    async fn on(&self, _run: &RunId, _since: Timestamp) -> Result<()> {
        let Err(error) = self.put_up().await else {
            return Ok(());
        };
        let Err(also) = self.take_down().await else {
            return Err(error);
        };
        let hint = error.hint_text().unwrap_or_default().to_owned();
        Err(error.hint(format!(
            "{hint}; the page could not be taken away wholly either ({also}): `restore page off` tries again"
        )))
    }

    async fn off(&self, _run: &RunId) -> Result<()> {
        self.take_down().await
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::contract::SiteConfig;
    use crate::platforms::local;

    /// A web server that shows its page while a file is there.
    struct Web {
        dir: tempfile::TempDir,
        port: u16,
    }

    impl Web {
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let file = dir.path().join("page");
            tokio::spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let mut request = vec![0; 4096];
                    let read = stream.read(&mut request).await.unwrap();
                    let request = String::from_utf8_lossy(&request[..read]).into_owned();
                    // That something is broken is another 503.
                    let body = match file.exists() && request.contains("host: shop.example") {
                        true => "<h1>Back soon</h1>",
                        false => "Broken",
                    };
                    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-length:";
                    let answer = format!("{head} {}\r\n\r\n{body}", body.len());
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
            Self { dir, port }
        }

        fn file(&self) -> PathBuf {
            self.dir.path().join("page")
        }

        fn table(&self, on: &[&str], off: &[&str]) -> Table {
            let section = json!({
                "on": on,
                "off": off,
                "urls": [format!("http://127.0.0.1:{}/", self.port)],
                "hosts": ["shop.example"],
                "shows": "Back soon",
            });
            match section {
                Value::Object(table) => table,
                _ => unreachable!(),
            }
        }

        fn page(&self, on: &[&str], off: &[&str]) -> Result<CommandPage> {
            page(self.table(on, off), self.dir.path())
        }
    }

    fn page(table: Table, base: &Path) -> Result<CommandPage> {
        let text = "[site]\nname = 'x'\nstate = 'state'\n[stores]\n[components]\n";
        let config = SiteConfig::from_toml(text)?;
        let platform = local::make(&config, base, &base.join("state"))?;
        CommandPage::new(table, platform, base)
    }

    #[tokio::test]
    async fn it_is_up_and_down_again_as_users_see_it() {
        let web = Web::new().await;
        let file = web.file();
        let name = file.to_str().unwrap();
        let page = web.page(&["touch", name], &["rm", "-f", name]).unwrap();
        let run = RunId::generate();
        assert!(page.inspect().await.unwrap().is_empty());
        // Twice each: it may be so already.
        for _ in 0..2 {
            page.on(&run, Timestamp::now()).await.unwrap();
            assert!(file.exists());
        }
        let findings = page.inspect().await.unwrap();
        assert_eq!(findings[0].code, "maintenance.page_seen");
        // What a run keeps takes it down, wherever it is read.
        let kept = page.section().unwrap();
        assert_eq!(kept["kind"], "command");
        let kept: Table = kept.into_iter().filter(|(key, _)| key != "kind").collect();
        let again = self::page(kept, Path::new("/")).unwrap();
        for _ in 0..2 {
            again.off(&run).await.unwrap();
            assert!(!file.exists());
        }
    }

    #[tokio::test]
    async fn a_command_that_fails_leaves_users_as_they_were() {
        let web = Web::new().await;
        let file = web.file();
        let name = file.to_str().unwrap();
        let half = format!("touch {name}; exit 3");
        let page = web.page(&["sh", "-c", &half], &["rm", "-f", name]).unwrap();
        let error = page
            .on(&RunId::generate(), Timestamp::now())
            .await
            .unwrap_err();
        assert_eq!(error.code(), "maintenance.on_failed");
        assert!(!file.exists(), "what it did is taken back");
        let stays = web.page(&["touch", name], &["false"]).unwrap();
        let error = stays.off(&RunId::generate()).await.unwrap_err();
        assert_eq!(error.code(), "maintenance.off_failed");
    }

    #[tokio::test]
    async fn where_nobody_answers_nothing_can_be_proven() {
        let web = Web::new().await;
        let mut table = web.table(&["true"], &["true"]);
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        table.insert(
            "urls".to_owned(),
            json!([format!("http://127.0.0.1:{port}/")]),
        );
        let page = page(table, web.dir.path()).unwrap();
        let findings = page.inspect().await.unwrap();
        assert_eq!(findings[0].code, "maintenance.nobody_there");
    }

    #[tokio::test]
    async fn what_could_prove_nothing_is_refused() {
        let web = Web::new().await;
        for (key, value) in [
            ("on", json!([])),
            ("off", json!([])),
            ("urls", json!([])),
            ("urls", json!(["ftp://127.0.0.1/"])),
            ("urls", json!(["http://user@127.0.0.1/"])),
            ("urls", json!(["/health"])),
            ("shows", json!(" ")),
        ] {
            let mut table = web.table(&["true"], &["true"]);
            table.insert(key.to_owned(), value.clone());
            let Err(error) = page(table, web.dir.path()) else {
                panic!("{key} = {value}");
            };
            assert_eq!(error.code(), "config.bad_value", "{key} = {value}");
        }
    }
}
