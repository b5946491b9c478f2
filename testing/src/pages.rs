//! The pages of the documentation, and the command lines that they show.

use std::path::Path;

/// README.md, and the pages of `docs` and its folders: where each lies in the repository, and its text.
pub fn all() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut names = vec!["README.md".to_owned()];
    for folder in ["docs", "docs/help", "docs/how-to"] {
        for entry in std::fs::read_dir(root.join(folder)).expect("the documentation") {
            let name = entry.expect("an entry").file_name();
            let name = name.to_str().expect("a name in UTF-8");
            if name.ends_with(".md") {
                names.push(format!("{folder}/{name}"));
            }
        }
    }
    names.sort();
    let read = |name: String| {
        let text = std::fs::read_to_string(root.join(&name)).expect("a page");
        (name, text)
    };
    names.into_iter().map(read).collect()
}

/// The sections of a page: each one's heading, and its text. What stands before the first has none.
pub fn sections(page: &str) -> Vec<(String, String)> {
    let mut sections = vec![(String::new(), String::new())];
    for line in page.lines() {
        match line.strip_prefix("## ") {
            Some(heading) => sections.push((heading.to_owned(), String::new())),
            None => {
                let (_, text) = sections.last_mut().expect("one is there");
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    sections
}

/// The command lines of ours that a page shows: of its blocks for shells, what is set in by four blanks and
/// begins with `$`, and between backquotes.
pub fn shown(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (place, line) in placed(page) {
        match place {
            Place::OtherBlock => {}
            Place::Shell => found.extend(commands_of(line)),
            Place::Text if line.starts_with("    $ ") => found.extend(commands_of(line)),
            Place::Text => {
                let spans = line.split('`').skip(1).step_by(2);
                found.extend(spans.map(str::to_owned));
            }
        }
    }
    found.retain(|it| it.starts_with("restore "));
    found
}

/// The command lines, of whichever program, that a page has its reader type: those behind a `$` in its blocks.
pub fn typed(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (place, line) in placed(page) {
        if place == Place::Shell && line.trim_start().starts_with("$ ") {
            found.extend(commands_of(line));
        }
    }
    found
}

/// The words of a line, as a shell takes them apart.
pub fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') => words.push(String::new()),
            (_, c) => words.last_mut().expect("one is there").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Where a line of a page stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Text,
    Shell,
    OtherBlock,
}

fn placed(page: &str) -> Vec<(Place, &str)> {
    let mut place = Place::Text;
    let mut lines = Vec::new();
    for line in page.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(language) => {
                place = match place {
                    Place::Text if matches!(language, "console" | "sh" | "bash") => Place::Shell,
                    Place::Text => Place::OtherBlock,
                    Place::Shell | Place::OtherBlock => Place::Text,
                }
            }
            None => lines.push((place, line)),
        }
    }
    lines
}

/// The commands of a line that is typed.
fn commands_of(line: &str) -> Vec<String> {
    let line = line.trim_start().trim_start_matches("$ ");
    let code = line.split(" #").next().unwrap_or(line);
    code.split("&&").map(|it| it.trim().to_owned()).collect()
}
