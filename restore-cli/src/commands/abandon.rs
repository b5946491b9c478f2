//! `restore abandon [RUN]`.

use std::time::Instant;

use restore_core::{Result, RunId};

use super::Context;
use crate::args::Consent;
use crate::printer::Answer;
use crate::render;
use crate::signals::Work;

/// Says what stays as it is, asks, ends the run.
pub(super) async fn abandon(cx: &Context, run: Option<RunId>, consent: &Consent) -> Result<Answer> {
    let site = cx.site().await?;
    site.ensure_idle_here().await?;
    let preview = site.preview_abandon(run).await?;
    consent.can_ask()?;
    consent.show(render::abandon_question(&preview), &cx.stderr);
    consent.ask("run", preview.run.as_str(), &cx.stderr).await?;
    let began = Instant::now();
    let options = cx.entering(Work::Page);
    let report = site.abandon(Some(preview.run), options).await?;
    cx.ended(&report, began)
}
