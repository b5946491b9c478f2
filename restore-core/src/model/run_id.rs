//! The names of runs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Error, ErrorKind, Result, Timestamp};

/// The id of a run: `20240215-093000-7f3a`, the UTC time it was made and four random digits.
/// Only digits, `a`-`f` and `-`: safe in file names, and in SQL names once `-` became `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

/// How long an id is.
const LENGTH: usize = 20;

impl RunId {
    /// A new id for a run that begins now.
    pub fn generate() -> Self {
        use std::hash::{BuildHasher, Hasher};
        // RandomState is seeded by the operating system for each new value.
        let noise = std::collections::hash_map::RandomState::new()
            .build_hasher()
            .finish();
        Self(format!(
            "{}-{:04x}",
            Timestamp::now().compact(),
            noise & 0xffff
        ))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hidden folder of the run inside a volume: `.restore-ID`.
    pub fn folder(&self) -> String {
        format!(".restore-{}", self.0)
    }

    /// The run whose hidden folder has this name, or something beside that: what is about to be deleted of it
    /// (`.trash`), the log that is fetched for it (`.wal`), a directory that is being made (`.new-…`). What people
    /// have called `.restore-notes` is theirs.
    pub(crate) fn of_folder(name: &[u8]) -> Option<Self> {
        let rest = name.strip_prefix(b".restore-")?;
        let (run, more) = rest.split_at_checked(LENGTH)?;
        let own =
            matches!(more, b"" | b".trash" | b".wal" | b".wal.trash") || more.starts_with(b".new-");
        let run = std::str::from_utf8(run).ok().filter(|_| own)?;
        run.parse().ok()
    }

    /// The id with `_` for `-`, for names of databases.
    pub fn sql(&self) -> String {
        self.0.replace('-', "_")
    }
}

impl FromStr for RunId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let shaped = text.len() == LENGTH
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 15 => byte == b'-',
                0..15 => byte.is_ascii_digit(),
                _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            });
        if shaped {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new(
            ErrorKind::Config,
            "run.bad_id",
            format!("{text:?} is not a run id"),
        )
        .hint("ids look like 20240215-093000-7f3a; `restore history` shows them"))
    }
}

impl TryFrom<String> for RunId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_parse() {
        let id = RunId::generate();
        assert_eq!(id.as_str().parse::<RunId>().unwrap(), id);
        assert!("20240215-093000-../a".parse::<RunId>().is_err());
    }
}
