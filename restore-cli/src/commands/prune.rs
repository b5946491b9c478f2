//! `restore prune`.

use restore_core::Result;
use serde_json::json;

use super::Context;
use crate::args::PruneArgs;
use crate::printer::Answer;
use crate::render;
use crate::signals::Work;

/// Shows what would be deleted and why the rest stays, asks, deletes it.
pub(super) async fn prune(cx: &Context, args: &PruneArgs) -> Result<Answer> {
    let request = args.request();
    let site = cx.site().await?;
    site.ensure_idle().await?;
    let plan = site.plan_prune(&request).await?;
    let text = render::prune_plan(&plan);
    if plan.delete.is_empty() || args.dry_run {
        return Answer::new("prune", &json!({ "plan": plan, "deleted": [] }), text);
    }
    args.consent.can_ask()?;
    cx.stderr.say(text);
    args.consent.ask("store", &plan.store, &cx.stderr).await?;
    let deleted = site
        .prune(&request, &plan, cx.entering(Work::Pruning))
        .await?;
    let text = render::pruned(&deleted);
    Answer::new("prune", &json!({ "plan": plan, "deleted": deleted }), text)
}
