//! What psql would take for text and what for SQL: quotes, comments, and the commands of its own
//! that a backslash begins anywhere else. After psql's lexical rules (its `psqlscan.l`, and the
//! manual's "Lexical Structure").

/// How much of a command's name is kept for messages.
const NAME: usize = 32;

/// The longest tag of a dollar quote that is followed, as names are no longer.
const TAG: usize = 63;

/// Follows the bytes of a script, line by line.
#[derive(Debug, Default)]
pub(in super::super) struct Quoting {
    state: State,
    /// The bytes of the identifier or number just read, as far as they matter: the first, and
    /// how many there are.
    word: Option<(u8, usize)>,
    /// A string with escapes has ended and only blanks have followed; whether a line end was
    /// among them. A quote after it continues the string, with escapes.
    after_escapes: Option<bool>,
    /// Something of a statement has been read that is not finished.
    in_statement: bool,
    /// `standard_conforming_strings` is off: every string has escapes.
    escapes: bool,
    /// The name of the first psql command on this line, with its backslash.
    command: Option<Vec<u8>>,
    /// That name is still being read.
    naming: bool,
    /// There was a dollar quote with a tag that is too long to be followed.
    lost: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Sql,
    /// In single quotes; `escaped`: the next byte is not looked at.
    Text {
        escapes: bool,
        escaped: bool,
    },
    /// After a single quote that may be the first of two, which stand for one.
    TextEnd {
        escapes: bool,
    },
    Name,
    /// `$`, and what may become the tag of a dollar quote.
    Tag(Vec<u8>),
    /// In a dollar quote; `end` is what has been read of `$tag$` at its possible end.
    Dollar {
        tag: Vec<u8>,
        end: Option<Vec<u8>>,
    },
    /// A `-` or `/` that may begin a comment.
    Maybe(u8),
    Line,
    Block {
        depth: u32,
        last: u8,
    },
}

impl Quoting {
    /// Whether the next byte is SQL, and not part of a text, a name or a comment.
    pub(in super::super) fn outside(&self) -> bool {
        self.state == State::Sql
    }

    /// Whether the next byte begins a statement.
    pub(in super::super) fn at_statement(&self) -> bool {
        self.outside() && !self.in_statement
    }

    /// Whether what is a text could not be told any more.
    pub(in super::super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Follows `SET standard_conforming_strings = on` or `off`.
    pub(in super::super) fn set_standard_strings(&mut self, on: bool) {
        self.escapes = !on;
    }

    /// Takes bytes of a line.
    pub(in super::super) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.byte(*byte);
        }
    }

    /// Ends the line; the psql command that it holds outside of texts and comments, if any.
    pub(in super::super) fn end_line(&mut self) -> Option<String> {
        let command = self.command.take();
        self.naming = false;
        self.byte(b'\n');
        if command.is_some() {
            // psql reads a command to the end of its line, which is none of the statement's.
            self.state = State::Sql;
        }
        command.map(|name| String::from_utf8_lossy(&name).into_owned())
    }

    fn byte(&mut self, byte: u8) {
        if let Some(command) = &mut self.command {
            self.naming &= byte.is_ascii_alphanumeric() || (command.len() == 1 && byte > b' ');
            if self.naming && command.len() < NAME {
                command.push(byte);
            }
            return;
        }
        match std::mem::take(&mut self.state) {
            State::Sql => self.sql(byte),
            State::Text { escapes, escaped } => {
                self.state = match byte {
                    _ if escaped => State::Text {
                        escapes,
                        escaped: false,
                    },
                    b'\'' => State::TextEnd { escapes },
                    _ => State::Text {
                        escapes,
                        escaped: escapes && byte == b'\\',
                    },
                };
            }
            State::TextEnd { escapes } if byte == b'\'' => {
                self.state = State::Text {
                    escapes,
                    escaped: false,
                };
            }
            State::TextEnd { escapes } => {
                self.after_escapes = escapes.then_some(false);
                self.sql(byte);
            }
            State::Name if byte != b'"' => self.state = State::Name,
            State::Name => {}
            State::Tag(tag) if byte == b'$' => self.state = State::Dollar { tag, end: None },
            State::Tag(mut tag) if identifier(byte, tag.is_empty()) => {
                match tag.len() < TAG {
                    true => tag.push(byte),
                    false => self.lost = true,
                }
                self.state = State::Tag(tag);
            }
            State::Tag(_) => self.sql(byte),
            State::Dollar { tag, end } => self.dollar(tag, end, byte),
            State::Maybe(b'-') if byte == b'-' => self.state = State::Line,
            State::Maybe(b'/') if byte == b'*' => self.state = State::Block { depth: 1, last: 0 },
            State::Maybe(_) => {
                self.in_statement = true;
                self.after_escapes = None;
                self.sql(byte);
            }
            State::Line if byte != b'\n' => self.state = State::Line,
            State::Line => self.sql(byte),
            State::Block { depth, last } => {
                let (depth, last) = match (last, byte) {
                    (b'*', b'/') => (depth - 1, 0),
                    (b'/', b'*') => (depth + 1, 0),
                    _ => (depth, byte),
                };
                if depth > 0 {
                    self.state = State::Block { depth, last };
                }
            }
        }
    }

    fn sql(&mut self, byte: u8) {
        let word = self.word.take();
        if byte.is_ascii_whitespace() || byte == 0x0b {
            if let Some(line_end) = &mut self.after_escapes {
                *line_end |= byte == b'\n';
            }
            return;
        }
        if matches!(byte, b'-' | b'/') {
            self.state = State::Maybe(byte);
            return;
        }
        let continued = self.after_escapes.take() == Some(true);
        match byte {
            b'\\' => {
                self.command = Some(vec![byte]);
                self.naming = true;
                return;
            }
            b';' => {
                self.in_statement = false;
                return;
            }
            b'\'' => {
                let escapes = self.escapes || continued || matches!(word, Some((b'e' | b'E', 1)));
                self.state = State::Text {
                    escapes,
                    escaped: false,
                };
            }
            b'"' => self.state = State::Name,
            b'$' if word.is_none() => self.state = State::Tag(Vec::new()),
            byte if identifier(byte, false) || byte == b'$' => {
                self.word = Some(word.map_or((byte, 1), |(first, count)| (first, count + 1)));
            }
            _ => {}
        }
        self.in_statement = true;
    }

    fn dollar(&mut self, tag: Vec<u8>, end: Option<Vec<u8>>, byte: u8) {
        let end = match end {
            Some(end) if byte == b'$' && end == tag => return,
            _ if byte == b'$' => Some(Vec::new()),
            Some(mut end) if end.len() < tag.len() => {
                end.push(byte);
                Some(end)
            }
            _ => None,
        };
        self.state = State::Dollar { tag, end };
    }
}

/// Whether the byte may be part of an identifier, or with `first` begin one.
fn identifier(byte: u8, first: bool) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80 || (!first && byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands of all lines, and whether the end is outside.
    fn commands(text: &str) -> (Vec<String>, bool) {
        let mut quoting = Quoting::default();
        let mut commands = Vec::new();
        for line in text.split('\n') {
            quoting.feed(line.as_bytes());
            commands.extend(quoting.end_line());
        }
        (commands, quoting.outside())
    }

    #[test]
    fn a_backslash_outside_of_texts_is_a_command_wherever_it_stands() {
        for text in [
            "\\! touch /tmp/x",
            "   \\! touch",
            "\t\\!\ttouch",
            "SELECT 1 \\! touch",
            "SELECT 'a''b' \\! touch",
            "SELECT E'a\\'' \\! touch",
            "SELECT 'a\\' \\! touch",
            "SELECT /* ' /* */ ' */ 1 \\! touch",
            "SELECT $a$ ' $b$ $a$ \\! touch",
            "SELECT a$b$ \\! touch",
            "SELECT $1 \\! touch",
            "SELECT 1 - 2 / 3 \\! touch",
            "SELECT \"a\"\"'b\" \\! touch",
            "SELECT name' x' \\! touch",
            "SELECT $$ $a$ $$ \\! touch",
            "SELECT '\n' \\! touch",
            "-- it's\n\\! touch",
        ] {
            assert_eq!(commands(text).0, ["\\!"], "{text}");
        }
        assert_eq!(commands("\\connect live\n\\i file").0, ["\\connect", "\\i"]);
        assert_eq!(commands("SELECT ' \\connect x\n\\i y'").0, [""; 0]);
    }

    #[test]
    fn a_backslash_in_a_text_or_a_comment_is_none() {
        for text in [
            "SELECT 'a \\! b'",
            "SELECT E'a \\' \\! b'",
            "SELECT E'a'\n  'b \\' \\! c'",
            "SELECT E'a' -- so\n 'b \\' \\! c'",
            "SELECT E'a''\\' \\! b'",
            "SELECT \"a \\! b\"",
            "-- \\! a",
            "/* /* \\! */ \n \\! */",
            "SELECT $$ \\! $a$ \\! $$",
            "SELECT $a$ $$ \n\\! $aa$ $$a$",
            "SELECT $ä$ \\! $ä$",
        ] {
            assert_eq!(commands(text), (Vec::new(), true), "{text}");
        }
    }

    #[test]
    fn a_tag_of_any_length_takes_no_room() {
        let mut quoting = Quoting::default();
        quoting.feed(format!("SELECT ${}$ a", "x".repeat(TAG)).as_bytes());
        assert!(!quoting.is_lost() && !quoting.outside());
        let mut quoting = Quoting::default();
        quoting.feed(format!("SELECT ${}", "x".repeat(TAG + 1)).as_bytes());
        assert!(quoting.is_lost());
        assert!(matches!(&quoting.state, State::Tag(tag) if tag.len() == TAG));
    }

    #[test]
    fn old_strings_have_escapes() {
        let mut quoting = Quoting::default();
        quoting.set_standard_strings(false);
        quoting.feed(b"SELECT 'a\\' \\! b'");
        assert_eq!(quoting.end_line(), None);
        assert!(quoting.outside());
    }

    #[test]
    fn statements_begin_after_semicolons() {
        let mut quoting = Quoting::default();
        let mut begins = |line: &str| {
            let begins = quoting.at_statement();
            quoting.feed(line.as_bytes());
            quoting.end_line();
            begins
        };
        assert!(begins("-- comment"));
        assert!(begins("/* and another"));
        assert!(!begins("; */"));
        assert!(begins("CREATE FUNCTION f() RETURNS void AS $$"));
        assert!(!begins("SELECT 1;"));
        assert!(!begins("$$;"));
        assert!(begins("SELECT 1"));
        assert!(!begins(";"));
        assert!(begins(""));
    }
}
