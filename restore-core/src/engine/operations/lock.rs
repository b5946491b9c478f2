//! The locks of a site: who holds them, work under them, and taking one away by hand.

use super::*;
use crate::contract::PlatformLock;

/// How often it is looked whether a lock is free.
const LOOK: Duration = Duration::from_millis(200);

impl Site {
    /// An error of kind [`Locked`](ErrorKind::Locked), naming who it is, where a run, a rollback
    /// or the like is under way. Changes nothing. Whatever is planned or previewed meanwhile would
    /// take the run under way for one that died.
    pub async fn ensure_idle(&self) -> Result<()> {
        SiteLock::probe(&self.state).await?;
        self.platform.ensure_unlocked().await
    }

    /// As [`ensure_idle`](Self::ensure_idle), for this host alone: for what has to work while the platform
    /// does not answer.
    pub async fn ensure_idle_here(&self) -> Result<()> {
        SiteLock::probe(&self.state).await
    }

    /// Does `work` with the locks of this host and of the platform held; waits for them as `options` say.
    pub(super) async fn locked<T>(
        &self,
        action: Action,
        options: &RunOptions,
        work: impl AsyncFnOnce(SiteLock) -> Result<T>,
    ) -> Result<T> {
        let (own, all) = until_unlocked(options, || self.take_locks(action)).await?;
        let done = work(own).await;
        if let Some(lock) = all
            && let Err(error) = lock.release().await
        {
            // What was done is done; who comes next finds a lock whose process is gone.
            return done.map_err(|first| first.context(error));
        }
        done
    }

    async fn take_locks(
        &self,
        action: Action,
    ) -> Result<(SiteLock, Option<Box<dyn PlatformLock>>)> {
        let own = SiteLock::take(&self.state, action).await?;
        let all = self.platform.lock(&action.to_string()).await?;
        Ok((own, all))
    }

    /// Who holds the platform's lock, in words; `None`: nobody, or the platform has none.
    pub async fn lock_holder(&self) -> Result<Option<String>> {
        self.platform.lock_holder().await
    }

    /// Takes the platform's lock away from a process of another host, on the caller's word that
    /// it is gone for good. A process that lives there all the same would go on restoring.
    /// Refused while a process of this host works on the site.
    pub async fn unlock(&self) -> Result<()> {
        SiteLock::probe(&self.state).await?;
        self.platform.break_lock().await
    }
}

/// Tries again for as long as `options` say while another process holds a lock, which is told once. For ever
/// where they say more than a clock can count.
///
/// # Errors
///
/// Those of the last attempt; `Interrupted` where `options` are cancelled meanwhile.
pub(crate) async fn until_unlocked<T, F>(
    options: &RunOptions,
    mut attempt: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let until = tokio::time::Instant::now().checked_add(options.wait);
    let mut told = false;
    loop {
        let error = match attempt().await {
            Err(error) if error.kind() == ErrorKind::Locked => error,
            other => return other,
        };
        let left = until.map(|it| it.saturating_duration_since(tokio::time::Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(error);
        }
        if !std::mem::replace(&mut told, true) {
            let longest = left.map(|left| format!(" for up to {} s", left.as_secs()));
            let longest = longest.unwrap_or_default();
            let message = format!("waiting{longest}: {}", error.message());
            let finding = Finding::info("site.locked", "lock", message);
            options.events.emit(&Event::Finding { finding });
        }
        tokio::select! {
            () = tokio::time::sleep(left.map_or(LOOK, |left| LOOK.min(left))) => {}
            () = options.cancel.cancelled() => return Err(Error::interrupted()),
        }
    }
}
