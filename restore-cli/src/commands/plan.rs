//! `restore plan ID`.

use restore_core::Result;

use super::Context;
use crate::args::PlanArgs;
use crate::printer::Answer;
use crate::{exit, render};

/// What a restore would do; the exit code tells whether it would be refused.
pub(super) async fn plan(cx: &Context, args: &PlanArgs) -> Result<Answer> {
    let site = cx.site().await?;
    site.ensure_idle().await?;
    let request = args.request()?;
    let backup = site.backup_for(&args.backup.id, &request).await?;
    let plan = site.plan(&backup, request, &cx.reading()).await?;
    let refusal = plan.refusal();
    let code = refusal.as_ref().map_or(exit::DONE, exit::of_error);
    Ok(
        Answer::new("plan", &plan, render::plan(&plan, Some(&args.repeated())))?
            .failed(refusal, code),
    )
}
