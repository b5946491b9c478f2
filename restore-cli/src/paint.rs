//! Colours for words that are plain enough without, and nothing else that a terminal obeys.

use std::borrow::Cow;
use std::io::IsTerminal as _;

use terminal_size::{Height, Width, terminal_size_of};

/// How text for one stream is to look.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    colour: bool,
    /// Long lines are broken between words, where a terminal would break them anywhere.
    width: Option<usize>,
}

impl Look {
    /// For standard output.
    pub(crate) fn stdout() -> Self {
        let stdout = std::io::stdout();
        Self::of(stdout.is_terminal(), || terminal_size_of(stdout))
    }

    /// For standard error.
    pub(crate) fn stderr() -> Self {
        let stderr = std::io::stderr();
        Self::of(stderr.is_terminal(), || terminal_size_of(stderr))
    }

    /// Nothing but the text.
    pub(crate) const PLAIN: Self = Self {
        colour: false,
        width: None,
    };

    fn of(is_terminal: bool, size: impl FnOnce() -> Option<(Width, Height)>) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if !is_terminal {
            return Self::PLAIN;
        }
        Self {
            colour: !set("NO_COLOR") && !dumb,
            width: size()
                .map(|(Width(width), _)| usize::from(width))
                .filter(|width| *width >= 40),
        }
    }

    /// The text as a terminal may see it: control characters, which file names and messages of
    /// servers can hold, made visible; the marks coloured where wanted.
    pub(crate) fn text(self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            let (line, end) = match line.strip_suffix('\n') {
                Some(line) => (line, "\n"),
                None => (line, ""),
            };
            let line = match self.width {
                Some(width) => wrapped(&harmless(line), width),
                None => harmless(line).into_owned(),
            };
            self.coloured(&line, &mut out);
            out.push_str(end);
        }
        out
    }

    fn coloured(self, line: &str, out: &mut String) {
        let (blank, rest) = line.split_at(line.len() - line.trim_start().len());
        match MARKS.iter().find(|(mark, _)| rest.starts_with(mark)) {
            Some((mark, code)) if self.colour => {
                let word = mark.trim_end();
                let rest = rest.strip_prefix(word).unwrap_or_default();
                out.push_str(&format!("{blank}\x1b[{code}m{word}\x1b[0m{rest}"));
            }
            _ => out.push_str(line),
        }
    }
}

/// The line broken between words, the rest of it set in a little. Rows of tables, which have wide
/// gaps, are left alone, as are words that are longer than a line: they may be paths to copy.
pub(crate) fn wrapped(line: &str, width: usize) -> String {
    let text = line.trim_start();
    let indent = line.chars().count() - text.chars().count();
    if line.chars().count() <= width || text.contains("  ") || indent * 2 > width {
        return line.to_owned();
    }
    let mut out = " ".repeat(indent);
    let mut column = indent;
    for word in text.split(' ') {
        let length = word.chars().count();
        let first = column == indent;
        if !first && column + 1 + length > width {
            out.push('\n');
            out.push_str(&" ".repeat(indent + 4));
            column = indent + 4;
        } else if !first {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

/// The marks with which a line may begin, and their colours.
const MARKS: [(&str, &str); 11] = [
    ("error:", "1;31"),
    ("FAILED", "1;31"),
    ("missing ", "1;31"),
    ("short ", "1;31"),
    ("changed ", "1;31"),
    ("unreadable ", "1;31"),
    ("warning:", "1;33"),
    ("unverifiable ", "33"),
    ("hint:", "36"),
    ("note:", "1"),
    ("ok ", "32"),
];

/// A text of somebody else's on one line, which says nothing to a terminal.
pub(crate) fn harmless(line: &str) -> Cow<'_, str> {
    if line.chars().all(is_harmless) {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len() + 8);
    for c in line.chars() {
        if is_harmless(c) {
            out.push(c);
        } else {
            out.extend(c.escape_unicode());
        }
    }
    Cow::Owned(out)
}

/// Neither a control character nor one that turns the direction of what follows.
pub(crate) fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLOURED: Look = Look {
        colour: true,
        width: None,
    };

    #[test]
    fn without_colour_the_text_stays() {
        let plain = "error: x\n  hint: y\nrest";
        assert_eq!(Look::PLAIN.text(plain), plain);
        assert_eq!(
            COLOURED.text(plain),
            "\x1b[1;31merror:\x1b[0m x\n  \x1b[36mhint:\x1b[0m y\nrest"
        );
    }

    #[test]
    fn a_file_name_cannot_speak_to_the_terminal() {
        assert_eq!(
            COLOURED.text("a\x1b[2Jb\r\u{202e}\n"),
            "a\\u{1b}[2Jb\\u{d}\\u{202e}\n"
        );
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("  one two three", 40), "  one two three");
        assert_eq!(
            wrapped("  one two three four", 12),
            "  one two\n      three\n      four"
        );
        assert_eq!(wrapped("abcdefghijklm n", 10), "abcdefghijklm\n    n");
        assert_eq!(wrapped("a table  has gaps", 10), "a table  has gaps");
    }
}
