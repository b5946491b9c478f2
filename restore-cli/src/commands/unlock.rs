//! `restore unlock`.

use restore_core::{Error, ErrorKind, Result};
use serde::Serialize;

use super::Context;
use crate::args::Consent;
use crate::printer::Answer;

/// What became of the lock.
#[derive(Serialize)]
struct Unlocked {
    holder: Option<String>,
    unlocked: bool,
}

/// Says who holds the platform's lock, asks, takes it away.
pub(super) async fn unlock(cx: &Context, consent: &Consent) -> Result<Answer> {
    let site = cx.site().await?;
    let Some(holder) = site.lock_holder().await? else {
        let nothing = Unlocked {
            holder: None,
            unlocked: false,
        };
        return Answer::new("unlock", &nothing, "Nobody holds a lock.\n".to_owned());
    };
    consent.can_ask()?;
    cx.stderr.say(format!(
        "{holder}.\nTake its lock away only if that process is gone for good: one that still works \
         would go on restoring beside the next."
    ));
    consent.ask("site", site.name(), &cx.stderr).await?;
    site.unlock().await?;
    if let Some(left) = site.lock_holder().await? {
        return Err(Error::new(
            ErrorKind::Locked,
            "site.locked",
            format!("somebody else has taken the lock meanwhile: {left}"),
        )
        .hint("wait for its end; `restore unlock` says again who holds it"));
    }
    let done = Unlocked {
        holder: Some(holder),
        unlocked: true,
    };
    let text = "The lock is taken away. `restore history` shows whether that run is unfinished; \
                `restore resume` or `restore rollback` then finishes it.\n";
    Answer::new("unlock", &done, text.to_owned())
}
