//! `restore check`.

use std::sync::Arc;

use restore_core::{Error, ErrorKind, NoEvents, Result};

use super::Context;
use crate::printer::Answer;
use crate::{exit, human, render};

/// Makes the site's checks now.
pub(super) async fn check(cx: &Context) -> Result<Answer> {
    let site = cx.site().await?;
    let mut options = cx.reading();
    if !cx.json {
        // The table says it all, once.
        options.events = Arc::new(NoEvents);
    }
    let outcomes = site.check(&options).await?;
    let failed = outcomes.iter().filter(|check| !check.passed).count();
    let answer = Answer::new("checks", &outcomes, render::checks(&outcomes))?;
    if failed == 0 {
        return Ok(answer);
    }
    let message = format!(
        "{} of {} failed",
        failed,
        human::count(outcomes.len(), "check")
    );
    let error = Error::new(ErrorKind::Failed, "check.failed", message)
        .hint("what each of them saw is above; the services' own logs say why");
    Ok(answer.failed(Some(error), exit::UNFORESEEN))
}
