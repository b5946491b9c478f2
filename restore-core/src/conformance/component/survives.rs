//! A process that dies in the middle of a method, and another that goes on or takes it back.

use super::super::crash::Death;
use super::super::{Kept, crash, given, must};
use super::trial::{Run, Trial};

/// More facts than any component keeps in one method.
const MOST_FACTS: usize = 64;

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

impl Trial {
    /// Killed right before and right after each fact is durable.
    pub(super) async fn survives_its_facts(&self) -> Kept {
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

    /// Dropped in the middle of `stage`, `cut_over` and `undo`, wherever each waits.
    pub(super) async fn survives_anywhere(&self) -> Kept {
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
}
