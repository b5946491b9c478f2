//! The roles of a server, as `pg_dumpall --globals-only` writes them: those that a dump needs and the
//! server lacks are created, and nothing that exists is altered.

mod creation;
mod made;
mod others;
mod power;
mod read;
mod role;

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc::channel;

pub(super) use creation::Creation;
pub(super) use made::{Made, mark, marked_by_runs};
pub(super) use read::Globals;
#[cfg(feature = "fuzzing")]
pub(super) use read::fuzz;

use super::Postgres;
use super::client::{Session, column};
use super::content::Content;
use super::new_cluster;
use super::script::Script;
use crate::archive::forward_chunks;
use crate::contract::{Backup, RunContext};
use crate::model::{Error, ErrorKind, Finding, Progress, Result};
use read::GlobalsReader;
pub(super) use role::Role;

/// The roles of a backup, and the file that they are from.
pub(super) struct Source {
    label: String,
    globals: Globals,
}

impl Source {
    /// That it has not all roles that the dump needs.
    fn lacks<S: AsRef<str>>(&self, lacking: &[S]) -> Error {
        let Self { label, globals } = self;
        let lacking: Vec<&str> = lacking.iter().map(AsRef::as_ref).collect();
        let unread = match globals.unread.is_empty() {
            true => String::new(),
            false => format!(
                "; statements of it that could not be read are left out ({})",
                some_of(&globals.unread)
            ),
        };
        Error::new(
            ErrorKind::Preflight,
            "postgres.missing_roles",
            format!(
                "the dump needs roles that neither the server nor {label} has: {}{unread}",
                lacking.join(", ")
            ),
        )
        .hint(BY_HAND)
    }
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

    /// Whether the backup says that the component's user is one without power over the whole server.
    pub(super) async fn is_plain_user(&self, cx: &RunContext) -> Result<bool> {
        match self.globals(cx).await {
            Ok(source) => Ok(source
                .globals
                .roles
                .get(&self.config.user)
                .is_some_and(|role| {
                    role.made && !role.attributes.iter().any(|it| it == "SUPERUSER")
                })),
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            // Of one that cannot be read more is said elsewhere.
            Err(_) => Ok(false),
        }
    }

    /// How the roles of the backup would be created in a cluster that has none but the component's user:
    /// those of these names, and all others but such as are more powerful than the site allows. `None`
    /// where there is none to create. Tells also of what such a cluster does not get.
    ///
    /// # Errors
    ///
    /// `postgres.no_globals`, `postgres.missing_roles`.
    pub(super) async fn creation_anew(
        &self,
        cx: &RunContext,
        needed: &[String],
    ) -> Result<(Option<Creation>, Vec<Finding>)> {
        let source = self.globals(cx).await?;
        let made = &source.globals.roles;
        let lacking: Vec<&str> = needed
            .iter()
            .filter(|name| made.get(*name).is_none_or(|role| !role.made))
            .map(String::as_str)
            .collect();
        if !lacking.is_empty() {
            return Err(source.lacks(&lacking));
        }
        let names = self.roles_of_cluster(&source.globals, needed);
        let roles: BTreeMap<String, role::Role> = names
            .into_iter()
            .filter_map(|name| made.get(&name).map(|role| (name, role.clone())))
            .collect();
        let mut told = Vec::from_iter(self.left_of_cluster(&source, &roles));
        told.extend(self.left_of_user(cx, &source));
        let creation = (!roles.is_empty()).then(|| Creation {
            powers: power::of_new(&roles),
            allowed: self.config.powerful_roles.clone(),
            unread: source.globals.unread.clone(),
            label: source.label.clone(),
            not_granted: Vec::new(),
            lacking: Vec::new(),
            others: false,
            roles,
        });
        Ok((creation, told))
    }

    /// The roles that a new cluster gets: a cluster's roles are part of what is gone with it, whether the
    /// dump needs them or not. Those that are too powerful are left out, unless it does.
    fn roles_of_cluster(&self, globals: &Globals, needed: &[String]) -> Vec<String> {
        let mut roles: BTreeMap<String, role::Role> = globals
            .roles
            .iter()
            .filter(|(name, role)| role.made && **name != self.config.user)
            .map(|(name, role)| (name.clone(), role.clone()))
            .collect();
        let powers = power::of_new(&roles);
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        let mut next = needed.to_vec();
        while let Some(name) = next.pop() {
            if let Some(role) = roles.get(&name)
                && wanted.insert(name)
            {
                next.extend(role.member_of.iter().map(|(group, _)| group.clone()));
            }
        }
        roles.retain(|name, _| {
            wanted.contains(name)
                || !powers.contains_key(name)
                || self.config.powerful_roles.contains(name)
        });
        roles.into_keys().collect()
    }

    /// Creates the roles that the dump needs and the server lacks, all or none; where there is no `live`
    /// database either, also those that only the backup's roles name. Tells of those that the run has
    /// created, now or before it was killed.
    ///
    /// # Errors
    ///
    /// Those of [`creation`](Self::creation); `postgres.powerful_roles` where one of them may more than
    /// the site allows; what the server says.
    pub(super) async fn create_roles(
        &self,
        session: &Session,
        cx: &RunContext,
        (script, live): (&Script, bool),
    ) -> Result<Vec<Finding>> {
        let missing = self.unusable_roles(session, script).await?.missing;
        let mut told = Vec::new();
        // A cluster that this run has made gets all of them.
        let source = match missing.is_empty() {
            true if new_cluster::was_made(cx) => match self.globals(cx).await {
                Ok(source) => Some(source),
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                // The dump needs none, and somebody may sign in as one.
                Err(error) => {
                    told.push(self.not_created(&error));
                    None
                }
            },
            true => None,
            false => {
                self.may_create_roles(session, &missing).await?;
                Some(self.globals(cx).await?)
            }
        };
        if let Some(source) = source {
            if new_cluster::was_made(cx) {
                told.extend(self.left_of_user(cx, &source));
            }
            creation::silence(session).await?;
            let done = self.create_alone(session, cx, (script, &source)).await;
            if done.is_err() {
                session.run("ROLLBACK").await?;
            }
            creation::unsilence(session).await?;
            done?;
        }
        if others::are_made(cx, live) {
            let others = self.create_others(session, cx).await?;
            let known = told.clone();
            told.extend(others.into_iter().filter(|it| !known.contains(it)));
        }
        // Another component of the same run may have created some of those that this one uses.
        let marked = made::marked(session, cx.run()).await?;
        Made::of(cx)?.record(cx, &marked, &[]).await?;
        told.extend(Made::of(cx)?.findings(&marked));
        Ok(told)
    }

    /// As `create_roles`, while nobody else creates roles on this server: components are staged at the same time.
    async fn create_alone(
        &self,
        session: &Session,
        cx: &RunContext,
        (script, source): (&Script, &Source),
    ) -> Result<()> {
        begin_alone(session).await?;
        let mut missing = self.unusable_roles(session, script).await?.missing;
        if new_cluster::was_made(cx) {
            missing = self.roles_of_cluster(&source.globals, &missing);
        }
        if !missing.is_empty() {
            let creation = self.creation_from(session, source, &missing).await?;
            if let Some(error) = creation.refusal() {
                return Err(error);
            }
            self.record_and_run(session, cx, &creation).await?;
        }
        session.run("COMMIT").await
    }

    /// Creates roles within the transaction that is open. Known before they are there: whoever comes
    /// after a kill must find them.
    async fn record_and_run(
        &self,
        session: &Session,
        cx: &RunContext,
        creation: &Creation,
    ) -> Result<()> {
        for words in creation.words() {
            cx.record_made(&words).await?;
        }
        let findings = creation.findings(&self.name);
        Made::of(cx)?
            .record(cx, &creation.names(), &findings)
            .await?;
        creation.run(session, cx.run()).await
    }

    /// Says in the report that roles which the run was about to create are not there: their creation was
    /// taken back, and the run goes on without them.
    pub(super) async fn forget_uncreated(&self, session: &Session, cx: &RunContext) -> Result<()> {
        let there = made::marked(session, cx.run()).await?;
        let made = Made::of(cx)?;
        for name in made.roles() {
            if !there.contains(name) {
                cx.record_removed(&made::role_words(name)).await;
            }
        }
        Ok(())
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
        let mut newer = Vec::new();
        let mut asked: BTreeSet<String> = BTreeSet::new();
        let mut next: Vec<String> = missing.to_vec();
        while let Some(role) = next.pop() {
            if !asked.insert(role.clone()) || exists(session, &role).await? {
                continue;
            }
            match globals.roles.get(&role) {
                Some(found) if found.made => {
                    let mut found = found.clone();
                    for (group, _) in &found.member_of {
                        // Such names are PostgreSQL's own: a newer one has more of them.
                        match group.starts_with("pg_") && !exists(session, group).await? {
                            true => newer.push((group.clone(), role.clone())),
                            false => next.push(group.clone()),
                        }
                    }
                    found
                        .member_of
                        .retain(|(group, _)| !newer.iter().any(|(it, _)| it == group));
                    roles.insert(role, found);
                }
                _ => lacking.push(role),
            }
        }
        if !lacking.is_empty() {
            return Err(source.lacks(&lacking));
        }
        Ok(Creation {
            powers: power::of(session, &roles).await?,
            allowed: self.config.powerful_roles.clone(),
            unread: globals.unread.clone(),
            label: label.clone(),
            not_granted: not_granted(session, globals, &roles).await?,
            lacking: newer,
            others: false,
            roles,
        })
    }

    /// The roles of the backup, and the file that has them: its own, or a dump of all databases.
    ///
    /// # Errors
    ///
    /// `postgres.no_globals` where there is none.
    async fn globals(&self, cx: &RunContext) -> Result<Source> {
        let found = self.find_globals(cx, true).await?;
        found.ok_or_else(|| {
            let backup = cx.backup().id();
            let names = self.config.globals.join(", ");
            Error::new(
                ErrorKind::Preflight,
                "postgres.no_globals",
                format!("backup {backup} has no file with the server's roles (looked for {names})"),
            )
            .hint(format!(
                "name it as `globals`: what `pg_dumpall --globals-only` or `pg_dumpall` wrote; or {BY_HAND}"
            ))
        })
    }

    /// The backup's own file of roles, where it has one.
    ///
    /// # Errors
    ///
    /// `postgres.several_globals` where `globals` fits more than one: the first by name may be of another server.
    pub(super) fn globals_file(&self, backup: &Backup) -> Result<Option<String>> {
        let mut found = backup.find_of(&self.name, &self.config.globals);
        if found.len() < 2 {
            return Ok(found.pop());
        }
        let error = Error::new(
            ErrorKind::Config,
            "postgres.several_globals",
            format!(
                "backup {} has several files that `globals` fits, and the roles of only one are created: {}",
                backup.id(),
                some_of(&found)
            ),
        );
        Err(error.hint(format!(
            "make the pattern in `globals` of [components.{}] fit the file of this server only",
            self.name
        )))
    }

    /// As `globals`, where there is such a file; `dumps`: also in a dump of all databases, which may be large.
    async fn find_globals(&self, cx: &RunContext, dumps: bool) -> Result<Option<Source>> {
        let backup = cx.backup();
        let artifacts = self.find_artifacts(backup);
        let own = self.globals_file(backup)?.into_iter();
        let all = artifacts.sql.iter().chain(&artifacts.dump).cloned();
        for label in own.chain(all.filter(|_| dumps)) {
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
                return Ok(Some(Source { label, globals }));
            }
        }
        Ok(None)
    }
}

/// Begins a transaction in which nobody else creates roles on this server.
async fn begin_alone(session: &Session) -> Result<()> {
    session
        .run("BEGIN; LOCK TABLE pg_catalog.pg_authid IN SHARE ROW EXCLUSIVE MODE")
        .await
        .map_err(|e| e.context("cannot keep others from creating roles meanwhile"))
}

/// Roles of the server that are members of these in the backup, and are not made so.
async fn not_granted(
    session: &Session,
    globals: &Globals,
    roles: &BTreeMap<String, Role>,
) -> Result<Vec<(String, String)>> {
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
    Ok(not_granted)
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
    let reading = tokio::spawn(forward_chunks(cx.source(label)?, Progress::hidden(), send));
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
