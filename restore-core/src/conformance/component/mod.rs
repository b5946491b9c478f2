//! Components.

mod backs_up;
mod refuses;
mod says;
mod survives;
mod swaps;
mod trial;

use std::sync::Arc;

use async_trait::async_trait;

use super::{Broken, Kept, given};
use crate::contract::{Backup, SharedComponent};
use crate::model::Result;

use trial::Trial;

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
///   an error because of [`NeverBackedUp`](crate::component::NeverBackedUp);
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
