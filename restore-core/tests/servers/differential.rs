//! The reader of SQL dumps against psql itself: where psql takes a backslash for a command, the reader
//! has not taken it for a part of a text or of data. psql is restricted and says so of each command.
//! `RESTORE_TEXTS` says how many texts are tried (150 of each kind); with it `RESTORE_TEST_SEED` says
//! which.

use std::io::Write;
use std::process::{Command, Stdio};

use restore_core::fuzzing::dump_refused;
use restore_testing::pg::{BIN, Cluster};

const SEED: u64 = 7;

/// What may stand anywhere, and what decides where a text ends.
const PIECES: &[&[u8]] = &[
    b"'",
    b"''",
    b"'",
    b"\"",
    b"$$",
    b"$$",
    b"$a$",
    b"$A$",
    b"$1",
    b"$",
    b"1",
    b"12",
    b"a",
    b"a1",
    b"E'",
    b"e'",
    b"B'",
    b"x'",
    b"U&'",
    b"u&\"",
    b"&",
    b"N'",
    b"\\'",
    b"\\\\",
    b"--",
    b"-",
    b"/*",
    b"*/",
    b"/",
    b"*",
    b"\n",
    b"\n",
    b"\n",
    b"\r",
    b"\r\n",
    b" ",
    b" ",
    b";",
    b";",
    b"(",
    b")",
    b" begin ",
    b" end ",
    b"create ",
    b"function ",
    b"or ",
    b"replace ",
    b" case ",
    b":x",
    b":'",
    b":\"",
    b":{?",
    b"\x0b",
    b"\x0c",
    b"\t",
    b"\xc3\xa9",
    b"\\! id",
    b"\\x",
    b"abc",
    b"0x1",
    b"1e",
    b"1E+",
    b".",
    b"::",
    b" stdin",
    b"SELECT ",
    b"FROM",
    b"+",
    b"\0",
    b"\xff",
];

/// Statements, of which some change how what follows is read.
const STATEMENTS: &[&[u8]] = &[
    b"COPY t FROM stdin;\n1\n\\.\n",
    b"COPY t (x) FROM stdin;\n'\n\\.\n",
    b"COPY t FROM stdin;\n1\n\\.\r\n",
    b"COPY t FROM stdin;\n\\\\.\nx\n\\.\n",
    b"copy t from stdin;\n'\n\\.\n",
    b"COPY t FROM stdin WITH (FORMAT csv);\n1\n\\.\n",
    b"COPY t FROM stdin; SELECT 1;\n1\n\\.\n",
    b"SELECT 1; COPY t FROM stdin;\n'\n\\.\n",
    b"COPY t /* ; */ FROM stdin;\n1\n\\.\n",
    b"COPY t FROM stdin -- FROM stdin;\n;\n1\n\\.\n",
    b"COPY t\nFROM stdin;\n'\n\\.\n",
    b"COPY (SELECT 1) TO STDOUT; SELECT * FROM stdin;\n",
    b"COPY stdin TO stdout;\n",
    b"SELECT (1\n);\n",
    b"SELECT 'a\\';\n",
    b"SELECT E'a\\'';\n",
    b"SELECT E'a'\n'b\\';\n",
    b"SELECT U&'\\0041';\n",
    b"SELECT b'1', x'1f', n'a';\n",
    b"SELECT '\n\\! id\n';\n",
    b"SELECT $a$ ' \n\\! id $b$ $a$;\n",
    b"SET standard_conforming_strings = off;\n",
    b"SET standard_conforming_strings = on;\n",
    b"set standard_conforming_strings to off;\n",
    b"SET LOCAL standard_conforming_strings = off;\n",
    b"RESET ALL;\n",
    b"BEGIN;\n",
    b"COMMIT;\n",
    b"ROLLBACK;\n",
    b"SET client_encoding = 'SJIS';\n",
    b"SET client_encoding = 'BIG5';\n",
    b"SET client_encoding = 'GB18030';\n",
    b"SET client_encoding = 'UTF8';\n",
    b"SET NAMES 'SJIS';\n",
    b"SELECT E'\x95\x5c' ;\n",
    b"SELECT E'\xa5\x5c\\' ' ;\n",
    b"SELECT '\xc3\xa4\\';\n",
    b"-- it's\n",
    b"-- so\r\\! id\n",
    b"/* ' /* \" */ $$ */\n",
    b"CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END;\n",
    b"DO $$ begin perform 'a'; end $$;\n",
    b"CREATE TABLE IF NOT EXISTS stdin (y text);\n",
    b"INSERT INTO t VALUES ('COPY t FROM stdin;');\n",
    b"\\! id\n",
    b"\\.\n",
    b"\n",
];

/// A generator of numbers, good enough to choose by.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }

    fn text(&mut self, pieces: &[&[u8]], most: usize) -> Vec<u8> {
        let mut text = Vec::new();
        for _ in 0..=self.below(most) {
            text.extend_from_slice(pieces[self.below(pieces.len())]);
        }
        text
    }
}

/// The first line in which psql would have obeyed a command, the first being that which forbids it;
/// `stop`: it ends at the first error.
fn obeyed(cluster: &Cluster, text: &[u8], stop: bool) -> Option<u64> {
    let endpoint = cluster.endpoint();
    let mut child = Command::new(format!("{BIN}/psql"))
        .args([
            "-XqAt",
            "-w",
            "-U",
            "postgres",
            "-d",
            "texts",
            "-f",
            "-",
            "-h",
            &endpoint.host,
        ])
        .args(["-p", &endpoint.port.to_string()])
        .args([
            "-v",
            if stop {
                "ON_ERROR_STOP=1"
            } else {
                "ON_ERROR_STOP=0"
            },
        ])
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let whole = [b"\\restrict k\n", text].concat();
    // One that stops early reads no further.
    let writing = std::thread::spawn(move || stdin.write_all(&whole));
    let output = child.wait_with_output().unwrap();
    let _ = writing.join().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let mut refused = said
        .lines()
        .filter(|line| line.contains("backslash commands are restricted"));
    let line = refused.next()?.strip_prefix("psql:<stdin>:")?;
    let number: u64 = line.split(':').next()?.parse().ok()?;
    Some(number - 1)
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    let said = std::env::var(name).ok();
    said.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn cluster() -> Cluster {
    let cluster = Cluster::start("postgres");
    cluster.sql("template1", "CREATE DATABASE texts");
    cluster.sql(
        "texts",
        "CREATE TABLE t (x text); CREATE TABLE stdin (y text)",
    );
    cluster
}

/// What of a text psql would obey and the reader let through.
fn compare(cluster: &Cluster, text: &[u8], stop: bool) -> Result<bool, String> {
    let ours = dump_refused(text);
    let Some(line) = obeyed(cluster, text, stop) else {
        return Ok(false);
    };
    match ours {
        Some(ours) if ours <= line => Ok(true),
        _ => Err(format!(
            "psql obeys line {line}, the reader refuses {ours:?} in:\n{}\n{text:?}",
            String::from_utf8_lossy(text)
        )),
    }
}

fn all(pieces: &[&[u8]], most: usize, (end, stop): (&[u8], bool)) {
    let cluster = cluster();
    // Fixed, unless it is for long.
    let seed = match std::env::var_os("RESTORE_TEXTS") {
        Some(_) => from_environment("RESTORE_TEST_SEED", SEED),
        None => SEED,
    };
    let mut random = Random(seed);
    let (mut obeyed, mut missed) = (0, Vec::new());
    let texts = from_environment("RESTORE_TEXTS", 150);
    for _ in 0..texts {
        let mut text = random.text(pieces, most);
        text.extend_from_slice(end);
        match compare(&cluster, &text, stop) {
            Ok(found) => obeyed += u64::from(found),
            Err(error) => missed.push(error),
        }
    }
    assert!(
        missed.is_empty(),
        "{} of {texts}: {}",
        missed.len(),
        missed[0]
    );
    assert!(obeyed * 4 > texts, "only {obeyed} of {texts} had a command");
}

/// Of any signs in any order. psql goes on after errors: what is a text does not depend on them.
#[test]
fn where_psql_takes_a_backslash_for_a_command_so_does_the_reader() {
    let end = b"\n\\! id\n'\n\\! id\n$$\n\\! id\n*/\n\\! id\n\"\n\\! id\n";
    all(PIECES, 14, (end, false));
}

/// Of whole statements, with settings and data. psql ends at the first error, as in a run.
#[test]
fn where_psql_is_done_with_data_so_is_the_reader() {
    all(STATEMENTS, 6, (b"SELECT '\n\\! id\n';\n\\! id\n", true));
}

/// What has been told apart wrongly before.
#[test]
fn what_once_led_the_reader_astray_does_so_no_more() {
    let cluster = cluster();
    for text in [
        &b"-- so\r\\! id"[..],
        b"SELECT E'a' /* x */\n'b\\' \\! id '",
        b"SELECT E'a'\n'b\\' \\! id '",
        b"SELECT $1$$ ' $$ \\! id '",
        b"SELECT 1$$ ' $$ \\! id '",
        b"SELECT 1 \0 '\n\\! id\n",
        b"SET standard_conforming_strings = off;\nSELECT b'\\' \\! id '",
        b"SET standard_conforming_strings = off;\nSELECT U&'\\' \\! id '",
        b"SELECT (1;\nCOPY t FROM stdin;\n\\! id\n",
        b"CREATE FUNCTION begin;\nCOPY t FROM stdin;\n\\! id\n",
        b"BEGIN;\nSET standard_conforming_strings = off;\nROLLBACK;\nSELECT '\\' ; \n\\! id\n '",
        b"SET client_encoding = 'SJIS';\nSELECT E'\x95\x5c' ; \n\\! id\n'",
        b"copy t from stdin;\n'\n\\.\n\\! id\n",
        b"COPY t FROM stdin WITH (FORMAT csv);\n'\n\\.\n\\! id\n",
        b"CREATE TABLE IF NOT EXISTS stdin (y text);\nCOPY (SELECT 1) TO STDOUT; SELECT * FROM stdin;\n\\! id\n",
    ] {
        // Nothing is shown by one that psql does not obey.
        let found = compare(&cluster, text, true);
        assert_eq!(found, Ok(true), "{}", String::from_utf8_lossy(text));
    }
}
