//! How much room an artifact will need, without reading it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Source;
use super::codec::Codec;
use crate::model::{Error, Result};

/// What a compressed file that does not say its size is taken for, in times its own.
const TIMES: u64 = 4;

/// Estimates how many bytes the file at `path` becomes when it is decompressed: what gzip's
/// trailer says (modulo 4 GiB, so the least size that could have become so large a file), what a
/// Zstandard header says or else four times the size, as of the other formats, the file's own size
/// where it is not compressed. Reads a
/// few bytes; blocks only as long as that takes. A file of several gzip members or a sparse
/// archive may become larger.
///
/// # Errors
///
/// `io.*` when the file cannot be read.
pub fn estimate_unpacked(path: impl AsRef<Path>) -> Result<u64> {
    let path = path.as_ref();
    crate::sys::open_to_read(path)
        .and_then(estimate)
        .map_err(|error| Error::io(format!("read {}", path.display()), error))
}

/// The same of a source.
pub(crate) fn estimate_source(source: &Source) -> Result<u64> {
    let path = source.path();
    source
        .open()
        .and_then(estimate)
        .map_err(|error| Error::io(format!("read {}", path.display()), error))
}

fn estimate(file: File) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let mut start = [0; 18];
    let read = file.read_at(&mut start, 0)?;
    let start = start.get(..read).unwrap_or_default();
    Ok(match Codec::of(start) {
        Ok(Codec::Gzip) if size >= 18 => {
            let mut trailer = [0; 4];
            file.read_exact_at(&mut trailer, size - 4)?;
            let modulo = u64::from(u32::from_le_bytes(trailer));
            if modulo == 0 {
                // Zeros fill up its last block.
                return Ok(size.saturating_mul(TIMES));
            }
            // What does not shrink becomes a little larger.
            let grown = size / 1000 + 1024;
            let wraps = size
                .saturating_sub(modulo)
                .saturating_sub(grown)
                .div_ceil(1 << 32);
            modulo.saturating_add(wraps << 32)
        }
        Ok(Codec::Zstd) => zstd_size(start)
            .unwrap_or_else(|| size.saturating_mul(TIMES))
            .max(size),
        Ok(Codec::Bzip2 | Codec::Xz | Codec::Lz4) => size.saturating_mul(TIMES),
        _ => size,
    })
}

/// The content size in the header of a Zstandard frame (RFC 8878, 3.1.1.1), if it has one.
fn zstd_size(start: &[u8]) -> Option<u64> {
    if !start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return None;
    }
    let descriptor = *start.get(4)?;
    let single_segment = descriptor & 0x20 != 0;
    let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 3))?;
    let at = 5 + usize::from(!single_segment) + dictionary;
    let field = |length: usize| {
        let bytes = start.get(at..at.checked_add(length)?)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0_u64, |value, byte| value << 8 | u64::from(*byte)),
        )
    };
    match descriptor >> 6 {
        0 if single_segment => field(1),
        0 => None,
        1 => field(2).map(|value| value + 256),
        2 => field(4),
        _ => field(8),
    }
}
