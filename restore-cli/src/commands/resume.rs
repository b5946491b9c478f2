//! `restore resume [RUN]`.

use std::time::Instant;

use restore_core::{Report, Result, RunId};

use super::Context;
use crate::printer::Answer;
use crate::signals::Work;

/// Finishes an unfinished run. It was consented to when it began.
pub(super) async fn resume(cx: &Context, run: Option<RunId>) -> Result<Answer> {
    let site = cx.site().await?;
    let began = Instant::now();
    let ended = site.resume(run, cx.entering(Work::Restoring)).await;
    let report = Report::however_ended(ended)?;
    cx.ended(&report, began)
}
