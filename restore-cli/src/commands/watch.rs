//! `restore watch [RUN]`.

use std::time::Instant;

use restore_core::{Result, RunId};

use super::Context;
use crate::printer::Answer;

/// Follows a run of another process. Its end is this one's, too: the report, and the exit code.
pub(super) async fn watch(cx: &Context, run: Option<RunId>) -> Result<Answer> {
    let site = cx.site().await?;
    let began = Instant::now();
    let report = site.watch(run, &cx.reading()).await?;
    cx.ended(&report, began)
}
