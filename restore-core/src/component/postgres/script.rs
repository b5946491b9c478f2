//! What a dump says of itself: its SQL, as pg_dump writes it or pg_restore prints it, read for
//! the comments that stand before each object, and for roles, extensions and tablespaces.

use std::collections::{BTreeMap, BTreeSet};

use super::lines::Lines;
use super::quoting::Quoting;

/// One object of a dump or of a database: kind, schema, name. Functions are named without their
/// arguments, so that several may have the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Object {
    pub(super) kind: String,
    pub(super) schema: String,
    pub(super) name: String,
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.kind.to_lowercase();
        if self.schema == "-" {
            write!(f, "{kind} {}", self.name)
        } else {
            write!(f, "{kind} {}.{}", self.schema, self.name)
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    /// How often each object occurs.
    pub(super) objects: BTreeMap<Object, u32>,
    /// Roles that own something, or are granted something.
    pub(super) roles: BTreeSet<String>,
    /// Of these, the owners.
    pub(super) owners: BTreeSet<String>,
    pub(super) extensions: BTreeSet<String>,
    pub(super) tablespaces: BTreeSet<String>,
    /// "15.4", of the server that was dumped.
    pub(super) server: Option<String>,
    /// The options of its `CREATE DATABASE`, where it has one.
    pub(super) create: Vec<(String, String)>,
    /// A command of psql's own, with its line: psql would obey it, and it can reach the live
    /// database and this host.
    pub(super) command: Option<(String, u64)>,
    /// Its last line is the one that pg_dump writes when everything is written.
    pub(super) complete: bool,
}

impl Script {
    /// How many objects of each kind, for people.
    pub(super) fn kinds(&self) -> BTreeMap<&str, u32> {
        let mut kinds = BTreeMap::new();
        for (object, count) in &self.objects {
            *kinds.entry(object.kind.as_str()).or_default() += count;
        }
        kinds
    }

    /// The major version of the server that was dumped.
    pub(super) fn server_major(&self) -> Option<u32> {
        major(self.server.as_deref()?)
    }
}

/// The major version in "15.4 (Debian …)" or "9.6.24" (which counts as 9).
pub(super) fn major(version: &str) -> Option<u32> {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Reads a script as it comes.
#[derive(Debug, Default)]
pub(super) struct ScriptReader {
    script: Script,
    lines: Lines,
    quoting: Quoting,
    /// How the line that is being read began: whether it could be a comment or a statement.
    began: Began,
    number: u64,
    /// The kind of the object whose statements are being read.
    kind: String,
    name: String,
    in_copy: bool,
    /// The script is not in UTF-8, so only names in ASCII could be read.
    other_encoding: bool,
}

/// What a line is, by what stands before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Began {
    /// It begins a statement, or is a comment between two.
    #[default]
    Statement,
    /// It goes on with a statement.
    Sql,
    /// It is part of a text, a function's body or a longer comment.
    Text,
}

impl ScriptReader {
    /// Takes the next bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (head, rest) = bytes.split_at(end);
            self.part(head);
            self.end_line();
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.part(bytes);
    }

    /// Part of a line.
    fn part(&mut self, bytes: &[u8]) {
        self.lines.keep(bytes);
        if !self.in_copy {
            self.quoting.feed(bytes);
        }
    }

    fn end_line(&mut self) {
        let line = self.lines.take();
        self.number += 1;
        if self.in_copy {
            self.in_copy = line != "\\.";
            return;
        }
        let command = self.quoting.end_line();
        match (self.began, command) {
            (Began::Statement, Some(_)) if is_restriction(&line) => {
                // pg_dump's own: psql then refuses every other command.
                self.script.complete &= line.starts_with("\\unrestrict");
            }
            (_, Some(command)) => {
                self.script.command.get_or_insert((command, self.number));
                self.script.complete = false;
            }
            (Began::Text, None) => self.script.complete = false,
            (Began::Statement | Began::Sql, None) => self.line(&line),
        }
        self.began = if self.quoting.at_statement() {
            Began::Statement
        } else if self.quoting.outside() {
            Began::Sql
        } else {
            Began::Text
        };
    }

    /// Takes one line that is neither data nor text.
    fn line(&mut self, line: &str) {
        if line.is_empty() {
            return;
        }
        if let Some(comment) = line.strip_prefix("--") {
            self.comment(comment.trim());
            return;
        }
        self.script.complete = false;
        if self.began == Began::Statement
            && line.starts_with("COPY ")
            && line.ends_with("FROM stdin;")
        {
            self.in_copy = true;
            return;
        }
        self.statement(line);
    }

    /// What was found in all of it.
    pub(super) fn finish(mut self) -> Script {
        if !self.lines.is_empty() {
            self.end_line();
        }
        let mut script = self.script;
        if self.other_encoding {
            script
                .objects
                .retain(|object, _| object.name.is_ascii() && object.schema.is_ascii());
            for names in [
                &mut script.roles,
                &mut script.owners,
                &mut script.extensions,
                &mut script.tablespaces,
            ] {
                names.retain(|name| name.is_ascii());
            }
        }
        script
    }

    fn comment(&mut self, comment: &str) {
        if comment == "PostgreSQL database dump complete" {
            self.script.complete = true;
        } else if let Some(version) = comment.strip_prefix("Dumped from database version ") {
            self.script.server = Some(version.to_owned());
        } else if let Some(rest) = comment.strip_prefix("Name: ") {
            self.object(rest);
        } else if let Some((_, rest)) = comment
            .starts_with("Data for Name: ")
            .then(|| comment.split_once("; Type: "))
            .flatten()
        {
            rest.split(';')
                .next()
                .unwrap_or_default()
                .clone_into(&mut self.kind);
        }
    }

    /// `users; Type: TABLE; Schema: public; Owner: app; Tablespace: fast`, read from its end
    /// because names may hold anything.
    fn object(&mut self, text: &str) {
        let Some((text, owner)) = text.rsplit_once("; Owner:") else {
            return;
        };
        let Some((text, schema)) = text.rsplit_once("; Schema: ") else {
            return;
        };
        let Some((name, kind)) = text.rsplit_once("; Type: ") else {
            return;
        };
        kind.clone_into(&mut self.kind);
        name.clone_into(&mut self.name);
        let owner = match owner.trim().rsplit_once("; Tablespace: ") {
            Some((owner, tablespace)) => {
                self.tablespace(tablespace);
                owner
            }
            None => owner.trim(),
        };
        let of_database = kind.starts_with("DATABASE") || self.is_database_acl();
        if !owner.is_empty() && owner != "-" && !of_database {
            self.script.owners.insert(owner.to_owned());
            self.script.roles.insert(owner.to_owned());
        }
        if kind == "EXTENSION" {
            self.script.extensions.insert(name.to_owned());
        }
        let name = match kind {
            "FUNCTION" | "PROCEDURE" | "AGGREGATE" => name.split('(').next().unwrap_or(name),
            _ => name,
        };
        *self
            .script
            .objects
            .entry(Object {
                kind: kind.to_owned(),
                schema: schema.to_owned(),
                name: name.to_owned(),
            })
            .or_default() += 1;
    }

    /// Privileges on the database itself are the live database's, not the dump's.
    fn is_database_acl(&self) -> bool {
        self.kind == "ACL" && self.name.starts_with("DATABASE ")
    }

    fn tablespace(&mut self, name: &str) {
        if !name.is_empty() && name != "pg_default" && name != "pg_global" {
            self.script.tablespaces.insert(name.to_owned());
        }
    }

    fn statement(&mut self, line: &str) {
        if line.contains("standard_conforming_strings") {
            self.standard_strings(line);
        } else if let Some(value) = line.strip_prefix("SET client_encoding = ") {
            let value = value.trim_end_matches(';').trim_matches('\'');
            self.other_encoding = value != "UTF8";
        } else if let Some(value) = line.strip_prefix("SET default_tablespace = ") {
            if let Some(Token::Ident(name) | Token::Text(name) | Token::Word(name)) =
                tokens(value).into_iter().next()
            {
                self.tablespace(&name);
            }
        } else if self.kind == "DATABASE" && line.starts_with("CREATE DATABASE ") {
            self.create(line);
        } else if matches!(
            self.kind.as_str(),
            "ACL" | "DEFAULT ACL" | "POLICY" | "USER MAPPING"
        ) && !self.is_database_acl()
        {
            self.grantees(line);
        }
    }

    /// What is a text from here on, and so where a command of psql's could hide, depends on this
    /// setting: only pg_dump's own two lines are understood.
    fn standard_strings(&mut self, line: &str) {
        match line {
            "SET standard_conforming_strings = on;" => self.quoting.set_standard_strings(true),
            "SET standard_conforming_strings = off;" => self.quoting.set_standard_strings(false),
            _ => {
                let what = "SET standard_conforming_strings".to_owned();
                self.script.command.get_or_insert((what, self.number));
            }
        }
    }

    /// Roles after TO, FROM, FOR ROLE, FOR, and after SESSION AUTHORIZATION. Keywords are in
    /// capitals and names that are not lower case are quoted, so a word alone tells.
    fn grantees(&mut self, line: &str) {
        let tokens = tokens(line);
        let word = |at: usize, text: &str| matches!(tokens.get(at), Some(Token::Word(word)) if word == text);
        for at in 0..tokens.len() {
            let lists = word(at, "TO")
                || word(at, "FROM")
                || word(at, "ROLE")
                || word(at, "AUTHORIZATION")
                || (self.kind == "USER MAPPING" && word(at, "FOR"));
            if !lists {
                continue;
            }
            let mut next = at + 1;
            while let Some(Token::Word(name) | Token::Ident(name)) = tokens.get(next) {
                let keyword = matches!(tokens.get(next), Some(Token::Word(word))
                    if word.chars().any(char::is_uppercase));
                if !keyword && name != "public" {
                    self.script.roles.insert(name.clone());
                }
                if tokens.get(next + 1) != Some(&Token::Sign(',')) {
                    break;
                }
                next += 2;
            }
        }
    }

    fn create(&mut self, line: &str) {
        const KEYS: [&str; 8] = [
            "ENCODING",
            "LOCALE_PROVIDER",
            "LOCALE",
            "LC_COLLATE",
            "LC_CTYPE",
            "ICU_LOCALE",
            "ICU_RULES",
            "BUILTIN_LOCALE",
        ];
        let tokens = tokens(line);
        for three in tokens.windows(3) {
            let [Token::Word(key), Token::Sign('='), value] = three else {
                continue;
            };
            let value = match value {
                Token::Text(text) => super::names::literal(text),
                Token::Word(word) => word.clone(),
                _ => continue,
            };
            if KEYS.contains(&key.as_str()) {
                self.script.create.push((key.clone(), value));
            }
        }
    }
}

/// Whether the line is a `\restrict KEY` or `\unrestrict KEY` and nothing besides.
fn is_restriction(line: &str) -> bool {
    ["\\restrict ", "\\unrestrict "].iter().any(|command| {
        line.strip_prefix(command).is_some_and(|key| {
            !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    })
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// Letters, digits, `_`, `$`, without quotes.
    Word(String),
    /// A name in double quotes, unquoted.
    Ident(String),
    /// A text in single quotes, unquoted.
    Text(String),
    /// Anything else.
    Sign(char),
}

fn tokens(line: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' | '\'' => {
                let mut text = String::new();
                while let Some(next) = chars.next() {
                    if next != c {
                        text.push(next);
                    } else if chars.peek() == Some(&c) {
                        chars.next();
                        text.push(c);
                    } else {
                        break;
                    }
                }
                tokens.push(if c == '"' {
                    Token::Ident(text)
                } else {
                    Token::Text(text)
                });
            }
            c if c.is_alphanumeric() || c == '_' => {
                let mut word = String::from(c);
                while let Some(next) =
                    chars.next_if(|next| next.is_alphanumeric() || matches!(next, '_' | '$'))
                {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
            }
            c if c.is_whitespace() => {}
            c => tokens.push(Token::Sign(c)),
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Script {
        let mut reader = ScriptReader::default();
        reader.feed(text.as_bytes());
        reader.finish()
    }

    fn roles(script: &Script) -> Vec<&str> {
        script.roles.iter().map(String::as_str).collect()
    }

    #[test]
    fn objects_owners_and_grantees() {
        let script = read(
            "-- Dumped from database version 15.4 (Debian)\n\
             -- Name: t; Type: TABLE; Schema: public; Owner: bob; Tablespace: fast\n\
             CREATE TABLE public.t (x int);\n\
             -- Name: f(integer); Type: FUNCTION; Schema: public; Owner: bob\n\
             GRANT SELECT ON TABLE public.t TO not_a_grant;\n\
             -- Name: TABLE t; Type: ACL; Schema: public; Owner: bob\n\
             GRANT SELECT(a) ON TABLE public.\"TO\" TO \"we ird\" WITH GRANT OPTION;\n\
             REVOKE ALL ON TABLE public.t FROM PUBLIC;\n\
             -- Name: DEFAULT PRIVILEGES FOR TABLES; Type: DEFAULT ACL; Schema: s; Owner: x\n\
             ALTER DEFAULT PRIVILEGES FOR ROLE dba IN SCHEMA s GRANT SELECT ON TABLES  TO reader;\n\
             -- Name: t p; Type: POLICY; Schema: public; Owner: bob\n\
             CREATE POLICY p ON public.t FOR SELECT TO alice, carol USING (true);\n\
             -- Name: citext; Type: EXTENSION; Schema: -; Owner: -\n",
        );
        assert_eq!(
            roles(&script),
            ["alice", "bob", "carol", "dba", "reader", "we ird", "x"]
        );
        assert_eq!(script.server_major(), Some(15));
        assert!(script.tablespaces.contains("fast"));
        assert!(script.extensions.contains("citext"));
        assert_eq!(script.kinds()["FUNCTION"], 1);
    }

    #[test]
    fn copied_rows_are_data() {
        let script = read(
            "COPY public.t (x) FROM stdin;\n\
             -- Name: fake; Type: TABLE; Schema: public; Owner: nobody\n\
             \\connect live\n\
             \\.\n\
             -- PostgreSQL database dump complete\n\
             --\n\n\
             \\unrestrict abc\n",
        );
        assert!(script.objects.is_empty() && script.roles.is_empty());
        assert_eq!(script.command, None);
        assert!(script.complete);
    }

    #[test]
    fn names_in_another_encoding_are_left_out() {
        let script = read(
            "SET client_encoding = 'LATIN1';\n\
             -- Name: \u{e9}; Type: TABLE; Schema: public; Owner: app\n\
             -- Name: e; Type: TABLE; Schema: public; Owner: \u{e9}\n",
        );
        assert_eq!(script.objects.len(), 1);
        assert_eq!(roles(&script), ["app"]);
    }

    #[test]
    fn a_cut_script_is_not_complete() {
        assert!(!read("-- PostgreSQL database dump\nCREATE TABLE t (x int);\n").complete);
        assert!(!read("-- PostgreSQL database dump complete\nCREATE TABLE t (x int);").complete);
    }

    #[test]
    fn commands_of_psql_are_noticed_with_their_line() {
        let command = |text: &str| read(text).command;
        let found = |name: &str, line| Some((name.to_owned(), line));
        assert_eq!(command("\\connect live\n"), found("\\connect", 1));
        assert_eq!(command("SELECT 1;\n \t\\! true\n\\i x\n"), found("\\!", 2));
        assert_eq!(command("SELECT 1 \\gexec"), found("\\gexec", 1));
        assert_eq!(command("\\restrict aB1\n\\unrestrict aB1\n"), None);
        assert_eq!(command("\\restrict a \\! b\n"), found("\\restrict", 1));
        assert_eq!(
            command("SET standard_conforming_strings TO 'off';\n"),
            found("SET standard_conforming_strings", 1)
        );
        assert_eq!(
            command("SET standard_conforming_strings = off;\nSELECT 'a\\' \\! b';\n"),
            None
        );
    }

    #[test]
    fn what_looks_like_copy_in_a_function_is_text() {
        let script = read(
            "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$\n\
             COPY t FROM stdin;\n\
             -- Name: fake; Type: TABLE; Schema: public; Owner: nobody\n\
             $$;\n\
             \\! true\n",
        );
        assert!(script.objects.is_empty());
        assert_eq!(script.command, Some(("\\!".to_owned(), 5)));
    }

    #[test]
    fn lines_longer_than_what_is_kept_are_followed_to_their_end() {
        let long = "x".repeat(100 * 1024);
        let hidden = format!("INSERT INTO t VALUES ('{long}'); \\! true\n");
        assert_eq!(read(&hidden).command, Some(("\\!".to_owned(), 1)));
        let text = format!("INSERT INTO t VALUES ('{long}\\! true');\n");
        assert_eq!(read(&text).command, None);
    }

    #[test]
    fn options_of_the_database() {
        let script = read(
            "-- Name: a; Type: DATABASE; Schema: -; Owner: postgres\n\
             CREATE DATABASE a WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'C.UTF-8';\n",
        );
        let expected = [
            ("ENCODING", "'UTF8'"),
            ("LOCALE_PROVIDER", "libc"),
            ("LOCALE", "'C.UTF-8'"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(script.create, expected);
        assert!(script.roles.is_empty(), "the database's owner is ours");
    }
}
