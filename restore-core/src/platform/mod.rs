//! What runs the services: the traits that a platform implements.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::config::{SiteConfig, take_kind};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Progress;
use crate::finding::Finding;
use crate::run::RunId;
use crate::stream::{Measured, PackPolicy, Packed, Sink, Source, UnpackPolicy, Unpacked};
use crate::time::Timestamp;

pub mod agent;
mod errand;
mod images;
pub mod local;
mod nodes;
mod stacks;
mod swarm;

pub use errand::{Errand, Steps};
pub use images::{ImageUser, Images, LoadedImage};
pub use nodes::Nodes;
pub use stacks::Stacks;

pub(crate) use nodes::{NO_TREE, no_nodes};

/// Makes the platform that a site's configuration names; `state` is a private directory.
pub(crate) fn make(config: &SiteConfig, base: &Path, state: &Path) -> Result<Arc<dyn Platform>> {
    let kind = match config.platform.contains_key("kind") {
        true => take_kind(
            "platform",
            &mut config.platform.clone(),
            &["local", "swarm"],
        )?,
        false => "local".to_owned(),
    };
    match kind.as_str() {
        "swarm" => swarm::make(config, base, state),
        _ => local::make(config, base, state),
    }
}

/// What a service is and does right now, as the platform really sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceState {
    /// The service's exact name.
    pub name: String,
    /// How many instances are wanted.
    pub desired: u32,
    /// How many instances really run.
    pub running: u32,
    /// What runs, for people: a pid, task ids and nodes.
    pub detail: String,
    /// Since when all of them have run, where the platform knows that.
    #[serde(default)]
    pub since: Option<Timestamp>,
}

impl ServiceState {
    /// A service of which `desired` instances are wanted and `running` run.
    pub fn new(
        name: impl Into<String>,
        desired: u32,
        running: u32,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            desired,
            running,
            detail: detail.into(),
            since: None,
        }
    }

    /// The same service, all instances of which have run since then.
    #[must_use]
    pub fn since(mut self, since: Option<Timestamp>) -> Self {
        self.since = since;
        self
    }
}

/// Where a client can connect to a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Endpoint {
    /// A host name or address, or the directory of a unix socket (starts with `/`).
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// An endpoint at a host or socket directory, and a port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }
}

/// A program to run in the context of a service (as its user, on its machine or in its container).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Command {
    /// Program and arguments. Never put a secret here: every user of the host can read it.
    pub argv: Vec<String>,
    /// Variables added to its environment. Not shown by `Debug` of errors or events.
    pub env: BTreeMap<String, String>,
    /// The directory to run in, where it matters.
    pub dir: Option<PathBuf>,
}

impl Command {
    /// A command from its program and arguments.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// The same command with one more variable in its environment.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }
}

/// A running [`Command`]. Dropping it kills the program.
#[async_trait]
pub trait Process: Send {
    /// Standard input; `None` once taken. Closing (dropping) it ends the program's input.
    fn stdin(&mut self) -> Option<Box<dyn AsyncWrite + Send + Unpin>>;
    /// Standard output; `None` once taken.
    fn stdout(&mut self) -> Option<Box<dyn AsyncRead + Send + Unpin>>;
    /// Waits for the end: exit code (128 + signal where killed) and the last 16 KiB of
    /// standard error. Drains standard output where it was not taken.
    async fn wait(&mut self) -> Result<Exit>;
}

/// How a [`Process`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exit {
    /// The exit code; 128 + the signal's number where a signal ended it.
    pub code: i32,
    /// The last 16 KiB of standard error, lossily decoded.
    pub stderr: String,
}

impl Exit {
    /// An exit with its code and the end of its standard error.
    pub fn new(code: i32, stderr: impl Into<String>) -> Self {
        Self {
            code,
            stderr: stderr.into(),
        }
    }

    /// Whether the code is 0.
    pub fn success(&self) -> bool {
        self.code == 0
    }
}

/// A throwaway server over staged data. Stop it with [`Scratch::stop`]; dropping it kills it.
#[async_trait]
pub trait Scratch: Send + Sync {
    /// Asks it to end (SIGTERM), waits up to `grace`, then kills; returns once it is gone.
    async fn stop(self: Box<Self>, grace: Duration) -> Result<()>;
    /// The end of what it has written to its standard output and error, for messages.
    fn log_tail(&self) -> String;
    /// Whether it still runs.
    fn is_running(&self) -> bool;
}

/// What runs the services of a site.
///
/// Every method that waits has a deadline, waits for a condition instead of a time, and says
/// in its error what it waited for and what it saw instead.
#[async_trait]
pub trait Platform: Send + Sync {
    /// A few words for people: "local processes of this machine".
    fn describe(&self) -> String;

    /// The names of all services that the site names.
    fn services(&self) -> Vec<String>;

    /// What the service is and does right now. `NotFound` for a name the platform lacks.
    async fn service(&self, name: &str) -> Result<ServiceState>;

    /// Makes `replicas` instances run and returns once exactly these do: for 0, once the last
    /// process has really exited (not merely been asked to); otherwise once all run and are
    /// ready by the service's own definition. May be called again at any time; asking for what
    /// already is changes nothing. On failure the error carries the service's last log lines.
    async fn scale(&self, name: &str, replicas: u32) -> Result<()>;

    /// Starts a program in the context of a service, which need not run.
    async fn exec(&self, service: &str, command: Command) -> Result<Box<dyn Process>>;

    /// The service's log lines since `since`, at most the last `limit`; empty where it has no log.
    async fn logs(&self, service: &str, since: Timestamp, limit: usize) -> Result<Vec<String>>;

    /// Starts the same program once for each running instance of a service, in the context of
    /// that instance: what each of several has to be told by itself, such as a reload. Where none
    /// runs, once as [`exec`](Self::exec) does.
    async fn exec_each(&self, service: &str, command: Command) -> Result<Vec<Box<dyn Process>>> {
        Ok(vec![self.exec(service, command).await?])
    }

    /// Where a client of this process can connect to the service.
    async fn endpoint(&self, service: &str) -> Result<Endpoint>;

    /// Where a program that [`exec`](Self::exec) runs in the context of the service connects to
    /// the service's own server.
    async fn endpoint_inside(&self, service: &str) -> Result<Endpoint> {
        self.endpoint(service).await
    }

    /// A volume by its exact name. `NotFound` where the site or the engine has none of that
    /// name; looking never creates one.
    async fn volume(&self, name: &str) -> Result<Arc<dyn Volume>>;

    /// The programs that run beside a volume of the site whose files are not on this host, but for
    /// our own: their command lines, as far as the platform sees them.
    async fn at_work_on(&self, _volume: &str) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// The services that run, or are meant to, and have a volume of the site mounted: by the names
    /// that the site has for them, where it has any. Empty where the platform does not know.
    async fn in_use_by(&self, _volume: &str) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Runs a throwaway server in the context of a service (its user, its machine or image),
    /// for instance over staged data. `command` must stay in the foreground.
    async fn scratch(&self, service: &str, command: Command) -> Result<Box<dyn Scratch>>;

    /// Where users of this host's network reach what the service listens on at `port` inside its
    /// containers: an address for each running instance. Empty where nothing stands in between:
    /// that port of any address of the host.
    async fn published(&self, _service: &str, _port: u16) -> Result<Vec<Endpoint>> {
        Ok(Vec::new())
    }

    /// The images that services run; `None` where they run none.
    fn images(&self) -> Option<Arc<dyn Images>> {
        None
    }

    /// The stacks that can be deployed from compose files; `None` where there is no such thing.
    fn stacks(&self) -> Option<&dyn Stacks> {
        None
    }

    /// The machines that it runs on; `None` where it knows only this one.
    fn nodes(&self) -> Option<&dyn Nodes> {
        None
    }

    /// How processes of the service see a file of this host: the path to use there, or `None`
    /// where they cannot read it and its content has to be streamed.
    async fn path_in(&self, service: &str, host_path: &Path) -> Result<Option<PathBuf>>;

    /// Where processes of the service see a volume of the site, on whichever machine they run;
    /// `None` where they do not see it, or where nobody knows.
    async fn volume_in(&self, service: &str, volume: &str) -> Result<Option<PathBuf>> {
        match self.volume(volume).await?.path() {
            Some(path) => self.path_in(service, &path).await,
            None => Ok(None),
        }
    }

    /// The user and group that the service's processes run as, where known: whoever must own
    /// what is staged for it.
    async fn owner(&self, service: &str) -> Result<Option<(u32, u32)>>;

    /// What speaks against stopping, starting or swapping the data of these services, or is
    /// worth knowing before; changes nothing.
    async fn inspect(&self, _services: &[String]) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    /// Removes what processes that are gone left behind of their work for this site: throwaway
    /// servers, helpers. Called with the site's lock held. May be called at any time.
    async fn tidy(&self) -> Result<()> {
        Ok(())
    }

    /// Takes the lock that keeps processes of other hosts from working on this site, besides the
    /// one that keeps those of this host from it. `action` is what others are told. `None` where
    /// only this host can work on the platform. A lock of a process that is certainly gone is
    /// taken over; any other holder is an error of kind [`Locked`](crate::ErrorKind::Locked).
    async fn lock(&self, _action: &str) -> Result<Option<Box<dyn PlatformLock>>> {
        Ok(None)
    }

    /// The error that [`lock`](Self::lock) would give now; changes nothing.
    async fn ensure_unlocked(&self) -> Result<()> {
        Ok(())
    }

    /// Who holds the lock, in words for people; `None`: nobody.
    async fn lock_holder(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Takes the lock away from its holder, on the word of a person that the holder is gone.
    /// Refused where the holder is seen to live.
    async fn break_lock(&self) -> Result<()> {
        Ok(())
    }
}

/// A lock of a platform. Dropping it keeps it held, as a crash would: release it.
#[async_trait]
pub trait PlatformLock: Send + Sync {
    /// Gives it back.
    async fn release(self: Box<Self>) -> Result<()>;
}

/// Which entries of a volume a swap is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SwapScope {
    /// Every top-level entry, dotfiles included: afterwards the volume holds what was staged and
    /// nothing else.
    Everything,
    /// Only top-level entries of these names, whether live, staged or both; others stay.
    Entries(Vec<String>),
    /// File by file: directories that both have stay the same directory (bind mounts hold on
    /// to them), each file is replaced by rename, and files that the staged tree lacks leave.
    /// Paths in `keep` are neither moved nor replaced, nor are files of the maintenance mode.
    Tree {
        /// Left alone on both sides: a path relative to the volume, with all below it, or
        /// `**/NAME` (`**/conf.d/NAME`) at any depth, `*` standing for any characters but `/`.
        keep: Vec<String>,
    },
    /// File by file as in a tree, but only these paths.
    Paths {
        /// Relative to the volume; a directory: all below it. One that is neither live nor
        /// staged is an error before anything is moved.
        paths: Vec<String>,
        /// As for a tree.
        keep: Vec<String>,
    },
}

/// How far the swap of a run has come on a volume; found by looking, not by remembering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SwapState {
    /// Nothing of the run is on the volume.
    Nothing,
    /// Something is staged; live data is untouched.
    Staged,
    /// A swap was begun and is neither finished nor undone.
    Swapping,
    /// The staged data is live; what it replaced is kept beside it.
    Swapped,
}

/// What [`Volume::discard`] deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Discard {
    /// What was staged (or, after an undo, what had been live in between) and is not live.
    Staged,
    /// The data that the run replaced: there is no way back afterwards.
    Replaced,
}

/// Free and total room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Space {
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Inodes that can still be made; `u64::MAX` where the file system does not count them.
    pub free_inodes: u64,
    /// Identifies the file system, so that needs on the same one are added up.
    pub file_system: String,
}

impl Space {
    /// Room on the file system `file_system`.
    pub fn new(free_bytes: u64, free_inodes: u64, file_system: impl Into<String>) -> Self {
        Self {
            free_bytes,
            free_inodes,
            file_system: file_system.into(),
        }
    }

    /// The room in a directory of this host.
    ///
    /// # Errors
    ///
    /// `Failed` where it cannot be measured.
    pub fn of(directory: &Path) -> Result<Self> {
        use std::os::unix::fs::MetadataExt as _;

        let failed = |e| Error::io(format!("measure {}", directory.display()), e);
        let room = rustix::fs::statvfs(directory).map_err(|e| failed(e.into()))?;
        let device = std::fs::metadata(directory).map_err(failed)?.dev();
        Ok(Self::new(
            room.f_bavail.saturating_mul(room.f_frsize),
            // Some file systems make inodes as they need them and count none.
            if room.f_files == 0 {
                u64::MAX
            } else {
                room.f_favail
            },
            format!(
                "device {}:{}",
                rustix::fs::major(device),
                rustix::fs::minor(device)
            ),
        ))
    }
}

/// What of the entries that a swap made live is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Compared {
    /// Entries that the swap made live.
    pub swapped: u64,
    /// Those of them that are there.
    pub present: u64,
    /// How many of the others were directories.
    pub directories_gone: u64,
    /// The first few of the others.
    pub gone: Vec<String>,
}

/// A directory tree whose content can be swapped by rename.
///
/// A run stages into a hidden folder inside the volume (`.restore-RUN`), so that every move is a
/// rename within one file system. All methods are idempotent and probe what is there: each may
/// be called again after a crash at any moment, and finishes or finds its work done. Folders of
/// other runs (`.restore-*`) are never touched.
#[async_trait]
pub trait Volume: Send + Sync {
    /// A few words for people, with the place: "directory /srv/volumes/grafana_data".
    fn describe(&self) -> String;

    /// Where the volume's files are on this host, when they are reachable here.
    fn path(&self) -> Option<PathBuf>;

    /// Room where the volume is.
    async fn free_space(&self) -> Result<Space>;

    /// How far the swap of `run` has come.
    async fn state(&self, run: &RunId) -> Result<SwapState>;

    /// Makes the empty staging folder of `run` and returns its path as processes of this host
    /// see it, discarding what an earlier attempt of the same run left staged. Refused once a
    /// swap has begun.
    async fn stage_dir(&self, run: &RunId) -> Result<PathBuf>;

    /// Stages an archive: reads `source` once, hashing and unpacking in the same pass, into the
    /// (new, empty) staging folder, and makes it durable. On any error, a wrong hash included,
    /// nothing staged is left. Refused once a swap has begun.
    async fn unpack(
        &self,
        run: &RunId,
        source: Source,
        policy: &UnpackPolicy,
        progress: Progress,
    ) -> Result<Unpacked>;

    /// Packs the live tree into an archive, reading it once; see [`stream::pack`](crate::stream::pack).
    async fn pack(
        &self,
        policy: PackPolicy,
        sink: Sink,
        progress: Progress,
        cancel: CancellationToken,
    ) -> Result<Packed> {
        match self.path() {
            Some(root) => crate::stream::pack(&root, policy, sink, progress, cancel).await,
            None => Err(not_here(&self.describe())),
        }
    }

    /// How much [`pack`](Self::pack) would read; `None` where nobody knows.
    async fn measure(&self, except: &[String]) -> Result<Option<Measured>> {
        match self.path() {
            Some(root) => crate::stream::measure(&root, except).await.map(Some),
            None => Ok(None),
        }
    }

    /// Moves out of what is staged whatever matches one of these patterns (see
    /// [`SwapScope::Tree`]), and returns the paths that were moved, sorted. A swap leaves out
    /// what its scope keeps in any case: this is for saying what that is before.
    async fn leave_out(&self, run: &RunId, patterns: &[String]) -> Result<Vec<PathBuf>> {
        match self.path() {
            Some(root) => {
                let volume = local::LocalVolume::new(root);
                volume.leave_out(run, patterns).await
            }
            None => Err(not_here(&self.describe())),
        }
    }

    /// The names of the folders that runs have on it, sorted.
    async fn run_folders(&self) -> Result<Vec<String>> {
        match self.path() {
            Some(root) => local::LocalVolume::new(root).run_folders().await,
            None => Err(not_here(&self.describe())),
        }
    }

    /// Has a component's own work done where the files are, by the same component there, and
    /// returns what it came to: for volumes of other machines. Where the files are on this host
    /// ([`path`](Self::path)) a component works by itself.
    ///
    /// The work may have gone on when the connection is lost or this is dropped; whoever asks
    /// again has to be able to find that.
    async fn send(&self, errand: Errand<'_>) -> Result<Value> {
        Err(Error::new(
            ErrorKind::Preflight,
            "volume.not_here",
            format!(
                "the files of {} are not on this host, where data of the kind {} is prepared",
                self.describe(),
                errand.kind
            ),
        )
        .hint("run restore on the machine that has the volume, or leave the component out with --only"))
    }

    /// Makes what is staged live by renames and keeps what it replaces. Before the first rename
    /// the complete list of renames is written beside the data and synced; a call after a crash
    /// finishes that list. Done already: changes nothing.
    async fn swap(&self, run: &RunId, scope: &SwapScope) -> Result<()>;

    /// Takes a swap back, finished or not: afterwards the volume's live entries are what they
    /// were, and the others are staged again. Nothing swapped: changes nothing.
    async fn unswap(&self, run: &RunId) -> Result<()>;

    /// Deletes what is named. Never touches live data: `Staged` while swapped deletes nothing,
    /// `Replaced` while swapping is refused. Afterwards, with neither left, the hidden folder of
    /// the run is gone.
    async fn discard(&self, run: &RunId, what: Discard) -> Result<()>;

    /// Looks which of the entries that the swap of a run made live are there; all counts are 0
    /// where there was no swap.
    async fn compare(&self, run: &RunId) -> Result<Compared>;

    /// Where a swapped run keeps what it replaced, for people.
    fn replaced_at(&self, run: &RunId) -> String;
}

/// The error of whatever needs files to be on this host that are not.
fn not_here(what: &str) -> Error {
    Error::new(
        ErrorKind::Preflight,
        "volume.not_here",
        format!("the files of {what} are not on this host"),
    )
}
