//! Processes on their way out.

use std::collections::HashSet;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::procs;
use super::procs::Ident;
use crate::model::{Error, Result};
use crate::sys::blocking::blocking;

/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How long processes may go on by themselves once the one that led them is gone.
const AFTER_LEADER: Duration = Duration::from_millis(500);

/// The processes of a service on their way out.
pub(crate) struct ExitWatcher {
    /// The first process, or where it is dead already, none.
    pub(crate) leader: Option<Ident>,
    left: HashSet<Ident>,
}

impl ExitWatcher {
    pub(crate) fn new(leader: Option<Ident>, left: HashSet<Ident>) -> Self {
        Self { leader, left }
    }

    /// Forgets whom has gone and, with `wide`, finds whom the others have started since.
    pub(crate) async fn look(&mut self, wide: bool) -> Result<()> {
        let leader = self.leader;
        let known = std::mem::take(&mut self.left);
        self.left = blocking(move || {
            let mut found = known.clone();
            if wide {
                let roots = known.iter().copied().chain(leader).collect();
                found.extend(procs::family(&roots));
            }
            // An application may restore its own platform: it does not wait for itself.
            let own = std::process::id().cast_signed();
            found.retain(|ident| ident.pid != own && Some(*ident) != leader && ident.lives());
            Ok(found)
        })
        .await?;
        Ok(())
    }

    pub(crate) fn signal_leader(&self, signal: Signal) -> Result<()> {
        self.leader.map_or(Ok(()), |leader| send(leader, signal))
    }

    pub(crate) fn signal_left(&self, signal: Signal) -> Result<()> {
        self.left.iter().try_for_each(|ident| send(*ident, signal))
    }

    /// Waits until all are gone; those that outlive their leader for long get `signal` too.
    pub(crate) async fn gone_by(&mut self, time: Duration, signal: Signal) -> Result<bool> {
        let deadline = Instant::now() + time;
        let mut leaderless: Option<Instant> = None;
        let mut asked = false;
        let mut round = 0_u32;
        loop {
            let led = self.leader.is_some_and(Ident::lives);
            // The whole of /proc is read now and then only, and once more at the end.
            self.look(round.is_multiple_of(8) || !led).await?;
            round = round.wrapping_add(1);
            if !led {
                if self.left.is_empty() {
                    return Ok(true);
                }
                let since = *leaderless.get_or_insert_with(Instant::now);
                if !asked && since.elapsed() >= AFTER_LEADER {
                    asked = true;
                    self.signal_left(signal)?;
                }
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(crate) fn shown(&self) -> String {
        let mut pids: Vec<i32> = self
            .leader
            .iter()
            .filter(|leader| leader.lives())
            .chain(&self.left)
            .map(|ident| ident.pid)
            .collect();
        pids.sort_unstable();
        let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
        format!("pid {}", pids.join(", "))
    }
}

fn send(ident: Ident, signal: Signal) -> Result<()> {
    ident.signal(signal).map(drop).map_err(|e| {
        let what = format!("send {} to process {}", signal_name(signal), ident.pid);
        Error::io(what, e)
    })
}

pub(crate) fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::TERM => "SIGTERM",
        Signal::INT => "SIGINT",
        Signal::QUIT => "SIGQUIT",
        Signal::HUP => "SIGHUP",
        Signal::USR1 => "SIGUSR1",
        Signal::USR2 => "SIGUSR2",
        _ => "SIGKILL",
    }
}
