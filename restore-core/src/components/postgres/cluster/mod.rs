//! A whole PostgreSQL cluster, recovered to a point in time.
//!
//! A base backup is unpacked beside the live data directory and recovered to the target by a
//! scratch server of the service's own programs, which reads the WAL archive while the live
//! server serves. What it has become is cut over by renames and undone by the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::client::{Login, Session};
use crate::archive::UnpackPolicy;
use crate::components::{archive, place};
use crate::contract::{
    BackedUp, Backup, BackupWriter, Component, ComponentDeps, Create, Inspection, KeptByRun,
    Platform, Recovery, RunContext, SharedComponent, Staged, Table, Target, Volume,
};
use crate::model::{
    BackupId, CheckOutcome, Error, ErrorKind, Recoverable, RecoveryTarget, Result, Timestamp,
};
use crate::swap::scope::{Discard, SwapScope, SwapState};

mod back_up;
mod base;
mod check;
mod config;
mod control;
mod feed;
mod fetched;
mod holders;
mod inspect;
mod keep;
mod programs;
mod range;
mod recover;
mod room;
mod scratch;
mod stage;
mod timeline;

use config::ClusterConfig;
pub(super) use programs::major_of;

/// A whole PostgreSQL cluster, recovered to a point in time and swapped as one.
pub struct Cluster {
    name: String,
    config: ClusterConfig,
    platform: Arc<dyn Platform>,
}

impl Cluster {
    /// The component `name` from its table in the configuration.
    pub fn from_table(name: &str, table: Table, parts: &ComponentDeps) -> Result<SharedComponent> {
        Ok(Arc::new(Self::new(name, table, parts)?))
    }

    /// As [`from_table`](Self::from_table), as its own type: for a component that is a part of it.
    pub(super) fn new(name: &str, table: Table, parts: &ComponentDeps) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            config: ClusterConfig::from_table(name, table, parts)?,
            platform: parts.platform.clone(),
        })
    }

    pub(super) async fn volume(&self) -> Result<Arc<dyn Volume>> {
        self.platform.volume(&self.config.volume).await
    }

    /// The volume, where it is not gone as it was before the run.
    async fn still_there(&self, cx: &RunContext) -> Result<Option<Arc<dyn Volume>>> {
        place::still_there(cx, self.volume().await).await
    }

    /// The live data directory on this host.
    fn data_dir(&self, volume: &dyn Volume) -> Result<PathBuf> {
        let root = volume.path().ok_or_else(|| {
            Error::new(
                ErrorKind::Preflight,
                "cluster.not_here",
                format!("the files of {} are not on this host", volume.describe()),
            )
            .hint("run this on the host that has them")
        })?;
        Ok(root.join(&self.config.data_dir))
    }

    async fn login(&self) -> Result<Login> {
        Ok(Login {
            service: self.config.service.clone(),
            endpoint: self.platform.endpoint(&self.config.service).await?,
            inside: self.platform.endpoint_inside(&self.config.service).await?,
            user: self.config.user.clone(),
            password: self.config.password.read()?,
            tls: self.config.tls.clone(),
            application: "restore".to_owned(),
        })
    }

    async fn session(&self) -> Result<Session> {
        Session::open(&self.login().await?, &self.config.maintenance).await
    }

    fn scope(&self) -> SwapScope {
        match self.config.data_dir.components().next() {
            None => SwapScope::Everything,
            Some(first) => {
                SwapScope::Entries(vec![first.as_os_str().to_string_lossy().into_owned()])
            }
        }
    }

    fn at(&self) -> impl Fn(Error) -> Error {
        let name = self.name.clone();
        move |error| error.in_component(&name)
    }

    /// Ends what a killed process left at work, and deletes what it had brought there.
    pub(super) async fn clear(&self, cx: &RunContext, what: Discard) -> Result<()> {
        let Some(volume) = self.still_there(cx).await? else {
            return Ok(());
        };
        holders::end_scratch(cx, volume.as_ref()).await?;
        if let Some(root) = volume.path() {
            self.forget_fetched(&root, &cx.run().folder())?;
        }
        volume.discard(cx.run(), what).await
    }

    /// Refuses while a server may still be at work on the data.
    async fn ensure_down(&self, volume: &dyn Volume) -> Result<()> {
        let up = |what: String| {
            Error::new(
                ErrorKind::Failed,
                "cluster.still_up",
                format!("{what}; its data cannot be swapped under it"),
            )
            .hint(format!(
                "stop the service {} and try again",
                self.config.service
            ))
        };
        let state = self.platform.service(&self.config.service).await?;
        if state.running > 0 {
            return Err(up(format!("{} still runs ({})", state.name, state.detail)));
        }
        let dir = self.data_dir(volume)?;
        match holders::servers_in(&dir).await.first() {
            Some(holder) => Err(up(format!("{holder} still works in {}", dir.display()))),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Component for Cluster {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "postgres_cluster"
    }

    fn stops(&self) -> Vec<String> {
        self.config.stops()
    }

    fn recovery(&self) -> Recovery {
        Recovery::Cluster
    }

    async fn recoverable(&self, backup: &Backup) -> Result<Option<Recoverable>> {
        range::of(self, backup).await.map_err(self.at())
    }

    async fn base_ended(&self, backup: &Backup) -> Result<Option<Timestamp>> {
        if backup.find_of(&self.name, &self.config.base).is_empty() {
            return Ok(None);
        }
        let base = self.base(backup).await.map_err(self.at())?;
        Ok(Some(base.facts.stopped))
    }

    async fn reaches(&self, backup: &Backup, target: &RecoveryTarget) -> Result<bool> {
        let work = async {
            let base = self.base(backup).await?;
            let never = tokio_util::sync::CancellationToken::new();
            let (search, _) = self.search(&base, target.timeline, &never).await?;
            Ok(search.find(target).await.is_ok())
        };
        work.await.map_err(self.at())
    }

    async fn left_behind(
        &self,
        backups: &[Backup],
        target: &RecoveryTarget,
    ) -> Result<Vec<Option<u32>>> {
        self.timelines_left(backups, target)
            .await
            .map_err(self.at())
    }

    async fn must_keep(&self, backups: &[Backup]) -> Result<Vec<(BackupId, String)>> {
        keep::must_keep(self, backups).await.map_err(self.at())
    }

    async fn targets(&self, _paths: &[String]) -> Result<Vec<Target>> {
        let path = place::path_of(self.platform.as_ref(), &self.config.volume).await?;
        let target = path.map(|path| Target::new(path, self.scope()));
        Ok(target.into_iter().collect())
    }

    fn artifacts(&self, backup: &Backup) -> Vec<String> {
        backup.find_of(&self.name, &self.config.base)
    }

    async fn unpack_policies(&self, backup: &Backup) -> Result<Vec<(String, UnpackPolicy)>> {
        let volume = self.volume().await.map_err(self.at())?;
        let owner = self.owner(volume.as_ref()).await.map_err(self.at())?;
        // Where it will be staged is not known before there is a run: no link leads there.
        let policy = recover::policy(Path::new(""), owner);
        let archives = self.artifacts(backup).into_iter();
        Ok(archives.map(|path| (path, policy.clone())).collect())
    }

    async fn live_bytes(&self) -> Result<u64> {
        back_up::live_bytes(self).await.map_err(self.at())
    }

    async fn back_up(&self, writer: &BackupWriter) -> Result<BackedUp> {
        back_up::back_up(self, writer).await.map_err(self.at())
    }

    async fn inspect(&self, cx: &RunContext) -> Result<Inspection> {
        inspect::inspect(self, cx).await.map_err(self.at())
    }

    fn creator(&self) -> Option<&dyn Create> {
        Some(self)
    }

    async fn stage(&self, cx: &RunContext) -> Result<Staged> {
        stage::stage(self, cx).await.map_err(self.at())
    }

    async fn cut_over(&self, cx: &RunContext) -> Result<()> {
        let work = async {
            let volume = self.volume().await?;
            match volume.state(cx.run()).await? {
                SwapState::Swapped => Ok(()),
                SwapState::Nothing => Err(Error::new(
                    ErrorKind::Failed,
                    "cluster.not_staged",
                    format!("nothing is staged for run {}", cx.run()),
                )
                .hint("stage it first")),
                SwapState::Staged if cx.recall(stage::STAGED).is_none() => Err(Error::new(
                    ErrorKind::Failed,
                    "cluster.not_staged",
                    format!("what is staged for run {} is not whole", cx.run()),
                )
                .hint("stage it again")),
                SwapState::Staged | SwapState::Swapping => {
                    self.ensure_down(volume.as_ref()).await?;
                    archive::note_cutting(cx).await?;
                    volume.swap(cx.run(), &self.scope()).await
                }
            }
        };
        work.await.map_err(self.at())
    }

    async fn as_staged(&self, cx: &RunContext) -> Result<()> {
        let volume = self.volume().await?;
        archive::ensure_staged(cx, Some(volume.as_ref()), &volume.describe()).await
    }

    async fn way_back(&self, cx: &RunContext) -> Result<()> {
        match self.still_there(cx).await? {
            Some(volume) => {
                archive::ensure_kept(cx, Some(volume.as_ref()), &volume.describe()).await
            }
            None => Ok(()),
        }
    }

    async fn can_undo(&self, cx: &RunContext) -> Result<()> {
        match self.still_there(cx).await? {
            Some(volume) => archive::ensure_movable(cx, volume.as_ref()).await,
            None => Ok(()),
        }
    }

    async fn as_left(&self, cx: &RunContext) -> Result<()> {
        place::ensure_left(cx, self.volume().await, &self.config.volume).await
    }

    async fn kept_by_runs(&self) -> Result<Vec<KeptByRun>> {
        archive::kept_by_runs(self.volume().await?.as_ref()).await
    }

    async fn undo(&self, cx: &RunContext) -> Result<()> {
        let work = async {
            let Some(volume) = self.still_there(cx).await? else {
                return Ok(());
            };
            archive::ensure_mounted(cx, Some(volume.as_ref()), &volume.describe()).await?;
            match volume.state(cx.run()).await? {
                state @ (SwapState::Nothing | SwapState::Staged) => {
                    archive::ensure_swapped(cx, state, &volume.describe())?;
                }
                SwapState::Swapping | SwapState::Swapped => {
                    self.ensure_down(volume.as_ref()).await?;
                    volume.unswap(cx.run()).await?;
                }
            }
            archive::note_undone(cx).await;
            Ok(())
        };
        work.await.map_err(self.at())
    }

    async fn check(&self, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
        check::check(self, cx).await.map_err(self.at())
    }

    async fn discard(&self, cx: &RunContext, what: Discard) -> Result<()> {
        self.clear(cx, what).await.map_err(self.at())
    }

    async fn replaced_at(&self, cx: &RunContext) -> Result<Option<String>> {
        match self.still_there(cx).await.map_err(self.at())? {
            Some(volume) => archive::replaced_at(cx, volume.as_ref())
                .await
                .map_err(self.at()),
            None => Ok(None),
        }
    }

    async fn kept_bytes(&self, cx: &RunContext) -> Result<Option<u64>> {
        match self.still_there(cx).await.map_err(self.at())? {
            Some(volume) => archive::kept_bytes(cx, volume.as_ref())
                .await
                .map_err(self.at()),
            None => Ok(None),
        }
    }
}

#[async_trait]
impl Create for Cluster {
    async fn create(&self, cx: &RunContext) -> Result<()> {
        let (platform, name) = (self.platform.as_ref(), &self.config.volume);
        let make = async {
            let owner = platform.owner(&self.config.service).await?;
            place::make_volume(cx, platform, name, owner).await
        };
        make.await.map_err(self.at())
    }

    async fn remove_created(&self, cx: &RunContext) -> Result<()> {
        let remove = async {
            let at = self.platform.absent_volume(&self.config.volume).await?;
            place::remove(cx, at).await
        };
        remove.await.map_err(self.at())
    }
}
