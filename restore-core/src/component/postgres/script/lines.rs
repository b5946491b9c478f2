//! Lines of a dump, which may have any length.

/// What is kept of a line; longer ones are data and never looked at.
const KEPT: usize = 64 * 1024;

/// A line as it comes, cut off after 64 KiB.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Takes part of a line.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        let room = KEPT.saturating_sub(self.line.len());
        self.line
            .extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
    }

    /// Whether nothing of the line has come.
    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// The line, without its line end; the next begins.
    pub(super) fn take(&mut self) -> String {
        let line = String::from_utf8_lossy(&self.line)
            .trim_end_matches('\r')
            .to_owned();
        self.line.clear();
        line
    }
}
