//! `restore rollback [RUN]`.

use std::time::Instant;

use restore_core::run::Outcome;
use restore_core::{Report, Result, RunId};

use super::Context;
use crate::args::Consent;
use crate::printer::Answer;
use crate::signals::Work;
use crate::{exit, render};

/// Says what is swapped back, asks, does it. That the run ends undone is what was asked for.
pub(super) async fn rollback(
    cx: &Context,
    run: Option<RunId>,
    consent: &Consent,
) -> Result<Answer> {
    let site = cx.site().await?;
    site.ensure_idle().await?;
    let preview = site.preview_rollback(run).await?;
    consent.can_ask()?;
    consent.show(render::rollback_question(&preview), &cx.stderr);
    consent.ask("run", preview.run.as_str(), &cx.stderr).await?;
    let began = Instant::now();
    let ended = site
        .rollback(Some(preview.run), cx.entering(Work::Undoing))
        .await;
    let report = Report::however_ended(ended)?;
    let answer = cx.ended(&report, began)?;
    Ok(match report.outcome {
        Outcome::Undone | Outcome::RolledBack => {
            let code = match report.is_failing() {
                true => exit::FAILING,
                false => exit::DONE,
            };
            answer.failed(None, code)
        }
        _ => answer,
    })
}
