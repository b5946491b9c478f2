//! What a role is, read out of statements about it and written as others.

use super::super::names::{ident, literal};
use super::super::script::Token;

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

/// Those that reach beyond what a role is given in databases.
const STRONG: [&str; 4] = ["SUPERUSER", "CREATEROLE", "REPLICATION", "BYPASSRLS"];

/// What a role is.
#[derive(Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Role {
    /// The file makes it, and does not only name it.
    pub(super) made: bool,
    pub(super) attributes: Vec<String>,
    connection_limit: Option<i64>,
    /// A hash of it; it reaches the server and nothing else.
    password: Option<String>,
    valid_until: Option<String>,
    /// Names and values, as `SET` takes them.
    pub(super) settings: Vec<(String, String)>,
    pub(super) comment: Option<String>,
    /// Roles that it is a member of, and with which options.
    pub(super) member_of: Vec<(String, Membership)>,
}

/// With what options a role is a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) admin: bool,
    /// Servers before 16 know no other two.
    pub(super) inherit: Option<bool>,
    pub(super) set: Option<bool>,
}

impl Role {
    /// What follows `ALTER ROLE name WITH`, in place of what an earlier one said. Returns whether all
    /// of it was understood.
    pub(super) fn attributes(&mut self, tokens: &[Token]) -> bool {
        self.attributes.clear();
        self.connection_limit = None;
        self.password = None;
        self.valid_until = None;
        let mut known = true;
        let mut tokens = tokens.iter();
        while let Some(token) = tokens.next() {
            let Token::Word(word) = token else {
                known = false;
                continue;
            };
            match word.as_str() {
                "PASSWORD" => match tokens.next() {
                    Some(Token::Text(hash)) => self.password = Some(hash.clone()),
                    Some(Token::Word(null)) if null == "NULL" => {}
                    _ => known = false,
                },
                "UNTIL" => match tokens.next() {
                    Some(Token::Text(time)) => self.valid_until = Some(time.clone()),
                    _ => known = false,
                },
                "LIMIT" => {
                    self.connection_limit = match tokens.next() {
                        Some(Token::Word(number)) => number.parse().ok(),
                        _ => None,
                    };
                    known &= self.connection_limit.is_some();
                }
                "VALID" | "CONNECTION" | "ENCRYPTED" => {}
                word if ATTRIBUTES.contains(&word) => self.attributes.push(word.to_owned()),
                _ => known = false,
            }
        }
        known
    }

    /// What follows `ALTER ROLE name SET`: `search_path TO 'a', 'b'`. The last value counts. Returns
    /// whether it was understood.
    pub(super) fn setting(&mut self, tokens: &[Token]) -> bool {
        let Some(to) = tokens
            .iter()
            .position(|token| *token == Token::Word("TO".to_owned()))
        else {
            return false;
        };
        let (before, after) = tokens.split_at(to);
        let parts: Vec<String> = before
            .iter()
            .filter_map(|token| name(Some(token)))
            .collect();
        let mut values: Vec<String> = Vec::new();
        for token in after.iter().skip(1) {
            match token {
                Token::Text(text) | Token::Ident(text) | Token::Word(text) => {
                    values.push(literal(text));
                }
                Token::Sign(',') => {}
                Token::Sign(_) => return false,
            }
        }
        if parts.is_empty() || values.is_empty() {
            return false;
        }
        let key = parts.join(".");
        self.settings.retain(|(known, _)| *known != key);
        self.settings.push((key, values.join(", ")));
        true
    }

    /// It is a member of this one, perhaps once more.
    pub(super) fn is_member(&mut self, group: String, how: Membership) {
        match self.member_of.iter_mut().find(|(known, _)| *known == group) {
            Some((_, known)) => known.add(how),
            None => self.member_of.push((group, how)),
        }
    }

    /// In words, without anything secret.
    pub(super) fn describe(&self) -> String {
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

    /// What it has besides its power, its password and its memberships, in words without a value.
    pub(super) fn particulars(&self) -> Vec<String> {
        let mut words: Vec<String> = self
            .settings
            .iter()
            .map(|(key, _)| format!("the setting {key}"))
            .collect();
        if self.connection_limit.is_some_and(|limit| limit >= 0) {
            words.push("CONNECTION LIMIT".to_owned());
        }
        if self.valid_until.is_some() {
            words.push("VALID UNTIL".to_owned());
        }
        if self.comment.is_some() {
            words.push("its comment".to_owned());
        }
        words
    }

    /// What of it alone reaches beyond the databases that it is let into.
    pub(super) fn powers(&self) -> Vec<String> {
        let attributes = self.attributes.iter();
        let mut powers: Vec<String> = attributes
            .filter(|it| STRONG.contains(&it.as_str()))
            .cloned()
            .collect();
        // The server loads libraries by them as soon as it signs in, or lifts limits of its own for it.
        let reaching = [
            "session_preload_libraries",
            "local_preload_libraries",
            "dynamic_library_path",
            "extension_control_path",
            "allow_system_table_mods",
            "lo_compat_privileges",
        ];
        let settings = self.settings.iter().map(|(key, _)| key);
        powers.extend(
            settings
                .filter(|key| reaching.iter().any(|it| key.eq_ignore_ascii_case(it)))
                .map(|key| format!("sets {key}")),
        );
        powers
    }

    /// The statements that make it, without its memberships.
    pub(super) fn create(&self, name: &str) -> Vec<String> {
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

/// The name that a token is.
pub(super) fn name(token: Option<&Token>) -> Option<String> {
    match token? {
        Token::Word(name) | Token::Ident(name) => Some(name.clone()),
        Token::Text(_) | Token::Sign(_) => None,
    }
}

impl Membership {
    /// What another grant of the same membership gives in addition.
    fn add(&mut self, more: Self) {
        let either = |a: Option<bool>, b: Option<bool>| match (a, b) {
            (Some(a), Some(b)) => Some(a || b),
            (a, b) => a.or(b),
        };
        self.admin |= more.admin;
        self.inherit = either(self.inherit, more.inherit);
        self.set = either(self.set, more.set);
    }

    /// The options of its GRANT, for a server of this version.
    pub(super) fn options(self, version: u32) -> String {
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
