//! Places in PostgreSQL's log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Error, ErrorKind, Result};

/// A place in PostgreSQL's write-ahead log, in bytes from its beginning; written `1/A2000028`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let part = |text: &str| match text.len() {
            1..=8 if text.bytes().all(|b| b.is_ascii_hexdigit()) => {
                u64::from_str_radix(text, 16).ok()
            }
            _ => None,
        };
        let read = || {
            let (high, low) = text.trim().split_once('/')?;
            Some(Self((part(high)? << 32) | part(low)?))
        };
        read().ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "target.bad_lsn",
                format!("{text:?} is no place in a write-ahead log"),
            )
            .hint("write it as PostgreSQL does: 1/A2000028 (pg_current_wal_lsn())")
        })
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
