//! The room that a recovery needs beside the live data.

use super::super::client::{Session, column};
use super::base::Base;
use super::{Cluster, back_up};
use crate::model::Result;

/// How much of the log a scratch server keeps, about, before it makes room.
const LOG: u64 = 512 << 20;

/// The scratch server's `max_wal_size`, in bytes.
pub(super) fn max_wal_size(segment_size: u64) -> u64 {
    LOG.max(segment_size.saturating_mul(4))
}

impl Cluster {
    /// Bytes: the data, as large as it was or has become; the log that is being replayed, as much
    /// as lies in the data directory at once; and what is `copied` beside that.
    pub(super) async fn room(&self, base: &Base, replayed: u64, copied: u64) -> u64 {
        let (live, kept) = match self.session().await {
            Ok(session) => {
                let live = live(&session).await.unwrap_or_default();
                session.close().await;
                live
            }
            Err(_) => (0, 0),
        };
        // It may only make room where the server that wrote the log has made a checkpoint.
        let kept = kept.max(max_wal_size(base.facts.segment_size));
        let segments = base.facts.segment_size.saturating_mul(4);
        let log = kept
            .saturating_mul(2)
            .min(replayed.saturating_add(segments));
        base.facts
            .bytes
            .max(live)
            .saturating_add(log)
            .saturating_add(copied)
    }
}

/// The size of the live cluster, and its own `max_wal_size`.
async fn live(session: &Session) -> Result<(u64, u64)> {
    let row = session
        .one(
            "SELECT pg_size_bytes(current_setting('max_wal_size'))::int8",
            &[],
        )
        .await?;
    let kept = u64::try_from(column::<i64>(&row, 0)?).unwrap_or(0);
    Ok((back_up::size(session).await?, kept))
}
