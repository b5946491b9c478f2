//! What speaks for and against restoring, found without writing.

use serde_json::{Map, Value, json};
use tokio::io::AsyncReadExt;

use super::data::{Chosen, HEADER, Header, Kind, Mode};
use super::live::Live;
use super::scratch::{ScratchHost, server_program};
use super::{Redis, data, rdb_timestamp};
use crate::components::not_there::planned_volume;
use crate::contract::{Inspection, RunContext, SpaceNeed};
use crate::model::{Error, Finding, RecoveryTarget, Result};
use crate::swap::scope::SwapState;

impl Redis {
    pub(super) async fn inspect_all(&self, cx: &RunContext) -> Result<Inspection> {
        let mut planned = Inspection::default();
        let (platform, name) = (self.platform.as_ref(), &self.section.volume);
        let volume = planned_volume(cx, platform, name, &mut planned).await?;
        let live = self.look(volume.as_ref()).await?;
        let mut inspection = Inspection {
            staged_at: match volume.path() {
                Some(path) => path.join(cx.run().folder()).display().to_string(),
                None => format!("{}, in {}", volume.describe(), cx.run().folder()),
            },
            facts: facts(&live),
            findings: live.findings.clone(),
            ..planned
        };
        inspection
            .findings
            .extend(self.directory(&live, volume.as_ref()).await?);
        inspection.findings.extend(self.binary(&live).await);
        inspection
            .findings
            .extend(self.loadable(&live.modules).await.1);
        let could_start = self.could_start(&live, volume.as_ref()).await;
        inspection.findings.extend(could_start);
        if volume.state(cx.run()).await? != SwapState::Nothing {
            inspection.findings.push(Finding::info(
                "redis.staged_before",
                &self.name,
                "an earlier attempt of this run has left staged data; it will be replaced",
            ));
        }
        let chosen = match self.chosen(cx.backup()) {
            Ok(chosen) => chosen,
            Err(e) => {
                inspection.summary = "nothing to restore from".to_owned();
                inspection
                    .findings
                    .push(Finding::from_error(&self.name, &e));
                return Ok(inspection);
            }
        };
        let size = cx.backup().file(&chosen.path).map_or(0, |file| file.size);
        inspection.findings.extend(chosen.finding.clone());
        inspection
            .findings
            .extend(header(cx, &chosen, &live).await?);
        let way = self.way(cx, &live, volume.as_ref()).await?;
        let moment = match (&way, cx.target().and_then(RecoveryTarget::time)) {
            (Some((_, bytes)), Some(time)) => {
                inspection.findings.push(Finding::info(
                    "redis.rewound",
                    &self.name,
                    format!(
                        "its live append-only file carries timestamps: it is taken back along that to {}, not to the backup's copy ({bytes} bytes to replay)",
                        time.precise()
                    ),
                ));
                Some(time)
            }
            (None, Some(_)) if live.timestamps == Some(false) && live.layout.mode != Mode::Off => {
                inspection.findings.push(
                    Finding::info(
                        "redis.timestamps_off",
                        &self.name,
                        "its append-only file carries no timestamps (any more): when what is in it was written is not known",
                    )
                    .hint("CONFIG SET aof-timestamp-enabled yes, and in redis.conf, for the next time"),
                );
                rdb_timestamp::of(cx, &chosen).await?
            }
            _ => rdb_timestamp::of(cx, &chosen).await?,
        };
        if let Some(moment) = moment {
            let moment = json!(moment.precise());
            inspection.facts.insert("moment".to_owned(), moment);
        }
        let rewound = way.map_or(0, |(_, bytes)| bytes);
        inspection.needs.push(SpaceNeed {
            space: volume.free_space().await?,
            bytes: match chosen.kind {
                Kind::Rdb => size,
                // The file, and the RDB that is made of it, which is hardly ever larger.
                Kind::Aof => size.saturating_mul(2),
                // Commands shrink to an eighth or so when packed; then as above.
                Kind::AofDir => size.saturating_mul(16),
            }
            .saturating_add(rewound.saturating_mul(2))
            .saturating_add(1 << 20),
            inodes: 16,
        });
        inspection.read_bytes = size;
        inspection.summary = format!(
            "the data of {} ({})",
            self.section.service,
            match live.layout.mode {
                Mode::On => "loaded as its append-only file",
                Mode::Off => "loaded as its RDB",
                Mode::Unknown => "for a start with or without append-only file",
            }
        );
        inspection.artifacts = vec![chosen.path];
        Ok(inspection)
    }

    /// The scratch server must be what the live one will be after its restart.
    async fn binary(&self, live: &Live) -> Option<Finding> {
        let named = self.section.server_binary.as_deref();
        let ground = ScratchHost::Service(self.platform.as_ref(), &self.section.service);
        let (binary, version) = match server_program(ground, named, live.product()).await {
            Ok(program) => program,
            Err(e) => return Some(Finding::from_error(&self.name, &e)),
        };
        let (product, running) = live.own_version()?;
        (data::major_minor(running) != data::major_minor(&version)).then(|| {
            Finding::warning(
                "redis.binary_differs",
                &self.name,
                format!("the server runs {product} {running}, but staged data is proven with {binary} {version}"),
            )
            .hint("name the server's own program with server_binary")
        })
    }
}

/// Reads the first bytes of the artifact: what it is, and whether the server reads its format.
async fn header(cx: &RunContext, chosen: &Chosen, live: &Live) -> Result<Option<Finding>> {
    let backup = cx.backup();
    let reader = backup.store().read(backup.id(), &chosen.path, 0).await?;
    let mut bytes = Vec::new();
    reader
        .take(HEADER as u64)
        .read_to_end(&mut bytes)
        .await
        .map_err(|e| Error::io(format!("read {}", chosen.path), e))?;
    // A packed one is judged when it is staged.
    if bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"\x28\xb5\x2f\xfd") {
        return Ok(None);
    }
    let header = Header::of(&bytes);
    if let Err(e) = header.expect(chosen.kind, &chosen.path) {
        return Ok(Some(Finding::from_error(&chosen.path, &e)));
    }
    let refused = live.product().and_then(|product| product.refuses(header));
    let Some((code, needed)) = refused else {
        return Ok(None);
    };
    let format = String::from_utf8_lossy(&bytes).into_owned();
    let server = match live.product() {
        Some(data::Product::Valkey(major, minor)) => format!("Valkey {major}.{minor}"),
        _ => format!("Redis {}", live.version().unwrap_or("?")),
    };
    Ok(Some(
        Finding::error(
            code,
            &chosen.path,
            format!("its RDB format ({format}) needs {needed}, and the server is {server}"),
        )
        .hint(format!(
            "restore it with {needed} as the server; or choose a backup that this one reads (`restore list`), or an AOF of it (prefer = \"aof\")"
        )),
    ))
}

pub(super) fn facts(live: &Live) -> Map<String, Value> {
    let mut facts = Map::new();
    let mut add = |key: &str, value: Value| facts.insert(key.to_owned(), value);
    let Some(info) = &live.info else {
        add("reachable", json!(false));
        return facts;
    };
    let keys = info.keyspace();
    let total: u64 = keys
        .values()
        .fold(0_u64, |sum, keys| sum.saturating_add(keys.keys));
    let of =
        |(database, keys): (&u32, &super::client::Keys)| (database.to_string(), json!(keys.keys));
    add("reachable", json!(true));
    add("version", json!(live.version()));
    add("total", json!(total));
    add("keys", Value::Object(keys.iter().map(of).collect()));
    add(
        "appendonly",
        match live.layout.mode {
            Mode::On => json!(true),
            Mode::Off => json!(false),
            Mode::Unknown => Value::Null,
        },
    );
    add("dir", json!(live.dir));
    add("dbfilename", json!(live.layout.dbfilename));
    add("appendfilename", json!(live.layout.appendfilename));
    add("appenddirname", json!(live.layout.appenddirname));
    add("maxmemory", json!(live.maxmemory));
    let modules: Vec<&str> = live
        .modules
        .iter()
        .map(|module| module.name.as_str())
        .collect();
    add("modules", json!(modules));
    facts
}
