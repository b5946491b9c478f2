//! What stands for a volume that is absent and will be made, while a plan is.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::place;
use crate::archive::{Source, UnpackPolicy, Unpacked};
use crate::contract::{Inspection, Platform, RunContext, Volume};
use crate::model::{Error, ErrorKind, Progress, Result, RunId};
use crate::swap::scope::{Compared, Discard, SwapScope, SwapState};
use crate::sys::absent::AbsentDirectory;
use crate::sys::space::Space;

/// An empty volume that nothing can be done to. The room is that of the directory in which it will be
/// made.
struct NotThere {
    at: AbsentDirectory,
    space: Space,
}

/// A volume of the site; where it is absent and the run may create it, what stands for it, and the
/// inspection says that it will be made.
pub(crate) async fn planned_volume(
    cx: &RunContext,
    platform: &dyn Platform,
    name: &str,
    inspection: &mut Inspection,
) -> Result<Arc<dyn Volume>> {
    let missing = match platform.volume(name).await {
        Err(error) if cx.may_create() => error,
        volume => return volume,
    };
    let Some(at) = platform.absent_volume(name).await? else {
        return Err(missing);
    };
    let space = place::announce(&at, inspection).await?.ok_or(missing)?;
    Ok(Arc::new(NotThere { at, space }))
}

impl NotThere {
    fn missing(&self) -> Error {
        Error::new(
            ErrorKind::NotFound,
            "volume.missing",
            format!("there is no {}", self.describe()),
        )
        .hint("it is made when the plan is executed")
    }
}

#[async_trait]
impl Volume for NotThere {
    fn describe(&self) -> String {
        format!("directory {}", self.at.path().display())
    }

    fn path(&self) -> Option<PathBuf> {
        Some(self.at.path().to_owned())
    }

    async fn free_space(&self) -> Result<Space> {
        Ok(self.space.clone())
    }

    async fn state(&self, _run: &RunId) -> Result<SwapState> {
        Ok(SwapState::Nothing)
    }

    async fn run_folders(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    async fn stage_dir(&self, _run: &RunId) -> Result<PathBuf> {
        Err(self.missing())
    }

    async fn unpack(
        &self,
        _run: &RunId,
        _source: Source,
        _policy: &UnpackPolicy,
        _progress: Progress,
    ) -> Result<Unpacked> {
        Err(self.missing())
    }

    async fn swap(&self, _run: &RunId, _scope: &SwapScope) -> Result<()> {
        Err(self.missing())
    }

    async fn unswap(&self, _run: &RunId) -> Result<()> {
        Err(self.missing())
    }

    async fn discard(&self, _run: &RunId, _what: Discard) -> Result<()> {
        Err(self.missing())
    }

    async fn compare(&self, _run: &RunId) -> Result<Compared> {
        Err(self.missing())
    }

    fn replaced_at(&self, _run: &RunId) -> String {
        self.describe()
    }
}
