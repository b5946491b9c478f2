//! Scripts of every kind, read whole.

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

/// A person may have taken the comments out, or put them where nothing is.
#[test]
fn statements_say_whether_there_are_rows() {
    let comment = "-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: app\n";
    let table = "CREATE TABLE public.t (x text);\n";
    for rows in [
        "COPY public.t (x) FROM stdin;\n1\n\\.\n",
        "INSERT INTO public.t VALUES ('1');\n",
        "insert into t\nvalues ('1');\n",
    ] {
        assert!(read(&format!("{table}{rows}")).filled, "{rows}");
        assert!(read(&format!("{table}{comment}{rows}")).filled, "{rows}");
    }
    for none in [
        "",
        comment,
        "-- INSERT INTO t VALUES (1);\n",
        "SELECT 'a\nINSERT INTO t VALUES (1);\n';\n",
    ] {
        assert!(!read(&format!("{table}{none}")).filled, "{none}");
    }
}

#[test]
fn names_in_another_encoding_are_left_out() {
    let script = read(
        "SET client_encoding = 'LATIN1';\n\
         -- Name: \u{e9}; Type: TABLE; Schema: public; Owner: app\n\
         -- Name: e; Type: TABLE; Schema: public; Owner: \u{e9}\n",
    );
    assert_eq!(script.objects.len(), 1);
    // A table may be among what is left out: of such a dump nobody can say that it has none.
    assert!(script.undecoded);
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
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
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
         -- Name: DATABASE a; Type: SECURITY LABEL; Schema: -; Owner: app\n\
         SECURITY LABEL FOR selinux ON DATABASE a IS 'secret';\n\
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
            "SECURITY LABEL FOR selinux ON DATABASE N IS 'secret'",
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
        let found = super::sections::connected_to(line);
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
         ALTER DOMAIN s.d DROP CONSTRAINT IF EXISTS c;\n\
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

/// Without an entry that is named so.
fn without(text: &str, pattern: &str) -> Script {
    let mut reader = ScriptReader::skipping(Skip {
        patterns: vec![pattern.to_owned()],
        unfit: true,
        ..Skip::default()
    });
    reader.feed(text.as_bytes());
    reader.finish()
}

#[test]
fn what_the_next_entry_needs_is_not_left_out_with_the_one_before() {
    // As pg_dump --use-set-session-authorization and old ones write it.
    let text = "--\n-- Name: a; Type: TABLE; Schema: s; Owner: ghost\n--\n\n\
         CREATE TABLE a (x int);\n\n\nSET SESSION AUTHORIZATION app;\nSET search_path = public, pg_catalog;\n\
         SET default_tablespace = '';\n\n\
         --\n-- Name: b; Type: TABLE; Schema: public; Owner: app\n--\n\nCREATE TABLE b (x int);\n\
         --\n-- Name: TABLE a; Type: ACL; Schema: s; Owner: ghost\n--\n\n\
         SET SESSION AUTHORIZATION ghost;\nGRANT SELECT ON TABLE a TO b;\nRESET SESSION AUTHORIZATION;\n\
         RESET SESSION AUTHORIZATION;\n\n\
         --\n-- Name: c; Type: TABLE; Schema: public; Owner: app\n--\n\nCREATE TABLE c (x int);\n\
         --\n-- PostgreSQL database dump complete\n--\n";
    assert_eq!(
        statements(text, &without(text, "TABLE s a")),
        [
            "SET SESSION AUTHORIZATION app;",
            "SET search_path = public, pg_catalog;",
            "SET default_tablespace = '';",
            "CREATE TABLE b (x int);",
            "RESET SESSION AUTHORIZATION;",
            "CREATE TABLE c (x int);",
        ]
    );
    let several = "-- Name: a; Type: TABLE; Schema: s; Owner: o\n\
         CREATE TABLE a (x int);\nSET x = 1; DROP TABLE y;\n\
         -- Name: b; Type: TABLE; Schema: s; Owner: o\nCREATE TABLE b (x int);\n";
    let script = without(several, "TABLE s a");
    assert_eq!(statements(several, &script), ["CREATE TABLE b (x int);"]);
}

#[test]
fn statements_about_roles_and_the_server_are_noticed_in_every_form() {
    let found = |text: &str| read(text).beyond.map(|(what, _)| what);
    for text in [
        "GRANT postgres TO me;",
        "grant postgres to me;",
        "REVOKE ADMIN OPTION FOR a FROM b;",
        "GRANT postgres TO me /* ON TABLE */;",
        "GRANT postgres TO me /* SELECT( */;",
        "GRANT \"SELECT\" TO me;",
        "GRANT postgres",
        "GRANT SET ON PARAMETER work_mem TO me;",
        "GRANT CREATE ON TABLESPACE fast TO me;",
        "GRANT ALL ON DATABASE other TO me;",
        "REASSIGN OWNED BY a TO b;",
        "DROP OWNED BY a;",
        "CREATE GROUP a;",
        "ALTER GROUP a ADD USER b;",
        "DROP GROUP a;",
        "ALTER TABLESPACE fast OWNER TO me;",
        "SECURITY LABEL FOR x ON ROLE a IS 'b';",
        "COMMENT ON ROLE a IS 'b';",
        "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p;",
    ] {
        assert!(found(&format!("{text}\n")).is_some(), "{text}");
    }
    for text in [
        "GRANT SELECT ON TABLE public.t TO reader;",
        "GRANT SELECT(a),INSERT(\"b c\") ON TABLE public.t TO reader;",
        "GRANT SELECT(\"a\nb\") ON TABLE public.t TO reader;",
        "REVOKE GRANT OPTION FOR ALL ON FUNCTION f(a integer) FROM PUBLIC;",
        "GRANT ALL ON LARGE OBJECT 1 TO a;",
        "REVOKE ALL ON SCHEMA public FROM PUBLIC;",
        "ALTER DEFAULT PRIVILEGES FOR ROLE a GRANT ALL ON TABLES TO b;",
        "SECURITY LABEL FOR x ON TABLE a IS 'b';",
        "COMMENT ON SCHEMA s IS 'b';",
    ] {
        assert_eq!(found(&format!("{text}\n")), None, "{text}");
    }
    // A comment that looks as if an entry began, inside of another.
    let inside = "-- Name: f; Type: FUNCTION; Schema: s; Owner: o\n\
         -- Name: x; Type: DATABASE; Schema: -; Owner: o\nDROP DATABASE other;\n";
    assert!(found(inside).is_some(), "where nothing is left out");
    let script = for_database(inside, "shop").unwrap();
    assert!(statements(inside, &script).is_empty(), "left out");
}

#[test]
fn what_stands_before_the_first_connect_is_for_nobody() {
    let dump = "-- Name: t; Type: TABLE; Schema: public; Owner: app\nCREATE TABLE t (x int);\n\
         \\connect shop\nSELECT 1;\n-- PostgreSQL database dump complete\n";
    let script = for_database(dump, "shop").unwrap();
    assert_eq!(script.command, Some(("\\connect".to_owned(), 1)));
}

#[test]
fn subscriptions_that_are_left_out_are_named() {
    let script = for_database(CLUSTER, "shop").unwrap();
    assert_eq!(script.subscriptions, ["SUBSCRIPTION - s"]);
}

#[test]
fn rows_are_counted_and_the_place_of_an_emptied_path_is_known() {
    const EMPTIED: &str = "SELECT pg_catalog.set_config('search_path', '', false);\n";
    let text = format!(
        "--\n-- PostgreSQL database dump\n--\n\n{EMPTIED}\
         --\n-- Data for Name: a; Type: TABLE DATA; Schema: public; Owner: app\n--\n\n\
         COPY public.a (n) FROM stdin;\n1\n{EMPTIED}\\.\n\n\
         --\n-- Data for Name: b; Type: TABLE DATA; Schema: public; Owner: app\n--\n\n\
         COPY public.b (n) FROM stdin;\n1\n2\n3\n\\.\n\n"
    );
    let read = |patterns: &[&str], text: &str| {
        let mut reader = ScriptReader::skipping(Skip {
            patterns: patterns.iter().map(|it| (*it).to_owned()).collect(),
            ..Skip::default()
        });
        reader.feed(text.as_bytes());
        reader.finish()
    };
    let script = read(&[], &text);
    assert_eq!((script.rows, script.inserts), (5, false));
    let start = text.find(EMPTIED).unwrap() as u64;
    assert_eq!(script.paths.len(), 1, "{:?}", script.paths);
    assert_eq!(script.paths[0], start..start + EMPTIED.len() as u64);
    // What is left out has none, and of statements nobody knows.
    assert_eq!(read(&["TABLE DATA public b"], &text).rows, 2);
    let more = format!("{text}INSERT INTO public.c VALUES (1);\n");
    assert!(read(&[], &more).inserts);
}
