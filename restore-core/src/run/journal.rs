//! The journal of a run: awaited, synced, written before the effect it announces.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde_json::Value;

use super::{Boundary, BoundaryHook, FactStore, Record, RunId, RunState};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Timestamp;

/// The journal of one run, open for appending; cheap to clone.
#[derive(Clone)]
pub(crate) struct Journal {
    inner: Arc<Mutex<Inner>>,
    hook: Option<Arc<BoundaryHook>>,
}

/// What a record has changed for users. Of steps that are done at the same time only one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing.
    None,
    /// They are turned away from then on.
    Away(Timestamp),
    /// They are let in again, who were turned away since then.
    In(Timestamp),
}

struct Inner {
    file: File,
    path: PathBuf,
    /// Bytes of whole lines.
    whole: u64,
    state: RunState,
    boundaries: usize,
}

const FILE_NAME: &str = "journal.jsonl";

/// Room kept back beside the journal: on a full disk it is given up, so that an undo can still
/// write down what it does.
const RESERVE: &str = "reserve";
const RESERVE_BYTES: usize = 512 * 1024;

impl Journal {
    /// Begins the journal of a new run in `runs/RUN/`; durable when this returns.
    pub(crate) async fn create(
        runs: &Path,
        begun: Record,
        hook: Option<Arc<BoundaryHook>>,
    ) -> Result<Self> {
        let state = RunState::begin(&begun).ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "journal.first",
                "a journal begins with `begun`",
            )
        })?;
        let folder = runs.join(state.run.as_str());
        let runs = runs.to_owned();
        let journal = blocking(move || {
            let fail = |e| Error::io(format!("begin the journal in {}", folder.display()), e);
            std::fs::create_dir_all(&runs).map_err(fail)?;
            std::fs::create_dir(&folder).map_err(fail)?;
            let path = folder.join(FILE_NAME);
            let mut file = OpenOptions::new()
                .create_new(true)
                .append(true)
                // What a journal tells of a platform is nobody else's business.
                .mode(0o600)
                .open(&path)
                .map_err(fail)?;
            write_reserve(&folder).map_err(fail)?;
            let whole = write_line(&mut file, &begun).map_err(fail)?;
            let state_dir = runs.parent().map(Path::to_owned);
            for dir in [Some(&folder), Some(&runs), state_dir.as_ref()]
                .into_iter()
                .flatten()
            {
                File::open(dir)
                    .and_then(|dir| dir.sync_all())
                    .map_err(fail)?;
            }
            Ok(Inner {
                file,
                path,
                whole,
                state,
                boundaries: 0,
            })
        })
        .await?;
        let journal = Self {
            inner: Arc::new(Mutex::new(journal)),
            hook,
        };
        journal.boundary("begun")?;
        Ok(journal)
    }

    /// Opens the journal of an earlier run for appending. A last line that a crash tore is cut
    /// off: what it announced had not begun.
    pub(crate) async fn open(
        runs: &Path,
        run: &RunId,
        hook: Option<Arc<BoundaryHook>>,
    ) -> Result<Self> {
        let path = runs.join(run.as_str()).join(FILE_NAME);
        let inner = blocking(move || {
            let (state, whole) = read(&path)?;
            let fail = |e| Error::io(format!("open the journal {}", path.display()), e);
            let file = OpenOptions::new().append(true).open(&path).map_err(fail)?;
            if let Some(folder) = path.parent() {
                // Given up by an earlier attempt, perhaps; without room there is none to keep.
                let _ = write_reserve(folder);
            }
            if file.metadata().map_err(fail)?.len() != whole {
                file.set_len(whole)
                    .and_then(|()| file.sync_all())
                    .map_err(fail)?;
            }
            Ok(Inner {
                file,
                path,
                whole,
                state,
                boundaries: 0,
            })
        })
        .await?;
        Ok(Self {
            inner: Arc::new(Mutex::new(inner)),
            hook,
        })
    }

    /// What the journal of an earlier run says; changes nothing.
    pub(crate) async fn peek(runs: &Path, run: &RunId) -> Result<RunState> {
        let path = runs.join(run.as_str()).join(FILE_NAME);
        blocking(move || Ok(read(&path)?.0)).await
    }

    /// What all journals say, oldest run first; a folder without a whole first line is a run
    /// that never began.
    pub(crate) async fn all(runs: &Path) -> Result<Vec<RunState>> {
        let runs = runs.to_owned();
        blocking(move || {
            let fail = |e| Error::io(format!("read the runs in {}", runs.display()), e);
            let entries = match std::fs::read_dir(&runs) {
                Ok(entries) => entries,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(e) => return Err(fail(e)),
            };
            let mut states = Vec::new();
            for entry in entries {
                let entry = entry.map_err(fail)?;
                let named_by_id = entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| name.parse::<RunId>().is_ok());
                if !named_by_id {
                    continue;
                }
                match read(&entry.path().join(FILE_NAME)) {
                    Ok((state, _)) => states.push(state),
                    Err(e) if matches!(e.code(), "journal.empty" | "run.unknown") => {}
                    Err(e) => return Err(e),
                }
            }
            states.sort_by(|a, b| (a.started, &a.run).cmp(&(b.started, &b.run)));
            Ok(states)
        })
        .await
    }

    /// Appends a record; durable when this returns. An error of the boundary hook comes after
    /// the record is durable.
    pub(crate) async fn append(&self, record: Record) -> Result<()> {
        self.append_and_see(record).await.map(drop)
    }

    /// The same, and what this very record has changed for users.
    pub(crate) async fn append_and_see(&self, record: Record) -> Result<Turn> {
        let name = record.name();
        let journal = self.clone();
        // A dropped caller does not tear this: the blocking task runs to its end.
        let turn = blocking(move || {
            let mut inner = journal.lock();
            let inner = &mut *inner;
            inner
                .write(&record)
                .map_err(|e| Error::io(format!("write the journal {}", inner.path.display()), e))?;
            let before = inner.state.down_since;
            inner.state.apply(&record);
            Ok(match (before, inner.state.down_since) {
                (None, Some(at)) => Turn::Away(at),
                (Some(since), None) => Turn::In(since),
                _ => Turn::None,
            })
        })
        .await?;
        self.boundary(&name)?;
        Ok(turn)
    }

    /// What the journal says now.
    pub(crate) fn state(&self) -> RunState {
        self.lock().state.clone()
    }

    /// Looks something up in what the journal says, without copying all of it.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&RunState) -> T) -> T {
        look(&self.lock().state)
    }

    /// The folder of the run.
    pub(crate) fn folder(&self) -> PathBuf {
        let inner = self.lock();
        inner.path.parent().map(Path::to_owned).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn boundary(&self, record: &str) -> Result<()> {
        let index = {
            let mut inner = self.lock();
            inner.boundaries += 1;
            inner.boundaries - 1
        };
        match &self.hook {
            Some(hook) => hook(&Boundary {
                index,
                record: record.to_owned(),
            }),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl FactStore for Journal {
    async fn record(&self, component: &str, key: &str, value: Value) -> Result<()> {
        if self.recall(component, key).is_some() {
            return Ok(());
        }
        self.append(Record::Fact {
            component: component.to_owned(),
            key: key.to_owned(),
            value,
        })
        .await
    }

    fn recall(&self, component: &str, key: &str) -> Option<Value> {
        self.with(|state| state.fact(component, key).cloned())
    }
}

impl Inner {
    /// Appends one line, durably or not at all. A full disk is met once with the reserve.
    fn write(&mut self, record: &Record) -> std::io::Result<()> {
        let mut result = write_line(&mut self.file, record);
        if let Err(error) = &result
            && error.kind() == std::io::ErrorKind::StorageFull
            && std::fs::remove_file(self.path.with_file_name(RESERVE)).is_ok()
        {
            self.file.set_len(self.whole)?;
            result = write_line(&mut self.file, record);
        }
        match result {
            Ok(bytes) => {
                self.whole += bytes;
                Ok(())
            }
            Err(error) => {
                // Half a line must not stand before the next one.
                self.file.set_len(self.whole)?;
                Err(error)
            }
        }
    }
}

fn write_reserve(folder: &Path) -> std::io::Result<()> {
    let mut file = File::create(folder.join(RESERVE))?;
    file.write_all(&vec![0; RESERVE_BYTES])?;
    file.sync_data()
}

/// Writes a record as one line and syncs it; returns the line's length.
fn write_line(file: &mut File, record: &Record) -> std::io::Result<u64> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    // One write, so that a crash tears at most the last line.
    file.write_all(&line)?;
    file.sync_data()?;
    Ok(line.len() as u64)
}

/// Reads a journal: what it says, and how many of its bytes are whole lines.
fn read(path: &Path) -> Result<(RunState, u64)> {
    let bytes = std::fs::read(path).map_err(|e| {
        if e.kind() == std::io::ErrorKind::NotFound {
            Error::new(
                ErrorKind::NotFound,
                "run.unknown",
                format!("there is no run with the journal {}", path.display()),
            )
            .hint("`restore history` lists the runs")
        } else {
            Error::io(format!("read the journal {}", path.display()), e)
        }
    })?;
    let mut state: Option<RunState> = None;
    let mut whole = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(text) = line.strip_suffix(b"\n") else {
            break;
        };
        let record: Record = serde_json::from_slice(text).map_err(|e| {
            Error::new(
                ErrorKind::Failed,
                "journal.damaged",
                format!("the journal {} is damaged after byte {whole}: {e}", path.display()),
            )
            .hint("if that run is confirmed or no longer matters, move its folder away; otherwise keep it: the replaced data lies in places named `.restore-RUN` and databases named `*_replaced_RUN`")
        })?;
        match &mut state {
            Some(state) => state.apply(&record),
            None => state = RunState::begin(&record),
        }
        whole += line.len() as u64;
    }
    match state {
        Some(state) => Ok((state, whole)),
        None => Err(Error::new(
            ErrorKind::Failed,
            "journal.empty",
            format!("the journal {} holds no whole first line", path.display()),
        )),
    }
}

/// File work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "journal.thread",
            format!("the journal's thread died: {e}"),
        )
    })?
}
