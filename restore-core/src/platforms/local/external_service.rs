//! A service that others look after: it is started, stopped and asked after by commands.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use super::config::{Ready, ServiceConfig};
use super::supervised::make_parent;
use super::{pid_file, ready};
use crate::model::{Error, ErrorKind, Result};
use crate::sys::blocking::blocking;
use crate::sys::private;
use crate::sys::process::exec;
use crate::sys::process::launch::{self, Bounds};
use crate::sys::process::procs::Ident;
use crate::sys::retry::Retry;
use crate::sys::spans::ProgramSpan;

/// How often `status` is asked.
const LOOK: Duration = Duration::from_millis(50);

/// How long `status` may take.
const STATUS: Duration = Duration::from_secs(15);

/// A start/stop/status triple. Its commands run as ourselves; `user` is whom the service runs as.
#[derive(Clone, Debug)]
pub(super) struct ExternalService {
    pub(super) config: ServiceConfig,
    pub(super) start: Vec<String>,
    pub(super) stop: Vec<String>,
    pub(super) status: Vec<String>,
    /// Where the commands' words go: not a pipe, which a server would inherit and hold open.
    pub(super) words: PathBuf,
    /// Is there from when it was told to end until it has, and says which process was.
    pub(super) ending: PathBuf,
}

impl ExternalService {
    /// Whether it runs, by its processes and its own word: these are seen also where that cannot be asked for.
    pub(super) async fn runs(&self) -> Result<bool> {
        Ok(
            self.process().await?.is_some()
                || self.told().await?.is_some()
                || self.status().await?,
        )
    }

    async fn status(&self) -> Result<bool> {
        Ok(self.run("status", &self.status, STATUS, false).await? == 0)
    }

    /// Whom its pid file names.
    async fn process(&self) -> Result<Option<Ident>> {
        match self.config.pid_file.clone() {
            Some(file) => blocking(move || Ok(pid_file::adopt(&file, None))).await,
            None => Ok(None),
        }
    }

    /// Whom its pid file named when it was told to end, and that still lives: the file may have left first.
    async fn told(&self) -> Result<Option<Ident>> {
        let note = self.ending.clone();
        blocking(move || Ok(pid_file::read(&note).filter(|it| it.lives()))).await
    }

    /// Makes it run and returns once it is ready.
    pub(super) async fn start(&self) -> Result<()> {
        let config = &self.config;
        self.wait_for_an_end().await?;
        let retry = Retry::within(config.start_timeout, LOOK);
        if !self.status().await? {
            self.act("start", &self.start, config.start_timeout).await?;
        }
        loop {
            let cause = if !self.status().await? {
                "its status command says that it does not run".to_owned()
            } else {
                match (config.ready, &config.endpoint) {
                    (Ready::Tcp, Some(endpoint)) => match ready::accepts(endpoint).await {
                        Ok(()) => return Ok(()),
                        Err(e) => format!("{}: {e}", ready::shown(endpoint)),
                    },
                    _ => return Ok(()),
                }
            };
            if retry.is_over() {
                return Err(Error::new(
                    ErrorKind::Failed,
                    "local.not_ready",
                    format!(
                        "the service {} is not ready after {:?}: {cause}",
                        config.name, config.start_timeout
                    ),
                )
                .hint("its own log says why; if it only needs longer, raise start_timeout"));
            }
            retry.pause().await;
        }
    }

    /// Waits for one that was told to end and still ends: it runs, but not for long. Not for ever, as it may
    /// have ignored that; where it says that it does not run then, and does, none is started beside it.
    async fn wait_for_an_end(&self) -> Result<()> {
        let config = &self.config;
        let longest = config.stop_timeout + config.start_timeout;
        let retry = Retry::within(longest, LOOK);
        while self.ending.exists() && self.runs().await? && !retry.is_over() {
            retry.pause().await;
        }
        match self.told().await? {
            Some(process) if !self.status().await? => Err(self.still_runs(longest, Some(process))),
            _ => self.forget_ending().await,
        }
    }

    /// Notes, for whoever starts it or stops it once more, that it was told to end.
    async fn note_ending(&self, process: Option<Ident>) -> Result<()> {
        let note = self.ending.clone();
        blocking(move || {
            make_parent(&note)?;
            match process {
                Some(process) => pid_file::write(&note, process),
                None => private::write(&note, "")
                    .map_err(|e| Error::io(format!("write {}", note.display()), e)),
            }
        })
        .await
    }

    async fn forget_ending(&self) -> Result<()> {
        let note = self.ending.clone();
        blocking(move || pid_file::remove(&note)).await
    }

    /// Ends it and returns once it is gone.
    pub(super) async fn stop(&self) -> Result<()> {
        let config = &self.config;
        let retry = Retry::within(config.stop_timeout, LOOK);
        // Its pid file leaves with it, and may leave first: also before an earlier stop gave up.
        let (told, named) = (self.told().await?, self.process().await?);
        if self.status().await? || named.is_some() {
            self.note_ending(told.or(named)).await?;
            self.act("stop", &self.stop, config.stop_timeout).await?;
        }
        let processes: Vec<Ident> = told.into_iter().chain(named).collect();
        loop {
            let running = self.status().await?;
            let lives = processes.iter().copied().find(|process| process.lives());
            if !running && lives.is_none() {
                return self.forget_ending().await;
            }
            if retry.is_over() {
                return Err(self.still_runs(config.stop_timeout, lives));
            }
            retry.pause().await;
        }
    }

    fn still_runs(&self, within: Duration, process: Option<Ident>) -> Error {
        let what = match process {
            Some(process) => format!("process {} still runs", process.pid),
            None => "its status command says that it still runs".to_owned(),
        };
        Error::new(
            ErrorKind::Failed,
            "local.does_not_end",
            format!(
                "the service {} has not ended within {within:?}: {what}",
                self.config.name
            ),
        )
        .hint("look at the service itself; if it only needs longer, raise stop_timeout")
    }

    async fn act(&self, what: &str, argv: &[String], time: Duration) -> Result<()> {
        let code = self.run(what, argv, time, true).await?;
        if code == 0 {
            return Ok(());
        }
        let words = self.words.clone();
        let said = blocking(move || Ok(last_words(&words).unwrap_or_default())).await?;
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<String> = said.lines().map(str::to_owned).collect();
        let from = lines.len().saturating_sub(5);
        Err(Error::new(
            ErrorKind::Failed,
            "local.command_failed",
            format!(
                "the service {}: `{}` ended with exit code {code}; {}",
                self.config.name,
                argv.join(" "),
                super::last_lines(lines.get(from..).unwrap_or_default())
            ),
        )
        .hint(format!("try that {what} command by hand")))
    }

    async fn run(&self, what: &str, argv: &[String], time: Duration, keep: bool) -> Result<i32> {
        let name = &self.config.name;
        let mut command = launch::command(argv, None, Bounds::default())?;
        command
            .current_dir(self.config.place.of_service(None))
            .stdin(Stdio::null());
        if keep {
            let words = self.words.clone();
            let file = blocking(move || {
                make_parent(&words)?;
                private::create(&words)
                    .map_err(|e| Error::io(format!("write {}", words.display()), e))
            })
            .await?;
            let again = file
                .try_clone()
                .map_err(|e| Error::io(format!("{what} {name}"), e))?;
            command.stdout(file).stderr(again);
        } else {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        let mut child = tokio::process::Command::from(command)
            .spawn()
            .map_err(|e| Error::io(format!("{what} {name}"), e))?;
        let program = argv.first().map_or("", String::as_str);
        let span = ProgramSpan::open(program, child.id());
        match tokio::time::timeout(time, child.wait()).await {
            Ok(status) => {
                let status = status.map_err(|e| Error::io(format!("{what} {name}"), e))?;
                let code = exec::code(status);
                span.ended(code);
                Ok(code)
            }
            Err(_) => {
                // Only the command: what it has started so far is the service.
                let _ = child.start_kill();
                Err(Error::new(
                    ErrorKind::Failed,
                    "local.command_hangs",
                    format!(
                        "the service {name}: `{}` has not ended within {time:?}",
                        argv.join(" ")
                    ),
                )
                .hint(format!("try that {what} command by hand")))
            }
        }
    }
}

/// The end of what a command has printed, however much that was.
fn last_words(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    const END: u64 = 64 * 1024;
    let mut file = crate::sys::open_to_read(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(END)))?;
    let mut said = Vec::new();
    file.take(END).read_to_end(&mut said)?;
    Ok(said)
}
