//! A service that is a command which we start, watch and stop. It outlives this process.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::process::Signal;
use tokio::process::Child;
use tokio::time::Instant;

use super::config::{Ready, ServiceConfig};
use super::logs::LogFile;
use super::{pid_file, ready};
use crate::model::{Error, ErrorKind, Result};
use crate::sys::blocking::blocking;
use crate::sys::process::launch::{self, Bounds};
use crate::sys::process::procs::{Ident, Stat};
use crate::sys::process::watch::{ExitWatcher, signal_name};
use crate::sys::process::{exec, procs};
use crate::sys::{private, random_name, trust};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How long a new process without an endpoint must live to count as ready.
const SETTLED: Duration = Duration::from_millis(300);

/// How long something killed may take to be gone.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// Marks our services' processes, so that one is known even if we were killed between starting
/// it and writing that down.
const MARK: &str = "RESTORE_SERVICE";

/// The token of this one start, which stands in our record before there is a process: nobody else can know it.
const START: &str = "RESTORE_SERVICE_START";

/// A command that we supervise. Clones are the same service.
#[derive(Clone, Debug)]
pub(super) struct Supervised(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: ServiceConfig,
    argv: Vec<String>,
    signal: Signal,
    record: PathBuf,
    log: Arc<LogFile>,
    killed: Mutex<Option<String>>,
}

/// What there is of a service.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Its first process.
    pub(super) leader: Option<Ident>,
    /// Processes that outlived their leader.
    pub(super) orphans: HashSet<Ident>,
}

impl Supervised {
    pub(super) fn new(
        config: ServiceConfig,
        argv: Vec<String>,
        signal: Signal,
        record: PathBuf,
        log: Arc<LogFile>,
    ) -> Self {
        Self(Arc::new(Inner {
            config,
            argv,
            signal,
            record,
            log,
            killed: Mutex::new(None),
        }))
    }

    /// The program and its arguments.
    pub(super) fn command(&self) -> &[String] {
        &self.0.argv
    }

    /// What runs of it now.
    pub(super) async fn find(&self) -> Result<Found> {
        let inner = self.0.clone();
        blocking(move || Ok(inner.find())).await
    }

    /// What happened when it was last stopped, where that was not in order.
    pub(super) fn note(&self) -> Option<String> {
        self.killed().clone()
    }

    fn killed(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.0.killed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes it run and returns once it is ready.
    pub(super) async fn start(&self) -> Result<()> {
        let config = &self.0.config;
        let deadline = Instant::now() + config.start_timeout;
        let log_from = self.0.log.size();
        let found = self.find().await?;
        if found.leader.is_some() {
            return self.wait_ready(None, log_from, deadline).await;
        }
        if !found.orphans.is_empty() {
            // They hold its port and its files.
            self.stop().await?;
        }
        if let (Ready::Tcp, Some(endpoint)) = (config.ready, &config.endpoint)
            && ready::accepts(endpoint).await.is_ok()
        {
            let place = ready::shown(endpoint);
            return Err(Error::new(
                ErrorKind::Failed,
                "local.endpoint_taken",
                format!(
                    "cannot start {}: something else already listens at {place}",
                    config.name
                ),
            )
            .hint(format!(
                "see what it is (ss -ltnp); if it is {} started by other means, name its pid_file",
                config.name
            )));
        }
        self.killed().take();
        let inner = self.0.clone();
        // Starting is forking and writing a small file: not left half done by a cancellation.
        let child = blocking(move || inner.spawn()).await?;
        self.wait_ready(Some(child), log_from, deadline).await
    }

    async fn wait_ready(
        &self,
        mut child: Option<Child>,
        log_from: u64,
        deadline: Instant,
    ) -> Result<()> {
        let config = &self.0.config;
        let begun = Instant::now();
        loop {
            let ended = match &mut child {
                Some(child) => child
                    .try_wait()
                    .map_err(|e| Error::io(format!("watch {}", config.name), e))?,
                None => None,
            };
            let goes_on = match ended {
                // A server that goes into the background by itself says where in its pid file.
                Some(status) => status.success() && config.pid_file.is_some(),
                None => true,
            };
            let leader = self.find().await?.leader;
            let mut cause = "it does not run".to_owned();
            match leader {
                None if !goes_on || child.is_none() => {
                    let how = ended.map_or_else(
                        || "ended while it was waited for".to_owned(),
                        |status| format!("ended at once with exit code {}", exec::code(status)),
                    );
                    return Err(self.failed("local.died", &how, log_from).hint(
                        "its log says why; if it goes into the background by itself, \
                         name its pid_file",
                    ));
                }
                None => {}
                Some(leader) => {
                    let settled = match (config.ready, &config.endpoint) {
                        (Ready::Tcp, Some(endpoint)) => ready::accepts(endpoint)
                            .await
                            .map_err(|e| format!("{}: {e}", ready::shown(endpoint))),
                        _ if child.is_none() || begun.elapsed() >= SETTLED => Ok(()),
                        _ => Err("it has only just started".to_owned()),
                    };
                    match settled {
                        Ok(()) => {
                            let record = self.0.record.clone();
                            return blocking(move || {
                                if pid_file::read(&record) == Some(leader) {
                                    return Ok(());
                                }
                                make_parent(&record)?;
                                pid_file::write(&record, leader)
                            })
                            .await;
                        }
                        Err(why) => cause = why,
                    }
                }
            }
            if Instant::now() >= deadline {
                let how = format!("is not ready after {:?} ({cause})", config.start_timeout);
                return Err(self
                    .failed("local.not_ready", &how, log_from)
                    .hint("its log says why; if it only needs longer, raise start_timeout"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn failed(&self, code: &'static str, how: &str, log_from: u64) -> Error {
        let last = super::last_lines(&self.0.log.after(log_from, 5));
        Error::new(
            ErrorKind::Failed,
            code,
            format!(
                "the service {} {how}; {last} ({})",
                self.0.config.name,
                self.0.log.path().display()
            ),
        )
    }

    /// Ends it and returns once its last process is gone. What does not end within the service's
    /// stop_timeout is killed, and [`note`](Self::note) says so afterwards.
    pub(super) async fn stop(&self) -> Result<()> {
        let config = &self.0.config;
        let found = self.find().await?;
        let mut watch = ExitWatcher::new(found.leader, found.orphans);
        watch.look(true).await?;
        let what = if watch.leader.is_some() {
            watch.signal_leader(self.0.signal)?;
            "it"
        } else {
            watch.signal_left(self.0.signal)?;
            "what its first process left behind"
        };
        if !watch.gone_by(config.stop_timeout, self.0.signal).await? {
            watch.look(true).await?;
            watch.signal_leader(Signal::KILL)?;
            watch.signal_left(Signal::KILL)?;
            *self.killed() = Some(format!(
                "{what} did not end within {:?} of {}",
                config.stop_timeout,
                signal_name(self.0.signal)
            ));
            if !watch.gone_by(KILL_GRACE, Signal::KILL).await? {
                return Err(Error::new(
                    ErrorKind::Failed,
                    "local.does_not_end",
                    format!(
                        "the service {} does not end, not even killed: {} still there",
                        config.name,
                        watch.shown()
                    ),
                )
                .hint(
                    "it hangs in the kernel, usually on a disk or network file system: look there",
                ));
            }
        }
        let record = self.0.record.clone();
        blocking(move || pid_file::remove(&record)).await
    }
}

impl Inner {
    fn find(&self) -> Found {
        let record = pid_file::read(&self.record);
        let leader = record
            .filter(|ident| ident.lives())
            .or_else(|| self.adopt())
            .or_else(|| record.is_none().then(|| self.marked()).flatten());
        let orphans = match (leader, record) {
            (None, Some(dead)) => procs::family(&HashSet::from([dead])),
            _ => HashSet::new(),
        };
        Found { leader, orphans }
    }

    /// The server that its own pid file names, if that is this service's program and user.
    fn adopt(&self) -> Option<Ident> {
        let user = self.config.account.as_ref().map(|account| account.uid);
        let ident = pid_file::adopt(self.config.pid_file.as_ref()?, user)?;
        self.is_run_by(ident).then_some(ident)
    }

    /// Whether a process looks like the program of the command, or like what a shell there becomes.
    fn is_run_by(&self, ident: Ident) -> bool {
        let words = self.argv.iter().filter(|word| !word.starts_with('-'));
        let mut named = words.flat_map(|word| {
            let parts = word.split_whitespace();
            let becomes = parts.clone().zip(parts.skip(1));
            let becomes = becomes.filter_map(|(word, next)| (word == "exec").then_some(next));
            std::iter::once(word.as_str()).chain(becomes)
        });
        named.any(|word| ident.runs(word))
    }

    /// The process that we started without coming to write it down, whatever has become of it: a script, or
    /// what changes the user, ends in another program. It has the token that we announced. Where the record
    /// is gone there is only our mark, which anybody can put into the environment of a process: then only one
    /// of the service's user that looks like the command is believed.
    fn marked(&self) -> Option<Ident> {
        let mark = self.mark();
        let token = pid_file::announced(&self.record).map(|token| format!("{START}={token}"));
        let own = std::process::id().cast_signed();
        let account = self.config.account.as_ref();
        let user = account.map_or_else(
            || rustix::process::geteuid().as_raw(),
            |account| account.uid,
        );
        procs::all()
            .into_iter()
            .filter(|stat| stat.group == stat.ident.pid && stat.ident.pid != own)
            .map(|stat| stat.ident)
            .filter(|ident| match &token {
                Some(token) => ident.has_env(token),
                None => ident.has_env(&mark) && ident.is_of(&[user, 0]) && self.is_run_by(*ident),
            })
            .min_by_key(|ident| ident.start)
    }

    fn mark(&self) -> String {
        format!("{MARK}={}", self.record.display())
    }

    /// The log, for appending. In a folder of the service's user a link could lead root anywhere, and
    /// a pipe would hold it for ever: neither is followed or waited for.
    fn open_log(&self) -> Result<std::fs::File> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.log.path();
        let failed = |e| Error::io(format!("open the log {}", path.display()), e);
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let is_ours = path.parent().is_none_or(trust::is_ours);
        let file = if is_ours {
            OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o640)
                .custom_flags(flags.bits().cast_signed())
                .open(path)
                .map_err(failed)?
        } else {
            let flags = flags | OFlags::CREATE | OFlags::APPEND | OFlags::WRONLY | OFlags::CLOEXEC;
            let no_links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            rustix::fs::openat2(CWD, path, flags, Mode::from_raw_mode(0o640), no_links)
                .map_err(|e| failed(e.into()))?
                .into()
        };
        let meta = file.metadata().map_err(failed)?;
        // Another name of it may be a file of root's.
        if !meta.is_file() || (!is_ours && std::os::unix::fs::MetadataExt::nlink(&meta) != 1) {
            return Err(Error::new(
                ErrorKind::Failed,
                "local.bad_log",
                format!("the log {} is not a file of its own", path.display()),
            )
            .hint("see what it is (ls -l), or name another `log` for the service"));
        }
        // Whoever writes to it waits as for any file.
        rustix::fs::fcntl_setfl(&file, OFlags::APPEND).map_err(|e| failed(e.into()))?;
        Ok(file)
    }

    fn spawn(&self) -> Result<Child> {
        let name = &self.config.name;
        let failed = |e| Error::io(format!("start {name}"), e);
        let account = self.config.account.as_ref();
        let mut command = launch::command(&self.argv, account, Bounds::default())?;
        let directory = self.config.place.of_service(account);
        if !directory.is_dir() {
            return Err(no_directory(name, &directory));
        }
        command.current_dir(directory);
        make_parent(&self.record)?;
        // A missing directory is made only where nobody else could lead it elsewhere.
        if self.log.path().parent().is_some_and(|dir| !dir.exists()) {
            crate::sys::check_ancestors(self.log.path(), false)?;
            make_parent(self.log.path())?;
        }
        let log = self.open_log()?;
        // An old record would speak of another process. From here on the process is found by its token, and
        // where that cannot be written, on a full disk, there is none.
        let token = random_name()?;
        pid_file::announce(&self.record, &token)?;
        command
            .env(MARK, &self.record)
            .env(START, token)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log);
        let child = tokio::process::Command::from(command)
            .spawn()
            .map_err(failed)?;
        tracing::debug!(
            service = self.config.name.as_str(),
            pid = child.id(),
            "service started"
        );
        let pid = child.id().map(u32::cast_signed);
        if let Some(stat) = pid.and_then(Stat::read) {
            write_down(&self.record, stat.ident)?;
        }
        Ok(child)
    }
}

/// So often what a process starts while it is killed is looked for.
const ROUNDS: u32 = 20;

/// Writes down what was just started. Where that fails it is ended at once, with what it has started by then:
/// the start has failed, and whoever takes that back would move data away from under it.
fn write_down(record: &Path, ident: Ident) -> Result<()> {
    pid_file::write(record, ident).inspect_err(|_| {
        let roots = HashSet::from([ident]);
        let mut started = procs::family(&roots);
        started.insert(ident);
        // What one of them forks meanwhile is found by its group.
        for _ in 0..ROUNDS {
            for ident in &started {
                let _ = ident.signal(Signal::KILL);
            }
            std::thread::sleep(LOOK);
            started = procs::family(&roots);
            if started.is_empty() {
                break;
            }
        }
    })
}

fn no_directory(service: &str, directory: &Path) -> Error {
    Error::new(
        ErrorKind::Failed,
        "local.no_directory",
        format!(
            "the service {service} is to run in {}, and there is no such directory",
            directory.display()
        ),
    )
    .hint(format!(
        "make the directory, or correct `directory` of [services.{service}]"
    ))
}

pub(super) fn make_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) => private::create_dir_all(parent)
            .map_err(|e| Error::io(format!("make the directory {}", parent.display()), e)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_down_does_not_go_on() {
        use std::os::unix::process::{CommandExt, ExitStatusExt};
        let dir = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 600; true"])
            .process_group(0)
            .spawn()
            .unwrap();
        let ident = Ident::of(child.id().cast_signed()).unwrap();
        write_down(&dir.path().join("app.pid"), ident).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        write_down(&dir.path().join("gone/app.pid"), ident).unwrap_err();
        let killed = child.wait().unwrap();
        assert_eq!(killed.signal(), Some(Signal::KILL.as_raw()));
        let until = Instant::now() + KILL_GRACE;
        while !procs::family(&HashSet::from([ident])).is_empty() {
            assert!(Instant::now() < until, "what it has started goes on");
            std::thread::sleep(LOOK);
        }
    }
}
