//! A Redis server's data.
//!
//! Whatever the backup has (RDB, single-file AOF, multi-part AOF), what is staged is one RDB,
//! laid out as the file that the server really loads in its `appendonly` mode, and proven by a
//! scratch server over exactly these files. The live data is swapped by rename while the server
//! is down.
//!
//! The server is reached at its service's endpoint: a host and port, or a unix socket where the
//! host starts with `/` (the socket itself, or its directory with `redis.sock` or
//! `redis-server.sock` in it).

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::{archive, place};
use crate::contract::{
    BackedUp, Backup, BackupWriter, Component, ComponentDeps, Contents, Create, Inspection,
    KeptByRun, Platform, Recovery, RunContext, SharedComponent, Staged, Table, Target, Volume,
};
use crate::model::{CheckOutcome, Error, ErrorKind, Result};
use crate::swap::scope::{Discard, SwapScope, SwapState};
use crate::sys::connect::is_socket;

mod aof;
mod back_up;
mod check;
mod client;
mod config;
mod configuration;
mod contents;
mod data;
mod durable;
mod holders;
mod inspect;
mod live;
mod log;
mod prepare;
mod rdb_head;
mod rdb_keys;
mod rdb_timestamp;
mod record;
mod remote_task;
mod restart;
mod rewind;
mod scratch;
mod stage;
mod starts;
mod unlisted;

pub(crate) use remote_task::serve;
pub(crate) use unlisted::unlisted;

/// A Redis server's data.
pub struct Redis {
    name: String,
    section: config::Section,
    platform: Arc<dyn Platform>,
    sound: starts::Sound,
}

impl Redis {
    /// The component `name` from its table in the configuration.
    pub fn from_table(name: &str, table: Table, parts: &ComponentDeps) -> Result<SharedComponent> {
        Ok(Arc::new(Self {
            name: name.to_owned(),
            section: config::Section::parse(name, table, parts)?,
            platform: parts.platform.clone(),
            sound: starts::Sound::default(),
        }))
    }

    async fn volume(&self) -> Result<Arc<dyn Volume>> {
        self.platform.volume(&self.section.volume).await
    }

    /// The volume, where it is not gone as it was before the run.
    async fn still_there(&self, cx: &RunContext) -> Result<Option<Arc<dyn Volume>>> {
        place::still_there(cx, self.volume().await).await
    }

    fn chosen(&self, backup: &Backup) -> Result<data::Chosen> {
        data::choose(&self.name, &self.section, backup)?.ok_or_else(|| {
            Error::new(
                ErrorKind::Preflight,
                "redis.no_artifact",
                format!("backup {} has neither an RDB nor an AOF for it", backup.id()),
            )
            .hint("choose another backup, leave the component out with --only, or name its files with rdb, aof or aof_dir")
        })
    }
}

#[async_trait]
impl Component for Redis {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "redis"
    }

    fn stops(&self) -> Vec<String> {
        self.section.stops()
    }

    fn recovery(&self) -> Recovery {
        Recovery::Near
    }

    async fn targets(&self, _paths: &[String]) -> Result<Vec<Target>> {
        let path = place::path_of(self.platform.as_ref(), &self.section.volume).await?;
        let scope = SwapScope::Entries(data::DataLayout::default().entries());
        Ok(path
            .map(|path| Target::new(path, scope))
            .into_iter()
            .collect())
    }

    async fn targets_elsewhere(&self, _paths: &[String]) -> Result<Vec<(String, Target)>> {
        let found = place::path_elsewhere(self.platform.as_ref(), &self.section.volume).await?;
        let scope = SwapScope::Entries(data::DataLayout::default().entries());
        Ok(found
            .map(|(machine, path)| (machine, Target::new(path, scope)))
            .into_iter()
            .collect())
    }

    async fn lives_in(&self) -> Result<Vec<(String, PathBuf)>> {
        let told = self.client().await?.setting("unixsocket").await;
        let socket = told.map_err(|e| e.in_component(&self.name))?;
        let socket = socket.map(PathBuf::from).filter(|path| is_socket(path));
        Ok(socket
            .map(|path| (self.section.service.clone(), path))
            .into_iter()
            .collect())
    }

    fn artifacts(&self, backup: &Backup) -> Vec<String> {
        match data::choose(&self.name, &self.section, backup) {
            Ok(chosen) => chosen.map(|chosen| chosen.path).into_iter().collect(),
            // Which of them it is, is what nobody knows: the plan says so.
            Err(_) => data::all_of(&self.name, &self.section, backup),
        }
    }

    async fn live_bytes(&self) -> Result<u64> {
        self.weigh().await.map_err(|e| e.in_component(&self.name))
    }

    async fn back_up(&self, writer: &BackupWriter) -> Result<BackedUp> {
        self.write_out(writer)
            .await
            .map_err(|e| e.in_component(&self.name))
    }

    fn contents(&self) -> Option<&dyn Contents> {
        Some(self)
    }

    async fn inspect(&self, cx: &RunContext) -> Result<Inspection> {
        self.inspect_all(cx)
            .await
            .map_err(|e| e.in_component(&self.name))
    }

    fn creator(&self) -> Option<&dyn Create> {
        Some(self)
    }

    async fn stage(&self, cx: &RunContext) -> Result<Staged> {
        cx.check_cancelled()?;
        self.stage_all(cx)
            .await
            .map_err(|e| e.in_component(&self.name))
    }

    async fn can_stop(&self, service: &str) -> Result<()> {
        if service != self.section.service {
            return Ok(());
        }
        let asked = async {
            let client = self.client().await?;
            let info = client.info().await?;
            self.ensure_starts_again(&client, &info).await
        };
        asked.await.map_err(|e| e.in_component(&self.name))
    }

    async fn before_stop(&self, service: &str, cx: &RunContext) -> Result<()> {
        if service != self.section.service {
            return Ok(());
        }
        self.make_durable(cx)
            .await
            .map_err(|e| e.in_component(&self.name))
    }

    async fn not_stopped(&self, service: &str) {
        if service == self.section.service {
            self.resume_writes().await;
        }
    }

    async fn cut_over(&self, cx: &RunContext) -> Result<()> {
        let swap = async {
            let volume = self.volume().await?;
            let lost = || {
                Error::new(
                    ErrorKind::Failed,
                    "redis.not_staged",
                    format!("nothing is staged for run {}", cx.run()),
                )
                .hint("stage it first")
            };
            match volume.state(cx.run()).await? {
                SwapState::Swapped => Ok(()),
                SwapState::Nothing => Err(lost()),
                SwapState::Staged | SwapState::Swapping => {
                    let record = record::kept(cx).ok_or_else(lost)?;
                    self.ensure_down(volume.as_ref()).await?;
                    let scope = SwapScope::Entries(record.layout.entries());
                    volume.swap(cx.run(), &scope).await
                }
            }
        };
        swap.await.map_err(|e| e.in_component(&self.name))
    }

    async fn undo(&self, cx: &RunContext) -> Result<()> {
        let unswap = async {
            let Some(volume) = self.still_there(cx).await? else {
                return Ok(());
            };
            match volume.state(cx.run()).await? {
                state @ (SwapState::Nothing | SwapState::Staged) => {
                    archive::ensure_swapped(cx, state, &volume.describe())
                }
                SwapState::Swapping | SwapState::Swapped => {
                    self.ensure_down(volume.as_ref()).await?;
                    volume.unswap(cx.run()).await
                }
            }
        };
        unswap.await.map_err(|e| e.in_component(&self.name))
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
        let Some(volume) = self.still_there(cx).await? else {
            return Ok(());
        };
        archive::ensure_movable(cx, volume.as_ref()).await?;
        // One that is down, or does not answer, may be mended by this.
        let asked = async {
            let client = self.client().await?;
            let info = client.info().await?;
            Ok::<_, Error>((client, info))
        };
        match asked.await {
            Ok((client, info)) => self.ensure_starts_again(&client, &info).await,
            Err(_) => Ok(()),
        }
    }

    async fn as_left(&self, cx: &RunContext) -> Result<()> {
        place::ensure_left(cx, self.volume().await, &self.section.volume).await
    }

    async fn kept_by_runs(&self) -> Result<Vec<KeptByRun>> {
        archive::kept_by_runs(self.volume().await?.as_ref()).await
    }

    async fn check(&self, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
        self.check_all(cx)
            .await
            .map_err(|e| e.in_component(&self.name))
    }

    async fn discard(&self, cx: &RunContext, what: Discard) -> Result<()> {
        let discard = async {
            let Some(volume) = self.still_there(cx).await? else {
                return Ok(());
            };
            self.end_leftovers(cx, volume.as_ref()).await?;
            volume.discard(cx.run(), what).await
        };
        discard.await.map_err(|e| e.in_component(&self.name))
    }

    async fn replaced_at(&self, cx: &RunContext) -> Result<Option<String>> {
        let Some(volume) = self.still_there(cx).await? else {
            return Ok(None);
        };
        Ok(match volume.state(cx.run()).await? {
            SwapState::Nothing | SwapState::Staged => {
                archive::replaced_at(cx, volume.as_ref()).await?
            }
            SwapState::Swapping | SwapState::Swapped => Some(match volume.path() {
                Some(path) => path.join(cx.run().folder()).display().to_string(),
                None => volume.replaced_at(cx.run()),
            }),
        })
    }

    async fn kept_bytes(&self, cx: &RunContext) -> Result<Option<u64>> {
        match self.still_there(cx).await? {
            Some(volume) => archive::kept_bytes(cx, volume.as_ref()).await,
            None => Ok(None),
        }
    }
}

#[async_trait]
impl Create for Redis {
    async fn create(&self, cx: &RunContext) -> Result<()> {
        let (platform, name) = (self.platform.as_ref(), &self.section.volume);
        let make = async {
            let owner = platform.owner(&self.section.service).await?;
            place::make_volume(cx, platform, name, owner).await
        };
        make.await.map_err(|e| e.in_component(&self.name))
    }

    async fn remove_created(&self, cx: &RunContext) -> Result<()> {
        let remove = async {
            let at = self.platform.absent_volume(&self.section.volume).await?;
            place::remove(cx, at).await
        };
        remove.await.map_err(|e| e.in_component(&self.name))
    }
}

/// Runs blocking file work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "redis.task",
            format!("file work ended early: {e}"),
        )
    })?
}

/// For `fuzz/`: an append-only file, its manifest, the head of an RDB, and what a server says.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    aof::fuzz(bytes);
    rewind::fuzz(bytes);
    let _ = data::Header::of(bytes).expect(data::Kind::Rdb, "it");
    let _ = rdb_timestamp::created(bytes);
    let text = String::from_utf8_lossy(bytes);
    let info = client::Info::parse(&text);
    let _ = (info.keyspace(), info.rdb_keys());
    let _ = scratch::shutdown_of(&text);
}

/// For `fuzz/`: a server's configuration.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_configuration(bytes: &[u8]) {
    configuration::fuzz(bytes);
}
