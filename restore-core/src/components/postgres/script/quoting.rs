//! What psql would take for text and what for SQL: quotes, comments, and the commands of its own
//! that a backslash begins anywhere else. After psql's lexical rules (its `psqlscan.l`, and the
//! manual's "Lexical Structure").

/// How much of a command's name is kept for messages.
const NAME: usize = 32;

/// The longest tag of a dollar quote that is followed, as names are no longer.
const TAG: usize = 63;

/// How many bytes of a word tell what it is.
const WORD: usize = 28;

/// Follows the bytes of a script, line by line.
#[derive(Debug, Default)]
pub(in super::super) struct Quoting {
    state: State,
    /// The identifier or number just read.
    word: Option<Word>,
    /// `u&` was read, which begins a string without escapes.
    unicode: bool,
    /// A string with escapes has ended and only blanks have followed; whether a line's return was
    /// among them. A quote after that would continue the string.
    after_escapes: Option<bool>,
    /// What is known of the statement that is being read.
    statement: Statement,
    /// How many bytes of a character are still to come that are no signs of their own.
    trailing: u8,
    characters: Characters,
    /// `standard_conforming_strings` is off: every string has escapes.
    escapes: bool,
    /// The name of the first psql command on this line, with its backslash.
    command: Option<Vec<u8>>,
    /// That name is still being read.
    naming: bool,
    /// There was something of which it cannot be told what psql takes it for.
    lost: Option<&'static str>,
    /// How many statements of this line have psql read data behind it.
    copies: u32,
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
        self.outside() && !self.statement.begun
    }

    /// What no dump has, and makes it doubtful what is a text.
    pub(in super::super) fn lost(&self) -> Option<&'static str> {
        self.lost
    }

    /// How many statements ended since this was asked before that have psql read data: what follows
    /// the line is none of its SQL.
    pub(in super::super) fn take_copies(&mut self) -> u32 {
        std::mem::take(&mut self.copies)
    }

    /// Whether a statement changes settings that texts depend on, in a way that is not followed.
    pub(in super::super) fn take_settings(&mut self) -> bool {
        std::mem::take(&mut self.statement.settings)
    }

    /// Follows `SET client_encoding`.
    pub(in super::super) fn set_characters(&mut self, characters: Characters) {
        self.characters = characters;
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
        self.trailing = 0;
        if self.characters == Characters::FourBytesMore {
            self.characters = Characters::FourBytes;
        }
        self.byte(b'\n');
        // psql reads line by line: no string goes on in the next one that has ended in this one.
        self.after_escapes = None;
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
        // psql gets no further than to it, and takes the next line for the rest of this one.
        if byte == 0 {
            self.lost.get_or_insert("a zero byte");
        }
        let byte = match self.trailing {
            // As psql does: whatever it is, it is part of a character.
            1.. => {
                self.trailing -= 1;
                match self.characters {
                    Characters::FourBytes if byte.is_ascii_digit() && self.trailing == 0 => {
                        self.trailing = 2;
                        self.characters = Characters::FourBytesMore;
                    }
                    Characters::FourBytesMore if self.trailing == 0 => {
                        self.characters = Characters::FourBytes;
                    }
                    _ => {}
                }
                0xff
            }
            0 => {
                self.trailing = self.characters.trailing(byte);
                byte
            }
        };
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
                    false => {
                        self.lost
                            .get_or_insert("a quoted text with a tag of more than 63 bytes");
                    }
                }
                self.state = State::Tag(tag);
            }
            State::Tag(_) => self.sql(byte),
            State::Dollar { tag, end } => self.dollar(tag, end, byte),
            State::Maybe(b'-') if byte == b'-' => self.state = State::Line,
            State::Maybe(b'/') if byte == b'*' => {
                self.after_escapes = None;
                self.state = State::Block { depth: 1, last: 0 };
            }
            State::Maybe(_) => {
                self.statement.begun = true;
                self.after_escapes = None;
                self.sql(byte);
            }
            // To psql a line's return ends it as well.
            State::Line if !matches!(byte, b'\n' | b'\r') => self.state = State::Line,
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
        let unicode = std::mem::take(&mut self.unicode);
        // `$` is a part of names, not of numbers.
        let goes_on = identifier(byte, false)
            || (byte == b'$' && word.as_ref().is_some_and(|word| !word.is_number()));
        if let Some(mut word) = word.clone()
            && goes_on
        {
            word.push(byte);
            self.word = Some(word);
            return;
        }
        if let Some(word) = &word {
            let prefix = byte == b'\'' && word.is_prefix();
            let of_unicode = byte == b'&' && word.is(b"u");
            if !prefix {
                self.statement.word(word);
            }
            self.unicode = of_unicode;
            if word.is_odd() && matches!(byte, b'\'' | b'$') {
                self.lost
                    .get_or_insert("a number with letters right before a quoted text");
            }
        }
        if byte.is_ascii_whitespace() || byte == 0x0b {
            if let Some(returned) = &mut self.after_escapes {
                *returned |= matches!(byte, b'\r' | 0x0b);
            }
            return;
        }
        if matches!(byte, b'-' | b'/') {
            self.state = State::Maybe(byte);
            return;
        }
        let returned = self.after_escapes.take() == Some(true);
        match byte {
            b'\\' => {
                self.command = Some(vec![byte]);
                self.naming = true;
                return;
            }
            b';' => {
                self.copies += u32::from(self.statement.end());
                return;
            }
            b'(' => self.statement.depth += 1,
            b')' => self.statement.depth = self.statement.depth.saturating_sub(1),
            b'\'' => {
                if returned {
                    self.lost
                        .get_or_insert("a text that goes on behind a line's return");
                }
                let is = |prefix: &[u8]| word.as_ref().is_some_and(|word| word.is(prefix));
                let never = unicode || is(b"b") || is(b"x");
                let escapes = is(b"e") || (self.escapes && !never);
                self.state = State::Text {
                    escapes,
                    escaped: false,
                };
            }
            b'"' => self.state = State::Name,
            b'$' => self.state = State::Tag(Vec::new()),
            byte if identifier(byte, false) => self.word = Some(Word::new(byte)),
            _ => {}
        }
        self.statement.begun = true;
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

/// How many bytes a character has, in encodings in which a part of one may look like a sign of SQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum Characters {
    /// No part of one does.
    #[default]
    Plain,
    /// Two, the first of which is no ASCII.
    TwoBytes,
    /// Two, the first of which is no ASCII, or one that is none: Shift JIS.
    Japanese,
    /// Up to three: Johab.
    Korean,
    /// Two, or four where the second one is a digit: GB 18030.
    FourBytes,
    /// The third and fourth of those.
    FourBytesMore,
}

impl Characters {
    /// Those of an encoding, as `SET client_encoding` names it.
    pub(in super::super) fn of(encoding: &str) -> Self {
        let plain = |c: &char| c.is_ascii_alphanumeric();
        let name: String = encoding.chars().filter(plain).collect();
        match name.to_ascii_uppercase().as_str() {
            "BIG5" | "WIN950" | "WINDOWS950" | "GBK" | "WIN936" | "WINDOWS936" | "UHC"
            | "WIN949" | "WINDOWS949" => Self::TwoBytes,
            "SJIS" | "SHIFTJIS" | "MSKANJI" | "WIN932" | "WINDOWS932" | "SHIFTJIS2004" => {
                Self::Japanese
            }
            "JOHAB" => Self::Korean,
            "GB18030" => Self::FourBytes,
            _ => Self::Plain,
        }
    }

    /// How many bytes follow a first one.
    fn trailing(self, first: u8) -> u8 {
        match (self, first) {
            (Self::Plain, _) | (_, ..0x80) | (Self::Japanese, 0xa1..=0xdf) => 0,
            (Self::Korean, 0x8f) => 2,
            _ => 1,
        }
    }
}

/// An identifier or a number, as much of it as tells.
#[derive(Clone, Debug)]
struct Word {
    /// In lower case.
    text: [u8; WORD],
    length: usize,
}

impl Word {
    fn new(first: u8) -> Self {
        let mut word = Self {
            text: [0; WORD],
            length: 0,
        };
        word.push(first);
        word
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.text.get_mut(self.length) {
            *place = byte.to_ascii_lowercase();
        }
        self.length += 1;
    }

    fn text(&self) -> &[u8] {
        self.text.get(..self.length).unwrap_or_default()
    }

    fn is(&self, text: &[u8]) -> bool {
        self.text() == text
    }

    fn is_number(&self) -> bool {
        self.text.first().is_some_and(u8::is_ascii_digit)
    }

    /// A number with letters: versions of psql differ in what they take it for.
    fn is_odd(&self) -> bool {
        let known = self.text.get(..self.length.min(WORD)).unwrap_or_default();
        self.is_number() && (self.length > WORD || !known.iter().all(u8::is_ascii_digit))
    }

    /// Whether a quote right behind it begins a string of a kind of its own.
    fn is_prefix(&self) -> bool {
        matches!(self.text(), b"e" | b"b" | b"x" | b"n")
    }
}

/// What psql knows of a statement whose end it looks for.
#[derive(Debug, Default)]
struct Statement {
    /// Something of it has been read.
    begun: bool,
    /// Its words so far, and the first letters of those that make a function.
    words: u32,
    letters: [u8; 4],
    /// Parentheses, and blocks of a function's body, that are open: no semicolon in them ends it.
    depth: u32,
    blocks: u32,
    kind: Kind,
    /// It has the word STDIN.
    stdin: bool,
    /// It is about settings that texts depend on.
    settings: bool,
}

/// How a statement begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Other,
    Copy,
    /// `SET` or `RESET`.
    Set,
}

impl Statement {
    /// The next word that is none of a text.
    fn word(&mut self, word: &Word) {
        if word.is_number() {
            return;
        }
        if self.words == 0 {
            self.letters = [0; 4];
            self.kind = match word.text() {
                b"copy" => Kind::Copy,
                b"set" | b"reset" => Kind::Set,
                _ => Kind::Other,
            };
            // All of them are set back, or what was set since the transaction began.
            self.settings |= matches!(word.text(), b"discard" | b"rollback" | b"abort");
        }
        self.stdin |= word.is(b"stdin");
        let first = self.words == 1 && (word.is(b"all") || word.is(b"names"));
        let about = [&b"standard_conforming_strings"[..], b"client_encoding"];
        let named = self.words <= 2 && about.iter().any(|it| word.is(it));
        self.settings |= self.kind == Kind::Set && (first || named);
        let makes = [&b"create"[..], b"function", b"procedure", b"or", b"replace"];
        let at = usize::try_from(self.words).unwrap_or(usize::MAX);
        if makes.iter().any(|it| word.is(it))
            && let Some(letter) = self.letters.get_mut(at)
        {
            *letter = word.text[0];
        }
        self.words = self.words.saturating_add(1);
        let of_function = matches!(
            self.letters,
            [b'c', b'f' | b'p', ..] | [b'c', b'o', b'r', b'f' | b'p']
        );
        if of_function && self.depth == 0 {
            match word.text() {
                b"begin" => self.blocks += 1,
                b"case" if self.blocks > 0 => self.blocks += 1,
                b"end" => self.blocks = self.blocks.saturating_sub(1),
                _ => {}
            }
        }
    }

    /// A semicolon has come; whether it ends a statement that has psql read data.
    fn end(&mut self) -> bool {
        if self.depth > 0 || self.blocks > 0 {
            self.begun = true;
            return false;
        }
        let copies = self.kind == Kind::Copy && self.stdin;
        let settings = self.settings;
        *self = Self {
            settings,
            ..Self::default()
        };
        copies
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
            // psql begins each line anew, whatever the server makes of it.
            "SELECT E'a'\n  'b\\' \\! touch",
            "SELECT E'a' -- so\n 'b\\' \\! touch",
            "SELECT E'a' /* so */\n 'b\\' \\! touch",
            "-- so\r\\! touch",
            "SELECT $1$$ ' $$ \\! touch",
            "SELECT 1$$ ' $$ \\! touch",
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
        assert!(quoting.lost().is_none() && !quoting.outside());
        let mut quoting = Quoting::default();
        quoting.feed(format!("SELECT ${}", "x".repeat(TAG + 1)).as_bytes());
        assert!(quoting.lost().is_some());
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
    fn old_strings_of_kinds_without_escapes_have_none() {
        for text in ["b'\\' \\! b", "X'\\' \\! b", "U&'\\' \\! b"] {
            let mut quoting = Quoting::default();
            quoting.set_standard_strings(false);
            quoting.feed(text.as_bytes());
            assert!(quoting.end_line().is_some(), "{text}");
        }
    }

    #[test]
    fn what_is_told_apart_in_no_way_is_refused() {
        for text in [
            "SELECT 1E'",
            "SELECT 1a$$",
            "SELECT 1 \0",
            "SELECT E'a'\r'b'",
        ] {
            let mut quoting = Quoting::default();
            quoting.feed(text.as_bytes());
            assert!(quoting.lost().is_some(), "{text}");
        }
    }

    #[test]
    fn a_part_of_a_character_is_no_sign() {
        for (encoding, text) in [
            ("'SJIS'", &b"SELECT E'\x95\x5c' \\! x"[..]),
            ("'BIG5'", b"SELECT E'\xa5\x5c' \\! x"),
            ("'gbk'", b"SELECT E'\x81\x5c' \\! x"),
            ("'GB18030'", b"SELECT E'\x81\x30\x81\x30' \\! x"),
            ("'GB18030'", b"SELECT E'\x81\x5c' \\! x"),
            ("'SHIFT_JIS_2004'", b"SELECT E'\x95\x5c' \\! x"),
        ] {
            let mut quoting = Quoting::default();
            quoting.set_characters(Characters::of(encoding));
            quoting.feed(text);
            assert!(quoting.end_line().is_some(), "{encoding}");
        }
    }

    #[test]
    fn a_semicolon_in_parentheses_or_in_a_body_ends_nothing() {
        for (text, ends) in [
            ("SELECT (1;", false),
            ("SELECT (1);", true),
            ("CREATE FUNCTION begin;", false),
            (
                "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC SELECT 1;",
                false,
            ),
            (
                "CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE 1 END; END;",
                true,
            ),
            ("CREATE TABLE begin;", true),
        ] {
            let mut quoting = Quoting::default();
            quoting.feed(text.as_bytes());
            assert_eq!(quoting.at_statement(), ends, "{text}");
        }
        let mut quoting = Quoting::default();
        quoting.feed(b"COPY t (a) FROM stdin; SELECT 'stdin'; copy x /* ; */ from STDIN csv;");
        assert_eq!(quoting.take_copies(), 2);
        quoting.feed(b"COPY t TO stdout; SELECT stdin; COPY \"stdin\" TO stdout;");
        assert_eq!(quoting.take_copies(), 0);
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
