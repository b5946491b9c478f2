//! `restore completions SHELL`.

use restore_core::Result;

use crate::args::ShellArg;
use crate::complete;
use crate::printer::Answer;

/// The script that a shell reads to complete the words of `restore`.
pub(super) fn completions(shell: ShellArg) -> Result<Answer> {
    let script = complete::script(shell)?;
    Answer::new("completions", &script, script.clone())
}
