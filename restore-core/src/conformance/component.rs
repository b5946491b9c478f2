//! Components.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::crash::{self, Death, Facts};
use super::{Broken, Kept, broken, given, holds, must};
use crate::backup::Backup;
use crate::component::SharedComponent;
use crate::error::{ErrorKind, Result};
use crate::event::NoEvents;
use crate::finding::Severity;
use crate::platform::Discard;
use crate::run::{RunContext, RunId};

/// A component of one's own, and a way behind its back.
#[async_trait]
pub trait ComponentUnderTest: Send + Sync {
    /// The component, made anew as another process would.
    async fn component(&self) -> Result<SharedComponent>;

    /// A backup that it can restore. Something else is live, and not nothing.
    async fn backup(&self) -> Result<Backup>;

    /// The same backup with the component's artifact changed, so that its hash no longer fits;
    /// `None` where the component verifies nothing itself.
    async fn changed_backup(&self) -> Result<Option<Backup>>;

    /// Everything that is live, in a form that can be compared: the content (or its hash), not
    /// only names and sizes, and all else that must come back, such as owners and modes. The suite
    /// sees live data through this alone: what it leaves out, nobody notices. Two calls give the
    /// same while nothing has changed.
    async fn live(&self) -> Result<String>;

    /// What lies beside the live data and belongs to runs, by names; empty where none does.
    async fn beside(&self) -> Result<Vec<String>>;

    /// Another of the same kind where nothing is live, as after a loss: its [`live`](Self::live)
    /// says so. The suite tries that one too. `None`: only that something is replaced is tried.
    async fn where_nothing_is_live(&self) -> Result<Option<Arc<dyn ComponentUnderTest>>> {
        Ok(None)
    }

    /// At how many moments each method is dropped in its middle: the more, the surer and the
    /// slower. Where a method ends earlier, the suite goes on.
    fn crashes(&self) -> usize {
        18
    }

    /// Stops the services of [`stops`](crate::component::Component::stops): called before each
    /// cut-over and each undo.
    async fn stop(&self) -> Result<()> {
        Ok(())
    }

    /// Starts them again: called after each.
    async fn start(&self) -> Result<()> {
        Ok(())
    }
}

/// How soon something that was cancelled has to end.
const SOON: Duration = Duration::from_secs(60);

/// Tries a component. What is live is at the end what it was at the beginning.
///
/// It is tried that
///
/// - name, kind, `stops` and `needs` are the same whenever it is made, and `artifacts` names files
///   that the backup has, none where there are none;
/// - `inspect` changes nothing, finds no error, and names the artifacts;
/// - `undo` and `discard` do nothing where nothing was staged or cut over, and nothing more after
///   they have done their work;
/// - `stage` leaves the live data alone, also when called twice; `cut_over` makes what it staged
///   live, once; `undo` brings back what was live, and keeps the other as staged (the suite cuts it
///   over once more to see it, which a run never does);
/// - `check` passes after a cut-over, and does not after an `undo`;
/// - `replaced_at` is `Some` after a cut-over that replaced something, and `None` before;
/// - `stage` refuses an artifact whose hash does not fit, and ends soon with `Interrupted` once it
///   is cancelled; neither leaves what `discard` does not find;
/// - what one run stages, swaps and discards is nothing to another;
/// - what `back_up` wrote is found and restores what was live; it changes nothing live, leaves
///   nothing, and ends with `Interrupted` once it is cancelled. Left out where it says
///   `component.no_back_up`;
/// - a new process finishes or takes back what was dropped in the middle of `stage`, `cut_over` or
///   `undo`, between any two of their steps, and before and after each fact of `stage` and
///   `cut_over`;
/// - all of it once more [where nothing is live](ComponentUnderTest::where_nothing_is_live), if it
///   is given that: `undo` then leaves nothing live, and `back_up` writes no artifact.
///
/// It cannot try what it is not given: services that will not stop, full disks, several artifacts,
/// single [paths](crate::component::Component::path_prefix), recovery to a moment, `deploy`, that
/// `check` would notice other content in the right place, and how long a cut-over takes with much
/// data. Those are for tests of your own.
///
/// # Errors
///
/// The first clause of the contract of [`Component`](crate::component::Component) that is not kept.
pub async fn component(under_test: Arc<dyn ComponentUnderTest>) -> Kept {
    let nothing_live = under_test.where_nothing_is_live().await;
    let nothing_live = given("where_nothing_is_live", nothing_live)?;
    component_where(under_test, true).await?;
    match nothing_live {
        Some(under_test) => component_where(under_test, false)
            .await
            .map_err(|broken| Broken {
                clause: format!("{} (where nothing is live)", broken.clause),
                ..broken
            }),
        None => Ok(()),
    }
}

async fn component_where(under_test: Arc<dyn ComponentUnderTest>, something_live: bool) -> Kept {
    let mut trial = Trial {
        something_live,
        before: given("live", under_test.live().await)?,
        restored: String::new(),
        beside: given("beside", under_test.beside().await)?,
        under_test,
    };
    trial.names_itself().await?;
    trial.looks_only().await?;
    trial.does_nothing_where_nothing_is().await?;
    trial.there_and_back().await?;
    trial.is_accepted().await?;
    trial.stops().await?;
    trial.refuses_what_was_changed().await?;
    trial.keeps_runs_apart().await?;
    trial.backs_up().await?;
    trial.survives_its_facts().await?;
    trial.survives_anywhere().await
}

pub(super) struct Trial {
    /// What is restored replaces something.
    pub(super) something_live: bool,
    under_test: Arc<dyn ComponentUnderTest>,
    pub(super) before: String,
    pub(super) restored: String,
    beside: Vec<String>,
}

/// One run: what survives its processes.
#[derive(Clone)]
pub(super) struct Run {
    id: RunId,
    facts: Arc<Facts>,
    pub(super) backup: Arc<Backup>,
    cancel: CancellationToken,
}

#[derive(Clone, Copy, Debug)]
enum Method {
    Stage,
    CutOver,
    Undo,
}

/// When a process dies.
#[derive(Clone, Copy)]
enum When {
    /// Wherever it waits after so many polls.
    Polls(usize),
    /// Around the keeping of a fact.
    Fact(usize, Death),
}

impl Run {
    async fn process(
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

    /// A process that dies in the middle of a method; whether it had come to its end before.
    async fn dies(&self, run: &Run, method: Method, when: When) -> Kept<bool> {
        let (under_test, run) = (self.under_test.clone(), run.clone());
        crash::process(move || async move {
            let (component, cx) = run.process(under_test.as_ref()).await?;
            let work = async {
                match method {
                    Method::Stage => component.stage(&cx).await.map(drop),
                    Method::CutOver => component.cut_over(&cx).await,
                    Method::Undo => component.undo(&cx).await,
                }
            };
            let done = match when {
                When::Polls(so_often) => crash::polls(so_often, work).await,
                When::Fact(at, death) => {
                    run.facts.die_at(at, death);
                    run.facts.until_death(work).await
                }
            };
            match done {
                None => Ok(false),
                Some(done) => must(&format!("{method:?} of the suite's run"), done).map(|()| true),
            }
        })
        .await
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

    async fn names_itself(&self) -> Kept {
        let (component, _) = self.process(&self.run().await?).await?;
        let (again, _) = self.process(&self.run().await?).await?;
        holds(
            "name, kind, stops and needs are the same whenever it is made",
            component.name() == again.name()
                && component.kind() == again.kind()
                && component.stops() == again.stops()
                && component.needs() == again.needs()
                && !component.name().is_empty(),
            format!("{:?} and {:?}", component.name(), again.name()),
        )?;
        let backup = given("backup", self.under_test.backup().await)?;
        let clause = "`artifacts` gives files that the backup has";
        let found = component.artifacts(&backup);
        holds(
            clause,
            !found.is_empty() && found.iter().all(|path| backup.file(path).is_some()),
            format!("{found:?}"),
        )?;
        let nothing = Backup::by_name(backup.store().clone(), backup.id().clone());
        let found = component.artifacts(&nothing);
        holds(
            "`artifacts` is empty where the backup has none for it",
            found.is_empty(),
            format!("{found:?}"),
        )
    }

    async fn looks_only(&self) -> Kept {
        let run = self.run().await?;
        let (component, cx) = self.process(&run).await?;
        let clause = "`inspect` changes nothing";
        let inspection = must(clause, component.inspect(&cx).await)?;
        self.is(clause, &self.before).await?;
        self.nothing_beside(clause).await?;
        let errors: Vec<String> = inspection
            .findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .map(|finding| finding.message.clone())
            .collect();
        holds(
            "`inspect` finds no error where nothing speaks against the run",
            errors.is_empty(),
            format!("{errors:?}"),
        )?;
        holds(
            "`inspect` names the artifacts that it would use",
            !inspection.artifacts.is_empty()
                && inspection
                    .artifacts
                    .iter()
                    .all(|path| run.backup.file(path).is_some()),
            format!("{:?}", inspection.artifacts),
        )
    }

    async fn does_nothing_where_nothing_is(&self) -> Kept {
        let run = self.run().await?;
        let clause = "where nothing was staged or cut over, `undo` and `discard` do nothing";
        self.give_up(&run, clause).await?;
        let (component, cx) = self.process(&run).await?;
        let clause = "`replaced_at` is `None` where nothing was replaced";
        let kept = must(clause, component.replaced_at(&cx).await)?;
        holds(clause, kept.is_none(), format!("{kept:?}"))
    }

    async fn there_and_back(&mut self) -> Kept {
        let run = self.run().await?;
        for _ in 0..2 {
            let clause = "`stage` leaves the live data alone, and may be called again";
            self.stage(&run).await?;
            self.is(clause, &self.before).await?;
        }
        let clause = "`undo` does nothing where nothing was cut over";
        self.undo(&run, clause).await?;
        self.is(clause, &self.before).await?;

        let clause = "`cut_over` makes the staged data live";
        self.cut_over(&run, clause).await?;
        self.restored = given("live", self.under_test.live().await)?;
        holds(
            "what the suite is given works: what is live is not what the backup holds",
            self.restored != self.before,
            "the same before and after the cut-over",
        )?;
        let clause = "`cut_over` called again changes nothing";
        self.cut_over(&run, clause).await?;
        self.is(clause, &self.restored).await?;
        self.checks(&run, true).await?;
        let (component, cx) = self.process(&run).await?;
        let clause = "`replaced_at` says where the replaced data is, if any was replaced";
        let kept = must(clause, component.replaced_at(&cx).await)?;
        holds(
            clause,
            kept.is_some() == self.something_live,
            format!("{kept:?}"),
        )?;

        for _ in 0..2 {
            let clause = "`undo` makes live again what was live; twice changes nothing";
            self.undo(&run, clause).await?;
            self.is(clause, &self.before).await?;
        }
        self.checks(&run, false).await?;
        let clause = "after `undo` the data that had been live in between is kept as staged";
        self.cut_over(&run, clause).await?;
        self.is(clause, &self.restored).await?;
        let clause = "`discard` of what is staged never touches live data";
        self.discard(&run, Discard::Staged, clause).await?;
        self.is(clause, &self.restored).await?;
        // A process that takes an undo up does not know that the last one came to discarding.
        let clause = "`undo` does nothing once it was undone and what was staged is discarded";
        self.undo(&run, clause).await?;
        self.discard(&run, Discard::Staged, clause).await?;
        self.undo(&run, clause).await?;
        self.is(clause, &self.before).await?;
        self.give_up(&run, "a run that was undone and discarded leaves nothing")
            .await
    }

    /// After a cut-over all pass; where the old data is live, one does not (or looking fails).
    async fn checks(&self, run: &Run, swapped: bool) -> Kept {
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

    /// Restored, accepted, and then back to the beginning by restoring what was live.
    async fn is_accepted(&self) -> Kept {
        let run = self.run().await?;
        self.stage(&run).await?;
        let clause = "staged data that is discarded is gone, and nothing live has changed";
        for _ in 0..2 {
            self.discard(&run, Discard::Staged, clause).await?;
        }
        self.is(clause, &self.before).await?;
        self.give_up(&run, clause).await
    }

    async fn stops(&self) -> Kept {
        let clause = "a cancelled `stage` ends soon with `Interrupted`";
        for at_once in [true, false] {
            let run = self.run().await?;
            let (component, cx) = self.process(&run).await?;
            if at_once {
                run.cancel.cancel();
            }
            let work = async {
                let mut work = component.stage(&cx);
                if let Some(done) = crash::polls(1, &mut work).await {
                    return done;
                }
                run.cancel.cancel();
                work.await
            };
            let done = tokio::time::timeout(SOON, work)
                .await
                .map_err(|_| broken(clause, format!("it goes on for {SOON:?}")))?;
            match done {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(clause, format!("{:?}: {error}", error.kind()))),
                Ok(_) if at_once => return Err(broken(clause, "Ok")),
                // It was faster.
                Ok(_) => {}
            }
            let clause = "a cancelled `stage` leaves nothing that `discard` would not find";
            self.is(clause, &self.before).await?;
            self.give_up(&run, clause).await?;
        }
        Ok(())
    }

    async fn refuses_what_was_changed(&self) -> Kept {
        let mut run = self.run().await?;
        let changed = self.under_test.changed_backup().await;
        let Some(changed) = given("changed_backup", changed)? else {
            return Ok(());
        };
        run.backup = Arc::new(changed);
        let (component, cx) = self.process(&run).await?;
        let clause = "`stage` verifies what it reads against the manifest's hash";
        match component.stage(&cx).await {
            Err(error) if error.kind() == ErrorKind::Verification => {}
            Err(error) => return Err(broken(clause, format!("{:?}: {error}", error.kind()))),
            Ok(_) => return Err(broken(clause, "Ok")),
        }
        let clause = "a `stage` that failed leaves nothing that `discard` would not find";
        self.is(clause, &self.before).await?;
        self.give_up(&run, clause).await?;
        // The good one again, for what follows.
        given("backup", self.under_test.backup().await).map(drop)
    }

    async fn keeps_runs_apart(&self) -> Kept {
        let clause = "what one run stages, swaps and discards is nothing to another";
        let (one, two) = (self.run().await?, self.run().await?);
        self.stage(&one).await?;
        self.stage(&two).await?;
        self.discard(&two, Discard::Staged, clause).await?;
        self.cut_over(&one, clause).await?;
        self.is(clause, &self.restored).await?;
        self.undo(&two, clause).await?;
        self.discard(&two, Discard::Replaced, clause).await?;
        self.is(clause, &self.restored).await?;
        self.give_up(&one, clause).await
    }

    /// Killed right before and right after each fact is durable.
    async fn survives_its_facts(&self) -> Kept {
        for death in [Death::Before, Death::After] {
            for goes_on in [true, false] {
                for at in 0..MOST_FACTS {
                    let run = self.run().await?;
                    let when = When::Fact(at, death);
                    let staged = self.dies(&run, Method::Stage, when).await?;
                    let mut over = false;
                    if staged {
                        given("stop", self.under_test.stop().await)?;
                        over = self.dies(&run, Method::CutOver, when).await?;
                    }
                    let how = format!("killed {death:?} its fact {at}");
                    self.finish(&run, staged, goes_on, &how).await?;
                    if over {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Another process goes on to the end, and back; or back at once.
    async fn finish(&self, run: &Run, staged: bool, goes_on: bool, how: &str) -> Kept {
        if goes_on {
            let clause = format!("another process finishes what was {how}");
            if !staged {
                self.stage(run).await?;
            }
            self.cut_over(run, &clause).await?;
            self.is(&clause, &self.restored).await?;
            self.checks(run, true).await?;
        }
        self.give_up(run, &format!("another process takes back what was {how}"))
            .await
    }

    /// Dropped in the middle of `stage`, `cut_over` and `undo`, wherever each waits.
    async fn survives_anywhere(&self) -> Kept {
        for goes_on in [true, false] {
            let mut over = [false; 3];
            for moment in crash::moments().take(self.under_test.crashes()) {
                let how = format!("dropped after {moment} polls");
                let when = When::Polls(moment);
                if !over[0] {
                    let run = self.run().await?;
                    over[0] = self.dies(&run, Method::Stage, when).await?;
                    let clause = "`stage`, dropped in its middle, leaves the live data alone";
                    self.is(clause, &self.before).await?;
                    self.finish(&run, false, goes_on, &how).await?;
                }
                if !over[1] {
                    let run = self.run().await?;
                    self.stage(&run).await?;
                    given("stop", self.under_test.stop().await)?;
                    over[1] = self.dies(&run, Method::CutOver, when).await?;
                    self.finish(&run, true, goes_on, &how).await?;
                }
                if !over[2] {
                    let run = self.run().await?;
                    self.stage(&run).await?;
                    self.cut_over(&run, "`cut_over`").await?;
                    given("stop", self.under_test.stop().await)?;
                    over[2] = self.dies(&run, Method::Undo, when).await?;
                    let clause = format!("another process finishes an `undo` that was {how}");
                    self.give_up(&run, &clause).await?;
                }
                if over == [true; 3] {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// More facts than any component keeps in one method.
const MOST_FACTS: usize = 64;

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
