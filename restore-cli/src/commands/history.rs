//! `restore history`.

use restore_core::Result;

use super::Context;
use crate::printer::Answer;
use crate::progress::finding_line;
use crate::render;

/// All runs, oldest first; or what runs keep, found by looking.
pub(super) async fn history(cx: &Context, search: bool) -> Result<Answer> {
    let site = cx.site().await?;
    if search {
        let found = site.search().await?;
        return Answer::new("kept", &found, render::found(&found));
    }
    let reports = site.history().await?;
    let unread = site.unread_runs().await?;
    if cx.json {
        // The data is of the runs that are known.
        for finding in &unread {
            cx.stderr.tell(finding_line(finding));
        }
    }
    Answer::new("runs", &reports, render::history(&reports, &unread))
}
