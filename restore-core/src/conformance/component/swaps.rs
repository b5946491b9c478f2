//! Staged, cut over, undone, discarded: each does its own, once, for one run.

use super::super::{Kept, given, holds, must};
use super::trial::Trial;
use crate::swap::scope::Discard;

impl Trial {
    pub(super) async fn does_nothing_where_nothing_is(&self) -> Kept {
        let run = self.run().await?;
        let clause = "where nothing was staged or cut over, `undo` and `discard` do nothing";
        self.give_up(&run, clause).await?;
        let (component, cx) = self.process(&run).await?;
        let clause = "`replaced_at` is `None` where nothing was replaced";
        let kept = must(clause, component.replaced_at(&cx).await)?;
        holds(clause, kept.is_none(), format!("{kept:?}"))
    }

    pub(super) async fn there_and_back(&mut self) -> Kept {
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

    /// Restored, accepted, and then back to the beginning by restoring what was live.
    pub(super) async fn is_accepted(&self) -> Kept {
        let run = self.run().await?;
        self.stage(&run).await?;
        let clause = "staged data that is discarded is gone, and nothing live has changed";
        for _ in 0..2 {
            self.discard(&run, Discard::Staged, clause).await?;
        }
        self.is(clause, &self.before).await?;
        self.give_up(&run, clause).await
    }

    pub(super) async fn keeps_runs_apart(&self) -> Kept {
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
}
