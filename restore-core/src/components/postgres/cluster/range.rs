//! From when to when a base backup can be recovered, and what a target comes to.

use tokio_util::sync::CancellationToken;

use super::Cluster;
use super::base::Base;
use super::timeline::LiveTimeline;
use crate::components::postgres::wal::{Archive, Chain, Search};
use crate::contract::Backup;
use crate::model::{Error, ErrorKind, Finding, Recoverable, Result};

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

    /// What leads on from a base backup.
    pub(super) async fn search(
        &self,
        base: &Base,
        timeline: Option<u32>,
        cancel: &CancellationToken,
    ) -> Result<(Search, Option<Finding>)> {
        let mut archive = self.archive(base).await?;
        let origin = base.facts.origin();
        let followed = self.follows(base, &mut archive, timeline).await?;
        let chain = Chain::follow(&archive, &origin, followed.timeline)?;
        let search = Search::new(chain, origin, cancel.clone());
        Ok((search, followed.noted))
    }
}

/// See [`Component::recoverable`](crate::component::Component::recoverable).
pub(super) async fn of(cluster: &Cluster, backup: &Backup) -> Result<Option<Recoverable>> {
    if backup
        .find_of(&cluster.name, &cluster.config.base)
        .is_empty()
    {
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
        needs_timeline: None,
    };
    if let Some(root) = &cluster.config.wal_archive {
        range.archive = Some(root.display());
        let never = CancellationToken::new();
        let search = match cluster.search(&base, None, &never).await {
            Ok((search, _)) => search,
            // What it holds can be told all the same, and reached by somebody who means it.
            Err(error)
                if error.is(&LiveTimeline::Abandoned) || error.is(&LiveTimeline::Unknown) =>
            {
                range.needs_timeline = Some(error.message().to_owned());
                let archive = cluster.archive(&base).await?;
                let newest = archive.timelines.newest((facts.timeline, facts.stop_lsn));
                cluster.search(&base, Some(newest), &never).await?.0
            }
            Err(error) => return Err(error),
        };
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
