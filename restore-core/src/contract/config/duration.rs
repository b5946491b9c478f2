//! Durations as people write them.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// A duration written as `"30s"`, `"2m"`, `"1h 30m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigDuration(pub Duration);

impl ConfigDuration {
    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl<'de> Deserialize<'de> for ConfigDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span: jiff::SignedDuration = text.parse().map_err(|_| {
            serde::de::Error::custom(format!(
                "{text:?} is not a duration such as \"30s\" or \"2m\""
            ))
        })?;
        Duration::try_from(span)
            .map(Self)
            .map_err(|_| serde::de::Error::custom(format!("the duration {text:?} is negative")))
    }
}
