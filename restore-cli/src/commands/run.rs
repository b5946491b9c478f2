//! `restore run ID`.

use std::time::Instant;

use restore_core::backup::Backup;
use restore_core::{Report, Result, Site};

use super::Context;
use crate::args::{Consent, PlanArgs};
use crate::printer::Answer;
use crate::signals::Work;
use crate::{exit, render};

/// Shows the plan, asks, executes it. The plan is not what was asked for, so it goes to stderr;
/// the report is.
pub(super) async fn run(
    cx: &Context,
    args: &PlanArgs,
    consent: &Consent,
    detach: bool,
) -> Result<Answer> {
    consent.can_ask()?;
    let site = cx.site().await?;
    site.ensure_idle().await?;
    let request = args.request()?;
    let backup = match request.target {
        Some(_) if args.backup.id == "latest" => site.backup_for("latest", &request).await?,
        _ => bring(cx, &site, &args.backup.id).await?,
    };
    site.start_what_is_needed(&request, &cx.reading()).await;
    let difference = super::plan::difference(cx, args, (&site, &backup), &request).await?;
    let plan = site.plan_with(&backup, request, &cx.reading()).await?;
    let changes = difference.as_ref().map(render::difference);
    let text = render::plan_with(&plan, None, &changes.unwrap_or_default());
    if let Some(refusal) = plan.refusal() {
        let code = exit::of_error(&refusal);
        let text = if cx.quiet {
            render::refused(&plan)
        } else {
            text
        };
        let answer = Answer::new("plan", &plan, text)?;
        return Ok(answer.failed(Some(refusal), code).told());
    }
    consent.show(text, &cx.stderr);
    consent
        .ask("backup", plan.backup.as_str(), &cx.stderr)
        .await?;
    if detach {
        return super::detached::leave(cx, &site, &plan, consent).await;
    }
    let began = Instant::now();
    let report = Report::however_ended(site.run(plan, cx.running(consent)).await)?;
    cx.ended(&report, began)
}

/// The backup on this host: one that is elsewhere or packed is fetched, before there is any run. Broken off,
/// nothing but a beginning of a copy is left, with which the same command goes on.
pub(super) async fn bring(cx: &Context, site: &Site, id: &str) -> Result<Backup> {
    let (backup, report) = site.bring(id, cx.fetching()).await?;
    cx.signals.entering(Work::Reading);
    if let Some(report) = report {
        cx.stderr.say(render::fetched(&report));
    }
    Ok(backup)
}
