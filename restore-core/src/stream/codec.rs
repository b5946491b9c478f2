//! The second thread: decompresses. What a file is, its first bytes say, not its name.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use futures_util::FutureExt;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, ReadBuf};

use super::chunk::{Chunk, Pool};
use super::feed::{ANOTHER_COPY, ChunkReceiver};
use super::halt::{Halt, Halted};
use crate::error::{Error, ErrorKind};

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// Not at all.
    Plain,
    /// gzip, one or more members.
    Gzip,
    /// Zstandard, one or more frames.
    Zstd,
}

impl Codec {
    /// By the first bytes; the error is the name of a format that is known but not read.
    pub(super) fn of(start: &[u8]) -> Result<Self, &'static str> {
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            // A frame, or a skippable frame as parallel compressors put it first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Err("bzip2"),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err("xz"),
            [0x04, 0x22, 0x4d, 0x18, ..] => Err("lz4"),
            [b'P', b'K', 3, 4, ..] => Err("zip"),
            _ => Ok(Self::Plain),
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
        } else {
            None
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// A file that is not readable as what it is, in words.
pub(super) fn unreadable(label: &str, codec: Codec, error: &io::Error) -> Error {
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
    Error::new(ErrorKind::Verification, code, message).hint(ANOTHER_COPY)
}

/// Reads a channel of chunks as a stream of bytes. It never pends: it blocks its thread until
/// there is something to read, so that a future over it is done when polled once.
pub(super) struct ChunkReader {
    receive: ChunkReceiver,
    halt: Halt,
    current: Option<Arc<Chunk>>,
    at: usize,
}

impl ChunkReader {
    pub(super) fn new(receive: ChunkReceiver, halt: Halt) -> Self {
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
    pub(super) fn start(&mut self) -> Result<&[u8], Halted> {
        let halt = self.halt.clone();
        self.fill().map_err(|_| match halt.check() {
            Err(halted) => halted,
            Ok(()) => Halted,
        })
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
    halt: &Halt,
    future: impl Future<Output = Result<T, Halted>>,
) -> Result<T, Halted> {
    future.now_or_never().unwrap_or_else(|| {
        Err(halt.fail(Error::new(
            ErrorKind::Internal,
            "stream.pending",
            "a reader of the data path waited where it must not",
        )))
    })
}

/// Decompresses `reader` to its end, handing each filled buffer to `put`.
pub(super) fn inflate(
    label: &str,
    codec: Codec,
    reader: ChunkReader,
    halt: &Halt,
    pool: &Arc<Pool>,
    mut put: impl FnMut(Chunk) -> Result<(), Halted>,
) -> Result<(), Halted> {
    drive(halt, async move {
        let decoder: Pin<Box<dyn AsyncRead>> = match codec {
            Codec::Plain => Box::pin(reader),
            Codec::Gzip => {
                let mut decoder = GzipDecoder::new(reader);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
            Codec::Zstd => {
                let mut decoder = ZstdDecoder::new(reader);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
        };
        let mut decoder = pin!(decoder);
        loop {
            halt.check()?;
            let mut chunk = pool.take();
            while !chunk.room().is_empty() {
                match decoder.read(chunk.room()).await {
                    Ok(0) => break,
                    Ok(read) => chunk.fill(read),
                    Err(error) => {
                        halt.check()?;
                        return Err(halt.fail(unreadable(label, codec, &error)));
                    }
                }
            }
            if chunk.filled() == 0 {
                return Ok(());
            }
            put(chunk)?;
        }
    })
}
