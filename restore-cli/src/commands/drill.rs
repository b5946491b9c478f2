//! `restore drill ID`.

use std::time::Instant;

use restore_core::{Plan, PlanRequest, Report, Result, Site};

use super::Context;
use super::run::bring;
use crate::args::DrillArgs;
use crate::printer::Answer;
use crate::signals::Work;
use crate::{exit, render};

/// Stages the backup, proves it, deletes it again. Nothing is asked: nothing live is touched.
pub(super) async fn drill(cx: &Context, args: &DrillArgs) -> Result<Answer> {
    let site = cx.site().await?;
    let plan = match planned(cx, &site, &args.backup.id, args.request()?).await {
        Ok(plan) => plan,
        Err(error) => {
            // A timer's drill that finds no backup is what somebody has to hear of.
            site.tell_refused_drill(&error, &cx.reading()).await;
            return Err(error);
        }
    };
    let text = render::plan(&plan, None);
    if let Some(refusal) = plan.refusal() {
        // It is refused there, too; hooks tell whoever is not looking.
        let refused = site.run(plan.clone(), cx.reading()).await.err();
        let refusal = refused.unwrap_or(refusal);
        let code = exit::of_error(&refusal);
        let text = if cx.quiet {
            render::refused(&plan)
        } else {
            text
        };
        let answer = Answer::new("plan", &plan, text)?;
        return Ok(answer.failed(Some(refusal), code).told());
    }
    cx.stderr.say(text);
    let began = Instant::now();
    let ended = site.run(plan, cx.entering(Work::Restoring)).await;
    let report = Report::however_ended(ended)?;
    cx.ended(&report, began)
}

/// Brings the backup and makes the plan.
async fn planned(cx: &Context, site: &Site, backup: &str, request: PlanRequest) -> Result<Plan> {
    site.ensure_idle().await?;
    let backup = match &request.target {
        Some(_) if backup == "latest" => site.backup_for("latest", &request).await?,
        _ => bring(cx, site, backup).await?,
    };
    site.plan_with(&backup, request, &cx.reading()).await
}
