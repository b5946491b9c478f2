//! What the tar parser reads from, and what it must not read: headers without bound.

use std::cell::Cell;
use std::io;
use std::ops::Range;
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
    /// How much was read so far.
    at: u64,
}

/// All of an archive is in blocks of this size.
const BLOCK: usize = 512;

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
            at: 0,
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
        let allowance = this.watch.allowance.get();
        // A whole block where headers are read.
        let block =
            allowance != u64::MAX && wanted == BLOCK && this.at.is_multiple_of(BLOCK as u64);
        let mut polled = Pin::new(&mut this.reader).poll_read(context, into);
        let mut read = into.filled().len().saturating_sub(before);
        while block && read > 0 && into.remaining() > 0 && matches!(polled, Poll::Ready(Ok(()))) {
            polled = Pin::new(&mut this.reader).poll_read(context, into);
            let more = into.filled().len().saturating_sub(before);
            if more == read {
                break;
            }
            read = more;
        }
        if block && into.remaining() == 0 {
            complete(into.filled_mut().get_mut(before..).unwrap_or_default());
        }
        this.at = this
            .at
            .wrapping_add(u64::try_from(read).unwrap_or(u64::MAX));
        if wanted > 0 && read == 0 && matches!(polled, Poll::Ready(Ok(()))) {
            this.watch.ended.set(true);
        }
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

/// Fills in what some writers leave blank in a header and the parser wants: numbers, and the version
/// of the format. A block that is no header stays as it is.
fn complete(block: &mut [u8]) {
    let blank = |block: &[u8], field: &Range<usize>| {
        let mut bytes = block.get(field.clone()).unwrap_or_default().iter();
        bytes.all(|byte| matches!(byte, 0 | b' '))
    };
    let magic = block.get(257..265).unwrap_or_default();
    // By its magic alone, as tar itself tells it.
    let unversioned = magic.starts_with(b"ustar\0") && magic != b"ustar\x0000";
    // The long name of the next member is one whatever the format says that it is of.
    let unmarked = matches!(block.get(156), Some(b'L' | b'K'))
        && !magic.starts_with(b"ustar\0")
        && magic != GNU;
    let fields = [MODE, 108..116, 116..124, 124..136, 136..148];
    if !unversioned && !unmarked && !fields.iter().any(|field| blank(block, field)) {
        return;
    }
    if block.first() == Some(&0) || checksum(block) != recorded(block) {
        return;
    }
    let usual: &[u8] = match block.get(156) {
        Some(b'5' | b'D') => b"0000755\0",
        _ => b"0000644\0",
    };
    for field in &fields {
        if !blank(block, field) {
            continue;
        }
        if let Some(field_bytes) = block.get_mut(field.clone()) {
            match *field == MODE {
                true => field_bytes.copy_from_slice(usual),
                false => {
                    field_bytes.fill(b'0');
                    if let Some(last) = field_bytes.last_mut() {
                        *last = 0;
                    }
                }
            }
        }
    }
    if unversioned && let Some(version) = block.get_mut(263..265) {
        version.copy_from_slice(b"00");
    }
    if unmarked && let Some(magic) = block.get_mut(257..265) {
        magic.copy_from_slice(GNU);
    }
    let sum = format!("{:06o}\0 ", checksum(block));
    if let Some(field) = block.get_mut(SUM) {
        field.copy_from_slice(sum.as_bytes());
    }
}

/// How GNU tar marks its headers.
const GNU: &[u8] = b"ustar  \0";

const MODE: Range<usize> = 100..108;
const SUM: Range<usize> = 148..156;

fn checksum(block: &[u8]) -> u32 {
    let bytes = block.iter().enumerate();
    bytes.fold(0, |sum, (at, byte)| match SUM.contains(&at) {
        true => sum + u32::from(b' '),
        false => sum + u32::from(*byte),
    })
}

fn recorded(block: &[u8]) -> u32 {
    let text = block.get(SUM).unwrap_or_default();
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = std::str::from_utf8(text).unwrap_or_default();
    u32::from_str_radix(text.trim(), 8).unwrap_or(0)
}
