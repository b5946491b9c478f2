//! Signals that ask a program to stop.

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::model::{Error, ErrorKind, Result};

/// A token that the first SIGINT, SIGTERM, SIGHUP or SIGQUIT cancels: for
/// [`RunOptions::cancelled_by`](crate::RunOptions::cancelled_by), so that Ctrl-C, Ctrl-\,
/// `systemctl stop` and `docker stop` have a run undo itself instead of leaving users on the
/// maintenance page.
///
/// From then on none of these ends the process any more: await what comes of the run, then return
/// from `main`. An undo takes as long as a cut-over; give it more time than the ten seconds of
/// `docker stop`: `docker stop --time 600`, `TimeoutStopSec=600` of a systemd unit. A process that
/// is killed meanwhile leaves the run to [`Site::resume`](crate::Site::resume).
///
/// ```no_run
/// # use restore_core::{Plan, Result, RunOptions, Site};
/// # async fn bring_back(site: Site, plan: Plan) -> Result<()> {
/// let stop = restore_core::stop_on_signals()?;
/// let report = site.run(plan, RunOptions::new().cancelled_by(stop)).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Outside of a tokio runtime, and where the system lets nobody listen.
pub fn stop_on_signals() -> Result<CancellationToken> {
    let runtime = Handle::try_current().map_err(|e| {
        Error::new(
            ErrorKind::Config,
            "signals.no_runtime",
            format!("cannot listen to signals: {e}"),
        )
        .hint("call it from within a tokio runtime, `#[tokio::main]` for example")
    })?;
    let on = |kind| {
        signal(kind).map_err(|e| Error::io("listen to signals", e).with_kind(ErrorKind::Internal))
    };
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut terminate = on(SignalKind::terminate())?;
    let mut hangup = on(SignalKind::hangup())?;
    let mut quit = on(SignalKind::quit())?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    runtime.spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = quit.recv() => {}
        }
        token.cancel();
    });
    Ok(stop)
}
