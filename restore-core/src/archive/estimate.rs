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

/// No more than so many times its size a file is believed to become for what its trailer leaves out.
const SHRINKS: u64 = 100;

/// Estimates how many bytes the file at `path` becomes when it is decompressed: what gzip's
/// trailer says (modulo 4 GiB, so the least size that could have become so large a file, or four times the
/// size where that is a hundred times the size and more, as the trailer is then the one of the last of
/// several members), what a Zstandard header says or else four times the size, as of the other formats, the
/// file's own size where it is not compressed. Reads a few bytes; blocks only as long as that takes. A file
/// of several gzip members or a sparse archive may become larger.
///
/// # Errors
///
/// `io.*` when the file cannot be read.
pub fn estimate_unpacked(path: impl AsRef<Path>) -> Result<u64> {
    let path = path.as_ref();
    crate::sys::open_to_read(path)
        .and_then(estimate)
        .map(|estimate| estimate.likely)
        .map_err(|error| Error::io(format!("read {}", path.display()), error))
}

/// As [`estimate_unpacked`], of a source.
pub(crate) fn estimate_source(source: &Source) -> Result<u64> {
    of_source(source).map(|estimate| estimate.likely)
}

/// What a source may become at most as far as its file tells, however unlikely: for what refuses more than that.
pub(crate) fn estimate_most(source: &Source) -> Result<u64> {
    of_source(source).map(|estimate| estimate.most)
}

fn of_source(source: &Source) -> Result<Estimate> {
    let path = source.path();
    source
        .open()
        .and_then(estimate)
        .map_err(|error| Error::io(format!("read {}", path.display()), error))
}

/// How many bytes a file becomes.
struct Estimate {
    likely: u64,
    /// At least as many.
    most: u64,
}

impl From<u64> for Estimate {
    fn from(bytes: u64) -> Self {
        Self {
            likely: bytes,
            most: bytes,
        }
    }
}

fn estimate(file: File) -> io::Result<Estimate> {
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
                return Ok(size.saturating_mul(TIMES).into());
            }
            // What does not shrink becomes a little larger.
            let grown = size / 1000 + 1024;
            let wraps = size
                .saturating_sub(modulo)
                .saturating_sub(grown)
                .div_ceil(1 << 32);
            let told = modulo.saturating_add(wraps << 32);
            // Hardly anything shrinks so far: the trailer is rather the one of the last of several members.
            match wraps > 0 && told / SHRINKS > size {
                true => Estimate {
                    likely: size.saturating_mul(TIMES),
                    most: told,
                },
                false => told.into(),
            }
        }
        Ok(Codec::Zstd) => zstd_size(start)
            .unwrap_or_else(|| size.saturating_mul(TIMES))
            .max(size)
            .into(),
        Ok(Codec::Bzip2 | Codec::Xz | Codec::Lz4) => size.saturating_mul(TIMES).into(),
        _ => size.into(),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Room is asked for as is likely; what is refused is what nobody can have packed.
    #[test]
    fn what_may_come_is_no_less_than_the_trailer_tells() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("two.gz");
        let mut bytes = vec![0_u8; 2000];
        bytes[..3].copy_from_slice(&[0x1f, 0x8b, 8]);
        bytes[1996..].copy_from_slice(&5_u32.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        let estimated = estimate(File::open(&path).unwrap()).unwrap();
        assert_eq!((estimated.likely, estimated.most), (8000, (1 << 32) + 5));
    }
}
