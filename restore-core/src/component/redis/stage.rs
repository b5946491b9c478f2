//! From a file of the backup to files that the live server will load.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use deadpool_redis::redis::ConnectionAddr;

use super::client::{Client, Login};
use super::data::{self, Chosen, HEADER, Header, Kind, Layout, Mode};
use super::record::{Record, keep};
use super::rewind::Way;
use super::scratch::{Loaded, Setup, binary_version};
use super::{Redis, aof, blocking, holders, live::Live, log, moment};
use crate::component::Staged;
use crate::error::{Error, ErrorKind, Result};
use crate::finding::Finding;
use crate::platform::{Discard, Volume};
use crate::run::RunContext;
use crate::stream::UnpackPolicy;
use crate::target::RecoveryTarget;

/// Where an AOF is unpacked and turned into an RDB, inside the staging folder.
const WORK: &str = ".restore-work";

/// What staging works with.
struct Job<'a> {
    cx: &'a RunContext,
    dir: &'a Path,
    layout: &'a Layout,
    chosen: &'a Chosen,
    setup: &'a Setup<'a>,
    findings: Vec<Finding>,
}

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
        let dir = volume.stage_dir(cx.run()).await?;
        let owner = match (platform.owner(service).await?, volume.path()) {
            (None, Some(path)) => path.metadata().ok().map(|meta| (meta.uid(), meta.gid())),
            (owner, _) => owner,
        };
        let setup = Setup {
            platform,
            service,
            binary: &self.section.server_binary,
            version: &version,
            databases: live.databases,
            modules: &live.modules,
            owner,
            timeout: self.section.load_timeout.0,
            label: &chosen.path,
        };
        let mut job = Job {
            cx,
            dir: &dir,
            layout: &live.layout,
            chosen: &chosen,
            setup: &setup,
            findings: Vec::new(),
        };
        let done = async {
            job.let_in(volume.as_ref()).await?;
            let way = self.way(cx, &live, volume.as_ref()).await?;
            if way.is_none() && cx.target().is_some() && !cx.allows_time_gap() {
                job.is_of_the_target().await?;
            }
            job.run(&live, way).await
        }
        .await;
        if done.is_err() {
            // What cannot be removed now, `discard` finds.
            let _ = volume.discard(cx.run(), Discard::Staged).await;
        }
        done
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

    /// Ends scratch servers of this run that a killed process left behind.
    pub(super) async fn end_leftovers(&self, cx: &RunContext, volume: &dyn Volume) -> Result<()> {
        let Some(path) = volume.path() else {
            return Ok(());
        };
        let folder = path.join(cx.run().folder());
        let left = blocking(move || Ok(holders::scratch_servers_below(&folder))).await?;
        for (pid, socket) in left {
            let addr = ConnectionAddr::Unix(socket.clone());
            let what = format!("a leftover scratch server (process {pid})");
            let client = Client::new(addr, &Login::default(), what, Duration::from_secs(5))?;
            client.shutdown().await;
            let deadline = Instant::now() + Duration::from_secs(10);
            while socket.exists() {
                if Instant::now() > deadline {
                    return Err(Error::new(
                        ErrorKind::Failed,
                        "redis.leftover",
                        format!("{} does not end", client.what()),
                    )
                    .hint(format!("end it by hand (kill {pid}), then try again")));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }
}

impl Job<'_> {
    /// Lets the server's user into the staging folder, which is below the volume.
    async fn let_in(&self, volume: &dyn Volume) -> Result<()> {
        let (Some((uid, gid)), Some(root)) = (self.setup.owner, volume.path()) else {
            return Ok(());
        };
        let dir = self.dir.to_owned();
        blocking(move || {
            for dir in dir
                .ancestors()
                .take_while(|dir| dir.starts_with(&root) && *dir != root)
            {
                std::os::unix::fs::chown(dir, Some(uid), Some(gid))
                    .map_err(|e| Error::io(format!("give {} its owner", dir.display()), e))?;
            }
            Ok(())
        })
        .await
    }

    async fn run(&mut self, live: &Live, way: Option<Way>) -> Result<Staged> {
        let rdb = self.dir.join(&self.layout.dbfilename);
        let converted = match (way, self.chosen.kind) {
            (Some(way), _) => Some(self.convert_live(way, live).await?),
            (None, Kind::Rdb) => {
                self.copy(&rdb).await?;
                None
            }
            (None, Kind::Aof) => Some(self.convert_aof().await?),
            (None, Kind::AofDir) => Some(self.convert_aof_dir().await?),
        };
        let size = tokio::fs::metadata(&rdb)
            .await
            .map_err(|e| Error::io(format!("look at {}", rdb.display()), e))?
            .len();
        if self.layout.mode != Mode::Off {
            self.lay_out_aof().await?;
        }
        self.sync().await?;
        let mut loaded = Loaded::default();
        for on in Setup::modes(self.layout) {
            let progress = self.cx.progress("load", Some(size));
            let proof = self.setup.prove(self.dir, self.layout, *on, &progress);
            loaded = self.stoppable(proof).await?;
        }
        self.sync().await?;
        if let Some(converted) = &converted
            && lasting(converted) != lasting(&loaded)
        {
            return Err(Error::new(
                ErrorKind::Failed,
                "redis.conversion",
                format!(
                    "{}: {:?} keys were loaded, but the RDB made of them has {:?}",
                    self.chosen.path,
                    lasting(converted),
                    lasting(&loaded)
                ),
            )
            .hint("try again; if it stays so, restore another backup; live data is untouched"));
        }
        let record = Record::of(self.layout, &loaded);
        self.notice(live, &record, &loaded);
        keep(self.cx, &record).await?;
        Ok(Staged {
            bytes: size,
            facts: record.facts(self.setup.version),
            findings: std::mem::take(&mut self.findings),
        })
    }

    fn notice(&mut self, live: &Live, record: &Record, loaded: &Loaded) {
        self.findings.extend(self.chosen.finding.clone());
        let name = self.chosen.path.as_str();
        if record.total() == 0 {
            self.findings.push(Finding::warning(
                "redis.no_keys",
                name,
                "the backup holds no key at all (or only such that have expired): the server will be empty",
            ));
        }
        if let Some(limit) = live
            .maxmemory
            .filter(|limit| (1..loaded.memory).contains(limit))
        {
            self.findings.push(
                Finding::warning(
                    "redis.maxmemory",
                    name,
                    format!("the data takes {} bytes, the server's maxmemory is {limit}: it will evict keys, or refuse writes", loaded.memory),
                )
                .hint("raise maxmemory first"),
            );
        }
    }

    /// Copies the artifact to `target`, verified, and refuses it by its first bytes.
    async fn copy(&self, target: &Path) -> Result<()> {
        let source = self.cx.source(&self.chosen.path)?;
        let progress = self.cx.progress("stage", source.size());
        crate::stream::copy_verified(source, target, 0o640, self.setup.owner, progress).await?;
        let (target, kind, label) = (
            target.to_owned(),
            self.chosen.kind,
            self.chosen.path.clone(),
        );
        blocking(move || {
            use std::io::Read;
            let mut bytes = Vec::new();
            std::fs::File::open(&target)
                .and_then(|file| file.take(HEADER as u64).read_to_end(&mut bytes))
                .map_err(|e| Error::io(format!("read {}", target.display()), e))?;
            Header::of(&bytes).expect(kind, &label)
        })
        .await
    }

    /// What the plan promised may not be there any more: the live file was rewritten since.
    async fn is_of_the_target(&self) -> Result<()> {
        let Some(time) = self.cx.target().and_then(RecoveryTarget::time) else {
            return Ok(());
        };
        let moment = moment::of(self.cx, self.chosen).await?;
        if moment.is_some_and(|moment| moment.since(time).max(time.since(moment)).as_secs() == 0) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Failed,
            "redis.no_way",
            format!(
                "the live append-only file does not lead back to {} any more, and {} is of another time",
                time.precise(),
                self.chosen.path
            ),
        )
        .hint("make a new plan; --allow-time-gap takes the backup's data"))
    }

    /// The live append-only file, cut at the target.
    async fn convert_live(&mut self, way: Way, live: &Live) -> Result<Loaded> {
        let layout = Layout {
            appendfilename: live.layout.appendfilename.clone(),
            appenddirname: live.layout.appenddirname.clone(),
            ..Layout::default()
        };
        let work = self.dir.join(WORK);
        self.make_dir(&work).await?;
        self.make_dir(&work.join(&layout.appenddirname)).await?;
        for file in way.copy(&work, &layout).await? {
            self.own(&file).await?;
        }
        self.convert(&work, layout).await
    }

    /// A single-file AOF becomes the base of a multi-part one, which the scratch server loads.
    async fn convert_aof(&mut self) -> Result<Loaded> {
        let layout = Layout::default();
        let work = self.dir.join(WORK);
        let dir = work.join(&layout.appenddirname);
        self.make_dir(&work).await?;
        self.make_dir(&dir).await?;
        self.copy(&dir.join(layout.base())).await?;
        self.write(&dir.join(layout.manifest()), layout.manifest_text())
            .await?;
        self.convert(&work, layout).await
    }

    async fn convert_aof_dir(&mut self) -> Result<Loaded> {
        let work = self.dir.join(WORK);
        self.make_dir(&work).await?;
        let source = self.cx.source(&self.chosen.path)?;
        let progress = self.cx.progress("unpack", source.size());
        let policy = UnpackPolicy {
            live_root: work.clone(),
            chown: self.setup.owner,
            owner: self.setup.owner,
            ..UnpackPolicy::default()
        };
        crate::stream::unpack(source, &work, &policy, progress).await?;
        let (root, label) = (work, self.chosen.path.clone());
        let set = blocking(move || aof::find_aof_set(&root, &label)).await?;
        let layout = Layout {
            appendfilename: set.filename,
            appenddirname: set.dirname,
            ..Layout::default()
        }
        .checked()?;
        self.convert(&set.parent, layout).await
    }

    /// Turns the AOF in `work` into the staged RDB and removes the work folder. Every source
    /// becomes an RDB: the server loads one many times faster than it replays commands, and
    /// that time is downtime.
    async fn convert(&mut self, work: &Path, layout: Layout) -> Result<Loaded> {
        let (cx, setup) = (self.cx, self.setup);
        let size = cx.backup().file(&self.chosen.path).map(|file| file.size);
        let progress = cx.progress("replay", size);
        let first = self
            .stoppable(setup.convert(work, &layout, false, &progress))
            .await;
        let loaded = match first {
            Err(e) if e.code() == log::TRUNCATED => {
                // A copy of a file that was being written ends like this, and its hash says that
                // it is this copy; without a hash it may as well have been cut later.
                if cx.backup().expected_digest(&self.chosen.path).is_none() {
                    return Err(e);
                }
                self.findings.push(Finding::warning(
                    log::TRUNCATED,
                    &self.chosen.path,
                    "the append-only file ends in the middle of a command, as one copied from a server at work does: that last command is left out",
                ));
                self.stoppable(setup.convert(work, &layout, true, &progress))
                    .await?
            }
            other => other?,
        };
        let made = work.join(&layout.dbfilename);
        let target = self.dir.join(&self.layout.dbfilename);
        let all = self.dir.join(WORK);
        blocking(move || {
            std::fs::rename(&made, &target)
                .map_err(|e| Error::io(format!("move {} into place", made.display()), e))?;
            std::fs::remove_dir_all(&all)
                .map_err(|e| Error::io(format!("remove {}", all.display()), e))
        })
        .await?;
        Ok(loaded)
    }

    /// With `appendonly yes` a server looks at nothing but its `appendonlydir`: the RDB becomes
    /// the base file there. It also stays what it is, by a hard link: whoever turns the AOF off
    /// later finds the restored data instead of none, and never what was there before.
    async fn lay_out_aof(&self) -> Result<()> {
        let rdb = self.dir.join(&self.layout.dbfilename);
        let dir = self.dir.join(&self.layout.appenddirname);
        self.make_dir(&dir).await?;
        let base = dir.join(self.layout.base());
        let must_stay = self.layout.mode == Mode::Unknown;
        blocking(move || {
            // Redis never writes into either file again: it writes new ones and renames them.
            std::fs::hard_link(&rdb, &base)
                .or_else(|e| match e.kind() {
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::StorageFull => Err(e),
                    _ if must_stay => std::fs::copy(&rdb, &base).map(drop),
                    _ => std::fs::rename(&rdb, &base),
                })
                .map_err(|e| Error::io(format!("make {}", base.display()), e))
        })
        .await?;
        self.own(&dir.join(self.layout.base())).await?;
        self.write(
            &dir.join(self.layout.manifest()),
            self.layout.manifest_text(),
        )
        .await
    }

    async fn make_dir(&self, dir: &Path) -> Result<()> {
        tokio::fs::DirBuilder::new()
            .mode(0o750)
            .create(dir)
            .await
            .map_err(|e| Error::io(format!("make {}", dir.display()), e))?;
        self.own(dir).await
    }

    async fn write(&self, path: &Path, text: String) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let failed = |e| Error::io(format!("write {}", path.display()), e);
        tokio::fs::write(path, text).await.map_err(failed)?;
        tokio::fs::set_permissions(path, std::fs::Permissions::from_mode(0o640))
            .await
            .map_err(failed)?;
        self.own(path).await
    }

    async fn own(&self, path: &Path) -> Result<()> {
        let Some((uid, gid)) = self.setup.owner else {
            return Ok(());
        };
        let path = path.to_owned();
        blocking(move || {
            std::os::unix::fs::chown(&path, Some(uid), Some(gid))
                .map_err(|e| Error::io(format!("give {} its owner", path.display()), e))
        })
        .await
    }

    /// Makes everything staged durable.
    async fn sync(&self) -> Result<()> {
        let dir = self.dir.to_owned();
        blocking(move || sync_tree(&dir)).await
    }

    /// Waits for `work`, but not once the run is to stop: dropping it kills its scratch server.
    async fn stoppable<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.cx.cancelled().cancelled() => Err(Error::interrupted()),
            done = work => done,
        }
    }
}

fn sync_tree(path: &Path) -> Result<()> {
    let failed = |e| Error::io(format!("sync {}", path.display()), e);
    if path.is_dir() {
        for entry in std::fs::read_dir(path).map_err(failed)? {
            sync_tree(&entry.map_err(failed)?.path())?;
        }
    }
    std::fs::File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(failed)
}

/// The keys of each database that never expire: the same whenever one file is loaded.
fn lasting(loaded: &Loaded) -> BTreeMap<u32, u64> {
    loaded
        .keys
        .iter()
        .map(|(database, keys)| (*database, keys.keys.saturating_sub(keys.expires)))
        .filter(|(_, keys)| *keys > 0)
        .collect()
}
