//! The roles of a server, as `pg_dumpall --globals-only` writes them: those that a dump needs and the
//! server lacks are created, and nothing that exists is altered.

mod creation;
mod made;
mod power;
mod read;
mod role;

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc::channel;

pub(super) use creation::Creation;
pub(super) use made::{Made, marked_by_runs};
pub(super) use read::Globals;

use super::Postgres;
use super::client::{Session, column};
use super::content::Content;
use super::script::Script;
use crate::archive::hand_on;
use crate::contract::RunContext;
use crate::model::{Error, ErrorKind, Finding, Progress, Result};
use read::GlobalsReader;

/// The roles of a backup, and the file that they are from.
pub(super) struct Source {
    label: String,
    globals: Globals,
}

/// What to do about roles that cannot be created.
const BY_HAND: &str = "create them by hand; or set roles = \"keep\" and missing_roles = \"ignore\", to restore a custom dump without owners and privileges";

impl Postgres {
    /// How the roles of these names would be created from the backup, with all that they are members
    /// of.
    ///
    /// # Errors
    ///
    /// `postgres.no_globals`, `postgres.missing_roles` where the backup does not have them, and
    /// `postgres.roles_not_ours` where the user may not.
    pub(super) async fn creation(
        &self,
        session: &Session,
        cx: &RunContext,
        missing: &[String],
    ) -> Result<Creation> {
        self.may_create_roles(session, missing).await?;
        let source = self.globals(cx).await?;
        self.creation_from(session, &source, missing).await
    }

    /// Creates the roles that the dump needs and the server lacks, all or none, and tells of those that
    /// the run has created, now or before it was killed.
    ///
    /// # Errors
    ///
    /// Those of [`creation`](Self::creation); `postgres.powerful_roles` where one of them may more than
    /// the site allows; what the server says.
    pub(super) async fn create_roles(
        &self,
        session: &Session,
        cx: &RunContext,
        script: &Script,
    ) -> Result<Vec<Finding>> {
        let missing = self.unusable_roles(session, script).await?.missing;
        if !missing.is_empty() {
            self.may_create_roles(session, &missing).await?;
            let source = self.globals(cx).await?;
            creation::silence(session).await?;
            let done = self.create_alone(session, cx, (script, &source)).await;
            if done.is_err() {
                session.run("ROLLBACK").await?;
            }
            creation::unsilence(session).await?;
            done?;
        }
        // Another component of the same run may have created some of those that this one uses.
        let marked = made::marked(session, cx.run()).await?;
        Made::of(cx)?.record(cx, &marked, &[]).await?;
        Ok(Made::of(cx)?.findings(&marked))
    }

    /// The same while nobody else creates roles on this server: components are staged at the same time.
    async fn create_alone(
        &self,
        session: &Session,
        cx: &RunContext,
        (script, source): (&Script, &Source),
    ) -> Result<()> {
        session
            .run("BEGIN; LOCK TABLE pg_catalog.pg_authid IN SHARE ROW EXCLUSIVE MODE")
            .await
            .map_err(|e| e.context("cannot keep others from creating roles meanwhile"))?;
        let missing = self.unusable_roles(session, script).await?.missing;
        if !missing.is_empty() {
            let creation = self.creation_from(session, source, &missing).await?;
            if let Some(error) = creation.refusal() {
                return Err(error);
            }
            // Known before they are there: whoever comes after a kill must find them.
            for words in creation.words() {
                cx.record_made(&words).await?;
            }
            let findings = creation.findings(&self.name);
            Made::of(cx)?
                .record(cx, &creation.names(), &findings)
                .await?;
            creation.run(session, cx.run()).await?;
        }
        session.run("COMMIT").await
    }

    /// Why roles are not created, where the dump can be restored without them.
    pub(super) fn not_created(&self, error: &Error) -> Finding {
        let finding = Finding::warning(
            error.code(),
            &self.name,
            format!("roles are not created: {}", error.message()),
        );
        finding.hint(error.hint_text().unwrap_or(BY_HAND))
    }

    async fn may_create_roles(&self, session: &Session, missing: &[String]) -> Result<()> {
        let row = session
            .one(
                "SELECT rolsuper FROM pg_roles WHERE rolname = current_user",
                &[],
            )
            .await?;
        match column::<bool>(&row, 0)? {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Preflight,
                "postgres.roles_not_ours",
                format!(
                    "{} may not create the roles that the dump needs ({}), and give them what it gives them",
                    self.config.user,
                    missing.join(", ")
                ),
            )
            .hint(format!("let the component connect as a superuser, or {BY_HAND}"))),
        }
    }

    async fn creation_from(
        &self,
        session: &Session,
        source: &Source,
        missing: &[String],
    ) -> Result<Creation> {
        let Source { label, globals } = source;
        let mut roles = BTreeMap::new();
        let mut lacking = Vec::new();
        let mut asked: BTreeSet<String> = BTreeSet::new();
        let mut next: Vec<String> = missing.to_vec();
        while let Some(role) = next.pop() {
            if !asked.insert(role.clone()) || exists(session, &role).await? {
                continue;
            }
            match globals.roles.get(&role) {
                Some(found) if found.made => {
                    next.extend(found.member_of.iter().map(|(group, _)| group.clone()));
                    roles.insert(role, found.clone());
                }
                _ => lacking.push(role),
            }
        }
        if !lacking.is_empty() {
            let unread = match globals.unread.is_empty() {
                true => String::new(),
                false => format!(
                    "; statements of it that could not be read are left out ({})",
                    some_of(&globals.unread)
                ),
            };
            return Err(Error::new(
                ErrorKind::Preflight,
                "postgres.missing_roles",
                format!(
                    "the dump needs roles that neither the server nor {label} has: {}{unread}",
                    lacking.join(", ")
                ),
            )
            .hint(BY_HAND));
        }
        let mut not_granted = Vec::new();
        for (member, role) in &globals.roles {
            for (group, _) in &role.member_of {
                if roles.contains_key(group)
                    && !roles.contains_key(member)
                    && exists(session, member).await?
                {
                    not_granted.push((group.clone(), member.clone()));
                }
            }
        }
        Ok(Creation {
            powers: power::of(session, &roles).await?,
            allowed: self.config.powerful_roles.clone(),
            unread: globals.unread.clone(),
            label: label.clone(),
            not_granted,
            roles,
        })
    }

    /// The roles of the backup, and the file that has them: its own, or a dump of all databases.
    async fn globals(&self, cx: &RunContext) -> Result<Source> {
        let backup = cx.backup();
        let artifacts = self.find_artifacts(backup);
        let own = backup.find(&self.config.globals).into_iter().take(1);
        let dumps = artifacts.sql.iter().chain(&artifacts.dump).cloned();
        for label in own.chain(dumps) {
            if backup.file(&label).is_none() {
                continue;
            }
            // An archive says nothing of roles, and may be large.
            let source = cx.source(&label)?;
            if !matches!(Content::of(source.path(), &label).await, Ok(it) if it.is_sql()) {
                continue;
            }
            let globals = read_all(cx, &label).await?;
            if globals.roles.values().any(|role| role.made) {
                return Ok(Source { label, globals });
            }
        }
        Err(Error::new(
            ErrorKind::Preflight,
            "postgres.no_globals",
            format!(
                "backup {} has no file with the server's roles (looked for {})",
                backup.id(),
                self.config.globals.join(", ")
            ),
        )
        .hint(format!(
            "name it as `globals`: what `pg_dumpall --globals-only` or `pg_dumpall` wrote; or {BY_HAND}"
        )))
    }
}

async fn exists(session: &Session, role: &str) -> Result<bool> {
    let rows = session
        .rows(
            "SELECT 1 FROM pg_roles WHERE rolname = $1::text::name",
            &[&role],
        )
        .await?;
    Ok(!rows.is_empty())
}

/// The first of these, and how many more there are.
fn some_of(all: &[String]) -> String {
    let named: Vec<&str> = all.iter().take(10).map(String::as_str).collect();
    match all.len().saturating_sub(named.len()) {
        0 => named.join("; "),
        more => format!("{}; and {more} more", named.join("; ")),
    }
}

/// What a file says of roles; all of it is hashed.
async fn read_all(cx: &RunContext, label: &str) -> Result<Globals> {
    let (send, mut pieces) = channel::<bytes::Bytes>(4);
    let reading = tokio::spawn(hand_on(cx.source(label)?, Progress::hidden(), send));
    let mut reader = GlobalsReader::default();
    while let Some(piece) = pieces.recv().await {
        reader.feed(&piece);
    }
    reading.await.map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "postgres.task",
            format!("reading a file ended unexpectedly: {e}"),
        )
    })??;
    reader.finish(label)
}
