//! `restore fetch ID [--from STORE] [--to STORE]`.

use restore_core::Result;

use super::Context;
use crate::printer::Answer;
use crate::render;

/// Brings a backup here. One that is here already is no error.
pub(super) async fn fetch(
    cx: &Context,
    id: &str,
    from: Option<String>,
    to: Option<String>,
) -> Result<Answer> {
    let site = cx.site().await?;
    let options = cx.fetching().from_store(from).to_store(to);
    let report = site.fetch(id, options).await?;
    Answer::new("fetched", &report, render::fetched(&report))
}
