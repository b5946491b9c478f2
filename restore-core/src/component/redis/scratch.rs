//! A scratch server over staged files: proof that they load, and what they hold.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use deadpool_redis::redis::ConnectionAddr;
use serde::{Deserialize, Serialize};

use super::client::{Client, Info, Keys, Login, Module};
use super::data::{Layout, Mode, major_minor, quoted};
use super::log;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Progress;
use crate::platform::{Command, Platform, Scratch, local};

/// The socket, in the scratch server's data directory. The server binds it by this relative
/// name and we reach it through a descriptor of the directory, so that the 107 bytes that a
/// socket's path may have suffice wherever the volume is.
pub(super) const SOCKET: &str = ".restore-scratch.sock";
const CONFIG: &str = ".restore-scratch.conf";

/// Where a scratch server runs.
#[derive(Clone, Copy)]
pub(super) enum Ground<'a> {
    /// In the context of the server's service.
    Service(&'a dyn Platform, &'a str),
    /// Here, beside the volume, by its owner.
    Beside,
}

impl Ground<'_> {
    /// How the server sees a directory.
    async fn seen(self, dir: &Path) -> Result<PathBuf> {
        match self {
            Self::Beside => Ok(dir.to_owned()),
            Self::Service(platform, service) => {
                let seen = platform.path_in(service, dir).await?;
                seen.ok_or_else(|| {
                    Error::new(
                        ErrorKind::Preflight,
                        "redis.staging_unseen",
                        format!("the service {service} cannot see {}", dir.display()),
                    )
                    .hint("name as `volume` of the component the one in which the service keeps its data")
                })
            }
        }
    }

    async fn start(self, command: Command, owner: Option<(u32, u32)>) -> Result<Box<dyn Scratch>> {
        match self {
            Self::Service(platform, service) => platform.scratch(service, command).await,
            Self::Beside => local::scratch_as(command, owner)
                .await
                .map_err(|e| match e.code() {
                    "local.no_program" => Error::new(
                        ErrorKind::Preflight,
                        "redis.no_server_binary",
                        format!("{} in the container beside the volume", e.message()),
                    )
                    .hint("its image must be one with the server: leave out or correct `image` of that node in [nodes], or server_binary of the component"),
                    _ => e,
                }),
        }
    }
}

/// How a scratch server is to run.
pub(super) struct Setup<'a> {
    pub(super) ground: Ground<'a>,
    pub(super) binary: &'a str,
    /// The version of `binary`.
    pub(super) version: &'a str,
    pub(super) databases: u64,
    pub(super) modules: &'a [Module],
    pub(super) owner: Option<(u32, u32)>,
    pub(super) timeout: Duration,
    /// What the error messages call the data.
    pub(super) label: &'a str,
}

/// What loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Loaded {
    pub(super) keys: BTreeMap<u32, Keys>,
    pub(super) rdb_keys: Option<u64>,
    pub(super) libraries: Option<u64>,
    pub(super) memory: u64,
}

impl Loaded {
    /// What a server that has loaded says.
    pub(super) fn of(info: &Info) -> Self {
        Self {
            keys: info.keyspace(),
            rdb_keys: info.rdb_keys(),
            libraries: info.number("number_of_libraries"),
            memory: info.number("used_memory_dataset").unwrap_or(0),
        }
    }
}

/// A running scratch server; dropping it kills it.
pub(super) struct Server<'a> {
    setup: &'a Setup<'a>,
    process: Box<dyn Scratch>,
    client: Client,
    dir: PathBuf,
    _dir: File,
}

impl<'a> Server<'a> {
    /// Starts a server over the data in `dir` (absolute), which loads what `layout` says in the
    /// mode `on`. With `truncated`, an AOF that ends within a command is cut there.
    pub(super) async fn start(
        setup: &'a Setup<'a>,
        dir: &Path,
        layout: &Layout,
        on: bool,
        truncated: bool,
    ) -> Result<Self> {
        let seen = setup.ground.seen(dir).await?;
        let config = dir.join(CONFIG);
        let text = setup.config(&seen, layout, on, truncated);
        write_private(&config, &text, setup.owner).await?;
        let held = File::open(dir).map_err(|e| Error::io(format!("open {}", dir.display()), e))?;
        // What an earlier one left: a server does not start over a socket's name in use.
        let _ = tokio::fs::remove_file(dir.join(SOCKET)).await;
        let mut command = Command::new([
            setup.binary.to_owned(),
            seen.join(CONFIG).to_string_lossy().into_owned(),
        ]);
        command.dir = Some(seen);
        let process = setup.ground.start(command, setup.owner).await?;
        let client = Client::new(
            ConnectionAddr::Unix(PathBuf::from(format!(
                "/proc/self/fd/{}/{SOCKET}",
                held.as_raw_fd()
            ))),
            &Login::default(),
            format!("the scratch server over {}", setup.label),
            setup.timeout,
        )?;
        Ok(Self {
            setup,
            process,
            client,
            dir: dir.to_owned(),
            _dir: held,
        })
    }

    /// Waits until the data is loaded, and says what it is.
    pub(super) async fn load(&self, progress: &Progress) -> Result<Loaded> {
        let mut seen = 0;
        let loaded = self
            .client
            .loaded(
                self.setup.timeout,
                || {
                    if self.process.is_running() {
                        Ok(())
                    } else {
                        Err(log::explain(
                            self.setup.label,
                            self.setup.version,
                            &self.process.log_tail(),
                        ))
                    }
                },
                |bytes| {
                    progress.add(bytes.saturating_sub(seen));
                    seen = seen.max(bytes);
                },
            )
            .await;
        let info = match loaded {
            Ok(info) => info,
            Err(e) if e.code() == log::UNEXPLAINED => return Err(self.last_words().await),
            Err(e) => return Err(e),
        };
        progress.finish();
        Ok(Loaded::of(&info))
    }

    /// Why it ended. Its last lines may reach us after its end.
    async fn last_words(&self) -> Error {
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            let error = log::explain(
                self.setup.label,
                self.setup.version,
                &self.process.log_tail(),
            );
            if error.code() != log::UNEXPLAINED || Instant::now() >= deadline {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Writes the RDB.
    pub(super) async fn save(&self) -> Result<()> {
        self.client.save().await
    }

    /// Ends it, nothing saved, and removes what it left but its data.
    pub(super) async fn stop(self) -> Result<()> {
        // Its configuration has no save points: SIGTERM saves nothing.
        let ended = self.process.stop(Duration::from_secs(20)).await;
        for name in [SOCKET, CONFIG] {
            let path = self.dir.join(name);
            match tokio::fs::remove_file(&path).await {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(format!("remove {}", path.display()), e));
                }
                _ => {}
            }
        }
        ended
    }
}

impl Setup<'_> {
    /// The configuration. Nothing of the live server's but what decides whether data loads:
    /// no password, no port, no replication, no save points, no eviction, no rewriting.
    fn config(&self, dir: &Path, layout: &Layout, on: bool, truncated: bool) -> String {
        let yes = |yes: bool| if yes { "yes" } else { "no" };
        let version = major_minor(self.version).unwrap_or((0, 0));
        let mut lines = vec![
            "port 0".to_owned(),
            format!("unixsocket {SOCKET}"),
            "unixsocketperm 700".to_owned(),
            "daemonize no".to_owned(),
            "logfile \"\"".to_owned(),
            "loglevel notice".to_owned(),
            "save \"\"".to_owned(),
            "maxmemory 0".to_owned(),
            "auto-aof-rewrite-percentage 0".to_owned(),
            format!("databases {}", self.databases),
            format!("dbfilename {}", quoted(&layout.dbfilename)),
            format!("appendonly {}", yes(on)),
            format!("appendfilename {}", quoted(&layout.appendfilename)),
            format!("aof-load-truncated {}", yes(truncated)),
        ];
        if version >= (6, 2) {
            // Looks into each value instead of trusting its lengths: a damaged one is refused
            // here rather than crashing the live server later.
            lines.push("sanitize-dump-payload yes".to_owned());
            // A crash over damaged data ends at once.
            lines.push("crash-memcheck-enabled no".to_owned());
        }
        if version >= (7, 0) {
            lines.push(format!("appenddirname {}", quoted(&layout.appenddirname)));
        }
        for module in self.modules {
            if let Some(path) = &module.path {
                let mut words = vec!["loadmodule".to_owned(), quoted(path)];
                words.extend(module.args.iter().map(|arg| quoted(arg)));
                lines.push(words.join(" "));
            }
        }
        lines.push(format!("dir {}", quoted(&dir.to_string_lossy())));
        lines.push(String::new());
        lines.join("\n")
    }

    /// Starts a server in the mode `on`, waits until it has loaded, gives it to nobody else and
    /// ends it: the proof that a real start loads these files.
    pub(super) async fn prove(
        &self,
        dir: &Path,
        layout: &Layout,
        on: bool,
        progress: &Progress,
    ) -> Result<Loaded> {
        let server = Server::start(self, dir, layout, on, false).await?;
        let loaded = server.load(progress).await;
        let ended = server.stop().await;
        let loaded = loaded?;
        ended?;
        Ok(loaded)
    }

    /// Makes an RDB of an AOF: loads it and saves it as `layout.dbfilename` in `dir`.
    pub(super) async fn convert(
        &self,
        dir: &Path,
        layout: &Layout,
        truncated: bool,
        progress: &Progress,
    ) -> Result<Loaded> {
        let server = Server::start(self, dir, layout, true, truncated).await?;
        let done = async {
            let loaded = server.load(progress).await?;
            server.save().await?;
            Ok(loaded)
        }
        .await;
        let ended = server.stop().await;
        let loaded = done?;
        ended?;
        Ok(loaded)
    }

    /// The modes in which a server may start over `layout`.
    pub(super) fn modes(layout: &Layout) -> &'static [bool] {
        match layout.mode {
            Mode::On => &[true],
            Mode::Off => &[false],
            // The AOF last: its server adds an (empty) increment, the other one adds nothing.
            Mode::Unknown => &[false, true],
        }
    }
}

/// Writes a file that only the server's user may read: module arguments may hold secrets.
async fn write_private(path: &Path, text: &str, owner: Option<(u32, u32)>) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let (path, text) = (path.to_owned(), text.to_owned());
    super::blocking(move || {
        let failed = |e| Error::io(format!("write {}", path.display()), e);
        let _ = std::fs::remove_file(&path);
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::chown(&path, Some(uid), Some(gid)).map_err(failed)?;
        }
        Ok(())
    })
    .await
}

/// The version of the program that scratch servers run.
pub(super) async fn binary_version(
    platform: &dyn Platform,
    service: &str,
    binary: &str,
) -> Result<String> {
    use tokio::io::AsyncReadExt;
    let failed = |why: String| {
        Error::new(
            ErrorKind::Preflight,
            "redis.no_server_binary",
            format!("cannot run {binary} --version: {why}"),
        )
        .hint("staged data is proven by a scratch server: install redis-server, or name it with server_binary")
    };
    let mut process = platform
        .exec(service, Command::new([binary, "--version"]))
        .await
        .map_err(|e| failed(e.message().to_owned()))?;
    let mut text = String::new();
    if let Some(stdout) = process.stdout() {
        stdout
            .take(4096)
            .read_to_string(&mut text)
            .await
            .map_err(|e| failed(e.to_string()))?;
    }
    let exit = process.wait().await?;
    if !exit.success() {
        return Err(failed(format!("exit code {}: {}", exit.code, exit.stderr)));
    }
    text.split_whitespace()
        .find_map(|word| word.strip_prefix("v="))
        .map(str::to_owned)
        .ok_or_else(|| failed(format!("it says {:?}", text.trim())))
}
