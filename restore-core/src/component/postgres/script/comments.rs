//! What pg_dump writes in comments: the server's version, and before each object its kind, name,
//! schema, owner and tablespace.

use super::{Object, ScriptReader};

impl ScriptReader {
    pub(super) fn comment(&mut self, comment: &str) {
        if comment == "PostgreSQL database dump complete" {
            self.script.complete = true;
        } else if let Some(version) = comment.strip_prefix("Dumped from database version ") {
            self.script.server = Some(version.to_owned());
        } else if let Some(rest) = comment.strip_prefix("Name: ") {
            self.object(rest);
        } else if let Some((_, rest)) = comment
            .starts_with("Data for Name: ")
            .then(|| comment.split_once("; Type: "))
            .flatten()
        {
            rest.split(';')
                .next()
                .unwrap_or_default()
                .clone_into(&mut self.kind);
        }
    }

    /// `users; Type: TABLE; Schema: public; Owner: app; Tablespace: fast`, read from its end
    /// because names may hold anything.
    fn object(&mut self, text: &str) {
        let Some((text, owner)) = text.rsplit_once("; Owner:") else {
            return;
        };
        let Some((text, schema)) = text.rsplit_once("; Schema: ") else {
            return;
        };
        let Some((name, kind)) = text.rsplit_once("; Type: ") else {
            return;
        };
        kind.clone_into(&mut self.kind);
        name.clone_into(&mut self.name);
        let owner = match owner.trim().rsplit_once("; Tablespace: ") {
            Some((owner, tablespace)) => {
                self.tablespace(tablespace);
                owner
            }
            None => owner.trim(),
        };
        let of_database = kind.starts_with("DATABASE") || self.is_database_acl();
        if !owner.is_empty() && owner != "-" && !of_database {
            self.script.owners.insert(owner.to_owned());
            self.script.roles.insert(owner.to_owned());
        }
        if kind == "EXTENSION" {
            self.script.extensions.insert(name.to_owned());
        }
        let name = match kind {
            "FUNCTION" | "PROCEDURE" | "AGGREGATE" => name.split('(').next().unwrap_or(name),
            _ => name,
        };
        *self
            .script
            .objects
            .entry(Object {
                kind: kind.to_owned(),
                schema: schema.to_owned(),
                name: name.to_owned(),
            })
            .or_default() += 1;
    }

    /// Privileges on the database itself are the live database's, not the dump's.
    pub(super) fn is_database_acl(&self) -> bool {
        self.kind == "ACL" && self.name.starts_with("DATABASE ")
    }

    pub(super) fn tablespace(&mut self, name: &str) {
        if !name.is_empty() && name != "pg_default" && name != "pg_global" {
            self.script.tablespaces.insert(name.to_owned());
        }
    }
}
