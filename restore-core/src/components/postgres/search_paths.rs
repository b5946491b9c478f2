//! Functions that find names by the `search_path` only. A dump is loaded with an empty one, so checks, generated columns
//! and indexes that call such a function fail there, unless the component says by which path names are found.

use super::Postgres;
use super::client::{Session, column};
use super::compare::OURS;
use super::tools::tool_failed;
use crate::model::{Error, ErrorKind, Finding, Result};
use crate::sys::process::command::Exit;

/// The tables and domains with a check, a generated column or an index that calls a function in whose text a word
/// without a schema is the name of something in the database.
fn query(version: u32) -> String {
    // Since 17 an index is built with a path that is as good as empty, so there is none that needs another.
    let index = match version < 170_000 {
        true => "OR c.relkind = 'i'",
        false => "",
    };
    let generated = match version >= 120_000 {
        true => format!(
            "UNION SELECT n.nspname::text, c.relname::text, d.refobjid FROM pg_depend d \
             JOIN pg_attrdef f ON f.oid = d.objid \
             JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum \
             JOIN pg_class c ON c.oid = f.adrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_proc'::regclass \
             AND a.attgenerated <> '' AND {OURS}"
        ),
        false => String::new(),
    };
    format!(
        "WITH names(name) AS ( \
           SELECT lower(c.relname::text) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c') AND {OURS} \
           UNION SELECT lower(p.proname::text) FROM pg_proc p \
             JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {OURS} \
           UNION SELECT lower(t.typname::text) FROM pg_type t \
             JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype IN ('d', 'e', 'r') AND {OURS} \
         ), places(schema, name, proc) AS ( \
           SELECT n.nspname::text, coalesce(c.relname, t.typname)::text, d.refobjid FROM pg_depend d \
             JOIN pg_constraint k ON k.oid = d.objid JOIN pg_namespace n ON n.oid = k.connamespace \
             LEFT JOIN pg_class c ON c.oid = k.conrelid LEFT JOIN pg_type t ON t.oid = k.contypid \
             WHERE d.classid = 'pg_constraint'::regclass AND d.refclassid = 'pg_proc'::regclass \
             AND k.contype = 'c' AND {OURS} \
           {generated} \
           UNION SELECT n.nspname::text, c.relname::text, d.refobjid FROM pg_depend d \
             JOIN pg_class c ON c.oid = d.objid JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_proc'::regclass \
             AND ((c.relkind IN ('r', 'p') AND d.objsubid > 0) {index}) AND {OURS} \
         ) \
         SELECT DISTINCT l.schema || '.' || l.name FROM places l JOIN pg_proc p ON p.oid = l.proc \
         JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language g ON g.oid = p.prolang \
         WHERE n.nspname <> 'pg_catalog' AND g.lanname NOT IN ('internal', 'c') \
         AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS s(setting) WHERE s.setting LIKE 'search_path=%') \
         AND EXISTS (SELECT FROM regexp_split_to_table(lower(p.prosrc), '[^[:alnum:]_$.]+') AS w(word) \
           WHERE w.word IN (SELECT name FROM names)) \
         ORDER BY 1"
    )
}

/// What in the database may need the path by which the application finds names. Reads the catalogs only.
pub(super) async fn in_need(session: &Session) -> Result<Vec<String>> {
    let rows = session.rows(&query(session.version()), &[]).await?;
    rows.iter().map(|row| column(row, 0)).collect()
}

/// Whether a program failed because a function did not find a name.
fn lacks_a_name(stderr: &str) -> bool {
    let lacks = |line: &str| line.contains("ERROR:") && line.contains("does not exist");
    let within = |line: &str| line.contains("CONTEXT:") && line.contains("function ");
    stderr.lines().any(lacks) && stderr.lines().any(within)
}

impl Postgres {
    /// That a dump of the live database may fail while it is loaded.
    pub(super) fn needs_search_path(&self, places: &[String]) -> Option<Finding> {
        if self.config.search_path || places.is_empty() {
            return None;
        }
        let named: Vec<&str> = places.iter().take(10).map(String::as_str).collect();
        let more = match places.len().saturating_sub(named.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let finding = Finding::warning(
            "postgres.needs_search_path",
            &self.name,
            format!(
                "checks, generated columns or indexes call functions that seem to find names by the search_path only, and a dump, which is loaded with an empty one, may fail there: {}{more}",
                named.join(", ")
            ),
        );
        Some(finding.hint(self.path_hint()))
    }

    fn path_hint(&self) -> String {
        format!(
            "search_path = true of [components.{}] loads the dump with the search_path of the live database; ALTER FUNCTION … SET search_path = … makes later dumps right by themselves",
            self.name
        )
    }

    /// Why a dump could not be loaded.
    pub(super) fn load_failed(&self, program: &str, exit: &Exit) -> Error {
        let error = tool_failed(program, exit);
        if self.config.search_path || !lacks_a_name(&exit.stderr) {
            return error;
        }
        // Not the reason of a failed program: SQL beside the dump would fail in the same way.
        Error::new(
            ErrorKind::Failed,
            "postgres.needs_search_path",
            format!(
                "{}: a function that the dump calls finds a name by the search_path only, and a dump is loaded with an empty one",
                error.message()
            ),
        )
        .hint(self.path_hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_function_lacks_is_told_from_other_failures() {
        let function = "pg_restore: error: COPY failed for table \"t\": ERROR:  relation \"limits\" does not exist\n\
            LINE 1: SELECT max(n) FROM limits\nQUERY:  SELECT max(n) FROM limits\n\
            CONTEXT:  SQL function \"fits\" during inlining\nCOPY t, line 1: \"1\"\n";
        assert!(lacks_a_name(function));
        let plpgsql = "psql:<stdin>:87: ERROR:  function other(integer) does not exist\n\
            CONTEXT:  PL/pgSQL function public.fits(integer) line 1 at RETURN\n";
        assert!(lacks_a_name(plpgsql));
        let role =
            "pg_restore: error: could not execute query: ERROR:  role \"x\" does not exist\n";
        assert!(!lacks_a_name(role));
        let raised = "psql:<stdin>:87: ERROR:  not today\n\
            CONTEXT:  PL/pgSQL function public.fits(integer) line 1 at RAISE\n";
        assert!(!lacks_a_name(raised));
    }

    #[test]
    fn servers_are_asked_only_what_they_know() {
        assert!(!query(110_000).contains("attgenerated"));
        assert!(
            query(150_000).contains("attgenerated") && query(150_000).contains("relkind = 'i'")
        );
        assert!(!query(170_000).contains("relkind = 'i'"));
    }
}
