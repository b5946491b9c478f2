//! What a dump says of itself: its SQL, as pg_dump writes it or pg_restore prints it, read for
//! the comments that stand before each object, and for roles, extensions and tablespaces.

mod comments;
mod lines;
mod quoting;
mod reader;
mod statements;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};

pub(super) use reader::ScriptReader;

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
