//! What the tar parser reads from, and what it must not read: headers without bound.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use super::codec::ChunkReader;

/// The most that one member's headers may take: long names, attributes, the map of a sparse
/// file. The parser keeps them in memory as they come, and a few compressed kilobytes can
/// announce gigabytes of them.
pub(super) const HEADERS: u64 = 2 * 1024 * 1024;

/// What happened to the reader below the parser, which owns it.
pub(super) struct Watch {
    /// How much may still be read.
    allowance: Cell<u64>,
    ended: Cell<bool>,
    overrun: Cell<bool>,
}

impl Watch {
    /// Headers are read from here on.
    pub(super) fn headers(&self) {
        self.allowance.set(HEADERS);
    }

    /// Content is read from here on, in buffers of the caller.
    pub(super) fn content(&self) {
        self.allowance.set(u64::MAX);
    }

    /// Whether the end of the data was met.
    pub(super) fn ended(&self) -> bool {
        self.ended.get()
    }

    /// Whether headers took more than [`HEADERS`].
    pub(super) fn overrun(&self) -> bool {
        self.overrun.get()
    }
}

/// A [`ChunkReader`] with a [`Watch`].
pub(super) struct TarReader {
    reader: ChunkReader,
    watch: Rc<Watch>,
}

impl TarReader {
    pub(super) fn new(reader: ChunkReader) -> (Self, Rc<Watch>) {
        let watch = Rc::new(Watch {
            allowance: Cell::new(HEADERS),
            ended: Cell::new(false),
            overrun: Cell::new(false),
        });
        let reader = Self {
            reader,
            watch: Rc::clone(&watch),
        };
        (reader, watch)
    }
}

impl AsyncRead for TarReader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        let wanted = into.remaining();
        let polled = Pin::new(&mut this.reader).poll_read(context, into);
        let read = into.filled().len().saturating_sub(before);
        if wanted > 0 && read == 0 && matches!(polled, Poll::Ready(Ok(()))) {
            this.watch.ended.set(true);
        }
        let allowance = this.watch.allowance.get();
        if allowance != u64::MAX {
            let read = u64::try_from(read).unwrap_or(u64::MAX);
            match allowance.checked_sub(read) {
                Some(left) => this.watch.allowance.set(left),
                None => {
                    this.watch.overrun.set(true);
                    return Poll::Ready(Err(io::Error::other("headers without end")));
                }
            }
        }
        polled
    }
}
