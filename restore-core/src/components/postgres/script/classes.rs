//! What a statement is, by the line that it begins with.

use super::tokens::{Token, tokens};

pub(super) const DATABASE_COMMENT: &str = "COMMENT ON DATABASE";

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

/// Whether a line is the statement by which pg_dump has names found by their schemas only.
pub(in super::super) fn empties_path(line: &str) -> bool {
    line == "SELECT pg_catalog.set_config('search_path', '', false);"
}

/// Whether a statement takes something away that a new database does not have, and would fail
/// there: what `pg_dump --clean` begins with.
pub(super) fn clears(line: &str) -> bool {
    let drops = line.starts_with("DROP ") && !line.contains(" IF EXISTS ");
    let alters = line.starts_with("ALTER TABLE ")
        && !line.starts_with("ALTER TABLE IF EXISTS ")
        && [" DROP CONSTRAINT ", " DROP DEFAULT", " DISABLE ROW LEVEL "]
            .iter()
            .any(|what| line.contains(what))
        && !line.contains(" IF EXISTS ");
    let publication = line.starts_with("ALTER PUBLICATION ") && line.contains(" DROP ");
    // Of the constraint alone it is said that it need not be there.
    let domain = line.starts_with("ALTER DOMAIN ") && line.contains(" DROP CONSTRAINT ");
    let large_object = line.starts_with("SELECT pg_catalog.lo_unlink(");
    drops || alters || publication || domain || large_object
}

/// Whether the statement that begins so may be the one by which `pg_dump --clean` makes a view one of
/// nothing, where it cannot be dropped yet.
pub(super) fn hollows_view(line: &str) -> bool {
    line.starts_with("CREATE OR REPLACE VIEW ") && line.ends_with(" AS")
}

/// Whether a statement that begins so puts rows into a table, as `pg_dump --inserts` or a person writes it.
pub(super) fn inserts(line: &str) -> bool {
    let start = line.trim_start().get(.."INSERT INTO ".len());
    start.is_some_and(|start| start.eq_ignore_ascii_case("INSERT INTO "))
}

/// Whether a database without objects has none after this statement either.
pub(super) fn keeps_empty(line: &str) -> bool {
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
pub(super) fn beyond(line: &str) -> Option<&'static str> {
    const STATEMENTS: [&str; 23] = [
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
        "CREATE GROUP ",
        "ALTER GROUP ",
        "DROP GROUP ",
        "CREATE TABLESPACE",
        "ALTER TABLESPACE",
        "DROP TABLESPACE",
        "COMMENT ON ROLE",
        "COMMENT ON TABLESPACE",
        "REASSIGN OWNED",
        "DROP OWNED",
        // It makes a slot at its publisher; those of a dump are left out.
        "CREATE SUBSCRIPTION",
        "ALTER SUBSCRIPTION",
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
        .or_else(|| match words.first().map(String::as_str) {
            Some("GRANT" | "REVOKE") => granted_beyond(line),
            Some("SECURITY") => labelled_beyond(line),
            _ => None,
        })
}

/// Whether the token is this word, in whatever case.
fn is(token: &Token, text: &str) -> bool {
    matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(text))
}

/// What a GRANT or REVOKE is about that is not of one database: it is that unless it begins as one of
/// privileges, and names an object of the database after ON.
fn granted_beyond(line: &str) -> Option<&'static str> {
    const PRIVILEGES: [&str; 20] = [
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "TRUNCATE",
        "REFERENCES",
        "TRIGGER",
        "MAINTAIN",
        "USAGE",
        "EXECUTE",
        "CREATE",
        "CONNECT",
        "TEMPORARY",
        "TEMP",
        "RULE",
        "ALL",
        "PRIVILEGES",
        "GRANT",
        "OPTION",
        "FOR",
    ];
    const ROLE: &str = "GRANT or REVOKE of a role";
    let tokens = tokens(line);
    let (mut within, mut after) = (false, tokens.iter().skip(1));
    while let Some(token) = after.next() {
        match token {
            Token::Sign('(') if !within => within = true,
            Token::Sign(')') if within => within = false,
            Token::Sign(',') => {}
            // Names of columns.
            Token::Word(_) | Token::Ident(_) if within => {}
            on if is(on, "ON") => {
                let object = after.next();
                let object = |text: &str| object.is_some_and(|token| is(token, text));
                return match () {
                    () if object("DATABASE") => Some("GRANT or REVOKE ON DATABASE"),
                    () if object("TABLESPACE") => Some("GRANT or REVOKE ON TABLESPACE"),
                    () if object("PARAMETER") => Some("GRANT or REVOKE ON PARAMETER"),
                    () => None,
                };
            }
            word if PRIVILEGES.iter().any(|privilege| is(word, privilege)) => {}
            _ => return Some(ROLE),
        }
    }
    // The name of a column may go on in the next line; nothing else does.
    (!within).then_some(ROLE)
}

/// What a security label is on that is not of one database.
fn labelled_beyond(line: &str) -> Option<&'static str> {
    let tokens = tokens(line);
    let shared = ["ROLE", "DATABASE", "TABLESPACE"];
    tokens
        .windows(2)
        .any(|two| {
            matches!(two, [on, object] if is(on, "ON") && shared.iter().any(|it| is(object, it)))
        })
        .then_some("SECURITY LABEL ON a ROLE, DATABASE or TABLESPACE")
}

/// Whether the line is a `\restrict KEY` or `\unrestrict KEY` and nothing besides.
pub(super) fn is_restriction(line: &str) -> bool {
    ["\\restrict ", "\\unrestrict "].iter().any(|command| {
        line.strip_prefix(command).is_some_and(|key| {
            !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    })
}
