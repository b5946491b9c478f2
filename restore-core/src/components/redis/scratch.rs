//! A scratch server over staged files: proof that they load, and what they hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::client::{Client, Info, Keys, Module};
use super::data::{DataLayout, Mode, Product, major_minor, quoted};
use super::log;
use crate::archive::{Limit, RoomWatch};
use crate::contract::Platform;
use crate::model::{Error, ErrorKind, Progress, Result};
use crate::swap::Dir;
use crate::sys::process::command::{Command, Scratch};
use crate::sys::process::launch::NoProgram;
use crate::sys::process::programs::{plain_process, scratch_as, stranger};
use crate::sys::random_name;
use crate::sys::retry::Retry;

/// The socket, in the scratch server's data directory. The server binds it by this relative
/// name and we reach it through a descriptor of the directory, so that the 107 bytes that a
/// socket's path may have suffice wherever the volume is.
pub(super) const SOCKET: &str = ".restore-scratch.sock";
pub(super) const CONFIG: &str = ".restore-scratch.conf";

/// What a server needs besides its data, of addresses more than of memory.
const OWN_MEMORY: u64 = 1 << 30;

/// What it says when it gets no more.
const OUT_OF_MEMORY: &str = "Out Of Memory allocating";

/// How often the room is looked at while it writes.
const LOOK: Duration = Duration::from_millis(200);

/// What a server of data with this limit may take in memory, with all that it starts. Twice: the child that
/// saves has what changes meanwhile a second time.
pub(super) fn memory_of(limit: &Limit) -> u64 {
    let most = limit.most().saturating_add(OWN_MEMORY);
    most.saturating_mul(2)
}

/// Where a scratch server runs.
#[derive(Clone, Copy)]
pub(super) enum ScratchHost<'a> {
    /// In the context of the server's service.
    Service(&'a dyn Platform, &'a str),
    /// Here, beside the volume, by its owner.
    Beside,
}

impl ScratchHost<'_> {
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
            // As the service's user, or as nobody where that is root.
            Self::Service(platform, service) => platform.scratch(service, command).await,
            Self::Beside => scratch_as(command, owner).await,
        }
    }
}

/// What to do where the container beside a volume is of a wrong image.
const IMAGE: &str = "its image must be the one that the service runs: name that as `image` of the node in [nodes], or correct server_binary of the component";

/// The container beside a volume has no server.
fn no_server(error: Error) -> Error {
    match error.is(&NoProgram) {
        true => Error::new(
            ErrorKind::Preflight,
            "redis.no_server_binary",
            format!("{} in the container beside the volume", error.message()),
        )
        .hint(IMAGE),
        false => error,
    }
}

/// Refuses to prove data beside its volume with another server than the one that is to load it.
pub(super) async fn same_beside(binary: &str, version: &str) -> Result<()> {
    let there = binary_version(ScratchHost::Beside, binary).await?;
    if major_minor(&there) == major_minor(version) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Preflight,
        "redis.binary_differs",
        format!(
            "{binary} in the container beside the volume is version {there}, the service's is {version}"
        ),
    )
    .hint(IMAGE))
}

/// How a scratch server is to run.
pub(super) struct Setup<'a> {
    pub(super) ground: ScratchHost<'a>,
    pub(super) binary: &'a str,
    /// The version of `binary`.
    pub(super) version: &'a str,
    pub(super) databases: u64,
    pub(super) modules: &'a [Module],
    pub(super) owner: Option<(u32, u32)>,
    pub(super) timeout: Duration,
    /// What the error messages call the data.
    pub(super) label: &'a str,
    /// What the data may take in memory.
    pub(super) limit: Option<&'a Limit>,
    /// What must stay free where it is staged.
    pub(super) room: Option<RoomWatch>,
}

/// What loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Loaded {
    pub(super) keys: BTreeMap<u32, Keys>,
    pub(super) rdb_keys: Option<u64>,
    /// How many of those had expired when it was loaded.
    #[serde(default)]
    pub(super) expired: Option<u64>,
    pub(super) libraries: Option<u64>,
    pub(super) memory: u64,
}

impl Loaded {
    /// What a server that has loaded says.
    pub(super) fn of(info: &Info) -> Self {
        Self {
            keys: info.keyspace(),
            rdb_keys: info.rdb_keys(),
            expired: info.number("rdb_last_load_keys_expired"),
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
    /// Its data directory: what lies there is its user's.
    dir: Dir,
}

impl<'a> Server<'a> {
    /// Starts a server over the data in `dir`, which loads what `layout` says in the
    /// mode `on`. With `truncated`, an AOF that ends within a command is cut there.
    pub(super) async fn start(
        setup: &'a Setup<'a>,
        dir: &Dir,
        layout: &DataLayout,
        on: bool,
        truncated: bool,
    ) -> Result<Self> {
        let dir = dir.again()?;
        let seen = setup.ground.seen(dir.path()).await?;
        let text = setup.config(layout, on, truncated, &random_name()?);
        // Only the server's user may read it: module arguments may hold secrets.
        dir.put(CONFIG, text.as_bytes(), 0o600, setup.runs_as())?;
        if setup.as_nobody() {
            dir.give_all((stranger(), stranger()))?;
        }
        // What an earlier one left: a server does not start over a socket's name in use.
        dir.unlink(Path::new(SOCKET))?;
        // Nothing is named but by where it stands: the folders above may be closed to its user.
        let script = format!("{}exec \"$0\" - <{CONFIG}", setup.memory());
        let mut command = Command::new(["sh", "-c", &script, setup.binary]);
        command.dir = Some(seen);
        command.unprivileged = setup.as_nobody();
        command.memory = setup.limit.map(memory_of);
        let process = setup.ground.start(command, setup.runs_as()).await?;
        let client = Client::of_scratch(
            dir.again()?,
            format!("the scratch server over {}", setup.label),
            setup.timeout,
        );
        Ok(Self {
            setup,
            process,
            client,
            dir,
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
                        Err(self.explain())
                    }
                },
                |bytes, memory| {
                    progress.add(bytes.saturating_sub(seen));
                    seen = seen.max(bytes);
                    self.setup.hold(memory)
                },
            )
            .await;
        let info = match loaded {
            Ok(info) => info,
            Err(e) if e.is(&log::Ended::Unexplained) => return Err(self.last_words().await),
            Err(e) => return Err(e),
        };
        progress.finish();
        self.setup.hold(info.number("used_memory").unwrap_or(0))?;
        Ok(Loaded::of(&info))
    }

    /// What its log says.
    fn explain(&self) -> Error {
        let said = self.process.log_tail();
        match self.setup.limit {
            Some(limit) if said.contains(OUT_OF_MEMORY) => {
                limit.exceeded(self.setup.label, limit.most())
            }
            _ => log::explain(self.setup.label, self.setup.version, &said),
        }
    }

    /// Why it ended. Its last lines may reach us after its end.
    async fn last_words(&self) -> Error {
        let retry = Retry::within(Duration::from_secs(1), Duration::from_millis(20));
        loop {
            let error = self.explain();
            if !error.is(&log::Ended::Unexplained) || retry.is_over() {
                return error;
            }
            retry.pause().await;
        }
    }

    /// Writes the RDB.
    pub(super) async fn save(&self) -> Result<()> {
        let saving = self.client.save();
        let Some(room) = &self.setup.room else {
            return saving.await;
        };
        tokio::pin!(saving);
        loop {
            tokio::select! {
                saved = &mut saving => return saved,
                () = tokio::time::sleep(LOOK) => room.look(self.setup.label)?,
            }
        }
    }

    /// Ends it, nothing saved, and removes what it left but its data.
    pub(super) async fn stop(self) -> Result<()> {
        // Its configuration has no save points: SIGTERM saves nothing.
        let ended = self.process.stop(Duration::from_secs(20)).await;
        for name in [SOCKET, CONFIG] {
            self.dir.unlink(Path::new(name))?;
        }
        if self.setup.as_nobody() {
            self.dir.give_all(self.setup.owner.unwrap_or((0, 0)))?;
        }
        ended
    }
}

/// What a scratch server does not have: an append-only file is a list of commands, and those of
/// one that strangers made would be obeyed. None of these is in one that a server has written.
/// With the version that brought it: a server does not rename what it does not know. `SHUTDOWN` is
/// how a leftover one is ended, and has a [name that nobody else knows](shutdown_of).
/// Since 7.0 what scripts and functions have done is written, and never that they were called.
pub(super) const FORBIDDEN: [(&str, (u32, u32)); 20] = [
    ("CONFIG", (0, 0)),
    ("DEBUG", (0, 0)),
    ("SLAVEOF", (0, 0)),
    ("MONITOR", (0, 0)),
    ("SYNC", (0, 0)),
    ("BGREWRITEAOF", (0, 0)),
    ("MIGRATE", (2, 6)),
    ("PSYNC", (2, 8)),
    ("CLUSTER", (3, 0)),
    ("MODULE", (4, 0)),
    ("REPLICAOF", (5, 0)),
    ("ACL", (6, 0)),
    ("FAILOVER", (6, 2)),
    ("EVAL", SCRIPTS),
    ("EVALSHA", SCRIPTS),
    ("EVAL_RO", SCRIPTS),
    ("EVALSHA_RO", SCRIPTS),
    ("SCRIPT", SCRIPTS),
    ("FCALL", SCRIPTS),
    ("FCALL_RO", SCRIPTS),
];

/// Since which version no server writes commands that run scripts.
pub(super) const SCRIPTS: (u32, u32) = (7, 0);

/// What its name is set by.
const SHUTDOWN: &str = "rename-command SHUTDOWN ";

/// What `SHUTDOWN` is called by a server with this configuration.
pub(super) fn shutdown_of(config: &str) -> &str {
    let name = config.lines().find_map(|line| line.strip_prefix(SHUTDOWN));
    // One of an earlier version of this program, or of somebody else's making.
    name.filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .unwrap_or("SHUTDOWN")
}

impl Setup<'_> {
    /// Whether its server would run as root, and therefore runs as nobody.
    fn as_nobody(&self) -> bool {
        rustix::process::geteuid().is_root() && self.owner.is_none_or(|(uid, _)| uid == 0)
    }

    /// Refuses data that takes more memory than was meant: few bytes of an append-only file can
    /// make a value of half a gigabyte.
    fn hold(&self, memory: u64) -> Result<()> {
        match self.limit.filter(|limit| memory > limit.most()) {
            Some(limit) => Err(limit.exceeded(self.label, memory)),
            None => Ok(()),
        }
    }

    /// What keeps it from taking more: a thousand commands are obeyed before it answers anybody.
    fn memory(&self) -> String {
        // Modules take addresses for memory that they never use.
        match self.limit.filter(|_| self.modules.is_empty()) {
            Some(limit) => {
                let most = limit.most().saturating_add(OWN_MEMORY) / 1024;
                format!("ulimit -v {most} 2>/dev/null; ")
            }
            None => String::new(),
        }
    }

    fn runs_as(&self) -> Option<(u32, u32)> {
        match self.as_nobody() {
            true => Some((stranger(), stranger())),
            false => self.owner,
        }
    }

    /// The configuration. Nothing of the live server's but what decides whether data loads:
    /// no password, no port, no replication, no save points, no eviction, no rewriting.
    fn config(&self, layout: &DataLayout, on: bool, truncated: bool, shutdown: &str) -> String {
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
        lines.push(format!("{SHUTDOWN}{shutdown}"));
        for (command, since) in FORBIDDEN {
            if version >= since {
                lines.push(format!("rename-command {command} \"\""));
            }
        }
        if version >= (7, 0) {
            for what in ["debug-command", "module-command", "protected-configs"] {
                lines.push(format!("enable-{what} no"));
            }
            lines.push(format!("appenddirname {}", quoted(&layout.appenddirname)));
        }
        for module in self.modules {
            if let Some(path) = &module.path {
                let mut words = vec!["loadmodule".to_owned(), quoted(path)];
                words.extend(module.args.iter().map(|arg| quoted(arg)));
                lines.push(words.join(" "));
            }
        }
        lines.push(String::new());
        lines.join("\n")
    }

    /// Starts a server in the mode `on`, waits until it has loaded, gives it to nobody else and
    /// ends it: the proof that a real start loads these files.
    pub(super) async fn prove(
        &self,
        dir: &Dir,
        layout: &DataLayout,
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
        dir: &Dir,
        layout: &DataLayout,
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
    pub(super) fn modes(layout: &DataLayout) -> &'static [bool] {
        match layout.mode {
            Mode::On => &[true],
            Mode::Off => &[false],
            // The AOF last: its server adds an (empty) increment, the other one adds nothing.
            Mode::Unknown => &[false, true],
        }
    }
}

/// Valkey's program and that of Redis, the first of which is looked for; the other one where that is not there,
/// and may be the same under another name, or nobody knows which of them the server is.
fn candidates(product: Option<Product>) -> (&'static str, Option<&'static str>) {
    let (redis, valkey) = ("redis-server", "valkey-server");
    match product {
        Some(Product::Redis(..)) => (redis, None),
        Some(Product::Valkey(..)) => (valkey, Some(redis)),
        None => (redis, Some(valkey)),
    }
}

/// The program for scratch servers, and its version: the one that is named, or that of the server's product.
pub(super) async fn server_program(
    ground: ScratchHost<'_>,
    named: Option<&str>,
    product: Option<Product>,
) -> Result<(String, String)> {
    let (first, second) = match named {
        Some(named) => (named, None),
        None => candidates(product),
    };
    let failed = match binary_version(ground, first).await {
        Ok(version) => return Ok((first.to_owned(), version)),
        Err(error) => error,
    };
    if let Some(second) = second
        && let Ok(version) = binary_version(ground, second).await
    {
        return Ok((second.to_owned(), version));
    }
    Err(failed)
}

/// The version of a server's program.
async fn binary_version(ground: ScratchHost<'_>, binary: &str) -> Result<String> {
    use tokio::io::AsyncReadExt;
    let failed = |why: String| {
        Error::new(
            ErrorKind::Preflight,
            "redis.no_server_binary",
            format!("cannot run {binary} --version: {why}"),
        )
        .hint("staged data is proven by a scratch server: install redis-server (of Valkey: valkey-server), or name it with server_binary")
    };
    let command = Command::new([binary, "--version"]);
    let mut process = match ground {
        ScratchHost::Service(platform, service) => platform
            .exec(service, command)
            .await
            .map_err(|e| failed(e.message().to_owned()))?,
        ScratchHost::Beside => plain_process(&command).map_err(no_server)?,
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_the_servers_own_product_comes_first() {
        let valkey = candidates(Some(Product::Valkey(8, 1)));
        assert_eq!(valkey, ("valkey-server", Some("redis-server")));
        // Another product's is no proof.
        let redis = candidates(Some(Product::Redis(7, 0)));
        assert_eq!(redis, ("redis-server", None));
        assert_eq!(candidates(None), ("redis-server", Some("valkey-server")));
    }
}
