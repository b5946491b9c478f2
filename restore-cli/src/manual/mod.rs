//! The files that a package installs beside the program: pages of the manual, and what shells read to
//! complete words. All of them come from the same definitions as `--help`.

mod roff;

use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use restore_core::{Error, ErrorKind, Result};

use crate::args::{Args, ShellArg};
use crate::complete;
use crate::topics::TOPICS;

/// The reference of the configuration, which has an example.
const CONFIGURATION: &str = include_str!("../../../docs/configuration.md");
/// How the example begins there.
const EXAMPLE: &str = "```toml restore.toml\n";

/// A file, by its path below a folder like `/usr/share`.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) path: PathBuf,
    pub(crate) text: Vec<u8>,
}

/// All of them.
pub(crate) fn pages() -> Result<Vec<Page>> {
    let mut pages = Vec::new();
    let mut all = Args::command();
    all.build();
    commands(&all, "restore", &mut pages)?;
    pages.push(page("man/man5/restore.toml.5", configuration()));
    pages.push(page("man/man7/restore-topics.7", topics()));
    for (shell, path) in [
        (ShellArg::Bash, "bash-completion/completions/restore"),
        (ShellArg::Zsh, "zsh/site-functions/_restore"),
        (ShellArg::Fish, "fish/vendor_completions.d/restore.fish"),
    ] {
        let mut script = complete::script(shell)?;
        if shell == ShellArg::Zsh {
            // zsh calls such a file for the first word that it completes: so it also does that.
            script.push_str(
                "\n[ \"$funcstack[1]\" = _restore ] && _clap_dynamic_completer_restore \"$@\"\n",
            );
        }
        pages.push(page(path, script));
    }
    Ok(pages)
}

/// Writes them below a folder; the paths.
pub(crate) fn write(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |path: &Path, e| Error::io(format!("write {}", path.display()), e);
    let mut written = Vec::new();
    for page in pages()? {
        let path = folder.join(page.path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| failed(parent, e))?;
        }
        std::fs::write(&path, page.text).map_err(|e| failed(&path, e))?;
        written.push(path);
    }
    Ok(written)
}

fn page(path: &str, text: String) -> Page {
    Page {
        path: path.into(),
        text: text.into_bytes(),
    }
}

/// A page for a command, and for each that it has.
fn commands(command: &Command, name: &str, pages: &mut Vec<Page>) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let man = Man::new(command.clone())
        .title(name)
        .section("1")
        .source(format!("restore {version}"))
        .manual("restore");
    let mut text = Vec::new();
    let failed = |e| Error::io(format!("render the page {name}"), e).with_kind(ErrorKind::Internal);
    man.render_title(&mut text)
        .and_then(|()| man.render_name_section(&mut text))
        .and_then(|()| man.render_synopsis_section(&mut text))
        .and_then(|()| man.render_description_section(&mut text))
        .and_then(|()| match command.has_subcommands() {
            true => man.render_subcommands_section(&mut text),
            false => Ok(()),
        })
        .and_then(|()| man.render_options_section(&mut text))
        .map_err(failed)?;
    text.extend(ending(name).into_bytes());
    pages.push(Page {
        path: Path::new("man/man1").join(format!("{name}.1")),
        text,
    });
    for each in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        commands(each, &format!("{name}-{}", each.get_name()), pages)?;
    }
    Ok(())
}

/// What comes after the options: those of a command are explained by the page of the program.
fn ending(name: &str) -> String {
    if name != "restore" {
        return roff::see_also(&["restore(1)", "restore-topics(7)", "restore.toml(5)"]);
    }
    let exit = TOPICS.iter().find(|topic| topic.name == "exit-codes");
    let exit = exit.map_or_else(String::new, |topic| {
        roff::section("Exit status", topic.body())
    });
    let files = "    /etc/restore/restore.toml\n    ./restore.toml\n    $RESTORE_CONFIG\n\n\
        The configuration: the first that there is, beginning with the last of these.\n";
    exit + &roff::section("Files", files)
        + &roff::see_also(&["restore-topics(7)", "restore.toml(5)", "restore-run(1)"])
}

/// restore.toml(5): what there is in it, and a small one.
fn configuration() -> String {
    let mut text = roff::begin("restore.toml", 5, "what a site has, for restore(1)");
    let mut body = |name: &str| {
        if let Some(topic) = TOPICS.iter().find(|topic| topic.name == name) {
            text += &roff::section(topic.title(), topic.body());
        }
    };
    body("configuration");
    body("trust");
    let example = CONFIGURATION.split_once(EXAMPLE);
    if let Some((example, _)) = example.and_then(|(_, rest)| rest.split_once("```")) {
        let lines = example.lines().map(|line| match line.is_empty() {
            true => "\n".to_owned(),
            false => format!("    {line}\n"),
        });
        text += &roff::section("A small site", &lines.collect::<String>());
    }
    text + &roff::see_also(&["restore(1)", "restore-config(1)", "restore-init(1)"])
}

/// restore-topics(7): the texts of `restore help`.
fn topics() -> String {
    let mut text = roff::begin(
        "restore-topics",
        7,
        "what to read in haste about restore(1)",
    );
    for topic in TOPICS {
        text += &roff::section(topic.title(), topic.body());
    }
    text + &roff::see_also(&["restore(1)", "restore-help(1)", "restore.toml(5)"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let pages = pages().unwrap();
        let text = |path: &str| {
            let page = pages.iter().find(|page| page.path == Path::new(path));
            let page = page.unwrap_or_else(|| panic!("no {path}"));
            String::from_utf8(page.text.clone()).unwrap()
        };
        for (path, words) in [
            ("man/man1/restore.1", "restore\\-run(1)"),
            ("man/man1/restore-run.1", "over\\-unconfirmed"),
            (
                "man/man1/restore-config-check.1",
                "restore\\-config\\-check",
            ),
            ("man/man5/restore.toml.5", "[components.postgres]"),
            ("man/man7/restore-topics.7", "POINT IN TIME"),
            ("bash-completion/completions/restore", "RESTORE_COMPLETE"),
            ("zsh/site-functions/_restore", "#compdef restore"),
            ("fish/vendor_completions.d/restore.fish", "RESTORE_COMPLETE"),
        ] {
            let text = text(path);
            assert!(text.contains(words), "{path}: {words}\n{text}");
        }
        let hidden = Path::new("man/man1/restore-volume-agent.1");
        assert!(pages.iter().all(|page| page.path != hidden));
    }

    #[test]
    fn a_small_site_is_in_the_page_of_the_configuration() {
        let page = configuration();
        assert!(
            page.contains("A SMALL SITE") && page.contains("[checks.health]"),
            "{page}"
        );
    }
}
