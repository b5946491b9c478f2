//! TOML with comments, section by section.

use std::path::Path;

use super::{Proposal, SCHEMA_FILE};

/// The text so far.
#[derive(Debug, Default)]
pub(super) struct Emit {
    text: String,
    todo: Vec<String>,
}

impl Emit {
    /// A comment of its own lines.
    pub(super) fn comment(&mut self, text: &str) {
        for line in wrap(text, 96) {
            self.text += &format!("# {line}\n");
        }
    }

    pub(super) fn blank(&mut self) {
        self.text.push('\n');
    }

    /// A heading between groups of sections.
    pub(super) fn heading(&mut self, text: &str) {
        self.text += &format!("\n# --- {text} ---\n");
    }

    /// `[a.b]`, behind an empty line.
    pub(super) fn section(&mut self, path: &[&str]) {
        let path: Vec<String> = path.iter().map(|key| bare(key)).collect();
        self.text += &format!("\n[{}]\n", path.join("."));
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.text += &format!("{key} = {}\n", quoted(value));
    }

    pub(super) fn path(&mut self, key: &str, value: &Path) {
        self.text(key, &value.to_string_lossy());
    }

    pub(super) fn raw(&mut self, key: &str, value: &str) {
        self.text += &format!("{key} = {value}\n");
    }

    pub(super) fn list<S: AsRef<str>>(&mut self, key: &str, values: &[S]) {
        self.text += &format!("{key} = {}\n", listed(values));
    }

    /// A key that stands there in a comment, for whoever wants it.
    pub(super) fn off(&mut self, key: &str, value: &str) {
        self.text += &format!("# {key} = {value}\n");
    }

    /// A name of which the group has no section yet: this one, or one that begins so.
    pub(super) fn free(&self, group: &str, name: &str) -> String {
        let taken = |name: &str| {
            let header = format!("\n[{group}.{}]\n", bare(name));
            self.text.contains(&header)
        };
        let mut free = name.to_owned();
        let mut number = 2_u32;
        while taken(&free) {
            free = format!("{name}-{number}");
            number = number.saturating_add(1);
        }
        free
    }

    /// A comment that says that what follows was guessed, and from what.
    pub(super) fn guess(&mut self, why: &str) {
        self.comment(&format!("GUESSED: {why}"));
    }

    /// Something that a person has to do, in the file and for the end.
    pub(super) fn todo(&mut self, what: impl Into<String>) {
        let what = crate::model::text::shown(&what.into()).into_owned();
        self.comment(&format!("TO DO: {what}"));
        if !self.todo.contains(&what) {
            self.todo.push(what);
        }
    }

    pub(super) fn end(mut self) -> Proposal {
        // A file without any is refused; this one is to be read, and completed.
        if !self.text.contains("\n[components.") {
            self.section(&["components"]);
        }
        Proposal {
            text: format!("#:schema ./{SCHEMA_FILE}\n{}", self.text),
            todo: self.todo,
            backup: None,
        }
    }
}

/// A text in TOML's quotes, on one line whatever it holds.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out += &format!("\\u{:04X}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Texts as a list of TOML's.
pub(super) fn listed<S: AsRef<str>>(values: &[S]) -> String {
    let values: Vec<String> = values.iter().map(|it| quoted(it.as_ref())).collect();
    format!("[{}]", values.join(", "))
}

fn bare(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !key.is_empty() && key.chars().all(plain) {
        true => key.to_owned(),
        false => quoted(key),
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    // A path in a comment is one line whatever it holds.
    let text = crate::model::text::shown(text);
    for word in text.split(' ') {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > 0 && last + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
