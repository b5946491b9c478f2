//! On which line of a `restore.toml` each section and each key stands.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

/// The lines of a file's keys.
#[derive(Debug, Default)]
pub(crate) struct Lines(BTreeMap<Vec<String>, usize>);

impl Lines {
    /// Reads them; none where the text is no TOML.
    pub(crate) fn of(text: &str) -> Self {
        let Ok(table) = DeTable::parse(text) else {
            return Self::default();
        };
        // Where each line begins, so that an offset is looked up and not counted.
        let starts: Vec<usize> = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        let mut lines = Self::default();
        lines.add(&mut Vec::new(), table.get_ref(), &starts);
        lines
    }

    fn add(&mut self, place: &mut Vec<String>, table: &DeTable<'_>, starts: &[usize]) {
        for (key, value) in table {
            let at = key.span().start;
            place.push(key.get_ref().to_string());
            let line = starts.partition_point(|start| *start <= at);
            self.0.insert(place.clone(), line);
            if let DeValue::Table(table) = value.get_ref() {
                self.add(place, table, starts);
            }
            place.pop();
        }
    }

    /// The line of the key at `place`, or of the nearest section around it, counted from 1.
    pub(crate) fn line(&self, place: &[&str]) -> Option<usize> {
        let mut place: Vec<String> = place.iter().map(|key| (*key).to_owned()).collect();
        while !place.is_empty() {
            if let Some(line) = self.0.get(&place) {
                return Some(*line);
            }
            place.pop();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_line_and_what_is_missing_that_of_its_section() {
        let lines = Lines::of(
            "# a comment\n[site]\nname = 'x'\n\n[components.redis]\nkind = 'redis'\nvolume = [\n 'a',\n]\n\
             [components.'a.b']\ntls = { ca_file = 'x' }\n",
        );
        for (place, line) in [
            (&["site"][..], Some(2)),
            (&["site", "name"], Some(3)),
            (&["site", "state"], Some(2)),
            (&["components", "redis"], Some(5)),
            (&["components", "redis", "volume"], Some(7)),
            (&["components", "a.b", "tls", "ca_file"], Some(11)),
            (&["components", "none"], Some(5)),
            (&["checks", "none"], None),
        ] {
            assert_eq!(lines.line(place), line, "{place:?}");
        }
        assert_eq!(Lines::of("no toml").line(&["site"]), None);
    }
}
