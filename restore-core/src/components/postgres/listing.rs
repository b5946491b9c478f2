//! The table of contents of an archive, as `pg_restore --list` prints it: what of it is loaded.

use super::script::{Out, Skip, VIEW_DATA};

/// How much of a line is looked at: names are shorter.
const TELLS: usize = 1024;

/// How many entries that are left out are kept by name: a dump of strangers may list any number.
pub(super) const NAMED: usize = 10_000;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// How many tables it has rows of.
    pub(super) data: u32,
    /// It has large objects.
    pub(super) large_objects: bool,
    /// The entries that are loaded; `None`: all.
    pub(super) only: Option<Vec<u32>>,
    /// Entries that the site leaves out, each with the number of the pattern that names it.
    pub(super) skipped: Vec<(usize, String)>,
    /// Entries that fill materialized views, which is left to us.
    pub(super) views: Vec<String>,
    /// Subscriptions, which are left out.
    pub(super) subscriptions: Vec<String>,
}

/// Reads a listing as it comes.
pub(super) struct ListingReader {
    skip: Skip,
    /// The line so far, as much of it as tells.
    line: Vec<u8>,
    found: Listing,
    loaded: Vec<u32>,
    left_out: bool,
}

impl ListingReader {
    pub(super) fn new(skip: Skip) -> Self {
        Self {
            skip,
            line: Vec::new(),
            found: Listing::default(),
            loaded: Vec::new(),
            left_out: false,
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let mut lines = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = lines.next() {
            let room = TELLS.saturating_sub(self.line.len());
            let part = part.get(..room.min(part.len())).unwrap_or_default();
            self.line.extend_from_slice(part);
            if lines.peek().is_some() {
                self.end_line();
            }
        }
    }

    /// "3340; 0 16386 TABLE DATA public users app".
    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        let Some((id, rest)) = line.split_once("; ") else {
            return;
        };
        let Ok(id) = id.parse::<u32>() else {
            return;
        };
        let rest = rest.splitn(3, ' ').nth(2).unwrap_or_default();
        let text = rest.rsplit_once(' ').map_or(rest, |(text, _owner)| text);
        if rest.starts_with("TABLE DATA ") || rest.starts_with(VIEW_DATA) {
            self.found.data = self.found.data.saturating_add(1);
        }
        let Some(out) = self.skip.of(text) else {
            self.found.large_objects |= text.starts_with("BLOB");
            self.loaded.push(id);
            return;
        };
        self.left_out = true;
        let found = &mut self.found;
        match out {
            Out::Named(at) if found.skipped.len() < NAMED => {
                found.skipped.push((at, text.to_owned()));
            }
            // With its owner, whose name may have spaces.
            Out::View if found.views.len() < NAMED => found.views.push(rest.to_owned()),
            Out::Subscription if found.subscriptions.len() < NAMED => {
                found.subscriptions.push(text.to_owned());
            }
            Out::Named(_) | Out::View | Out::Subscription | Out::Ours => {}
        }
    }

    pub(super) fn finish(mut self) -> Listing {
        self.end_line();
        self.found.only = self.left_out.then_some(self.loaded);
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_told_wherever_the_pieces_end() {
        let long = "x".repeat(10_000);
        let list = format!(
            "; 1; TABLE DATA no\n;\n3340; 0 16386 TABLE DATA public users app\n\
             3341; 0 1 TABLE public users app\n3342; 0 9 TABLE DATA {long} {long}\n\
             3344; 3079 16385 EXTENSION - pg_cron \n3345; 0 0 COMMENT - EXTENSION pg_cron \n\
             3343; 0 2 MATERIALIZED VIEW DATA public all totals app"
        );
        let skip = Skip {
            patterns: vec!["EXTENSION - pg_cron".to_owned()],
            views: true,
            ..Skip::default()
        };
        for size in [1, 7, 64, list.len()] {
            let mut reader = ListingReader::new(skip.clone());
            for piece in list.as_bytes().chunks(size) {
                reader.feed(piece);
                assert!(reader.line.len() <= TELLS);
            }
            let found = reader.finish();
            assert_eq!(found.data, 3, "{size}");
            assert_eq!(found.only, Some(vec![3340, 3341, 3342]));
            assert_eq!(found.skipped.len(), 2);
            assert_eq!(
                found.views,
                ["MATERIALIZED VIEW DATA public all totals app"]
            );
        }
        let mut reader = ListingReader::new(Skip::default());
        reader.feed(list.as_bytes());
        assert_eq!(reader.finish().only, None);
    }
}
