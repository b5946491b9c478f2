//! What a dump takes of the server's disk: seen while it is loaded.
//!
//! Statements of a few bytes can make tables of any size, and a server whose disk is full serves nobody
//! any more. So the staged database is measured while it grows, and the room beside it.

use std::time::Duration;

use super::Postgres;
use super::client::{Session, column};
use super::database::Database;
use super::inspect::{UNPACKED, place};
use super::names::DatabaseNames;
use super::spool::files_of;
use crate::archive::{Limit, RoomWatch};
use crate::components::archive;
use crate::contract::RunContext;
use crate::model::{Error, Result};

/// How often is looked.
const EVERY: Duration = Duration::from_secs(1);

/// So often a look may fail before no other is taken: the user may not be allowed to.
const FAILURES: u32 = 10;

/// Waits for the staged database to become larger than was meant, or for the room to end: what is to be
/// said then. Where neither can be seen it waits for ever.
pub(super) async fn exceeded(
    pg: &Postgres,
    cx: &RunContext,
    (names, live): (&DatabaseNames, Option<&Database>),
) -> Error {
    let label = format!("the dump of {}", names.live);
    let mut watch = None;
    let mut failures = 0;
    while failures < FAILURES {
        tokio::time::sleep(EVERY).await;
        if watch.is_none() {
            // A connection of its own: the other one waits for long statements.
            watch = Watch::begin(pg, cx, live).await.ok();
        }
        let seen = match &watch {
            Some(watch) => watch.look(&names.staged, &label).await.ok(),
            None => None,
        };
        match seen {
            Some(Some(error)) => return error,
            Some(None) => {}
            // Whoever loads the dump says what is wrong with the server.
            None => {
                watch = None;
                failures += 1;
            }
        }
    }
    std::future::pending().await
}

struct Watch {
    session: Session,
    limit: Option<Limit>,
    room: Option<RoomWatch>,
}

impl Watch {
    async fn begin(pg: &Postgres, cx: &RunContext, live: Option<&Database>) -> Result<Self> {
        let session = pg.glance().await?;
        let limit = limit(pg, cx, &session, live).await;
        let place = place(&session, live).await.ok().flatten();
        Ok(Self {
            session,
            limit,
            room: place.as_deref().and_then(RoomWatch::of),
        })
    }

    async fn look(&self, staged: &str, label: &str) -> Result<Option<Error>> {
        if let Some(Err(error)) = self.room.as_ref().map(|room| room.look(label)) {
            return Ok(Some(error));
        }
        let Some(limit) = &self.limit else {
            return Ok(None);
        };
        let size = size(&self.session, staged).await?;
        Ok((size > limit.most()).then(|| limit.exceeded(label, size)))
    }
}

/// What may come: what the site says, or a multiple of what was planned. What a database had at another
/// time, nobody has planned.
async fn limit(
    pg: &Postgres,
    cx: &RunContext,
    session: &Session,
    live: Option<&Database>,
) -> Option<Limit> {
    let key = archive::key(&pg.name);
    if pg.config.max_bytes > 0 {
        return Some(Limit::of_site(pg.config.max_bytes, &key));
    }
    if cx.target().is_some() {
        return None;
    }
    let mut dump = 0_u64;
    for label in pg.find_artifacts(cx.backup()).all() {
        let files = files_of(cx.backup(), label);
        let sizes = files.iter().filter_map(|file| cx.backup().file(file));
        dump = dump.max(sizes.fold(0, |all, file| all.saturating_add(file.size)));
    }
    let there = match live {
        Some(live) => size(session, &live.name).await.unwrap_or(0),
        None => 0,
    };
    Some(Limit::loaded(
        there.max(dump.saturating_mul(UNPACKED)),
        &key,
    ))
}

/// The bytes of a database; 0 where there is none.
async fn size(session: &Session, name: &str) -> Result<u64> {
    let sql = "SELECT pg_database_size(oid)::int8 FROM pg_database WHERE datname = $1::text::name";
    let rows = session.rows(sql, &[&name]).await?;
    match rows.first() {
        Some(row) => Ok(u64::try_from(column::<i64>(row, 0)?).unwrap_or(0)),
        None => Ok(0),
    }
}
