//! The threads on which the library works: one set for each process, made when first needed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use restore_core::{Error, ErrorKind, Result};
use tokio::runtime::{Builder, Runtime};

/// How many of the library's threads are in the interpreter, or are about to be.
static INSIDE: AtomicUsize = AtomicUsize::new(0);

/// Held by a thread of the library's from before it goes into the interpreter until after it has
/// left it: one that is on its way out when the interpreter ends would take the process with it.
pub(crate) struct Inside(());

impl Inside {
    pub(crate) fn enter() -> Self {
        INSIDE.fetch_add(1, Ordering::SeqCst);
        Self(())
    }

    /// Waits until all have left, but not for one that never does.
    pub(crate) fn wait_for_all() {
        let until = Instant::now() + Duration::from_secs(10);
        while INSIDE.load(Ordering::SeqCst) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.fetch_sub(1, Ordering::SeqCst);
    }
}

static RUNTIME: OnceLock<(u32, Runtime)> = OnceLock::new();

/// Whether this process was forked from one in which the library was used.
pub(crate) fn is_forked() -> bool {
    let here = std::process::id();
    RUNTIME.get().is_some_and(|(owner, _)| *owner != here)
}

/// The threads of this process.
///
/// # Errors
///
/// A child made by `fork` has its parent's memory and none of its threads: whatever it waited for
/// would never come.
pub(crate) fn runtime() -> Result<&'static Runtime> {
    let here = std::process::id();
    if RUNTIME.get().is_none() {
        let made = Builder::new_multi_thread()
            .thread_name("restore")
            // Calls nest deeply, and take much of it without optimisation.
            .thread_stack_size(8 << 20)
            .enable_all()
            .build()
            .map_err(|e| {
                Error::io("start the library's threads", e).with_kind(ErrorKind::Internal)
            })?;
        // Another thread may have been faster; then this one's are not needed.
        if let Err((_, spare)) = RUNTIME.set((here, made)) {
            spare.shutdown_background();
        }
    }
    match RUNTIME.get() {
        Some((owner, runtime)) if *owner == here => Ok(runtime),
        Some((owner, _)) => Err(Error::new(
            ErrorKind::Config,
            "python.forked",
            format!(
                "process {here} was forked from process {owner} after `restore` had been used there; its threads did not come along"
            ),
        )
        .hint("start processes with multiprocessing's \"spawn\" or \"forkserver\", or with subprocess, and open the site there")),
        None => Err(Error::new(
            ErrorKind::Internal,
            "python.no_threads",
            "the library's threads are gone",
        )),
    }
}
