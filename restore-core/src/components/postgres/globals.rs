//! The roles of a server, as `pg_dumpall --globals-only` writes them: those that a dump needs and the
//! server lacks are created, and nothing that exists is altered.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tokio::sync::mpsc::channel;

use super::Postgres;
use super::client::{Session, column};
use super::names::{ident, literal};
use super::script::{Token, tokens};
use crate::archive::hand_on;
use crate::contract::RunContext;
use crate::model::{Error, ErrorKind, Finding, Progress, Result, RunId};

/// The fact which roles a run creates.
const CREATED: &str = "roles_created";

/// So much text about roles is read: a hundred thousand of them need less.
const MOST: usize = 64 << 20;

/// Attributes of a role, without those that take a value.
const ATTRIBUTES: [&str; 14] = [
    "SUPERUSER",
    "NOSUPERUSER",
    "INHERIT",
    "NOINHERIT",
    "CREATEROLE",
    "NOCREATEROLE",
    "CREATEDB",
    "NOCREATEDB",
    "LOGIN",
    "NOLOGIN",
    "REPLICATION",
    "NOREPLICATION",
    "BYPASSRLS",
    "NOBYPASSRLS",
];

/// What a role is.
#[derive(Clone, Default, PartialEq, Eq)]
struct Role {
    /// The file makes it, and does not only name it.
    made: bool,
    attributes: Vec<String>,
    connection_limit: Option<i64>,
    /// A hash of it; it reaches the server and nothing else.
    password: Option<String>,
    valid_until: Option<String>,
    /// Names and values, as `SET` takes them.
    settings: Vec<(String, String)>,
    comment: Option<String>,
    /// Roles that it is a member of, and with which options.
    member_of: Vec<(String, Membership)>,
}

/// With what options a role is a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Membership {
    admin: bool,
    /// Servers before 16 know no other two.
    inherit: Option<bool>,
    set: Option<bool>,
}

/// All roles of a backup.
#[derive(Default)]
pub(super) struct Globals {
    roles: BTreeMap<String, Role>,
}

/// Roles that are to be created, in the order of their names.
pub(super) struct Creation {
    roles: BTreeMap<String, Role>,
    /// Roles of the server that are members of these in the backup, and are not made so.
    not_granted: Vec<(String, String)>,
    /// The backup's file that has them.
    pub(super) label: String,
}

impl Globals {
    /// Reads what pg_dumpall writes; what else is there is not looked at.
    fn read(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            if line.starts_with("\\connect ") || line == "-- PostgreSQL database dump" {
                break;
            }
            let line = line.trim_end();
            let known = ["CREATE ROLE ", "ALTER ROLE ", "GRANT ", "COMMENT ON ROLE "];
            if known.iter().any(|start| line.starts_with(start)) && line.ends_with(';') {
                found.statement(&tokens(line));
            }
        }
        found
    }

    fn statement(&mut self, tokens: &[Token]) {
        let word = |at: usize, text: &str| matches!(tokens.get(at), Some(Token::Word(word)) if word == text);
        if word(0, "CREATE") {
            if let Some(name) = name(tokens.get(2)) {
                self.roles.entry(name).or_default().made = true;
            }
        } else if word(0, "COMMENT") {
            let role = name(tokens.get(3)).and_then(|name| self.roles.get_mut(&name));
            if let (Some(role), Some(Token::Text(text))) = (role, tokens.get(5)) {
                role.comment = Some(text.clone());
            }
        } else if word(0, "GRANT") {
            let (Some(group), true, Some(member)) =
                (name(tokens.get(1)), word(2, "TO"), name(tokens.get(3)))
            else {
                return;
            };
            let mut how = Membership::default();
            let mut at = 4;
            while let Some(token) = tokens.get(at) {
                let on = !word(at + 1, "FALSE");
                match token {
                    Token::Word(word) if word == "ADMIN" => how.admin = on,
                    Token::Word(word) if word == "INHERIT" => how.inherit = Some(on),
                    Token::Word(word) if word == "SET" => how.set = Some(on),
                    Token::Word(word) if word == "GRANTED" => break,
                    _ => {}
                }
                at += 1;
            }
            if let Some(role) = self.roles.get_mut(&member) {
                role.member_of.push((group, how));
            } else {
                // Of a role that is not of this file: whether it is on the server is seen later.
                let role = Role {
                    member_of: vec![(group, how)],
                    ..Role::default()
                };
                self.roles.insert(member, role);
            }
        } else if let Some(role) = name(tokens.get(2)).and_then(|name| self.roles.get_mut(&name)) {
            if word(3, "WITH") {
                role.attributes(tokens.get(4..).unwrap_or_default());
            } else if word(3, "SET") {
                role.setting(tokens.get(4..).unwrap_or_default());
            }
        }
    }
}

impl Role {
    fn attributes(&mut self, tokens: &[Token]) {
        let mut tokens = tokens.iter();
        while let Some(token) = tokens.next() {
            let Token::Word(word) = token else {
                continue;
            };
            match word.as_str() {
                "PASSWORD" => {
                    if let Some(Token::Text(hash)) = tokens.next() {
                        self.password = Some(hash.clone());
                    }
                }
                "UNTIL" => {
                    if let Some(Token::Text(time)) = tokens.next() {
                        self.valid_until = Some(time.clone());
                    }
                }
                "LIMIT" => {
                    if let Some(Token::Word(number)) = tokens.next() {
                        self.connection_limit = number.parse().ok();
                    }
                }
                word if ATTRIBUTES.contains(&word) => self.attributes.push(word.to_owned()),
                _ => {}
            }
        }
    }

    /// `search_path TO 'a', 'b';`
    fn setting(&mut self, tokens: &[Token]) {
        let Some(to) = tokens
            .iter()
            .position(|token| *token == Token::Word("TO".to_owned()))
        else {
            return;
        };
        let (before, after) = tokens.split_at(to);
        let parts: Vec<String> = before
            .iter()
            .filter_map(|token| name(Some(token)))
            .collect();
        let values: Vec<String> = after
            .iter()
            .skip(1)
            .filter_map(|token| match token {
                Token::Text(text) | Token::Ident(text) | Token::Word(text) => Some(literal(text)),
                Token::Sign(_) => None,
            })
            .collect();
        if !parts.is_empty() && !values.is_empty() {
            self.settings.push((parts.join("."), values.join(", ")));
        }
    }

    /// In words, without anything secret.
    fn describe(&self) -> String {
        let mut words: Vec<String> = self
            .attributes
            .iter()
            .filter(|it| *it == "LOGIN" || (!it.starts_with("NO") && *it != "INHERIT"))
            .cloned()
            .collect();
        if self.password.is_some() {
            words.push("with its password".to_owned());
        } else if self.attributes.iter().any(|it| it == "LOGIN") {
            words.push("without a password".to_owned());
        }
        if !self.member_of.is_empty() {
            let groups: Vec<&str> = self
                .member_of
                .iter()
                .map(|(group, _)| group.as_str())
                .collect();
            words.push(format!("member of {}", groups.join(", ")));
        }
        words.join(", ")
    }

    /// Whether it may more than use what it is given.
    fn is_powerful(&self) -> bool {
        let strong = ["SUPERUSER", "CREATEROLE", "REPLICATION", "BYPASSRLS"];
        self.attributes.iter().any(|it| strong.contains(&it.as_str()))
            // Roles of the server that reach beyond a database.
            || self.member_of.iter().any(|(group, _)| group.starts_with("pg_"))
    }

    fn create(&self, name: &str) -> Vec<String> {
        let role = ident(name);
        let mut sql = format!("CREATE ROLE {role} WITH");
        for attribute in &self.attributes {
            sql.push(' ');
            sql.push_str(attribute);
        }
        if let Some(limit) = self.connection_limit {
            sql.push_str(&format!(" CONNECTION LIMIT {limit}"));
        }
        if let Some(password) = &self.password {
            sql.push_str(&format!(" PASSWORD {}", literal(password)));
        }
        if let Some(time) = &self.valid_until {
            sql.push_str(&format!(" VALID UNTIL {}", literal(time)));
        }
        if sql.ends_with(" WITH") {
            sql.truncate(sql.len() - " WITH".len());
        }
        let mut all = vec![sql];
        for (key, value) in &self.settings {
            let key: Vec<String> = key.split('.').map(ident).collect();
            all.push(format!(
                "ALTER ROLE {role} SET {} TO {value}",
                key.join(".")
            ));
        }
        all
    }
}

fn name(token: Option<&Token>) -> Option<String> {
    match token? {
        Token::Word(name) | Token::Ident(name) => Some(name.clone()),
        Token::Text(_) | Token::Sign(_) => None,
    }
}

/// A role in the words of plans and reports.
fn role_words(name: &str) -> String {
    format!("role {name}")
}

/// What is written beside a role that a run has made.
fn mark(run: &RunId) -> String {
    format!("created by restore run {run}")
}

impl Creation {
    /// What it would do, in words.
    pub(super) fn findings(&self, subject: &str) -> Vec<Finding> {
        let describe = |(name, role): (&String, &Role)| match role.describe() {
            words if words.is_empty() => name.clone(),
            words => format!("{name} ({words})"),
        };
        let list = |powerful: bool| -> Vec<String> {
            self.roles
                .iter()
                .filter(|(_, role)| role.is_powerful() == powerful)
                .map(describe)
                .collect()
        };
        let mut findings = Vec::new();
        let (plain, powerful) = (list(false), list(true));
        if !plain.is_empty() {
            let message = format!(
                "roles that the server lacks are created from {}: {}",
                self.label,
                plain.join("; ")
            );
            findings.push(Finding::info("postgres.roles_created", subject, message));
        }
        if !powerful.is_empty() {
            let message = format!(
                "roles with power beyond the database are created from {}: {}",
                self.label,
                powerful.join("; ")
            );
            findings.push(
                Finding::warning("postgres.powerful_roles", subject, message)
                    .hint("create them by hand first, with less power, if that is not wanted"),
            );
        }
        if !self.not_granted.is_empty() {
            let grants: Vec<String> = self
                .not_granted
                .iter()
                .map(|(group, member)| format!("GRANT {} TO {}", ident(group), ident(member)))
                .collect();
            let message = format!(
                "roles that exist already are not altered, and so not made members of the new ones: {}",
                grants.join("; ")
            );
            findings.push(
                Finding::warning("postgres.memberships_left", subject, message)
                    .hint("run these statements by hand, if they are wanted"),
            );
        }
        findings
    }

    /// In the words of plans and reports.
    pub(super) fn words(&self) -> impl Iterator<Item = String> {
        self.roles.keys().map(|name| role_words(name))
    }

    /// Keeps what is about to be created, for whoever removes it again.
    pub(super) async fn record(&self, cx: &RunContext) -> Result<()> {
        for words in self.words() {
            cx.record_made(&words).await?;
        }
        let names: Vec<&String> = self.roles.keys().collect();
        cx.record(CREATED, json!(names)).await
    }

    /// Creates them, all or none.
    ///
    /// # Errors
    ///
    /// What the server says.
    pub(super) async fn run(&self, session: &Session, run: &RunId) -> Result<()> {
        let mut sql = vec!["SET LOCAL log_statement = 'none'".to_owned()];
        for (name, role) in &self.roles {
            sql.extend(role.create(name));
            let comment = match &role.comment {
                Some(comment) => format!("{comment} ({})", mark(run)),
                None => mark(run),
            };
            sql.push(format!(
                "COMMENT ON ROLE {} IS {}",
                ident(name),
                literal(&comment)
            ));
        }
        for (name, role) in &self.roles {
            for (group, how) in &role.member_of {
                let options = how.options(session.version());
                sql.push(format!(
                    "GRANT {} TO {}{options}",
                    ident(group),
                    ident(name)
                ));
            }
        }
        let done = session
            .run(&format!("BEGIN; {}; COMMIT", sql.join("; ")))
            .await;
        if let Err(error) = done {
            session.run("ROLLBACK").await?;
            return Err(error
                .context(format!("cannot create roles of {}", self.label))
                .hint("create them by hand, or set missing_roles = \"ignore\""));
        }
        Ok(())
    }
}

impl Membership {
    fn options(self, version: u32) -> String {
        let mut options = Vec::new();
        if self.admin {
            options.push(match version >= 160_000 {
                true => "ADMIN TRUE".to_owned(),
                false => "ADMIN OPTION".to_owned(),
            });
        }
        if version >= 160_000 {
            for (key, value) in [("INHERIT", self.inherit), ("SET", self.set)] {
                if let Some(on) = value {
                    options.push(format!("{key} {}", if on { "TRUE" } else { "FALSE" }));
                }
            }
        }
        match options.is_empty() {
            true => String::new(),
            false => format!(" WITH {}", options.join(", ")),
        }
    }
}

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
        let row = session
            .one(
                "SELECT rolsuper FROM pg_roles WHERE rolname = current_user",
                &[],
            )
            .await?;
        if !column::<bool>(&row, 0)? {
            return Err(Error::new(
                ErrorKind::Preflight,
                "postgres.roles_not_ours",
                format!(
                    "{} may not create the roles that the dump needs ({}), and give them what it gives them",
                    self.config.user,
                    missing.join(", ")
                ),
            )
            .hint("let the component connect as a superuser, or create them by hand"));
        }
        let (label, globals) = self.globals(cx).await?;
        let mut creation = Creation {
            roles: BTreeMap::new(),
            not_granted: Vec::new(),
            label,
        };
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
                    creation.roles.insert(role, found.clone());
                }
                _ => lacking.push(role),
            }
        }
        if !lacking.is_empty() {
            return Err(Error::new(
                ErrorKind::Preflight,
                "postgres.missing_roles",
                format!(
                    "the dump needs roles that neither the server nor {} has: {}",
                    creation.label,
                    lacking.join(", ")
                ),
            )
            .hint("create them by hand, or set missing_roles = \"ignore\""));
        }
        for (member, role) in &globals.roles {
            for (group, _) in &role.member_of {
                if creation.roles.contains_key(group)
                    && !creation.roles.contains_key(member)
                    && exists(session, member).await?
                {
                    creation.not_granted.push((group.clone(), member.clone()));
                }
            }
        }
        Ok(creation)
    }

    /// The roles of the backup, and the file that has them: its own, or a dump of all databases.
    async fn globals(&self, cx: &RunContext) -> Result<(String, Globals)> {
        let backup = cx.backup();
        let mut labels: Vec<String> = backup
            .find(&self.config.globals)
            .into_iter()
            .take(1)
            .collect();
        labels.extend(self.find_artifacts(backup).sql);
        for label in labels {
            if backup.file(&label).is_none() {
                continue;
            }
            let globals = Globals::read(&text_of(cx, &label).await?);
            if globals.roles.values().any(|role| role.made) {
                return Ok((label, globals));
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
        .hint("name it as `globals`: what `pg_dumpall --globals-only` or `pg_dumpall` wrote"))
    }

    /// Removes the roles that a run made, where nothing depends on them.
    pub(super) async fn forget_roles(&self, session: &Session, cx: &RunContext) -> Result<()> {
        let mark = mark(cx.run());
        let rows = session
            .rows(
                "SELECT rolname::text FROM pg_roles \
                 WHERE right(shobj_description(oid, 'pg_authid'), length($1) + 1) IN ($1, $1 || ')')",
                &[&mark],
            )
            .await?;
        let (mut stay, mut stayed) = (Vec::new(), Vec::new());
        for row in &rows {
            let role: String = column(row, 0)?;
            if let Err(error) = session
                .attempt(&format!("DROP ROLE {}", ident(&role)))
                .await
            {
                stay.push(format!("{role} ({})", super::client::describe(&error)));
                stayed.push(role);
            }
        }
        let created = cx.recall(CREATED).unwrap_or_default();
        let created = serde_json::from_value::<Vec<String>>(created).unwrap_or_default();
        for role in created.iter().filter(|role| !stayed.contains(role)) {
            cx.record_removed(&role_words(role)).await;
        }
        if !stay.is_empty() {
            cx.notice(
                Finding::warning(
                    "postgres.roles_stay",
                    &self.name,
                    format!("roles that this run created stay: {}", stay.join("; ")),
                )
                .hint("DROP ROLE removes them, once nothing depends on them"),
            );
        }
        Ok(())
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

/// What a file begins with, as far as it may be about roles; all of it is hashed.
async fn text_of(cx: &RunContext, label: &str) -> Result<String> {
    const END: &[u8] = b"\n\\connect ";
    let (send, mut pieces) = channel::<bytes::Bytes>(4);
    let reading = tokio::spawn(hand_on(cx.source(label)?, Progress::hidden(), send));
    let mut text: Vec<u8> = Vec::new();
    let mut whole = false;
    while let Some(piece) = pieces.recv().await {
        if whole || text.starts_with(b"PGDMP") {
            continue;
        }
        let from = text.len().saturating_sub(END.len());
        text.extend_from_slice(&piece);
        let new = text.get(from..).unwrap_or_default();
        whole = new.windows(END.len()).any(|part| part == END);
        if text.len() > MOST {
            whole = true;
        }
    }
    reading.await.map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "postgres.task",
            format!("reading a file ended unexpectedly: {e}"),
        )
    })??;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "--\n-- PostgreSQL database cluster dump\n--\n\
        CREATE ROLE app;\n\
        ALTER ROLE app WITH NOSUPERUSER INHERIT NOCREATEROLE CREATEDB LOGIN NOREPLICATION NOBYPASSRLS \
        CONNECTION LIMIT 5 PASSWORD 'SCRAM-SHA-256$4096:a$b:c' VALID UNTIL '2030-01-01 00:00:00+00';\n\
        ALTER ROLE app SET search_path TO 'a b', 'public';\n\
        ALTER ROLE app SET app.motto TO 'it''s';\n\
        COMMENT ON ROLE app IS 'the shop''s';\n\
        CREATE ROLE \"we ird\";\n\
        ALTER ROLE \"we ird\" WITH SUPERUSER INHERIT NOLOGIN;\n\
        GRANT \"we ird\" TO app WITH ADMIN OPTION GRANTED BY postgres;\n\
        GRANT pg_monitor TO app WITH INHERIT FALSE, SET TRUE GRANTED BY postgres;\n\
        GRANT app TO bob GRANTED BY postgres;\n\
        ALTER ROLE app WITH SUPERUSER; DROP ROLE postgres; --\n\
        \\connect shop\n\
        CREATE ROLE evil;\n";

    #[test]
    fn roles_are_read_and_written_anew() {
        let globals = Globals::read(TEXT);
        assert!(!globals.roles.contains_key("evil"), "of another part");
        let app = &globals.roles["app"];
        assert_eq!(
            app.create("app"),
            [
                "CREATE ROLE \"app\" WITH NOSUPERUSER INHERIT NOCREATEROLE CREATEDB LOGIN NOREPLICATION NOBYPASSRLS \
                 CONNECTION LIMIT 5 PASSWORD 'SCRAM-SHA-256$4096:a$b:c' VALID UNTIL '2030-01-01 00:00:00+00'",
                "ALTER ROLE \"app\" SET \"search_path\" TO 'a b', 'public'",
                "ALTER ROLE \"app\" SET \"app\".\"motto\" TO 'it''s'",
            ]
        );
        assert_eq!(app.comment.as_deref(), Some("the shop's"));
        let words = app.describe();
        assert_eq!(
            words,
            "CREATEDB, LOGIN, with its password, member of we ird, pg_monitor"
        );
        assert!(app.is_powerful() && globals.roles["we ird"].is_powerful());
        let how: Vec<[String; 2]> = app
            .member_of
            .iter()
            .map(|(_, how)| [how.options(150_000), how.options(160_000)])
            .collect();
        assert_eq!(how[0], [" WITH ADMIN OPTION", " WITH ADMIN TRUE"]);
        assert_eq!(how[1], ["", " WITH INHERIT FALSE, SET TRUE"]);
        assert!(app.made && !globals.roles["bob"].made);
        assert_eq!(globals.roles["bob"].create("bob"), ["CREATE ROLE \"bob\""]);
    }
}
