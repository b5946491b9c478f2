//! `restore list`.

use restore_core::Result;

use super::Context;
use crate::exit;
use crate::paint::harmless;
use crate::printer::Answer;
use crate::render;

/// The backups of all stores, oldest first. One that is damaged is in the list, and said to be. A
/// store that cannot be asked does not hide what the others have, and is an error at the end.
pub(super) async fn list(cx: &Context) -> Result<Answer> {
    let site = cx.site().await?;
    let listing = site.listing().await;
    let places: Vec<String> = site
        .stores()
        .iter()
        .map(|(_, store)| store.describe())
        .collect();
    let mut text = if listing.backups.is_empty() && listing.failed.is_some() {
        String::new()
    } else {
        render::backups(&listing.backups, &places.join(", "), places.len() > 1)
    };
    for (store, stranger) in &listing.strangers {
        text += &format!(
            "\n{} in {store} is no backup: {}.\n",
            harmless(&stranger.path),
            harmless(&stranger.what)
        );
    }
    let code = listing.failed.as_ref().map_or(exit::DONE, exit::of_error);
    Ok(Answer::new("backups", &listing.backups, text)?.failed(listing.failed, code))
}
