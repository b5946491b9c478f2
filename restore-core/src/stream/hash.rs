//! SHA-256 of whole files.

use std::fmt;
use std::io::Read;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Source;
use super::feed::open;
use super::unpack::blocking;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Progress;

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
        let mut file = open(source)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            if halt.is_halted() {
                return Err(Error::interrupted());
            }
            let read = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(reading(error)),
            };
            hash.update(buffer.get(..read).unwrap_or_default());
            progress.add(u64::try_from(read).unwrap_or(u64::MAX));
        }
        progress.finish();
        Ok(Digest(hash.finalize().into()))
    })
    .await
}

/// Large enough that calls cost nothing, small enough to stay in the second-level cache.
const BUFFER: usize = 128 * 1024;
