//! `restore drill ID`.

use std::time::Instant;

use restore_core::{Report, Result};

use super::Context;
use super::run::bring;
use crate::args::DrillArgs;
use crate::printer::Answer;
use crate::signals::Work;
use crate::{exit, render};

/// Stages the backup, proves it, deletes it again. Nothing is asked: nothing live is touched.
pub(super) async fn drill(cx: &Context, args: &DrillArgs) -> Result<Answer> {
    let site = cx.site().await?;
    site.ensure_idle().await?;
    let request = args.request()?;
    let backup = match &request.target {
        Some(_) if args.backup.id == "latest" => site.backup_for("latest", &request).await?,
        _ => bring(cx, &site, &args.backup.id).await?,
    };
    let plan = site.plan(&backup, request, &cx.reading()).await?;
    let text = render::plan(&plan, None);
    if let Some(refusal) = plan.refusal() {
        let code = exit::of_error(&refusal);
        return Ok(Answer::new("plan", &plan, text)?.failed(Some(refusal), code));
    }
    cx.stderr.say(text);
    let began = Instant::now();
    let ended = site.run(plan, cx.entering(Work::Restoring)).await;
    let report = Report::however_ended(ended)?;
    cx.ended(&report, began)
}
