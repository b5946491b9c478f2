//! How much of a script is kept: what is read may be anybody's, and must not take all memory.

/// How many parts a script may have, each for another database than the one before.
pub(super) const SECTIONS: usize = 10_000;

/// How many objects, names, settings and ranges that are left out are kept.
const KEPT: usize = 1_000_000;

/// How long all of their names together may be.
const BYTES: usize = 128 << 20;

/// How long the text of one entry may be: names have 63 bytes, only a function's arguments more.
const TEXT: usize = 1024;

/// Counts what is kept.
#[derive(Debug, Default)]
pub(super) struct Limits {
    kept: usize,
    bytes: usize,
    /// The line that is being read.
    pub(super) line: u64,
    /// Why nothing more is read, and since which line.
    pub(super) odd: Option<(&'static str, u64)>,
}

impl Limits {
    /// Whether one more thing with so many bytes of text may be kept.
    pub(super) fn keep(&mut self, bytes: usize) -> bool {
        self.kept += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        let keeps = self.kept <= KEPT && self.bytes <= BYTES;
        if !keeps {
            self.refuse("more objects than any dump");
        }
        keeps
    }

    /// Nothing more is read.
    pub(super) fn refuse(&mut self, why: &'static str) {
        self.odd.get_or_insert((why, self.line));
    }
}

/// The beginning of a text, as much of it as tells.
pub(super) fn shortened(text: &str) -> &str {
    let mut end = text.len().min(TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::{Script, ScriptReader};
    use super::*;

    /// What a script of this line, again and again, is refused for.
    fn odd(times: usize, line: impl Fn(usize) -> String) -> Option<(&'static str, u64)> {
        let mut reader = ScriptReader::default();
        reader.limits.kept = KEPT - 1000;
        for at in 0..times {
            reader.feed(line(at).as_bytes());
        }
        reader.odd()
    }

    #[test]
    fn no_script_takes_all_memory() {
        let connect = |at: usize| format!("\\connect d{}\n", at % 2);
        assert_eq!(odd(SECTIONS, connect), None);
        let (why, line) = odd(SECTIONS + 2, connect).unwrap();
        assert!(why.contains("parts"), "{why}");
        assert_eq!(line as usize, SECTIONS + 1);

        let table = |at: usize| format!("-- Name: t{at}; Type: TABLE; Schema: s; Owner: o\n");
        assert_eq!(odd(500, table), None);
        assert!(odd(1001, table).is_some());
        let drop = |_: usize| "DROP TABLE t;\nSET x = 1;\n".to_owned();
        assert!(odd(1001, drop).is_some());
        let tag = format!("SELECT ${};\n", "x".repeat(64));
        assert!(odd(1, |_| tag.clone()).unwrap().0.contains("tag"));
    }

    #[test]
    fn large_objects_are_counted_and_not_named() {
        let mut reader = ScriptReader::default();
        for at in 0..1000 {
            let entry = format!(
                "-- Name: {at}; Type: BLOB; Schema: -; Owner: o\n\
                 -- Name: LARGE OBJECT {at}; Type: ACL; Schema: -; Owner: o\n"
            );
            reader.feed(entry.as_bytes());
        }
        let script: Script = reader.finish();
        assert!(script.large_objects);
        assert_eq!(script.kinds()["BLOB"], 1000);
        assert_eq!(script.objects.len(), 2);
    }

    #[test]
    fn a_long_entry_is_compared_quickly() {
        let words = "A ".repeat(32 * 1024);
        let began = std::time::Instant::now();
        let mut reader = ScriptReader::skipping(super::super::Skip {
            patterns: vec!["TABLE* public big".to_owned(); 100],
            ..Default::default()
        });
        let entry = format!("-- Name: {words}; Type: COMMENT; Schema: -; Owner: o\n");
        for _ in 0..100 {
            reader.feed(entry.as_bytes());
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(20));
        assert!(shortened(&words).len() == TEXT);
    }
}
