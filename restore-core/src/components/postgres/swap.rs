//! The swap by rename: to and fro, from whatever state a crash left.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Postgres;
use super::beside::{name_taken, whose};
use super::client::{Session, SessionError, column};
use super::database::{Database, allow_sql, comment_sql};
use super::globals::Made;
use super::names::{DatabaseNames, ident, staged_suffix};
use super::sessions::{drop_database, in_one_transaction, no_prepared};
use super::stage::{COMMENT, OWN_SETTINGS};
use crate::contract::RunContext;
use crate::model::{Error, ErrorKind, Finding, Result};
use crate::swap::scope::Discard;

/// How long a prepared transaction may take to go by itself.
const PASSING: Duration = Duration::from_secs(2);

/// The fact that the cut-over destroys: how the live database was.
const BEFORE: &str = "before_cut_over";

/// What was there before the first act of a cut-over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Before {
    /// The live database, where there was one.
    pub(super) live: Option<Database>,
    /// The staged one: renames do not change it.
    pub(super) staged_oid: u32,
}

impl Before {
    /// As recorded by this run, in this process or an earlier one.
    pub(super) fn recall(cx: &RunContext) -> Result<Option<Self>> {
        let Some(value) = cx.recall(BEFORE) else {
            return Ok(None);
        };
        serde_json::from_value(value).map(Some).map_err(|e| {
            Error::new(
                ErrorKind::Internal,
                "postgres.fact",
                format!("the journal's record of the live database cannot be read: {e}"),
            )
        })
    }

    async fn record(self, cx: &RunContext) -> Result<Self> {
        let value = serde_json::to_value(&self).map_err(|e| {
            Error::new(
                ErrorKind::Internal,
                "postgres.fact",
                format!("the state of the live database cannot be written down: {e}"),
            )
        })?;
        cx.record(BEFORE, value).await?;
        // An earlier attempt's record is the true one: it was made before anything was changed.
        Ok(Self::recall(cx)?.unwrap_or(self))
    }
}

/// Which of the run's databases are there.
pub(super) struct Found {
    pub(super) live: Option<Database>,
    pub(super) staged: Option<Database>,
    pub(super) replaced: Option<Database>,
}

impl Found {
    pub(super) async fn look(session: &Session, names: &DatabaseNames) -> Result<Self> {
        Ok(Self {
            live: Database::find(session, &names.live).await?,
            staged: Database::find(session, &names.staged).await?,
            replaced: Database::find(session, &names.replaced).await?,
        })
    }

    /// Whether the staged database is the live one now.
    pub(super) fn is_cut_over(&self, before: Option<&Before>) -> bool {
        match (&self.live, &self.staged, &self.replaced) {
            (Some(live), None, _) => before.is_some_and(|b| b.staged_oid == live.oid),
            _ => false,
        }
    }
}

/// See [`Component::cut_over`](crate::component::Component::cut_over).
pub(super) async fn cut_over(pg: &Postgres, cx: &RunContext) -> Result<()> {
    let session = pg.working(cx).await?.brisk(Some(cx.cancelled()));
    let names = pg.names(cx);
    let found = Found::look(&session, &names).await?;
    let before = Before::recall(cx)?;
    if found.is_cut_over(before.as_ref()) {
        // A crash inside an undo may have left the door shut.
        if let Some(live) = found.live
            && !live.allow_connections
        {
            session.run(&allow_sql(&live.name, true)).await?;
        }
        session.close().await;
        return Ok(());
    }
    if found.live.is_some() && found.replaced.is_some() {
        return Err(ambiguous(pg, &names, &found));
    }
    let Some(staged) = found.staged else {
        return Err(not_staged(&names));
    };
    if let (Some(name), Some(_)) = (cx.restore_as(), &found.live) {
        return Err(name_taken(pg, name));
    }
    // Somebody, or a server restored from elsewhere, may have done the first half.
    let old = found.live.clone().or_else(|| found.replaced.clone());
    let before = Before {
        live: old.clone(),
        staged_oid: staged.oid,
    }
    .record(cx)
    .await?;

    let mut sql = Vec::new();
    if let Some(old) = &old {
        let old = match cx.recall(OWN_SETTINGS) {
            Some(_) => old.clone().with_settings_of(&staged),
            None => old.clone(),
        };
        sql.extend(old.carry_over(&staged));
    }
    let of_dump = cx.recall(COMMENT);
    let beside = cx.restore_as().map(|_| whose(pg, cx));
    let comment = match (&beside, &before.live) {
        (Some(whose), _) => Some(whose.as_str()),
        (None, Some(live)) => live.comment.as_deref(),
        (None, None) => of_dump.as_ref().and_then(serde_json::Value::as_str),
    };
    sql.push(comment_sql(&names.staged, comment));
    if found.live.is_some() {
        sql.push(rename(&names.live, &names.replaced));
        sql.push(comment_sql(
            &names.replaced,
            Some(&format!(
                "replaced by restore run {}, kept until that run is confirmed or rolled back",
                cx.run()
            )),
        ));
    }
    sql.push(rename(&names.staged, &names.live));
    // Whatever closed the one before (a restore by hand that was broken off), this one is to be used.
    sql.push(allow_sql(&names.live, true));
    if let Some(live) = &found.live
        && !subscriptions(&session, live).await?.is_empty()
    {
        // A subscription can be dropped from inside only: superusers are let in.
        let replaced = ident(&names.replaced);
        sql.push(format!(
            "ALTER DATABASE {replaced} WITH ALLOW_CONNECTIONS true CONNECTION LIMIT 0"
        ));
    }
    let busy: Vec<&Database> = found.live.iter().chain([&staged]).collect();
    in_one_transaction(&session, &busy, &sql).await?;
    session.close().await;
    Ok(())
}

pub(super) fn not_staged(names: &DatabaseNames) -> Error {
    Error::new(
        ErrorKind::Failed,
        "postgres.not_staged",
        format!("there is no database {} to put in place", names.staged),
    )
    .hint("start a new run: it stages the backup again")
}

/// See [`Component::as_staged`](crate::component::Component::as_staged).
pub(super) async fn as_staged(pg: &Postgres, cx: &RunContext) -> Result<()> {
    let Ok(session) = pg.glance().await else {
        return Ok(());
    };
    let names = pg.names(cx);
    let found = Found::look(&session, &names).await;
    session.close().await;
    match (found, Before::recall(cx)?) {
        (Ok(found), before) if found.staged.is_none() && !found.is_cut_over(before.as_ref()) => {
            Err(not_staged(&names))
        }
        _ => Ok(()),
    }
}

/// See [`Component::way_back`](crate::component::Component::way_back).
pub(super) async fn way_back(pg: &Postgres, cx: &RunContext) -> Result<()> {
    // A server that is down or lets nobody in may be mended; what is there is not known until then.
    let Ok(session) = pg.glance().await else {
        return Ok(());
    };
    let names = pg.names(cx);
    let found = Found::look(&session, &names).await;
    session.close().await;
    match found {
        Ok(found) => undoable(pg, &names, Before::recall(cx)?.as_ref(), &found),
        Err(_) => Ok(()),
    }
}

/// See [`Component::can_undo`](crate::component::Component::can_undo): a server that runs lets us in, and
/// lets us do what an undo does.
pub(super) async fn can_undo(pg: &Postgres, cx: &RunContext) -> Result<()> {
    // One that is down is started for the undo.
    let service = pg.platform.service(&pg.config.service).await;
    if service.is_ok_and(|state| state.running == 0) {
        return Ok(());
    }
    let opened = match cx.tables() {
        [] => pg.glance().await,
        _ => pg.session(&pg.config.database).await,
    };
    let session = match opened {
        Ok(session) => session,
        // It may be on its way up, and is waited for.
        Err(error) if error.is(&SessionError::NotReady) || error.is(&SessionError::Unreachable) => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let able = match cx.tables() {
        [] => may_rename(pg, cx, &session).await,
        _ => Ok(()),
    };
    session.close().await;
    able
}

/// Refuses where the databases could not be renamed: not by this user, or by nobody.
async fn may_rename(pg: &Postgres, cx: &RunContext, session: &Session) -> Result<()> {
    let names = pg.names(cx);
    let found = Found::look(session, &names).await?;
    let there: Vec<&Database> = found.live.iter().chain(&found.replaced).collect();
    // One of a moment goes by itself, or with the services that are stopped.
    if no_prepared(session, &there).await.is_err() {
        tokio::time::sleep(PASSING).await;
        no_prepared(session, &there).await?;
    }
    let row = session
        .one(
            "SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user",
            &[],
        )
        .await?;
    let (superuser, createdb): (bool, bool) = (column(&row, 0)?, column(&row, 1)?);
    if superuser {
        return Ok(());
    }
    let user = &pg.config.user;
    let refused = |code, why: String, hint: &str| {
        Err(Error::new(ErrorKind::Failed, code, why).hint(hint.to_owned()))
    };
    if !createdb {
        return refused(
            "postgres.no_createdb",
            format!("{user} may not create or rename databases"),
            "as a superuser: ALTER ROLE … CREATEDB; or let the component connect as the role that POSTGRES_USER named",
        );
    }
    for database in there {
        let sql = "SELECT pg_has_role(current_user, datdba, 'MEMBER') FROM pg_database \
                   WHERE oid = $1";
        let row = session.one(sql, &[&database.oid]).await?;
        if !column::<bool>(&row, 0)? {
            return refused(
                "postgres.not_owner",
                format!(
                    "{user} may not rename database {}: it belongs to {}",
                    database.name, database.owner
                ),
                "let the component connect as the owner, with CREATEDB, or as a superuser",
            );
        }
    }
    Ok(())
}

/// See [`Component::as_left`](crate::component::Component::as_left). Whatever is live by now, of this
/// run or of a later one: what is deleted must be what this run put aside, and not the only copy.
pub(super) async fn as_left(pg: &Postgres, cx: &RunContext) -> Result<()> {
    let Ok(session) = pg.glance().await else {
        return Ok(());
    };
    let names = pg.names(cx);
    let found = Found::look(&session, &names).await;
    session.close().await;
    let (Ok(found), before) = (found, Before::recall(cx)?) else {
        return Ok(());
    };
    if !cx.cut_over().is_begun() {
        return match found.staged {
            Some(_) => Ok(()),
            None => Err(staged_gone(pg, &names)),
        };
    }
    deletable(pg, &names, before.as_ref(), &found)?;
    match (&found.replaced, before) {
        (None, Some(Before { live: Some(_), .. })) => Err(no_way_back(&names)),
        _ => Ok(()),
    }
}

/// Refuses to delete what may be the only copy, or somebody else's.
fn deletable(
    pg: &Postgres,
    names: &DatabaseNames,
    before: Option<&Before>,
    found: &Found,
) -> Result<()> {
    let Some(replaced) = &found.replaced else {
        return Ok(());
    };
    if found.live.is_none() {
        return Err(Error::new(
            ErrorKind::Failed,
            "postgres.only_copy",
            format!(
                "{} is not deleted: there is no database {} that would have replaced it",
                names.replaced, names.live
            ),
        )
        .hint("see `psql -l`; `restore rollback` gives it its name back"));
    }
    match before.is_none() || foreign(before, replaced) {
        true => Err(ambiguous(pg, names, found)),
        false => Ok(()),
    }
}

pub(super) fn staged_gone(pg: &Postgres, names: &DatabaseNames) -> Error {
    Error::new(
        ErrorKind::Failed,
        "postgres.staged_gone",
        format!(
            "the database that the run restored and put aside ({}) is not on {}",
            names.staged, pg.config.service
        ),
    )
    .hint("does the server run on the data directory that it had then? else somebody has renamed or dropped it: see `psql -l`")
}

fn no_way_back(names: &DatabaseNames) -> Error {
    Error::new(
        ErrorKind::Failed,
        "postgres.no_way_back",
        format!(
            "the database that the run replaced ({}) is gone: there is no way back to it",
            names.replaced
        ),
    )
    .hint("restore another backup, a pre-restore one for instance")
}

/// Refuses where the databases that are there do not tell which of them was live before the run.
fn undoable(
    pg: &Postgres,
    names: &DatabaseNames,
    before: Option<&Before>,
    found: &Found,
) -> Result<()> {
    match (&found.live, &found.staged, &found.replaced) {
        (Some(_), Some(_), Some(_)) => Err(ambiguous(pg, names, found)),
        // Names alone prove nothing: another run, or a person, may have put something else there.
        (Some(live), _, Some(_)) if before.is_none_or(|b| b.staged_oid != live.oid) => {
            Err(ambiguous(pg, names, found))
        }
        (_, _, Some(replaced)) if foreign(before, replaced) => Err(ambiguous(pg, names, found)),
        (_, _, Some(replaced)) if replaced.is_invalid() && !was_invalid(before) => Err(Error::new(
            ErrorKind::Failed,
            "postgres.no_way_back",
            format!(
                "{}, which the run replaced, is half dropped: there is no way back to it",
                names.replaced
            ),
        )
        .hint("restore another backup, a pre-restore one for instance")),
        (_, _, Some(_)) => Ok(()),
        (Some(live), _, None) => match before {
            Some(Before {
                live: Some(_),
                staged_oid,
            }) if *staged_oid == live.oid => Err(no_way_back(names)),
            // What was live went aside, and neither it nor what the run put in its place is there.
            Some(Before {
                live: Some(was), ..
            }) if was.oid != live.oid => Err(Error::new(
                ErrorKind::Failed,
                "postgres.lost",
                format!(
                    "{} is neither the database that was live before the run nor the restored \
                     one, and {} is gone",
                    names.live, names.replaced
                ),
            )
            .hint("somebody else made it, and renamed or dropped what the run kept: see `psql -l`; what is there is left alone")),
            _ => Ok(()),
        },
        (None, _, None) if before.is_some_and(|before| before.live.is_some()) => Err(Error::new(
            ErrorKind::Failed,
            "postgres.lost",
            format!(
                "neither {} nor {} is on the server any more",
                names.live, names.replaced
            ),
        )
        .hint("somebody else renamed or dropped it: see `psql -l`, and rename it back")),
        (None, _, None) => Ok(()),
    }
}

/// See [`Component::undo`](crate::component::Component::undo).
pub(super) async fn undo(pg: &Postgres, cx: &RunContext) -> Result<()> {
    let before = Before::recall(cx)?;
    let session = pg.working(cx).await?.brisk(None);
    let names = pg.names(cx);
    let found = Found::look(&session, &names).await?;
    undoable(pg, &names, before.as_ref(), &found)?;
    let comment = before
        .as_ref()
        .and_then(|before| before.live.as_ref()?.comment.clone());
    match (&found.live, &found.staged, &found.replaced) {
        // The replaced database is there: it goes back to its name.
        (live, _, Some(replaced)) => {
            let mut sql = Vec::new();
            if live.is_some() {
                sql.extend(rename_to_staged(&names, cx));
            }
            sql.push(rename(&names.replaced, &names.live));
            if before.is_some() {
                sql.push(comment_sql(&names.live, comment.as_deref()));
            }
            if !replaced.is_invalid() {
                sql.push(allow_sql(&names.live, allowed(before.as_ref())));
            }
            let limit = before
                .as_ref()
                .and_then(|it| it.live.as_ref())
                .map(|it| it.connection_limit);
            if let Some(limit) = limit.filter(|limit| *limit != replaced.connection_limit) {
                let name = ident(&names.live);
                sql.push(format!(
                    "ALTER DATABASE {name} WITH CONNECTION LIMIT {limit}"
                ));
            }
            let busy: Vec<&Database> = live.iter().chain([replaced]).collect();
            in_one_transaction(&session, &busy, &sql).await?;
        }
        (Some(live), staged, None) => match &before {
            // There was none before: what the run made live is put aside again.
            Some(Before {
                live: None,
                staged_oid,
            }) if *staged_oid == live.oid && staged.is_none() => {
                in_one_transaction(&session, &[live], &rename_to_staged(&names, cx)).await?;
            }
            // Stopped between shutting the door and renaming.
            Some(Before {
                live: Some(was), ..
            }) if was.oid == live.oid && was.allow_connections != live.allow_connections => {
                session
                    .run(&allow_sql(&names.live, was.allow_connections))
                    .await?;
            }
            _ => {}
        },
        (None, _, None) => {}
    }
    session.close().await;
    Ok(())
}

/// See [`Component::discard`](crate::component::Component::discard).
pub(super) async fn discard(pg: &Postgres, cx: &RunContext, what: Discard) -> Result<()> {
    let session = pg.working(cx).await?.patient().await?;
    let names = pg.names(cx);
    Made::of(cx)?.discarding(cx, what).await?;
    match what {
        Discard::Staged => {
            let found = Found::look(&session, &names).await?;
            if let Some(staged) = &found.staged {
                let before = Before::recall(cx)?;
                let recorded = before.as_ref().map(|before| before.staged_oid);
                // Before the cut-over the mark tells; without any, it was killed while making it.
                let ours = recorded == Some(staged.oid)
                    || staged
                        .comment
                        .as_ref()
                        .map_or(recorded.is_none(), |c| *c == mark(cx));
                if !ours {
                    return Err(ambiguous(pg, &names, &found));
                }
                drop_database(&session, &names.staged).await?;
            }
            // What is live now may need them.
            match found.is_cut_over(Before::recall(cx)?.as_ref()) {
                true => pg.keep_roles(&session, cx).await?,
                false => {
                    cx.record_removed(&pg.database_words(cx)).await;
                    pg.forget_roles(&session, cx, &staged_suffix(cx.run()))
                        .await?;
                }
            }
        }
        Discard::Replaced => {
            let found = Found::look(&session, &names).await?;
            deletable(pg, &names, Before::recall(cx)?.as_ref(), &found)?;
            if let Some(replaced) = &found.replaced {
                let there = subscriptions(&session, replaced).await?;
                unsubscribe(pg, cx, replaced, &there).await?;
            }
            drop_database(&session, &names.replaced).await?;
        }
    }
    session.close().await;
    Ok(())
}

/// The subscriptions of a database, and the slots that they have at their publishers. They hold on to it: it cannot be dropped.
async fn subscriptions(
    session: &Session,
    database: &Database,
) -> Result<Vec<(String, Option<String>)>> {
    let sql = "SELECT subname::text, subslotname::text FROM pg_subscription WHERE subdbid = $1";
    // Only some may ask.
    let Ok(rows) = session.try_rows(sql, &[&database.oid]).await else {
        return Ok(Vec::new());
    };
    rows.iter()
        .map(|row| Ok((column(row, 0)?, column(row, 1)?)))
        .collect()
}

/// Drops a replaced database's subscriptions, without a word to their publishers, who may be gone: their slots stay there,
/// which is told.
async fn unsubscribe(
    pg: &Postgres,
    cx: &RunContext,
    database: &Database,
    there: &[(String, Option<String>)],
) -> Result<()> {
    if there.is_empty() {
        return Ok(());
    }
    let cannot = |error: Error| {
        error
            .context(format!("the subscriptions of {} cannot be dropped", database.name))
            .hint(format!(
                "in that database, as a superuser: ALTER SUBSCRIPTION … DISABLE; ALTER SUBSCRIPTION … SET (slot_name = NONE); DROP SUBSCRIPTION … of each ({}); then confirm again",
                there.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
            ))
    };
    let inside = pg.session(&database.name).await.map_err(cannot)?;
    for (name, slot) in there {
        let quoted = ident(name);
        for sql in [
            format!("ALTER SUBSCRIPTION {quoted} DISABLE"),
            format!("ALTER SUBSCRIPTION {quoted} SET (slot_name = NONE)"),
            format!("DROP SUBSCRIPTION {quoted}"),
        ] {
            inside.run(&sql).await.map_err(cannot)?;
        }
        if let Some(slot) = slot {
            cx.notice(
                Finding::warning(
                    "postgres.slot_left",
                    &pg.name,
                    format!("the subscription {name} was dropped; its slot {slot} at the publisher keeps log there"),
                )
                .hint(format!("at the publisher: SELECT pg_drop_replication_slot('{slot}')")),
            );
        }
    }
    inside.close().await;
    Ok(())
}

fn rename(from: &str, to: &str) -> String {
    format!("ALTER DATABASE {} RENAME TO {}", ident(from), ident(to))
}

/// Takes what is live aside, under the staged name and marked.
fn rename_to_staged(names: &DatabaseNames, cx: &RunContext) -> Vec<String> {
    vec![
        rename(&names.live, &names.staged),
        comment_sql(&names.staged, Some(&mark(cx))),
    ]
}

/// What a person reads in `psql -l+` of a staged database.
pub(super) fn mark(cx: &RunContext) -> String {
    format!(
        "restored from backup {} by restore run {}, not live",
        cx.backup().id(),
        cx.run()
    )
}

fn allowed(before: Option<&Before>) -> bool {
    before
        .and_then(|before| before.live.as_ref())
        .is_none_or(|live| live.allow_connections)
}

/// Whether what was live before was half dropped already.
fn was_invalid(before: Option<&Before>) -> bool {
    let live = before.and_then(|before| before.live.as_ref());
    live.is_some_and(Database::is_invalid)
}

/// Whether this is another database than the one that the run recorded as replaced.
fn foreign(before: Option<&Before>, replaced: &Database) -> bool {
    before.is_some_and(|before| before.live.as_ref().map(|live| live.oid) != Some(replaced.oid))
}

fn ambiguous(pg: &Postgres, names: &DatabaseNames, found: &Found) -> Error {
    let there: Vec<&str> = [&found.live, &found.staged, &found.replaced]
        .into_iter()
        .flatten()
        .map(|database| database.name.as_str())
        .collect();
    Error::new(
        ErrorKind::Failed,
        "postgres.ambiguous",
        format!(
            "{} has {}, and which of them is the one to keep cannot be told",
            pg.config.service,
            there.join(" and ")
        ),
    )
    .hint(format!(
        "somebody else renamed or made one of them; {} is what was live before the run: look into them, rename or drop one by hand, and try again",
        names.replaced
    ))
}
