//! `restore backup`.

use restore_core::Result;

use super::Context;
use crate::args::BackupArgs;
use crate::printer::Answer;
use crate::render;
use crate::signals::Work;

/// Makes a backup of what is live now.
pub(super) async fn backup(cx: &Context, args: &BackupArgs) -> Result<Answer> {
    let request = args.request()?;
    let site = cx.site().await?;
    let report = site.back_up(request, cx.entering(Work::BackingUp)).await?;
    Answer::new("backup", &report, render::backed_up(&report))
}
