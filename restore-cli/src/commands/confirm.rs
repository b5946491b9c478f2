//! `restore confirm [RUN]`.

use restore_core::{Result, RunId};

use super::Context;
use crate::args::Consent;
use crate::printer::Answer;
use crate::render;
use crate::signals::Work;

/// Says what is deleted, asks, deletes it. Fails only by an error of its own: that the run once
/// ended otherwise than asked is old news.
pub(super) async fn confirm(cx: &Context, run: Option<RunId>, consent: &Consent) -> Result<Answer> {
    let site = cx.site().await?;
    site.ensure_idle().await?;
    let preview = site.preview_confirm(run).await?;
    consent.can_ask()?;
    consent.show(render::confirm_question(&preview), &cx.stderr);
    consent.ask("run", preview.run.as_str(), &cx.stderr).await?;
    let report = site
        .confirm(Some(preview.run), cx.entering(Work::Confirming))
        .await?;
    Answer::new("report", &report, report.to_summary())
}
