//! `restore history`.

use restore_core::Result;

use super::Context;
use crate::printer::Answer;
use crate::render;

/// All runs, oldest first.
pub(super) async fn history(cx: &Context) -> Result<Answer> {
    let reports = cx.site().await?.history().await?;
    Answer::new("runs", &reports, render::history(&reports))
}
