//! The question before something that a person must mean: the id is to be typed, not "y".

use std::io::{self, BufRead as _, IsTerminal as _};

use restore_core::{Error, ErrorKind, Finding, Result};

use crate::args::Consent;
use crate::progress::{Stderr, finding_line};

impl Consent {
    /// Refuses early where a question could not be answered: before any work is done for it.
    pub(crate) fn can_ask(&self) -> Result<()> {
        if self.yes || (io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Config,
            "cli.no_terminal",
            "there is no terminal to ask on; nothing was done",
        )
        .hint("add --yes to go on without being asked"))
    }

    /// Shows what is asked about, or what is done without asking.
    pub(crate) fn show(&self, text: String, stderr: &Stderr) {
        match self.yes {
            true => stderr.say(text),
            false => stderr.tell(text),
        }
    }

    /// Asks for `id` (the `noun`'s id or name) to be typed, unless asked not to. An error where it was not:
    /// then nothing is to be done.
    pub(crate) async fn ask(&self, noun: &str, id: &str, stderr: &Stderr) -> Result<()> {
        if self.yes {
            return Ok(());
        }
        self.can_ask()?;
        stderr.ask(format!("\nType the {noun}'s id, {id}, to go on: "));
        let answer = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            io::stdin().lock().read_line(&mut line).map(|_| line)
        })
        .await
        .map_err(|e| Error::new(ErrorKind::Internal, "cli.answer", e.to_string()))?
        .map_err(|e| Error::io("read the answer", e))?;
        judge(noun, id, &answer)
    }
}

/// Asks whether to go on in spite of what a run has just met.
pub(crate) fn agrees(question: &Finding, stderr: &Stderr) -> bool {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return false;
    }
    stderr.tell(format!("\n{}", finding_line(question)));
    stderr.ask("Type yes to go on all the same; anything else undoes the run: ");
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    read.is_ok() && line.trim() == "yes"
}

fn judge(noun: &str, id: &str, answer: &str) -> Result<()> {
    if answer.trim() == id {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Config,
        "cli.not_confirmed",
        format!("the answer was not the {noun}'s id; nothing was done"),
    )
    .hint(format!("ask again and type {id}, or add --yes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_id_is_a_yes() {
        assert!(judge("backup", "20240215-020000", " 20240215-020000\r\n").is_ok());
        for answer in ["", "\n", "y\n", "yes\n", "20240215-02000\n", "latest\n"] {
            let error = judge("backup", "20240215-020000", answer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{answer:?}");
        }
    }
}
