//! Follows a script as it comes: what is a comment, a statement, a text, data, or a command of
//! psql's own.

use super::Script;
use super::lines::Lines;
use super::quoting::Quoting;

/// Reads a script as it comes.
#[derive(Debug, Default)]
pub(in super::super) struct ScriptReader {
    pub(super) script: Script,
    lines: Lines,
    pub(super) quoting: Quoting,
    /// How the line that is being read began: whether it could be a comment or a statement.
    began: Began,
    pub(super) number: u64,
    /// The kind of the object whose statements are being read.
    pub(super) kind: String,
    pub(super) name: String,
    in_copy: bool,
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

impl ScriptReader {
    /// Takes the next bytes.
    pub(in super::super) fn feed(&mut self, mut bytes: &[u8]) {
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
    pub(in super::super) fn finish(mut self) -> Script {
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
}

/// Whether the line is a `\restrict KEY` or `\unrestrict KEY` and nothing besides.
fn is_restriction(line: &str) -> bool {
    ["\\restrict ", "\\unrestrict "].iter().any(|command| {
        line.strip_prefix(command).is_some_and(|key| {
            !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    })
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
