//! The maintenance page, by hand.

use super::*;
use crate::engine::run::{change_page, keeps_page};

impl Site {
    /// Turns users away with the site's maintenance page, or lets them in again; idempotent. For
    /// the operator: a run does so by itself.
    pub async fn page(&self, up: bool) -> Result<()> {
        let page = self.maintenance();
        // One that a run has up comes down as it went up, whatever is configured by now.
        if page.is_none() && (up || !self.has_page_up().await?) {
            return Err(none());
        }
        let own = SiteLock::take(&self.state, Action::Page).await?;
        let all = match self.platform.lock(&Action::Page.to_string()).await {
            Ok(lock) => lock,
            Err(error) if error.kind() == ErrorKind::Locked => return Err(error),
            // A platform that cannot even be asked for its lock does not keep users out.
            Err(_) => None,
        };
        let done = async {
            // The page names the run that has it up, where there is one, and whose journal tells of
            // it: an open one, or one that ended with its page up.
            let has_it = |it: &RunState| it.is_open() || (!up && it.page_up);
            if let Some(run) = self.newest(has_it).await? {
                return change_page(self, &run, up).await;
            }
            let run = RunId::generate();
            match (page, up) {
                (Some(page), true) => page.on(&run, Timestamp::now()).await,
                (Some(page), false) => page.off(&run).await,
                (None, _) => Err(none()),
            }
        }
        .await;
        if let Some(lock) = all {
            // What was done is done; who comes next finds a lock whose process is gone.
            let _ = lock.release().await;
        }
        drop(own);
        done
    }

    /// Whether a run has its page up, and its journal has what takes it down.
    async fn has_page_up(&self) -> Result<bool> {
        let up = |it: &RunState| (it.is_open() || it.page_up) && keeps_page(it);
        Ok(self.newest(up).await?.is_some())
    }
}

fn none() -> Error {
    Error::new(
        ErrorKind::Config,
        "maintenance.none",
        "the site has no maintenance page",
    )
    .hint("[maintenance] in the configuration says how users are turned away")
}
