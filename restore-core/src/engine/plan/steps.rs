//! The steps of a run, in the order in which it takes them.

use std::sync::Arc;

use super::{PlannedComponent, PlannedService, Step};
use crate::contract::{Hook, HookMoment, HookSubject};

pub(super) fn creations(components: &[PlannedComponent]) -> impl Iterator<Item = Step> {
    let creating = components.iter().filter(|it| it.inspection.create_first);
    creating.map(|component| Step::Create(component.name.clone()))
}

pub(super) fn stages(components: &[PlannedComponent]) -> impl Iterator<Item = Step> {
    components
        .iter()
        .map(|component| Step::Stage(component.name.clone()))
}

/// The steps of a run, in their order.
pub(super) fn steps(
    safety: bool,
    components: &[PlannedComponent],
    services: &[PlannedService],
    maintenance: bool,
    hooks: &[Arc<dyn Hook>],
) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    if safety {
        steps.push(Step::SafetyBackup);
    }
    steps.extend(creations(components));
    steps.extend(stages(components));
    steps.extend(calls(hooks, HookMoment::BeforeStop));
    swap(&mut steps, true, components, services, hooks);
    if maintenance {
        steps.push(Step::MaintenanceOn);
    }
    swap(&mut steps, false, components, services, hooks);
    steps.push(Step::CheckInside);
    if maintenance {
        steps.push(Step::MaintenanceOff);
    }
    steps.push(Step::CheckOutside);
    steps
}

/// The hooks that are called at this moment of a run, in the order of the configuration.
fn calls(hooks: &[Arc<dyn Hook>], when: HookMoment) -> impl Iterator<Item = Step> {
    let called = hooks
        .iter()
        .filter(move |hook| hook.is_called(when, HookSubject::Run));
    called.map(move |hook| Step::Hook(when, hook.name().to_owned()))
}

/// The steps of a run that leaves what it restores beside what is live.
pub(super) fn steps_beside(components: &[PlannedComponent]) -> Vec<Step> {
    let names = components.iter().map(|it| it.name.clone());
    let mut steps: Vec<Step> = creations(components).chain(stages(components)).collect();
    steps.extend(names.map(Step::CutOver));
    steps.push(Step::CheckInside);
    steps
}

/// Stop, swap, deploy, start: of what users see, or of what they do not.
fn swap(
    steps: &mut Vec<Step>,
    background: bool,
    components: &[PlannedComponent],
    services: &[PlannedService],
    hooks: &[Arc<dyn Hook>],
) {
    let services = services.iter().filter(|it| it.background == background);
    let components = components.iter().filter(|it| it.background == background);
    steps.extend(services.clone().map(|it| Step::Stop(it.name.clone())));
    steps.extend(components.clone().map(|it| Step::CutOver(it.name.clone())));
    if !background {
        steps.extend(calls(hooks, HookMoment::AfterSwap));
    }
    let deploying = components.filter(|it| it.deploys.is_some());
    steps.extend(deploying.map(|it| Step::Deploy(it.name.clone())));
    steps.extend(services.rev().map(|it| Step::Start(it.name.clone())));
    if !background {
        steps.extend(calls(hooks, HookMoment::AfterStart));
    }
}
