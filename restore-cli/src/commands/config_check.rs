//! `restore config check`.

use restore_core::component::Registry;
use restore_core::{Result, Site};

use super::Context;
use crate::printer::Answer;
use crate::{config, exit, render};

/// Everything that can be known of the configuration without a backup.
pub(super) async fn config_check(cx: &Context) -> Result<Answer> {
    let path = config::find(cx.config.as_deref())?;
    let check = Site::check_config(&path, &Registry::default(), &cx.reading()).await?;
    let refusal = check.refusal();
    let code = refusal.as_ref().map_or(exit::DONE, exit::of_error);
    Ok(Answer::new("config", &check, render::config_check(&check))?.failed(refusal, code))
}
