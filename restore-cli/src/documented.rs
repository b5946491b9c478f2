//! Every command line of ours that the documentation shows is one that this program takes.

use clap::Parser as _;
use clap::error::ErrorKind;
use restore_testing::pages;

use crate::args::Args;

/// What stands for something else in a line: what may be left out, and what goes on.
fn is_placeholder(word: &str) -> bool {
    word == "…" || word.starts_with('[') || word == "\\"
}

#[test]
fn every_command_that_is_shown_is_understood() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (file, text) in pages::all() {
        for line in pages::shown(&text) {
            // Where its output goes is the shell's business.
            let own = line.split([';', '>', '|']).next().unwrap_or(&line);
            let words: Vec<String> = pages::words(own)
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
            wrong.push(format!("{file}: {line}: {why}"));
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
        pages::shown(page),
        [
            "restore list",
            "restore backup",
            "restore drill latest",
            "restore check"
        ]
    );
    // What is between backquotes is told, not typed.
    assert_eq!(
        pages::typed(page),
        ["restore backup", "restore drill latest"]
    );
    let of = |heading: &str, text: &str| (heading.to_owned(), text.to_owned());
    assert_eq!(
        pages::sections("a\n## B c\nd\n### e\n"),
        [of("", "a\n"), of("B c", "d\n### e\n")]
    );
    assert_eq!(
        pages::words("restore run latest --to '2024-02-15 11:59:00 UTC'"),
        [
            "restore",
            "run",
            "latest",
            "--to",
            "2024-02-15 11:59:00 UTC"
        ]
    );
}
