//! The second thread: decompresses. What a file is, its first bytes say, not its name.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use async_compression::tokio::bufread::{
    BzDecoder, GzipDecoder, Lz4Decoder, XzDecoder, ZstdDecoder,
};
use futures_util::FutureExt;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, ReadBuf};

use super::Limit;
use super::abort::{Aborted, PipelineAbort};
use super::chunk::{Chunk, Pool};
use super::source_thread::{ANOTHER_COPY, ChunkReceiver};
use super::unpack::Damaged;
use crate::model::{Error, ErrorKind};

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// Not at all.
    Plain,
    /// gzip, one or more members.
    Gzip,
    /// Zstandard, one or more frames.
    Zstd,
    /// bzip2, one or more streams.
    Bzip2,
    /// xz, one or more streams.
    Xz,
    /// Frames of lz4.
    Lz4,
}

/// What the dictionary of an xz stream may take up: `xz -9` needs 65 MiB, and a few bytes can ask for
/// gigabytes.
const XZ_MEMORY: u64 = 256 << 20;

/// The ends of names of archives, as their makers write them.
pub(crate) const ARCHIVES: [&str; 11] = [
    ".tar.gz",
    ".tgz",
    ".tar.zst",
    ".tar.bz2",
    ".tbz2",
    ".tbz",
    ".tar.xz",
    ".txz",
    ".tar.lz4",
    ".tar.zstd",
    ".tar",
];

impl Codec {
    /// By the first bytes; the error is a format that is known but not read.
    pub(super) fn of(start: &[u8]) -> Result<Self, Foreign> {
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            // A frame, or a skippable frame as parallel compressors put it first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, ..]
            // Of nothing at all.
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, ..] => Ok(Self::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Ok(Self::Xz),
            [0x04, 0x22, 0x4d, 0x18, ..] => Ok(Self::Lz4),
            _ => Foreign::of(start).map_or(Ok(Self::Plain), Err),
        }
    }

    /// What a file's name claims; `None` where it claims nothing.
    pub(super) fn claimed_by(name: &str) -> Option<Self> {
        let ends = |end: &str| {
            name.len()
                .checked_sub(end.len())
                .and_then(|at| name.get(at..))
                .is_some_and(|tail| tail.eq_ignore_ascii_case(end))
        };
        if ends(".gz") || ends(".tgz") {
            Some(Self::Gzip)
        } else if ends(".zst") || ends(".zstd") {
            Some(Self::Zstd)
        } else if ends(".bz2") || ends(".tbz2") || ends(".tbz") {
            Some(Self::Bzip2)
        } else if ends(".xz") || ends(".txz") {
            Some(Self::Xz)
        } else if ends(".lz4") {
            Some(Self::Lz4)
        } else {
            None
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
        }
    }
}

/// A format that is known and not read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// Compressed, and with what.
    Compressed(&'static str),
    /// Encrypted, with what, and how that is undone.
    Encrypted(&'static str, &'static str),
}

impl Foreign {
    /// Told by bytes that no tar archive begins with: those begin with the name of a file.
    fn of(start: &[u8]) -> Option<Self> {
        const PGP: Foreign = Foreign::Encrypted(
            "OpenPGP (gpg)",
            "decrypt it with `gpg --decrypt`; an artifact whose name ends in .gpg is decrypted on the way where the site has its key",
        );
        let is_tar = start.get(257..262) == Some(b"ustar");
        Some(match start {
            [0x02, 0x21, 0x4c, 0x18, ..] => Self::Compressed("the legacy format of lz4"),
            [0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c, ..] => Self::Compressed("7z"),
            [b'L', b'Z', b'I', b'P', ..] if !is_tar => Self::Compressed("lzip"),
            [b'P', b'K', 3, 4, ..] => Self::Compressed("zip"),
            // The size of its dictionary is never nothing; a file may be called `]`.
            [0x5d, 0, 0, low, high, ..] if (low | high) != 0 => Self::Compressed("lzma"),
            [0x1f, 0x9d, ..] => Self::Compressed("compress (.Z)"),
            [0x89, b'L', b'Z', b'O', 0, ..] => Self::Compressed("lzop"),
            [b'R', b'a', b'r', b'!', 0x1a, 0x07, ..] => Self::Compressed("rar"),
            // Session keys for a passphrase or for a public key, in the old form and in the new one.
            [0x8c | 0xc3, _, 4 | 5, ..]
            | [0x84 | 0xc1, _, 3, ..]
            | [0x85, _, _, 3, ..]
            | [0xc1, 0xc0..=0xdf, _, 3, ..] => PGP,
            _ if is_tar => return None,
            _ if start.starts_with(b"-----BEGIN PGP MESSAGE") => PGP,
            _ if start.starts_with(b"age-encryption.org/")
                || start.starts_with(b"-----BEGIN AGE ENCRYPTED") =>
            {
                Self::Encrypted("age", "decrypt it with `age --decrypt`")
            }
            _ if start.starts_with(b"Salted__") => Self::Encrypted(
                "`openssl enc`",
                "decrypt it with `openssl enc -d` and the cipher that it was made with",
            ),
            _ => return None,
        })
    }

    /// The error of an artifact that is in it.
    pub(super) fn error(self, label: &str) -> Error {
        let (message, hint) = match self {
            Self::Compressed(with) => (
                format!("{label} is compressed with {with}, which is not read here"),
                "compress it again with gzip, zstd, bzip2, xz or lz4",
            ),
            Self::Encrypted(with, hint) => (
                format!("{label} is encrypted with {with}, which its name does not say"),
                hint,
            ),
        };
        Error::new(ErrorKind::Verification, "archive.corrupt", message)
            .because(Damaged)
            .hint(hint)
    }
}

/// Whether a file that begins so is compressed in a way that is read here.
pub(crate) fn is_compressed(start: &[u8]) -> bool {
    Codec::of(start).is_ok_and(|codec| codec != Codec::Plain)
}

/// A file that is not readable as what it is, in words.
pub(super) fn unreadable(label: &str, codec: Codec, error: &io::Error) -> Error {
    if needs_memory(codec, error) {
        let (most, again) = match codec {
            Codec::Zstd => (
                "a window of more than 128 MiB (`zstd --long`)",
                "`zstd -d --long=31` reads it: compress it again without --long",
            ),
            _ => (
                "a dictionary of more than 256 MiB",
                "`xz -d` reads it: compress it again with `xz -9` at the most",
            ),
        };
        let message = format!(
            "{label} is not read here: its {} data needs {most}",
            codec.name()
        );
        return Error::new(ErrorKind::Verification, "archive.window_too_large", message)
            .hint(again);
    }
    let (code, message) = if error.kind() == io::ErrorKind::UnexpectedEof {
        (
            "archive.truncated",
            format!(
                "{label} is cut off: its {} data ends too early",
                codec.name()
            ),
        )
    } else {
        (
            "archive.corrupt",
            format!(
                "{label} is damaged: its {} data cannot be read: {error}",
                codec.name()
            ),
        )
    };
    Error::new(ErrorKind::Verification, code, message)
        .because(Damaged)
        .hint(ANOTHER_COPY)
}

/// Whether it is sound as far as it was read, and needs more memory than is given to it.
fn needs_memory(codec: Codec, error: &io::Error) -> bool {
    let text = error.to_string();
    match codec {
        Codec::Zstd => text.contains("too much memory"),
        Codec::Xz => text.contains("memory limit"),
        Codec::Plain | Codec::Gzip | Codec::Bzip2 | Codec::Lz4 => false,
    }
}

/// Reads a channel of chunks as a stream of bytes. It never pends: it blocks its thread until
/// there is something to read, so that a future over it is done when polled once.
pub(super) struct ChunkReader {
    receive: ChunkReceiver,
    halt: PipelineAbort,
    current: Option<Arc<Chunk>>,
    at: usize,
}

impl ChunkReader {
    pub(super) fn new(receive: ChunkReceiver, halt: PipelineAbort) -> Self {
        Self {
            receive,
            halt,
            current: None,
            at: 0,
        }
    }

    /// What is there to read; nothing only at the end.
    fn fill(&mut self) -> io::Result<&[u8]> {
        if self
            .current
            .as_ref()
            .is_none_or(|chunk| self.at >= chunk.filled())
        {
            // Given back before the next is waited for.
            self.current = None;
            self.at = 0;
            self.current = self.receive.recv().ok();
            if self.halt.is_halted() {
                return Err(io::Error::other("stopped"));
            }
        }
        Ok(self
            .current
            .as_ref()
            .and_then(|chunk| chunk.get(self.at..))
            .unwrap_or_default())
    }

    /// The first chunk, without taking anything from it; empty: there is nothing to read.
    pub(super) fn start(&mut self) -> Result<&[u8], Aborted> {
        let halt = self.halt.clone();
        self.fill().map_err(|_| match halt.check() {
            Err(halted) => halted,
            Ok(()) => Aborted,
        })
    }

    /// Leaves out zeros; whether anything is there behind them.
    fn skip_zeros(&mut self) -> io::Result<bool> {
        loop {
            let there = self.fill()?;
            let (zeros, all) = match there.iter().position(|byte| *byte != 0) {
                Some(at) => (at, there.is_empty()),
                None => (there.len(), true),
            };
            if zeros == 0 && all {
                return Ok(false);
            }
            self.skip(zeros);
            if !all {
                return Ok(true);
            }
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
    }
}

impl AsyncBufRead for ChunkReader {
    fn poll_fill_buf(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Poll::Ready(self.get_mut().fill())
    }

    fn consume(self: Pin<&mut Self>, bytes: usize) {
        self.get_mut().skip(bytes);
    }
}

impl AsyncRead for ChunkReader {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let part = match this.fill() {
            Ok(there) => there
                .get(..into.remaining().min(there.len()))
                .unwrap_or_default(),
            Err(error) => return Poll::Ready(Err(error)),
        };
        into.put_slice(part);
        let read = part.len();
        this.skip(read);
        Poll::Ready(Ok(()))
    }
}

/// Runs a future over readers that never pend.
pub(super) fn drive<T>(
    halt: &PipelineAbort,
    future: impl Future<Output = Result<T, Aborted>>,
) -> Result<T, Aborted> {
    future.now_or_never().unwrap_or_else(|| {
        Err(halt.fail(Error::new(
            ErrorKind::Internal,
            "stream.pending",
            "a reader of the data path waited where it must not",
        )))
    })
}

/// Decompresses `reader` to its end, handing each filled buffer to `put`.
///
/// Members (frames, streams) may follow each other, and zeros the last one: tapes and some
/// appliances fill up whole blocks.
pub(super) fn inflate(
    (label, limit): (&str, Option<&Limit>),
    codec: Codec,
    mut reader: ChunkReader,
    halt: &PipelineAbort,
    pool: &Arc<Pool>,
    put: impl FnMut(Chunk) -> Result<(), Aborted>,
) -> Result<(), Aborted> {
    let mut out = Output {
        label,
        limit,
        came: 0,
        codec,
        halt,
        pool,
        chunk: None,
        put,
    };
    drive(halt, async move {
        loop {
            match codec {
                Codec::Plain => out.take(&mut reader).await?,
                Codec::Gzip => out.take(GzipDecoder::new(&mut reader)).await?,
                Codec::Zstd => out.take(ZstdDecoder::new(&mut reader)).await?,
                Codec::Bzip2 => out.take(BzDecoder::new(&mut reader)).await?,
                Codec::Xz => {
                    out.take(XzDecoder::with_mem_limit(&mut reader, XZ_MEMORY))
                        .await?;
                }
                Codec::Lz4 => out.take(Lz4Decoder::new(&mut reader)).await?,
            }
            if !reader.skip_zeros().map_err(|error| out.failed(&error))? {
                return out.flush();
            }
        }
    })
}

/// What comes out of the decoders of one file, in buffers.
struct Output<'a, P> {
    label: &'a str,
    /// What may come, and how much has.
    limit: Option<&'a Limit>,
    came: u64,
    codec: Codec,
    halt: &'a PipelineAbort,
    pool: &'a Arc<Pool>,
    chunk: Option<Chunk>,
    put: P,
}

impl<P: FnMut(Chunk) -> Result<(), Aborted>> Output<'_, P> {
    /// Reads one member to its end.
    async fn take(&mut self, decoder: impl AsyncRead) -> Result<(), Aborted> {
        let mut decoder = pin!(decoder);
        loop {
            self.halt.check()?;
            let chunk = self.chunk.get_or_insert_with(|| self.pool.take());
            match decoder.read(chunk.room()).await {
                Ok(0) => return Ok(()),
                Ok(read) => chunk.fill(read),
                Err(error) => return Err(self.failed(&error)),
            }
            if chunk.room().is_empty() {
                self.flush()?;
            }
        }
    }

    fn flush(&mut self) -> Result<(), Aborted> {
        match self.chunk.take().filter(|chunk| chunk.filled() > 0) {
            Some(chunk) => {
                self.count(chunk.filled())?;
                (self.put)(chunk)
            }
            None => Ok(()),
        }
    }

    /// Ends it where more comes than was planned.
    fn count(&mut self, filled: usize) -> Result<(), Aborted> {
        self.came = self.came.saturating_add(filled as u64);
        match self.limit.filter(|limit| self.came > limit.most()) {
            Some(limit) => Err(self.halt.fail(limit.exceeded(self.label, self.came))),
            None => Ok(()),
        }
    }

    fn failed(&self, error: &io::Error) -> Aborted {
        // What stopped the reader is the cause, not what the decoder makes of it.
        match self.halt.check() {
            Err(halted) => halted,
            Ok(()) => self.halt.fail(unreadable(self.label, self.codec, error)),
        }
    }
}
