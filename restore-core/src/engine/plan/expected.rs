//! How long a run will take, and for how long users will be turned away.

use serde::{Deserialize, Serialize};

use super::{Phase, Plan, PlannedComponent, Step};
use crate::engine::run::RunState;
use crate::model::RunId;

/// What is read and written a second where no earlier run tells.
const BYTES_A_SECOND: f64 = 40.0 * 1024.0 * 1024.0;
/// How long a service takes to stop and to start, where no earlier run tells.
const SERVICE_SECONDS: f64 = 5.0;
/// How long swapping a component and proving it takes, where no earlier run tells.
const SWAP_SECONDS: f64 = 1.0;

/// How long a run will take: as earlier ones did, in proportion to what there is to read, or a guess
/// from usual rates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Expected {
    /// Seconds from its beginning to its end.
    pub seconds: f64,
    /// Seconds in which users are turned away; `None`: they never are.
    pub downtime_seconds: Option<f64>,
    /// The newest run that the downtime, or where there is none the rest, is taken from; `None`: no
    /// earlier run tells.
    pub as_run: Option<RunId>,
}

#[expect(clippy::cast_precision_loss, reason = "seconds are rounded anyway")]
fn at_rate(bytes: u64) -> f64 {
    bytes as f64 / BYTES_A_SECOND
}

/// What takes as long as any other that is so small: its seconds say nothing of more.
const SMALL: u64 = 16 << 20;

/// Seconds that so much takes where other such work took so long.
#[expect(clippy::cast_precision_loss, reason = "seconds are rounded anyway")]
fn scaled(seconds: f64, now: u64, then: u64) -> f64 {
    if now > then && then < SMALL {
        return seconds + at_rate(now - then);
    }
    match then {
        0 => seconds,
        then => seconds * (now as f64 / then as f64),
    }
}

/// How long work takes of which each part takes so long, so many at the same time.
fn together(seconds: &[f64], jobs: usize) -> f64 {
    let longest = seconds.iter().copied().fold(0.0, f64::max);
    #[expect(clippy::cast_precision_loss, reason = "a handful of jobs")]
    let at_once = jobs.max(1) as f64;
    longest.max(seconds.iter().sum::<f64>() / at_once)
}

/// What earlier runs (`known`, oldest first) say of the duration of this plan.
pub(super) fn expected(plan: &Plan, known: &[RunState], jobs: usize) -> Option<Expected> {
    if plan.components.is_empty() {
        return None;
    }
    let mut as_run = None;
    let (mut beside, mut after) = (Vec::new(), Vec::new());
    for component in &plan.components {
        let (seconds, of) = staging(component, known);
        as_run = as_run.or(of);
        match plan.safety.is_some() && !plan.request.create && component.is_saved_first() {
            true => after.push(seconds),
            false => beside.push(seconds),
        }
    }
    let (beside, after) = (together(&beside, jobs), together(&after, jobs));
    let safety = plan.safety.as_ref().map_or(0.0, |safety| {
        let before = known.iter().rev().find_map(|state| {
            let then = state.plan.safety.as_ref()?;
            Some(scaled(
                state.took(&Step::SafetyBackup)?,
                safety.bytes,
                then.bytes,
            ))
        });
        before.unwrap_or_else(|| at_rate(safety.bytes))
    });
    // Side by side, unless something is made first.
    let before = match plan.request.create {
        true => safety + beside,
        false => safety.max(beside) + after,
    };
    let visible = plan
        .services
        .iter()
        .filter(|service| !service.background)
        .count();
    let turned_away = plan.steps.iter().any(|step| match step {
        Step::MaintenanceOn => true,
        Step::Stop(_) => plan.phase(step) != Phase::Background,
        _ => false,
    });
    let downtime = turned_away.then(|| {
        let alike = |state: &&RunState| {
            let mut components = plan.components.iter();
            components.all(|it| state.plan.component(&it.name).is_some())
        };
        let before = known.iter().rev().filter(alike);
        let mut before = before.filter_map(|state| Some((state, state.forward_downtime()?)));
        match before.next() {
            Some((state, seconds)) => {
                as_run = Some(state.run.clone());
                seconds
            }
            None => {
                as_run = None;
                #[expect(clippy::cast_precision_loss, reason = "a handful of services")]
                let (services, components) = (visible as f64, plan.components.len() as f64);
                services * SERVICE_SECONDS + components * SWAP_SECONDS
            }
        }
    });
    let rest = downtime.unwrap_or(SWAP_SECONDS);
    Some(Expected {
        seconds: before + rest,
        downtime_seconds: downtime,
        as_run,
    })
}

/// About how many seconds a step takes, by usual rates: what it weighs beside the others.
pub(crate) fn weight_of(plan: &Plan, step: &Step) -> f64 {
    match step {
        Step::SafetyBackup => at_rate(plan.safety.as_ref().map_or(0, |it| it.bytes)) + SWAP_SECONDS,
        Step::Stage(name) => {
            let bytes = plan
                .component(name)
                .map_or(0, |it| it.inspection.read_bytes);
            at_rate(bytes) + SWAP_SECONDS
        }
        Step::Stop(_) | Step::Start(_) | Step::Deploy(_) => SERVICE_SECONDS / 2.0,
        _ => SWAP_SECONDS,
    }
}

/// How long staging a component takes, and the run that tells.
fn staging(component: &PlannedComponent, known: &[RunState]) -> (f64, Option<RunId>) {
    let step = Step::Stage(component.name.clone());
    let now = component.inspection.read_bytes;
    let before = known.iter().rev().find_map(|state| {
        let then = state.plan.component(&component.name)?.inspection.read_bytes;
        let seconds = state.took(&step)?;
        Some((scaled(seconds, now, then), Some(state.run.clone())))
    });
    before.unwrap_or_else(|| {
        let needs = component.inspection.needs.iter().map(|need| need.bytes);
        (at_rate(needs.max().unwrap_or(0).max(now)) + 0.5, None)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_little_took_says_little_of_much() {
        let (little, much) = (580, 400 << 20);
        assert!((scaled(0.2, much, little) - 10.2).abs() < 0.1);
        assert!((scaled(0.2, little, little) - 0.2).abs() < 0.01);
        assert!((scaled(100.0, 2 * much, much) - 200.0).abs() < 0.01);
        assert!(scaled(100.0, little, much) < 0.01);
    }
}
