//! Ctrl-C, Ctrl-\, SIGTERM and SIGHUP: stop in an orderly way, and never in the middle of an undo.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use restore_core::{Error, ErrorKind, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit;
use crate::progress::Stderr;

/// How long a run has at least, from the first wish to stop, to write down that it is undone.
const DECIDED: Duration = Duration::from_secs(1);

/// What a signal would interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Work {
    /// Nothing that leaves traces: the program simply ends.
    Reading = 0,
    /// A run, which undoes itself when cancelled.
    Restoring = 1,
    /// An undo, which runs to its end.
    Undoing = 2,
    /// The deletion of what a run replaced.
    Confirming = 3,
    /// A backup, which stays unfinished when cancelled.
    BackingUp = 4,
    /// The deletion of old backups.
    Pruning = 5,
    /// A backup being fetched, which can be gone on with.
    Fetching = 6,
    /// The maintenance page goes up or down, or a run is ended as the platform stands.
    Page = 7,
    /// Files are brought out of a backup, of which nothing is left when cancelled.
    Getting = 8,
}

impl Work {
    fn of(number: u8) -> Self {
        match number {
            1 => Self::Restoring,
            2 => Self::Undoing,
            3 => Self::Confirming,
            4 => Self::BackingUp,
            5 => Self::Pruning,
            6 => Self::Fetching,
            7 => Self::Page,
            8 => Self::Getting,
            _ => Self::Reading,
        }
    }
}

/// Knows what goes on, and tells it to stop.
#[derive(Clone)]
pub(crate) struct Signals {
    work: Arc<AtomicU8>,
    cancel: CancellationToken,
    abandon: CancellationToken,
}

impl Signals {
    /// Listens from now on.
    pub(crate) fn listen(stderr: Stderr) -> Result<Self> {
        let on = |kind| {
            signal(kind)
                .map_err(|e| Error::io("listen to signals", e).with_kind(ErrorKind::Internal))
        };
        let this = Self {
            work: Arc::new(AtomicU8::new(Work::Reading as u8)),
            cancel: CancellationToken::new(),
            abandon: CancellationToken::new(),
        };
        let asking = [
            on(SignalKind::interrupt())?,
            on(SignalKind::terminate())?,
            // Ctrl-\: by itself it would end the process in the middle, and leave a core.
            on(SignalKind::quit())?,
        ];
        let hangup = on(SignalKind::hangup())?;
        tokio::spawn(this.clone().wait(asking, hangup, stderr));
        Ok(this)
    }

    /// From here on a signal would interrupt `work`. Give the token to it.
    pub(crate) fn entering(&self, work: Work) -> CancellationToken {
        self.work.store(work as u8, Ordering::SeqCst);
        self.cancel.clone()
    }

    /// The token for work that leaves no traces.
    pub(crate) fn token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Returns when what goes on may simply be dropped.
    pub(crate) async fn abandoned(&self) {
        self.abandon.cancelled().await;
    }

    async fn wait(
        self,
        [mut int, mut term, mut quit]: [Signal; 3],
        mut hangup: Signal,
        stderr: Stderr,
    ) {
        let mut asked = 0_u32;
        let mut first = None;
        loop {
            // A terminal that goes away sends more than one SIGHUP: they ask once and no more.
            let again = tokio::select! {
                Some(()) = int.recv() => true,
                Some(()) = term.recv() => true,
                Some(()) = quit.recv() => true,
                Some(()) = hangup.recv() => false,
                else => return,
            };
            if !again && asked > 0 {
                continue;
            }
            asked = asked.saturating_add(1);
            let first = *first.get_or_insert_with(Instant::now);
            let work = Work::of(self.work.load(Ordering::SeqCst));
            self.cancel.cancel();
            if work == Work::Reading {
                self.abandon.cancel();
            } else if asked < 3 {
                stderr.tell(words(work, asked));
            } else {
                // The first wish is written into the journal, which takes a moment.
                tokio::time::sleep_until((first + DECIDED).into()).await;
                leave(work, &stderr);
            }
        }
    }
}

/// What is said to the first and the second request to stop.
fn words(work: Work, asked: u32) -> &'static str {
    match (work, asked) {
        (Work::Restoring, 1) => {
            "stopping: undoing what was begun, which ends by itself; press Ctrl-C twice more only \
             to leave it half undone"
        }
        (Work::Undoing, 1) => {
            "an undo is not broken off: it goes on to its end; press Ctrl-C twice more only to \
             leave it half done"
        }
        (Work::BackingUp, 1) => "stopping: the backup stays unfinished, and is never restored",
        (Work::BackingUp, _) => "still stopping; press Ctrl-C once more to leave at once",
        (Work::Pruning, 1) => "stopping after the backup that is being deleted",
        (Work::Pruning, _) => {
            "still deleting; press Ctrl-C once more to leave at once: what is left of the backup is \
             unfinished, and is deleted by the next prune"
        }
        (Work::Fetching, 1) => "stopping: what came so far is kept, the next fetch goes on there",
        (Work::Fetching, _) => "still writing what came; press Ctrl-C once more to leave at once",
        (Work::Getting, 1) => "stopping: what was brought out so far is removed again",
        (Work::Getting, _) => "still removing it; press Ctrl-C once more to leave at once",
        (Work::Page, 1) => "this is short, and goes on to its end",
        (Work::Page, _) => "press Ctrl-C once more to leave at once, then do the same again",
        (Work::Confirming, 1) => "stopping after the deletion under way",
        (Work::Confirming, _) => {
            "still deleting; press Ctrl-C once more to leave at once, then `restore confirm` \
             deletes the rest"
        }
        _ => {
            "still undoing; press Ctrl-C once more to leave it half undone, then `restore resume` \
             finishes the undo"
        }
    }
}

/// Ends the process where it is, like a crash.
fn leave(work: Work, stderr: &Stderr) -> ! {
    let code = match work {
        // Nothing live is concerned.
        Work::BackingUp | Work::Pruning | Work::Fetching | Work::Getting => exit::INTERRUPTED,
        _ => exit::STUCK,
    };
    stderr.tell(match work {
        Work::BackingUp => "left in the middle: the backup is unfinished, and is never restored",
        Work::Pruning => "left in the middle\nhint: `restore prune` deletes the rest",
        Work::Fetching => "left in the middle\nhint: fetch again, it goes on there",
        Work::Getting => {
            "left in the middle\nhint: the same command removes what is left, and begins anew"
        }
        Work::Confirming => "left in the middle\nhint: `restore confirm` deletes the rest",
        Work::Page => "left in the middle\nhint: do the same again",
        _ => {
            "left in the middle: the platform is neither restored nor as it was\n\
             hint: `restore resume` finishes the undo; `restore report` says what is where"
        }
    });
    stderr.flush(Duration::from_millis(300));
    std::process::exit(code.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_work_reads_back() {
        for work in [
            Work::Reading,
            Work::Restoring,
            Work::Undoing,
            Work::Confirming,
            Work::BackingUp,
            Work::Pruning,
            Work::Fetching,
            Work::Page,
            Work::Getting,
        ] {
            assert_eq!(Work::of(work as u8), work);
        }
    }
}
