//! `restore report [RUN]`.

use restore_core::{Result, RunId};

use super::Context;
use crate::printer::Answer;

/// What a run did. It is shown whatever it says, so the exit code is about the showing.
pub(super) async fn report(cx: &Context, run: Option<RunId>) -> Result<Answer> {
    let report = cx.site().await?.report(run).await?;
    Answer::new("report", &report, report.to_text())
}
