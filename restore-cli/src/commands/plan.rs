//! `restore plan ID`.

use restore_core::backup::Backup;
use restore_core::site::SiteDifference;
use restore_core::{PlanRequest, Result, Site};

use serde_json::json;

use super::Context;
use crate::args::PlanArgs;
use crate::printer::Answer;
use crate::{exit, render};

/// How many names are shown of what is added, changed or removed.
const NAMED: usize = 10;

/// What a restore would do; the exit code tells whether it would be refused.
pub(super) async fn plan(cx: &Context, args: &PlanArgs) -> Result<Answer> {
    let site = cx.site().await?;
    site.ensure_idle().await?;
    let request = args.request()?;
    let backup = site.backup_for(&args.backup.id, &request).await?;
    let difference = difference(cx, args, (&site, &backup), &request).await?;
    let plan = site.plan_with(&backup, request, &cx.reading()).await?;
    let refusal = plan.refusal();
    let code = refusal.as_ref().map_or(exit::DONE, exit::of_error);
    let changes = difference.as_ref().map(render::difference);
    let text = render::plan_with(&plan, Some(&args.repeated()), &changes.unwrap_or_default());
    let mut answer = Answer::new("plan", &plan, text)?;
    if let (Some(difference), Some(plan)) = (difference, answer.value.as_object_mut()) {
        plan.insert("diff".to_owned(), json!(difference));
    }
    Ok(answer.failed(refusal, code).told())
}

/// What would change, where that is asked for.
pub(super) async fn difference(
    cx: &Context,
    args: &PlanArgs,
    (site, backup): (&Site, &Backup),
    request: &PlanRequest,
) -> Result<Option<SiteDifference>> {
    if !args.diff {
        return Ok(None);
    }
    let options = cx.reading();
    let found = site.difference(backup, request, NAMED, &options);
    found.await.map(Some)
}
