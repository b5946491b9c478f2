//! `restore get ID PATH… --to DIR`.

use restore_core::Result;
use restore_core::site::GetRequest;

use super::Context;
use crate::args::GetArgs;
use crate::printer::Answer;
use crate::render;
use crate::signals::Work;

/// Brings files out of a backup. One that is elsewhere is fetched first, as for a restore.
pub(super) async fn get(cx: &Context, args: &GetArgs) -> Result<Answer> {
    let site = cx.site().await?;
    let paths = args.paths.iter().chain(&args.only);
    let request = GetRequest::new(paths, &args.to)
        .no_owner(args.no_owner)
        .keep_powers(args.keep_setuid)
        .allow_unverified(args.allow_unverified);
    let backup = super::run::bring(cx, &site, &args.backup.id).await?;
    let report = site
        .get(&backup, &request, &cx.entering(Work::Getting))
        .await?;
    Answer::new("got", &report, render::got(&report))
}
