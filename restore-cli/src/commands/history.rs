//! `restore history`.

use restore_core::Result;

use super::Context;
use crate::printer::Answer;
use crate::render;

/// All runs, oldest first; or what runs keep, found by looking.
pub(super) async fn history(cx: &Context, search: bool) -> Result<Answer> {
    let site = cx.site().await?;
    if search {
        let found = site.search().await?;
        return Answer::new("kept", &found, render::found(&found));
    }
    let reports = site.history().await?;
    Answer::new("runs", &reports, render::history(&reports))
}
