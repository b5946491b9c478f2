//! What was absent: made before anything is staged, and removed again where the run is taken back.

use super::RunState;
use super::execution::{RunExecutor, StepResult};
use crate::contract::CutOver;
use crate::engine::plan::Step;
use crate::model::{Error, ErrorKind, Finding, Made, Result, Timestamp};

/// How the steps begin that remove what a component had made.
pub(super) const REMOVE: &str = "remove:";

impl RunExecutor<'_> {
    /// Makes what is absent of each component of which the plan says so, one after the other: two may
    /// lie below the same absent directory.
    pub(super) async fn create_all(&self) -> Result<(), (String, Error)> {
        let steps = self.journal.with(|state| state.plan.steps.clone());
        for step in steps {
            if let Step::Create(_) = step {
                self.forward_step(step, Timestamp::now()).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn create(&self, name: &str) -> Result<()> {
        let component = self.component(name)?;
        let Some(creator) = component.creator() else {
            return Err(Error::new(
                ErrorKind::Internal,
                "create.no_creator",
                format!("{name} plans to make something and has nothing that makes it"),
            ));
        };
        creator
            .create(&self.context(name))
            .await
            .map_err(|error| error.in_component(name))
    }

    /// Removes what was made of components that are not live now, in reverse. What cannot be removed
    /// takes up a name and is told: everything that was moved is back. What was made before it may have
    /// it inside, and stays until that is gone; so does what holds the data of components that are `left`
    /// alone.
    pub(super) async fn remove_created(&self, left: &[(String, Error)]) {
        let due: Vec<String> = self.journal.with(|state| {
            let components = state.plan.components.iter().rev();
            let names = components.map(|component| component.name.clone());
            let holds = |name: &String| left.iter().any(|(other, _)| other == name);
            let empty = names.take_while(|name| !state.is_left_over(name) && !holds(name));
            empty.filter(|name| is_due(state, name)).collect()
        });
        for name in due {
            let removing = async {
                let component = self.component(&name)?;
                if let Some(creator) = component.creator() {
                    let removed = creator.remove_created(&self.context_of_undo(&name)).await;
                    removed.map_err(|error| error.in_component(name.as_str()))?;
                }
                Ok(StepResult::default())
            };
            let what = format!("remove what was made of {name}");
            let id = format!("{REMOVE}{name}");
            if let Err(error) = self.undoing(&id, what, removing).await {
                let finding = Finding::warning(
                    "create.left",
                    name.as_str(),
                    format!("what the run had made could not be removed: {error}"),
                );
                let hint = "once the cause is fixed, `restore confirm` of this run tries again; the report lists what is left";
                self.record_best_effort(finding.hint(hint)).await;
                return;
            }
        }
    }

    /// Tells that what was made stays with the restored data that is put aside in it.
    pub(super) async fn tell_kept_creations(&self) {
        let (kept, run): (Vec<String>, _) = self.journal.with(|state| {
            let components = state.plan.components.iter();
            let names = components.map(|component| component.name.clone());
            let kept = names.filter(|name| is_due(state, name)).collect();
            (kept, state.run.clone())
        });
        if !kept.is_empty() {
            let finding = Finding::info(
                "create.kept",
                kept.join(", "),
                "what was absent before the run stays for the restored data that is put aside in it",
            );
            let hint = format!("`restore confirm {run}` deletes both");
            self.record_best_effort(finding.hint(hint)).await;
        }
    }
}

/// Whether something was made of a component that is not live, and was not removed again.
fn is_due(state: &RunState, name: &str) -> bool {
    let live = matches!(state.cut_over(name), CutOver::Begun | CutOver::Done);
    let removed = state.done.contains(&format!("{REMOVE}{name}"));
    state.began(&Step::Create(name.to_owned())) && !live && !removed
}

/// What a run has made that was absent, as its journal says.
pub(super) fn made(state: &RunState) -> Vec<Made> {
    let facts = state.facts.keys();
    facts
        .filter_map(|(component, key)| {
            let what = key.strip_prefix(crate::contract::MADE)?;
            let removed = format!("{}{what}", crate::contract::REMOVED);
            Some(Made {
                component: component.clone(),
                what: what.to_owned(),
                removed: state.fact(component, &removed).is_some(),
            })
        })
        .collect()
}
