//! SHA-256 of whole files.

use std::fmt;
use std::io::Read;
use std::str::FromStr;
use std::sync::mpsc::sync_channel;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Source;
use super::source_thread::open;
use super::unpack::blocking;
use crate::model::{Error, ErrorKind, Progress, Result};

/// A SHA-256 hash; written as 64 lower-case hexadecimal digits, read in either case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::new(
                ErrorKind::Verification,
                "hash.malformed",
                format!("{text:?} is not a SHA-256 hash (64 hexadecimal digits)"),
            )
        };
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return Err(bad());
        }
        let mut out = [0; 32];
        for (slot, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(bad());
            };
            *slot = u8::try_from(high * 16 + low).map_err(|_| bad())?;
        }
        Ok(Self(out))
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hashes a file in one read, off the async threads. Does not compare with
/// [`Source::expected`] or [`Source::size`]. Several at the same time use several cores.
///
/// # Errors
///
/// `io.*` when it cannot be read, `Interrupted` when the source's token is cancelled.
pub async fn hash_file(source: &Source, progress: Progress) -> Result<Digest> {
    blocking(source.clone(), move |source, halt| {
        let reading = |error| Error::io(format!("read {}", source.path().display()), error);
        let file = open(source)?;
        let mut hash = Sha256::new();
        let mut take = |bytes: &[u8]| {
            if halt.is_halted() {
                return Err(Error::interrupted());
            }
            hash.update(bytes);
            progress.add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            Ok(())
        };
        match file.metadata() {
            Ok(metadata) if metadata.len() >= LARGE => read_ahead(file, &mut take, reading)?,
            _ => read_all(file, &mut take, reading)?,
        }
        progress.finish();
        Ok(Digest(hash.finalize().into()))
    })
    .await
}

/// Large enough that calls cost nothing, small enough to stay in the second-level cache.
const BUFFER: usize = 128 * 1024;

/// From this size on a second thread saves more than it costs: it copies out of the page cache
/// what the first one hashes, which is an eighth of the time.
const LARGE: u64 = 16 << 20;

/// How many buffers are read ahead.
const AHEAD: usize = 3;

/// Fills a buffer from the file once; 0 is its end.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn read_all(
    mut file: impl Read,
    take: &mut impl FnMut(&[u8]) -> Result<()>,
    reading: impl Fn(std::io::Error) -> Error,
) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = fill(&mut file, &mut buffer).map_err(&reading)?;
        if read == 0 {
            return Ok(());
        }
        take(buffer.get(..read).unwrap_or_default())?;
    }
}

/// As `read_all`, with a thread that reads ahead.
fn read_ahead(
    mut file: impl Read + Send,
    take: &mut impl FnMut(&[u8]) -> Result<()>,
    reading: impl Fn(std::io::Error) -> Error,
) -> Result<()> {
    let (give, empty) = sync_channel(AHEAD + 1);
    let (send, full) = sync_channel(AHEAD + 1);
    for _ in 0..=AHEAD {
        // There is room for all of them.
        let _ = give.send(vec![0; BUFFER]);
    }
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Either end of a channel that is gone is the end.
            while let Ok(mut buffer) = empty.recv() {
                let read = fill(&mut file, &mut buffer);
                let ends = !matches!(read, Ok(1..));
                if send.send((buffer, read)).is_err() || ends {
                    return;
                }
            }
        });
        // Moved in, so that the thread ends when this is left early.
        let (give, full) = (give, full);
        while let Ok((buffer, read)) = full.recv() {
            let read = read.map_err(&reading)?;
            if read == 0 {
                break;
            }
            take(buffer.get(..read).unwrap_or_default())?;
            let _ = give.send(buffer);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its content in odd pieces, and then fails where it is to.
    struct Pieces<'a>(&'a [u8], usize, bool);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() && self.2 {
                return Err(std::io::Error::other("the disk is gone"));
            }
            self.1 = self.1 % 70_000 + 9_001;
            let count = self.1.min(self.0.len()).min(buffer.len());
            let (now, rest) = self.0.split_at(count);
            buffer[..count].copy_from_slice(now);
            self.0 = rest;
            Ok(count)
        }
    }

    fn failed(error: std::io::Error) -> Error {
        Error::io("read", error)
    }

    #[test]
    fn reading_ahead_gives_the_same_bytes_in_their_order() {
        let content: Vec<u8> = (0_u32..1_000_000).flat_map(u32::to_le_bytes).collect();
        let mut seen = Vec::new();
        let mut take = |bytes: &[u8]| {
            seen.extend_from_slice(bytes);
            Ok(())
        };
        read_ahead(Pieces(&content, 0, false), &mut take, failed).unwrap();
        assert!(seen == content);
    }

    #[test]
    fn a_file_that_cannot_be_read_to_its_end_is_an_error() {
        let content = vec![7; 3 * BUFFER];
        let mut seen = 0;
        let mut take = |bytes: &[u8]| {
            seen += bytes.len();
            Ok(())
        };
        let error = read_ahead(Pieces(&content, 0, true), &mut take, failed).unwrap_err();
        assert!(error.to_string().contains("the disk is gone"), "{error}");
        assert_eq!(seen, content.len());
    }

    #[test]
    fn whoever_has_enough_ends_the_reading() {
        let content = vec![7; 40 * BUFFER];
        let mut take = |_: &[u8]| Err(Error::interrupted());
        let error = read_ahead(Pieces(&content, 0, false), &mut take, failed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }
}
