//! `restore manual DIR`.

use std::path::Path;

use restore_core::Result;

use crate::manual;
use crate::printer::Answer;

/// Writes pages of the manual and completions below a folder such as `/usr/local/share`.
pub(super) fn manual(folder: &Path) -> Result<Answer> {
    let written = manual::write(folder)?;
    let lines = written.iter().map(|path| format!("{}\n", path.display()));
    let text = lines.collect::<String>();
    Answer::new("manual", &written, text)
}
