//! What a long call has told, kept so that whoever comes late hears all of it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::RunProgress;
use super::estimate::Estimate;
use crate::engine::plan::{Phase, Plan, Step};
use crate::engine::run::{GuardedSink, WatcherGuard};
use crate::model::step_id::undoes;
use crate::model::{Event, EventSink, RunId, Timestamp};

/// An event, with when it happened and of what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EventRecord {
    /// When it was told.
    pub at: Timestamp,
    /// The run, once there is one.
    pub run: Option<RunId>,
    /// The part of the run that was under way.
    pub phase: Option<Phase>,
    /// What happened.
    pub event: Event,
}

/// Takes records: what a caller gave to watch a call.
pub(super) type Watcher = Arc<dyn Fn(&EventRecord) + Send + Sync>;

/// All that a call has told so far.
pub(super) struct Log {
    entries: Mutex<Entries>,
    changed: Condvar,
    news: watch::Sender<u64>,
    watchers: Vec<(Watcher, WatcherGuard)>,
    forward: GuardedSink<Arc<dyn EventSink>>,
}

struct Entries {
    /// Numbered in their order; of the counts of one piece of work the newest alone is kept.
    records: Vec<(u64, Arc<EventRecord>)>,
    next: u64,
    run: Option<RunId>,
    phase: Option<Phase>,
    plan: Option<Arc<Plan>>,
    estimate: Estimate,
    /// `Some`: it has ended, well or not.
    ended: Option<bool>,
}

impl Log {
    pub(super) fn new(watchers: Vec<Watcher>, forward: Arc<dyn EventSink>) -> Self {
        Self {
            entries: Mutex::new(Entries {
                records: Vec::new(),
                next: 0,
                run: None,
                phase: None,
                plan: None,
                estimate: Estimate::default(),
                ended: None,
            }),
            changed: Condvar::new(),
            news: watch::Sender::new(0),
            watchers: watchers
                .into_iter()
                .map(|it| (it, WatcherGuard::default()))
                .collect(),
            forward: GuardedSink::new(forward),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is going to be done, where that is known: progress is measured by it.
    pub(super) fn planned(&self, plan: &Plan) {
        let mut entries = self.lock();
        entries.estimate.planned(plan);
        entries.plan = Some(Arc::new(plan.clone()));
    }

    /// The run, once there is one.
    pub(super) fn run(&self) -> Option<RunId> {
        self.lock().run.clone()
    }

    /// `Some`: it has ended, well or not.
    pub(super) fn ended(&self) -> Option<bool> {
        self.lock().ended
    }

    pub(super) fn end(&self, well: bool) {
        let mut entries = self.lock();
        entries.ended = Some(well);
        if well {
            entries.estimate.finish();
        }
        self.tell(entries);
    }

    /// How far it has come.
    pub(super) fn progress(&self) -> RunProgress {
        let entries = self.lock();
        entries.estimate.progress(entries.phase)
    }

    fn tell(&self, entries: MutexGuard<'_, Entries>) {
        // Also what told no event is news: the end.
        let version = entries.next + u64::from(entries.ended.is_some());
        drop(entries);
        self.changed.notify_all();
        self.news.send_replace(version);
    }
}

impl EventSink for Log {
    fn emit(&self, event: &Event) {
        let mut entries = self.lock();
        entries.follow(event);
        let record = Arc::new(EventRecord {
            at: Timestamp::now(),
            run: entries.run.clone(),
            phase: entries.phase,
            event: event.clone(),
        });
        entries.estimate.told(event);
        entries.push(record.clone());
        self.tell(entries);
        self.forward.emit(event);
        for (watcher, guard) in &self.watchers {
            guard.call(|| watcher(&record));
        }
    }
}

impl Entries {
    /// Which run it is, and which part of it.
    fn follow(&mut self, event: &Event) {
        match event {
            Event::RunStarted { run, .. } => {
                self.run = run.parse().ok().or_else(|| self.run.take());
            }
            Event::StepStarted { step, .. } => {
                let phase = match undoes(step).is_some() {
                    true => Some(Phase::Undo),
                    false => Step::try_from(step.clone())
                        .ok()
                        .map(|step| match &self.plan {
                            Some(plan) => plan.phase(&step),
                            None => step.phase(),
                        }),
                };
                // What is no step of a plan is a part of what is under way.
                self.phase = phase.or(self.phase);
            }
            _ => {}
        }
    }

    fn push(&mut self, record: Arc<EventRecord>) {
        if let Event::Progress {
            subject, action, ..
        } = &record.event
        {
            let same = |(_, known): &(u64, Arc<EventRecord>)| {
                matches!(&known.event, Event::Progress { subject: s, action: a, .. }
                    if s == subject && a == action)
            };
            if let Some(at) = self.records.iter().rposition(same) {
                self.records.remove(at);
            }
        }
        self.records.push((self.next, record));
        self.next += 1;
    }
}

/// The events of a call, from the first on, however late one begins to follow. Several may follow, each
/// for itself. Of the counts of one piece of work whoever is slow gets the newest.
#[derive(Clone)]
#[must_use = "ask it for the next event"]
pub struct Events {
    log: Arc<Log>,
    next: u64,
    news: watch::Receiver<u64>,
}

/// What following an event came to within the time given.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Followed {
    /// The next event.
    Event(Arc<EventRecord>),
    /// The call has ended, and all was told.
    Ended,
    /// Nothing happened in that time.
    Nothing,
}

impl Events {
    pub(super) fn new(log: Arc<Log>) -> Self {
        let news = log.news.subscribe();
        Self { log, next: 0, news }
    }

    /// Waits for the next event; `None`: the call has ended, and all was told. Waits for ever for a call
    /// that nobody begins.
    pub async fn next(&mut self) -> Option<Arc<EventRecord>> {
        loop {
            self.news.mark_unchanged();
            match self.ready() {
                Followed::Event(record) => return Some(record),
                Followed::Ended => return None,
                Followed::Nothing => {}
            }
            if self.news.changed().await.is_err() {
                return None;
            }
        }
    }

    /// As [`next`](Self::next), on a thread that may block, for no longer than `patience`;
    /// [`Duration::MAX`] is for ever.
    pub fn wait(&mut self, patience: Duration) -> Followed {
        let until = Instant::now().checked_add(patience);
        let log = self.log.clone();
        let mut entries = log.lock();
        loop {
            let found = self.take(&entries);
            let left = until.map_or(LONGEST, |until| {
                until.saturating_duration_since(Instant::now())
            });
            if found != Followed::Nothing || left.is_zero() {
                return found;
            }
            entries = match log.changed.wait_timeout(entries, left) {
                Ok((entries, _)) => entries,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// What is there without waiting.
    pub fn ready(&mut self) -> Followed {
        let log = self.log.clone();
        let entries = log.lock();
        self.take(&entries)
    }

    fn take(&mut self, entries: &Entries) -> Followed {
        let at = entries
            .records
            .partition_point(|(number, _)| *number < self.next);
        match entries.records.get(at) {
            Some((number, record)) => {
                self.next = number + 1;
                Followed::Event(record.clone())
            }
            None if entries.ended.is_some() => Followed::Ended,
            None => Followed::Nothing,
        }
    }
}

/// So long a thread sleeps at a time where it waits for ever.
const LONGEST: Duration = Duration::from_secs(3600);

/// How far a call has come, from now to its end.
#[must_use = "ask it how far the call has come"]
pub struct ProgressUpdates {
    events: Events,
    last: Option<RunProgress>,
    over: bool,
}

/// So many a second are told at most: nobody sees more.
const PAUSE: Duration = Duration::from_millis(100);

impl ProgressUpdates {
    pub(super) fn new(log: Arc<Log>) -> Self {
        Self {
            events: Events::new(log),
            last: None,
            over: false,
        }
    }

    /// Waits until it has come further; `None` once the call has ended. The last one of a call that ended
    /// well is whole.
    pub async fn next(&mut self) -> Option<RunProgress> {
        while !self.over {
            match self.events.next().await {
                Some(_) => tokio::time::sleep(PAUSE).await,
                None => self.over = true,
            }
            if let Some(progress) = self.news() {
                return Some(progress);
            }
        }
        None
    }

    /// As [`next`](Self::next), on a thread that may block: `Ok(None)` once it has ended, `Err` where nothing was told
    /// within `patience`.
    pub fn wait(&mut self, patience: Duration) -> Result<Option<RunProgress>, Duration> {
        if self.over {
            return Ok(None);
        }
        match self.events.wait(patience) {
            Followed::Event(_) => {}
            Followed::Nothing => return Err(patience),
            Followed::Ended => self.over = true,
        }
        match self.news() {
            Some(progress) => Ok(Some(progress)),
            None if self.over => Ok(None),
            None => Err(patience),
        }
    }

    fn news(&mut self) -> Option<RunProgress> {
        // All that has come meanwhile is one step for whoever looks.
        while let Followed::Event(_) = self.events.ready() {}
        let progress = self.events.log.progress();
        let same = self.last.as_ref().is_some_and(|last| {
            last.fraction.to_bits() == progress.fraction.to_bits() && last.what == progress.what
        });
        if same {
            return None;
        }
        self.last = Some(progress.clone());
        Some(progress)
    }
}
