//! A volume that is a directory of this host.

use std::path::PathBuf;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::archive::{
    Measured, PackPolicy, Packed, Sink, Source, UnpackPolicy, Unpacked, measure_dir, pack_dir,
    unpack_into,
};
use crate::contract::Volume;
use crate::model::{Progress, Result, RunId};
use crate::swap::scope::{Compared, Discard, SwapScope, SwapState};
use crate::swap::{LocalVolume, REPLACED, StagingDir, SwapExecutor};
use crate::sys::space::Space;

#[async_trait]
impl Volume for LocalVolume {
    fn describe(&self) -> String {
        format!("directory {}", self.root().display())
    }

    fn path(&self) -> Option<PathBuf> {
        Some(self.root().to_owned())
    }

    async fn free_space(&self) -> Result<Space> {
        self.blocking(|volume| {
            let live = volume.open()?;
            Space::of_open(&live, volume.root())
        })
        .await
    }

    async fn state(&self, run: &RunId) -> Result<SwapState> {
        let run = run.clone();
        self.blocking(move |volume| volume.look(&run)).await
    }

    async fn stage_dir(&self, run: &RunId) -> Result<PathBuf> {
        let run = run.clone();
        self.alone(move |volume| Ok(volume.stage_now(&run)?.path().to_owned()))
            .await
    }

    async fn staging_dir(&self, run: &RunId) -> Result<StagingDir> {
        let run = run.clone();
        self.alone(move |volume| volume.staged_now(&run)).await
    }

    async fn unpack(
        &self,
        run: &RunId,
        source: Source,
        policy: &UnpackPolicy,
        progress: Progress,
    ) -> Result<Unpacked> {
        let made = run.clone();
        let target = self.alone(move |volume| volume.stage_now(&made)).await?;
        let unpacked = unpack_into(source, target.dup()?, target.path(), policy, progress).await;
        match unpacked {
            Ok(unpacked) => Ok(unpacked),
            Err(error) => {
                // The reason matters more than what becomes of the leftovers: a later discard
                // finds those.
                let _ = self.discard(run, Discard::Staged).await;
                Err(error)
            }
        }
    }

    async fn pack(
        &self,
        policy: PackPolicy,
        sink: Sink,
        progress: Progress,
        cancel: CancellationToken,
    ) -> Result<Packed> {
        let live = self.blocking(Self::open).await?;
        pack_dir(live.into_fd(), self.root(), policy, sink, progress, cancel).await
    }

    async fn measure(&self, except: &[String]) -> Result<Option<Measured>> {
        let live = self.blocking(Self::open).await?;
        measure_dir(live.into_fd(), self.root(), except)
            .await
            .map(Some)
    }

    async fn leave_out(&self, run: &RunId, patterns: &[String]) -> Result<Vec<PathBuf>> {
        let (run, patterns) = (run.clone(), patterns.to_vec());
        self.alone(move |volume| volume.leave_out_now(&run, &patterns))
            .await
    }

    async fn run_folders(&self) -> Result<Vec<String>> {
        self.blocking(Self::run_folders_now).await
    }

    async fn swap(&self, run: &RunId, scope: &SwapScope) -> Result<()> {
        let (run, scope) = (run.clone(), scope.clone());
        self.alone(move |volume| volume.swap_now(&run, &scope, &mut SwapExecutor::default()))
            .await
    }

    async fn unswap(&self, run: &RunId) -> Result<()> {
        let run = run.clone();
        self.alone(move |volume| volume.unswap_now(&run, &mut SwapExecutor::default()))
            .await
    }

    async fn discard(&self, run: &RunId, what: Discard) -> Result<()> {
        let run = run.clone();
        self.alone(move |volume| volume.discard_now(&run, what))
            .await
    }

    async fn compare(&self, run: &RunId) -> Result<Compared> {
        let run = run.clone();
        self.blocking(move |volume| volume.compare_now(&run)).await
    }

    async fn kept(&self, run: &RunId) -> Result<Option<Compared>> {
        let run = run.clone();
        let look = self.blocking(move |volume| volume.kept_now(&run));
        look.await.map(Some)
    }

    fn replaced_at(&self, run: &RunId) -> String {
        self.folder(run).join(REPLACED).display().to_string()
    }
}
