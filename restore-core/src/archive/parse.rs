//! The third thread: follows the tar headers, and hands what passes the gate to the writers.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::rc::Rc;

use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_tar::{Archive, Entry};

use super::abort::{Aborted, PipelineAbort};
use super::chunk::CHUNK;
use super::codec::{ChunkReader, drive};
use super::listing::{Listed, unheard};
use super::member::{ContentLayout, Member, TarKind};
use super::member_filter::{MOST, MemberFilter, Verdict};
use super::refusal::refusals;
use super::source_thread::ANOTHER_COPY;
use super::tar_reader::{HEADERS, TarReader, Watch};
use super::unpack::{Content, Damaged};
use super::write::MemberMeta;
use super::writer_pool::Sink;
use super::{Limit, MEMBERS, RefusedMember, TooLarge, UnpackPolicy, Unpacked, Walked, member};
use crate::model::{Error, ErrorKind};

/// So many zeros may stand for the holes of an archive's sparse files where nothing else is said: each
/// costs time to read. A `lastlog` with the largest user number has more than one tebibyte.
const HOLES: u64 = 2 << 40;

/// So many bytes may be kept until the end for directories, for each member that there may be: what
/// no archive comes near whose members are not mostly directories with long names.
const HELD: u64 = 64;

/// Reads an archive to its end, judging each member; what is let in goes to `sink`, or nowhere.
/// Members that are refused are an error, which names them all, or go into `refused`.
pub(super) fn parse(
    label: &str,
    policy: &UnpackPolicy,
    reader: ChunkReader,
    halt: &PipelineAbort,
    sink: Option<&mut Sink>,
    refused: Option<&mut Walked>,
) -> Result<Unpacked, Aborted> {
    let gate = MemberFilter::new(label, policy).map_err(|error| halt.fail(error))?;
    let (reader, watch) = TarReader::new(reader);
    let parser = Parser {
        label,
        policy,
        halt,
        gate,
        watch,
        sink,
        // Where content goes that nobody wants.
        scratch: vec![0; CHUNK / 4],
        counts: Unpacked::default(),
        members: 0,
        content: 0,
        holes: 0,
        refused: Vec::new(),
        refusals: 0,
        collected: refused,
    };
    drive(halt, parser.run(reader))
}

struct Parser<'a> {
    label: &'a str,
    policy: &'a UnpackPolicy,
    halt: &'a PipelineAbort,
    gate: MemberFilter<'a>,
    watch: Rc<Watch>,
    sink: Option<&'a mut Sink>,
    scratch: Vec<u8>,
    counts: Unpacked,
    members: u64,
    content: u64,
    holes: u64,
    /// The first members that were refused.
    refused: Vec<RefusedMember>,
    /// How many were.
    refusals: usize,
    /// Where they go instead of being an error.
    collected: Option<&'a mut Walked>,
}

impl Parser<'_> {
    async fn run(mut self, reader: TarReader) -> Result<Unpacked, Aborted> {
        let read = self.read(reader).await;
        // What was refused before the reading ended is told, however that ended.
        if let Some(collected) = self.collected.take() {
            if read.is_err() {
                self.gate.settle(&mut self.refused);
            }
            collected.refused.append(&mut self.refused);
            collected.unjudged = self.gate.unjudged();
        }
        read
    }

    async fn read(&mut self, reader: TarReader) -> Result<Unpacked, Aborted> {
        let mut archive = Archive::new(reader);
        let mut entries = archive.entries().map_err(|error| self.broken("", &error))?;
        let mut last = String::new();
        loop {
            self.halt.check()?;
            self.watch.headers();
            let Some(entry) = entries.next().await else {
                break;
            };
            let mut entry = entry.map_err(|error| self.broken(&last, &error))?;
            let member = member::read(&mut entry, &self.watch)
                .await
                .map_err(|error| self.broken(&last, &error))?;
            last.clear();
            last.push_str(&String::from_utf8_lossy(&member.name));
            self.within(&member)?;
            self.watch.content();
            self.member(&member, &mut entry)
                .await?
                .map_err(|error| self.broken(&last, &error))?;
            self.skip(&mut entry)
                .await?
                .map_err(|error| self.broken(&last, &error))?;
        }
        drop(entries);
        if self.watch.ended() {
            return Err(self.broken(&last, &std::io::ErrorKind::UnexpectedEof.into()));
        }
        let Ok(mut rest) = archive.into_inner() else {
            return Err(self.broken(&last, &std::io::Error::other("its reader is still in use")));
        };
        self.watch.content();
        self.padding(&mut rest, &last).await?;
        self.gate.settle(&mut self.refused);
        let listing = self.collected.as_ref().is_some_and(|it| it.to.is_some());
        if self.refusals == 0 && !listing {
            self.gate.finish().map_err(|error| self.halt.fail(error))?;
        }
        if self.collected.is_none() && self.refusals > 0 {
            let error = refusals(self.label, &self.refused, self.refusals);
            return Err(self.halt.fail(error));
        }
        self.counts.outside = self.gate.outside();
        Ok(self.counts)
    }

    /// Ends it where there is more than anybody has meant: what a bomb unpacks to is in no manifest.
    fn within(&mut self, member: &Member) -> Result<(), Aborted> {
        self.members += 1;
        let (content, holes) = match &member.what {
            TarKind::File(ContentLayout::Whole) => (member.size, 0),
            TarKind::File(ContentLayout::Zeros { stored }) => {
                (*stored, member.size.saturating_sub(*stored))
            }
            TarKind::File(ContentLayout::Pieces(pieces)) => {
                let lengths = pieces.iter().map(|(_, length)| *length);
                (lengths.fold(0, u64::saturating_add), 0)
            }
            _ => (0, 0),
        };
        self.content = self.content.saturating_add(content);
        self.holes = self.holes.saturating_add(holes);
        self.few_members()?;
        let bytes = self.policy.max_bytes;
        if bytes > 0 && self.content > bytes {
            return Err(self.too_large(&format!("{bytes} bytes of content"), "max_bytes"));
        }
        let bytes = if bytes == 0 { HOLES } else { bytes };
        if self.holes > bytes {
            let what = format!("{bytes} bytes of zeros for the holes of sparse files");
            return Err(self.too_large(&what, "max_bytes"));
        }
        Ok(())
    }

    /// As `within`, by the number of members and of the directories that their names imply, which cost as much.
    fn few_members(&self) -> Result<(), Aborted> {
        let planned = self.policy.limit.as_ref().and_then(Limit::members);
        let most = match self.policy.max_members {
            0 => planned.unwrap_or(MEMBERS),
            most => most,
        };
        if self.members.saturating_add(self.gate.implied()) > most {
            let what = format!("{most} members and directories");
            return Err(self.too_large(&what, "max_members"));
        }
        if self.gate.held() > most.max(MEMBERS).saturating_mul(HELD) {
            let what = "what may be kept of the names and attributes of directories";
            return Err(self.too_large(what, "max_members"));
        }
        Ok(())
    }

    fn too_large(&self, what: &str, key: &str) -> Aborted {
        self.halt.fail(
            Error::new(
                ErrorKind::Verification,
                "archive.too_large",
                format!("{} holds more than {what}", self.label),
            )
            .because(TooLarge)
            .hint(format!(
                "look at what is in it (`restore show ID --files` lists that); if it is right, raise `{key}` of the component"
            )),
        )
    }

    /// After the end of the archive only zeros may follow.
    async fn padding(&mut self, rest: &mut TarReader, last: &str) -> Result<(), Aborted> {
        loop {
            self.halt.check()?;
            match rest.read(&mut self.scratch).await {
                Ok(0) => return Ok(()),
                Ok(read) => {
                    let read = self.scratch.get(..read).unwrap_or_default();
                    if read.iter().any(|byte| *byte != 0) {
                        return Err(self.halt.fail(
                            Error::new(
                                ErrorKind::Verification,
                                "archive.corrupt",
                                format!(
                                    "{} goes on after the end of its archive: something was \
                                     appended to it, or its middle was overwritten",
                                    self.label
                                ),
                            )
                            .because(Damaged)
                            .hint(ANOTHER_COPY),
                        ));
                    }
                }
                Err(error) => return Err(self.broken(last, &error)),
            }
        }
    }

    async fn member<R: AsyncRead + Unpin>(
        &mut self,
        member: &Member,
        entry: &mut Entry<R>,
    ) -> Result<std::io::Result<()>, Aborted> {
        if let Some(to) = self.collected.as_ref().and_then(|it| it.to.as_ref()) {
            return match Listed::of(member).map(|listed| to.blocking_send(listed)) {
                Some(Err(_)) => Err(self.halt.fail(unheard(self.label))),
                Some(Ok(())) | None => Ok(Ok(())),
            };
        }
        let judged = self.gate.judged(member);
        self.few_members()?;
        let verdict = match judged {
            Ok(verdict) => verdict,
            Err(refused) => {
                // Nothing is unpacked any more: the rest is read to name all that are refused.
                self.sink = None;
                self.refusals += 1;
                if self.refused.len() < MOST {
                    self.refused.push(refused);
                }
                return Ok(Ok(()));
            }
        };
        let Verdict::Unpack {
            path,
            original,
            again,
            implied,
            owner,
        } = verdict
        else {
            self.counts.left_out += u64::from(verdict == Verdict::LeftOut);
            return Ok(Ok(()));
        };
        self.counts.attributes_lost += member.attributes_lost;
        self.counts.labels_lost += u64::from(member.labelled);
        let kind = match member.what {
            TarKind::File(_) => Some(false),
            TarKind::Directory | TarKind::Dumpdir { .. } => Some(true),
            _ => None,
        };
        // What is called nothing is the tree itself, which is there already.
        if let (Some(reader), Some(directory), false) = (&self.policy.reader, kind, path.is_empty())
        {
            let access = reader.access(member, owner, directory);
            self.counts.unreadable += u64::from(!access.reads);
            self.counts.writable += u64::from(access.writes);
        }
        self.counts.names_top |= kind == Some(true) && path.is_empty();
        let meta = || MemberMeta::of(member, owner);
        let file_meta = || match self.policy.drop_powers {
            true => meta().without_powers(),
            false => meta(),
        };
        if let Some(sink) = self.sink.as_deref_mut() {
            for path in implied {
                sink.directory(path, MemberMeta::implied(self.gate.owner_of_all()));
            }
            if again {
                // What has this name now must be there before it is replaced.
                sink.settle()?;
            }
        }
        match (&member.what, original) {
            (TarKind::File(layout), _) => {
                if let Some(collected) = self.collected.as_deref_mut() {
                    let name = path.rsplit(|byte| *byte == b'/').next();
                    collected.maybe_dump |= name == Some(&b"toc.dat"[..]);
                }
                self.counts.files += 1;
                self.counts.bytes = self.counts.bytes.saturating_add(member.size);
                if let Some(sink) = self.sink.as_deref_mut() {
                    sink.file(path, file_meta(), member.size, layout)?;
                    return self.content(member, layout, entry).await;
                }
                if *layout == ContentLayout::Whole {
                    return self.keep(path, member, entry).await;
                }
            }
            (TarKind::Directory | TarKind::Dumpdir { .. }, _) => {
                self.counts.directories += 1;
                if let Some(sink) = self.sink.as_deref_mut() {
                    sink.directory(path, meta());
                }
            }
            (TarKind::Symlink(target), _) => {
                self.counts.links += 1;
                if let Some(sink) = self.sink.as_deref_mut() {
                    sink.symlink(path, target.clone(), meta())?;
                } else if let Some(content) = self.kept_content() {
                    let path_of = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
                    content.links.insert(path_of(path), path_of(target.clone()));
                }
            }
            (TarKind::Hardlink(_), Some(original)) => {
                self.counts.links += 1;
                if let Some(sink) = self.sink.as_deref_mut() {
                    sink.hard_link(path, original)?;
                }
            }
            (TarKind::Fifo, _) => {
                if let Some(sink) = self.sink.as_deref_mut() {
                    sink.fifo(path, meta())?;
                }
            }
            // The gate lets nothing else in.
            _ => {}
        }
        Ok(Ok(()))
    }

    /// Where content is kept in memory, where that is wanted.
    fn kept_content(&mut self) -> Option<&mut Content> {
        self.collected.as_mut().and_then(|it| it.content.as_mut())
    }

    /// Keeps the content of a file in memory, where that is wanted.
    async fn keep<R: AsyncRead + Unpin>(
        &mut self,
        path: Vec<u8>,
        member: &Member,
        entry: &mut Entry<R>,
    ) -> Result<std::io::Result<()>, Aborted> {
        let Some(content) = self.kept_content() else {
            return Ok(Ok(()));
        };
        if member.size > content.most {
            let what = format!(
                "{} bytes in {}, which is read whole",
                content.most,
                String::from_utf8_lossy(&path)
            );
            return Err(self.too_large(&what, "max_bytes"));
        }
        let mut bytes = Vec::new();
        match entry.read_to_end(&mut bytes).await {
            Ok(_) => {}
            Err(error) => return Ok(Err(error)),
        }
        content
            .files
            .insert(PathBuf::from(OsString::from_vec(path)), bytes);
        Ok(Ok(()))
    }

    /// Copies a file's content into the writers' buffers.
    async fn content<R: AsyncRead + Unpin>(
        &mut self,
        member: &Member,
        layout: &ContentLayout,
        entry: &mut Entry<R>,
    ) -> Result<std::io::Result<()>, Aborted> {
        let Some(sink) = self.sink.as_deref_mut() else {
            return Ok(Ok(()));
        };
        let whole = [(0, member.size)];
        let pieces = match layout {
            ContentLayout::Whole | ContentLayout::Zeros { .. } => &whole[..],
            ContentLayout::Pieces(pieces) => pieces,
        };
        for (offset, length) in pieces {
            let (mut at, mut left) = (*offset, *length);
            while left > 0 {
                self.halt.check()?;
                let room = sink.room()?;
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(room.len());
                let read = match entry.read(room.get_mut(..most).unwrap_or_default()).await {
                    Ok(0) => return Ok(Err(std::io::ErrorKind::UnexpectedEof.into())),
                    Ok(read) => read,
                    Err(error) => return Ok(Err(error)),
                };
                sink.filled(read, at);
                let read = u64::try_from(read).unwrap_or(u64::MAX);
                at = at.saturating_add(read);
                left = left.saturating_sub(read);
            }
        }
        sink.end_file(member.size)?;
        Ok(Ok(()))
    }

    /// Reads on to the member's end.
    async fn skip<R: AsyncRead + Unpin>(
        &mut self,
        entry: &mut Entry<R>,
    ) -> Result<std::io::Result<()>, Aborted> {
        loop {
            match entry.read(&mut self.scratch).await {
                Ok(0) => return Ok(Ok(())),
                Ok(_) => self.halt.check()?,
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// What it means that the parser cannot go on behind the member `last`.
    fn broken(&self, last: &str, error: &std::io::Error) -> Aborted {
        // What stopped the reader is the cause, not what the parser makes of it.
        if let Err(halted) = self.halt.check() {
            return halted;
        }
        let label = self.label;
        let place = if last.is_empty() {
            "at its first member".to_owned()
        } else {
            format!("at or behind member {last:?}")
        };
        let text = error.to_string();
        if text.contains("not supported") {
            // Sound perhaps, but nothing that the parser takes, such as an attribute without
            // a value.
            return self.halt.fail(
                Error::new(
                    ErrorKind::Verification,
                    "archive.corrupt",
                    format!("{label} cannot be read {place}: {text}"),
                )
                .because(Damaged)
                .hint("unpack it with tar, and make it again without such members or attributes"),
            );
        }
        let (code, message) = if self.watch.overrun() {
            (
                "archive.corrupt",
                format!("{label} is damaged {place}: headers of more than {HEADERS} bytes"),
            )
        } else if self.watch.ended() {
            (
                "archive.truncated",
                format!("{label} is cut off {place}: the end of the archive is missing"),
            )
        } else if last.is_empty() {
            (
                "archive.corrupt",
                format!("{label} is not a tar archive, or damaged {place}: {error}"),
            )
        } else {
            (
                "archive.corrupt",
                format!("{label} is damaged {place}: {error}"),
            )
        };
        let error = Error::new(ErrorKind::Verification, code, message);
        self.halt.fail(error.because(Damaged).hint(ANOTHER_COPY))
    }
}
