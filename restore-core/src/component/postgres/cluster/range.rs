//! From when to when a base backup can be recovered, and what a target comes to.

use tokio_util::sync::CancellationToken;

use super::super::client::column;
use super::Cluster;
use super::base::Base;
use super::control::Control;
use super::programs::Programs;
use crate::backup::Backup;
use crate::error::{Error, ErrorKind, Result};
use crate::wal::{Archive, Chain, Recoverable, Search};

impl Cluster {
    /// The archive that the component names.
    pub(super) async fn archive(&self, base: &Base) -> Result<Archive> {
        let Some(root) = &self.config.wal_archive else {
            return Err(Error::new(
                ErrorKind::Config,
                "cluster.no_wal_archive",
                "the component names no WAL archive: nothing leads on from its base backups",
            )
            .hint(
                "name the directory or the store that the server's archive_command copies to as wal_archive",
            ));
        };
        Archive::open(root, base.facts.segment_size).await
    }

    /// The timeline to follow: the one asked for, else the one that the live server is on. An
    /// archive may also have newer ones, of recoveries that were rolled back.
    pub(super) async fn follows(
        &self,
        base: &Base,
        archive: &Archive,
        wanted: Option<u32>,
    ) -> Option<u32> {
        if wanted.is_some() {
            return wanted;
        }
        let origin = base.facts.origin();
        let live = self.live_timeline(base).await?;
        archive
            .timelines
            .leads((origin.timeline, origin.stop), live)
            .then_some(live)
    }

    async fn live_timeline(&self, base: &Base) -> Option<u32> {
        if let Ok(session) = self.session().await {
            let row = session
                .one(
                    "SELECT ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int8",
                    &[],
                )
                .await
                .ok()?;
            let timeline: i64 = column(&row, 0).ok()?;
            session.close().await;
            return u32::try_from(timeline).ok();
        }
        let programs = Programs::find(
            self.platform.as_ref(),
            &self.config.service,
            self.config.bin.as_deref(),
            base.facts.major,
        )
        .await
        .ok()?;
        let dir = self.data_dir(self.volume().await.ok()?.as_ref()).ok()?;
        let seen = self.platform.path_in(&self.config.service, &dir).await;
        let control = Control::read(&programs, &seen.ok()??).await.ok()?;
        control.timeline()
    }

    /// What leads on from a base backup.
    pub(super) async fn search(
        &self,
        base: &Base,
        timeline: Option<u32>,
        cancel: &CancellationToken,
    ) -> Result<Search> {
        let archive = self.archive(base).await?;
        let origin = base.facts.origin();
        let timeline = self.follows(base, &archive, timeline).await;
        let chain = Chain::follow(&archive, &origin, timeline)?;
        Ok(Search::new(chain, origin, cancel.clone()))
    }
}

/// See [`Component::recoverable`](crate::component::Component::recoverable).
pub(super) async fn of(cluster: &Cluster, backup: &Backup) -> Result<Option<Recoverable>> {
    if backup.find(&cluster.config.base).is_empty() {
        return Ok(None);
    }
    let base = cluster.base(backup).await?;
    let facts = &base.facts;
    let mut range = Recoverable {
        component: cluster.name.clone(),
        from: facts.stopped,
        from_lsn: facts.stop_lsn,
        until: None,
        until_lsn: facts.stop_lsn,
        timeline: facts.timeline,
        segments: 0,
        archive: None,
        holes: Vec::new(),
    };
    if let Some(root) = &cluster.config.wal_archive {
        range.archive = Some(root.display());
        let search = cluster
            .search(&base, None, &CancellationToken::new())
            .await?;
        let end = search.end().await?;
        let chain = search.chain();
        range.timeline = chain.timeline;
        range.segments = u64::try_from(chain.files.len()).unwrap_or(u64::MAX);
        range.holes.clone_from(&chain.holes);
        range.until = end.last.map(|mark| mark.time);
        range.until_lsn = end.lsn;
    }
    Ok(Some(range))
}
