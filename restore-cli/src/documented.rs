//! Every command line of ours that the documentation shows is one that this program takes.

use std::path::{Path, PathBuf};

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::args::Args;

/// README.md, and the pages of `docs` and its folders.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = vec![root.join("README.md")];
    for folder in ["docs", "docs/help", "docs/how-to"] {
        let listed = std::fs::read_dir(root.join(folder)).unwrap();
        files.extend(listed.map(|entry| entry.unwrap().path()));
    }
    files.retain(|file| file.extension().is_some_and(|end| end == "md"));
    files.sort();
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).unwrap();
        (file, text)
    };
    files.into_iter().map(read).collect()
}

/// The command lines of a page: of its blocks for shells, what is set in by four blanks and begins with
/// `$`, and between backquotes.
fn commands(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut block: Option<bool> = None;
    for line in page.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            block = match block {
                None => Some(matches!(language, "console" | "sh" | "bash")),
                Some(_) => None,
            };
            continue;
        }
        match block {
            Some(false) => {}
            Some(true) => found.extend(typed(line)),
            None if line.starts_with("    $ ") => found.extend(typed(line)),
            None => {
                let spans = line.split('`').skip(1).step_by(2);
                found.extend(spans.map(str::to_owned));
            }
        }
    }
    found.retain(|it| it.starts_with("restore "));
    found
}

/// The commands of a line that is typed.
fn typed(line: &str) -> impl Iterator<Item = String> {
    let line = line.trim_start().trim_start_matches("$ ");
    let code = line.split(" #").next().unwrap_or(line);
    code.split("&&").map(|it| it.trim().to_owned())
}

/// The words of a line, as a shell takes them apart.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') => words.push(String::new()),
            (_, c) => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// What stands for something else in a line: what may be left out, and what goes on.
fn is_placeholder(word: &str) -> bool {
    word == "…" || word.starts_with('[') || word == "\\"
}

#[test]
fn every_command_that_is_shown_is_understood() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (file, text) in pages() {
        for line in commands(&text) {
            // Where its output goes is the shell's business.
            let own = line.split([';', '>', '|']).next().unwrap_or(&line);
            let words: Vec<String> = words(own)
                .into_iter()
                .map(|word| word.trim_end_matches('…').to_owned())
                .filter(|word| !word.is_empty() && !is_placeholder(word))
                .collect();
            count += 1;
            let Err(error) = Args::try_parse_from(&words) else {
                continue;
            };
            let said = [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion];
            // The name of a command without what it needs is no line to type.
            let incomplete = [
                ErrorKind::MissingRequiredArgument,
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
                ErrorKind::MissingSubcommand,
            ];
            if said.contains(&error.kind())
                || (words.len() <= 3 && incomplete.contains(&error.kind()))
            {
                continue;
            }
            let why = error.to_string();
            let why = why.lines().next().unwrap_or_default().to_owned();
            wrong.push(format!("{}: {line}: {why}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 350, "{count} command lines");
}

#[test]
fn lines_are_taken_apart_as_a_shell_does() {
    let page = "a `restore list` b\n```console\n$ restore backup && restore drill latest  # both\n```\n\
                ```toml\nrestore x\n```\n    $ restore check   # set in\n    restored\n";
    assert_eq!(
        commands(page),
        [
            "restore list",
            "restore backup",
            "restore drill latest",
            "restore check"
        ]
    );
    assert_eq!(
        words("restore run latest --to '2024-02-15 11:59:00 UTC'"),
        [
            "restore",
            "run",
            "latest",
            "--to",
            "2024-02-15 11:59:00 UTC"
        ]
    );
}
