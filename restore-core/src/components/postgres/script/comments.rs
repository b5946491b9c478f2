//! What pg_dump writes in comments: the server's version, and before each object its kind, name,
//! schema, owner and tablespace.

use std::ops::Range;

use super::limits::shortened;
use super::reader::Counted;
use super::skip::Out;
use super::{Object, ScriptReader};

impl ScriptReader {
    pub(super) fn comment(&mut self, comment: &str, place: &Range<u64>) {
        match comment {
            "PostgreSQL database dump" => {
                self.begin_entry(place.start, false);
                self.begin_dump(place);
            }
            "PostgreSQL database cluster dump" => self.script.cluster = true,
            "PostgreSQL database dump complete" => {
                self.begin_entry(place.start, false);
                self.script.complete = true;
            }
            "PostgreSQL database cluster dump complete" => self.script.cluster_ended = true,
            _ => {}
        }
        if let Some(version) = comment.strip_prefix("Dumped from database version ") {
            self.script.server = Some(version.to_owned());
        } else if let Some(rest) = comment.strip_prefix("Name: ") {
            self.object(rest, place);
        } else if let Some(rest) = comment.strip_prefix("Data for Name: ") {
            let Some(entry) = Entry::of(rest) else {
                return;
            };
            entry.kind.clone_into(&mut self.kind);
            if self.begins_left_out(&entry, place) {
                return;
            }
            self.script.large_objects |= entry.kind.starts_with("BLOB");
            if self.kind == "TABLE DATA" {
                self.script.data += 1;
                let text = format!("{} {} {}", entry.kind, entry.schema, entry.name);
                if let Some(wanted) = self.skip.wanted(&text).filter(|wanted| *wanted == text) {
                    self.script.rows_of.insert(wanted.to_owned());
                }
                let (schema, name) = (shortened(entry.schema), shortened(entry.name));
                if self.tables.is_some() && self.limits.keep(schema.len() + name.len()) {
                    let table = Counted {
                        database: self.database.clone(),
                        schema: schema.to_owned(),
                        name: name.to_owned(),
                        rows: None,
                    };
                    self.tables.get_or_insert_default().push(table);
                }
            }
        }
    }

    /// Whether the entry that begins here is left out.
    fn begins_left_out(&mut self, entry: &Entry<'_>, place: &Range<u64>) -> bool {
        let text = format!("{} {} {}", entry.kind, entry.schema, entry.name);
        let text = shortened(&text);
        let out = self.skip.of(text);
        self.begin_entry(place.start, out.is_some());
        if out.is_some() && self.limits.keep(text.len()) {
            let text = text.to_owned();
            match out {
                Some(Out::Named(at)) => self.script.skipped.push((at, text)),
                Some(Out::View) => self.script.views.push(text),
                Some(Out::Subscription) => self.script.subscriptions.push(text),
                Some(Out::Ours) | None => {}
            }
        }
        if out.is_some() {
            self.kind.clear();
            self.name.clear();
        }
        out.is_some()
    }

    /// An object, by the comment before it.
    fn object(&mut self, text: &str, place: &Range<u64>) {
        let Some(entry) = Entry::of(text) else {
            return;
        };
        if self.begins_left_out(&entry, place) {
            return;
        }
        let Entry {
            name,
            kind,
            schema,
            owner,
            tablespace,
        } = entry;
        let (name, kind, schema) = (shortened(name), shortened(kind), shortened(schema));
        let owner = shortened(owner);
        kind.clone_into(&mut self.kind);
        name.clone_into(&mut self.name);
        if let Some(tablespace) = tablespace {
            self.tablespace(tablespace);
        }
        let of_database = kind.starts_with("DATABASE") || self.is_of_database();
        if of_database && self.skip.unfit {
            self.begin_entry(place.start, true);
        }
        self.script.large_objects |= kind.starts_with("BLOB");
        if kind == "DATABASE" {
            self.script.made = Some(name.to_owned());
        }
        let new = !self.script.owners.contains(owner);
        let named = !owner.is_empty() && owner != "-";
        if named && !of_database && new && self.limits.keep(owner.len()) {
            self.script.owners.insert(owner.to_owned());
            self.script.roles.insert(owner.to_owned());
        }
        if kind == "EXTENSION" && self.limits.keep(name.len()) {
            self.script.extensions.insert(name.to_owned());
        }
        let name = match kind {
            "FUNCTION" | "PROCEDURE" | "AGGREGATE" => name.split('(').next().unwrap_or(name),
            // There may be millions of them, and none is asked for by its number.
            _ if kind.starts_with("BLOB") || name.starts_with("LARGE OBJECT ") => "",
            _ => name,
        };
        let object = Object {
            kind: kind.to_owned(),
            schema: schema.to_owned(),
            name: name.to_owned(),
        };
        if let Some(count) = self.script.objects.get_mut(&object) {
            *count = count.saturating_add(1);
        } else if self.limits.keep(kind.len() + schema.len() + name.len()) {
            self.script.objects.insert(object, 1);
        }
    }

    /// Privileges on the database itself are the live database's, not the dump's.
    pub(super) fn is_database_acl(&self) -> bool {
        self.kind == "ACL" && self.name.starts_with("DATABASE ")
    }

    pub(super) fn tablespace(&mut self, name: &str) {
        let known = ["", "pg_default", "pg_global"].contains(&name)
            || self.script.tablespaces.contains(name);
        if !known && self.limits.keep(name.len()) {
            self.script.tablespaces.insert(name.to_owned());
        }
    }
}

/// `users; Type: TABLE; Schema: public; Owner: app; Tablespace: fast`.
struct Entry<'a> {
    name: &'a str,
    kind: &'a str,
    schema: &'a str,
    owner: &'a str,
    tablespace: Option<&'a str>,
}

impl<'a> Entry<'a> {
    /// Read from its end, because names may hold anything.
    fn of(text: &'a str) -> Option<Self> {
        let (text, owner) = text.rsplit_once("; Owner:")?;
        let (text, schema) = text.rsplit_once("; Schema: ")?;
        let (name, kind) = text.rsplit_once("; Type: ")?;
        let (owner, tablespace) = match owner.trim().rsplit_once("; Tablespace: ") {
            Some((owner, tablespace)) => (owner, Some(tablespace)),
            None => (owner.trim(), None),
        };
        Some(Self {
            name,
            kind,
            schema,
            owner,
            tablespace,
        })
    }
}
