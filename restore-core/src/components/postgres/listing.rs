//! The table of contents of an archive, as `pg_restore --list` prints it: what of it is loaded.

use std::collections::BTreeSet;

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
    /// Of the tables whose rows alone are wanted, those that it has rows of.
    pub(super) rows_of: BTreeSet<String>,
    /// It has large objects.
    pub(super) large_objects: bool,
    /// Whose these are: the schema's SQL does not say it.
    pub(super) owners: BTreeSet<String>,
    /// Entries that give privileges on them, of which it says nothing either.
    pub(super) grants: Vec<u32>,
    /// How many of them are listed one by one; 0 where some are listed by groups.
    pub(super) objects: u32,
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
    /// Large objects are listed by groups, as by pg_dump 17 and later.
    grouped: bool,
}

impl ListingReader {
    pub(super) fn new(skip: Skip) -> Self {
        Self {
            skip,
            line: Vec::new(),
            found: Listing::default(),
            loaded: Vec::new(),
            left_out: false,
            grouped: false,
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
        // Of rows that are wanted it is known where the owner's name begins, which may have spaces.
        let wanted = self.skip.wanted(rest).map(str::to_owned);
        let text = wanted.as_deref().unwrap_or(text);
        if rest.starts_with("TABLE DATA ") || rest.starts_with(VIEW_DATA) {
            self.found.data = self.found.data.saturating_add(1);
        }
        let Some(out) = self.skip.of(text) else {
            self.found.large_objects |= text.starts_with("BLOB");
            self.grouped |= text.starts_with("BLOB METADATA ");
            let object = ["BLOB - ", "BLOB METADATA - "]
                .iter()
                .find_map(|start| rest.strip_prefix(start)?.split_once(' '));
            if let Some((_, owner)) = object.filter(|(_, owner)| !owner.is_empty())
                && self.found.owners.len() < NAMED
                && !self.found.owners.contains(owner)
            {
                self.found.owners.insert(owner.to_owned());
            }
            if rest.starts_with("ACL - LARGE OBJECT") && self.found.grants.len() < NAMED {
                self.found.grants.push(id);
            }
            if text.starts_with("BLOB ") {
                self.found.objects = self.found.objects.saturating_add(1);
            }
            self.found.rows_of.extend(wanted);
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
        if self.grouped {
            self.found.objects = 0;
        }
        self.found.only = self.left_out.then_some(self.loaded);
        self.found
    }
}

/// For `fuzz/`: in whatever pieces the bytes come, they say the same.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(bytes: &[u8]) {
    let read = |size: usize| {
        let mut reader = ListingReader::new(Skip::default());
        for piece in bytes.chunks(size) {
            reader.feed(piece);
        }
        reader.finish()
    };
    assert_eq!(read(bytes.len().max(1)), read(7));
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

    #[test]
    fn owners_of_large_objects_are_found() {
        let mut reader = ListingReader::new(Skip::default());
        reader.feed(
            b"3340; 2613 4711 BLOB - 4711 app\n3341; 2613 4712 BLOB - 4712 shop owner\n\
              3342; 0 0 BLOBS - BLOBS \n3343; 0 0 ACL - LARGE OBJECT 4711 app\n",
        );
        let found = reader.finish();
        let owners: Vec<&str> = found.owners.iter().map(String::as_str).collect();
        assert_eq!(owners, ["app", "shop owner"]);
        assert_eq!((found.objects, found.large_objects), (2, true));
        assert_eq!(found.grants, [3343]);
        let mut reader = ListingReader::new(Skip::default());
        reader.feed(b"3340; 2613 4711 BLOB METADATA - 4711..4713 app\n");
        let found = reader.finish();
        assert_eq!((found.objects, found.owners.len()), (0, 1));
    }

    #[test]
    fn rows_of_an_owner_with_a_space_are_found() {
        let skip = Skip {
            only_rows: Some(vec!["TABLE DATA public orders".to_owned()]),
            ..Skip::default()
        };
        let mut reader = ListingReader::new(skip);
        reader.feed(
            b"3340; 0 1 TABLE DATA public orders shop owner\n\
              3341; 0 2 TABLE DATA public orders_old shop owner\n\
              3342; 0 3 TABLE public orders shop owner\n",
        );
        let found = reader.finish();
        assert_eq!(found.only, Some(vec![3340, 3342]));
        let rows: Vec<&str> = found.rows_of.iter().map(String::as_str).collect();
        assert_eq!(rows, ["TABLE DATA public orders"]);
    }
}
