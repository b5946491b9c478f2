//! A `stage` that does not come to its end: cancelled, or given an artifact that was changed.

use std::sync::Arc;
use std::time::Duration;

use super::super::{Kept, broken, crash, given};
use super::trial::Trial;
use crate::model::ErrorKind;

/// How soon something that was cancelled has to end.
const SOON: Duration = Duration::from_secs(60);

impl Trial {
    pub(super) async fn stops(&self) -> Kept {
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

    pub(super) async fn refuses_what_was_changed(&self) -> Kept {
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
}
