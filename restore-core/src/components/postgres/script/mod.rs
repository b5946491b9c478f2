//! What a dump says of itself: its SQL, as pg_dump writes it or pg_restore prints it, read for
//! the comments that stand before each object, and for roles, extensions and tablespaces.

mod classes;
mod comments;
mod leaving;
mod limits;
mod lines;
mod quoting;
mod reader;
mod sections;
mod skip;
mod statements;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

pub(super) use classes::{empties_path, odd_setting};
pub(super) use lines::Lines;
pub(super) use quoting::Quoting;
#[cfg(test)]
pub(super) use reader::Counted;
pub(super) use reader::ScriptReader;
#[cfg(feature = "fuzzing")]
pub(super) use reader::{fuzz, refused};
pub(super) use skip::{Out, SUBSCRIPTION, Skip, VIEW_DATA};
pub(super) use tokens::{Token, tokens};

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
    /// Roles of policies and user mappings, which no option of pg_restore leaves out.
    pub(super) named: BTreeSet<String>,
    /// How many tables it has rows of, as far as its comments tell; a custom dump's SQL does not.
    pub(super) data: u32,
    /// It has objects of names that could not be read: those are not among the objects.
    pub(super) undecoded: bool,
    /// It has rows: statements that bring some, whatever its comments say.
    pub(super) filled: bool,
    /// How many rows it copies, and whether others are written as statements, which nobody counts.
    pub(super) rows: u64,
    pub(super) inserts: bool,
    /// Of the tables whose rows alone are wanted, those that it has rows of, or says that there are none.
    pub(super) rows_of: BTreeSet<String>,
    /// It has large objects.
    pub(super) large_objects: bool,
    /// How many of them an archive lists one by one.
    pub(super) listed_objects: u32,
    /// It makes the schema `public`, which every new database has (`pg_dump -n public`).
    pub(super) makes_public: bool,
    /// What it takes from everybody on that schema, of which everybody has something at first.
    pub(super) takes_of_public: BTreeSet<String>,
    /// The line of a DROP that fails where there is nothing to drop.
    pub(super) bare_drop: Option<u64>,
    /// What it says of the database itself, made with `--create`.
    pub(super) properties: Properties,
    pub(super) extensions: BTreeSet<String>,
    pub(super) tablespaces: BTreeSet<String>,
    /// "15.4", of the server that was dumped.
    pub(super) server: Option<String>,
    /// The options of its `CREATE DATABASE`, where it has one.
    pub(super) create: Vec<(String, String)>,
    /// A command of psql's own, with its line: psql would obey it, and it can reach the live
    /// database and this host.
    pub(super) command: Option<(String, u64)>,
    /// A statement that reaches beyond the database, with its line. One that is well hidden is not
    /// found: only the role that runs it sets limits.
    pub(super) beyond: Option<(&'static str, u64)>,
    /// What is not given to psql, in bytes: where pg_dump itself restricts psql and lifts that,
    /// entries that are skipped, what is for other databases, and what `--clean` takes away.
    pub(super) left_out: Vec<Range<u64>>,
    /// Where its first line is, if that is an empty comment.
    pub(super) first_line: Option<Range<u64>>,
    /// Settings that not all servers know, and where they are made.
    pub(super) settings: Vec<(String, Range<u64>)>,
    /// Where it empties the `search_path`.
    pub(super) paths: Vec<Range<u64>>,
    /// Entries that the site leaves out, each with the number of the pattern that names it.
    pub(super) skipped: Vec<(usize, String)>,
    /// Entries that fill materialized views, which are left out and made up for.
    pub(super) views: Vec<String>,
    /// It is of an archive, whose table of contents names these with their owners.
    pub(super) listed: bool,
    /// Subscriptions, which are left out.
    pub(super) subscriptions: Vec<String>,
    /// The database that its `CREATE DATABASE` makes.
    made: Option<String>,
    /// It is pg_dumpall's, and its last line has come.
    cluster: bool,
    cluster_ended: bool,
    /// Another dump begins before this one has ended.
    cut: bool,
    /// The databases that a script connects to.
    pub(super) databases: Vec<String>,
    /// The database that it is of, where that is another than the one that is restored.
    pub(super) taken_from: Option<String>,
    /// Each line ends with a line's return, as what came through a terminal.
    pub(super) returns: bool,
    /// Its last line is the one that pg_dump writes when everything is written.
    pub(super) complete: bool,
}

/// A database's own properties, as statements about it: each is what stands before and after its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Properties {
    pub(super) owner: Option<String>,
    pub(super) comment: Option<String>,
    /// In the dump's order, with the role that makes each of them, where it is another than ours.
    pub(super) statements: Vec<(Option<String>, String, String)>,
    /// A property that could not be read: its value has line ends.
    pub(super) unread: bool,
}

impl Properties {
    pub(super) fn is_empty(&self) -> bool {
        self.owner.is_none() && self.statements.is_empty()
    }

    fn add(&mut self, more: Self) {
        self.owner = self.owner.take().or(more.owner);
        self.comment = self.comment.take().or(more.comment);
        self.statements.extend(more.statements);
        self.unread |= more.unread;
    }
}

impl Script {
    /// Adds what was found further on.
    fn add(&mut self, more: Self) {
        let nothing = more.is_nothing();
        for (object, count) in more.objects {
            *self.objects.entry(object).or_default() += count;
        }
        self.roles.extend(more.roles);
        self.owners.extend(more.owners);
        self.named.extend(more.named);
        self.data += more.data;
        self.undecoded |= more.undecoded;
        self.filled |= more.filled;
        self.rows = self.rows.saturating_add(more.rows);
        self.inserts |= more.inserts;
        self.rows_of.extend(more.rows_of);
        self.large_objects |= more.large_objects;
        self.listed_objects += more.listed_objects;
        self.makes_public |= more.makes_public;
        self.takes_of_public.extend(more.takes_of_public);
        self.bare_drop = self.bare_drop.or(more.bare_drop);
        self.properties.add(more.properties);
        self.extensions.extend(more.extensions);
        self.tablespaces.extend(more.tablespaces);
        self.server = more.server.or(self.server.take());
        self.create.extend(more.create);
        self.command = self.command.take().or(more.command);
        self.beyond = self.beyond.or(more.beyond);
        self.left_out.extend(more.left_out);
        self.first_line = self.first_line.take().or(more.first_line);
        self.settings.extend(more.settings);
        self.paths.extend(more.paths);
        self.skipped.extend(more.skipped);
        self.views.extend(more.views);
        self.subscriptions.extend(more.subscriptions);
        if !nothing {
            self.complete = more.complete;
        }
    }

    /// Whether there is nothing in it but comments.
    fn is_nothing(&self) -> bool {
        !self.complete && self.objects.is_empty() && self.data == 0 && !self.cluster && !self.cut
    }

    /// Whether there is more in it than a database itself, with what is said of that.
    fn makes_something(&self) -> bool {
        let of_database = |object: &Object| {
            object.kind.starts_with("DATABASE")
                || (matches!(object.kind.as_str(), "ACL" | "COMMENT" | "SECURITY LABEL")
                    && object.name.starts_with("DATABASE "))
        };
        self.data > 0 || !self.objects.keys().all(of_database)
    }

    /// Names of a script in another encoding cannot be compared with anything.
    fn forget_undecoded(&mut self) {
        let before = self.objects.len();
        self.objects
            .retain(|object, _| object.name.is_ascii() && object.schema.is_ascii());
        self.undecoded |= self.objects.len() < before;
        for names in [
            &mut self.roles,
            &mut self.owners,
            &mut self.extensions,
            &mut self.tablespaces,
        ] {
            names.retain(|name| name.is_ascii());
        }
    }

    /// How many tables it makes.
    pub(super) fn tables(&self) -> u32 {
        self.kinds().get("TABLE").copied().unwrap_or(0)
    }

    /// How many large objects it has; `None`: it has groups of them, or nobody knows.
    pub(super) fn count_large_objects(&self) -> Option<u32> {
        if !self.large_objects {
            return Some(0);
        }
        let kinds = self.kinds();
        let named = kinds.get("BLOB").copied().unwrap_or(0);
        let count = named.max(self.listed_objects);
        (count > 0 && !kinds.contains_key("BLOB METADATA")).then_some(count)
    }

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
