//! What of a script is left out, in bytes.

use std::ops::Range;

use super::reader::ScriptReader;
use super::statements::is_whole;

/// An entry that is left out, while it is read.
#[derive(Debug)]
pub(super) struct EntryOut {
    start: u64,
    /// Settings since its last statement. What the next entry needs is written before that one's
    /// comment: its tablespace, its schema, its owner.
    next: Vec<Range<u64>>,
    /// It speaks for another role, and has not stopped.
    as_other: bool,
    /// The settings since its last statement make it that.
    to_other: bool,
}

impl ScriptReader {
    /// Leaves bytes out, which come after all that were left out before.
    pub(super) fn leave_out(&mut self, place: Range<u64>) {
        if self.entry_out.is_none() {
            self.push_out(place);
        }
    }

    fn push_out(&mut self, place: Range<u64>) {
        if let Some(last) = self.script.left_out.last_mut()
            && last.end == place.start
        {
            last.end = place.end;
        } else if !place.is_empty() && self.limits.keep(0) {
            self.script.left_out.push(place);
        }
    }

    /// The entry that begins here is left out, or not. Ends the one before.
    pub(super) fn begin_entry(&mut self, start: u64, out: bool) {
        if let Some(entry) = self.entry_out.take() {
            let mut at = entry.start;
            for kept in entry.next {
                self.push_out(at..kept.start);
                at = kept.end;
            }
            self.push_out(at..start);
        }
        self.entry_out = out.then_some(EntryOut {
            start,
            next: Vec::new(),
            as_other: false,
            to_other: false,
        });
    }

    /// Whether what is read is left out.
    pub(super) fn is_left_out(&self) -> bool {
        self.entry_out.is_some() || self.out.is_some()
    }

    /// A statement begins on this line, perhaps one of an entry that is left out.
    pub(super) fn of_entry_out(&mut self, line: &str, place: &Range<u64>) {
        let Some(entry) = &mut self.entry_out else {
            return;
        };
        let reset = line.starts_with("RESET SESSION AUTHORIZATION");
        let alone = self.quoting.at_statement() && is_whole(line);
        if alone && reset && entry.as_other {
            // Privileges that another role gave: it is all about this entry.
            entry.as_other = false;
        } else if alone && (reset || line.starts_with("SET ")) {
            entry.to_other |= line.starts_with("SET SESSION AUTHORIZATION ");
            match entry.next.last_mut() {
                Some(last) if last.end == place.start => last.end = place.end,
                _ if self.limits.keep(0) => entry.next.push(place.clone()),
                _ => {}
            }
        } else {
            entry.next.clear();
            entry.as_other |= std::mem::take(&mut entry.to_other);
        }
    }
}
