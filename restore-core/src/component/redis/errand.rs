//! What is done where the server's files are: by this process where they are on this host,
//! otherwise by one of ours beside the volume. Orders and answers are values either way.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use deadpool_redis::redis::ConnectionAddr;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::{Client, Login};
use super::data::Layout;
use super::prepare::{self, Preparation};
use super::rewind::{self, Rewind};
use super::scratch::Ground;
use super::{Redis, blocking, holders};
use crate::component::ErrandAlong;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Progress;
use crate::platform::local::LocalVolume;
use crate::platform::{Errand, Volume};
use crate::run::{RunContext, RunId};
use crate::stream::Source;

/// What there is to do.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// See which of the files are there: [`Seen`].
    Look { layout: Layout },
    /// See how much of the live append-only file leads to a moment: bytes, or `null`.
    Measure { layout: Layout, rewind: Rewind },
    /// Stage: [`Prepared`](prepare::Prepared).
    Prepare(Box<Preparation>),
    /// End the scratch servers that a killed process left behind in this run.
    End { run: RunId },
}

/// Which of the files that a server loads are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// The data directory itself.
    pub(super) directory: bool,
    /// The directory of a multi-part append-only file.
    pub(super) folder: bool,
    /// Its manifest.
    pub(super) manifest: bool,
    /// The single-file append-only file.
    pub(super) single: bool,
}

impl Seen {
    fn below(root: &Path, layout: &Layout) -> Self {
        let folder = root.join(&layout.appenddirname);
        Self {
            directory: root.is_dir(),
            folder: folder.is_dir(),
            manifest: folder.join(layout.manifest()).is_file(),
            single: root.join(&layout.appendfilename).is_file(),
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
        let along = ErrandAlong {
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
        source: Source,
    ) -> Result<T> {
        let steps = |action: &str, total| cx.progress(action, total);
        let along = ErrandAlong {
            source: Some(source),
            steps: &steps,
            cancel: cx.cancelled().clone(),
        };
        self.order(volume, order, along).await
    }

    async fn order<T: DeserializeOwned>(
        &self,
        volume: &dyn Volume,
        order: Order,
        along: ErrandAlong<'_>,
    ) -> Result<T> {
        let answer = match volume.path() {
            Some(root) => {
                let ground = Ground::Service(self.platform.as_ref(), &self.section.service);
                act(volume, &root, ground, order, along).await?
            }
            None => {
                let order = serde_json::to_value(order).map_err(unsaid)?;
                let errand = Errand::new("redis", order)
                    .with(along.source)
                    .watched(along.steps, along.cancel);
                volume.send(errand).await?
            }
        };
        serde_json::from_value(answer).map_err(unsaid)
    }

    /// Ends scratch servers of this run that a killed process left behind.
    pub(super) async fn end_leftovers(&self, cx: &RunContext, volume: &dyn Volume) -> Result<()> {
        let run = cx.run().clone();
        self.ask(volume, Order::End { run }).await
    }
}

/// The other end: does what was ordered from another machine.
pub(crate) async fn serve(
    volume: &LocalVolume,
    order: Value,
    along: ErrandAlong<'_>,
) -> Result<Value> {
    let order = serde_json::from_value(order).map_err(unsaid)?;
    let root = volume.path().unwrap_or_default();
    act(volume, &root, Ground::Beside, order, along).await
}

async fn act(
    volume: &dyn Volume,
    root: &Path,
    ground: Ground<'_>,
    order: Order,
    along: ErrandAlong<'_>,
) -> Result<Value> {
    match order {
        Order::Look { layout } => {
            let root = root.to_owned();
            value(blocking(move || Ok(Seen::below(&root, &layout))).await?)
        }
        Order::Measure { layout, rewind } => {
            let way = rewind::find(root, &layout, rewind).await?;
            value(way.map(|way| way.bytes()))
        }
        Order::Prepare(preparation) => {
            value(prepare::prepare(volume, root, ground, *preparation, along).await?)
        }
        Order::End { run } => {
            let folder = root.join(run.folder());
            value(end_below(folder).await?)
        }
    }
}

/// Held while a run's data is prepared in its folder. An agent whose asker is gone still works, and
/// takes away what it has made: nobody else may prepare there until it has ended. `None` where the
/// file system has no such locks.
pub(super) fn hold(folder: &Path) -> Result<Option<File>> {
    let file =
        File::open(folder).map_err(|e| Error::io(format!("open {}", folder.display()), e))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::Error(_)) => Ok(None),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            ErrorKind::Failed,
            "redis.leftover",
            format!("an earlier attempt still works in {}", folder.display()),
        )
        .hint("it ends by itself within seconds: try again (`restore resume`)")
        .retryable()),
    }
}

/// How long what is left of an earlier attempt may take to end.
const ENDING: Duration = Duration::from_secs(20);

/// Ends what is left of an earlier attempt: its servers, and then it has nothing to wait for.
async fn end_below(folder: PathBuf) -> Result<()> {
    let deadline = Instant::now() + ENDING;
    loop {
        let below = folder.clone();
        let left = blocking(move || Ok(holders::scratch_servers_below(&below))).await?;
        for (pid, socket) in &left {
            let addr = ConnectionAddr::Unix(socket.clone());
            let what = format!("a leftover scratch server (process {pid})");
            let client = Client::new(addr, &Login::default(), what, Duration::from_secs(5))?;
            client.shutdown().await;
        }
        let busy = match folder.is_dir() {
            true => hold(&folder).err(),
            false => None,
        };
        if left.is_empty() && busy.is_none() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(match (left.first(), busy) {
                (None, Some(busy)) => busy,
                (pid, _) => {
                    let pid = pid.map_or(0, |(pid, _)| *pid);
                    Error::new(
                        ErrorKind::Failed,
                        "redis.leftover",
                        format!("a leftover scratch server (process {pid}) does not end"),
                    )
                    .hint(format!("end it by hand (kill {pid}), then try again"))
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
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
