//! Follows a script as it comes: what is a comment, a statement, a text, data, or a command of
//! psql's own.

use std::ops::Range;

use super::lines::Lines;
use super::quoting::Quoting;
use super::sections::Section;
use super::{Script, Skip};

/// What some programs write before UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a script as it comes.
#[derive(Debug)]
pub(in super::super) struct ScriptReader {
    pub(super) script: Script,
    /// What came before the part that is being read.
    pub(super) sections: Vec<Section>,
    /// Which entries are left out.
    pub(super) skip: Skip,
    lines: Lines,
    pub(super) quoting: Quoting,
    /// How the line that is being read began: whether it could be a comment or a statement.
    began: Began,
    pub(super) number: u64,
    /// The kind of the object whose statements are being read.
    pub(super) kind: String,
    pub(super) name: String,
    /// Who grants what is read, where it is not whoever restores.
    pub(super) grantor: Option<String>,
    /// The statement that is being read is a `COPY`.
    copies: bool,
    in_copy: bool,
    /// Where the line begins that is being read, and how many bytes of it have come.
    at: u64,
    length: u64,
    /// How many bytes of a [`MARK`] have come.
    mark: usize,
    /// Where a statement began that is being read and is left out, and the setting that it makes.
    out: Option<(u64, Option<String>)>,
    /// Where an entry began that is left out.
    entry_out: Option<u64>,
    /// The database that psql would be connected to, and since where.
    pub(super) database: Option<String>,
    pub(super) since: u64,
    /// Nothing has come that makes something.
    clearing: bool,
    /// Whether there was a line that does not end with a line's return.
    plain_line: bool,
    /// The script is not in UTF-8, so only names in ASCII could be read.
    pub(super) other_encoding: bool,
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

impl Default for ScriptReader {
    fn default() -> Self {
        Self::skipping(Skip::default())
    }
}

impl ScriptReader {
    /// One that leaves entries out.
    pub(in super::super) fn skipping(skip: Skip) -> Self {
        Self {
            script: Script::default(),
            sections: Vec::new(),
            skip,
            lines: Lines::default(),
            quoting: Quoting::default(),
            began: Began::default(),
            number: 0,
            kind: String::new(),
            name: String::new(),
            grantor: None,
            copies: false,
            in_copy: false,
            at: 0,
            length: 0,
            mark: 0,
            out: None,
            entry_out: None,
            database: None,
            since: 0,
            clearing: true,
            plain_line: false,
            other_encoding: false,
        }
    }

    /// Takes the next bytes.
    pub(in super::super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (head, rest) = bytes.split_at(end);
            self.part(head);
            self.length += 1;
            self.plain_line |= !self.lines.ends_with_return();
            self.end_line();
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.part(bytes);
    }

    /// Part of a line.
    fn part(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes
            && self.at == 0
            && self.length == self.mark as u64
            && MARK.get(self.mark) == Some(first)
        {
            self.mark += 1;
            self.length += 1;
            bytes = rest;
        }
        self.lines.keep(bytes);
        self.length += bytes.len() as u64;
        if !self.in_copy {
            self.quoting.feed(bytes);
        }
    }

    fn end_line(&mut self) {
        let copied = self.lines.ends_with(b"FROM stdin;");
        let line = self.lines.take();
        let place = self.at..self.at + self.length;
        self.at = place.end;
        self.length = 0;
        self.number += 1;
        if self.number == 1 && self.mark == MARK.len() {
            self.script.left_out.push(0..self.mark as u64);
        }
        if self.number == 1 && line == "--" {
            self.script.first_line = Some(place.clone());
        }
        if self.in_copy {
            self.in_copy = line != "\\.";
            return;
        }
        let command = self.quoting.end_line();
        if self.began == Began::Statement {
            self.copies = line.starts_with("COPY ");
            self.begin_statement(&line, &place);
        }
        match (self.began, command) {
            // pg_dump's own: psql then refuses every other command.
            (Began::Statement, Some(_)) if is_restriction(&line) => self.leave_out(place.clone()),
            (Began::Statement, Some(command)) => match super::sections::connected_to(&line) {
                Some(database) => self.connect(database, place.clone()),
                None => self.command(command),
            },
            (_, Some(command)) => self.command(command),
            (Began::Text, None) => self.script.complete = false,
            (Began::Statement | Began::Sql, None) => self.line(&line, &place),
        }
        self.began = if self.quoting.at_statement() {
            if let Some((start, setting)) = self.out.take() {
                match setting {
                    Some(name) => self.script.settings.push((name, start..place.end)),
                    None => self.leave_out(start..place.end),
                }
            }
            self.in_copy = self.copies && copied;
            self.copies &= !copied;
            Began::Statement
        } else if self.quoting.outside() {
            Began::Sql
        } else {
            Began::Text
        };
    }

    fn command(&mut self, command: String) {
        self.script.command.get_or_insert((command, self.number));
        self.script.complete = false;
    }

    /// What is decided by how a statement begins.
    fn begin_statement(&mut self, line: &str, place: &Range<u64>) {
        match beyond(line) {
            Some(DATABASE_COMMENT) => self.out = Some((place.start, None)),
            Some(what) if self.kind != "DATABASE" && !self.is_left_out() => {
                self.script.beyond.get_or_insert((what, self.number));
            }
            Some(_) => {}
            None => {
                if let Some(name) = odd_setting(line) {
                    self.out = Some((place.start, Some(name)));
                } else if self.clearing && clears(line) {
                    self.out = Some((place.start, None));
                }
                self.clearing &= keeps_empty(line);
            }
        }
    }

    /// Leaves bytes out, which come after all that were left out before.
    pub(super) fn leave_out(&mut self, place: Range<u64>) {
        if self.entry_out.is_none() {
            self.script.left_out.push(place);
        }
    }

    /// The entry that begins here is left out, or not. Ends the one before.
    pub(super) fn begin_entry(&mut self, start: u64, out: bool) {
        if let Some(began) = self.entry_out.take() {
            self.script.left_out.push(began..start);
        }
        self.entry_out = out.then_some(start);
    }

    /// Whether what is read is left out.
    pub(super) fn is_left_out(&self) -> bool {
        self.entry_out.is_some() || self.out.is_some()
    }

    /// Takes one line that is neither data nor text.
    fn line(&mut self, line: &str, place: &Range<u64>) {
        if line.is_empty() {
            return;
        }
        if let Some(comment) = line.strip_prefix("--") {
            if self.began == Began::Statement {
                self.comment(comment.trim(), place);
            }
            return;
        }
        self.script.complete = false;
        let is_copy = self.began == Began::Statement
            && line.starts_with("COPY ")
            && line.ends_with("FROM stdin;");
        if is_copy {
            return;
        }
        if self.began == Began::Statement && line.starts_with("SET default_") {
            // Written before the entry that it is for.
            if let Some(began) = self.entry_out {
                self.script.left_out.push(began..place.start);
                self.entry_out = Some(place.end);
            }
        }
        self.statement(line);
    }

    /// The part that is being read has ended before `end`; the next begins at `next`.
    pub(super) fn end_section(&mut self, end: u64, next: u64) {
        self.begin_entry(end, false);
        let mut script = std::mem::take(&mut self.script);
        if self.other_encoding {
            script.forget_undecoded();
        }
        self.sections.push(Section {
            database: self.database.take(),
            place: self.since..end,
            script,
        });
        self.since = next;
        self.other_encoding = false;
        self.clearing = true;
        self.kind.clear();
        self.name.clear();
        self.grantor = None;
    }

    /// Reads what is left.
    pub(super) fn end(&mut self) {
        if !self.lines.is_empty() || self.length > 0 {
            self.end_line();
        }
        let end = self.at;
        self.end_section(end, end);
    }

    /// Whether each line ends with a line's return, as after a terminal.
    pub(super) fn has_returns(&self) -> bool {
        self.number > 1 && !self.plain_line
    }
}

const DATABASE_COMMENT: &str = "COMMENT ON DATABASE";

/// The setting that a line makes, where it is none that all servers know.
pub(in super::super) fn odd_setting(line: &str) -> Option<String> {
    const KNOWN: [&str; 14] = [
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "client_encoding",
        "standard_conforming_strings",
        "check_function_bodies",
        "xmloption",
        "client_min_messages",
        "row_security",
        "default_tablespace",
        "default_table_access_method",
        "default_with_oids",
        "default_transaction_read_only",
        "search_path",
    ];
    let rest = line.strip_prefix("SET ")?;
    let (name, _) = rest.split_once(" = ").or_else(|| rest.split_once(" TO "))?;
    let plain = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    (plain && !name.is_empty() && !KNOWN.contains(&name)).then(|| name.to_owned())
}

/// Whether a statement takes something away that a new database does not have, and would fail
/// there: what `pg_dump --clean` begins with.
fn clears(line: &str) -> bool {
    let drops = line.starts_with("DROP ") && !line.contains(" IF EXISTS ");
    let alters = line.starts_with("ALTER TABLE ")
        && !line.starts_with("ALTER TABLE IF EXISTS ")
        && [" DROP CONSTRAINT ", " DROP DEFAULT", " DISABLE ROW LEVEL "]
            .iter()
            .any(|what| line.contains(what))
        && !line.contains(" IF EXISTS ");
    let publication = line.starts_with("ALTER PUBLICATION ") && line.contains(" DROP ");
    let large_object = line.starts_with("SELECT pg_catalog.lo_unlink(");
    drops || alters || publication || large_object
}

/// Whether a database without objects has none after this statement either.
fn keeps_empty(line: &str) -> bool {
    line.is_empty()
        || line.starts_with("--")
        || line.starts_with("SET ")
        || line.starts_with("SELECT pg_catalog.set_config(")
        || line.starts_with("DROP ")
        || line.starts_with("ALTER TABLE IF EXISTS ")
        || line.starts_with('\\')
        || clears(line)
}

/// The statement that begins on this line, where it is one that pg_dump does not write for a
/// database alone, and that reaches beyond it.
fn beyond(line: &str) -> Option<&'static str> {
    const STATEMENTS: [&str; 13] = [
        DATABASE_COMMENT,
        "CREATE DATABASE",
        "ALTER DATABASE",
        "DROP DATABASE",
        "ALTER SYSTEM ",
        "CREATE ROLE ",
        "ALTER ROLE ",
        "DROP ROLE ",
        "CREATE USER ",
        "ALTER USER ",
        "DROP USER ",
        "CREATE TABLESPACE",
        "DROP TABLESPACE",
    ];
    // A user mapping is of the database.
    let words: Vec<String> = line
        .split_whitespace()
        .take(3)
        .map(str::to_ascii_uppercase)
        .collect();
    if words.get(2).is_some_and(|word| word == "MAPPING") {
        return None;
    }
    let start = format!("{} ", words.join(" "));
    STATEMENTS
        .into_iter()
        .find(|statement| start.starts_with(statement))
        .map(str::trim_end)
}

/// Whether the line is a `\restrict KEY` or `\unrestrict KEY` and nothing besides.
fn is_restriction(line: &str) -> bool {
    ["\\restrict ", "\\unrestrict "].iter().any(|command| {
        line.strip_prefix(command).is_some_and(|key| {
            !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    })
}

/// For `fuzz/`: foreign bytes, in pieces and whole.
#[cfg(feature = "fuzzing")]
pub(in super::super) fn fuzz(bytes: &[u8]) {
    let read = |size: usize| {
        let mut reader = ScriptReader::default();
        for piece in bytes.chunks(size) {
            reader.feed(piece);
        }
        let script = reader.finish();
        (
            script.command,
            script.beyond,
            script.left_out,
            script.settings,
            script.complete,
            script.properties,
        )
    };
    assert_eq!(read(bytes.len().max(1)), read(5));
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
        assert_eq!(command("\\connect live bob\n"), found("\\connect", 1));
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
    fn the_restrictions_of_pg_dump_itself_are_found() {
        let cut = |text: &str| {
            let mut left = text.to_owned();
            for range in read(text).left_out.iter().rev() {
                let range =
                    usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                left.replace_range(range, "");
            }
            left
        };
        let end = "-- PostgreSQL database dump complete\n--\n\n";
        assert_eq!(
            cut(&format!(
                "--\n\n\\restrict aB1\nSELECT 1;\n{end}\\unrestrict aB1\n\n"
            )),
            format!("--\n\nSELECT 1;\n{end}\n")
        );
        // A row that begins with a line's return is written so, and is data.
        let row = "COPY t (x) FROM stdin;\n\\restrict aB1\n\\.\n";
        assert_eq!(cut(row), row);
        // Two dumps in one file.
        let middle = "SELECT 1;\n\\restrict aB1\nSELECT 2;\n\\unrestrict aB1\nSELECT 3;\n";
        assert_eq!(cut(middle), "SELECT 1;\nSELECT 2;\nSELECT 3;\n");
        let text = "SELECT '\n\\restrict aB1\n';\n";
        assert_eq!(cut(text), text);
    }

    #[test]
    fn statements_beyond_the_database_are_noticed() {
        let found = |text: &str| read(text).beyond;
        assert_eq!(
            found("SELECT 1;\ndrop  database other;\n"),
            Some(("DROP DATABASE", 2))
        );
        assert_eq!(
            found("ALTER SYSTEM SET x = 1;\n"),
            Some(("ALTER SYSTEM", 1))
        );
        assert_eq!(found("CREATE USER bob;\n"), Some(("CREATE USER", 1)));
        for text in [
            "CREATE USER MAPPING FOR bob SERVER s;\n",
            "SELECT '\nDROP DATABASE other;\n';\n",
            "COPY t (x) FROM stdin;\nDROP DATABASE other;\n\\.\n",
            "-- DROP DATABASE other;\n",
            "CREATE ROLES;\n",
            "COMMENT ON DATABASE shop IS 'a';\n",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
        let text = "SELECT 1;\nCOMMENT ON DATABASE shop IS 'a\nb; c';\nSELECT 2;\n";
        let cut = text.find("COMMENT").unwrap() as u64..text.find("SELECT 2").unwrap() as u64;
        assert_eq!(read(text).left_out, [cut]);
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
    fn properties_of_the_database() {
        let script = read(
            "-- Name: a; Type: DATABASE; Schema: -; Owner: app\n\
             CREATE DATABASE \"a \"\"b\" WITH TEMPLATE = template0 ENCODING = 'UTF8';\n\
             ALTER DATABASE \"a \"\"b\" OWNER TO app;\n\
             \\connect -reuse-previous=on \"dbname='a'\"\n\
             -- Name: DATABASE a; Type: COMMENT; Schema: -; Owner: app\n\
             COMMENT ON DATABASE a IS 'it''s; here';\n\
             -- Name: a; Type: DATABASE PROPERTIES; Schema: -; Owner: app\n\
             ALTER DATABASE a CONNECTION LIMIT = 7;\n\
             ALTER DATABASE a SET search_path TO 's', 'public';\n\
             ALTER ROLE \"DATABASE x\" IN DATABASE a SET work_mem TO '9MB';\n\
             -- Name: DATABASE a; Type: ACL; Schema: -; Owner: app\n\
             REVOKE CONNECT,TEMPORARY ON DATABASE a FROM PUBLIC;\n\
             SET SESSION AUTHORIZATION reader;\n\
             GRANT CONNECT ON DATABASE a TO bob;\n\
             RESET SESSION AUTHORIZATION;\n\
             GRANT ALL ON DATABASE a TO x; DROP DATABASE b;\n",
        );
        let properties = script.properties;
        assert_eq!(properties.owner.as_deref(), Some("app"));
        assert_eq!(properties.comment.as_deref(), Some("it's; here"));
        let made: Vec<String> = properties
            .statements
            .iter()
            .map(|(who, before, after)| {
                format!("{}{before}N{after}", who.as_deref().unwrap_or_default())
            })
            .collect();
        assert_eq!(
            made,
            [
                "ALTER DATABASE N CONNECTION LIMIT = 7",
                "ALTER DATABASE N SET search_path TO 's', 'public'",
                "ALTER ROLE \"DATABASE x\" IN DATABASE N SET work_mem TO '9MB'",
                "REVOKE CONNECT,TEMPORARY ON DATABASE N FROM PUBLIC",
                "readerGRANT CONNECT ON DATABASE N TO bob",
            ]
        );
        assert!(properties.unread, "what is no single statement");
    }

    #[test]
    fn rows_schemas_and_drops_are_noticed() {
        let script = read(
            "-- Name: public; Type: SCHEMA; Schema: -; Owner: app\n\
             CREATE SCHEMA public;\n\
             DROP TABLE IF EXISTS public.t;\n\
             ALTER TABLE IF EXISTS ONLY public.t DROP CONSTRAINT IF EXISTS t_pkey;\n\
             -- Name: t; Type: TABLE; Schema: public; Owner: app\n\
             CREATE TABLE public.t (x int);\n\
             -- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: app\n\
             COPY public.t (x) FROM stdin;\n1\n\\.\n\
             -- Name: t p; Type: POLICY; Schema: public; Owner: app\n\
             CREATE POLICY p ON public.t TO ghost USING (true);\n",
        );
        assert!(script.makes_public && script.bare_drop.is_none());
        assert_eq!((script.tables(), script.data), (1, 1));
        assert!(script.named.contains("ghost"));
        let line = |text: &str| read(text).bare_drop;
        assert_eq!(line("CREATE SCHEMA s;\nDROP TABLE public.t;\n"), Some(2));
        let constraint = "CREATE SCHEMA s;\nALTER TABLE ONLY public.t DROP CONSTRAINT t_pkey;\n";
        assert_eq!(line(constraint), Some(2));
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

    /// What is given to psql.
    fn given(text: &str, script: &Script) -> String {
        let out = |at: u64| script.left_out.iter().any(|range| range.contains(&at));
        let kept = text.bytes().enumerate();
        let kept = kept
            .filter(|(at, _)| !out(*at as u64))
            .map(|(_, byte)| byte);
        String::from_utf8(kept.collect()).unwrap()
    }

    /// The statements of it.
    fn statements(text: &str, script: &Script) -> Vec<String> {
        let given = given(text, script);
        let lines = given.lines().map(str::trim_end);
        lines
            .filter(|line| !line.is_empty() && !line.starts_with("--"))
            .map(str::to_owned)
            .collect()
    }

    fn for_database(text: &str, name: &str) -> Result<Script, Vec<String>> {
        let whole = {
            let mut reader = ScriptReader::skipping(Skip {
                unfit: true,
                ..Skip::default()
            });
            reader.feed(text.as_bytes());
            reader.finish_for(name)
        };
        let mut reader = ScriptReader::skipping(Skip {
            unfit: true,
            ..Skip::default()
        });
        for piece in text.as_bytes().chunks(3) {
            reader.feed(piece);
        }
        let pieces = reader.finish_for(name);
        let ranges =
            |read: &Result<Script, Vec<String>>| read.as_ref().ok().map(|it| it.left_out.clone());
        assert_eq!(ranges(&whole), ranges(&pieces));
        whole
    }

    const CLUSTER: &str = "--\n-- PostgreSQL database cluster dump\n--\n\n\\restrict a1\n\n\
        SET default_transaction_read_only = off;\n\
        CREATE ROLE app;\nALTER ROLE app WITH LOGIN PASSWORD 'SCRAM-SHA-256$x';\n\\unrestrict a1\n\
        --\n-- Databases\n--\n\\connect template1\n\
        --\n-- PostgreSQL database dump\n--\n\\restrict b2\nSELECT 'of template1';\n\
        --\n-- PostgreSQL database dump complete\n--\n\\unrestrict b2\n\
        --\n-- Database \"other\" dump\n--\n--\n-- PostgreSQL database dump\n--\n\
        -- Name: other; Type: DATABASE; Schema: -; Owner: bob\n\
        CREATE DATABASE other WITH TEMPLATE = template0;\n\\connect other\n\
        SELECT 'of other';\n\
        -- Name: x; Type: TABLE; Schema: public; Owner: bob\nCREATE TABLE x (y int);\n\
        --\n-- PostgreSQL database dump complete\n--\n\
        --\n-- Database \"shop\" dump\n--\n--\n-- PostgreSQL database dump\n--\n\\restrict c3\n\
        -- Name: shop; Type: DATABASE; Schema: -; Owner: app\n\
        CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'UTF8';\n\
        ALTER DATABASE shop OWNER TO app;\n\\unrestrict c3\n\\connect shop\n\\restrict c3\n\
        SET statement_timeout = 0;\nSET transaction_timeout = 0;\n\
        -- Name: shop; Type: DATABASE PROPERTIES; Schema: -; Owner: app\n\
        ALTER DATABASE shop SET work_mem TO '9MB';\n\\unrestrict c3\n\\connect shop\n\\restrict c3\n\
        SET statement_timeout = 0;\n\
        -- Name: t; Type: TABLE; Schema: public; Owner: app\nCREATE TABLE t (x text);\n\
        -- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: app\n\
        COPY t (x) FROM stdin;\n\\\\connect other\n-- PostgreSQL database dump complete\n\\.\n\
        -- Name: s; Type: SUBSCRIPTION; Schema: -; Owner: app\n\
        CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p;\n\
        -- Name: DATABASE shop; Type: ACL; Schema: -; Owner: app\n\
        GRANT CONNECT ON DATABASE shop TO bob;\n\
        --\n-- PostgreSQL database dump complete\n--\n\\unrestrict c3\n\
        --\n-- PostgreSQL database cluster dump complete\n--\n";

    #[test]
    fn one_database_is_taken_out_of_a_dump_of_all() {
        let script = for_database(CLUSTER, "shop").unwrap();
        assert!(script.complete && script.command.is_none() && script.beyond.is_none());
        assert_eq!(
            statements(CLUSTER, &script),
            [
                "SET statement_timeout = 0;",
                "SET transaction_timeout = 0;",
                "SET statement_timeout = 0;",
                "CREATE TABLE t (x text);",
                "COPY t (x) FROM stdin;",
                "\\\\connect other",
                "\\.",
            ]
        );
        assert_eq!(script.databases, ["template1", "other", "shop"]);
        assert_eq!(roles(&script), ["app"], "bob's are others' matters");
        assert_eq!((script.tables(), script.data), (1, 1));
        assert_eq!(script.properties.owner.as_deref(), Some("app"));
        assert_eq!(script.properties.statements.len(), 2);
        assert_eq!(script.create.len(), 1);
        assert_eq!(script.settings.len(), 1);
        let (name, range) = script.settings[0].clone();
        let (start, end) = (range.start as usize, range.end as usize);
        assert_eq!(name, "transaction_timeout");
        assert_eq!(&CLUSTER[start..end], "SET transaction_timeout = 0;\n");

        let other = for_database(CLUSTER, "other").unwrap();
        assert_eq!(statements(CLUSTER, &other)[0], "SELECT 'of other';");
        assert_eq!(roles(&other), ["bob"]);
        let none = for_database(CLUSTER, "nothing").unwrap_err();
        assert_eq!(none, ["template1", "other", "shop"]);
        for cut in [CLUSTER.len() - 60, CLUSTER.len() - 200] {
            let cut = for_database(&CLUSTER[..cut], "other").unwrap();
            assert!(!cut.complete, "pg_dumpall did not end");
        }
    }

    #[test]
    fn a_dump_that_makes_its_database_is_of_that_one() {
        let from = CLUSTER.find("--\n-- Database \"shop\"").unwrap();
        let to = CLUSTER.rfind("--\n-- PostgreSQL database cluster").unwrap();
        let dump = &CLUSTER[from..to];
        let script = for_database(dump, "market").unwrap();
        assert!(script.complete);
        assert_eq!(script.taken_from.as_deref(), Some("shop"));
        assert_eq!(statements(dump, &script).len(), 7);
        let cleaned = format!("DROP DATABASE shop;\n{dump}");
        let script = for_database(&cleaned, "shop").unwrap();
        assert_eq!((script.taken_from.as_deref(), script.beyond), (None, None));
        for (line, name) in [
            ("\\connect shop", Some("shop")),
            ("\\c \"My \"\"shop\"", Some("My \"shop")),
            ("\\connect -reuse-previous=on \"dbname='a b'\"", Some("a b")),
            (
                "\\connect -reuse-previous=on \"dbname='it\\'s\"\"'\"",
                Some("it's\""),
            ),
            ("\\connect shop bob", None),
            ("\\connect shop bob evil.example.org", None),
            ("\\connect -reuse-previous=on \"dbname='a' host='b'\"", None),
            ("\\connect \"host=evil.example.org\" x", None),
            ("\\connection", None),
        ] {
            let found = super::super::sections::connected_to(line);
            assert_eq!(found.as_deref(), name, "{line}");
        }
    }

    #[test]
    fn dumps_in_a_row_are_all_restored_and_all_whole() {
        let dump = |name: &str| {
            format!(
                "--\n-- PostgreSQL database dump\n--\n\\restrict k\n\
                 -- Name: {name}; Type: TABLE; Schema: {name}; Owner: app\n\
                 CREATE TABLE {name}.t (x int);\n\
                 --\n-- PostgreSQL database dump complete\n--\n\\unrestrict k\n"
            )
        };
        let text = dump("a") + &dump("b");
        let script = for_database(&text, "shop").unwrap();
        assert!(script.complete);
        assert_eq!(
            statements(&text, &script),
            ["CREATE TABLE a.t (x int);", "CREATE TABLE b.t (x int);"]
        );
        let cut = dump("a");
        let cut = cut
            .split("--\n-- PostgreSQL database dump complete")
            .next()
            .unwrap();
        let text = cut.to_owned() + &dump("b");
        assert!(!for_database(&text, "shop").unwrap().complete);
    }

    #[test]
    fn what_clean_takes_away_is_left_out() {
        let text = "SET row_security = off;\n\
             ALTER TABLE public.t ALTER COLUMN id DROP DEFAULT;\n\
             DROP TABLE public.t;\nDROP SCHEMA IF EXISTS s;\n\
             SELECT pg_catalog.lo_unlink('1');\nDROP FUNCTION f(\n  a integer);\n\
             CREATE TABLE public.t (id int);\n";
        let script = read(text);
        assert_eq!(script.bare_drop, None);
        assert_eq!(
            statements(text, &script),
            [
                "SET row_security = off;",
                "DROP SCHEMA IF EXISTS s;",
                "CREATE TABLE public.t (id int);"
            ]
        );
    }

    #[test]
    fn marks_and_line_ends_of_other_systems_are_seen() {
        let text = "\u{feff}--\r\n-- PostgreSQL database dump\r\n\
                    -- Name: t; Type: TABLE; Schema: public; Owner: app\r\n\
                    COPY t (x) FROM stdin;\r\n\\restrict a\r\n\\.\r\n\
                    -- PostgreSQL database dump complete\r\n";
        let script = for_database(text, "shop").unwrap();
        assert!(script.complete && script.returns && script.command.is_none());
        assert_eq!(script.left_out.len(), 1);
        assert_eq!(script.left_out.first(), Some(&(0..3)));
        assert!(!read(&text.replacen("\r\n", "\n", 1)).returns);
        assert!(!read("SELECT 1;\n").returns);
    }

    #[test]
    fn rows_follow_a_long_copy_and_one_of_several_lines() {
        let long = format!("{}, last", "c".repeat(80 * 1024));
        for columns in [long.as_str(), "a, \"b\nc\""] {
            let text = format!("COPY public.t ({columns}) FROM stdin;\n1\t\\N\n\\.\nSELECT 1;\n");
            let script = read(&text);
            assert_eq!(script.command, None);
        }
    }

    #[test]
    fn entries_that_the_site_names_are_left_out() {
        let text = "SET default_tablespace = fast;\n\
             --\n-- Name: m; Type: MATERIALIZED VIEW; Schema: public; Owner: app\n--\n\n\
             CREATE MATERIALIZED VIEW public.m AS SELECT 1 WITH NO DATA;\n\
             --\n-- Name: big; Type: TABLE; Schema: public; Owner: ghost\n--\n\n\
             CREATE TABLE public.big (x text DEFAULT '\n-- Name: no; Type: TABLE; Schema: p; Owner: o\n');\n\
             SET default_tablespace = '';\n\
             --\n-- Data for Name: big; Type: TABLE DATA; Schema: public; Owner: ghost\n--\n\n\
             COPY public.big (x) FROM stdin;\nSET default_x = 1;\n\\.\n\
             --\n-- Name: m; Type: MATERIALIZED VIEW DATA; Schema: public; Owner: app\n--\n\n\
             REFRESH MATERIALIZED VIEW public.m;\n\
             --\n-- PostgreSQL database dump complete\n--\n\n";
        let mut reader = ScriptReader::skipping(Skip {
            patterns: vec!["TABLE* public big".to_owned()],
            views: true,
            ..Skip::default()
        });
        reader.feed(text.as_bytes());
        let script = reader.finish();
        assert_eq!(
            statements(text, &script),
            [
                "SET default_tablespace = fast;",
                "CREATE MATERIALIZED VIEW public.m AS SELECT 1 WITH NO DATA;",
                "SET default_tablespace = '';",
            ]
        );
        assert!(script.complete);
        assert_eq!(script.skipped.len(), 2);
        assert_eq!(script.views, ["MATERIALIZED VIEW DATA public m"]);
        assert_eq!(roles(&script), ["app"]);
        assert_eq!((script.tables(), script.data), (0, 0));
    }
}
