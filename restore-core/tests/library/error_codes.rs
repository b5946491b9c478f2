//! `docs/errors.md` has every code that an error or a finding of the library or of the command line can
//! have, with what it says and what to do. It is made from the source: `RESTORE_UPDATE_ERRORS=1` writes it
//! anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What is said of a code: the first place in the source that says it.
#[derive(Default)]
struct Said {
    kind: Option<String>,
    message: Option<String>,
    hint: Option<String>,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "tests") {
                sources(&path, into);
            }
        } else if path.extension().is_some_and(|it| it == "rs") {
            into.push(path);
        }
    }
}

/// The texts of a source file, each with where it begins; comments and tests left out.
fn texts(source: &str) -> Vec<(usize, String)> {
    let source = match source.find("#[cfg(test)]\nmod tests") {
        Some(at) => &source[..at],
        None => source,
    };
    let bytes = source.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &source[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("'\"'") {
            at += 3;
        } else if rest.starts_with("'\\\"'") {
            at += 4;
        } else if rest.starts_with("r#\"") {
            let end = rest.find("\"#").unwrap_or(rest.len());
            found.push((at, rest[3..end.max(3)].to_owned()));
            at += end + 2;
        } else if let Some(raw) = rest.strip_prefix("r\"") {
            let end = raw.find('"').unwrap();
            found.push((at, raw[..end].to_owned()));
            at += end + 3;
        } else if let Some(text) = rest.strip_prefix('"') {
            let (text, length) = quoted(text);
            found.push((at, text));
            at += length + 1;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    found
}

/// A text up to its closing quote, and how long it was in the source.
fn quoted(rest: &str) -> (String, usize) {
    let mut text = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (text, at + 1),
            '\\' => match chars.next() {
                // The line goes on without what indents it.
                Some((_, '\n')) => {
                    let mut ahead = chars.clone();
                    while let Some((_, next)) = ahead.next()
                        && next.is_whitespace()
                    {
                        chars.next();
                    }
                }
                Some((_, 'n')) => text.push(' '),
                Some((_, other)) => text.push(other),
                None => break,
            },
            c => text.push(c),
        }
    }
    (text, rest.len())
}

/// Whether a text is a code, and no name of a file.
fn is_code(text: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    const FILES: [&str; 14] = [
        "toml", "json", "jsonl", "txt", "conf", "log", "pid", "tar", "rdb", "aof", "sock", "dat",
        "dat0", "db",
    ];
    match text.split_once('.') {
        Some((area, what)) => {
            word(area) && word(what) && !what.ends_with('_') && !FILES.contains(&what)
        }
        None => false,
    }
}

fn codes() -> BTreeMap<String, Said> {
    let mut files = Vec::new();
    for package in ["restore-core/src", "restore-cli/src"] {
        sources(&repository().join(package), &mut files);
    }
    files.sort();
    let mut codes: BTreeMap<String, Said> = BTreeMap::new();
    for file in files {
        let source = std::fs::read_to_string(file).unwrap();
        let texts = texts(&source);
        for (index, (at, text)) in texts.iter().enumerate() {
            if !is_code(text) {
                continue;
            }
            let said = codes.entry(text.clone()).or_default();
            let before = source[..*at].trim_end_matches(|c: char| c.is_whitespace() || c == ',');
            let kind = before.rsplit("ErrorKind::").next().filter(|kind| {
                before.contains("ErrorKind::") && kind.chars().all(char::is_alphanumeric)
            });
            if said.kind.is_none() {
                said.kind = kind.map(str::to_owned);
            }
            // Made before it is named.
            let after = source[*at + text.len() + 2..].trim_start_matches([',', ' ', '\n']);
            if after.starts_with("message") || after.starts_with("&message") {
                let made = source[..*at].rfind("let message = ").unwrap_or(*at);
                let mut made = texts
                    .iter()
                    .filter(|(place, _)| (made..*at).contains(place));
                if let Some((_, message)) = made.find(|(_, text)| text.contains(' ')) {
                    said.message.get_or_insert_with(|| message.clone());
                }
            }
            let own = texts[index + 1..].iter().take_while(|(place, text)| {
                !is_code(text) && !source[*at..*place].contains("\n}\n")
            });
            for (place, text) in own.take(6) {
                let between = source[*at..*place].trim_end();
                if between.ends_with("reason =") {
                    continue;
                }
                let is_hint = between.ends_with(".hint(") || between.ends_with(".hint(format!(");
                let slot = match is_hint {
                    true => &mut said.hint,
                    false => &mut said.message,
                };
                if slot.is_none() && text.contains(' ') && place - at < 900 {
                    *slot = Some(text.clone());
                }
            }
        }
    }
    codes
}

fn document() -> String {
    let mut out = String::from(
        "# Codes of errors and findings\n\n\
         Every error and finding has a code that stays the same from version to version: it is in\n\
         `--json`, in journals and reports, and in Rust and Python the `code` of an exception. Each is\n\
         listed with what it says, where braces stand for what it is about, and with what to do; the\n\
         hint that is printed with it may say more. The word behind a code is the kind of error, which\n\
         decides on the exit code (see the README). This file is made from the source by\n\
         `RESTORE_UPDATE_ERRORS=1 cargo test -p restore-core --test library error_codes`.\n",
    );
    let mut area = String::new();
    for (code, said) in codes() {
        let of = code.split('.').next().unwrap();
        if of != area {
            of.clone_into(&mut area);
            write!(out, "\n## {area}\n\n").unwrap();
        }
        write!(out, "- **`{code}`**").unwrap();
        if let Some(kind) = &said.kind {
            write!(out, " ({})", kind.to_lowercase()).unwrap();
        }
        if let Some(message) = &said.message {
            write!(out, ": {}", message.trim()).unwrap();
        }
        if let Some(hint) = &said.hint {
            write!(out, " *What to do:* {}", hint.trim()).unwrap();
        }
        out.push('\n');
    }
    out
}

#[test]
fn every_code_is_in_the_documentation() {
    let file = repository().join("docs/errors.md");
    let wanted = document();
    if std::env::var_os("RESTORE_UPDATE_ERRORS").is_some() {
        std::fs::write(&file, wanted).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    let missing: Vec<&str> = wanted
        .lines()
        .filter(|line| !written.lines().any(|other| other == *line))
        .collect();
    assert!(
        written == wanted,
        "docs/errors.md is not what the source says; RESTORE_UPDATE_ERRORS=1 writes it anew:\n{}",
        missing.join("\n")
    );
}

#[test]
fn texts_of_a_source_are_read_as_the_compiler_does() {
    let source =
        "a(\"x.y\", /* no */ '\"', r#\"raw \"it\"\"#, \"two \\\n   lines \\\"q\\\"\"); // \"no\"\n";
    let found: Vec<String> = texts(source).into_iter().map(|(_, text)| text).collect();
    assert_eq!(found, ["x.y", "raw \"it\"", "two lines \"q\""]);
    assert!(is_code("x.y") && !is_code("restore.toml") && !is_code("x.y.z") && !is_code("X.y"));
}
