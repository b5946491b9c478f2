//! Scripts of several databases, as pg_dumpall and `pg_dump --create` write them: psql is told to
//! connect to one after the other. Only what is for the database that is restored is run.

use super::quoting::Characters;
use std::collections::BTreeSet;
use std::ops::Range;

use super::reader::ScriptReader;
use super::{Properties, Script};

/// What goes to one connection of psql.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    /// The database; `None`: the one that psql was started with.
    pub(super) database: Option<String>,
    pub(super) place: Range<u64>,
    pub(super) script: Script,
}

impl ScriptReader {
    /// psql would connect to another database.
    pub(super) fn connect(&mut self, database: String, place: Range<u64>) {
        if self.database.as_ref() == Some(&database) {
            // Anew, after its properties were set.
            self.begin_entry(place.start, false);
            self.leave_out(place);
            return;
        }
        self.end_section(place.start, place.end);
        self.database = Some(database);
        // A new session has the server's own setting.
        self.quoting.set_standard_strings(true);
        self.quoting.set_characters(Characters::default());
    }

    /// A dump begins, perhaps after another one.
    pub(super) fn begin_dump(&mut self, place: &Range<u64>) {
        if self.script.complete {
            self.end_section(place.start, place.start);
        } else if self.database.is_none() && !self.script.objects.is_empty() {
            self.script.cut = true;
        }
    }

    /// What was found in all of it, whichever database it is for.
    pub(in super::super) fn finish(mut self) -> Script {
        self.end();
        self.all()
    }

    /// What was found for the database of this name. Where a script is of one other database only,
    /// it is taken for it.
    ///
    /// # Errors
    ///
    /// The names of the databases that the script is of.
    pub(in super::super) fn finish_for(mut self, wanted: &str) -> Result<Script, Vec<String>> {
        let names = |sections: &[Section]| {
            let mut seen = BTreeSet::new();
            let names = sections.iter().filter_map(|it| it.database.clone());
            names
                .filter(|name| seen.insert(name.clone()))
                .collect::<Vec<_>>()
        };
        self.end();
        let names = names(&self.sections);
        if names.is_empty() {
            return Ok(self.all());
        }
        let returns = self.has_returns();
        let others = |name: &&String| !["template1", "postgres"].contains(&name.as_str());
        let chosen = match names.iter().filter(others).collect::<Vec<_>>().as_slice() {
            _ if names.iter().any(|name| name == wanted) => wanted.to_owned(),
            [] if names.len() == 1 => names.first().cloned().unwrap_or_default(),
            [only] if !self.sections.iter().any(|it| it.script.cluster) => (*only).clone(),
            _ => return Err(names),
        };
        let mut found = Script {
            returns,
            databases: names,
            ..Script::default()
        };
        let complete = self
            .sections
            .iter()
            .rfind(|section| !section.script.is_nothing())
            .is_some_and(|last| last.script.complete);
        let is_cluster = self.sections.iter().any(|it| it.script.cluster);
        let ended = self.sections.iter().any(|it| it.script.cluster_ended);
        let (mut cut, mut whole) = (is_cluster && !ended, true);
        let mut left_out: Vec<Range<u64>> = Vec::new();
        let mut at = 0;
        let mut preamble = Properties::default();
        let mut create = Vec::new();
        for section in self.sections {
            let Section {
                database,
                place,
                script,
            } = section;
            cut |= script.cut;
            if database.as_ref() != Some(&chosen) {
                // What would go to whatever psql is connected to.
                if database.is_none() && script.makes_something() {
                    found.command.get_or_insert(("\\connect".to_owned(), 1));
                }
                if script.made.as_ref() == Some(&chosen) {
                    preamble = script.properties;
                    create = script.create;
                }
                continue;
            }
            whole &= script.complete || script.is_nothing();
            left_out.push(at..place.start);
            at = place.end;
            left_out.extend(script.left_out.iter().cloned());
            found.add(script);
        }
        left_out.push(at..u64::MAX);
        left_out.retain(|range| !range.is_empty());
        found.left_out = left_out;
        found.complete = complete && whole && !cut;
        if found.create.is_empty() {
            found.create = create;
        }
        found.properties.add(preamble);
        if chosen != wanted {
            found.taken_from = Some(chosen);
        }
        Ok(found)
    }

    fn all(self) -> Script {
        let mut all = Script {
            returns: self.has_returns(),
            ..Script::default()
        };
        let mut cut = false;
        for section in self.sections {
            cut |= section.script.cut;
            all.add(section.script);
        }
        all.complete &= !cut;
        all
    }
}

/// The database of a `\connect`, as pg_dump and pg_dumpall write it.
pub(super) fn connected_to(line: &str) -> Option<String> {
    let rest = line
        .strip_prefix("\\connect ")
        .or_else(|| line.strip_prefix("\\c "))?;
    if let Some(rest) = rest.strip_prefix("-reuse-previous=on ") {
        let text = unquoted(rest, '"')?;
        let value = text.strip_prefix("dbname=")?;
        let Some(quoted) = value
            .strip_prefix('\'')
            .and_then(|rest| rest.strip_suffix('\''))
        else {
            return is_plain(value).then(|| value.to_owned());
        };
        let mut name = String::new();
        let mut chars = quoted.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => name.push(chars.next()?),
                '\'' => return None,
                c => name.push(c),
            }
        }
        return Some(name);
    }
    match rest.starts_with('"') {
        true => unquoted(rest, '"'),
        false => is_plain(rest).then(|| rest.to_owned()),
    }
}

fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
    !name.is_empty() && name.chars().all(plain)
}

/// A text that is all in quotes, of which two stand for one.
fn unquoted(text: &str, quote: char) -> Option<String> {
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut found = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c == quote && chars.next() != Some(quote) {
            return None;
        }
        found.push(c);
    }
    (!found.is_empty()).then_some(found)
}
