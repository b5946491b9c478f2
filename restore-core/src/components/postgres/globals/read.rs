//! Reads the roles out of what pg_dumpall writes, line by line: only statements that are whole on one
//! line. A value may hold lines that look like statements, and whoever may sign in can set one.

use std::collections::BTreeMap;

use super::super::script::{Lines, Quoting, Token, tokens};
use super::role::{Membership, Role, name};
use crate::model::{Error, ErrorKind, Result};

/// So much text about roles is read: a hundred thousand of them need less.
const MOST: u64 = 64 << 20;

/// How many statements that are not understood are named.
const NAMED: usize = 1000;

/// Encodings in which a byte of a letter may look like a backslash.
const UNSAFE: [&str; 8] = [
    "BIG5",
    "GBK",
    "GB18030",
    "JOHAB",
    "SJIS",
    "SHIFT_JIS_2004",
    "SJIS2004",
    "UHC",
];

/// All roles of a backup.
#[derive(Default)]
pub(in super::super) struct Globals {
    pub(super) roles: BTreeMap<String, Role>,
    /// Statements about roles that are not understood, and so left out: by their beginnings, which
    /// hold no values.
    pub(super) unread: Vec<String>,
}

/// Reads them as the file comes.
pub(super) struct GlobalsReader {
    found: Globals,
    lines: Lines,
    quoting: Quoting,
    /// The line that is being read begins a statement, or is a comment between two.
    at_statement: bool,
    /// What follows is of a database, or not read.
    ended: bool,
    read: u64,
    number: u64,
    /// Strings have escapes without saying so.
    escapes: bool,
    /// The file is not in UTF-8.
    other_encoding: bool,
    /// What makes it impossible to tell what is a value, and in which line.
    odd: Option<(String, u64)>,
}

impl Default for GlobalsReader {
    fn default() -> Self {
        Self {
            found: Globals::default(),
            lines: Lines::default(),
            quoting: Quoting::default(),
            at_statement: true,
            ended: false,
            read: 0,
            number: 0,
            escapes: false,
            other_encoding: false,
            odd: None,
        }
    }
}

impl GlobalsReader {
    /// Takes the next bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !self.ended {
            self.read += bytes.len() as u64;
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                break;
            };
            let (line, rest) = bytes.split_at(end);
            self.part(line);
            self.end_line();
            bytes = rest.get(1..).unwrap_or_default();
            self.read -= bytes.len() as u64;
        }
        if self.ended {
            return;
        }
        self.part(bytes);
        if self.read > MOST {
            self.ended = true;
            self.found
                .leave_out("what follows its first 64 MiB".to_owned());
        }
    }

    fn part(&mut self, bytes: &[u8]) {
        self.lines.keep(bytes);
        self.quoting.feed(bytes);
    }

    /// What was found.
    ///
    /// # Errors
    ///
    /// `postgres.globals_odd` where values could not be told from statements.
    pub(super) fn finish(mut self, label: &str) -> Result<Globals> {
        if !self.ended && !self.lines.is_empty() {
            self.end_line();
        }
        match self.odd {
            None => Ok(self.found),
            Some((what, line)) => Err(Error::new(
                ErrorKind::Verification,
                "postgres.globals_odd",
                format!(
                    "{label} has {what} in line {line}: what is a statement about roles there, and what a value, cannot be told"
                ),
            )
            .hint("let pg_dumpall write it in UTF-8, and add nothing to it; or create the roles by hand, and set roles = \"keep\"")),
        }
    }

    fn end_line(&mut self) {
        const KNOWN: [&str; 4] = ["CREATE ROLE ", "ALTER ROLE ", "GRANT ", "COMMENT ON ROLE "];
        let is_cut = self.lines.is_cut();
        let line = self.lines.take();
        let line = line.trim_end();
        let begins = self.at_statement;
        let command = self.quoting.end_line();
        self.at_statement = self.quoting.at_statement();
        self.number += 1;
        if let Some(what) = self.quoting.lost() {
            self.refuse(what);
        }
        if !begins {
            return;
        }
        let connects = command.is_some() && line.starts_with("\\connect ");
        if connects || line == "-- PostgreSQL database dump" {
            self.ended = true;
        } else if let Some(value) = line.strip_prefix("SET client_encoding = ") {
            let value = value.trim_matches([';', '\'', ' ']).to_ascii_uppercase();
            self.other_encoding = value != "UTF8";
            if UNSAFE.contains(&value.as_str()) {
                self.refuse(&format!("SET client_encoding = {value}"));
            }
        } else if line.contains("standard_conforming_strings") && line.starts_with("SET ") {
            match line {
                "SET standard_conforming_strings = on;" => self.strings(true),
                "SET standard_conforming_strings = off;" => self.strings(false),
                _ => self.refuse("SET standard_conforming_strings"),
            }
        } else if KNOWN.iter().any(|start| line.starts_with(start)) {
            // pg_dumpall says E where it writes a backslash.
            let unclear = is_cut
                || line.contains('\u{fffd}')
                || (self.other_encoding && !line.is_ascii())
                || (self.escapes && line.contains('\\'));
            let tokens = tokens(line);
            let whole = !unclear && command.is_none() && self.at_statement;
            if !(whole && self.found.statement(&tokens)) {
                self.found.leave_out(beginning(&tokens));
            }
        }
    }

    fn strings(&mut self, standard: bool) {
        self.escapes = !standard;
        self.quoting.set_standard_strings(standard);
    }

    fn refuse(&mut self, what: &str) {
        self.ended = true;
        self.odd.get_or_insert((what.to_owned(), self.number));
    }
}

impl Globals {
    fn leave_out(&mut self, what: String) {
        if self.unread.len() < NAMED && !self.unread.contains(&what) {
            self.unread.push(what);
        }
    }

    /// Takes a statement that is whole; returns whether all of it was understood.
    fn statement(&mut self, tokens: &[Token]) -> bool {
        let Some((Token::Sign(';'), tokens)) = tokens.split_last() else {
            return false;
        };
        // Nothing else has a place outside of quotes: neither a second statement nor a comment.
        let plain =
            |token: &Token| !matches!(token, Token::Sign(sign) if !matches!(sign, ',' | '.'));
        if !tokens.iter().all(plain) {
            return false;
        }
        let word = |at: usize, text: &str| matches!(tokens.get(at), Some(Token::Word(word)) if word == text);
        if word(0, "CREATE") {
            let Some(name) = name(tokens.get(2)) else {
                return false;
            };
            self.roles.entry(name).or_default().made = true;
            return tokens.len() == 3;
        }
        if word(0, "COMMENT") {
            let role = name(tokens.get(3)).and_then(|name| self.roles.get_mut(&name));
            return match (role, tokens.get(4..)) {
                (Some(role), Some([_, Token::Text(text)])) => {
                    role.comment = Some(text.clone());
                    true
                }
                _ => false,
            };
        }
        if word(0, "GRANT") {
            return self.membership(tokens);
        }
        let Some(role) = name(tokens.get(2)).and_then(|name| self.roles.get_mut(&name)) else {
            return false;
        };
        let rest = tokens.get(4..).unwrap_or_default();
        if word(3, "WITH") {
            role.attributes(rest)
        } else {
            word(3, "SET") && role.setting(rest)
        }
    }

    /// `GRANT group TO member WITH ADMIN OPTION, INHERIT FALSE GRANTED BY somebody`.
    fn membership(&mut self, tokens: &[Token]) -> bool {
        let word = |at: usize, text: &str| matches!(tokens.get(at), Some(Token::Word(word)) if word == text);
        let (Some(group), true, Some(member)) =
            (name(tokens.get(1)), word(2, "TO"), name(tokens.get(3)))
        else {
            return false;
        };
        let mut how = Membership::default();
        let mut known = true;
        for at in 4..tokens.len() {
            let on = !word(at + 1, "FALSE");
            match tokens.get(at) {
                Some(Token::Word(word)) => match word.as_str() {
                    "ADMIN" => how.admin = on,
                    "INHERIT" => how.inherit = Some(on),
                    "SET" => how.set = Some(on),
                    "GRANTED" => break,
                    "WITH" | "OPTION" | "TRUE" | "FALSE" => {}
                    _ => known = false,
                },
                Some(Token::Sign(',')) => {}
                _ => known = false,
            }
        }
        if known {
            // Of a role that is not of this file: whether it is on the server is seen later.
            let role = self.roles.entry(member).or_default();
            role.is_member(group, how);
        }
        known
    }
}

/// How a statement begins, without its values.
fn beginning(tokens: &[Token]) -> String {
    let mut words = Vec::new();
    for token in tokens.iter().take(5) {
        match token {
            Token::Word(word) if matches!(word.as_str(), "WITH" | "IS" | "PASSWORD") => break,
            Token::Word(word) if word == "TO" && words.len() > 2 => break,
            Token::Word(word) | Token::Ident(word) => {
                words.push(word.chars().take(63).collect::<String>());
            }
            Token::Text(_) | Token::Sign(_) => break,
        }
    }
    words.join(" ")
}

/// For `fuzz/`: in whatever pieces the bytes come, they say the same.
#[cfg(feature = "fuzzing")]
pub(in super::super) fn fuzz(bytes: &[u8]) {
    let read = |size: usize| {
        let mut reader = GlobalsReader::default();
        for piece in bytes.chunks(size) {
            reader.feed(piece);
        }
        reader.finish("it")
    };
    match (read(bytes.len().max(1)), read(7)) {
        (Ok(whole), Ok(pieces)) => {
            assert!(whole.roles == pieces.roles && whole.unread == pieces.unread);
            for (name, role) in &whole.roles {
                let _ = (role.create(name), role.describe());
            }
        }
        (whole, pieces) => assert!(whole.is_err() && pieces.is_err()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn read(text: &str) -> Globals {
        let read = |size: usize| {
            let mut reader = GlobalsReader::default();
            for piece in text.as_bytes().chunks(size) {
                reader.feed(piece);
            }
            reader.finish("globals.sql").unwrap()
        };
        let (whole, pieces) = (read(text.len().max(1)), read(3));
        assert!(whole.roles == pieces.roles && whole.unread == pieces.unread);
        whole
    }

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
        let globals = read(TEXT);
        assert!(!globals.roles.contains_key("evil"), "of another part");
        assert_eq!(globals.unread, ["ALTER ROLE app"], "two statements");
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
        assert_eq!(globals.roles["we ird"].powers(), ["SUPERUSER"]);
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

    #[test]
    fn lines_of_a_value_are_no_statements() {
        for injected in [
            "GRANT postgres TO me;",
            "ALTER ROLE dba WITH SUPERUSER;",
            "ALTER ROLE dba WITH PASSWORD 'x';",
            "ALTER ROLE dba SET session_preload_libraries TO 'x';",
            "CREATE ROLE evil;",
            "COMMENT ON ROLE dba IS 'x';",
            "\\connect shop",
            "-- PostgreSQL database dump",
            "SET standard_conforming_strings = off;",
        ] {
            // A quote in the value is written twice.
            let value = injected.replace('\'', "''");
            for quoted in [
                format!("ALTER ROLE me SET search_path TO 'public\n{value}\nx';"),
                format!("ALTER ROLE me SET search_path TO E'public \\\\\n{value}\nx';"),
                format!("COMMENT ON ROLE me IS 'a\n{value}\n';"),
                format!("ALTER ROLE me WITH LOGIN PASSWORD 'a\n{value}\n' VALID UNTIL 'x';"),
            ] {
                let text = format!(
                    "CREATE ROLE dba;\nALTER ROLE dba WITH LOGIN;\nCREATE ROLE me;\n{quoted}\n\
                     CREATE ROLE later;\nALTER ROLE later WITH LOGIN;\n"
                );
                let globals = read(&text);
                let roles: Vec<&str> = globals.roles.keys().map(String::as_str).collect();
                assert_eq!(roles, ["dba", "later", "me"], "{quoted}");
                let dba = &globals.roles["dba"];
                assert_eq!(dba.describe(), "LOGIN, without a password", "{quoted}");
                assert!(dba.settings.is_empty() && dba.comment.is_none());
                assert!(globals.roles["me"].member_of.is_empty(), "{quoted}");
                assert!(globals.roles["me"].attributes.is_empty(), "{quoted}");
                assert_eq!(globals.unread.len(), 1, "{quoted}");
                let told = &globals.unread[0];
                assert!(quoted.starts_with(told) && told.contains(" me"), "{told}");
            }
        }
    }

    #[test]
    fn backslashes_are_read_and_what_is_repeated_counts_once() {
        let text = "CREATE ROLE app;\nALTER ROLE app WITH SUPERUSER LOGIN CONNECTION LIMIT 3;\n\
            ALTER ROLE app SET app.motto TO E'it''s a \\\\ day', '2';\n\
            COMMENT ON ROLE app IS E'a \\\\ b';\nGRANT a TO app WITH INHERIT FALSE;\n\
            ALTER ROLE app SET x TO E'\\x41';\n";
        let twice = format!("{text}{}", text.replace("SUPERUSER", "NOSUPERUSER"));
        let globals = read(&twice);
        let app = &globals.roles["app"];
        assert_eq!(
            app.create("app"),
            [
                "CREATE ROLE \"app\" WITH NOSUPERUSER LOGIN CONNECTION LIMIT 3",
                "ALTER ROLE \"app\" SET \"app\".\"motto\" TO E'it''s a \\\\ day', '2'",
            ]
        );
        assert_eq!(app.comment.as_deref(), Some("a \\ b"));
        assert_eq!(app.member_of.len(), 1);
        assert_eq!(globals.unread, ["ALTER ROLE app SET x"]);
    }

    #[test]
    fn what_is_not_understood_is_named_without_its_values() {
        let text = "CREATE ROLE app;\nCREATE ROLE b NOLOGIN;\nALTER ROLE app WITH SPECIAL PASSWORD 'x';\n\
            ALTER ROLE app IN DATABASE d SET a TO 'b';\nGRANT a, b TO app;\n\
            GRANT postgres TO app /* x */;\nALTER ROLE nobody SET a TO 'secret';\n";
        assert_eq!(
            read(text).unread,
            [
                "CREATE ROLE b NOLOGIN",
                "ALTER ROLE app",
                "ALTER ROLE app IN DATABASE",
                "GRANT a",
                "GRANT postgres TO app",
                "ALTER ROLE nobody SET a",
            ]
        );
        let old = "SET standard_conforming_strings = off;\nCREATE ROLE app;\n\
            ALTER ROLE app SET a TO 'x\\'; GRANT postgres TO app; --';\n";
        assert_eq!(read(old).unread, ["ALTER ROLE app SET a"]);
    }

    #[test]
    fn values_that_cannot_be_told_from_statements_are_refused() {
        for text in [
            "SET client_encoding = 'SJIS';\nCREATE ROLE app;\n".to_owned(),
            "SET standard_conforming_strings TO 'off';\nCREATE ROLE app;\n".to_owned(),
            format!("SELECT ${}$;\n", "x".repeat(70)),
        ] {
            let mut reader = GlobalsReader::default();
            reader.feed(text.as_bytes());
            let error = reader.finish("globals.sql").err().unwrap();
            assert_eq!(error.code(), "postgres.globals_odd", "{text}");
            assert!(error.message().contains("line 1"), "{error}");
        }
    }

    #[test]
    fn no_file_is_read_for_ever() {
        let mut reader = GlobalsReader {
            read: MOST,
            ..GlobalsReader::default()
        };
        reader.feed(b"CREATE ROLE app;\nCREATE");
        assert!(reader.ended);
        assert_eq!(reader.finish("x").unwrap().unread.len(), 1);
    }
}
