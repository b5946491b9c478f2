//! One SFTP session: requests and answers, one after the other, reads many at a time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::Sender;

use super::SshConfig;
use super::connect::{ConnectionLost, Line, lost, refusal};
use super::wire::{Attributes, Fields, LARGEST, Malformed, Packet, READ_ONLY, kind, status};
use crate::model::{Error, ErrorKind, Result};
use crate::sys::spans::RequestSpan;

/// How long a connection may take from its start to the first answer, logging in included.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long an answer may take, and each piece of a long one.
const ANSWER: Duration = Duration::from_secs(60);

/// How long a session may be waited for in all, besides what its answers are worth.
const SLACK: Duration = Duration::from_secs(120);

/// What an answer is worth that has all that was asked for: a long way there and back.
const WORTH: Duration = Duration::from_secs(1);

/// Bytes that are worth a second: a slower line than anybody has.
const RATE: u32 = 1024;

/// More entries than any directory of a store has.
const ENTRIES: usize = 500_000;

/// More bytes than all their names have together: they are kept in memory.
const NAMES: usize = 128 << 20;

/// Bytes asked for at once where the server does not say what it can do.
const READ: u32 = 32 * 1024;

/// Bytes under way in one session: a hundred MB/s at forty milliseconds of delay.
const WINDOW: u32 = 4 * 1024 * 1024;

/// An entry of a directory, by its name's bytes.
pub(super) struct Entry {
    pub(super) name: Bytes,
    pub(super) attributes: Attributes,
}

/// What a server answers instead of what was asked for.
pub(super) enum Refused {
    Status { code: u32, message: String },
    Broken(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

pub(super) struct Session {
    line: Line,
    host: String,
    next: u32,
    /// The largest read that the server answers in full.
    read: u32,
    /// Requests whose answers nobody waits for.
    unheard: HashSet<u32>,
    pace: Pace,
}

/// How long a server was waited for, and what came for it: one that sends a little now and then answers
/// each time, and would be waited for without end.
#[derive(Debug, Default)]
struct Pace {
    waited: Duration,
    worth: Duration,
}

impl Pace {
    fn answered(&mut self, took: Duration, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.waited = self.waited.saturating_add(took);
        self.worth += WORTH + Duration::from_secs(1) * bytes / RATE;
    }

    /// The last answer has only a part of what was asked for, and is worth its bytes.
    fn was_a_part(&mut self) {
        self.worth = self.worth.saturating_sub(WORTH);
    }

    fn is_too_slow(&self) -> bool {
        self.waited > self.worth.saturating_add(SLACK)
    }
}

impl Session {
    /// Connects and greets.
    pub(super) async fn connect(config: &SshConfig) -> Result<Self> {
        let mut session = Self {
            line: Line::open(config)?,
            host: config.host.clone(),
            next: 0,
            read: READ,
            unheard: HashSet::new(),
            pace: Pace::default(),
        };
        match tokio::time::timeout(PATIENCE, session.greet()).await {
            Ok(Ok(())) => Ok(session),
            Ok(Err(error)) if error.is(&ConnectionLost) => {
                let said = session.line.end.last_words().await;
                Err(refusal(&session.host, &said))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::new(
                ErrorKind::Failed,
                "ssh.unreachable",
                format!(
                    "{} does not answer within {} s",
                    session.host,
                    PATIENCE.as_secs()
                ),
            )
            .hint("`ssh -v` to it as this user says where it waits")
            .retryable()),
        }
    }

    async fn greet(&mut self) -> Result<()> {
        self.send(Packet::bare(kind::INIT).u32(3)).await?;
        let (found, mut fields) = self.receive().await?;
        if found != kind::VERSION {
            return Err(self.not_sftp());
        }
        let mut limits = false;
        fields.u32().map_err(|Malformed| self.not_sftp())?;
        while !fields.is_empty() {
            let (Ok(name), Ok(_)) = (fields.bytes(), fields.bytes()) else {
                return Err(self.not_sftp());
            };
            limits |= &name[..] == b"limits@openssh.com";
        }
        if limits {
            self.next += 1;
            let id = self.next;
            let request = Packet::new(kind::EXTENDED, id).bytes(b"limits@openssh.com");
            let (found, mut fields) = self.answer(id, request).await?;
            if found == kind::EXTENDED_REPLY {
                let numbers = (fields.u64(), fields.u64());
                if let (Ok(_), Ok(read)) = numbers {
                    let most = LARGEST as u64 - 1024;
                    self.read = u32::try_from(read.clamp(1024, most)).unwrap_or(READ);
                }
            }
        }
        Ok(())
    }

    /// All entries of a directory but `.` and `..`.
    pub(super) async fn directory(&mut self, path: &[u8]) -> Result<Vec<Entry>, Refused> {
        let _span = self.span("list a directory");
        let handle = self
            .handle(kind::OPENDIR, |packet| packet.bytes(path))
            .await?;
        let mut entries = Vec::new();
        // What is left out, and an answer without an entry, counts too: otherwise it could go on for ever.
        let (mut seen, mut names) = (0_usize, 0_usize);
        loop {
            let id = self.id();
            let request = Packet::new(kind::READDIR, id).bytes(&handle);
            let (found, mut fields) = self.answer(id, request).await?;
            if found != kind::NAME {
                match self.status(found, fields) {
                    Refused::Status { code, .. } if code == status::EOF => break,
                    refused => return Err(refused),
                }
            }
            self.pace.was_a_part();
            let count = fields.u32().map_err(|e| self.malformed(e))?;
            let told = usize::try_from(count.max(1)).unwrap_or(usize::MAX);
            seen = seen.saturating_add(told);
            if seen > ENTRIES {
                return Err(self.endless().into());
            }
            for _ in 0..count {
                let entry = (|| {
                    // On its own: the rest of the packet need not be kept.
                    let name = Bytes::copy_from_slice(&fields.bytes()?);
                    fields.bytes()?;
                    let attributes = fields.attributes()?;
                    Ok(Entry { name, attributes })
                })()
                .map_err(|e| self.malformed(e))?;
                if !matches!(&entry.name[..], b"." | b"..") {
                    names += entry.name.len();
                    entries.push(entry);
                }
            }
            if names > NAMES {
                return Err(self.endless().into());
            }
        }
        self.close(&handle).await?;
        Ok(entries)
    }

    /// Opens a file for reading.
    pub(super) async fn open(&mut self, path: &[u8]) -> Result<Bytes, Refused> {
        let _span = self.span("open a file");
        self.handle(kind::OPEN, |packet| {
            packet.bytes(path).u32(READ_ONLY).u32(0)
        })
        .await
    }

    /// Sends the file's bytes from `offset` to its end into `to`, and closes it; where its size is
    /// known, no byte behind that. Ends early, with `false`, when nobody takes them any more: the
    /// session is then of no further use.
    pub(super) async fn pump(
        &mut self,
        handle: &Bytes,
        offset: u64,
        size: Option<u64>,
        to: &Sender<std::io::Result<Bytes>>,
    ) -> Result<bool, Refused> {
        let _span = self.span("read a file");
        let most = usize::try_from((WINDOW / self.read).max(2)).unwrap_or(2);
        // Small files need no window; it grows with what came.
        let mut window = 2;
        let mut next = offset;
        let mut asked: VecDeque<(u32, u64, u32)> = VecDeque::new();
        let mut early: HashMap<u32, (u8, Fields)> = HashMap::new();
        let mut ended = false;
        loop {
            let mut requests = BytesMut::new();
            while !ended && asked.len() < window {
                // Of a small file, which is asked for in one go, that saves most of the waiting.
                let left = size.map_or(u64::MAX, |size| size.saturating_sub(next));
                let length = u32::try_from(left).unwrap_or(u32::MAX).min(self.read);
                if length == 0 {
                    break;
                }
                let id = self.id();
                requests.extend_from_slice(&read(id, handle, next, length));
                asked.push_back((id, next, length));
                next = next.saturating_add(u64::from(length));
            }
            self.write(&requests).await?;
            let Some((id, at, wanted)) = asked.pop_front() else {
                break;
            };
            // Most servers answer in order, but need not.
            let (found, mut fields) = loop {
                if let Some(answer) = early.remove(&id) {
                    break answer;
                }
                let (found, other, fields) = self.next_answer().await?;
                if other == id {
                    break (found, fields);
                }
                // What nobody has asked for would be kept for ever.
                if !asked.iter().any(|(id, ..)| *id == other) {
                    return Err(self.malformed(Malformed).into());
                }
                early.insert(other, (found, fields));
            };
            if found != kind::DATA {
                match self.status(found, fields) {
                    Refused::Status { code, .. } if code == status::EOF => {
                        // What was asked for behind the end is answered, and ignored.
                        ended = true;
                        continue;
                    }
                    refused => return Err(refused),
                }
            }
            if ended {
                continue;
            }
            let data = fields.bytes().map_err(|e| self.malformed(e))?;
            let got = u32::try_from(data.len()).unwrap_or(u32::MAX);
            if got == 0 || got > wanted {
                return Err(self.malformed(Malformed).into());
            }
            if got < wanted {
                self.pace.was_a_part();
                // The rest of it comes before everything else, wherever the file may end.
                let (id, at, rest) = (self.id(), at + u64::from(got), wanted - got);
                self.write(&read(id, handle, at, rest)).await?;
                asked.push_front((id, at, rest));
            }
            if to.send(Ok(data)).await.is_err() {
                return Ok(false);
            }
            window = most.min(window + 1);
        }
        // Whether that went well changes nothing.
        let id = self.id();
        self.unheard.insert(id);
        self.send(Packet::new(kind::CLOSE, id).bytes(handle))
            .await?;
        Ok(true)
    }

    async fn handle(
        &mut self,
        request: u8,
        fill: impl FnOnce(Packet) -> Packet,
    ) -> Result<Bytes, Refused> {
        let id = self.id();
        let (found, mut fields) = self.answer(id, fill(Packet::new(request, id))).await?;
        if found != kind::HANDLE {
            return Err(self.status(found, fields));
        }
        fields.bytes().map_err(|e| self.malformed(e).into())
    }

    async fn close(&mut self, handle: &[u8]) -> Result<()> {
        let id = self.id();
        let request = Packet::new(kind::CLOSE, id).bytes(handle);
        self.answer(id, request).await.map(drop)
    }

    /// A request that goes on for as long as this is held.
    fn span(&self, what: &str) -> RequestSpan {
        let host = self.host.as_str();
        RequestSpan::begin(tracing::trace_span!("request", what, host))
    }

    fn id(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    async fn answer(&mut self, id: u32, request: Packet) -> Result<(u8, Fields)> {
        self.send(request).await?;
        match self.next_answer().await? {
            (found, other, fields) if other == id => Ok((found, fields)),
            _ => Err(self.malformed(Malformed)),
        }
    }

    /// The next answer that somebody waits for, with the request's id.
    async fn next_answer(&mut self) -> Result<(u8, u32, Fields)> {
        loop {
            let (found, mut fields) = self.receive().await?;
            let id = fields.u32().map_err(|e| self.malformed(e))?;
            if !self.unheard.remove(&id) {
                return Ok((found, id, fields));
            }
        }
    }

    async fn send(&mut self, packet: Packet) -> Result<()> {
        self.write(&packet.done()).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = async {
            self.line.to.write_all(bytes).await?;
            self.line.to.flush().await
        };
        match sent.await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.lost().await),
        }
    }

    async fn receive(&mut self) -> Result<(u8, Fields)> {
        let asked = Instant::now();
        let mut head = [0; 4];
        self.read_exact(&mut head).await?;
        let length = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
        if !(1..=LARGEST).contains(&length) {
            return Err(self.not_sftp());
        }
        let mut body = BytesMut::zeroed(length);
        self.read_exact(&mut body).await?;
        self.pace.answered(asked.elapsed(), length);
        if self.pace.is_too_slow() {
            return Err(Error::new(
                ErrorKind::Failed,
                "ssh.too_slow",
                format!(
                    "{} answers, and sends far less than {RATE} bytes a second",
                    self.host
                ),
            )
            .hint("see how busy it and the way there are (`sftp` shows the speed of a `get`), and try again")
            .retryable());
        }
        let mut body = body.freeze();
        let found = body.split_to(1);
        Ok((found.first().copied().unwrap_or_default(), Fields(body)))
    }

    /// A server that is there and says nothing is no reason to wait for ever.
    async fn read_exact(&mut self, bytes: &mut [u8]) -> Result<()> {
        match tokio::time::timeout(ANSWER, self.line.from.read_exact(bytes)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(self.lost().await),
            Err(_) => Err(Error::new(
                ErrorKind::Failed,
                "ssh.no_answer",
                format!(
                    "{} is connected and has not answered for {} s",
                    self.host,
                    ANSWER.as_secs()
                ),
            )
            .hint("see whether its disk hangs, and try again")
            .retryable()),
        }
    }

    fn endless(&self) -> Error {
        Error::new(
            ErrorKind::Failed,
            "ssh.too_many_entries",
            format!(
                "{} lists more than {ENTRIES} entries of one directory, or names that are far too long, which no store has",
                self.host
            ),
        )
        .hint("is `path` the directory of the backups? look there with `sftp`")
    }

    fn status(&self, found: u8, mut fields: Fields) -> Refused {
        if found != kind::STATUS {
            return self.malformed(Malformed).into();
        }
        match (fields.u32(), fields.bytes()) {
            (Ok(code), message) => Refused::Status {
                code,
                message: String::from_utf8_lossy(&message.unwrap_or_default()).into_owned(),
            },
            _ => self.malformed(Malformed).into(),
        }
    }

    async fn lost(&mut self) -> Error {
        let said = self.line.end.last_words().await;
        lost(&self.host, &said)
    }

    fn malformed(&self, _: Malformed) -> Error {
        Error::new(
            ErrorKind::Failed,
            "ssh.not_sftp",
            format!("{} answers in another way than SFTP says", self.host),
        )
        .hint("try `sftp` to it by hand")
    }

    fn not_sftp(&self) -> Error {
        Error::new(
            ErrorKind::Config,
            "ssh.not_sftp",
            format!("what {} answers is not SFTP", self.host),
        )
        .hint("a shell start-up file there that prints something garbles it: `ssh HOST true` must print nothing")
    }
}

fn read(id: u32, handle: &[u8], at: u64, length: u32) -> Bytes {
    Packet::new(kind::READ, id)
        .bytes(handle)
        .u64(at)
        .u32(length)
        .done()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many answers come until a server is too slow, of a hundred thousand.
    fn answers(took: Duration, bytes: usize, is_a_part: bool) -> Option<u32> {
        let mut pace = Pace::default();
        (1..100_000).find(|_| {
            pace.answered(took, bytes);
            if is_a_part {
                pace.was_a_part();
            }
            pace.is_too_slow()
        })
    }

    #[test]
    fn a_server_that_sends_a_byte_now_and_then_is_left() {
        let dripped = answers(Duration::from_secs(5), 14, true);
        assert!(dripped.is_some_and(|answers| answers < 30), "{dripped:?}");
        let held = answers(Duration::from_secs(59), 100, false);
        assert!(held.is_some_and(|answers| answers < 5), "{held:?}");
        // A far one with small files, a slow line, and one whose reads are short.
        assert_eq!(answers(Duration::from_millis(900), 30, false), None);
        assert_eq!(answers(Duration::from_secs(10), 32 << 10, false), None);
        assert_eq!(answers(Duration::from_millis(800), 4096, true), None);
        // A disk that hangs for once.
        let mut pace = Pace::default();
        pace.answered(Duration::from_secs(100), 30);
        assert!(!pace.is_too_slow());
    }
}
