//! Roles that only the backup's globals name: nothing of the dump needs them, and somebody may sign in as
//! one. They are created where the database is made from nothing, and told by name elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Postgres;
use super::super::client::{Session, column};
use super::creation::{self, Creation};
use super::role::Role;
use super::{Source, begin_alone, not_granted, power};
use crate::contract::RunContext;
use crate::model::{ErrorKind, Finding, Result};

/// Roles of the backup that neither its dump needs nor the server has.
pub(in super::super) struct Others {
    /// Those that are created.
    pub(in super::super) made: Option<Creation>,
    /// What is to be said of the others.
    pub(in super::super) left: Option<Finding>,
}

/// Whether they are created: a run that may create makes a database that is not `live`.
pub(super) fn are_made(cx: &RunContext, live: bool) -> bool {
    cx.may_create() && !live
}

impl Postgres {
    /// What becomes of them; `needed` are the roles that are created for the dump's sake.
    ///
    /// # Errors
    ///
    /// That the file of roles cannot be read, or the server asked.
    pub(in super::super) async fn others(
        &self,
        session: &Session,
        cx: &RunContext,
        (needed, live): (&BTreeMap<String, Role>, bool),
    ) -> Result<Option<Others>> {
        let made = are_made(cx, live);
        let Some(source) = self.find_globals(cx, made).await? else {
            return Ok(None);
        };
        let all = lacking(session, &source, needed).await?;
        if all.is_empty() {
            return Ok(None);
        }
        let superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user";
        let superuser: bool = column(&session.one(superuser, &[]).await?, 0)?;
        if made && superuser {
            return self.split(session, &source, (all, needed)).await.map(Some);
        }
        let backup = cx.backup().id();
        let hint = match (live, superuser) {
            (false, true) => {
                format!("`restore run {backup} --create` creates them with the database")
            }
            (false, false) => format!(
                "let the component connect as a superuser: `restore run {backup} --create` then creates them with the database"
            ),
            (true, _) => format!(
                "where somebody signs in as one of them: `restore get {backup} {} --to DIR` brings out the file; run its lines about the role with psql, as a superuser",
                source.label
            ),
        };
        let all = self.unpowered(&source, all);
        let all = all.described(|_, _| true).join("; ");
        let left = Finding::warning(
            "postgres.roles_left",
            &self.name,
            format!(
                "roles of {} that the server lacks and the dump does not need are not created: {all}",
                source.label
            ),
        );
        Ok(Some(Others {
            made: None,
            left: Some(left.hint(hint)),
        }))
    }

    /// Creates them for a run that makes the database from nothing, and tells what else is to be said. The database does
    /// not need them: that they cannot be created is told, and stops nothing.
    pub(super) async fn create_others(
        &self,
        session: &Session,
        cx: &RunContext,
    ) -> Result<Vec<Finding>> {
        let none = BTreeMap::new();
        let others = match self.others(session, cx, (&none, false)).await {
            Ok(others) => others,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(error) => return Ok(vec![self.not_created(&error)]),
        };
        let Some(Others { made, left }) = others else {
            return Ok(Vec::new());
        };
        let mut told = Vec::from_iter(left);
        let Some(made) = made else {
            return Ok(told);
        };
        creation::silence(session).await?;
        let done = async {
            begin_alone(session).await?;
            // Another component may have created some since.
            let Some(Others { made, .. }) = self.others(session, cx, (&none, false)).await? else {
                return session.run("COMMIT").await;
            };
            if let Some(made) = &made {
                self.record_and_run(session, cx, made).await?;
            }
            session.run("COMMIT").await
        }
        .await;
        if done.is_err() {
            session.run("ROLLBACK").await?;
        }
        creation::unsilence(session).await?;
        match done {
            Ok(()) => Ok(told),
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            Err(error) => {
                for words in made.words() {
                    cx.record_removed(&words).await;
                }
                told.push(self.not_created(&error));
                Ok(told)
            }
        }
    }

    /// Those that are created, and those that reach too far for that or need a role that nobody creates.
    async fn split(
        &self,
        session: &Session,
        source: &Source,
        (mut made, needed): (BTreeMap<String, Role>, &BTreeMap<String, Role>),
    ) -> Result<Others> {
        let mut all: BTreeMap<String, Role> = made.clone();
        all.extend(
            needed
                .iter()
                .map(|(name, role)| (name.clone(), role.clone())),
        );
        let powers = power::of(session, &all).await?;
        let groups = made.values().flat_map(|role| &role.member_of);
        let server = known(session, groups.map(|(group, _)| group).collect()).await?;
        let mut left = BTreeMap::new();
        loop {
            let stays = |name: &String, role: &Role| {
                let allowed = self.config.powerful_roles.contains(name);
                let there = |group: &String| {
                    server.contains(group) || needed.contains_key(group) || made.contains_key(group)
                };
                (powers.contains_key(name) && !allowed)
                    || !role.member_of.iter().all(|(group, _)| there(group))
            };
            let more = made.iter().find(|(name, role)| stays(name, role));
            let Some(name) = more.map(|(name, _)| name.clone()) else {
                break;
            };
            let role = made.remove(&name);
            left.extend(role.map(|role| (name, role)));
        }
        let left = self.told_left(source, left, &powers);
        let made = match made.is_empty() {
            true => None,
            false => Some(Creation {
                not_granted: not_granted(session, &source.globals, &made).await?,
                ..self.powered(source, made, &powers)
            }),
        };
        Ok(Others { made, left })
    }

    /// Says of roles of the backup that a new cluster does not get them: all but those that are `created`.
    pub(super) fn left_of_cluster(
        &self,
        source: &Source,
        created: &BTreeMap<String, Role>,
    ) -> Option<Finding> {
        let mut all = source.globals.roles.clone();
        all.retain(|name, role| role.made && !name.starts_with("pg_") && *name != self.config.user);
        let powers = power::of_new(&all);
        all.retain(|name, _| !created.contains_key(name));
        self.told_left(source, all, &powers)
    }

    /// Says what of the backup's the component's user does not get, as which the new cluster's superuser is
    /// made.
    pub(super) fn left_of_user(&self, cx: &RunContext, source: &Source) -> Option<Finding> {
        let user = &self.config.user;
        let left = source.globals.roles.get(user)?.particulars();
        (!left.is_empty()).then(|| {
            Finding::warning(
                "postgres.user_anew",
                &self.name,
                format!(
                    "{user} is made with the new cluster, with the component's password and without what {} says of it besides: {}",
                    source.label,
                    left.join(", ")
                ),
            )
            .hint(format!(
                "where that is wanted: `restore get {} {} --to DIR` brings out the file; run its lines about {user} with psql, as a superuser",
                cx.backup().id(),
                source.label
            ))
        })
    }

    fn told_left(
        &self,
        source: &Source,
        left: BTreeMap<String, Role>,
        powers: &BTreeMap<String, Vec<String>>,
    ) -> Option<Finding> {
        if left.is_empty() {
            return None;
        }
        let names: Vec<String> = left.keys().map(|name| format!("{name:?}")).collect();
        let left = self.powered(source, left, powers);
        let finding = Finding::warning(
            "postgres.roles_left",
            &self.name,
            format!(
                "roles of {} that the dump does not need are not created, because they reach beyond the database or are members of roles that are not there: {}",
                source.label,
                left.described(|_, _| true).join("; ")
            ),
        );
        Some(finding.hint(format!(
            "where somebody signs in as one of them: create it by hand, with less power; or, where the backup is to be trusted with them, powerful_roles = [{}] of the component",
            names.join(", ")
        )))
    }

    /// These roles, with those of the powers that are theirs.
    fn powered(
        &self,
        source: &Source,
        roles: BTreeMap<String, Role>,
        powers: &BTreeMap<String, Vec<String>>,
    ) -> Creation {
        let mut powers = powers.clone();
        powers.retain(|name, _| roles.contains_key(name));
        Creation {
            powers,
            ..self.unpowered(source, roles)
        }
    }

    /// These roles, of whose powers nothing is said.
    fn unpowered(&self, source: &Source, roles: BTreeMap<String, Role>) -> Creation {
        Creation {
            roles,
            powers: BTreeMap::new(),
            allowed: self.config.powerful_roles.clone(),
            not_granted: Vec::new(),
            lacking: Vec::new(),
            unread: Vec::new(),
            others: true,
            label: source.label.clone(),
        }
    }
}

/// The roles that the backup makes, but for those that the server has or that are needed.
async fn lacking(
    session: &Session,
    source: &Source,
    needed: &BTreeMap<String, Role>,
) -> Result<BTreeMap<String, Role>> {
    let mut roles = source.globals.roles.clone();
    roles.retain(|name, role| role.made && !name.starts_with("pg_") && !needed.contains_key(name));
    let known = known(session, roles.keys().collect()).await?;
    roles.retain(|name, _| !known.contains(name));
    Ok(roles)
}

/// Which of these roles the server has. Other names need not be text in any encoding.
async fn known(session: &Session, names: Vec<&String>) -> Result<BTreeSet<String>> {
    let rows = session
        .rows(
            "SELECT rolname::text FROM pg_roles WHERE rolname = ANY($1::text[]::name[])",
            &[&names],
        )
        .await?;
    rows.iter().map(|row| column(row, 0)).collect()
}
