//! `restore page on|off`.

use restore_core::Result;
use serde::Serialize;

use super::Context;
use crate::args::PageArg;
use crate::printer::Answer;
use crate::signals::Work;

/// Whether users are turned away now.
#[derive(Serialize)]
struct Page {
    up: bool,
}

/// Puts the maintenance page up, or takes it down.
pub(super) async fn page(cx: &Context, page: PageArg) -> Result<Answer> {
    let site = cx.site().await?;
    cx.entering(Work::Page);
    let up = page == PageArg::On;
    site.page(up).await?;
    let text = match up {
        true => {
            "The maintenance page is up: users are turned away until `restore page off`, or until a run that shows it ends.\n"
        }
        false => "The maintenance page is down: users are let in.\n",
    };
    Answer::new("page", &Page { up }, text.to_owned())
}
