//! Which moment data is recovered to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Lsn, Result, Timestamp};

/// The fact of a planned component that says which timeline staging follows.
pub(crate) const FOLLOWS: &str = "follows_timeline";

/// A moment that a PostgreSQL cluster is recovered to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RecoveryPoint {
    /// What had been committed at that time.
    Time(Timestamp),
    /// A place in the write-ahead log.
    Lsn(Lsn),
    /// The end of a transaction, by its id.
    Xid(u32),
    /// A restore point, made by `pg_create_restore_point`.
    Name(String),
    /// Everything that was archived.
    Latest,
}

/// A recovery target: a moment, and which way to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecoveryTarget {
    /// The moment.
    pub point: RecoveryPoint,
    /// Whether what happened exactly there is taken: the transaction itself, or all of that
    /// very microsecond.
    #[serde(default = "yes")]
    pub inclusive: bool,
    /// The timeline to follow; `None`: the one that the live cluster is on. What the live cluster
    /// does not come from, because a recovery or a rollback left it behind, is reached by naming
    /// its timeline only.
    #[serde(default)]
    pub timeline: Option<u32>,
}

fn yes() -> bool {
    true
}

impl RecoveryTarget {
    /// To this moment, inclusive, on the live cluster's timeline.
    pub fn new(point: RecoveryPoint) -> Self {
        Self {
            point,
            inclusive: true,
            timeline: None,
        }
    }

    /// This target; what happened exactly at the target is left out.
    #[must_use]
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.inclusive = !exclusive;
        self
    }

    /// This target, along this timeline.
    #[must_use]
    pub fn timeline(mut self, timeline: impl Into<Option<u32>>) -> Self {
        self.timeline = timeline.into();
        self
    }

    /// The time, where the target is one.
    pub fn time(&self) -> Option<Timestamp> {
        match self.point {
            RecoveryPoint::Time(time) => Some(time),
            _ => None,
        }
    }
}

impl From<RecoveryPoint> for RecoveryTarget {
    fn from(point: RecoveryPoint) -> Self {
        Self::new(point)
    }
}

impl FromStr for RecoveryTarget {
    type Err = crate::model::Error;

    /// `latest`, or a time with its zone (see [`Timestamp::parse`]).
    fn from_str(text: &str) -> Result<Self> {
        Ok(Self::new(match text.trim() {
            "latest" => RecoveryPoint::Latest,
            time => RecoveryPoint::Time(Timestamp::parse(time)?),
        }))
    }
}

impl fmt::Display for RecoveryTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.point {
            RecoveryPoint::Time(time) => write!(f, "{}", time.precise())?,
            RecoveryPoint::Lsn(lsn) => write!(f, "LSN {lsn}")?,
            RecoveryPoint::Xid(xid) => write!(f, "transaction {xid}")?,
            RecoveryPoint::Name(name) => write!(f, "restore point {name:?}")?,
            RecoveryPoint::Latest => f.write_str("the end of the archive")?,
        }
        if !self.inclusive {
            f.write_str(", exclusive")?;
        }
        match self.timeline {
            Some(timeline) => write!(f, ", timeline {timeline}"),
            None => Ok(()),
        }
    }
}
