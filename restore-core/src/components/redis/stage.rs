//! From a file of the backup to files that the live server will load.

use std::time::Duration;

use super::data::{Chosen, Kind, Mode};
use super::live::Live;
use super::prepare::{Preparation, Prepared};
use super::record::{StagedRecord, keep};
use super::remote_task::Order;
use super::rewind::AofRecovery;
use super::scratch::{Loaded, ScratchHost, server_program};
use super::{Redis, data, rdb_timestamp};
use crate::components::far_less::{FEW, far_less};
use crate::components::{archive, place};
use crate::contract::{NeedsAWord, RunContext, Staged, Volume};
use crate::model::text::bytes;
use crate::model::{Error, ErrorKind, Finding, RecoveryTarget, Result};
use crate::swap::scope::Discard;

/// How long cleaning up after a failure may take.
const CLEANING: Duration = Duration::from_secs(30);

impl Redis {
    pub(super) async fn stage_all(&self, cx: &RunContext) -> Result<Staged> {
        let chosen = self.chosen(cx.backup())?;
        place::ensure_ours(cx).await?;
        let volume = self.volume().await?;
        self.end_leftovers(cx, volume.as_ref()).await?;
        let live = self.look(volume.as_ref()).await?;
        let service = self.section.service.as_str();
        let platform = self.platform.as_ref();
        let (binary, version) = server_program(
            ScratchHost::Service(platform, service),
            self.section.server_binary.as_deref(),
            live.product(),
        )
        .await?;
        self.supported(&live, &version)?;
        let rewind = match self.way(cx, &live, volume.as_ref()).await? {
            Some((rewind, _)) => Some(rewind),
            None => {
                self.is_of_the_target(cx, &chosen).await?;
                None
            }
        };
        // Along the live file it is the server's own data.
        let limit = match rewind {
            Some(_) => None,
            None => {
                let of = (chosen.path.as_str(), self.section.max_bytes);
                Some(archive::file_limit(cx, &self.name, of).await)
            }
        };
        let (modules, left_out) = self.loadable(&live.modules).await;
        let preparation = Preparation {
            run: cx.run().clone(),
            label: chosen.path.clone(),
            kind: chosen.kind,
            size: cx.backup().file(&chosen.path).map(|file| file.size),
            hashed: cx.backup().expected_digest(&chosen.path).is_some(),
            layout: live.layout.clone(),
            binary,
            version: version.clone(),
            databases: live.databases,
            modules,
            owner: platform.owner(service).await?,
            timeout: self.section.load_timeout.0,
            rewind,
            limit,
        };
        let source = match rewind {
            Some(_) => None,
            None => Some(cx.source(&chosen.path)?),
        };
        let staged = async {
            let order = Order::Prepare(Box::new(preparation));
            let prepared: Prepared = self.ask_for(cx, volume.as_ref(), order, source).await?;
            let record = StagedRecord::of(&live.layout, &prepared.loaded);
            self.allow_empty(cx, &live, &record, &chosen)?;
            let mut findings = prepared.findings;
            findings.extend(notices(&chosen, &live, &record, &prepared.loaded));
            findings.extend(left_out);
            keep(cx, &record).await?;
            Ok(Staged {
                bytes: prepared.bytes,
                facts: record.facts(&version),
                findings,
            })
        };
        let staged = staged.await;
        if staged.is_err() {
            // What cannot be removed now, a later `discard` does: the reason matters more.
            let clean = self.clean(cx, volume.as_ref());
            let _ = tokio::time::timeout(CLEANING, clean).await;
        }
        staged
    }

    /// Refuses to put nothing in the place of what is live, unless somebody said so.
    fn allow_empty(
        &self,
        cx: &RunContext,
        live: &Live,
        record: &StagedRecord,
        chosen: &Chosen,
    ) -> Result<()> {
        let there = live.keys();
        if record.total() > 0 || there == 0 || cx.allows_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Preflight,
            "redis.no_keys",
            format!(
                "{} holds no key at all (or only such that have expired), and the server has {there}",
                chosen.path
            ),
        )
        .because(NeedsAWord)
        .hint(format!(
            "choose another backup; --allow-empty {} puts it in the place of the live keys",
            self.name
        )))
    }

    async fn clean(&self, cx: &RunContext, volume: &dyn Volume) -> Result<()> {
        // Whoever works elsewhere may not have heard that nobody waits any more.
        if volume.path().is_none() {
            self.end_leftovers(cx, volume).await?;
        }
        volume.discard(cx.run(), Discard::Staged).await
    }

    /// Refuses what a server of this version cannot have.
    fn supported(&self, live: &Live, binary: &str) -> Result<()> {
        let version = live.version().unwrap_or(binary);
        let old = data::major_minor(version).is_some_and(|version| version < (7, 0));
        if old && live.layout.mode != Mode::Off {
            return Err(Error::new(
                ErrorKind::Preflight,
                "redis.old_server",
                format!("the server is Redis {version} and may use an append-only file: that is supported from Redis 7 on"),
            )
            .hint("set appendonly no in the server and appendonly = false in the component's section, or upgrade the server"));
        }
        Ok(())
    }

    /// The way to the run's target along the live append-only file, and its bytes.
    pub(super) async fn way(
        &self,
        cx: &RunContext,
        live: &Live,
        volume: &dyn Volume,
    ) -> Result<Option<(AofRecovery, u64)>> {
        let Some(time) = cx.target().and_then(RecoveryTarget::time) else {
            return Ok(None);
        };
        let rewind = AofRecovery {
            time,
            timestamps: live.timestamps,
        };
        let layout = live.layout.clone();
        let bytes: Option<u64> = self.ask(volume, Order::Measure { layout, rewind }).await?;
        Ok(bytes.map(|bytes| (rewind, bytes)))
    }

    /// What the plan promised may not be there any more: the live file was rewritten since.
    async fn is_of_the_target(&self, cx: &RunContext, chosen: &Chosen) -> Result<()> {
        let Some(time) = cx.target().and_then(RecoveryTarget::time) else {
            return Ok(());
        };
        if cx.allows_time_gap() {
            return Ok(());
        }
        let moment = rdb_timestamp::of(cx, chosen).await?;
        if moment.is_some_and(|moment| moment.since(time).max(time.since(moment)).as_secs() == 0) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Failed,
            "redis.no_way",
            format!(
                "the live append-only file does not lead back to {} any more, and {} is of another time",
                time.precise(),
                chosen.path
            ),
        )
        .hint("make a new plan; --allow-time-gap takes the backup's data"))
    }
}

/// What the report must say.
fn notices(chosen: &Chosen, live: &Live, record: &StagedRecord, loaded: &Loaded) -> Vec<Finding> {
    let mut findings: Vec<Finding> = chosen.finding.iter().cloned().collect();
    let name = chosen.path.as_str();
    let there = live.keys();
    let is_less = far_less(record.total(), there, FEW);
    let expired = loaded.expired.filter(|expired| *expired > 0);
    if let (Kind::Rdb, Some(expired), Some(all)) = (chosen.kind, expired, loaded.rdb_keys) {
        let told = Finding::warning(
            "redis.keys_expired",
            name,
            format!("{expired} of its {all} keys have expired since, and are not restored"),
        );
        // Sessions of an old backup always have: that is a question only where far more is live.
        findings.push(match is_less && expired > all / 2 {
            true => told.asking(),
            false => told,
        });
    }
    if is_less && record.total() > 0 {
        let message = format!(
            "it holds {} keys that can be restored, and the server has {there}",
            record.total()
        );
        findings.push(Finding::warning("redis.far_fewer_keys", name, message).asking());
    }
    if record.total() == 0 {
        findings.push(Finding::warning(
            "redis.no_keys",
            name,
            "the backup holds no key at all (or only such that have expired): the server will be empty",
        ));
    }
    if let Some(limit) = live
        .maxmemory
        .filter(|limit| (1..loaded.memory).contains(limit))
    {
        findings.push(
            Finding::warning(
                "redis.maxmemory",
                name,
                format!(
                    "the data takes {}, the server's maxmemory is {}: it will evict keys, or refuse writes",
                    bytes(loaded.memory),
                    bytes(limit)
                ),
            )
            .hint("raise maxmemory first"),
        );
    }
    findings
}
