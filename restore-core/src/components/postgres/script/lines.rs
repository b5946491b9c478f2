//! Lines of a dump, which may have any length.

/// What is kept of a line; longer ones are data and never looked at.
const KEPT: usize = 64 * 1024;

/// How many of its last bytes are kept of a longer one.
const TAIL: usize = 32;

/// A line as it comes, cut off after 64 KiB.
#[derive(Debug, Default)]
pub(in super::super) struct Lines {
    line: Vec<u8>,
    /// The last bytes of a line that was cut off.
    tail: Vec<u8>,
}

impl Lines {
    /// Takes part of a line.
    pub(in super::super) fn keep(&mut self, bytes: &[u8]) {
        let room = KEPT.saturating_sub(self.line.len()).min(bytes.len());
        let (kept, more) = bytes.split_at(room);
        self.line.extend_from_slice(kept);
        if self.tail.is_empty() && !more.is_empty() {
            let last = self.line.get(self.line.len().saturating_sub(TAIL)..);
            self.tail.extend_from_slice(last.unwrap_or_default());
        }
        let last = more.get(more.len().saturating_sub(TAIL)..);
        self.tail.extend_from_slice(last.unwrap_or_default());
        let long = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..long);
    }

    /// Whether the line ends so, its line end aside.
    pub(in super::super) fn ends_with(&self, end: &[u8]) -> bool {
        let last = match self.tail.is_empty() {
            true => &self.line,
            false => &self.tail,
        };
        last.strip_suffix(b"\r").unwrap_or(last).ends_with(end)
    }

    /// Whether the line ends with a line's return.
    pub(in super::super) fn ends_with_return(&self) -> bool {
        self.tail.last().or(self.line.last()) == Some(&b'\r')
    }

    /// Whether not all of the line is kept.
    pub(in super::super) fn is_cut(&self) -> bool {
        !self.tail.is_empty()
    }

    /// Whether nothing of the line has come.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// The line, without its line end; the next begins.
    pub(in super::super) fn take(&mut self) -> String {
        let line = String::from_utf8_lossy(&self.line)
            .trim_end_matches('\r')
            .to_owned();
        self.line.clear();
        self.tail.clear();
        line
    }
}
