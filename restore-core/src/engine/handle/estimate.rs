//! How far a call has come, and how long it still takes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::engine::plan::{Phase, Plan, weight_of};
use crate::model::Event;

/// How far a call has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunProgress {
    /// From 0 to 1, and never less than before; 1 once it has ended well. By the plan's steps and what
    /// there is to read for each, where there is a plan; otherwise by the bytes that were announced.
    pub fraction: f64,
    /// About how many seconds it still takes, where that can be told.
    pub left_seconds: Option<f64>,
    /// What is done right now, in a few words.
    pub what: String,
    /// The part of the run that is under way.
    pub phase: Option<Phase>,
}

/// So much must be done, and so long it must have worked, before its pace tells how long the rest takes.
const TELLING: (f64, Duration) = (0.02, Duration::from_secs(1));
/// A call that has not ended is not whole, whatever was counted.
const ALMOST: f64 = 0.999;
/// A step that is not done is not whole, whatever was counted of it.
const OF_STEP: f64 = 0.95;

#[derive(Default)]
pub(super) struct Estimate {
    /// The plan's steps by their ids, with what each weighs.
    steps: BTreeMap<String, f64>,
    expected_seconds: Option<f64>,
    done: BTreeMap<String, ()>,
    under_way: BTreeMap<String, Instant>,
    /// Pieces of work by subject and action: bytes done and in all, since when.
    pieces: BTreeMap<(String, String), Piece>,
    begun: Option<Instant>,
    fraction: f64,
    what: String,
}

struct Piece {
    done: u64,
    total: Option<u64>,
    seen: Instant,
}

impl Estimate {
    pub(super) fn planned(&mut self, plan: &Plan) {
        self.steps = plan
            .steps
            .iter()
            .map(|step| (step.to_string(), weight_of(plan, step)))
            .collect();
        self.expected_seconds = plan.expected.as_ref().map(|it| it.seconds);
    }

    pub(super) fn told(&mut self, event: &Event) {
        let now = Instant::now();
        self.begun.get_or_insert(now);
        match event {
            Event::StepStarted { step, what } => {
                self.what = what.clone();
                self.under_way.insert(step.clone(), now);
            }
            Event::StepFinished { step, .. } => {
                self.under_way.remove(step);
                self.done.insert(step.clone(), ());
            }
            Event::StepFailed { step, .. } => {
                self.under_way.remove(step);
            }
            Event::Progress {
                subject,
                action,
                done,
                total,
            } => {
                if self.under_way.is_empty() {
                    self.what = format!("{action} {subject}");
                }
                let key = (subject.clone(), action.clone());
                let (done, total) = (*done, *total);
                let seen = now;
                self.pieces.insert(key, Piece { done, total, seen });
            }
            _ => return,
        }
        self.fraction = self.fraction.max(self.measure().min(ALMOST));
    }

    pub(super) fn finish(&mut self) {
        self.fraction = 1.0;
    }

    fn measure(&self) -> f64 {
        let all: f64 = self.steps.values().sum();
        if all <= 0.0 {
            return ratio(self.pieces.values());
        }
        let done = self.done.keys().filter_map(|step| self.steps.get(step));
        let begun = self.under_way.iter().filter_map(|(step, since)| {
            let weight = self.steps.get(step)?;
            let (_, name) = step.split_once(':')?;
            // A safety backup is of every component; of a component's step only its own pieces count.
            let own = self.pieces.iter().filter(|((subject, _), piece)| {
                piece.seen >= *since && (subject == name || step == "backup:safety")
            });
            Some(weight * ratio(own.map(|(_, piece)| piece)).min(OF_STEP))
        });
        (done.sum::<f64>() + begun.sum::<f64>()) / all
    }

    pub(super) fn progress(&self, phase: Option<Phase>) -> RunProgress {
        let worked = self.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        let seconds = worked.as_secs_f64();
        let left = if self.fraction >= 1.0 {
            Some(0.0)
        } else if self.fraction >= TELLING.0 && worked >= TELLING.1 {
            Some(seconds * (1.0 - self.fraction) / self.fraction)
        } else {
            self.expected_seconds.map(|it| (it - seconds).max(0.0))
        };
        RunProgress {
            fraction: self.fraction,
            left_seconds: left,
            what: self.what.clone(),
            phase,
        }
    }
}

/// What is done of what was announced; nothing where nobody knows how much there is.
#[expect(clippy::cast_precision_loss, reason = "a fraction for people")]
fn ratio<'a>(pieces: impl Iterator<Item = &'a Piece>) -> f64 {
    let (mut done, mut total) = (0.0, 0.0);
    for piece in pieces {
        if let Some(all) = piece.total {
            done += piece.done as f64;
            total += all as f64;
        }
    }
    if total > 0.0 { done / total } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(done: u64, total: Option<u64>) -> Event {
        Event::Progress {
            subject: "backup 1".to_owned(),
            action: "verify".to_owned(),
            done,
            total,
        }
    }

    #[test]
    fn it_never_falls_and_is_whole_at_the_end_alone() {
        let mut estimate = Estimate::default();
        let mut told = |event: Event| {
            estimate.told(&event);
            estimate.progress(None).fraction
        };
        assert!((told(count(50, Some(100))) - 0.5).abs() < 1e-9);
        // More turned out to be there.
        assert!((told(count(60, Some(200))) - 0.5).abs() < 1e-9);
        assert!(told(count(200, Some(200))) < 1.0);
        estimate.finish();
        let whole = estimate.progress(None);
        assert_eq!((whole.fraction, whole.left_seconds), (1.0, Some(0.0)));
        assert_eq!(whole.what, "verify backup 1");
    }

    #[test]
    fn what_has_no_size_tells_no_fraction() {
        let mut estimate = Estimate::default();
        estimate.told(&count(50, None));
        assert_eq!(estimate.progress(None).fraction, 0.0);
        assert_eq!(estimate.progress(None).left_seconds, None);
    }
}
