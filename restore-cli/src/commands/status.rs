//! `restore status`.

use restore_core::Result;

use super::Context;
use crate::printer::Answer;
use crate::{exit, render};

/// What the site is, has and was proven of; an error, with its exit code, where no restore could begin now.
pub(super) async fn status(cx: &Context) -> Result<Answer> {
    let site = cx.site().await?;
    let status = site.status(&cx.reading()).await?;
    let refusal = status.refusal();
    let code = refusal.as_ref().map_or(exit::DONE, exit::of_error);
    let answer = Answer::new("status", &status, render::status(&status))?;
    Ok(answer.failed(refusal, code).told())
}
