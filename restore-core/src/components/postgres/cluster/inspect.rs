//! What speaks for and against a recovery, found without writing anything.

use serde_json::{Map, Value, json};

use super::super::client::{Session, column};
use super::base::Base;
use super::control::Control;
use super::programs::Programs;
use super::{Cluster, feed, fetched};
use crate::components::archive;
use crate::components::not_there::planned_volume;
use crate::components::postgres::wal::{ReplayEstimate, WalSource};
use crate::contract::{Inspection, RunContext, SpaceNeed, Volume};
use crate::model::target::FOLLOWS;
use crate::model::{Error, ErrorKind, Finding, Result};
use crate::swap::scope::SwapScope;

/// What a recovery would come to.
#[derive(Debug, Default)]
pub(in super::super) struct Outlook {
    pub(in super::super) artifact: Option<String>,
    pub(in super::super) read_bytes: u64,
    /// In a few words: to where, over how much log.
    pub(in super::super) way: String,
    pub(in super::super) need: Option<SpaceNeed>,
    pub(in super::super) findings: Vec<Finding>,
    pub(in super::super) facts: Map<String, Value>,
    /// What of it nobody has signed.
    pub(in super::super) unsigned: Option<String>,
}

/// See [`Component::inspect`](crate::component::Component::inspect).
pub(super) async fn inspect(cluster: &Cluster, cx: &RunContext) -> Result<Inspection> {
    let mut planned = Inspection::default();
    let (platform, name) = (cluster.platform.as_ref(), &cluster.config.volume);
    let volume = planned_volume(cx, platform, name, &mut planned).await?;
    let outlook = cluster.outlook(cx, volume.as_ref()).await?;
    let mut inspection = Inspection {
        artifacts: outlook.artifact.into_iter().collect(),
        read_bytes: outlook.read_bytes,
        summary: format!("all databases of {}{}", cluster.config.service, outlook.way),
        staged_at: archive::in_volume(volume.as_ref(), &cx.run().folder()),
        needs: outlook.need.into_iter().collect(),
        findings: outlook.findings,
        facts: outlook.facts,
        unsigned: outlook.unsigned.into_iter().collect(),
        // A base backup copies all of the data directory, and what is staged would lie in there.
        save_first: cluster.scope() == SwapScope::Everything,
        ..planned
    };
    archive::other_runs(cx, volume.as_ref(), &mut inspection.findings).await;
    Ok(inspection)
}

impl Cluster {
    /// What recovering to the run's target would come to, beside whatever is live.
    pub(in super::super) async fn outlook(
        &self,
        cx: &RunContext,
        volume: &dyn Volume,
    ) -> Result<Outlook> {
        let mut outlook = Outlook::default();
        let base = match self.base(cx.backup()).await {
            Ok(base) => base,
            Err(error) => {
                outlook
                    .findings
                    .push(Finding::from_error(&self.name, &error));
                return Ok(outlook);
            }
        };
        outlook.read_bytes = cx.backup().file(&base.artifact).map_or(0, |file| file.size);
        outlook.facts = base.facts.as_map();
        outlook.artifact = Some(base.artifact.clone());
        let copied = match self.way(cx, &base, &mut outlook).await {
            Ok(copied) => copied,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                outlook
                    .findings
                    .push(Finding::from_error(&self.name, &error));
                0
            }
        };
        if volume.path().is_none() {
            outlook.findings.push(
                Finding::error(
                    "cluster.not_here",
                    &self.name,
                    format!("the files of {} are not on this host", volume.describe()),
                )
                .hint("run this as root on the host whose volume it is"),
            );
        }
        outlook.findings.extend(self.siblings(volume));
        outlook.findings.extend(self.log_elsewhere(volume));
        let own = base.facts.stop_lsn.0.saturating_sub(base.facts.start_lsn.0);
        let replayed = outlook.facts.get("wal_bytes").and_then(Value::as_u64);
        let room = self.room(&base, replayed.unwrap_or(own), copied).await;
        outlook.need = Some(SpaceNeed {
            space: volume.free_space().await?,
            bytes: room.max(outlook.read_bytes),
            inodes: 4096,
        });
        if let Err(error) = self.live(&base, volume, &mut outlook).await {
            outlook
                .findings
                .push(Finding::from_error(&self.name, &error));
        }
        Ok(outlook)
    }

    /// A log directory on another disk, which a recovered cluster does not have.
    fn log_elsewhere(&self, volume: &dyn Volume) -> Option<Finding> {
        let log = volume.path()?.join(&self.config.data_dir).join("pg_wal");
        let to = std::fs::read_link(&log).ok()?;
        Some(
            Finding::warning(
                "cluster.log_elsewhere",
                &self.name,
                format!(
                    "pg_wal of the live cluster is a link to {}; in the recovered one it is a directory, on the disk of its data",
                    to.display()
                ),
            )
            .hint("after the run, with the server stopped, move it there again and make the link; a rollback brings the old one back"),
        )
    }

    /// What lies beside the data directory, on its way down from the volume's root: the swap is of
    /// the first folder of that way, with all that is in it.
    fn siblings(&self, volume: &dyn Volume) -> Option<Finding> {
        let mut dir = volume.path()?;
        let mut way = self.config.data_dir.components();
        dir.push(way.next()?);
        for next in way {
            let entries = std::fs::read_dir(&dir).ok()?;
            let other = entries
                .flatten()
                .find(|it| it.file_name() != next.as_os_str());
            if let Some(other) = other {
                return Some(
                    Finding::error(
                        "cluster.not_alone",
                        &self.name,
                        format!(
                            "{} lies beside the data directory, and would be swapped away with it",
                            other.path().display()
                        ),
                    )
                    .hint(
                        "move it elsewhere: only the data directory may be on the way to data_dir",
                    ),
                );
            }
            dir.push(next);
        }
        None
    }

    /// Whether the target can be reached, and over what; how many bytes of log are copied first.
    async fn way(&self, cx: &RunContext, base: &Base, outlook: &mut Outlook) -> Result<u64> {
        let Some(target) = cx.target() else {
            outlook.way = format!(
                ", as they were at the end of the base backup ({})",
                base.facts.stopped.precise()
            );
            return Ok(0);
        };
        let log = self.config.wal_archive.as_ref();
        outlook.unsigned = log.map(|log| format!("the log in {}", log.display()));
        let (search, noted) = self.search(base, target.timeline, cx.cancelled()).await?;
        outlook.findings.extend(noted);
        let chain = search.chain();
        if !chain.others.is_empty() && target.timeline.is_none() {
            let others: Vec<String> = chain.others.iter().map(ToString::to_string).collect();
            outlook.findings.push(
                Finding::warning(
                    "cluster.timelines",
                    &self.name,
                    format!(
                        "earlier recoveries have branched the log: timeline {} is followed; what was written on others after they were left is not in it (also: {})",
                        chain.timeline,
                        others.join(", ")
                    ),
                )
                .hint("--timeline N follows another one"),
            );
        }
        let ReplayEstimate {
            segments,
            bytes,
            last,
            end,
            until,
        } = search.find(target).await?;
        let last = last.map(|mark| mark.time.precise());
        outlook.way = format!(
            ", recovered to {target}: {segments} WAL segments ({}) to replay from {}",
            mebibytes(bytes),
            base.facts.start_lsn
        );
        if let Some(last) = &last {
            outlook.way += &format!(", the last transaction is of {last}");
        }
        outlook
            .facts
            .insert("target".to_owned(), json!(target.to_string()));
        outlook
            .facts
            .insert("wal_segments".to_owned(), json!(segments));
        outlook.facts.insert("wal_bytes".to_owned(), json!(bytes));
        outlook.facts.insert("wal_end".to_owned(), json!(end));
        outlook
            .facts
            .insert("last_transaction".to_owned(), json!(last));
        outlook
            .facts
            .insert(FOLLOWS.to_owned(), json!(chain.timeline));
        if let Some(WalSource::Store(_)) = &self.config.wal_archive {
            return Ok(fetched::room(chain, until));
        }
        let archive = self.archive(base).await?;
        let direct = feed::direct(self, &archive, chain).await?;
        Ok(match direct {
            Some(_) => 0,
            None => chain.bytes(),
        })
    }

    /// Whether what is live is what the base backup is of.
    async fn live(&self, base: &Base, volume: &dyn Volume, outlook: &mut Outlook) -> Result<()> {
        let programs = Programs::find(self, base.facts.major).await?;
        let mut system = None;
        match self.session().await {
            Ok(session) => {
                let row = session
                    .one(
                        "SELECT system_identifier::text FROM pg_control_system()",
                        &[],
                    )
                    .await?;
                system = Some(column::<String>(&row, 0)?);
                if session.version() / 10_000 != base.facts.major {
                    return Err(Error::new(
                        ErrorKind::Preflight,
                        "cluster.wrong_version",
                        format!(
                            "the base backup is of PostgreSQL {}, the server is {}: a data directory fits its own major version only",
                            base.facts.major,
                            session.version() / 10_000
                        ),
                    )
                    .hint("choose a base backup of this version"));
                }
                self.dependants(&session, outlook).await?;
                session.close().await;
            }
            Err(error) => {
                outlook.findings.push(
                    Finding::warning(
                        "cluster.down",
                        &self.name,
                        format!("the live server cannot be asked: {}", error.message()),
                    )
                    .hint("what only it knows is not compared with the backup"),
                );
                let dir = self.data_dir(volume)?;
                if let Some(seen) = self.platform.path_in(&self.config.service, &dir).await?
                    && let Ok(control) = Control::read(&programs, &seen).await
                {
                    system = control.system().map(str::to_owned);
                }
            }
        }
        match system {
            Some(system) if system != base.facts.system_identifier => Err(Error::new(
                ErrorKind::Preflight,
                "cluster.other_system",
                format!(
                    "the base backup is of another cluster ({}) than the live one ({system})",
                    base.facts.system_identifier
                ),
            )
            .hint("choose a base backup of this cluster; to replace one cluster by another, empty the data directory first")),
            _ => Ok(()),
        }
    }

    /// Who follows the server and cannot follow it onto another timeline.
    async fn dependants(&self, session: &Session, outlook: &mut Outlook) -> Result<()> {
        let row = session
            .one(
                "SELECT (SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'), \
                 (SELECT count(*) FROM pg_replication_slots WHERE NOT temporary)",
                &[],
            )
            .await?;
        let (replicas, slots): (i64, i64) = (column(&row, 0)?, column(&row, 1)?);
        if replicas > 0 {
            outlook.findings.push(
                Finding::warning(
                    "cluster.has_replicas",
                    &self.name,
                    format!("{replicas} standby servers follow this one: they are ahead of what is restored and must be built anew"),
                )
                .hint("stop what would promote one of them until the run is confirmed"),
            );
        }
        if slots > 0 {
            outlook.findings.push(Finding::warning(
                "cluster.slots",
                &self.name,
                format!("{slots} replication slots are not in a base backup and will be gone"),
            ));
        }
        Ok(())
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
