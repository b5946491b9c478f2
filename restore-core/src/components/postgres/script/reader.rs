//! Follows a script as it comes: what is a comment, a statement, a text, data, or a command of
//! psql's own.

use std::ops::Range;

use super::classes::{
    DATABASE_COMMENT, beyond, clears, empties_path, hollows_view, inserts, is_restriction,
    keeps_empty, odd_setting,
};
use super::leaving::EntryOut;
use super::limits::{Limits, SECTIONS};
use super::lines::Lines;
use super::quoting::Quoting;
use super::sections::Section;
use super::{Script, Skip};

/// What some programs write before UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a script as it comes.
#[derive(Debug)]
pub(in super::super) struct ScriptReader {
    pub(super) script: Script,
    /// What came before the part that is being read.
    pub(super) sections: Vec<Section>,
    /// Which entries are left out.
    pub(super) skip: Skip,
    lines: Lines,
    pub(super) quoting: Quoting,
    /// How the line that is being read began: whether it could be a comment or a statement.
    began: Began,
    pub(super) number: u64,
    /// The kind of the object whose statements are being read.
    pub(super) kind: String,
    pub(super) name: String,
    /// Who grants what is read, where it is not whoever restores.
    pub(super) grantor: Option<String>,
    /// The statement that is being read is a `COPY`.
    copies: bool,
    in_copy: bool,
    /// The tables that it has rows of, where these are counted.
    pub(super) tables: Option<Vec<Counted>>,
    /// Where the line begins that is being read, and how many bytes of it have come.
    at: u64,
    length: u64,
    /// How many bytes of a [`MARK`] have come.
    mark: usize,
    /// Where a statement began that is being read and is left out, and the setting that it makes.
    pub(super) out: Option<(u64, Option<String>)>,
    /// The entry that is being read and is left out.
    pub(super) entry_out: Option<EntryOut>,
    /// How much is kept of what was read.
    pub(super) limits: Limits,
    /// The database that psql would be connected to, and since where.
    pub(super) database: Option<String>,
    pub(super) since: u64,
    /// Nothing has come that makes something.
    clearing: bool,
    /// Whether there was a line that does not end with a line's return.
    plain_line: bool,
    /// Strings had escapes somewhere.
    old_strings: bool,
    /// The script is not in UTF-8, so only names in ASCII could be read.
    pub(super) other_encoding: bool,
}

/// A table that a script has an entry for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Counted {
    /// The database that psql is connected to by the script itself.
    pub(in super::super) database: Option<String>,
    pub(in super::super) schema: String,
    pub(in super::super) name: String,
    /// How many rows it has; `None` where they are written as statements, which nobody counts.
    pub(in super::super) rows: Option<u64>,
}

/// What a line is, by what stands before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Began {
    /// It begins a statement, or is a comment between two.
    #[default]
    Statement,
    /// It goes on with a statement.
    Sql,
    /// It is part of a text, a function's body or a longer comment.
    Text,
}

impl Default for ScriptReader {
    fn default() -> Self {
        Self::skipping(Skip::default())
    }
}

impl ScriptReader {
    /// One that leaves entries out.
    pub(in super::super) fn skipping(skip: Skip) -> Self {
        Self {
            script: Script::default(),
            sections: Vec::new(),
            skip,
            lines: Lines::default(),
            quoting: Quoting::default(),
            began: Began::default(),
            number: 0,
            kind: String::new(),
            name: String::new(),
            grantor: None,
            copies: false,
            in_copy: false,
            tables: None,
            at: 0,
            length: 0,
            mark: 0,
            out: None,
            entry_out: None,
            limits: Limits::default(),
            database: None,
            since: 0,
            clearing: true,
            plain_line: false,
            old_strings: false,
            other_encoding: false,
        }
    }

    /// One that counts the rows of each table.
    pub(in super::super) fn counting() -> Self {
        Self {
            tables: Some(Vec::new()),
            ..Self::default()
        }
    }

    /// The tables that it has entries for, whichever database they are of.
    pub(in super::super) fn counted(&mut self) -> Vec<Counted> {
        self.tables.take().unwrap_or_default()
    }

    /// Takes the next bytes.
    pub(in super::super) fn feed(&mut self, mut bytes: &[u8]) {
        if self.limits.odd.is_some() {
            return;
        }
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (head, rest) = bytes.split_at(end);
            self.part(head);
            self.length += 1;
            self.plain_line |= !self.lines.ends_with_return();
            self.end_line();
            if self.limits.odd.is_some() {
                return;
            }
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.part(bytes);
    }

    /// Part of a line.
    fn part(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes
            && self.at == 0
            && self.length == self.mark as u64
            && MARK.get(self.mark) == Some(first)
        {
            self.mark += 1;
            self.length += 1;
            bytes = rest;
        }
        self.lines.keep(bytes);
        self.length += bytes.len() as u64;
        if !self.in_copy {
            self.quoting.feed(bytes);
        }
    }

    fn end_line(&mut self) {
        let copied = self.lines.ends_with(b"FROM stdin;");
        let line = self.lines.take();
        let place = self.at..self.at + self.length;
        self.at = place.end;
        self.length = 0;
        self.number += 1;
        self.limits.line = self.number;
        if self.number == 1 && self.mark == MARK.len() {
            self.script.left_out.push(0..self.mark as u64);
        }
        if self.number == 1 && line == "--" {
            self.script.first_line = Some(place.clone());
        }
        if self.in_copy {
            self.in_copy = line != "\\.";
            if self.in_copy && !self.is_left_out() {
                self.script.rows += 1;
            }
            if self.in_copy
                && let Some(table) = self.tables.as_mut().and_then(|it| it.last_mut())
            {
                table.rows = table.rows.map(|rows| rows + 1);
            }
            return;
        }
        let command = self.quoting.end_line();
        if let Some(what) = self.quoting.lost() {
            self.limits.refuse(what);
        }
        if self.quoting.take_settings() && !self.follows(&line) {
            self.limits
                .refuse("a setting of how texts are read that is not written as pg_dump does");
        }
        if self.began == Began::Statement {
            self.copies = line.starts_with("COPY ");
            self.begin_statement(&line, &place);
        }
        match (self.began, command) {
            // pg_dump's own: psql then refuses every other command.
            (Began::Statement, Some(_)) if is_restriction(&line) => self.leave_out(place.clone()),
            // So it does before it connects to a database whose name is no plain word; a new session has
            // its own encoding.
            (Began::Statement, Some(_)) if line == "\\encoding SQL_ASCII" => {
                self.leave_out(place.clone());
            }
            (Began::Statement, Some(command)) => match super::sections::connected_to(&line) {
                Some(database) => self.connect(database, place.clone()),
                None => self.command(command),
            },
            (_, Some(command)) => self.command(command),
            (Began::Text, None) => self.script.complete = false,
            (Began::Statement | Began::Sql, None) => self.line(&line, &place),
        }
        self.began = if self.quoting.at_statement() {
            if let Some((start, setting)) = self.out.take() {
                match setting {
                    Some(name) if self.limits.keep(name.len()) => {
                        self.script.settings.push((name, start..place.end));
                    }
                    Some(_) => {}
                    None => self.leave_out(start..place.end),
                }
            }
            self.in_copy = self.copies && copied;
            if self.in_copy
                && let Some(table) = self.tables.as_mut().and_then(|it| it.last_mut())
            {
                table.rows.get_or_insert(0);
            }
            self.copies &= !copied;
            Began::Statement
        } else if self.quoting.outside() {
            Began::Sql
        } else {
            Began::Text
        };
        // Where data ends that psql reads for any other COPY than pg_dump's, cannot be told.
        if self.quoting.take_copies() != u32::from(self.in_copy) {
            self.limits
                .refuse("a COPY from standard input that is not written as pg_dump does");
        }
    }

    /// Whether the line that is being read begins a statement.
    pub(super) fn begins_statement(&self) -> bool {
        self.began == Began::Statement
    }

    /// Whether a line that is about a setting that texts depend on is one that was understood.
    fn follows(&mut self, line: &str) -> bool {
        let whole = self.begins_statement() && self.quoting.at_statement();
        let known = [
            "SET standard_conforming_strings = on;",
            "SET standard_conforming_strings = off;",
        ];
        if self.began != Began::Text
            && line.contains("standard_conforming_strings")
            && !known.contains(&line)
        {
            // Refused as a command.
            return true;
        }
        if !whole || self.is_left_out() {
            return false;
        }
        match line {
            "SET standard_conforming_strings = on;" => true,
            "SET standard_conforming_strings = off;" => {
                self.old_strings = true;
                true
            }
            // It was set before the transaction began, and is what it was after it.
            "ROLLBACK;" => !self.old_strings,
            _ => line
                .strip_prefix("SET client_encoding = '")
                .and_then(|rest| rest.strip_suffix("';"))
                .is_some_and(|name| {
                    name.bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"_- ".contains(&b))
                }),
        }
    }

    fn command(&mut self, command: String) {
        self.script.command.get_or_insert((command, self.number));
        self.script.complete = false;
    }

    /// What is decided by how a statement begins.
    fn begin_statement(&mut self, line: &str, place: &Range<u64>) {
        if empties_path(line) && self.limits.keep(0) {
            self.script.paths.push(place.clone());
        }
        match beyond(line) {
            Some(DATABASE_COMMENT) => self.out = Some((place.start, None)),
            Some(what) if !self.is_left_out() => {
                self.script.beyond.get_or_insert((what, self.number));
            }
            Some(_) => {}
            None => {
                // What takes a view away that its table's key depends on: before the first entry.
                let hollows = self.kind.is_empty() && hollows_view(line);
                if let Some(name) = odd_setting(line) {
                    self.out = Some((place.start, Some(name)));
                } else if self.clearing && (clears(line) || hollows) {
                    self.out = Some((place.start, None));
                }
                self.clearing &= keeps_empty(line) || hollows;
            }
        }
    }

    /// Takes one line that is neither data nor text.
    fn line(&mut self, line: &str, place: &Range<u64>) {
        if line.is_empty() {
            return;
        }
        if let Some(comment) = line.strip_prefix("--") {
            if self.began == Began::Statement {
                self.comment(comment.trim(), place);
            }
            return;
        }
        self.script.complete = false;
        if self.began == Began::Statement {
            self.of_entry_out(line, place);
            let inserts = inserts(line) && !self.is_left_out();
            self.script.inserts |= inserts;
            self.script.filled |= inserts || (self.copies && !self.is_left_out());
            if line.starts_with("COPY ") && line.ends_with("FROM stdin;") {
                return;
            }
        }
        self.statement(line);
    }

    /// The part that is being read has ended before `end`; the next begins at `next`.
    pub(super) fn end_section(&mut self, end: u64, next: u64) {
        self.begin_entry(end, false);
        let mut script = std::mem::take(&mut self.script);
        if self.sections.len() >= SECTIONS {
            self.limits
                .refuse("too many parts for one database or another");
            return;
        }
        if self.other_encoding {
            script.forget_undecoded();
        }
        self.sections.push(Section {
            database: self.database.take(),
            place: self.since..end,
            script,
        });
        self.since = next;
        self.other_encoding = false;
        self.clearing = true;
        self.kind.clear();
        self.name.clear();
        self.grantor = None;
    }

    /// Reads what is left.
    pub(super) fn end(&mut self) {
        if !self.lines.is_empty() || self.length > 0 {
            self.end_line();
        }
        let end = self.at;
        self.end_section(end, end);
    }

    /// Why it is read no further, and in which line: no dump is so large or so odd.
    pub(in super::super) fn odd(&self) -> Option<(&'static str, u64)> {
        self.limits.odd
    }

    /// Whether each line ends with a line's return, as after a terminal.
    pub(super) fn has_returns(&self) -> bool {
        self.number > 1 && !self.plain_line
    }
}

/// For `fuzz/`: foreign bytes, in pieces and whole.
#[cfg(feature = "fuzzing")]
pub(in super::super) fn fuzz(bytes: &[u8]) {
    let read = |size: usize| {
        let mut reader = ScriptReader::default();
        for piece in bytes.chunks(size) {
            reader.feed(piece);
        }
        let script = reader.finish();
        (
            script.command,
            script.beyond,
            script.left_out,
            script.settings,
            script.complete,
            script.properties,
        )
    };
    assert_eq!(read(bytes.len().max(1)), read(5));
}

/// The first line with a command, or with what is odd.
#[cfg(feature = "fuzzing")]
pub(in super::super) fn refused(bytes: &[u8]) -> Option<u64> {
    let mut reader = ScriptReader::default();
    reader.feed(bytes);
    let command = |reader: &ScriptReader| {
        let sections = reader.sections.iter().map(|section| &section.script);
        let lines = sections.chain([&reader.script]);
        let lines = lines.filter_map(|script| Some(script.command.as_ref()?.1));
        lines.min()
    };
    if reader.odd().is_none() {
        reader.end();
    }
    let odd = reader.odd().map(|(_, line)| line);
    command(&reader).into_iter().chain(odd).min()
}
