//! Whether the server could start again: once it is stopped for the swap it is too late to learn that.

use std::fs::Metadata;
use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Redis;
use super::client::{Client, Info};
use super::configuration::{Configuration, INCLUDE, LONGEST, is_yes, of_arguments};
use super::data::major_minor;
use super::live::Live;
use super::restart::{is_server, may_load_others};
use crate::contract::{Platform, Volume};
use crate::model::{Error, ErrorKind, Finding, Result};
use crate::sys::blocking::blocking;
use crate::sys::process::command::{Command, Process};
use crate::sys::process::programs::{process_as, stranger};
use crate::sys::{check_file, child, open_theirs, random_name, read_small_from, trust};

/// A directory that is nowhere. A server that is told to work in it ends as soon as it has read its
/// configuration, before it opens a port or looks at data.
const NOWHERE: &str = "/nonexistent/restore-probe";
/// What makes a server end at its first look at data, as `/dev/null` is no RDB, whatever its configuration says: it writes
/// no log, no pid and no data, and listens nowhere.
const ENDS: [&str; 24] = [
    "--dir",
    "/dev",
    "--dbfilename",
    "null",
    "--appendonly",
    "no",
    "--save",
    "",
    "--port",
    "0",
    "--daemonize",
    "no",
    "--supervised",
    "no",
    "--syslog-enabled",
    "no",
    "--pidfile",
    "",
    "--logfile",
    "",
    "--loglevel",
    "notice",
    "--unixsocketperm",
    "700",
];
/// How a server that cannot load its users begins to say so.
const ACL_ERRORS: &str = "startup because of ACL errors: ";
/// Whether a file may be made or written.
const MAY_APPEND: &str = "if [ -e \"$0\" ]; then [ ! -d \"$0\" ] && [ -w \"$0\" ]; \
                          else d=$(dirname -- \"$0\"); [ -w \"$d\" ] && [ -x \"$d\" ]; fi";
/// Whether a file may be replaced.
const MAY_MAKE: &str = "d=$(dirname -- \"$0\"); [ -w \"$d\" ] && [ -x \"$d\" ]";
/// How long such a server may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of what it says is read.
const SAID: u64 = 64 * 1024;
/// For how long a server that could be started is taken to be so: a run plans twice, and asks again before it stops it.
const SOUND: Duration = Duration::from_secs(10 * 60);

impl Redis {
    /// What would keep the server from starting on restored data. Asked where its programs are this
    /// host's own; elsewhere the names mean other files.
    pub(super) async fn could_start(&self, live: &Live, volume: &dyn Volume) -> Vec<Finding> {
        if !self.platform.runs_here(&self.section.service) {
            return Vec::new();
        }
        let mut configuration = self.configuration(live).await;
        if configuration.is_none() {
            configuration = self.unfollowed(live).await;
        }
        let found = [
            configuration,
            self.closed_directory(volume).await,
            self.saves_elsewhere(live).await,
        ];
        found.into_iter().flatten().collect()
    }

    /// Whether what it holds would be lost once it is stopped, as it would load other files.
    async fn saves_elsewhere(&self, live: &Live) -> Option<Finding> {
        let info = live.info.as_ref().filter(|info| !info.is_loading())?;
        let client = self.client().await.ok()?;
        match self.ensure_loads_what_it_writes(&client, info).await {
            Err(error) => Some(Finding::from_error(&self.name, &error)),
            Ok(()) => {
                let (platform, service) = (self.platform.as_ref(), &self.section.service);
                may_load_others(platform, service, &client, info).await
            }
        }
    }

    async fn configuration(&self, live: &Live) -> Option<Finding> {
        let broken = self.start(live.info.as_ref()).broken().await?;
        Some(Finding::from_error(&self.name, &broken))
    }

    /// That a file is not known which its configuration includes: what it says there is compared with nothing.
    async fn unfollowed(&self, live: &Live) -> Option<Finding> {
        let file = self.start(live.info.as_ref()).command()?.file;
        let read = Configuration::read(&file).await?;
        let included = read.last(INCLUDE)?;
        let service = &self.section.service;
        Some(
            Finding::warning(
                "redis.include_unread",
                &self.name,
                format!(
                    "{file} includes {included}, and what that says is not known: {service} may load other files, once it is started again, than those that it writes now"
                ),
            )
            .hint(format!(
                "include it by its whole path, as a file that `restore` may read; or see whether it says dir, dbfilename or appendonly otherwise than {service} runs"
            )),
        )
    }

    fn start<'a>(&'a self, info: Option<&'a Info>) -> Start<'a> {
        Start {
            platform: self.platform.as_ref(),
            service: &self.section.service,
            binary: Some(self.section.program(info)),
            info,
            sound: &self.sound,
        }
    }

    /// Refuses where a server that says this would not start again with what it holds.
    pub(super) async fn ensure_starts_again(&self, client: &Client, info: &Info) -> Result<()> {
        self.ensure_loads_what_it_writes(client, info).await?;
        match self.start(Some(info)).broken().await {
            Some(broken) => Err(broken),
            None => Ok(()),
        }
    }

    /// Whether the service's user may work in the data directory: as that user, for rights are more than modes.
    async fn closed_directory(&self, volume: &dyn Volume) -> Option<Finding> {
        let path = volume.path().filter(|path| path.is_dir())?;
        let name = path.to_str()?.to_owned();
        let script = "test -w \"$0\" && test -x \"$0\"";
        let command = Command::new(["sh", "-c", script, name.as_str()]);
        let (platform, service) = (self.platform.as_ref(), &self.section.service);
        let (code, _) = said(platform, service, command).await.ok()?;
        if code != 1 {
            return None;
        }
        let (uid, gid) = self.platform.owner(service).await.ok().flatten()?;
        Some(
            Finding::error(
                "redis.closed_directory",
                &self.name,
                format!("{service} runs as user {uid}, who may not work in its data directory {name}"),
            )
            .hint(format!(
                "chown -R {uid}:{gid} {name} && chmod 750 {name}, see whether that user gets there, and plan again"
            )),
        )
    }
}

/// A server that is to be started again.
pub(super) struct Start<'a> {
    pub(super) platform: &'a dyn Platform,
    pub(super) service: &'a str,
    /// Its program, where the platform does not know the command that starts it.
    pub(super) binary: Option<&'a str>,
    /// What the one that runs says.
    pub(super) info: Option<&'a Info>,
    /// What was found before.
    pub(super) sound: &'a Sound,
}

/// With what a server was found to be able to start, and when: to try that takes several programs.
#[derive(Default)]
pub(super) struct Sound(Mutex<Option<(Instant, Tried)>>);

impl Sound {
    fn is(&self, tried: &Tried) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .as_ref()
            .is_some_and(|(when, known)| when.elapsed() < SOUND && known == tried)
    }

    fn note(&self, tried: Tried) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((Instant::now(), tried));
    }
}

/// All that decides whether a server starts, as far as that is seen without a program.
#[derive(Debug, PartialEq, Eq)]
struct Tried {
    /// What it is started with.
    words: Vec<String>,
    /// The server that runs.
    pid: Option<u64>,
    read: Configuration,
    /// The files that it reads, and those that it makes with their folders: which each of them is.
    paths: Vec<(PathBuf, Option<[i64; 7]>)>,
}

impl Tried {
    async fn of(named: &Named, read: &Configuration, info: Option<&Info>) -> Option<Self> {
        let mut words = vec![named.program.clone(), named.file.clone()];
        words.extend(named.arguments.iter().cloned());
        let mut all = read.clone();
        all.directives.extend(of_arguments(&named.arguments));
        let mut files = vec![PathBuf::from(&named.file)];
        files.extend(all.included.iter().cloned());
        files.extend(needed(&all).into_iter().map(PathBuf::from));
        files.extend(child::find(&named.program));
        let mut places = Vec::new();
        for directive in ["logfile", "unixsocket"] {
            let path = all.last(directive).filter(|path| is_on_disk(path));
            let path = path.map(PathBuf::from);
            places.extend(path.as_deref().and_then(Path::parent).map(Path::to_owned));
            places.extend(path);
        }
        // They may lie on a file system that does not answer.
        let looked = blocking(move || {
            let files = files.into_iter().map(|path| (path, true));
            let all = files.chain(places.into_iter().map(|path| (path, false)));
            let looked = all.map(|(path, content)| {
                let state = path.metadata().ok();
                let state = state.map(|meta| state_of(&meta, content));
                (path, state)
            });
            Ok(looked.collect::<Vec<_>>())
        });
        Some(Self {
            words,
            pid: info.and_then(|info| info.number("process_id")),
            read: all,
            paths: tokio::time::timeout(PATIENCE, looked).await.ok()?.ok()?,
        })
    }
}

/// Which file this is, and who may do what with it; with `content`, also when it was changed.
fn state_of(meta: &Metadata, content: bool) -> [i64; 7] {
    let [size, second, nanosecond] = match content {
        true => [meta.size().cast_signed(), meta.ctime(), meta.ctime_nsec()],
        false => [0; 3],
    };
    [
        meta.dev().cast_signed(),
        meta.ino().cast_signed(),
        i64::from(meta.mode()),
        (i64::from(meta.uid()) << 32) | i64::from(meta.gid()),
        size,
        second,
        nanosecond,
    ]
}

/// What a server is started with.
struct Named {
    program: String,
    file: String,
    arguments: Vec<String>,
    /// Whether the command that starts it says so, which runs as whom we try it as.
    by_command: bool,
}

impl Start<'_> {
    /// Why it could not be.
    pub(super) async fn broken(&self) -> Option<Error> {
        if !self.platform.runs_here(self.service) {
            return None;
        }
        let named = self.command()?;
        let read = Configuration::read(&named.file).await.unwrap_or_default();
        let tried = Tried::of(&named, &read, self.info).await;
        if tried.as_ref().is_some_and(|tried| self.sound.is(tried)) {
            return None;
        }
        let Some(wrong) = self.wrong(&named, read).await else {
            if let Some(tried) = tried {
                self.sound.note(tried);
            }
            return None;
        };
        let (name, service) = (&named.file, self.service);
        Some(
            Error::new(
                ErrorKind::Preflight,
                "redis.broken_configuration",
                format!(
                    "its configuration {name} cannot be loaded ({wrong}): {service} would not start again"
                ),
            )
            .hint(format!(
                "correct that file, then plan again; what it holds is in no component here, and a {service} that already runs does not read it"
            )),
        )
    }

    /// What it is started with: the command that starts it says so, or it does itself.
    fn command(&self) -> Option<Named> {
        let programs = self.platform.programs(self.service);
        let named = programs.iter().find_map(|program| {
            let (file, arguments) = program.arguments.split_first()?;
            is_server(&program.program).then(|| Named {
                program: program.program.clone(),
                file: file.clone(),
                arguments: arguments.to_vec(),
                by_command: true,
            })
        });
        // What it is started with counts, whatever the one that runs has read.
        let says = || {
            Some(Named {
                program: self.binary?.to_owned(),
                file: self.info?.text("config_file")?.to_owned(),
                arguments: Vec::new(),
                by_command: false,
            })
        };
        named.or_else(says).filter(|it| it.file.starts_with('/'))
    }

    /// What is wrong with a configuration file, or with what it names.
    async fn wrong(&self, named: &Named, mut read: Configuration) -> Option<String> {
        let name = named.file.as_str();
        let included = read.included.iter().filter_map(|it| it.to_str());
        if let Some(closed) = self.closed(included.collect()).await {
            return Some(format!(
                "it includes {closed}, which is not there, or which its user may not read"
            ));
        }
        let nowhere = match (may_be_read(named, &read), is_trusted(named, &read)) {
            (false, _) => None,
            (true, true) => {
                let words = [named.program.as_str(), name, "--dir", NOWHERE];
                self.asked(Command::new(words)).await
            }
            (true, false) => asked_as_owner(named).await,
        };
        if let Some((1.., said)) = nowhere
            && let Some(wrong) = wrong_line(&said)
        {
            return Some(wrong);
        }
        // As a server is told more than its file says.
        read.directives.extend(of_arguments(&named.arguments));
        if let Some(closed) = self.closed(needed(&read)).await {
            return Some(format!(
                "it names {closed}, which is not there, or which its user may not read"
            ));
        }
        for (directive, script) in [("logfile", MAY_APPEND), ("unixsocket", MAY_MAKE)] {
            let path = read.last(directive).filter(|path| is_on_disk(path));
            if let Some(path) = path
                && let Some((1, _)) = self.asked(Command::new(["sh", "-c", script, path])).await
            {
                return Some(format!(
                    "{directive} {path}: its directory is not there, or its user may not write there"
                ));
            }
        }
        if let Some(address) = self.no_address(&read) {
            return Some(format!("bind {address}: this host has no such address"));
        }
        match may_be_started(named, &read) {
            true => self.refused(named, &read).await,
            false => None,
        }
    }

    /// The first of these files that the service's user cannot read.
    async fn closed(&self, files: Vec<&str>) -> Option<String> {
        if files.is_empty() {
            return None;
        }
        let script = "for f; do test -r \"$f\" || { printf %s \"$f\"; exit 1; }; done";
        let words = ["sh", "-c", script, "sh"].into_iter().chain(files);
        match self.asked(Command::new(words)).await? {
            (1, said) if !said.is_empty() => Some(said),
            _ => None,
        }
    }

    /// An address that it binds to and that is not this host's. Older servers go on without it.
    fn no_address(&self, read: &Configuration) -> Option<IpAddr> {
        let info = self.info?;
        let version = major_minor(info.text("redis_version")?)?;
        let listens = read.last("port") != Some("0") || read.last("tls-port").is_some();
        if version < (6, 2) || !listens || has_other_network(info) {
            return None;
        }
        let words = read.last("bind")?.split_whitespace();
        // One behind a dash need not be there.
        let words = words.map(|word| word.trim_matches(['"', '\'']));
        words
            .filter_map(|word| word.parse::<IpAddr>().ok())
            .find(|address| {
                let bound = TcpListener::bind((*address, 0));
                bound.is_err_and(|e| e.kind() == std::io::ErrorKind::AddrNotAvailable)
            })
    }

    /// Why it does not get to loading data: it is started without ports, over a file that is no RDB, at which it ends.
    /// Its users, modules and certificates are loaded by then; nothing is written but to a socket that nobody knows.
    async fn refused(&self, named: &Named, read: &Configuration) -> Option<String> {
        let (program, arguments) = (named.program.as_str(), &named.arguments);
        let mut more = more_of(read)?;
        if arguments.iter().any(|it| it == "-" || it == "--sentinel") {
            return None;
        }
        if read.last("tls-port").is_some_and(|port| port != "0") {
            // Without a port its certificates are not looked at.
            let port = TcpListener::bind(("127.0.0.1", 0))
                .ok()?
                .local_addr()
                .ok()?;
            let port = port.port().to_string();
            more.extend(["--bind", "127.0.0.1", "--tls-port"].map(str::to_owned));
            more.push(port);
        }
        let socket = format!("/tmp/.restore-probe-{}", random_name().ok()?);
        let script = "s=$0; \"$@\" --unixsocket \"$s\"; c=$?; rm -f -- \"$s\"; exit $c";
        let words = [
            "sh",
            "-c",
            script,
            socket.as_str(),
            program,
            named.file.as_str(),
        ];
        let words = words
            .into_iter()
            .chain(arguments.iter().map(String::as_str));
        let words = words.chain(ENDS).chain(more.iter().map(String::as_str));
        let asked = self.asked(Command::new(words)).await;
        // Where it was not given the time to do so itself.
        let _ = tokio::fs::remove_file(&socket).await;
        refusal(&asked?.1)
    }

    /// What a program in the service's context says; `None` where it does not end.
    async fn asked(&self, command: Command) -> Option<(i32, String)> {
        let asked = said(self.platform, self.service, command);
        tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()
    }
}

/// Runs a program in a service's context; its exit code, and what it says.
async fn said(platform: &dyn Platform, service: &str, command: Command) -> Result<(i32, String)> {
    let mut process = platform.exec(service, command).await?;
    drop(process.stdin());
    said_by(process).await
}

async fn said_by(mut process: Box<dyn Process>) -> Result<(i32, String)> {
    let mut said = Vec::new();
    if let Some(stdout) = process.stdout() {
        // What cannot be read is not there.
        let _ = stdout.take(SAID).read_to_end(&mut said).await;
    }
    let exit = process.wait().await?;
    let said = String::from_utf8_lossy(&said).into_owned() + &exit.stderr;
    Ok((exit.code, said))
}

/// The files without which it does not start: its users, its modules, and its certificates where it needs them.
fn needed(read: &Configuration) -> Vec<&str> {
    let on = |name: &str| read.last(name).is_some_and(is_yes);
    let listens = read.last("tls-port").is_some_and(|port| port != "0");
    let tls = listens || on("tls-replication") || on("tls-cluster");
    // Of a name with blanks this would be a part.
    let modules =
        modules(read).filter(|path| Path::new(path).extension().is_some_and(|it| it == "so"));
    let certificates = ["tls-cert-file", "tls-key-file", "tls-ca-cert-file"];
    let certificates = certificates.into_iter().filter(|_| tls);
    let named = certificates
        .chain(["aclfile"])
        .filter_map(|it| read.last(it));
    let all = modules.chain(named);
    all.filter(|path| path.starts_with('/')).collect()
}

/// The modules that a configuration names.
fn modules(read: &Configuration) -> impl Iterator<Item = &str> {
    let modules = read
        .directives
        .iter()
        .filter(|(name, _)| name == "loadmodule");
    modules.filter_map(|(_, value)| value.split(['"', ' ', '\t']).next())
}

/// Whether a server may be told to read the configuration that is not to get farther. What a unit starts stands in a
/// directory that nobody knows, from where we would look for other files than it includes.
fn may_be_read(named: &Named, read: &Configuration) -> bool {
    named.by_command || (!read.includes_from_nowhere() && is_program_of_ours(named))
}

/// Whether nobody but root and we can have made a file.
fn is_ours(file: &Path) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    let of_us = |meta: Metadata| [0, ours].contains(&meta.uid()) && meta.mode() & 0o022 == 0;
    file.metadata().is_ok_and(of_us) && check_file(file, false).is_ok()
}

/// Whether a program may read it as whom we would start it as. What a unit starts as another user is tried as
/// ourselves: then only what is root's, or ours.
fn is_trusted(named: &Named, read: &Configuration) -> bool {
    named.by_command
        || (is_ours(Path::new(&named.file))
            && read.included.iter().all(|it| is_ours(it))
            && is_program_of_ours(named))
}

/// Whether nobody but root and we could have put another program in its place.
fn is_program_of_ours(named: &Named) -> bool {
    child::find(&named.program).is_some_and(|program| trust::is_ours(&program))
}

/// Whether to try it gives nobody more than he has: the modules that a configuration names are programs.
fn may_be_started(named: &Named, read: &Configuration) -> bool {
    let all_ours = || modules(read).all(|it| trust::is_ours(Path::new(it)));
    is_trusted(named, read) && (named.by_command || all_ours())
}

/// What a server says to a configuration of somebody else's that is told to work nowhere. Some open what it names,
/// a log for instance, as soon as they read that: it runs with no more power than whoever wrote the file.
async fn asked_as_owner(named: &Named) -> Option<(i32, String)> {
    let file = PathBuf::from(&named.file);
    let read = blocking(move || {
        let failed = |e| Error::io(format!("read {}", file.display()), e);
        let opened = open_theirs(&file).map_err(failed)?;
        let owner = opened.metadata().map_err(failed)?.uid();
        let text = read_small_from(opened, LONGEST).map_err(failed)?;
        Ok((text, owner))
    });
    let asked = async {
        let (text, owner) = read.await?;
        let user = match owner {
            // Others can write it, or lead there.
            0 => stranger(),
            owner => owner,
        };
        let command = Command::new([named.program.as_str(), "-", "--dir", NOWHERE]);
        let mut process = process_as(&command, (user, stranger()))?;
        if let Some(mut stdin) = process.stdin() {
            // One that has ended already says why.
            let _ = stdin.write_all(&text).await;
            let _ = stdin.shutdown().await;
        }
        said_by(process).await
    };
    let (code, said) = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
    // What it includes, and where it logs, is looked at by itself: this user may not be whom the server runs as.
    let of_user = ["can't open config file", "Can't open the log file"];
    (!of_user.iter().any(|it| said.contains(it))).then_some((code, said))
}

/// Whether a path is one of a file that is looked at: a relative one is in a directory that is looked at by itself.
fn is_on_disk(path: &str) -> bool {
    path.starts_with('/') && !["/dev/", "/proc/"].iter().any(|it| path.starts_with(it))
}

/// Whether it runs in a network of its own, of whose addresses nothing is known here.
fn has_other_network(info: &Info) -> bool {
    let network = |pid: u64| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let its = info.number("process_id").and_then(network);
    let ours = network(u64::from(std::process::id()));
    its.zip(ours).is_some_and(|(its, ours)| its != ours)
}

/// What more a server is told that is to end before it loads data; `None` for one that cannot be started beside the
/// one that runs: it would speak to others, or look for files where it is not.
fn more_of(read: &Configuration) -> Option<Vec<String>> {
    let mut more = Vec::new();
    for (name, value) in &read.directives {
        let is_path =
            name.starts_with("tls-") && (name.contains("-file") || name.ends_with("-dir"));
        let alone = match name.as_str() {
            "replicaof" | "slaveof" => value == "no one",
            "cluster-enabled" => !is_yes(value),
            "sentinel" | INCLUDE => false,
            "loadmodule" => value.starts_with('/'),
            _ if is_path && !name.ends_with("-pass") => value.is_empty() || value.starts_with('/'),
            _ => true,
        };
        if !alone {
            return None;
        }
    }
    if let Some(users) = read
        .last("aclfile")
        .filter(|it| !it.is_empty() && !it.starts_with('/'))
    {
        let dir = read.last("dir").filter(|it| it.starts_with('/'))?;
        more.extend(["--aclfile".to_owned(), format!("{dir}/{users}")]);
    }
    Some(more)
}

/// Why a server that was [to end](ENDS) has ended before its time; `None`: it has not, or for another reason. Never what
/// it quotes of a file, which may be a password.
fn refusal(said: &str) -> Option<String> {
    let line = |words: &str| said.lines().position(|line| line.contains(words));
    let nth = |at: usize| said.lines().nth(at).unwrap_or_default();
    if let Some(at) = line(ACL_ERRORS) {
        let (_, why) = nth(at).split_once(ACL_ERRORS)?;
        if why.contains("opening file '") {
            let why = why.rsplit(": ").next().unwrap_or_default();
            return Some(format!("aclfile: {}", why.trim()));
        }
        let number = why.split(':').nth(1).map(str::trim);
        let number = number.filter(|it| !it.is_empty() && it.bytes().all(|b| b.is_ascii_digit()));
        return Some(match number {
            Some(number) => format!("line {number} of its aclfile is refused"),
            None => "its users are refused".to_owned(),
        });
    }
    if let Some(at) = line("Can't load module from ") {
        let (_, module) = nth(at).split_once("Can't load module from ")?;
        let module = module.split(": server aborting").next()?.trim();
        let why = at.checked_sub(1).map(nth).unwrap_or_default();
        let why = why.split_once(" failed to load: ").map(|(_, why)| why);
        let why = why.and_then(|why| why.rsplit(": ").next());
        return Some(format!(
            "loadmodule {module}: {}",
            why.unwrap_or("it is refused")
        ));
    }
    let at = line("Failed to configure TLS")?;
    let why = at.checked_sub(1).map(nth).unwrap_or_default();
    let why = why
        .split_once(" # ")
        .map_or("it is refused", |(_, why)| why);
    Some(format!("TLS: {}", why.trim()))
}

/// What is wrong with a configuration, in the words of the server that was told to work nowhere. Never
/// the line itself, which may hold a password. `None`: it was read to its end.
fn wrong_line(said: &str) -> Option<String> {
    if let Some((_, why)) = said.split_once("can't open config file") {
        let why = why.lines().next().unwrap_or_default();
        return Some(
            why.rsplit(": ")
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned(),
        );
    }
    let (_, said) = said.split_once("FATAL CONFIG FILE ERROR")?;
    if said.contains(NOWHERE) {
        return None;
    }
    let number = said.split_once("at line ").map(|(_, rest)| rest);
    let number = number.and_then(|rest| rest.lines().next()).map(str::trim);
    let quoted = said.lines().find_map(|line| line.strip_prefix(">>> '"));
    let directive = quoted.and_then(|line| line.split_whitespace().next());
    let directive = directive
        .map(|word| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()))
        .filter(|word| {
            word.len() < 40 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
    // Its data directory is absent or closed: that is looked at by itself, and may be made.
    if directive == Some("dir") {
        return None;
    }
    let why = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    // Its last line is the reason, never what it quotes.
    let why = why.filter(|line| !line.starts_with(">>>"));
    Some(format!(
        "line {}{}: {}",
        number.unwrap_or("?"),
        directive.map(|it| format!(", {it}")).unwrap_or_default(),
        why.unwrap_or("it is refused")
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use async_trait::async_trait;

    use super::*;
    use crate::components::redis::configuration::of_text;
    use crate::contract::ServiceState;
    use crate::model::{Endpoint, Timestamp};
    use crate::sys::process::command::{Process, Scratch};
    use crate::sys::process::programs::plain_process;

    fn unused<T>() -> Result<T> {
        Err(Error::new(ErrorKind::Internal, "test.unused", "not here"))
    }

    /// Services of this host that units start, and of whose programs nothing is known.
    struct Units;

    #[async_trait]
    impl Platform for Units {
        fn describe(&self) -> String {
            "units".to_owned()
        }
        fn services(&self) -> Vec<String> {
            vec!["redis".to_owned()]
        }
        fn runs_here(&self, _: &str) -> bool {
            true
        }
        async fn service(&self, _: &str) -> Result<ServiceState> {
            unused()
        }
        async fn scale(&self, _: &str, _: u32) -> Result<()> {
            unused()
        }
        async fn exec(&self, _: &str, command: Command) -> Result<Box<dyn Process>> {
            plain_process(&command)
        }
        async fn logs(&self, _: &str, _: Timestamp, _: usize) -> Result<Vec<String>> {
            unused()
        }
        async fn endpoint(&self, _: &str) -> Result<Endpoint> {
            unused()
        }
        async fn volume(&self, _: &str) -> Result<Arc<dyn Volume>> {
            unused()
        }
        async fn scratch(&self, _: &str, _: Command) -> Result<Box<dyn Scratch>> {
            unused()
        }
        async fn path_in(&self, _: &str, _: &Path) -> Result<Option<PathBuf>> {
            unused()
        }
        async fn owner(&self, _: &str) -> Result<Option<(u32, u32)>> {
            unused()
        }
    }

    /// A folder with a file `program` that does what this script says.
    fn folder(script: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        mode(&program, 0o755);
        dir
    }

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn modules_that_others_could_have_put_there_are_not_loaded() {
        let dir = folder("exit 0");
        let at = |name: &str| dir.path().join(name).display().to_string();
        let module = at("modules/m.so");
        for folder in ["modules", "programs"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        std::fs::copy(at("program"), at("programs/redis-server")).unwrap();
        std::fs::write(&module, "").unwrap();
        mode(Path::new(&module), 0o644);
        std::fs::write(at("redis.conf"), "").unwrap();
        mode(Path::new(&at("redis.conf")), 0o644);
        let named = |by_command| Named {
            program: at("programs/redis-server"),
            file: at("redis.conf"),
            arguments: Vec::new(),
            by_command,
        };
        let read = Configuration {
            directives: of_text(&format!("port 1\nloadmodule \"{module}\" x")),
            ..Configuration::default()
        };
        // Whether others can write to the modules and to the programs.
        for (modules, programs, started) in [
            (0o755, 0o755, true),
            (0o777, 0o755, false),
            (0o755, 0o777, false),
        ] {
            mode(Path::new(&at("modules")), modules);
            mode(Path::new(&at("programs")), programs);
            let is = may_be_started(&named(false), &read);
            assert_eq!(is, started, "{modules:o} {programs:o}");
            assert!(may_be_started(&named(true), &read));
            let is_read = may_be_read(&named(false), &read);
            assert_eq!(is_read, programs == 0o755, "{programs:o}");
        }
    }

    #[tokio::test]
    async fn what_is_sound_is_not_tried_again_until_something_changes() {
        let dir = folder(
            "echo x >>\"$1.tried\"; if grep -q bad \"$1\"; then echo 'FATAL CONFIG FILE ERROR'; exit 1; fi",
        );
        let file = dir.path().join("redis.conf").display().to_string();
        let program = dir.path().join("program").display().to_string();
        let info = Info::parse(&format!("config_file:{file}\r\n"));
        let sound = Sound::default();
        let start = Start {
            platform: &Units,
            service: "redis",
            binary: Some(&program),
            info: Some(&info),
            sound: &sound,
        };
        let tried = || std::fs::read_to_string(format!("{file}.tried")).unwrap_or_default();
        std::fs::write(&file, "port 1\nlogfile \"\"\n").unwrap();
        assert!(start.broken().await.is_none());
        let first = tried();
        assert!(!first.is_empty());
        assert!(start.broken().await.is_none());
        assert_eq!(tried(), first);
        std::fs::write(&file, "port bad\n").unwrap();
        assert!(start.broken().await.is_some());
        let then = tried();
        assert!(then.len() > first.len());
        // What is broken may be put right where nobody looks.
        assert!(start.broken().await.is_some());
        assert!(tried().len() > then.len());
    }

    /// Some servers open it as they read its name, as whoever tries that.
    #[tokio::test]
    async fn a_log_that_only_its_user_may_write_does_not_make_it_broken() {
        let dir = folder(
            "cat >/dev/null; printf '*** FATAL CONFIG FILE ERROR ***\\nat line 1\\n'; echo \">>> 'logfile /l'\"; echo \"Can't open the log file: Permission denied\"; exit 1",
        );
        mode(dir.path(), 0o755);
        let file = dir.path().join("redis.conf").display().to_string();
        std::fs::write(&file, "port 1\n").unwrap();
        // Others may write it: it is tried as somebody else.
        mode(Path::new(&file), 0o664);
        let program = dir.path().join("program").display().to_string();
        let info = Info::parse(&format!("config_file:{file}\r\n"));
        let start = Start {
            platform: &Units,
            service: "redis",
            binary: Some(&program),
            info: Some(&info),
            sound: &Sound::default(),
        };
        let broken = start.broken().await;
        assert!(broken.is_none(), "{broken:?}");
    }

    /// Where a unit starts it nobody knows: from where we stand another file, or none, has the name.
    #[tokio::test]
    async fn what_is_included_from_an_unknown_directory_does_not_make_it_broken() {
        let dir = folder(
            "printf '*** FATAL CONFIG FILE ERROR ***\\nat line 1\\n>>> '; cat \"$1\"; echo \"Can't open it\"; exit 1",
        );
        let file = dir.path().join("redis.conf").display().to_string();
        let program = dir.path().join("program").display().to_string();
        let info = Info::parse(&format!("config_file:{file}\r\n"));
        let start = Start {
            platform: &Units,
            service: "redis",
            binary: Some(&program),
            info: Some(&info),
            sound: &Sound::default(),
        };
        std::fs::write(&file, "port lots\n").unwrap();
        let broken = start.broken().await.unwrap();
        assert_eq!(broken.code(), "redis.broken_configuration", "{broken}");
        std::fs::write(&file, "include more.conf\n").unwrap();
        let broken = start.broken().await;
        assert!(broken.is_none(), "{broken:?}");
    }

    #[test]
    fn what_is_tried_as_ourselves_is_nobody_elses() {
        let top = tempfile::tempdir().unwrap();
        let [file, module] = ["redis.conf", "module.so"].map(|name| top.path().join(name));
        let open = |path, mode| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        };
        for path in [&file, &module] {
            std::fs::write(path, "").unwrap();
            open(path, 0o644);
        }
        let named = |by_command| Named {
            program: "redis-server".to_owned(),
            file: file.display().to_string(),
            arguments: Vec::new(),
            by_command,
        };
        let read = Configuration {
            directives: of_text(&format!("loadmodule {} secret", module.display())),
            ..Configuration::default()
        };
        assert!(may_be_started(&named(false), &read));
        // A program that others can write.
        open(&module, 0o666);
        assert!(is_trusted(&named(false), &read));
        assert!(!may_be_started(&named(false), &read));
        open(&module, 0o644);
        open(&file, 0o664);
        assert!(!is_trusted(&named(false), &read));
        assert!(!may_be_started(&named(false), &read));
        // By its own command it runs as its own user.
        assert!(may_be_started(&named(true), &read));
    }

    #[test]
    fn what_is_wrong_is_told_without_the_line() {
        let said = |line: &str, why: &str| {
            format!(
                "\n*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\nReading the configuration file, at line 11\n>>> '{line}'\n{why}\n"
            )
        };
        let nowhere = said(&format!("dir \"{NOWHERE}\""), "No such file or directory");
        assert_eq!(wrong_line(&nowhere), None);
        let absent = said("dir \"/var/lib/redis\"", "No such file or directory");
        assert_eq!(wrong_line(&absent), None);
        let secret = said(
            "requirepass \"hidden",
            "Unbalanced quotes in configuration line",
        );
        assert_eq!(
            wrong_line(&secret).unwrap(),
            "line 11, requirepass: Unbalanced quotes in configuration line"
        );
        let gone = "1:C # Fatal error, can't open config file '/x: y': Permission denied\n";
        assert_eq!(wrong_line(gone).unwrap(), "Permission denied");
        assert_eq!(wrong_line("sh: redis-server: not found"), None);
    }

    #[test]
    fn why_it_ended_is_told_without_what_it_quotes() {
        let said = |words: &str| {
            refusal(&format!(
                "1:M 30 Nov 2026 23:05:03.577 # Server initialized\n{words}\n"
            ))
        };
        let users = "1:M 1 # Aborting Redis startup because of ACL errors: ";
        let gone = "Error loading ACLs, opening file '/x': No such file or directory";
        assert_eq!(
            said(&format!("{users}{gone}")).unwrap(),
            "aclfile: No such file or directory"
        );
        let wrong = "/x:3: Error in applying operation 'hidden': Syntax error. WARNING: none";
        assert_eq!(
            said(&format!("{users}{wrong}")).unwrap(),
            "line 3 of its aclfile is refused"
        );
        let module = "1:M 1 # Module /x.so failed to load: /x.so: cannot open shared object file: No such file or directory\n\
                      1:M 1 # Can't load module from /x.so: server aborting";
        assert_eq!(
            said(module).unwrap(),
            "loadmodule /x.so: No such file or directory"
        );
        let tls = "1:M 1 # Failed to load certificate: /x.pem: gone\n1:M 1 # Failed to configure TLS. Check logs for more info.";
        assert_eq!(
            said(tls).unwrap(),
            "TLS: Failed to load certificate: /x.pem: gone"
        );
        assert_eq!(said("1:M 1 # Short read or OOM loading DB."), None);
    }

    #[test]
    fn what_would_speak_to_others_is_not_started() {
        let more = |text: &str| {
            more_of(&Configuration {
                directives: of_text(text),
                ..Configuration::default()
            })
        };
        let none: Option<Vec<String>> = Some(Vec::new());
        assert_eq!(more("port 1\nreplicaof no one\naclfile /x"), none);
        assert_eq!(more("replicaof 10.0.0.1 1"), None);
        assert_eq!(more("cluster-enabled yes"), None);
        assert_eq!(more("include /gone"), None);
        assert_eq!(more("loadmodule x.so"), None);
        assert_eq!(more("tls-cert-file x.pem"), None);
        assert_eq!(more("tls-key-file-pass x"), none);
        assert_eq!(more("aclfile users"), None);
        let users = more("dir /d\naclfile users").unwrap();
        assert_eq!(users, ["--aclfile", "/d/users"]);
    }
}
