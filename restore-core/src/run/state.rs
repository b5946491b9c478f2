//! What a journal says, added up.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Outcome, Record, RunId, SafetyBackup};
use crate::component::{CheckOutcome, Staged};
use crate::finding::Finding;
use crate::plan::{Phase, Plan, Step};
use crate::report::{Failure, StepTime};
use crate::time::Timestamp;

/// What a journal says, added up. Only [`apply`](Self::apply) changes it, record by record, so
/// that a process that wrote the records and one that reads them later know the same.
#[derive(Clone, Debug)]
pub(crate) struct RunState {
    pub(crate) run: RunId,
    pub(crate) plan: Plan,
    pub(crate) started: Timestamp,
    pub(crate) checks_before: Vec<CheckOutcome>,
    pub(crate) facts: BTreeMap<(String, String), Value>,
    pub(crate) intents: BTreeSet<String>,
    pub(crate) done: BTreeSet<String>,
    pub(crate) staged: BTreeMap<String, Staged>,
    pub(crate) safety: Option<SafetyBackup>,
    pub(crate) checks_after: Vec<CheckOutcome>,
    pub(crate) steps: Vec<StepTime>,
    pub(crate) findings: Vec<Finding>,
    /// Set once the run is to be undone: whether the restored data is to be put aside.
    pub(crate) turned_back: Option<bool>,
    pub(crate) failure: Option<Failure>,
    pub(crate) stuck: Option<Failure>,
    pub(crate) outcome: Outcome,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) confirmed: bool,
    /// A confirmation was begun: some of what was put aside may be deleted already, so that
    /// there is no way back, only the way to the end of the confirmation.
    pub(crate) confirming: bool,
    /// When users were turned away, while they still are.
    pub(crate) down_since: Option<Timestamp>,
    /// Seconds of downtime that are over; `None` while there was none.
    pub(crate) downtime: Option<f64>,
}

impl RunState {
    /// The state after the first record; `None` where that is not `Begun`.
    pub(crate) fn begin(record: &Record) -> Option<Self> {
        let Record::Begun {
            at,
            run,
            plan,
            checks,
        } = record
        else {
            return None;
        };
        Some(Self {
            run: run.clone(),
            findings: plan.findings.clone(),
            plan: (**plan).clone(),
            started: *at,
            checks_before: checks.clone(),
            facts: BTreeMap::new(),
            intents: BTreeSet::new(),
            done: BTreeSet::new(),
            staged: BTreeMap::new(),
            safety: None,
            checks_after: Vec::new(),
            steps: Vec::new(),
            turned_back: None,
            failure: None,
            stuck: None,
            outcome: Outcome::Unfinished,
            ended: None,
            confirmed: false,
            confirming: false,
            down_since: None,
            downtime: None,
        })
    }

    /// Adds one record.
    pub(crate) fn apply(&mut self, record: &Record) {
        match record {
            Record::Begun { .. } => {}
            // A new attempt at a run that had ended re-opens it, unless it only confirms.
            Record::Attempt { action, .. } => {
                if *action == super::Action::Confirm {
                    self.confirming = true;
                    return;
                }
                self.outcome = Outcome::Unfinished;
                self.stuck = None;
                // A step that failed and is tried again is no failure of the run yet.
                if self.turned_back.is_none() {
                    self.failure = None;
                }
            }
            Record::Fact {
                component,
                key,
                value,
            } => {
                self.facts
                    .entry((component.clone(), key.clone()))
                    .or_insert_with(|| value.clone());
            }
            Record::Intent { at, step } => {
                self.intents.insert(step.clone());
                self.done.remove(step);
                // A service that is stopped again is not up any more, whatever an earlier attempt did.
                self.done.remove(&step.replacen("stop:", "start:", 1));
                self.steps.push(StepTime {
                    step: step.clone(),
                    started: *at,
                    seconds: None,
                });
                if self.turns_users_away(step) && self.down_since.is_none() {
                    self.down_since = Some(*at);
                }
            }
            Record::Done {
                at,
                step,
                staged,
                checks,
                safety,
            } => {
                self.done.insert(step.clone());
                if safety.is_some() {
                    self.safety.clone_from(safety);
                }
                if let (Some(staged), Ok(Step::Stage(name))) =
                    (staged, Step::try_from(step.clone()))
                {
                    self.findings.extend(staged.findings.iter().cloned());
                    self.staged.insert(name, staged.clone());
                }
                self.merge_checks(checks);
                if let Some(time) = self.steps.iter_mut().rev().find(|time| time.step == *step) {
                    time.seconds = Some(at.since(time.started).as_secs_f64());
                }
                if self.lets_users_in(step) {
                    self.close_downtime(*at);
                }
            }
            Record::Failed { step, failure, .. } => {
                if step.starts_with("undo:") {
                    self.stuck = Some(failure.clone());
                } else {
                    self.failure.get_or_insert_with(|| failure.clone());
                }
            }
            Record::TurnedBack { keep, failure, .. } => {
                self.turned_back = Some(*keep);
                // They were made of what is being taken back.
                self.checks_after.clear();
                if let Some(failure) = failure {
                    self.failure.get_or_insert_with(|| failure.clone());
                }
            }
            Record::Noticed { finding } => self.findings.push(finding.clone()),
            Record::Ended { at, outcome } => {
                self.outcome = *outcome;
                self.ended = Some(*at);
                if *outcome != Outcome::Stuck {
                    self.stuck = None;
                    self.close_downtime(*at);
                }
            }
            Record::Confirmed { .. } => self.confirmed = true,
        }
    }

    pub(crate) fn fact(&self, component: &str, key: &str) -> Option<&Value> {
        self.facts.get(&(component.to_owned(), key.to_owned()))
    }

    pub(crate) fn began(&self, step: &Step) -> bool {
        self.intents.contains(&step.to_string())
    }

    pub(crate) fn is_done(&self, step: &Step) -> bool {
        self.done.contains(&step.to_string())
    }

    /// The plan's components whose cut-over was begun, in the plan's order.
    pub(crate) fn cut_over_begun(&self) -> Vec<String> {
        self.plan
            .components
            .iter()
            .map(|component| component.name.clone())
            .filter(|name| self.began(&Step::CutOver(name.clone())))
            .collect()
    }

    /// Whether users may have been let in with the restored data live: what they wrote since is
    /// then kept when the run is taken back.
    pub(crate) fn served_users(&self) -> bool {
        if self.plan.maintenance {
            return self.began(&Step::MaintenanceOff);
        }
        let seen = || self.plan.services.iter().filter(|it| !it.background);
        if seen().next().is_none() {
            return !self.cut_over_begun().is_empty();
        }
        seen().any(|service| self.began(&Step::Start(service.name.clone())))
    }

    /// The same for a process that takes the run up after another died (`taken_up`): without a
    /// page to keep users out, whatever a reboot starts serves the swapped data.
    pub(crate) fn may_have_served(&self, taken_up: bool) -> bool {
        let unguarded = taken_up && !self.plan.maintenance;
        self.served_users() || (unguarded && !self.cut_over_begun().is_empty())
    }

    /// The run is neither finished nor undone, and stands in the way of others.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.outcome, Outcome::Unfinished | Outcome::Stuck)
    }

    /// It keeps data that a confirmation would delete.
    pub(crate) fn is_unconfirmed(&self) -> bool {
        !self.confirmed
            && match self.outcome {
                Outcome::Restored => true,
                Outcome::RolledBack | Outcome::Undone => self.turned_back == Some(true),
                _ => false,
            }
    }

    fn merge_checks(&mut self, checks: &[CheckOutcome]) {
        for check in checks {
            match self
                .checks_after
                .iter_mut()
                .find(|known| known.name == check.name)
            {
                Some(known) => *known = check.clone(),
                None => self.checks_after.push(check.clone()),
            }
        }
    }

    fn lets_users_in(&self, step: &str) -> bool {
        let (way, step) = match step.strip_prefix("undo:") {
            Some(step) => ("undo:", step),
            None => ("", step),
        };
        if self.plan.maintenance {
            return step == Step::MaintenanceOff.to_string();
        }
        // With the last of them; this one is done.
        let mut seen = self.plan.services.iter().filter(|it| !it.background);
        let start = |name: &String| Step::Start(name.clone()).to_string();
        let starts_one = seen.clone().any(|it| step == start(&it.name));
        starts_one && seen.all(|it| self.done.contains(&format!("{way}{}", start(&it.name))))
    }

    fn close_downtime(&mut self, at: Timestamp) {
        if let Some(since) = self.down_since.take() {
            *self.downtime.get_or_insert(0.0) += at.since(since).as_secs_f64();
        }
    }

    fn turns_users_away(&self, step: &str) -> bool {
        let step = step.strip_prefix("undo:").unwrap_or(step);
        match Step::try_from(step.to_owned()) {
            Ok(Step::MaintenanceOn) => true,
            Ok(step @ Step::Stop(_)) => self.plan.phase(&step) != Phase::Background,
            _ => false,
        }
    }

    /// Whether every component that is swapped in the same part of the run has been.
    pub(crate) fn swapped(&self, phase: Phase) -> bool {
        let components = self.plan.components.iter();
        components
            .map(|component| Step::CutOver(component.name.clone()))
            .filter(|step| self.plan.phase(step) == phase)
            .all(|step| self.is_done(&step))
    }
}
