//! Roles that runs have made: known by the run's journal and by a mark beside each of them, and taken
//! away again only where nothing and nobody needs them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::Postgres;
use super::super::client::{Session, column, describe};
use super::super::names::{ident, literal};
use crate::contract::{CutOver, RunContext};
use crate::model::{Error, ErrorKind, Finding, Result, RunId};
use crate::swap::scope::Discard;

/// The fact with the roles that the run has made, or is about to.
const FACT: &str = "roles_created";
/// What the run had staged was to be deleted because it turned back.
const TURNED_BACK: &str = "roles_unwanted";
/// The run is being confirmed.
const CONFIRMED: &str = "roles_confirmed";

/// What is written beside a role that a run has made.
pub(in super::super) fn mark(run: &RunId) -> String {
    format!("created by restore run {run}")
}

/// A role in the words of plans and reports.
pub(super) fn role_words(name: &str) -> String {
    format!("role {name}")
}

/// What was recorded at one time.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct RecordedRoles {
    roles: Vec<String>,
    findings: Vec<Finding>,
}

/// The roles of a run that this component made or uses, as its journal knows them.
pub(in super::super) struct Made(Vec<RecordedRoles>);

impl Made {
    /// As recorded by this run, in this process or an earlier one.
    pub(in super::super) fn of(cx: &RunContext) -> Result<Self> {
        let mut records = Vec::new();
        while let Some(value) = cx.recall(&key(records.len())) {
            records.push(serde_json::from_value(value).map_err(broken)?);
        }
        Ok(Self(records))
    }

    pub(super) fn roles(&self) -> BTreeSet<&String> {
        self.0.iter().flat_map(|record| &record.roles).collect()
    }

    /// Records what is not known yet; a first record of a key stays.
    pub(super) async fn record(
        &self,
        cx: &RunContext,
        roles: &[String],
        findings: &[Finding],
    ) -> Result<()> {
        let known = self.roles();
        if roles.iter().all(|role| known.contains(role)) {
            return Ok(());
        }
        let record = RecordedRoles {
            roles: roles.to_vec(),
            findings: findings.to_vec(),
        };
        let value = serde_json::to_value(record).map_err(broken)?;
        cx.record(&key(self.0.len()), value).await
    }

    /// What was found of those that came to be.
    pub(super) fn findings(&self, there: &[String]) -> Vec<Finding> {
        let came = |record: &&RecordedRoles| record.roles.iter().all(|role| there.contains(role));
        let records = self.0.iter().filter(came);
        records.flat_map(|it| it.findings.clone()).collect()
    }

    /// Remembers why what the run keeps is deleted: roles of a run that was ended as it stood may be in
    /// use by what another one made live since.
    pub(in super::super) async fn discarding(&self, cx: &RunContext, what: Discard) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        match what {
            Discard::Replaced => cx.record(CONFIRMED, true).await,
            Discard::Staged if cx.recall(CONFIRMED).is_none() => cx.record(TURNED_BACK, true).await,
            Discard::Staged => Ok(()),
        }
    }
}

fn key(at: usize) -> String {
    match at {
        0 => FACT.to_owned(),
        more => format!("{FACT}_{}", more + 1),
    }
}

fn broken(error: serde_json::Error) -> Error {
    Error::new(
        ErrorKind::Internal,
        "postgres.fact",
        format!("the journal's record of the roles that the run created is not usable: {error}"),
    )
}

/// The roles that have the run's mark.
pub(super) async fn marked(session: &Session, run: &RunId) -> Result<Vec<String>> {
    let mark = mark(run);
    let rows = session
        .rows(
            "SELECT rolname::text FROM pg_roles \
             WHERE right(shobj_description(oid, 'pg_authid'), length($1) + 1) IN ($1, $1 || ')') \
             ORDER BY 1",
            &[&mark],
        )
        .await?;
    rows.iter().map(|row| column(row, 0)).collect()
}

/// The roles that have the mark of any run.
pub(in super::super) async fn marked_by_runs(
    session: &Session,
) -> Result<BTreeMap<RunId, Vec<String>>> {
    let rows = session
        .rows(
            "SELECT rolname::text, substring(shobj_description(oid, 'pg_authid') FROM \
             'created by restore run ([0-9]{8}-[0-9]{6}-[0-9a-f]{4})[)]?$') FROM pg_roles \
             WHERE shobj_description(oid, 'pg_authid') LIKE '%created by restore run %' ORDER BY 1",
            &[],
        )
        .await?;
    let mut runs: BTreeMap<RunId, Vec<String>> = BTreeMap::new();
    for row in &rows {
        let run = column::<Option<String>>(row, 1)?.and_then(|run| run.parse().ok());
        if let Some(run) = run {
            runs.entry(run).or_default().push(column(row, 0)?);
        }
    }
    Ok(runs)
}

/// What keeps a role from being dropped.
#[derive(Clone, Debug, Default)]
struct Holders {
    /// Databases with something of it; an empty name stands for what is of no database.
    databases: Vec<String>,
    members: Vec<String>,
    sessions: i64,
}

/// Roles that are not dropped.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stay {
    /// Why, for people.
    told: BTreeMap<String, String>,
    /// Those that another component of the run still needs, which drops them afterwards.
    for_others: BTreeSet<String>,
}

impl Stay {
    /// Which of these roles stay; what the run itself has staged lies in databases that end so.
    fn among(roles: &BTreeMap<String, Holders>, staged: &str) -> Self {
        let mut stay = Self::default();
        for (role, holders) in roles {
            let mut others: Vec<&str> = Vec::new();
            for database in &holders.databases {
                match database.as_str() {
                    "" => others.push("an object of the whole server"),
                    name if name.ends_with(staged) => {}
                    name => others.push(name),
                }
            }
            let strangers: Vec<&String> = holders
                .members
                .iter()
                .filter(|member| !roles.contains_key(*member))
                .collect();
            if !others.is_empty() {
                let why = format!("{} depends on it", others.join(", "));
                stay.told.insert(role.clone(), why);
            } else if let Some(member) = strangers.first() {
                let why = format!("{member} is a member of it");
                stay.told.insert(role.clone(), why);
            } else if holders.sessions > 0 {
                let why = format!("it has {} sessions", holders.sessions);
                stay.told.insert(role.clone(), why);
            } else if !holders.databases.is_empty() {
                stay.for_others.insert(role.clone());
            }
        }
        // A role that stays keeps what it is a member of.
        loop {
            let mut more = Vec::new();
            for (role, holders) in roles {
                if stay.told.contains_key(role) {
                    continue;
                }
                let told = holders
                    .members
                    .iter()
                    .find(|it| stay.told.contains_key(*it));
                let other = |it: &&String| stay.for_others.contains(*it);
                match told {
                    Some(member) => more.push((role.clone(), Some(member.clone()))),
                    None if stay.for_others.contains(role) => {}
                    None if holders.members.iter().any(|it| other(&it)) => {
                        more.push((role.clone(), None));
                    }
                    None => {}
                }
            }
            if more.is_empty() {
                return stay;
            }
            for (role, member) in more {
                match member {
                    Some(member) => {
                        stay.for_others.remove(&role);
                        let why = format!("{member} is a member of it");
                        stay.told.insert(role, why);
                    }
                    None => {
                        stay.for_others.insert(role);
                    }
                }
            }
        }
    }
}

async fn holders(session: &Session, roles: &[String]) -> Result<BTreeMap<String, Holders>> {
    let rows = session
        .rows(
            "SELECT r.rolname::text, \
               ARRAY(SELECT DISTINCT coalesce(d.datname::text, o.datname::text, '') \
                     FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid \
                     LEFT JOIN pg_database o ON s.dbid = 0 AND o.oid = s.objid \
                          AND s.classid = 'pg_database'::regclass \
                     WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid ORDER BY 1), \
               ARRAY(SELECT DISTINCT m.rolname::text FROM pg_auth_members a \
                     JOIN pg_roles m ON m.oid = a.member WHERE a.roleid = r.oid ORDER BY 1), \
               (SELECT count(*) FROM pg_stat_activity WHERE usesysid = r.oid) \
             FROM pg_roles r WHERE r.rolname = ANY($1::text[]::name[])",
            &[&roles],
        )
        .await?;
    let mut found = BTreeMap::new();
    for row in &rows {
        let holders = Holders {
            databases: column(row, 1)?,
            members: column(row, 2)?,
            sessions: column(row, 3)?,
        };
        found.insert(column::<String>(row, 0)?, holders);
    }
    Ok(found)
}

impl Postgres {
    /// Removes the roles that the run made, where nothing depends on them and nobody uses them.
    pub(in super::super) async fn forget_roles(
        &self,
        session: &Session,
        cx: &RunContext,
        staged: &str,
    ) -> Result<()> {
        let made = Made::of(cx)?;
        let roles = self.ours(session, cx, &made).await?;
        let as_it_stood = cx.recall(CONFIRMED).is_some()
            && cx.recall(TURNED_BACK).is_none()
            && cx.cut_over() == CutOver::NotBegun;
        let mut stay = Stay::default();
        if as_it_stood {
            let why = "the run was ended as it stood, and what was made live since may use it";
            let all = roles.iter().map(|role| (role.clone(), why.to_owned()));
            stay.told.extend(all);
        } else {
            let holders = holders(session, &roles).await?;
            stay = Stay::among(&holders, staged);
            for role in &roles {
                if stay.told.contains_key(role) || stay.for_others.contains(role) {
                    continue;
                }
                let drop = format!("DROP ROLE {}", ident(role));
                if let Err(error) = session.attempt(&drop).await {
                    stay.told.insert(role.clone(), describe(&error));
                }
            }
        }
        // Records without findings are of roles that another component made, or told of.
        let own = made.0.iter().filter(|record| !record.findings.is_empty());
        for role in own.flat_map(|record| &record.roles) {
            if !stay.told.contains_key(role) {
                cx.record_removed(&role_words(role)).await;
            }
        }
        if !stay.told.is_empty() {
            let told: Vec<String> = stay
                .told
                .iter()
                .map(|(role, why)| format!("{role} ({why})"))
                .collect();
            cx.notice(
                Finding::warning(
                    "postgres.roles_stay",
                    &self.name,
                    format!("roles that this run created stay: {}", told.join("; ")),
                )
                .hint("DROP ROLE removes them, once nothing depends on them"),
            );
        }
        Ok(())
    }

    /// Takes the run's mark from its roles, once what uses them is live and accepted.
    pub(in super::super) async fn keep_roles(
        &self,
        session: &Session,
        cx: &RunContext,
    ) -> Result<()> {
        if cx.recall(CONFIRMED).is_none() {
            return Ok(());
        }
        let mark = mark(cx.run());
        for role in self.ours(session, cx, &Made::of(cx)?).await? {
            let sql = "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles \
                       WHERE rolname = $1::text::name";
            let comment: Option<String> = column(&session.one(sql, &[&role]).await?, 0)?;
            let comment = unmarked(comment.as_deref().unwrap_or_default(), &mark);
            let comment = comment.map_or_else(|| "NULL".to_owned(), literal);
            session
                .run(&format!("COMMENT ON ROLE {} IS {comment}", ident(&role)))
                .await?;
        }
        Ok(())
    }

    /// The roles that the journal knows and that have the run's mark.
    async fn ours(&self, session: &Session, cx: &RunContext, made: &Made) -> Result<Vec<String>> {
        let known = made.roles();
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let mut roles = marked(session, cx.run()).await?;
        roles.retain(|role| known.contains(role));
        Ok(roles)
    }
}

/// What a comment was before the mark was added to it.
fn unmarked<'a>(comment: &'a str, mark: &str) -> Option<&'a str> {
    let before = comment.strip_suffix(')')?.strip_suffix(mark)?;
    before.strip_suffix(" (")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holders(databases: &[&str], members: &[&str], sessions: i64) -> Holders {
        let owned = |all: &[&str]| all.iter().copied().map(str::to_owned).collect();
        Holders {
            databases: owned(databases),
            members: owned(members),
            sessions,
        }
    }

    #[test]
    fn roles_in_use_stay_with_what_they_are_members_of() {
        let roles = BTreeMap::from(
            [
                ("unused", holders(&[], &[], 0)),
                ("owner", holders(&["shop"], &[], 0)),
                ("of_owner", holders(&[], &["owner"], 0)),
                ("of_that", holders(&[], &["of_owner"], 0)),
                ("signed_in", holders(&[], &[], 2)),
                ("group", holders(&[], &["stranger"], 0)),
                ("grants", holders(&[""], &[], 0)),
                ("next_door", holders(&["b_restore_x"], &[], 0)),
                ("of_next_door", holders(&[], &["next_door"], 0)),
                ("both", holders(&["b_restore_x", "shop"], &[], 0)),
                ("of_unused", holders(&[], &["unused"], 0)),
            ]
            .map(|(name, holders)| (name.to_owned(), holders)),
        );
        let stay = Stay::among(&roles, "_restore_x");
        let told: Vec<&str> = stay.told.keys().map(String::as_str).collect();
        assert_eq!(
            told,
            [
                "both",
                "grants",
                "group",
                "of_owner",
                "of_that",
                "owner",
                "signed_in"
            ]
        );
        assert_eq!(stay.told["both"], "shop depends on it");
        assert_eq!(stay.told["group"], "stranger is a member of it");
        let others: Vec<&str> = stay.for_others.iter().map(String::as_str).collect();
        assert_eq!(others, ["next_door", "of_next_door"]);
    }

    #[test]
    fn a_mark_is_taken_off_again() {
        let mark = "created by restore run x";
        assert_eq!(unmarked(mark, mark), None);
        let comment = format!("the shop's ({mark})");
        assert_eq!(unmarked(&comment, mark), Some("the shop's"));
    }
}
