//! The journal of a run: awaited, synced, written before the effect it announces.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde_json::Value;

use super::{Boundary, BoundaryHook, Record, RunState};
use crate::contract::FactStore;
use crate::model::{Error, ErrorKind, Result, RunId, Timestamp};
use crate::sys::private;
use crate::sys::trust::{self, Trust};

/// The journal of one run, open for appending; cheap to clone.
#[derive(Clone)]
pub(crate) struct Journal {
    inner: Arc<Mutex<Inner>>,
    hook: Option<Arc<BoundaryHook>>,
}

/// What a record has changed for users. Of steps that are done at the same time only one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DowntimeChange {
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

/// A run whose journal cannot be read.
pub(crate) struct LostRun {
    pub(crate) run: RunId,
    /// The report that it has left, as a value.
    pub(crate) report: Option<PathBuf>,
    /// Why its journal cannot be read.
    pub(crate) error: Error,
}

impl LostRun {
    /// Whether its journal is empty or not there, as that of a run is which was killed as it began.
    pub(crate) fn never_began(&self) -> bool {
        self.error.is(&NeverBegun)
    }
}

const FILE_NAME: &str = "journal.jsonl";
/// What a run did as a value, written when it ended.
pub(super) const REPORT: &str = "report.json";

/// The reason of an error: a journal in which there is not one whole line, or which is not there.
#[derive(Debug, PartialEq)]
struct NeverBegun;

/// So many drills are remembered.
const DRILLS: usize = 200;
/// The folder of one that is being forgotten.
const FORGOTTEN: &str = ".forgotten";

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
            private::create_dir_all(&runs).map_err(fail)?;
            private::create_dir(&folder).map_err(fail)?;
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
    /// off: what it announced had not begun. A damaged journal is only opened to end its run.
    pub(crate) async fn open(
        runs: &Path,
        run: &RunId,
        hook: Option<Arc<BoundaryHook>>,
        to_end: bool,
    ) -> Result<Self> {
        let path = runs.join(run.as_str()).join(FILE_NAME);
        let inner = blocking(move || {
            let (state, whole) = read(&path)?;
            if let Some(damage) = state.damaged.clone().filter(|_| !to_end) {
                return Err(damaged(&state.run, damage));
            }
            let fail = |e| Error::io(format!("open the journal {}", path.display()), e);
            let file = open_own(&path, OpenOptions::new().append(true)).map_err(fail)?;
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

    /// What the journal of an earlier run says, of which all can be read; changes nothing.
    pub(crate) async fn peek(runs: &Path, run: &RunId) -> Result<RunState> {
        let state = Self::peek_at(runs, run).await?;
        match state.damaged.clone() {
            Some(damage) => Err(damaged(run, damage)),
            None => Ok(state),
        }
    }

    /// What the journal of an earlier run says, as far as it can be read.
    pub(crate) async fn peek_at(runs: &Path, run: &RunId) -> Result<RunState> {
        let (runs, path) = (runs.to_owned(), runs.join(run.as_str()).join(FILE_NAME));
        blocking(move || {
            trusted(&runs)?;
            Ok(read(&path)?.0)
        })
        .await
    }

    /// The runs that were begun and whose journal cannot be read, not even its first line.
    pub(crate) async fn lost(runs: &Path) -> Result<Vec<LostRun>> {
        let mut lost = Self::unread(runs).await?;
        // Killed before its first line was whole: it never began.
        lost.retain(|run| !run.never_began() || run.report.is_some());
        Ok(lost)
    }

    /// As `lost`, with those of which nothing tells whether they began.
    pub(crate) async fn unread(runs: &Path) -> Result<Vec<LostRun>> {
        let runs = runs.to_owned();
        blocking(move || {
            let mut lost = Vec::new();
            for (run, folder) in folders(&runs)? {
                let report = Some(folder.join(REPORT)).filter(|report| report.exists());
                if let Err(error) = read(&folder.join(FILE_NAME)) {
                    lost.push(LostRun { run, report, error });
                }
            }
            Ok(lost)
        })
        .await
    }

    /// What all journals say that can be read, oldest run first, each as far as it can be read. One
    /// that cannot be is [lost](Self::lost), and holds up no other.
    pub(crate) async fn all(runs: &Path) -> Result<Vec<RunState>> {
        let runs = runs.to_owned();
        blocking(move || {
            let read = |(_, folder): (RunId, PathBuf)| read(&folder.join(FILE_NAME)).ok();
            let mut states: Vec<RunState> = folders(&runs)?
                .into_iter()
                .filter_map(read)
                .map(|(state, _)| state)
                .collect();
            let order = |state: &RunState| (state.number, state.started, state.run.clone());
            states.sort_by_key(order);
            Ok(states)
        })
        .await
    }

    /// Deletes what is known of the oldest drills, of which nothing is left to be done: whoever drills every night has
    /// each plan read no more of them than the newest [`DRILLS`].
    pub(crate) async fn forget_drills(runs: &Path) -> Result<()> {
        let all = Self::all(runs).await?.into_iter();
        let settled: Vec<RunId> = all
            .filter(|it| it.plan.request.drill && it.damaged.is_none() && it.is_settled())
            .map(|it| it.run)
            .collect();
        let more = settled.len().saturating_sub(DRILLS);
        let runs = runs.to_owned();
        blocking(move || {
            // Aside first: a folder that is half deleted would be a run of which nobody knows what it did.
            let aside = runs.join(FORGOTTEN);
            for run in settled.iter().take(more) {
                let folder = runs.join(run.as_str());
                let deleted = clear(&aside)
                    .and_then(|()| std::fs::rename(&folder, &aside))
                    .and_then(|()| clear(&aside));
                deleted.map_err(|e| Error::io(format!("delete {}", folder.display()), e))?;
            }
            Ok(())
        })
        .await
    }

    /// The records of a run's journal from a byte on, and where the last whole line of it ends. Lines
    /// that cannot be read are passed over.
    pub(crate) async fn records(runs: &Path, run: &RunId, from: u64) -> Result<(Vec<Record>, u64)> {
        let (runs, path) = (runs.to_owned(), runs.join(run.as_str()).join(FILE_NAME));
        blocking(move || {
            trusted(&runs)?;
            let fail = |e| Error::io(format!("read the journal {}", path.display()), e);
            let opened = open_own(&path, File::options().read(true));
            let mut file = opened.map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => unknown(&path),
                _ => fail(e),
            })?;
            is_own(&path, &file)?;
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(from))
                .and_then(|_| file.read_to_end(&mut bytes))
                .map_err(fail)?;
            let mut records = Vec::new();
            let mut end = from;
            for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                let Some(text) = line.strip_suffix(b"\n") else {
                    break;
                };
                records.extend(serde_json::from_slice::<Record>(text));
                end += line.len() as u64;
            }
            Ok((records, end))
        })
        .await
    }

    /// Appends a record; durable when this returns. An error of the boundary hook comes after
    /// the record is durable.
    pub(crate) async fn append(&self, record: Record) -> Result<()> {
        self.append_and_see(record).await.map(drop)
    }

    /// As `append`; says what this very record has changed for users.
    pub(crate) async fn append_and_see(&self, record: Record) -> Result<DowntimeChange> {
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
                (None, Some(at)) => DowntimeChange::Away(at),
                (Some(since), None) => DowntimeChange::In(since),
                _ => DowntimeChange::None,
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

    /// Gives the room back that is held for the run's end, once nothing more is to be done about it.
    pub(crate) fn settle(&self) {
        if self.with(RunState::is_settled) {
            // It is in nobody's way where it cannot be deleted.
            let _ = std::fs::remove_file(self.folder().join(RESERVE));
        }
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
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        if let Err(error) = &result
            && matches!(error.kind(), StorageFull | QuotaExceeded)
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
    // It is not given away for a moment in which somebody else could take its room.
    let there = folder.join(RESERVE).symlink_metadata();
    if there.is_ok_and(|meta| meta.is_file() && meta.len() == RESERVE_BYTES as u64) {
        return Ok(());
    }
    let mut file = private::create(&folder.join(RESERVE))?;
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
    let reading = |e: std::io::Error| {
        if e.kind() == std::io::ErrorKind::NotFound {
            unknown(path)
        } else {
            Error::io(format!("read the journal {}", path.display()), e).hint(lost_hint(path))
        }
    };
    let mut bytes = Vec::new();
    let mut file = open_own(path, File::options().read(true)).map_err(reading)?;
    is_own(path, &file)?;
    file.read_to_end(&mut bytes).map_err(reading)?;
    let mut state: Option<RunState> = None;
    let mut whole = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(text) = line.strip_suffix(b"\n") else {
            break;
        };
        match (serde_json::from_slice::<Record>(text), &mut state) {
            (Ok(record), Some(state)) => state.apply(&record),
            (Ok(record), None) => state = RunState::begin(&record),
            // What comes after it is read all the same: most of what a run did is known then.
            (Err(error), Some(state)) => {
                state.damaged.get_or_insert_with(|| {
                    format!(
                        "the journal {} is damaged after byte {whole}: {error}",
                        path.display()
                    )
                });
            }
            (Err(_), None) => {}
        }
        whole += line.len() as u64;
    }
    match state {
        Some(state) => Ok((state, whole)),
        None if whole == 0 => Err(unknown(path)),
        None => Err(Error::new(
            ErrorKind::Failed,
            "journal.empty",
            format!(
                "the first line of the journal {} cannot be read",
                path.display()
            ),
        )
        .hint(lost_hint(path))),
    }
}

/// Opens a journal itself: no link that has its name, and no pipe that nobody writes to.
fn open_own(path: &Path, options: &mut OpenOptions) -> std::io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    options.custom_flags(flags.bits().cast_signed()).open(path)
}

/// Refuses a journal that somebody else wrote, or could write: what is moved and deleted is read from
/// it.
///
/// # Errors
///
/// `Config` with `state.not_private`; `Failed` where there is something else (`journal.no_file`).
fn is_own(path: &Path, file: &File) -> Result<()> {
    let fail = |e| Error::io(format!("look at the journal {}", path.display()), e);
    let folder = path.parent().unwrap_or(path);
    let folder_meta = std::fs::symlink_metadata(folder).map_err(fail)?;
    let meta = file.metadata().map_err(fail)?;
    let own = rustix::process::geteuid().as_raw();
    for (what, meta, right) in [
        (folder, &folder_meta, folder_meta.is_dir()),
        (path, &meta, meta.is_file()),
    ] {
        if !right {
            return Err(Error::new(
                ErrorKind::Failed,
                "journal.no_file",
                format!("{} is not what a run writes there", what.display()),
            )
            .hint(lost_hint(path)));
        }
        if meta.uid() == own && meta.mode() & 0o022 == 0 {
            continue;
        }
        return Err(Error::new(
            ErrorKind::Config,
            "state.not_private",
            format!(
                "{} belongs to the user {} and has the mode {:04o}, and what lies there decides what is moved and deleted",
                what.display(),
                meta.uid(),
                meta.mode() & 0o7777
            ),
        )
        .hint(format!(
            "see who has put it there; if it is what `restore` wrote: `chown {own} {0} && chmod go-w {0}`",
            what.display()
        )));
    }
    Ok(())
}

/// What to do about a journal that cannot be read at all.
fn lost_hint(path: &Path) -> String {
    format!(
        "no other run is held up by it; `restore history --search` lists what runs keep and how to put \
         it back; once nothing of it is needed, delete {}",
        path.parent().unwrap_or(path).display()
    )
}

fn unknown(path: &Path) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "run.unknown",
        format!("there is no run with the journal {}", path.display()),
    )
    .because(NeverBegun)
    .hint("`restore history` lists the runs")
}

/// Refuses runs in a place where somebody else could put others: also who only reads them obeys them.
fn trusted(runs: &Path) -> Result<()> {
    trust::check(runs, "the folder of the site's runs", Trust::Obeyed)
}

/// Deletes a folder, where there is one.
fn clear(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The folders of runs, by their names.
fn folders(runs: &Path) -> Result<Vec<(RunId, PathBuf)>> {
    trusted(runs)?;
    let fail = |e| Error::io(format!("read the runs in {}", runs.display()), e);
    let entries = match std::fs::read_dir(runs) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(fail(e)),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry.map_err(fail)?;
        let id = entry.file_name().to_str().and_then(|id| id.parse().ok());
        folders.extend(id.map(|id: RunId| (id, entry.path())));
    }
    folders.sort();
    Ok(folders)
}

fn damaged(run: &RunId, message: String) -> Error {
    Error::new(ErrorKind::Failed, "journal.damaged", message).hint(format!(
        "no other run is held up by it; `restore report {run}` shows what can be read, \
         `restore abandon {run}` ends it; what it keeps lies in places named .restore-{run} and \
         databases named …_replaced_{}, which `restore history --search` lists",
        run.sql()
    ))
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
