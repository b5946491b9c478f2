//! The end that is beside the volume.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::message::{Failure, Reply, Request, VERSION, VolumeMethod};
use crate::archive::{PackPolicy, Sink, SinkFile, Source, UnpackPolicy};
use crate::components::remote_task::{Attachments, run as run_remote_task};
use crate::contract::Volume;
use crate::model::{Error, ErrorKind, Event, EventSink, Progress, Result};
use crate::swap::{LocalVolume, RecordKey};

/// No request is longer: paths and patterns, not data.
const LONGEST: usize = 1 << 20;

/// Answers one request about the volume in the directory `root`, read from `input`, to `output`.
/// `Err` only where not even an answer could be given; what the request came to is in the answer.
///
/// Nothing else may read the input: where an archive is staged, it follows the request.
pub async fn serve(root: &Path, input: File, output: File) -> Result<()> {
    let output = Arc::new(Lines {
        output: Mutex::new(output),
        unheard: CancellationToken::new(),
    });
    let (input, request) = blocking(move || {
        let request = read(&input)?;
        Ok((input, request))
    })
    .await?;
    if request.is_ok() {
        output.tell(&Reply::Heard);
    }
    let answer = match request {
        Ok(request) => act(root, request, input, output.clone()).await,
        Err(error) => Err(error),
    };
    let last = match &answer {
        Ok(value) => Reply::Done(value.clone()),
        Err(error) => Reply::Failed(Failure::from(error)),
    };
    blocking(move || output.write(&last)).await
}

async fn act(root: &Path, request: Request, input: File, output: Arc<Lines>) -> Result<Value> {
    let seal = match &request.seal {
        Some(digits) => {
            let key = RecordKey::of_digits(digits);
            Some(key.ok_or_else(|| broken("invalid request: its seal is no key"))?)
        }
        None => None,
    };
    // Where the engine has mounted it: nobody else is here who could lead it elsewhere.
    let volume = LocalVolume::new(root).followed(true).sealed_with(seal);
    match request.what {
        VolumeMethod::FreeSpace => value(volume.free_space().await?),
        VolumeMethod::State { run } => value(volume.state(&run).await?),
        VolumeMethod::Unpack {
            run,
            label,
            size,
            expected,
            policy,
        } => {
            let source = Source::from_file(input, label, size, expected);
            let policy = at(root, *policy);
            let progress = Progress::new(output, "", "", size);
            value(volume.unpack(&run, source, &policy, progress).await?)
        }
        VolumeMethod::LeaveOut { run, patterns } => {
            let left_out = volume.leave_out(&run, &patterns).await?;
            // Names that are no text are shown, not used.
            let shown = left_out.iter().map(|path| path.to_string_lossy());
            value(shown.collect::<Vec<_>>())
        }
        VolumeMethod::RunFolders => value(volume.run_folders().await?),
        VolumeMethod::Swap { run, scope } => value(volume.swap(&run, &scope).await?),
        VolumeMethod::Unswap { run } => value(volume.unswap(&run).await?),
        VolumeMethod::Discard { run, what } => value(volume.discard(&run, what).await?),
        VolumeMethod::Compare { run } => value(volume.compare(&run).await?),
        VolumeMethod::Kept { run } => value(volume.kept(&run).await?),
        VolumeMethod::Pack { label, policy } => {
            let policy = PackPolicy {
                restore: at(root, policy.restore.clone()),
                ..*policy
            };
            let sink = Sink::new(label, Box::new(Pieces(output.clone())));
            let progress = Progress::new(output, "", "", None);
            // Whoever no longer wants it no longer reads it either.
            let cancel = CancellationToken::new();
            value(volume.pack(policy, sink, progress, cancel).await?)
        }
        VolumeMethod::Measure { except } => value(volume.measure(&except).await?),
        VolumeMethod::RemoteTask {
            kind, order, along, ..
        } => {
            let source = along
                .map(|along| Source::from_file(input, along.label, along.size, along.expected));
            let steps = |action: &str, total| {
                output.tell(&Reply::Step(action.to_owned(), total));
                Progress::new(output.clone(), "", "", total)
            };
            let along = Attachments {
                source,
                steps: &steps,
                cancel: output.unheard.clone(),
            };
            // Boxed: components are deep, and this is within the main function of a program.
            Box::pin(run_remote_task(&kind, &volume, order, along)).await
        }
    }
}

/// What is let into the volume here: where it is was not known where it was asked for.
fn at(root: &Path, policy: UnpackPolicy) -> UnpackPolicy {
    UnpackPolicy {
        owner: policy.owner.or_else(|| owner(root)),
        live_root: match policy.live_root.as_os_str().is_empty() {
            true => root.to_owned(),
            false => policy.live_root,
        },
        ..policy
    }
}

fn value(answer: impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(answer).map_err(|e| broken(format!("an answer cannot be written: {e}")))
}

/// Who owns the volume: whose set-uid files are let in.
fn owner(root: &Path) -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(root).ok()?;
    Some((meta.uid(), meta.gid()))
}

/// Reads the request's line, and no byte more: the archive may follow. The outer error is one of
/// reading.
fn read(mut input: &File) -> Result<Result<Request>> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        let count = input
            .read(&mut byte)
            .map_err(|e| Error::io("read a request", e))?;
        match byte {
            _ if count == 0 => break,
            [b'\n'] => break,
            [byte] if line.len() < LONGEST => line.push(byte),
            _ => return Ok(Err(broken("the request is too long"))),
        }
    }
    // The version first, by itself: a request of another one need not be readable.
    let value: Value = match serde_json::from_slice(&line) {
        Ok(value) => value,
        Err(e) => return Ok(Err(broken(format!("invalid request: {e}")))),
    };
    let theirs = value.get("version").and_then(Value::as_str);
    if theirs != Some(VERSION) {
        return Ok(Err(Error::new(
            ErrorKind::Failed,
            "agent.version",
            format!(
                "the program beside the volume is restore {VERSION}, asked by restore {}",
                theirs.unwrap_or("of an unknown version")
            ),
        )
        .hint("use the same version on both sides")));
    }
    Ok(serde_json::from_value(value).map_err(|e| broken(format!("invalid request: {e}"))))
}

/// Where the answer's lines go, one at a time.
struct Lines {
    output: Mutex<File>,
    /// Fires when whoever asked is seen to be gone. Behind a container's engine that is not seen:
    /// it goes on reading.
    unheard: CancellationToken,
}

impl Lines {
    fn write(&self, answer: &Reply) -> Result<()> {
        let mut line = serde_json::to_vec(answer)
            .map_err(|e| broken(format!("an answer cannot be written: {e}")))?;
        line.push(b'\n');
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output
            .write_all(&line)
            .and_then(|()| output.flush())
            .map_err(|e| Error::io("answer", e))
    }

    /// Writes what is not the answer itself.
    fn tell(&self, answer: &Reply) {
        if self.write(answer).is_err() {
            self.unheard.cancel();
        }
    }
}

/// An archive on its way, in pieces between the answer's lines.
struct Pieces(Arc<Lines>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut line = serde_json::to_vec(&Reply::Data(bytes.len()))?;
        line.push(b'\n');
        let lines = &self.0.output;
        let mut output = lines.lock().unwrap_or_else(PoisonError::into_inner);
        output.write_all(&line)?;
        output.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl SinkFile for Pieces {
    /// It is made where it arrives.
    fn seal(self: Box<Self>) -> std::io::Result<()> {
        Ok(())
    }
}

impl EventSink for Lines {
    fn emit(&self, event: &Event) {
        if let Event::Progress { done, .. } = event {
            self.tell(&Reply::Progress(*done));
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| broken(format!("a task ended unexpectedly: {e}")))?
}

fn broken(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Internal, "agent.broken", what)
}
