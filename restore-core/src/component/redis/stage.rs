//! From a file of the backup to files that the live server will load.

use super::data::{self, Chosen, Mode};
use super::errand::Order;
use super::prepare::{Preparation, Prepared};
use super::record::{Record, keep};
use super::rewind::Rewind;
use super::scratch::{Loaded, binary_version};
use super::{Redis, live::Live, moment};
use crate::component::Staged;
use crate::error::{Error, ErrorKind, Result};
use crate::finding::Finding;
use crate::platform::Discard;
use crate::run::RunContext;
use crate::target::RecoveryTarget;

impl Redis {
    pub(super) async fn stage_all(&self, cx: &RunContext) -> Result<Staged> {
        let chosen = self.chosen(cx.backup())?;
        let volume = self.volume().await?;
        self.end_leftovers(cx, volume.as_ref()).await?;
        let live = self.look(volume.as_ref()).await?;
        let service = self.section.service.as_str();
        let platform = self.platform.as_ref();
        let version = binary_version(platform, service, &self.section.server_binary).await?;
        self.supported(&live, &version)?;
        let preparation = Preparation {
            run: cx.run().clone(),
            label: chosen.path.clone(),
            kind: chosen.kind,
            size: cx.backup().file(&chosen.path).map(|file| file.size),
            hashed: cx.backup().expected_digest(&chosen.path).is_some(),
            layout: live.layout.clone(),
            binary: self.section.server_binary.clone(),
            version: version.clone(),
            databases: live.databases,
            modules: live.modules.clone(),
            owner: platform.owner(service).await?,
            timeout: self.section.load_timeout.0,
            rewind: self.rewind(cx, &live, &chosen).await?,
        };
        let source = cx.source(&chosen.path)?;
        let order = Order::Prepare(Box::new(preparation));
        let prepared: Result<Prepared> = self.ask_for(cx, volume.as_ref(), order, source).await;
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(e) => {
                // Whoever worked elsewhere may not have heard that nobody waits any more. What
                // cannot be removed now, `discard` finds.
                if volume.path().is_none() {
                    let _ = self.end_leftovers(cx, volume.as_ref()).await;
                }
                let _ = volume.discard(cx.run(), Discard::Staged).await;
                return Err(e);
            }
        };
        let loaded = prepared.loaded;
        let record = Record::of(&live.layout, &loaded);
        let mut findings = prepared.findings;
        findings.extend(notices(&chosen, &live, &record, &loaded));
        keep(cx, &record).await?;
        Ok(Staged {
            bytes: prepared.bytes,
            facts: record.facts(&version),
            findings,
        })
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

    /// What the way back along the live append-only file takes, where the run has a moment to go
    /// back to.
    pub(super) async fn rewind(
        &self,
        cx: &RunContext,
        live: &Live,
        chosen: &Chosen,
    ) -> Result<Option<Rewind>> {
        let Some(time) = cx.target().and_then(RecoveryTarget::time) else {
            return Ok(None);
        };
        let of_that_time = match cx.allows_time_gap() {
            true => true,
            false => {
                let moment = moment::of(cx, chosen).await?;
                moment.is_some_and(|it| it.since(time).max(time.since(it)).as_secs() == 0)
            }
        };
        Ok(Some(Rewind {
            time,
            timestamps: live.timestamps,
            or_else_the_backup: of_that_time,
        }))
    }
}

/// What the report must say.
fn notices(chosen: &Chosen, live: &Live, record: &Record, loaded: &Loaded) -> Vec<Finding> {
    let mut findings: Vec<Finding> = chosen.finding.iter().cloned().collect();
    let name = chosen.path.as_str();
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
                format!("the data takes {} bytes, the server's maxmemory is {limit}: it will evict keys, or refuse writes", loaded.memory),
            )
            .hint("raise maxmemory first"),
        );
    }
    findings
}
