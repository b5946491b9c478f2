//! Names of databases, and how names and texts are written in SQL.

use sha2::{Digest, Sha256};

use crate::model::RunId;

/// The longest name that PostgreSQL keeps, in bytes; it cuts longer ones without an error.
pub(super) const LONGEST: usize = 63;

/// The databases that a run is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DatabaseNames {
    /// What the application connects to, or what is left beside that.
    pub(super) live: String,
    /// What is restored beside it; after an undo, what had been live in between.
    pub(super) staged: String,
    /// What the cut-over replaced.
    pub(super) replaced: String,
}

impl DatabaseNames {
    pub(super) fn new(live: &str, run: &RunId) -> Self {
        Self {
            live: live.to_owned(),
            staged: with_suffix(live, &staged_suffix(run)),
            replaced: with_suffix(live, &format!("_replaced_{}", run.sql())),
        }
    }
}

impl DatabaseNames {
    /// The names where what is restored is left beside what is live, under this name: nothing is
    /// replaced, and what is staged is still known by the name of what is live.
    pub(super) fn beside(self, name: &str) -> Self {
        Self {
            live: name.to_owned(),
            ..self
        }
    }
}

/// The schema in which the tables of a schema are left beside the live ones; `run` in the words of SQL.
pub(super) fn schema_beside(schema: &str, run: &str) -> String {
    with_suffix(schema, &format!("_restored_{run}"))
}

/// How the names of all databases end that a run has staged.
pub(super) fn staged_suffix(run: &RunId) -> String {
    format!("_restore_{}", run.sql())
}

/// `name` with `suffix`, never longer than PostgreSQL keeps, and still another for another name.
fn with_suffix(name: &str, suffix: &str) -> String {
    let room = LONGEST.saturating_sub(suffix.len());
    if name.len() <= room {
        return format!("{name}{suffix}");
    }
    let hash = short_hash(name);
    let mut cut = room.saturating_sub(hash.len() + 1);
    while !name.is_char_boundary(cut) {
        cut -= 1;
    }
    let start = name.get(..cut).unwrap_or_default();
    format!("{start}~{hash}{suffix}")
}

/// What sessions that work for a run on a database are called in `pg_stat_activity`: the same in
/// every process, and another for another component of the run. In ASCII, because the server
/// changes anything else.
pub(super) fn application(database: &str, run: &RunId) -> String {
    format!("restore {run} {}", short_hash(database))
}

fn short_hash(name: &str) -> String {
    let hash = Sha256::digest(name.as_bytes());
    hash.iter().take(4).map(|b| format!("{b:02x}")).collect()
}

/// A name as SQL reads it back unchanged.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL reads it back unchanged, whatever `standard_conforming_strings` is.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// A value of a libpq connection string (`key='value'`).
pub(super) fn conninfo_value(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> RunId {
        "20240215-093000-7f3a".parse().unwrap()
    }

    #[test]
    fn names_are_readable() {
        let names = DatabaseNames::new("hosting_db", &run());
        assert_eq!(names.staged, "hosting_db_restore_20240215_093000_7f3a");
        assert_eq!(names.replaced, "hosting_db_replaced_20240215_093000_7f3a");
    }

    #[test]
    fn long_names_fit_and_stay_different() {
        let a = format!("{}a", "é".repeat(31));
        let b = format!("{}b", "é".repeat(31));
        for suffix in ["_restore_x", "_replaced_y"] {
            let (a, b) = (with_suffix(&a, suffix), with_suffix(&b, suffix));
            assert_ne!(a, b);
            assert!(a.len() <= LONGEST && b.len() <= LONGEST);
        }
        let long = DatabaseNames::new(&"x".repeat(63), &run());
        assert!(long.staged.len() <= LONGEST && long.replaced.len() <= LONGEST);
        assert_ne!(long.staged, long.replaced);
        assert!(long.staged.ends_with("_restore_20240215_093000_7f3a"));
    }

    #[test]
    fn quoting() {
        assert_eq!(ident("we\"ird-DB"), "\"we\"\"ird-DB\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
        assert_eq!(conninfo_value("a'b\\c d"), "'a\\'b\\\\c d'");
    }
}
