//! What a run meets that its plan did not say, and that somebody agrees to before users are turned away.

use serde_json::Value;

use super::execution::RunExecutor;
use crate::contract::FactStore;
use crate::engine::plan::{Phase, Step};
use crate::model::{Error, ErrorKind, Finding, Result};

/// The name under which a run records of which components it was agreed to.
const FACTS: &str = "agreed";

impl RunExecutor<'_> {
    /// Asks about whatever was staged that is far less than what is live, one question for each component.
    /// Nobody is asked in a drill, about a component that may be empty, or once anything is replaced.
    pub(super) async fn agree_to_what_was_staged(&self) -> Result<(), (String, Error)> {
        let questions: Vec<(String, Finding)> = self.journal.with(|state| {
            let bracket = state
                .plan
                .steps
                .iter()
                .filter(|it| it.phase() > Phase::Stage);
            let begun = bracket.clone().any(|step| state.began(step));
            let request = &state.plan.request;
            if request.drill || request.is_beside() || begun {
                return Vec::new();
            }
            let staged = state.staged.iter();
            let asked = staged.filter(|(name, _)| !request.allow_empty.contains(*name));
            asked
                .filter_map(|(name, staged)| {
                    let question = staged.findings.iter().find(|it| it.asks)?;
                    Some((name.clone(), question.clone()))
                })
                .collect()
        });
        for (name, question) in questions {
            if self.journal.recall(FACTS, &name).is_some() {
                continue;
            }
            let agreed = async {
                if !self.agreed(question.clone()).await? {
                    return Err(refused(&name, &question));
                }
                self.journal.record(FACTS, &name, Value::Bool(true)).await
            };
            let step = Step::Stage(name.clone()).to_string();
            agreed.await.map_err(|error| (step, error))?;
        }
        Ok(())
    }

    /// Asks whoever wants the run, where there is somebody to ask, and only while it still goes forward:
    /// nobody wants an answer once it is being undone.
    pub(super) async fn agreed(&self, question: Finding) -> Result<bool> {
        if self.cancel.is_cancelled() {
            return Err(Error::interrupted());
        }
        let Some(ask) = self.options.asked.clone() else {
            return Ok(false);
        };
        let answer = tokio::task::spawn_blocking(move || ask(&question));
        tokio::select! {
            answer = answer => Ok(answer.unwrap_or(false)),
            () = self.cancel.cancelled() => Err(Error::interrupted()),
        }
    }
}

/// The error of a question whose answer is no, or that nobody was there to answer.
fn refused(name: &str, question: &Finding) -> Error {
    Error::new(
        ErrorKind::Preflight,
        question.code.clone(),
        question.message.clone(),
    )
    .hint(format!(
        "choose another backup; --allow-empty {name} puts it in the place of what is live all the same"
    ))
    .in_component(name)
}
