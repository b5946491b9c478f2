//! `[components.NAME]` with `kind = "postgres"`.

use std::path::PathBuf;

use serde::Deserialize;

use crate::contract::{ComponentDeps, SecretSource, Table, parse_section};
use crate::model::{Error, ErrorKind, Result};
use crate::sys::connect::{Mode, Tls, TlsKeys};

/// What to do about roles that the dump names and the server lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum MissingRoles {
    /// Refuse before anything is touched.
    #[default]
    Refuse,
    /// Restore without owners and privileges; everything then belongs to the live owner.
    Ignore,
}

/// What to do with the roles of a backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Roles {
    /// Nothing: the server's are used.
    #[default]
    Keep,
    /// Those that the dump needs and the server lacks are created.
    Create,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    service: String,
    database: String,
    user: String,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
    tls: Option<Mode>,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    maintenance_database: Option<String>,
    #[serde(default)]
    stops: Vec<String>,
    #[serde(default = "two")]
    jobs: u32,
    #[serde(default = "default_dump")]
    dump: Vec<String>,
    #[serde(default = "default_sql")]
    sql: Vec<String>,
    bin: Option<PathBuf>,
    #[serde(default)]
    missing_roles: MissingRoles,
    #[serde(default)]
    roles: Roles,
    #[serde(default)]
    powerful_roles: Vec<String>,
    globals: Option<Vec<String>>,
    dumped_as: Option<String>,
    #[serde(default)]
    skip: Vec<String>,
    #[serde(default)]
    after_load: Vec<String>,
    #[serde(default)]
    search_path: bool,
    #[serde(default)]
    reindex: bool,
    #[serde(default)]
    grants: Vec<String>,
    cluster: Option<String>,
    #[serde(default)]
    max_bytes: u64,
}

/// Whether a text is one statement about privileges inside the database: whatever else should
/// happen to it is no matter of its restore, and memberships of roles, privileges on databases,
/// tablespaces and parameters are the whole cluster's, where no undo would take them back.
fn is_grant(text: &str) -> bool {
    let words: Vec<String> = text
        .split_whitespace()
        .map(str::to_ascii_uppercase)
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let inside = match words.as_slice() {
        ["ALTER", "DEFAULT", "PRIVILEGES", ..] => true,
        ["GRANT" | "REVOKE", rest @ ..] => {
            let on = rest.iter().position(|word| *word == "ON");
            let object = on.and_then(|at| rest.get(at + 1));
            object.is_some_and(|object| !matches!(*object, "DATABASE" | "TABLESPACE" | "PARAMETER"))
        }
        _ => false,
    };
    inside && !text.trim().trim_end_matches(';').contains(';')
}

fn two() -> u32 {
    2
}

/// What the names of files end in that are compressed in one of the ways that are read; none first.
pub(super) const PACKED: [&str; 6] = ["", ".gz", ".zst", ".bz2", ".xz", ".lz4"];

fn default_dump() -> Vec<String> {
    PACKED
        .map(|end| format!("postgres/postgres-{{id}}.dump{end}"))
        .to_vec()
}

fn default_sql() -> Vec<String> {
    PACKED
        .map(|end| format!("postgres/postgres-{{id}}.sql{end}"))
        .to_vec()
}

/// The roles' file stands beside each dump.
fn default_globals(dump: &[String]) -> Vec<String> {
    let mut beside = Vec::new();
    for pattern in dump {
        let name = super::back_up::sidecar(pattern, "globals", "sql");
        if !beside.contains(&name) {
            beside.push(name);
        }
    }
    beside
}

/// The section, checked.
#[derive(Clone, Debug)]
pub(super) struct PostgresConfig {
    pub(super) service: String,
    pub(super) database: String,
    pub(super) user: String,
    pub(super) password: SecretSource,
    pub(super) tls: Tls,
    /// Where to connect to create and rename databases, best first.
    pub(super) maintenance: Vec<String>,
    pub(super) stops: Vec<String>,
    pub(super) jobs: u32,
    pub(super) dump: Vec<String>,
    pub(super) sql: Vec<String>,
    pub(super) bin: Option<PathBuf>,
    pub(super) missing_roles: MissingRoles,
    pub(super) roles: Roles,
    /// Roles of the backup that may be created although they are powerful.
    pub(super) powerful_roles: Vec<String>,
    /// The files with the server's roles.
    pub(super) globals: Vec<String>,
    /// What the database is called in dumps of several.
    pub(super) dumped_as: String,
    /// Entries of a dump that are left out.
    pub(super) skip: Vec<String>,
    /// Statements that are run once the dump is loaded.
    pub(super) after_load: Vec<String>,
    /// A dump is loaded with the `search_path` of the live database instead of an empty one.
    pub(super) search_path: bool,
    /// Rebuild all indexes of the staged database.
    pub(super) reindex: bool,
    /// Statements about privileges, run in the staged database; each one statement.
    pub(super) grants: Vec<String>,
    /// The component that its whole cluster is.
    pub(super) cluster: Option<String>,
    /// So many bytes the staged database may have; 0: what the dump's size makes likely.
    pub(super) max_bytes: u64,
}

impl PostgresConfig {
    pub(super) fn from_table(name: &str, table: Table, parts: &ComponentDeps) -> Result<Self> {
        let path = format!("components.{name}");
        let section: Section = parse_section(&path, table)?;
        let bad = |what: String| {
            Error::new(
                ErrorKind::Config,
                "config.bad_value",
                format!("[{path}] {what}"),
            )
        };
        if section.database.is_empty() || section.database.len() > 63 {
            return Err(bad("database must have 1 to 63 bytes".to_owned()));
        }
        if ["template0", "template1"].contains(&section.database.as_str()) {
            return Err(bad(format!(
                "database = {:?} is a template of the server, not a database to restore",
                section.database
            )));
        }
        if section.jobs == 0 {
            return Err(bad("jobs must be at least 1".to_owned()));
        }
        if let Some(wrong) = section.grants.iter().find(|text| !is_grant(text)) {
            return Err(bad(format!(
                "grants: {wrong:?} is not one GRANT or REVOKE … ON something inside the database, nor one ALTER DEFAULT PRIVILEGES"
            )));
        }
        let mut maintenance = match section.maintenance_database {
            Some(name) if name == section.database => {
                return Err(bad(format!(
                    "maintenance_database = {name:?} is the database to restore: nobody can \
                     rename the database that they are connected to"
                ))
                .hint("name another one, template1 for instance"));
            }
            Some(name) => vec![name],
            None => vec!["postgres".to_owned(), "template1".to_owned()],
        };
        maintenance.retain(|name| *name != section.database);
        for (key, texts) in [
            ("skip", &section.skip),
            ("after_load", &section.after_load),
            ("powerful_roles", &section.powerful_roles),
        ] {
            if texts.iter().any(|text| text.trim().is_empty()) {
                return Err(bad(format!("{key}: an empty text says nothing")));
            }
        }
        if let Some(all) = section
            .skip
            .iter()
            .find(|text| text.trim_matches(['*', ' ']).is_empty())
        {
            return Err(bad(format!("skip: {all:?} would leave everything out")));
        }
        let globals = section
            .globals
            .unwrap_or_else(|| default_globals(&section.dump));
        Ok(Self {
            service: section.service,
            dumped_as: section
                .dumped_as
                .unwrap_or_else(|| section.database.clone()),
            roles: section.roles,
            powerful_roles: section.powerful_roles,
            globals,
            skip: section.skip,
            after_load: section.after_load,
            search_path: section.search_path,
            database: section.database,
            user: section.user,
            password: SecretSource::new(
                &path,
                section.password_file.map(|path| parts.path(path)),
                section.password_env,
            )?,
            tls: TlsKeys {
                tls: section.tls,
                ca_file: section.ca_file,
                cert_file: section.cert_file,
                key_file: section.key_file,
            }
            .read(&path, &parts.base)?,
            maintenance,
            stops: section.stops,
            jobs: section.jobs,
            dump: section.dump,
            sql: section.sql,
            bin: section.bin.map(|path| parts.path(path)),
            missing_roles: section.missing_roles,
            reindex: section.reindex,
            grants: section.grants,
            cluster: section.cluster,
            max_bytes: section.max_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{default_dump, default_globals, default_sql, is_grant};

    #[test]
    fn what_is_compressed_needs_no_name_of_its_own() {
        for end in ["", ".gz", ".zst", ".bz2", ".xz", ".lz4"] {
            let dump = format!("postgres/postgres-{{id}}.dump{end}");
            let sql = format!("postgres/postgres-{{id}}.sql{end}");
            assert!(default_dump().contains(&dump), "{dump}");
            assert!(default_sql().contains(&sql), "{sql}");
        }
        // What a backup of ours is called.
        assert_eq!(default_dump()[0], "postgres/postgres-{id}.dump");
        let globals = default_globals(&default_dump());
        assert_eq!(globals[0], "postgres/postgres-globals-{id}.sql");
        assert_eq!(globals.len(), 2, "{globals:?}");
    }

    #[test]
    fn only_privileges_are_granted() {
        for text in [
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reporting",
            "revoke all on users from public;",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO reporting",
        ] {
            assert!(is_grant(text), "{text}");
        }
        for text in [
            "",
            "GRANTS",
            "DROP TABLE users",
            "GRANT x TO y; DROP TABLE users",
            "ALTER TABLE x OWNER TO y",
            // The whole cluster's.
            "GRANT admin TO app",
            "REVOKE CONNECT ON DATABASE shop FROM PUBLIC",
            "GRANT CREATE ON TABLESPACE fast TO app",
            "GRANT SET ON PARAMETER work_mem TO app",
            "GRANT SELECT ON",
        ] {
            assert!(!is_grant(text), "{text}");
        }
    }
}
