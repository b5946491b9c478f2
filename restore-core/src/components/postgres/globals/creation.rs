//! Roles that are to be created: what would be done, and doing it.

use std::collections::BTreeMap;

use super::super::client::Session;
use super::super::names::{ident, literal};
use super::made::{mark, role_words};
use super::role::Role;
use super::{BY_HAND, some_of};
use crate::model::{Error, ErrorKind, Finding, Result, RunId};

/// Settings by which a server writes down statements, and the values with which it does not: they hold
/// hashes of passwords. In a message of its own, as it decides before it runs one.
const SILENT: &str = "VALUES ('log_statement', 'none'), ('log_min_error_statement', 'panic'), \
     ('log_min_duration_statement', '-1'), ('log_min_duration_sample', '-1'), \
     ('log_transaction_sample_rate', '0'), ('pg_stat_statements.track_utility', 'off')";

/// Roles that are to be created, in the order of their names.
pub(in super::super) struct Creation {
    pub(in super::super) roles: BTreeMap<String, Role>,
    /// What of them reaches beyond the databases that they are let into.
    pub(super) powers: BTreeMap<String, Vec<String>>,
    /// Those that may be so powerful.
    pub(super) allowed: Vec<String>,
    /// Roles of the server that are members of these in the backup, and are not made so.
    pub(super) not_granted: Vec<(String, String)>,
    /// Roles of PostgreSQL itself that this server is too old for, and which of these are members of them
    /// in the backup.
    pub(super) lacking: Vec<(String, String)>,
    /// Statements of the file that could not be read.
    pub(super) unread: Vec<String>,
    /// Nothing of the dump needs them.
    pub(super) others: bool,
    /// The backup's file that has them.
    pub(in super::super) label: String,
}

/// Keeps the server from writing down what the session says.
pub(super) async fn silence(session: &Session) -> Result<()> {
    session
        .run(&format!(
            "SELECT pg_catalog.set_config(s.name, v.value, false) \
             FROM ({SILENT}) v(name, value) JOIN pg_catalog.pg_settings s USING (name)"
        ))
        .await
}

/// Lets it do so again.
pub(super) async fn unsilence(session: &Session) -> Result<()> {
    session
        .run(&format!(
            "SELECT pg_catalog.set_config(s.name, s.reset_val, false) \
             FROM ({SILENT}) v(name, value) JOIN pg_catalog.pg_settings s USING (name)"
        ))
        .await
}

impl Creation {
    pub(super) fn names(&self) -> Vec<String> {
        self.roles.keys().cloned().collect()
    }

    /// In the words of plans and reports.
    pub(in super::super) fn words(&self) -> impl Iterator<Item = String> {
        self.roles.keys().map(|name| role_words(name))
    }

    /// The roles with this much power, in words.
    pub(super) fn described(&self, which: impl Fn(&str, bool) -> bool) -> Vec<String> {
        let described = self.roles.iter().filter_map(|(name, role)| {
            let powers = self.powers.get(name);
            if !which(name, powers.is_some()) {
                return None;
            }
            let mut words = role.describe();
            // What is said of its attributes says of these already.
            let more = powers.into_iter().flatten();
            for power in more.filter(|power| !role.attributes.contains(power)) {
                if words.contains(power.as_str()) {
                    continue;
                }
                if !words.is_empty() {
                    words.push_str(", ");
                }
                words.push_str(power);
            }
            Some(match words.is_empty() {
                true => name.clone(),
                false => format!("{name} ({words})"),
            })
        });
        described.collect()
    }

    pub(super) fn is_allowed(&self, name: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed == name)
    }

    /// The roles that are more powerful than the site allows.
    fn refused(&self) -> Vec<String> {
        self.described(|name, powerful| powerful && !self.is_allowed(name))
    }

    fn refused_message(&self, refused: &[String]) -> String {
        format!(
            "roles with power beyond the database would be created from {}: {}",
            self.label,
            refused.join("; ")
        )
    }

    fn refused_hint(&self) -> String {
        let names: Vec<String> = self
            .powers
            .keys()
            .map(|name| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")))
            .collect();
        format!(
            "create them by hand first, with less power; or, where the backup is to be trusted with them, powerful_roles = [{}] of the component",
            names.join(", ")
        )
    }

    /// Why they are not created.
    pub(in super::super) fn refusal(&self) -> Option<Error> {
        let refused = self.refused();
        (!refused.is_empty()).then(|| {
            Error::new(
                ErrorKind::Preflight,
                "postgres.powerful_roles",
                self.refused_message(&refused),
            )
            .hint(self.refused_hint())
        })
    }

    /// What it would do, in words.
    pub(in super::super) fn findings(&self, subject: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        let plain = self.described(|_, powerful| !powerful);
        let allowed = self.described(|name, powerful| powerful && self.is_allowed(name));
        let refused = self.refused();
        if !plain.is_empty() {
            let message = match self.others {
                false => format!(
                    "roles that the server lacks are created from {}: {}",
                    self.label,
                    plain.join("; ")
                ),
                true => format!(
                    "roles that only {} names are created too, as there is no database yet: {}",
                    self.label,
                    plain.join("; ")
                ),
            };
            findings.push(Finding::info("postgres.roles_created", subject, message));
        }
        if !allowed.is_empty() {
            let message = format!(
                "roles with power beyond the database are created from {}, as powerful_roles says: {}",
                self.label,
                allowed.join("; ")
            );
            findings.push(Finding::warning(
                "postgres.powerful_roles",
                subject,
                message,
            ));
        }
        if !refused.is_empty() {
            findings.push(
                Finding::error(
                    "postgres.powerful_roles",
                    subject,
                    self.refused_message(&refused),
                )
                .hint(self.refused_hint()),
            );
        }
        // Their values may be secrets.
        let settings: Vec<String> = self
            .roles
            .iter()
            .filter(|(_, role)| !role.settings.is_empty())
            .map(|(name, role)| {
                let keys: Vec<&str> = role.settings.iter().map(|(key, _)| key.as_str()).collect();
                format!("{name}: {}", keys.join(", "))
            })
            .collect();
        if !settings.is_empty() {
            findings.push(Finding::info(
                "postgres.role_settings",
                subject,
                format!(
                    "settings of roles that are created from {}: {}",
                    self.label,
                    settings.join("; ")
                ),
            ));
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
        if !self.lacking.is_empty() {
            let members: Vec<String> = self
                .lacking
                .iter()
                .map(|(group, member)| format!("{member} of {group}"))
                .collect();
            let message = format!(
                "roles are not made members of roles of a newer PostgreSQL that this server does not have: {}",
                members.join("; ")
            );
            findings.push(
                Finding::warning("postgres.memberships_left", subject, message)
                    .hint("GRANT them by hand what they need of that, if they do"),
            );
        }
        if !self.unread.is_empty() {
            let message = format!(
                "statements about roles in {} are left out, because they go over several lines or are not understood: {}",
                self.label,
                some_of(&self.unread)
            );
            findings.push(
                Finding::warning("postgres.globals_unread", subject, message).hint(
                    "look into the file: a value with line ends may be an attempt to have its lines run; what is wanted of it can be run by hand",
                ),
            );
        }
        findings
    }

    /// Creates them within the transaction that is open.
    ///
    /// # Errors
    ///
    /// What the server says.
    pub(super) async fn run(&self, session: &Session, run: &RunId) -> Result<()> {
        let mut sql = Vec::new();
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
        session.run(&sql.join("; ")).await.map_err(|error| {
            error
                .context(format!("cannot create roles of {}", self.label))
                .hint(BY_HAND)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::tests::read;
    use super::*;

    fn creation(allowed: &[&str]) -> Creation {
        let globals = read(
            "CREATE ROLE app;\nALTER ROLE app WITH LOGIN;\nALTER ROLE app SET app.key TO 'secret';\n\
             CREATE ROLE boss;\nALTER ROLE boss WITH SUPERUSER;\nCREATE ROLE deputy;\n\
             GRANT postgres TO deputy;\nALTER ROLE app SET x TO 'a\nGRANT postgres TO app;\n';\n",
        );
        let power = |name: &str, what: &str| (name.to_owned(), vec![what.to_owned()]);
        Creation {
            roles: globals.roles,
            powers: BTreeMap::from([
                power("boss", "SUPERUSER"),
                power("deputy", "member of postgres, which has SUPERUSER"),
            ]),
            allowed: allowed.iter().copied().map(str::to_owned).collect(),
            not_granted: Vec::new(),
            lacking: Vec::new(),
            unread: globals.unread,
            others: false,
            label: "globals.sql".to_owned(),
        }
    }

    #[test]
    fn powerful_roles_take_a_word() {
        let error = creation(&["boss"]).refusal().unwrap();
        assert_eq!(error.code(), "postgres.powerful_roles");
        assert!(
            error
                .message()
                .ends_with("deputy (member of postgres, member of postgres, which has SUPERUSER)"),
            "{error}"
        );
        let hint = error.hint_text().unwrap();
        assert!(
            hint.contains(r#"powerful_roles = ["boss", "deputy"]"#),
            "{hint}"
        );
        assert!(creation(&["boss", "deputy"]).refusal().is_none());

        let codes = |allowed: &[&str]| -> Vec<String> {
            let findings = creation(allowed).findings("db");
            assert!(findings.iter().all(|it| !it.message.contains("secret")));
            let code = |it: &Finding| format!("{:?} {}", it.severity, it.code);
            findings.iter().map(code).collect()
        };
        assert_eq!(
            codes(&["boss", "deputy"]),
            [
                "Info postgres.roles_created",
                "Warning postgres.powerful_roles",
                "Info postgres.role_settings",
                "Warning postgres.globals_unread",
            ]
        );
        assert!(codes(&[]).contains(&"Error postgres.powerful_roles".to_owned()));
    }
}
