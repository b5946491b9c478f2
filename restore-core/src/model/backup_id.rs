//! The names of backups.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Error, ErrorKind, Result};

/// The id of a backup: `20240215-020000` or `pre-restore-20240215-020000`.
///
/// Ordered by the time that the id names, a safety backup after a plain one of the same second.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupId(String);

const SAFETY_PREFIX: &str = "pre-restore-";

impl BackupId {
    /// The id of a backup that is made now, in this machine's local time.
    pub fn now() -> Self {
        Self(stamp_now())
    }

    /// The id of a safety backup that is made now.
    pub fn safety_now() -> Self {
        Self(format!("{SAFETY_PREFIX}{}", stamp_now()))
    }

    /// Whether it names a safety backup, taken before a restore.
    pub fn is_safety(&self) -> bool {
        self.0.starts_with(SAFETY_PREFIX)
    }

    /// `YYYYMMDD-HHMMSS`, the local time of the machine that made the backup.
    pub fn stamp(&self) -> &str {
        self.0.strip_prefix(SAFETY_PREFIX).unwrap_or(&self.0)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn stamp_now() -> String {
    jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string()
}

impl FromStr for BackupId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let stamp = text.strip_prefix(SAFETY_PREFIX).unwrap_or(text);
        let shaped = stamp.len() == 15
            && stamp.bytes().enumerate().all(|(at, byte)| {
                if at == 8 {
                    byte == b'-'
                } else {
                    byte.is_ascii_digit()
                }
            })
            && jiff::civil::DateTime::strptime("%Y%m%d-%H%M%S", stamp).is_ok();
        if shaped {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new(
            ErrorKind::Config,
            "backup.bad_id",
            format!("{text:?} is not a backup id"),
        )
        .hint("ids look like 20240215-020000 or pre-restore-20240215-020000; `restore list` shows them"))
    }
}

impl TryFrom<String> for BackupId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> Self {
        id.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Ord for BackupId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.stamp(), self.is_safety()).cmp(&(other.stamp(), other.is_safety()))
    }
}

impl PartialOrd for BackupId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_dates_are_ids() {
        for good in ["20240215-020000", "pre-restore-20240215-020000"] {
            assert_eq!(good.parse::<BackupId>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "latest",
            "20240215",
            "20240231-020000",
            "20240215-250000",
            "20240215_020000",
            "../20240215-020000",
            "20240215-020000/",
            "pre-restore-",
            "20240215-020000.partial",
        ] {
            assert!(bad.parse::<BackupId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn safety_backups_sort_by_their_time() {
        let mut ids: Vec<BackupId> = [
            "pre-restore-20240101-000000",
            "20240215-020000",
            "20231231-000000",
        ]
        .iter()
        .map(|id| id.parse().unwrap())
        .collect();
        ids.sort();
        assert_eq!(ids[1].as_str(), "pre-restore-20240101-000000");
    }
}
