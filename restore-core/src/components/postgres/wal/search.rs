//! Where in the log a recovery target lies, and whether it can be reached.

use std::ops::ControlFlow;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::records::{Mark, MarkKind, Scanner};
use super::{BaseBackupRange, Chain, segment_of};
use crate::model::{Error, ErrorKind, Lsn, RecoveryPoint, RecoveryTarget, Result, Timestamp};

/// What replaying up to a target comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplayEstimate {
    /// Segments to replay.
    pub(crate) segments: u64,
    /// Bytes to replay.
    pub(crate) bytes: u64,
    /// The last transaction or restore point before the target.
    pub(crate) last: Option<Mark>,
    /// Where replaying ends, about.
    pub(crate) end: Lsn,
    /// The number of the last segment that a server reads before it stops there; more than there
    /// are where it reads all.
    pub(crate) until: u64,
}

/// Looks for targets in what leads on from a base backup.
#[derive(Clone)]
pub(crate) struct Search {
    chain: Arc<Chain>,
    origin: BaseBackupRange,
    cancel: CancellationToken,
}

/// The end of what can be replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) lsn: Lsn,
    pub(crate) last: Option<Mark>,
}

impl Search {
    pub(crate) fn new(chain: Chain, origin: BaseBackupRange, cancel: CancellationToken) -> Self {
        Self {
            chain: Arc::new(chain),
            origin,
            cancel,
        }
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.chain
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let search = self.clone();
        tokio::task::spawn_blocking(move || work(&search))
            .await
            .unwrap_or_else(|e| {
                Err(Error::new(
                    ErrorKind::Internal,
                    "wal.task",
                    format!("reading an archive broke off: {e}"),
                ))
            })
    }

    /// How far the archive leads; only its last segments are read.
    pub(crate) async fn end(&self) -> Result<End> {
        self.blocking(Self::end_now).await
    }

    /// Where the target is; an error says why it cannot be reached, and what can.
    pub(crate) async fn find(&self, target: &RecoveryTarget) -> Result<ReplayEstimate> {
        let target = target.clone();
        self.blocking(move |search| search.find_now(&target)).await
    }

    /// Reads files from the one at `from` on, until `report` has enough.
    fn scan(
        &self,
        from: usize,
        to: usize,
        mut report: impl FnMut(&Mark) -> ControlFlow<()> + Send,
    ) -> Result<Option<Lsn>> {
        let mut end = None;
        let mut scanner = Scanner::new(self.chain.segment_size, &mut report);
        for (name, file) in self.chain.files.iter().take(to).skip(from) {
            if self.cancel.is_cancelled() {
                return Err(Error::interrupted());
            }
            let mut reader =
                std::io::BufReader::with_capacity(1 << 18, file.open_until(&self.cancel)?);
            let scanned = scanner.segment(name.number, &mut reader).map_err(|e| {
                Error::new(
                    ErrorKind::Preflight,
                    "wal.damaged",
                    format!("{file} cannot be read: {e}"),
                )
                .hint("it was cut, or is being copied right now: copy it again from where it is whole, or try again in a moment; nothing behind it can be recovered without it")
            })?;
            end = scanned.end.or(end);
            if scanner.stopped() || !scanned.whole {
                break;
            }
        }
        Ok(end)
    }

    fn last_of(&self, at: usize) -> Result<(Option<Lsn>, Option<Mark>)> {
        let mut last = None;
        let end = self.scan(at, at + 1, |mark| {
            // Times are compared with those of transactions alone.
            if matches!(mark.what, MarkKind::End { .. }) {
                last = Some(mark.clone());
            }
            ControlFlow::Continue(())
        })?;
        Ok((end, last))
    }

    fn end_now(&self) -> Result<End> {
        let mut lsn = None;
        for at in (0..self.chain.files.len()).rev() {
            let (end, last) = self.last_of(at)?;
            lsn = lsn.or(end);
            let last = last.filter(|mark| mark.end > self.origin.stop);
            let before = end.is_some_and(|end| end <= self.origin.stop);
            if last.is_some() || before {
                return Ok(End {
                    lsn: lsn.unwrap_or(self.origin.stop).max(self.origin.stop),
                    last,
                });
            }
        }
        Ok(End {
            lsn: lsn.unwrap_or(self.origin.stop).max(self.origin.stop),
            last: None,
        })
    }

    fn find_now(&self, target: &RecoveryTarget) -> Result<ReplayEstimate> {
        let end = self.end_now()?;
        match &target.point {
            // What is behind a hole would be lost without a word.
            RecoveryPoint::Latest if !self.chain.holes.is_empty() => {
                let what = "what comes behind it cannot be reached".to_owned();
                Err(self.beyond("wal.hole", what, &end))
            }
            // A disk that is not mounted looks like this too.
            RecoveryPoint::Latest if self.chain.files.is_empty() => {
                let what = "it holds nothing of what leads on from the base backup".to_owned();
                Err(self.beyond("wal.empty", what, &end))
            }
            RecoveryPoint::Latest => Ok(ReplayEstimate {
                until: u64::MAX,
                ..self.up_to(end.lsn, end.last)
            }),
            RecoveryPoint::Time(time) => self.time(*time, target, &end),
            RecoveryPoint::Lsn(lsn) => self.lsn(*lsn, &end),
            RecoveryPoint::Xid(xid) => {
                let wanted = *xid;
                let found = self
                    .first(|mark| matches!(&mark.what, MarkKind::End { xid } if *xid == wanted))?;
                found.ok_or_else(|| {
                    self.beyond(
                        "target.no_xid",
                        format!("transaction {wanted} did not end in it"),
                        &end,
                    )
                })
            }
            RecoveryPoint::Name(wanted) => {
                let found = self.first(
                    |mark| matches!(&mark.what, MarkKind::Point { name } if name == wanted),
                )?;
                found.ok_or_else(|| {
                    self.beyond(
                        "target.no_name",
                        format!("there is no restore point {wanted:?} in it"),
                        &end,
                    )
                })
            }
        }
    }

    fn up_to(&self, end: Lsn, last: Option<Mark>) -> ReplayEstimate {
        let size = self.chain.segment_size;
        let first = segment_of(self.origin.start, size);
        let segments = segment_of(Lsn(end.0.saturating_sub(1)), size).saturating_sub(first) + 1;
        ReplayEstimate {
            segments,
            bytes: end.0.saturating_sub(self.origin.start.0),
            last,
            end,
            until: self.seen_at(end),
        }
    }

    /// The segment in which a record that ends at `end` has been read, and one more: a server may
    /// look at the page that follows.
    fn seen_at(&self, end: Lsn) -> u64 {
        segment_of(end, self.chain.segment_size).saturating_add(1)
    }

    /// The first mark behind the base backup that is wanted.
    fn first(
        &self,
        wanted: impl Fn(&Mark) -> bool + Send + Sync,
    ) -> Result<Option<ReplayEstimate>> {
        let mut found = None;
        let stop = self.origin.stop;
        self.scan(0, usize::MAX, |mark| {
            if mark.end > stop && wanted(mark) {
                found = Some(mark.clone());
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(found.map(|mark| self.up_to(mark.end, Some(mark))))
    }

    fn time(&self, time: Timestamp, target: &RecoveryTarget, end: &End) -> Result<ReplayEstimate> {
        if time < self.origin.stopped {
            return Err(self.too_early(format!("{} is", time.precise())));
        }
        // A server goes on until it sees a transaction that is behind the target; without one it
        // could not tell that there was none.
        let behind = |mark: &Mark| match target.inclusive {
            true => mark.time > time,
            false => mark.time >= time,
        };
        if !end.last.as_ref().is_some_and(behind) {
            return Err(self.beyond(
                "target.after_end",
                format!("{} is not in it", time.precise()),
                end,
            ));
        }
        // Commits are in the order of their times but for moments: the last file that ends before
        // the target is where to begin.
        let (mut low, mut high) = (0, self.chain.files.len());
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let mut known = None;
            for at in (low..middle).rev() {
                if let (_, Some(mark)) = self.last_of(at)? {
                    known = Some(mark);
                    break;
                }
            }
            match known.is_some_and(|mark| behind(&mark)) {
                true => high = middle,
                false => low = middle,
            }
        }
        let stop = self.origin.stop;
        let (mut last, mut over) = (None, None);
        for from in [low.saturating_sub(1), 0] {
            self.scan(from, usize::MAX, |mark| {
                if mark.end <= stop {
                    return ControlFlow::Continue(());
                }
                if behind(mark) && matches!(mark.what, MarkKind::End { .. }) {
                    over = Some(mark.clone());
                    return ControlFlow::Break(());
                }
                last = Some(mark.clone());
                ControlFlow::Continue(())
            })?;
            if last.is_some() || from == 0 {
                break;
            }
        }
        let at = last
            .as_ref()
            .or(over.as_ref())
            .map_or(stop, |mark| mark.end);
        // It stops when it sees what is behind the target.
        let over = over.map_or(u64::MAX, |mark| self.seen_at(mark.end));
        let mut reached = self.up_to(at, last);
        reached.until = reached.until.max(over);
        Ok(reached)
    }

    fn lsn(&self, lsn: Lsn, end: &End) -> Result<ReplayEstimate> {
        if lsn < self.origin.stop {
            return Err(self.too_early(format!("{lsn} is")));
        }
        if lsn >= end.lsn {
            return Err(self.beyond("target.after_end", format!("{lsn} is not in it"), end));
        }
        let number = segment_of(lsn, self.chain.segment_size);
        let at = self
            .chain
            .files
            .iter()
            .position(|(name, _)| name.number == number);
        let mut last = None;
        if let Some(at) = at {
            self.scan(at.saturating_sub(1), at + 1, |mark| {
                if mark.end > lsn {
                    return ControlFlow::Break(());
                }
                last = Some(mark.clone());
                ControlFlow::Continue(())
            })?;
        }
        let mut reached = self.up_to(lsn, last);
        reached.until = reached.until.max(self.begun_behind(lsn, at)?);
        Ok(reached)
    }

    /// The segment in which a record ends that begins at `lsn` or behind it, which is where a server
    /// stops; `at` is the file that the place is in.
    fn begun_behind(&self, lsn: Lsn, at: Option<usize>) -> Result<u64> {
        let mut over = None;
        for at in at.unwrap_or(usize::MAX)..self.chain.files.len() {
            let (Some(end), _) = self.last_of(at)? else {
                continue;
            };
            if over.is_some_and(|over| end > over) {
                return Ok(self.seen_at(end));
            }
            if end >= lsn {
                over.get_or_insert(end);
            }
        }
        Ok(u64::MAX)
    }

    fn too_early(&self, what: String) -> Error {
        Error::new(
            ErrorKind::Preflight,
            "target.before_base",
            format!(
                "{what} before the end of the base backup, which was at {} ({})",
                self.origin.stopped.precise(),
                self.origin.stop
            ),
        )
        .hint(format!(
            "choose an older base backup, or go to {} or later",
            self.origin.stopped.precise()
        ))
    }

    /// The target is behind everything that can be replayed, because of a hole or of the end.
    fn beyond(&self, code: &'static str, what: String, end: &End) -> Error {
        let until = match &end.last {
            Some(mark) => format!("its last transaction ended at {}", mark.time.precise()),
            None => "it has no transaction since the base backup".to_owned(),
        };
        let nearest = match &end.last {
            Some(mark) => format!(
                "the nearest time that can be reached is {}, and --to latest takes everything that is there",
                mark.time.just_before().precise()
            ),
            None => "--to latest takes what is there".to_owned(),
        };
        match self.chain.holes.first() {
            Some(hole) => Error::new(
                ErrorKind::Preflight,
                "wal.hole",
                format!(
                    "the WAL archive lacks {} ({}), and of what comes before it {until}: {what}",
                    hole.first,
                    match hole.segments {
                        1 => "1 segment".to_owned(),
                        n => format!("{n} segments up to {}", hole.last),
                    }
                ),
            )
            .hint(format!("find the missing segments and copy them into the archive (what the live server has not archived yet it archives after SELECT pg_switch_wal()); {nearest}")),
            None => Error::new(
                ErrorKind::Preflight,
                code,
                format!("the WAL archive ends at {}, {until}: {what}", end.lsn),
            )
            .hint(format!(
                "what the live server has not archived yet it archives after SELECT pg_switch_wal(); {nearest}"
            )),
        }
    }
}
