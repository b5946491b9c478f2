//! The one place that decides what goes where: data to stdout, everything else to stderr.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};

use restore_core::{Error, ErrorKind};
use serde_json::{Map, Value, json};

use crate::exit;
use crate::paint::{Look, is_harmless};
use crate::progress::Stderr;

/// What a command has to say at its end.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The name of the value in the JSON document.
    pub(crate) key: &'static str,
    /// The data for programs.
    pub(crate) value: Value,
    /// The same for people.
    pub(crate) text: String,
    /// What went wrong although there is something to show.
    pub(crate) error: Option<Error>,
    /// Whether the text says what the error does.
    pub(crate) told: bool,
    /// The exit code.
    pub(crate) exit: u8,
    /// What is on stdout already, as there was too much of it to be kept.
    streamed: Option<Stream>,
}

impl Answer {
    /// An answer without an error.
    pub(crate) fn new(
        key: &'static str,
        value: &impl serde::Serialize,
        text: String,
    ) -> restore_core::Result<Self> {
        let value = serde_json::to_value(value).map_err(|e| {
            Error::new(
                ErrorKind::Internal,
                "cli.json",
                format!("cannot write {key} as JSON: {e}"),
            )
        })?;
        Ok(Self {
            key,
            value,
            text,
            error: None,
            told: false,
            exit: exit::DONE,
            streamed: None,
        })
    }

    /// The same answer, whose text says what its error does: on one screen it is not shown twice.
    pub(crate) fn told(mut self) -> Self {
        self.told = true;
        self
    }

    /// The same answer, of which the beginning was written: its value and text are what is left.
    pub(crate) fn streamed(mut self, stream: Stream) -> Self {
        self.streamed = Some(stream);
        self
    }

    /// The same answer with what went wrong, where something did, and its exit code.
    pub(crate) fn failed(mut self, error: Option<Error>, exit: u8) -> Self {
        self.error = error;
        self.exit = exit;
        self
    }
}

/// Writes stdout once, at the end.
pub(crate) struct Printer {
    json: bool,
}

impl Printer {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints what a command came to; gives the exit code.
    pub(crate) fn finish(&self, result: Result<Answer, Error>, stderr: &Stderr) -> u8 {
        let (document, text, error, told, exit) = match result {
            Ok(Answer {
                streamed: Some(stream),
                value,
                text,
                error,
                exit,
                ..
            }) => {
                let ended = stream.end(&value, &text, error.as_ref());
                return Self::tell(ended, error.as_ref(), exit, stderr);
            }
            Ok(answer) => {
                let mut document = Map::new();
                document.insert(answer.key.to_owned(), answer.value);
                (
                    document,
                    answer.text,
                    answer.error,
                    answer.told,
                    answer.exit,
                )
            }
            Err(error) => {
                let exit = exit::of_error(&error);
                (Map::new(), String::new(), Some(error), false, exit)
            }
        };
        let written = if self.json {
            let text = with_error(document, error.as_ref());
            write_out(&escaped(&text, io::stdout().is_terminal()))
        } else {
            write_out(&Look::stdout().text(&text))
        };
        let one_screen = io::stdout().is_terminal() && io::stderr().is_terminal();
        let error = error
            .as_ref()
            .filter(|_| self.json || !(told && one_screen));
        Self::tell(written, error, exit, stderr)
    }

    /// Says what went wrong, also with writing; gives the exit code.
    fn tell(written: io::Result<()>, error: Option<&Error>, exit: u8, stderr: &Stderr) -> u8 {
        if let Some(error) = error {
            // The text comes first, so that the error is the last thing in sight.
            stderr.error(error);
        }
        match written {
            // Whoever read has read enough (`restore list | head -1`).
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => exit,
            Err(e) => {
                stderr.error(&Error::io("write to standard output", e));
                if exit == exit::DONE {
                    exit::UNFORESEEN
                } else {
                    exit
                }
            }
            Ok(()) => exit,
        }
    }
}

/// What is written while it comes: a list of more than can be kept.
#[derive(Debug)]
pub(crate) struct Stream {
    json: bool,
    terminal: bool,
    buffer: Vec<u8>,
    first: bool,
    written: io::Result<()>,
}

/// So much is written at once.
const AT_ONCE: usize = 64 * 1024;

impl Stream {
    /// Begins the list `key` of the value `key`.
    pub(crate) fn begin(json: bool, key: &str) -> Self {
        let mut stream = Self {
            json,
            terminal: io::stdout().is_terminal(),
            buffer: Vec::with_capacity(AT_ONCE),
            first: true,
            written: Ok(()),
        };
        if json {
            stream.put(&format!("{{\n{key:?}: {{\n{key:?}: ["));
        }
        stream
    }

    /// One of the list, for programs.
    pub(crate) fn item(&mut self, item: &impl serde::Serialize) {
        let between = if std::mem::take(&mut self.first) {
            "\n"
        } else {
            ",\n"
        };
        self.put(between);
        match serde_json::to_string(item) {
            Ok(text) => self.put(&escaped(&text, self.terminal)),
            Err(e) => self.written = Err(io::Error::other(e)),
        }
    }

    /// Text for people.
    pub(crate) fn text(&mut self, text: &str) {
        self.put(&Look::stdout().text(text));
    }

    /// Whether nothing can be written any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.written.is_err()
    }

    fn put(&mut self, text: &str) {
        self.buffer.extend_from_slice(text.as_bytes());
        if self.buffer.len() >= AT_ONCE {
            self.flush();
        }
    }

    /// Writes what there is, where others may go on meanwhile.
    pub(crate) fn flush(&mut self) {
        let bytes = std::mem::take(&mut self.buffer);
        if self.written.is_ok() {
            self.written = tokio::task::block_in_place(|| write_bytes(&bytes));
        }
        self.buffer = bytes;
        self.buffer.clear();
    }

    /// Writes the end: what else is in the value, or is to be said, and the error.
    fn end(self, value: &Value, text: &str, error: Option<&Error>) -> io::Result<()> {
        self.written?;
        if !self.json {
            return write_out(&Look::stdout().text(text));
        }
        let rest = value.to_string();
        let rest = rest.strip_prefix('{').unwrap_or(&rest);
        let error = error.map_or_else(String::new, |error| {
            format!(",\n\"error\": {}", error_value(error))
        });
        let text = format!("\n],\n{rest}{error}\n}}\n");
        write_out(&escaped(&text, self.terminal))
    }
}

/// The error as programs read it.
pub(crate) fn error_value(error: &Error) -> Value {
    json!({
        "code": error.code(),
        "kind": error.kind(),
        "message": error.message(),
        "hint": error.hint_text(),
        "component": error.component(),
        "retryable": error.is_retryable(),
    })
}

fn with_error(mut document: Map<String, Value>, error: Option<&Error>) -> String {
    if let Some(error) = error {
        document.insert("error".to_owned(), error_value(error));
    }
    format!("{:#}\n", Value::Object(document))
}

/// A JSON document as it is written: to a terminal without characters that it would obey, or that turn the direction
/// of what follows. To programs they are the same.
fn escaped(text: &str, terminal: bool) -> Cow<'_, str> {
    // Between texts there are line ends; within them they are escaped already.
    let plain = |c: char| c == '\n' || is_harmless(c);
    if !terminal || text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match plain(c) {
            true => out.push(c),
            false => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    Cow::Owned(out)
}

fn write_out(text: &str) -> io::Result<()> {
    write_bytes(text.as_bytes())
}

fn write_bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_nothing_to_a_terminal() {
        let value = json!({"name": "a\u{1b}[2J\u{9b}2J\u{202e}b\u{7f}é\n"});
        let text = format!("{value:#}\n");
        assert_eq!(escaped(&text, false), text);
        let shown = escaped(&text, true);
        let ascii = |c: char| c == '\n' || c == 'é' || (' '..='~').contains(&c);
        assert!(shown.chars().all(ascii), "{shown:?}");
        assert!(shown.contains(r"\u009b2J\u202eb\u007fé"), "{shown}");
        let read: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, value);
        assert!(matches!(
            escaped("{\n\"é\": 1\n}\n", true),
            Cow::Borrowed(_)
        ));
    }

    #[test]
    fn an_error_stands_beside_the_data() {
        let mut document = Map::new();
        document.insert("plan".to_owned(), json!({"steps": []}));
        let error = Error::new(ErrorKind::Preflight, "a.b", "no room")
            .in_component("redis")
            .hint("make room");
        let value: Value = serde_json::from_str(&with_error(document, Some(&error))).unwrap();
        assert_eq!(
            value,
            json!({
                "plan": {"steps": []},
                "error": {
                    "code": "a.b", "kind": "preflight", "message": "no room",
                    "hint": "make room", "component": "redis", "retryable": false,
                },
            })
        );
        // A program that calls again by itself asks for this.
        assert_eq!(error_value(&error.retryable())["retryable"], true);
    }
}
