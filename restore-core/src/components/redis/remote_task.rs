//! What is done where the server's files are: by this process where they are on this host,
//! otherwise by one of ours beside the volume. Orders and answers are values either way.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::Client;
use super::data::DataLayout;
use super::prepare::Preparation;
use super::rewind::AofRecovery;
use super::scratch::{ScratchHost, memory_of};
use super::{Redis, aof, blocking, holders, prepare, rewind};
use crate::archive::Source;
use crate::components::remote_task::Attachments;
use crate::contract::{RemoteTask, RunContext, Volume};
use crate::model::{Error, ErrorKind, Progress, Result, RunId};
use crate::swap::scope::Discard;
use crate::swap::{Dir, LocalVolume};
use crate::sys::retry::Retry;
use crate::sys::{open_to_read_below, read_small_from};

/// What there is to do.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// See which of the files are there: [`LiveFiles`].
    Look { layout: DataLayout },
    /// See how much of the live append-only file leads to a moment: bytes, or `null`.
    Measure {
        layout: DataLayout,
        rewind: AofRecovery,
    },
    /// Stage: [`Prepared`](prepare::Prepared).
    Prepare(Box<Preparation>),
    /// End the scratch servers that a killed process left behind in this run.
    End { run: RunId },
}

impl Order {
    /// The run that it is done for.
    fn run(&self) -> Option<&RunId> {
        match self {
            Self::Prepare(preparation) => Some(&preparation.run),
            Self::End { run } => Some(run),
            Self::Look { .. } | Self::Measure { .. } => None,
        }
    }

    /// What the scratch servers that it starts may take in memory. Of the server's own data nobody knows.
    fn memory(&self) -> u64 {
        match self {
            Self::Prepare(preparation) => preparation.limit.as_ref().map_or(u64::MAX, memory_of),
            Self::Look { .. } | Self::Measure { .. } | Self::End { .. } => 0,
        }
    }
}

/// Which of the files that a server loads are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LiveFiles {
    /// The data directory itself.
    pub(super) directory: bool,
    /// The directory of a multi-part append-only file.
    pub(super) folder: bool,
    /// Its manifest.
    pub(super) manifest: bool,
    /// The single-file append-only file.
    pub(super) single: bool,
    /// How large all of it is.
    #[serde(default)]
    pub(super) bytes: Option<u64>,
    /// How large those of it are that a server loads when it starts.
    #[serde(default)]
    pub(super) loaded: Option<u64>,
    /// How large the base among those is.
    #[serde(default)]
    pub(super) base: Option<u64>,
    /// Whether the server has the last of those open; `None` where nobody can say.
    #[serde(default)]
    pub(super) held: Option<bool>,
}

impl LiveFiles {
    pub(super) fn below(root: &Path, layout: &DataLayout) -> Self {
        let folder = root.join(&layout.appenddirname);
        let single = root.join(&layout.appendfilename);
        let mut bytes = single.metadata().map_or(0, |meta| meta.len());
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            let manifest = entry.file_name() == layout.manifest().as_str();
            let size = entry.metadata().map_or(0, |meta| meta.len());
            bytes = bytes.saturating_add(if manifest { 0 } else { size });
        }
        let manifest = folder.join(layout.manifest());
        // One with names in quotes is not read here.
        let text = open_to_read_below(root, &manifest)
            .and_then(|file| read_small_from(file, aof::LONGEST))
            .ok()
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .filter(|text| !text.contains('"'));
        let listed = text.as_deref().map(aof::manifest_files);
        let mut lines = text.iter().flat_map(|text| text.lines());
        let base = lines.find(|line| line.trim_end().ends_with(" type b"));
        let base = base.and_then(|line| aof::manifest_files(line).pop());
        let files: Vec<PathBuf> = match listed {
            Some(names) => names.iter().map(|name| folder.join(name)).collect(),
            None if !folder.is_dir() => Vec::from([single.clone()]),
            None => Vec::new(),
        };
        let size = |file: &PathBuf| file.metadata().map_or(0, |meta| meta.len());
        let sizes = files.iter().map(size).fold(0, u64::saturating_add);
        Self {
            bytes: Some(bytes),
            loaded: (!files.is_empty()).then_some(sizes),
            base: base.map(|name| size(&folder.join(name))),
            held: files.last().and_then(|last| holders::holds(root, last)),
            directory: root.is_dir(),
            folder: folder.is_dir(),
            manifest: manifest.is_file(),
            single: single.is_file(),
        }
    }
}

impl Redis {
    /// Has an order done that takes a moment.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        volume: &dyn Volume,
        order: Order,
    ) -> Result<T> {
        let steps = |_: &str, _| Progress::hidden();
        let along = Attachments {
            source: None,
            steps: &steps,
            cancel: Default::default(),
        };
        self.order(volume, order, along).await
    }

    /// Has an order done for a run, with a file of its backup.
    pub(super) async fn ask_for<T: DeserializeOwned>(
        &self,
        cx: &RunContext,
        volume: &dyn Volume,
        order: Order,
        source: Option<Source>,
    ) -> Result<T> {
        let steps = |action: &str, total| cx.progress(action, total);
        let along = Attachments {
            source,
            steps: &steps,
            cancel: cx.cancelled().clone(),
        };
        self.order(volume, order, along).await
    }

    async fn order<T: DeserializeOwned>(
        &self,
        volume: &dyn Volume,
        order: Order,
        along: Attachments<'_>,
    ) -> Result<T> {
        let answer = match volume.path() {
            Some(root) => {
                let ground = ScratchHost::Service(self.platform.as_ref(), &self.section.service);
                act(volume, &root, ground, order, along).await?
            }
            None => {
                let (run, memory) = (order.run().cloned(), order.memory());
                let order = serde_json::to_value(order).map_err(unsaid)?;
                let task = RemoteTask::new("redis", order)
                    .of(run)
                    .with(along.source)
                    .taking(memory)
                    .watched(along.steps, along.cancel);
                volume.dispatch(task).await?
            }
        };
        serde_json::from_value(answer).map_err(unsaid)
    }

    /// Ends scratch servers of this run that a killed process left behind.
    pub(super) async fn end_leftovers(&self, cx: &RunContext, volume: &dyn Volume) -> Result<()> {
        let run = cx.run().clone();
        let ending = self.ask(volume, Order::End { run });
        match tokio::time::timeout(ENDING * 2, ending).await {
            Ok(ended) => ended,
            Err(_) => Err(Error::new(
                ErrorKind::Failed,
                "redis.leftover",
                format!(
                    "{} does not answer whether an earlier attempt has ended",
                    volume.describe()
                ),
            )
            .because(Leftover)
            .hint("see whether its file system can be read, then try again (`restore resume`)")
            .retryable()),
        }
    }
}

/// The other end: does what was ordered from another machine.
pub(crate) async fn serve(
    volume: &LocalVolume,
    order: Value,
    along: Attachments<'_>,
) -> Result<Value> {
    let order: Order = serde_json::from_value(order).map_err(unsaid)?;
    let root = volume.path().unwrap_or_default();
    let run = match &order {
        Order::Prepare(preparation) => Some(preparation.run.clone()),
        _ => None,
    };
    let answer = act(volume, &root, ScratchHost::Beside, order, along).await;
    // Whoever asked may be gone, and would not know that there is something.
    if let (Err(error), Some(run)) = (&answer, run)
        && !error.is(&Leftover)
    {
        let _ = volume.discard(&run, Discard::Staged).await;
    }
    answer
}

async fn act(
    volume: &dyn Volume,
    root: &Path,
    ground: ScratchHost<'_>,
    order: Order,
    along: Attachments<'_>,
) -> Result<Value> {
    match order {
        Order::Look { layout } => {
            let root = root.to_owned();
            value(blocking(move || Ok(LiveFiles::below(&root, &layout))).await?)
        }
        Order::Measure { layout, rewind } => {
            let way = rewind::find(root, &layout, rewind).await?;
            value(way.map(|way| way.bytes()))
        }
        Order::Prepare(preparation) => {
            value(prepare::prepare(volume, root, ground, *preparation, along).await?)
        }
        Order::End { run } => {
            let root = root.to_owned();
            if let Some(folder) = blocking(move || folder_of(&root, &run)).await? {
                end_below(Arc::new(folder)).await?;
            }
            Ok(Value::Null)
        }
    }
}

/// The folder of a run in the volume at `root`; `None` where there is none.
pub(super) fn folder_of(root: &Path, run: &RunId) -> Result<Option<Dir>> {
    // Whether the way there can be trusted was asked when the volume was opened.
    match crate::sys::open_directory(root, true)? {
        Ok(live) => Dir::of(live, root.to_owned()).there(run.folder()),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(e) => Err(Error::io(format!("open {}", root.display()), e.into())),
    }
}

/// Held while a run's data is prepared in its folder. An agent whose asker is gone still works, and
/// takes away what it has made: nobody else may prepare there until it has ended. `None` where the
/// file system has no such locks, and where the folder is somebody else's, who could hold it: then
/// nothing is prepared there.
pub(super) fn hold(folder: &Dir) -> Result<Option<File>> {
    if !folder.is_ours()? {
        return Ok(None);
    }
    let file = File::from(folder.again()?.into_fd());
    let folder = folder.path();
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::Error(_)) => Ok(None),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            ErrorKind::Failed,
            "redis.leftover",
            format!("an earlier attempt still works in {}", folder.display()),
        )
        .because(Leftover)
        .hint("it ends when its server has loaded, at the latest after load_timeout: then try again (`restore resume`)")
        .retryable()),
    }
}

/// The reason of an error: an earlier attempt has not ended.
#[derive(Debug, PartialEq)]
struct Leftover;

/// How long what is left of an earlier attempt may take to end.
const ENDING: Duration = Duration::from_secs(20);

/// Ends what is left of an earlier attempt: its servers, and then it has nothing to wait for.
async fn end_below(folder: Arc<Dir>) -> Result<()> {
    let retry = Retry::within(ENDING, Duration::from_millis(20));
    loop {
        let below = folder.clone();
        let left = blocking(move || Ok(holders::scratch_servers_below(&below))).await?;
        for held in &left {
            let patience = Duration::from_secs(5);
            Client::of_socket(&held.address(), "a leftover scratch server", patience)
                .shutdown(&held.shutdown)
                .await;
        }
        let busy = hold(&folder).err();
        if left.is_empty() && busy.is_none() {
            return Ok(());
        }
        if retry.is_over() {
            let place = folder.path().display();
            return Err(busy.filter(|_| left.is_empty()).unwrap_or_else(|| {
                Error::new(
                    ErrorKind::Failed,
                    "redis.leftover",
                    format!("a leftover scratch server below {place} does not end"),
                )
                .because(Leftover)
                .hint("end it by hand where that folder is, then try again (`restore resume`)")
            }));
        }
        retry.pause().await;
    }
}

fn value(answer: impl Serialize) -> Result<Value> {
    serde_json::to_value(answer).map_err(unsaid)
}

/// What cannot be a value, or is not the one expected. The words of `error` may be data.
fn unsaid(error: serde_json::Error) -> Error {
    Error::new(
        ErrorKind::Internal,
        "redis.errand",
        format!(
            "an order to work on its files, or the answer, cannot be read (a fault of the kind {:?})",
            error.classify()
        ),
    )
}
