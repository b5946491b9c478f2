//! The end that asks.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::message;
use super::message::{Reply, Request, VolumeMethod};
use crate::archive::{
    Measured, PackPolicy, Packed, Sink, Source, UnpackPolicy, Unpacked, open_sized,
};
use crate::contract::{RemoteTask, Steps, Volume};
use crate::model::{Error, ErrorKind, Progress, Result, RunId};
use crate::swap::RecordKey;
use crate::swap::scope::{Compared, Discard, SwapScope, SwapState};
use crate::sys::process::command::Process;
use crate::sys::space::Space;

/// How long cleaning up after a failure may take.
const CLEANING: Duration = Duration::from_secs(5);

/// How long a program may take to begin and to hear what it is asked, and how often one is started that does not.
const HEARING: Duration = Duration::from_secs(60);
const TRIES: u32 = 3;

/// How many pieces of an archive may wait to be written.
const DEPTH: usize = 8;

/// No piece of an archive is larger.
const LARGEST: usize = 64 << 20;

/// No answer is longer: the longest one lists what is kept.
const LONGEST: u64 = 64 << 20;

/// Starts the program that [`serve`](super::serve)s one request beside a volume.
#[async_trait]
pub trait Launch: Send + Sync {
    /// Starts it. Its standard input and output are the agent's.
    async fn launch(&self) -> Result<Box<dyn Process>>;

    /// As [`launch`](Self::launch), of one whose own programs may take so many bytes of memory. Whoever bounds
    /// what is launched makes room for them.
    async fn launch_with(&self, _memory: u64) -> Result<Box<dyn Process>> {
        self.launch().await
    }

    /// Where the volume is, for people: "volume grafana_data of node worker-1".
    fn describe(&self) -> String;

    /// Tells the file system apart from those of other machines, in [`Space::file_system`].
    fn machine(&self) -> String;
}

/// A volume of another machine.
pub struct RemoteVolume {
    launch: Arc<dyn Launch>,
    /// Where the key is that lists of swaps are sealed with.
    keys: Option<PathBuf>,
    /// The machine's name, and where the volume is there.
    place: Option<(String, PathBuf)>,
    /// How long a program may take to begin and to hear what it is asked.
    hearing: Duration,
}

impl RemoteVolume {
    /// The volume beside which `launch` starts an agent.
    pub fn new(launch: Arc<dyn Launch>) -> Self {
        Self {
            launch,
            keys: None,
            place: None,
            hearing: HEARING,
        }
    }

    /// The same volume, of which it is known where it lies on its machine: see
    /// [`Volume::path_elsewhere`](crate::platform::Volume::path_elsewhere).
    #[must_use]
    pub fn lying_at(self, machine: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            place: Some((machine.into(), path.into())),
            ..self
        }
    }

    /// The same volume. The list of a swap lies beside the data, as the agent has no other place
    /// that outlives it; it is sealed with a key that is kept in `directory` on this host, and
    /// one that is not is refused. Without this a list is believed that only root can have written.
    #[must_use]
    pub fn sealed_in(self, directory: impl Into<PathBuf>) -> Self {
        Self {
            keys: Some(directory.into()),
            ..self
        }
    }

    /// What the list of the run is sealed with that the request is about.
    async fn seal(&self, what: &VolumeMethod) -> Result<Option<RecordKey>> {
        let (Some(directory), Some(run)) = (self.keys.clone(), what.run().cloned()) else {
            return Ok(None);
        };
        let make = what.begins();
        tokio::task::spawn_blocking(move || {
            let key = RecordKey::of_site(&directory, make)?;
            Ok(key.map(|key| key.of_run(&run)))
        })
        .await
        .map_err(|e| broken(format!("a task ended unexpectedly: {e}")))?
    }

    async fn ask<T: DeserializeOwned>(&self, what: VolumeMethod) -> Result<T> {
        self.exchange(what, Attachments::default(), &Progress::hidden())
            .await
    }

    /// One request and its answer.
    async fn exchange<T: DeserializeOwned>(
        &self,
        what: VolumeMethod,
        along: Attachments<'_>,
        progress: &Progress,
    ) -> Result<T> {
        let Attachments {
            archive,
            pieces,
            steps,
            cancel,
            memory,
        } = along;
        let mut step = progress.clone();
        let place = self.launch.describe();
        let seal = self.seal(&what).await?;
        let mut request = serde_json::to_vec(&Request::new(what, seal.as_ref()))
            .map_err(|e| broken(format!("a request cannot be written: {e}")))?;
        request.push(b'\n');
        // What follows it can be sent once.
        let once = archive.is_some();
        let (mut archive, mut counted, mut tries) = (archive, 0, 1);
        let (answer, mut process) = loop {
            let mut process = self.launch.launch_with(memory).await?;
            let (Some(mut stdin), Some(stdout)) = (process.stdin(), process.stdout()) else {
                return Err(broken("the program beside a volume has no input or output"));
            };
            let (line, archive) = (&request, archive.take());
            let heard = AtomicBool::new(false);
            let sending = async move {
                // An agent that ends early says why; what it did not read does not matter.
                let _gone = stdin.write_all(line).await;
                if let Some(source) = archive {
                    send(&source, &mut stdin).await?;
                }
                let _gone = stdin.shutdown().await;
                Ok::<(), Error>(())
            };
            let reading = async {
                let mut stdout = BufReader::with_capacity(256 * 1024, stdout);
                let unread = |e| Error::io(format!("read the answer from {place}"), e);
                let mut line = Vec::new();
                // Whoever runs there may not be one of ours: a line has an end.
                while (&mut stdout)
                    .take(LONGEST)
                    .read_until(b'\n', &mut line)
                    .await
                    .map_err(unread)?
                    > 0
                {
                    heard.store(true, Ordering::Relaxed);
                    let answer = serde_json::from_slice(&line);
                    line.clear();
                    match answer {
                        Ok(Reply::Heard) => {}
                        Ok(Reply::Progress(done)) => {
                            step.add(done.saturating_sub(counted));
                            counted = counted.max(done);
                        }
                        Ok(Reply::Step(action, total)) => {
                            let Some(steps) = steps else {
                                break;
                            };
                            step.finish();
                            step = steps(&action, total);
                            counted = 0;
                        }
                        Ok(Reply::Data(size)) => {
                            let Some(pieces) = pieces.as_ref().filter(|_| size <= LARGEST) else {
                                break;
                            };
                            let mut piece = vec![0; size];
                            if stdout.read_exact(&mut piece).await.is_err() {
                                break;
                            }
                            // Whoever writes has failed, and says why.
                            let _gone = pieces.send(piece.into()).await;
                        }
                        Ok(answer) => {
                            step.finish();
                            return Ok(Some(answer));
                        }
                        Err(_) => break,
                    }
                }
                Ok(None)
            };
            let cancelled = async {
                match &cancel {
                    Some(cancel) => cancel.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            let unheard = async {
                match once {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(self.hearing).await,
                }
            };
            let answer = {
                tokio::pin!(sending, reading, cancelled, unheard);
                let (mut sent, mut waited) = (false, false);
                loop {
                    tokio::select! {
                        answer = &mut reading => break Some(answer?),
                        result = &mut sending, if !sent => {
                            result?;
                            sent = true;
                        }
                        () = &mut cancelled => return Err(Error::interrupted()),
                        () = &mut unheard, if !waited => {
                            waited = true;
                            if !heard.load(Ordering::Relaxed) {
                                break None;
                            }
                        }
                    }
                }
            };
            match answer {
                Some(answer) => break (answer, process),
                // An engine may lose what is sent to a program as that begins.
                None if tries < TRIES => tries += 1,
                None => {
                    return Err(Error::new(
                        ErrorKind::Failed,
                        "agent.unheard",
                        format!(
                            "{place}: the program beside it was started {TRIES} times, and has not taken what it was asked within {} s",
                            self.hearing.as_secs()
                        ),
                    )
                    .hint("look at the engine of that node (`docker ps`, its log), then try again: nothing was done")
                    .retryable());
                }
            }
        };
        match answer {
            Some(Reply::Done(value)) => serde_json::from_value::<T>(value)
                .map_err(|e| broken(format!("invalid reply from {place}: {e}"))),
            Some(Reply::Failed(failure)) => Err(failure.at(&place)),
            Some(Reply::Heard | Reply::Progress(_) | Reply::Step(..) | Reply::Data(_)) | None => {
                let exit = process.wait().await?;
                let said = exit
                    .stderr
                    .lines()
                    .next_back()
                    .unwrap_or("it printed nothing");
                Err(Error::new(
                    ErrorKind::Failed,
                    "agent.ended",
                    format!(
                        "{place}: the program beside it ended without an answer (exit code {}): {said}",
                        exit.code
                    ),
                )
                .hint("nothing is lost: the same request may be made again (`restore resume`)")
                .retryable())
            }
        }
    }
}

/// What goes along with a request.
#[derive(Default)]
struct Attachments<'a> {
    /// Follows the request.
    archive: Option<Source>,
    /// Takes the pieces of the archive that comes back.
    pieces: Option<mpsc::Sender<Bytes>>,
    /// Makes the progress of a remote task's steps.
    steps: Option<Steps<'a>>,
    cancel: Option<CancellationToken>,
    /// What a remote task's programs may take in memory.
    memory: u64,
}

/// Writes what comes to its end; the sink is sealed by whoever knows that this was the end.
fn write_all(mut pieces: mpsc::Receiver<Bytes>, mut sink: Sink) -> Result<Sink> {
    while let Some(piece) = pieces.blocking_recv() {
        sink.put(&piece)?;
    }
    Ok(sink)
}

/// Sends a file of the backup as it is; it is verified where it is unpacked.
async fn send(source: &Source, stdin: &mut (dyn AsyncWrite + Send + Unpin)) -> Result<()> {
    let opened = source.clone();
    let file = tokio::task::spawn_blocking(move || open_sized(&opened))
        .await
        .map_err(|e| broken(format!("a task ended unexpectedly: {e}")))??;
    let mut file = tokio::fs::File::from_std(file);
    file.set_max_buf_size(256 * 1024);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = file
            .read(&mut buffer)
            .await
            .map_err(|e| Error::io(format!("read {}", source.path().display()), e))?;
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() || stdin.write_all(bytes).await.is_err() {
            return Ok(());
        }
    }
}

fn broken(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Internal, "agent.broken", what)
}

#[async_trait]
impl Volume for RemoteVolume {
    fn describe(&self) -> String {
        self.launch.describe()
    }

    fn path(&self) -> Option<PathBuf> {
        None
    }

    fn path_elsewhere(&self) -> Option<(String, PathBuf)> {
        self.place.clone()
    }

    async fn free_space(&self) -> Result<Space> {
        let mut space: Space = self.ask(VolumeMethod::FreeSpace).await?;
        let machine = self.launch.machine();
        space.file_system = format!("{} of {machine}", space.file_system);
        if !space.place.is_empty() {
            space.place = format!("{} of {machine}", space.place);
        }
        Ok(space)
    }

    async fn state(&self, run: &RunId) -> Result<SwapState> {
        self.ask(VolumeMethod::State { run: run.clone() }).await
    }

    async fn stage_dir(&self, _run: &RunId) -> Result<PathBuf> {
        Err(Error::new(
            ErrorKind::Failed,
            "volume.not_here",
            format!("the files of {} are not on this host", self.describe()),
        )
        .hint("run restore on the machine that has the volume"))
    }

    async fn unpack(
        &self,
        run: &RunId,
        source: Source,
        policy: &UnpackPolicy,
        progress: Progress,
    ) -> Result<Unpacked> {
        let what = VolumeMethod::Unpack {
            run: run.clone(),
            label: source.label().to_owned(),
            size: source.size(),
            expected: source.expected(),
            policy: Box::new(policy.clone()),
        };
        let along = Attachments {
            cancel: Some(source.cancel().clone()),
            archive: Some(source),
            ..Attachments::default()
        };
        let unpacked = self.exchange(what, along, &progress).await;
        if unpacked.is_err() {
            // Where the agent could not say why, it could not clean up either. If it cannot now,
            // a later discard does: the reason matters more.
            let clean = self.discard(run, Discard::Staged);
            let _ = tokio::time::timeout(CLEANING, clean).await;
        }
        unpacked
    }

    async fn pack(
        &self,
        policy: PackPolicy,
        sink: Sink,
        progress: Progress,
        cancel: CancellationToken,
    ) -> Result<Packed> {
        let what = VolumeMethod::Pack {
            label: sink.label().to_owned(),
            policy: Box::new(policy),
        };
        let (send, pieces) = mpsc::channel(DEPTH);
        let along = Attachments {
            pieces: Some(send),
            cancel: Some(cancel),
            ..Attachments::default()
        };
        let writing = tokio::task::spawn_blocking(move || write_all(pieces, sink));
        let packed: Result<Packed> = self.exchange(what, along, &progress).await;
        let ended = |e| broken(format!("a task ended unexpectedly: {e}"));
        let sink = writing.await.map_err(ended)?;
        // What cannot be written here is the cause of whatever else there is.
        let (sink, packed) = (sink?, packed?);
        let written = tokio::task::spawn_blocking(move || sink.seal())
            .await
            .map_err(ended)??;
        if written != packed.written {
            return Err(Error::new(
                ErrorKind::Failed,
                "agent.archive_changed",
                format!("the archive of {} changed on its way here", self.describe()),
            )
            .hint("try again; a connection that changes data has to be looked into")
            .retryable());
        }
        Ok(packed)
    }

    async fn measure(&self, except: &[String]) -> Result<Option<Measured>> {
        self.ask(VolumeMethod::Measure {
            except: except.to_vec(),
        })
        .await
    }

    async fn leave_out(&self, run: &RunId, patterns: &[String]) -> Result<Vec<PathBuf>> {
        self.ask(VolumeMethod::LeaveOut {
            run: run.clone(),
            patterns: patterns.to_vec(),
        })
        .await
    }

    async fn run_folders(&self) -> Result<Vec<String>> {
        self.ask(VolumeMethod::RunFolders).await
    }

    async fn dispatch(&self, task: RemoteTask<'_>) -> Result<Value> {
        let what = VolumeMethod::RemoteTask {
            run: task.run,
            kind: task.kind.to_owned(),
            order: task.order,
            along: task.source.as_ref().map(|source| message::Attachments {
                label: source.label().to_owned(),
                size: source.size(),
                expected: source.expected(),
            }),
        };
        let along = Attachments {
            archive: task.source,
            steps: Some(task.steps),
            cancel: Some(task.cancel),
            memory: task.memory,
            ..Attachments::default()
        };
        self.exchange(what, along, &Progress::hidden()).await
    }

    async fn swap(&self, run: &RunId, scope: &SwapScope) -> Result<()> {
        self.ask(VolumeMethod::Swap {
            run: run.clone(),
            scope: scope.clone(),
        })
        .await
    }

    async fn unswap(&self, run: &RunId) -> Result<()> {
        self.ask(VolumeMethod::Unswap { run: run.clone() }).await
    }

    async fn discard(&self, run: &RunId, what: Discard) -> Result<()> {
        self.ask(VolumeMethod::Discard {
            run: run.clone(),
            what,
        })
        .await
    }

    async fn compare(&self, run: &RunId) -> Result<Compared> {
        self.ask(VolumeMethod::Compare { run: run.clone() }).await
    }

    async fn kept(&self, run: &RunId) -> Result<Option<Compared>> {
        self.ask(VolumeMethod::Kept { run: run.clone() }).await
    }

    fn replaced_at(&self, run: &RunId) -> String {
        format!("{}, in {}/replaced", self.describe(), run.folder())
    }
}

/// For `fuzz/`: an agent that says these bytes, whatever it is asked.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(bytes: &[u8]) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
    else {
        return;
    };
    let volume = RemoteVolume::new(Arc::new(fuzzed::Saying(bytes.to_vec())));
    runtime.block_on(async {
        let _ = volume.run_folders().await;
        let _ = volume.measure(&[]).await;
        let (send, mut receive) = mpsc::channel(DEPTH);
        let steps = |_: &str, _: Option<u64>| Progress::hidden();
        let along = Attachments {
            pieces: Some(send),
            steps: Some(&steps),
            ..Attachments::default()
        };
        let progress = Progress::hidden();
        let asked = volume.exchange::<Value>(VolumeMethod::FreeSpace, along, &progress);
        let taken = async {
            let mut taken = 0;
            while let Some(piece) = receive.recv().await {
                taken += piece.len();
            }
            taken
        };
        let (_, taken) = tokio::join!(asked, taken);
        assert!(taken <= bytes.len());
    });
}

#[cfg(feature = "fuzzing")]
mod fuzzed {
    use std::io::Cursor;

    use async_trait::async_trait;
    use tokio::io::{AsyncRead, AsyncWrite};

    use super::Launch;
    use crate::model::Result;
    use crate::sys::process::command::{Exit, Process};

    /// An agent that says these bytes.
    pub(super) struct Saying(pub(super) Vec<u8>);

    struct Said(Option<Vec<u8>>);

    #[async_trait]
    impl Launch for Saying {
        async fn launch(&self) -> Result<Box<dyn Process>> {
            Ok(Box::new(Said(Some(self.0.clone()))))
        }

        fn describe(&self) -> String {
            "it".to_owned()
        }

        fn machine(&self) -> String {
            "here".to_owned()
        }
    }

    #[async_trait]
    impl Process for Said {
        fn stdin(&mut self) -> Option<Box<dyn AsyncWrite + Send + Unpin>> {
            Some(Box::new(tokio::io::sink()))
        }

        fn stdout(&mut self) -> Option<Box<dyn AsyncRead + Send + Unpin>> {
            let bytes = self.0.take()?;
            Some(Box::new(Cursor::new(bytes)))
        }

        async fn wait(&mut self) -> Result<Exit> {
            Ok(Exit::new(1, "it said no more"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tokio::io::AsyncRead;

    use super::*;
    use crate::sys::process::command::Exit;

    /// Agents of which so many never hear what they are asked, and how many were started.
    struct Deaf(u32, std::sync::Mutex<u32>);

    /// One of them: it says this, or nothing for ever.
    struct Agent(Option<&'static str>);

    #[async_trait]
    impl Launch for Deaf {
        async fn launch(&self) -> Result<Box<dyn Process>> {
            let mut started = self.1.lock().unwrap();
            *started += 1;
            let answer = "\"heard\"\n{\"done\":[]}\n";
            Ok(Box::new(Agent((*started > self.0).then_some(answer))))
        }

        fn describe(&self) -> String {
            "a volume".to_owned()
        }

        fn machine(&self) -> String {
            "there".to_owned()
        }
    }

    #[async_trait]
    impl Process for Agent {
        fn stdin(&mut self) -> Option<Box<dyn AsyncWrite + Send + Unpin>> {
            Some(Box::new(tokio::io::sink()))
        }

        fn stdout(&mut self) -> Option<Box<dyn AsyncRead + Send + Unpin>> {
            Some(match self.0 {
                Some(answer) => Box::new(Cursor::new(answer.as_bytes())),
                None => {
                    let (ours, theirs) = tokio::io::duplex(1);
                    // Never closed, and never written to.
                    std::mem::forget(theirs);
                    Box::new(ours)
                }
            })
        }

        async fn wait(&mut self) -> Result<Exit> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_program_that_never_hears_what_it_is_asked_is_started_again() {
        for (deaf, heard) in [(0, true), (2, true), (3, false)] {
            let launch = Arc::new(Deaf(deaf, std::sync::Mutex::default()));
            let volume = RemoteVolume {
                hearing: Duration::from_millis(300),
                ..RemoteVolume::new(launch.clone())
            };
            let asked = volume.run_folders().await;
            assert_eq!(*launch.1.lock().unwrap(), (deaf + 1).min(TRIES));
            match heard {
                true => assert!(asked.unwrap().is_empty()),
                false => {
                    let error = asked.unwrap_err();
                    assert_eq!(error.code(), "agent.unheard", "{error}");
                    assert!(error.is_retryable());
                }
            }
        }
    }
}
