//! One component under trial: its runs, each of its methods called as the engine calls it, and
//! what is compared after each.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::super::crash::Facts;
use super::super::{Kept, given, holds, must};
use super::ComponentUnderTest;
use crate::contract::{Backup, RunContext, SharedComponent};
use crate::model::{NoEvents, RunId};
use crate::swap::scope::Discard;

/// The component, and what the suite has seen of it.
pub(super) struct Trial {
    /// What is restored replaces something.
    pub(super) something_live: bool,
    pub(super) under_test: Arc<dyn ComponentUnderTest>,
    /// What was live at the beginning.
    pub(super) before: String,
    /// What is live after a cut-over; empty before the first.
    pub(super) restored: String,
    /// What lay beside it at the beginning.
    pub(super) beside: Vec<String>,
}

/// One run: what survives its processes.
#[derive(Clone)]
pub(super) struct Run {
    pub(super) id: RunId,
    pub(super) facts: Arc<Facts>,
    pub(super) backup: Arc<Backup>,
    pub(super) cancel: CancellationToken,
}

impl Run {
    pub(super) async fn process(
        &self,
        under_test: &dyn ComponentUnderTest,
    ) -> Kept<(SharedComponent, RunContext)> {
        let component = given("component", under_test.component().await)?;
        let cx = RunContext::new(
            self.id.clone(),
            component.name(),
            self.backup.clone(),
            self.facts.clone(),
            Arc::new(NoEvents),
            self.cancel.clone(),
        );
        Ok((component, cx))
    }
}

impl Trial {
    pub(super) async fn run(&self) -> Kept<Run> {
        Ok(Run {
            id: RunId::generate(),
            facts: Facts::new(),
            backup: Arc::new(given("backup", self.under_test.backup().await)?),
            cancel: CancellationToken::new(),
        })
    }

    /// A new process: another component, the same run and facts.
    pub(super) async fn process(&self, run: &Run) -> Kept<(SharedComponent, RunContext)> {
        run.process(self.under_test.as_ref()).await
    }

    pub(super) async fn is(&self, clause: &str, wanted: &str) -> Kept {
        let found = given("live", self.under_test.live().await)?;
        holds(clause, found == wanted, difference(wanted, &found))
    }

    pub(super) async fn nothing_beside(&self, clause: &str) -> Kept {
        let found = given("beside", self.under_test.beside().await)?;
        holds(clause, found == self.beside, format!("{found:?}"))
    }

    pub(super) async fn stage(&self, run: &Run) -> Kept {
        let (component, cx) = self.process(run).await?;
        let clause = "`stage` brings the backup's data beside the live data";
        must(clause, component.stage(&cx).await).map(drop)
    }

    pub(super) async fn cut_over(&self, run: &Run, clause: &str) -> Kept {
        let (component, cx) = self.process(run).await?;
        given("stop", self.under_test.stop().await)?;
        let done = must(clause, component.cut_over(&cx).await);
        given("start", self.under_test.start().await)?;
        done
    }

    pub(super) async fn undo(&self, run: &Run, clause: &str) -> Kept {
        let (component, cx) = self.process(run).await?;
        given("stop", self.under_test.stop().await)?;
        let done = must(clause, component.undo(&cx).await);
        given("start", self.under_test.start().await)?;
        done
    }

    pub(super) async fn discard(&self, run: &Run, what: Discard, clause: &str) -> Kept {
        let (component, cx) = self.process(run).await?;
        must(clause, component.discard(&cx, what).await)
    }

    /// Takes a run back and gives it up; everything is as at the beginning.
    pub(super) async fn give_up(&self, run: &Run, clause: &str) -> Kept {
        self.undo(run, clause).await?;
        self.is(clause, &self.before).await?;
        self.discard(run, Discard::Staged, clause).await?;
        self.discard(run, Discard::Replaced, clause).await?;
        self.is(clause, &self.before).await?;
        self.nothing_beside(clause).await
    }

    /// After a cut-over all pass; where the old data is live, one does not (or looking fails).
    pub(super) async fn checks(&self, run: &Run, swapped: bool) -> Kept {
        let (component, cx) = self.process(run).await?;
        let outcomes = component.check(&cx).await;
        if !swapped {
            return holds(
                "`check` does not pass while the staged data is not live",
                outcomes.map_or(true, |outcomes| outcomes.iter().any(|it| !it.passed)),
                "every outcome passed",
            );
        }
        let clause = "`check` proves that what is live is what was staged";
        let outcomes = must(clause, outcomes)?;
        holds(
            clause,
            !outcomes.is_empty() && outcomes.iter().all(|outcome| outcome.passed),
            format!("{outcomes:?}"),
        )
    }
}

/// The first line that differs.
fn difference(wanted: &str, found: &str) -> String {
    let (mut a, mut b) = (wanted.lines(), found.lines());
    loop {
        match (a.next(), b.next()) {
            (None, None) => return "other line ends".to_owned(),
            (a, b) if a == b => {}
            (a, b) => {
                return format!(
                    "{:?} where {:?} should be",
                    b.unwrap_or("nothing"),
                    a.unwrap_or("nothing")
                );
            }
        }
    }
}
