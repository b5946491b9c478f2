//! Following a run of whatever process, by its journal.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::engine::plan::Step;
use crate::engine::run::{CONFIRMED, has_hooks_left};

/// How often the journal is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// So often nobody must be at work on a run before it counts: a process that has just taken it up
/// writes that down first and takes the lock before.
const NOBODY: u32 = 5;

impl Site {
    /// Follows a run (`None`: the newest) by its journal, whichever process does it: tells what it has
    /// done so far and what it does, as that process itself does but for the progress within steps.
    /// Changes nothing.
    ///
    /// `Ok`: its report once it has ended, **however it ended**, or once nobody is at work on it any more:
    /// [`Report::into_result`] makes an error of a run that did not end as asked. The handle
    /// [`Site::attach`] gives that error by itself.
    ///
    /// # Errors
    ///
    /// `run.none` and `run.unknown` where there is no such run. `Interrupted` where `options` are
    /// cancelled: the run goes on.
    pub async fn watch(&self, run: Option<RunId>, options: &RunOptions) -> Result<Report> {
        let run = match run {
            Some(run) => run,
            None => self.report(None).await?.run,
        };
        let mut told = Told::default();
        let (mut offset, mut without) = (0, 0);
        loop {
            let (records, end) = Journal::records(&self.runs(), &run, offset).await?;
            offset = end;
            for record in &records {
                told.tell(record, options);
            }
            let Some(state) = &told.state else {
                return self.report(Some(run)).await;
            };
            if !state.is_open() && (state.confirmed || !has_hooks_left(self, state)) {
                break;
            }
            let at_work = match state.pid {
                Some(pid) => SiteLock::held_by(&self.state, pid).await.is_some(),
                // It died before it wrote who it was.
                None => SiteLock::probe(&self.state)
                    .await
                    .is_err_and(|error| error.kind() == ErrorKind::Locked),
            };
            without = if at_work { 0 } else { without + 1 };
            if without >= NOBODY {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = options.cancel.cancelled() => {
                    told.tell_end(options);
                    return Err(Error::interrupted());
                }
            }
        }
        told.tell_end(options);
        self.report(Some(run)).await
    }
}

/// What was told of a run.
#[derive(Default)]
struct Told {
    state: Option<RunState>,
    begun: BTreeMap<String, Timestamp>,
    /// Its end, which is told last: hooks are called behind it.
    end: Option<Event>,
}

impl Told {
    fn tell_end(&mut self, options: &RunOptions) {
        if let Some(end) = self.end.take() {
            options.events.emit(&end);
        }
    }

    /// Tells what a record says, and adds it up.
    fn tell(&mut self, record: &Record, options: &RunOptions) {
        let events = &*options.events;
        if matches!(record, Record::Attempt { .. }) {
            self.tell_end(options);
        }
        let Some(state) = &mut self.state else {
            self.state = RunState::begin(record);
            if let Some(state) = &self.state {
                options.planned(&state.plan);
            }
            return;
        };
        let away = state.down_since;
        state.apply(record);
        match record {
            Record::Attempt { at, action, .. } => events.emit(&Event::RunStarted {
                run: state.run.to_string(),
                backup: state.plan.backup.to_string(),
                action: match action {
                    Action::Run if state.plan.request.drill => "drill".to_owned(),
                    action => action.to_string(),
                },
                at: *at,
            }),
            Record::Intent { at, step } => {
                self.begun.insert(step.clone(), *at);
                let what = Step::try_from(step.clone());
                events.emit(&Event::StepStarted {
                    step: step.clone(),
                    what: what.map_or_else(|_| step.clone(), |step| step.describe()),
                });
            }
            Record::Done {
                at, step, checks, ..
            } => {
                for check in checks {
                    events.emit(&Event::Check {
                        name: check.name.clone(),
                        passed: check.passed,
                        detail: check.detail.clone(),
                    });
                }
                let begun = self.begun.get(step).copied().unwrap_or(*at);
                events.emit(&Event::StepFinished {
                    step: step.clone(),
                    seconds: at.since(begun).as_secs_f64(),
                });
            }
            Record::Failed { step, failure, .. } => events.emit(&Event::StepFailed {
                step: step.clone(),
                error: failure.message.clone(),
            }),
            Record::Noticed { finding } => events.emit(&Event::Finding {
                finding: finding.clone(),
            }),
            Record::Ended { at, outcome } => {
                self.end = Some(Event::RunFinished {
                    run: state.run.to_string(),
                    outcome: outcome.to_string(),
                    at: *at,
                });
            }
            Record::Confirmed { at } => {
                self.end = Some(Event::RunFinished {
                    run: state.run.to_string(),
                    outcome: CONFIRMED.to_owned(),
                    at: *at,
                });
            }
            Record::Begun { .. } | Record::Fact { .. } | Record::TurnedBack { .. } => {}
        }
        let at = match record {
            Record::Intent { at, .. } | Record::Done { at, .. } | Record::Ended { at, .. } => *at,
            _ => return,
        };
        match (away, state.down_since) {
            (None, Some(at)) => events.emit(&Event::DowntimeStarted { at }),
            (Some(since), None) => events.emit(&Event::DowntimeEnded {
                at,
                seconds: at.since(since).as_secs_f64(),
            }),
            _ => {}
        }
    }
}
