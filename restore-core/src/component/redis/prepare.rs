//! Preparing what is staged, where it is staged: the files that the live server will load, proven
//! by a server over exactly these files.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::client::Module;
use super::data::{HEADER, Header, Kind, Layout, Mode};
use super::rewind::{self, Rewind, Way};
use super::scratch::{Ground, Loaded, Setup};
use super::{aof, blocking, errand, log};
use crate::component::ErrandAlong;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Progress;
use crate::finding::Finding;
use crate::platform::Volume;
use crate::run::RunId;
use crate::stream::{Source, UnpackPolicy};

/// Where an AOF is unpacked and turned into an RDB, inside the staging folder.
const WORK: &str = ".restore-work";

/// What to prepare, of what, for which server.
#[derive(Serialize, Deserialize)]
pub(super) struct Preparation {
    pub(super) run: RunId,
    /// The artifact's name in the backup.
    pub(super) label: String,
    pub(super) kind: Kind,
    /// The artifact's bytes.
    pub(super) size: Option<u64>,
    /// Whether a hash says that it is as it was written.
    pub(super) hashed: bool,
    /// What the live server loads.
    pub(super) layout: Layout,
    /// The server's program, and its version.
    pub(super) binary: String,
    pub(super) version: String,
    pub(super) databases: u64,
    /// Their arguments may be secrets.
    pub(super) modules: Vec<Module>,
    /// Who the server runs as; unknown: who owns the volume.
    pub(super) owner: Option<(u32, u32)>,
    /// How long loading may take.
    pub(super) timeout: Duration,
    /// Along the live append-only file to a moment, instead of the artifact.
    pub(super) rewind: Option<Rewind>,
}

/// What was prepared.
#[derive(Serialize, Deserialize)]
pub(super) struct Prepared {
    pub(super) loaded: Loaded,
    /// What the data takes on disk.
    pub(super) bytes: u64,
    pub(super) findings: Vec<Finding>,
}

/// What preparing works with.
struct Job<'a> {
    root: &'a Path,
    dir: &'a Path,
    order: &'a Preparation,
    setup: &'a Setup<'a>,
    along: ErrandAlong<'a>,
    findings: Vec<Finding>,
}

/// Stages into a new staging folder of the run. After an error something may be left there.
pub(super) async fn prepare(
    volume: &dyn Volume,
    root: &Path,
    ground: Ground<'_>,
    mut order: Preparation,
    along: ErrandAlong<'_>,
) -> Result<Prepared> {
    let dir = volume.stage_dir(&order.run).await?;
    let _held = errand::hold(&root.join(order.run.folder()))?;
    if order.owner.is_none() {
        order.owner = root.metadata().ok().map(|meta| (meta.uid(), meta.gid()));
    }
    let setup = Setup {
        ground,
        binary: &order.binary,
        version: &order.version,
        databases: order.databases,
        modules: &order.modules,
        owner: order.owner,
        timeout: order.timeout,
        label: &order.label,
    };
    let job = Job {
        root,
        dir: &dir,
        order: &order,
        setup: &setup,
        along,
        findings: Vec::new(),
    };
    job.run().await
}

impl Job<'_> {
    /// Lets the server's user into the staging folder, which is below the volume.
    async fn let_in(&self) -> Result<()> {
        let Some((uid, gid)) = self.setup.owner else {
            return Ok(());
        };
        let (root, dir) = (self.root.to_owned(), self.dir.to_owned());
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

    async fn run(mut self) -> Result<Prepared> {
        self.let_in().await?;
        let layout = &self.order.layout;
        let rdb = self.dir.join(&layout.dbfilename);
        let converted = match (self.way().await?, self.order.kind) {
            (Some(way), _) => Some(self.convert_live(way).await?),
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
        if layout.mode != Mode::Off {
            self.lay_out_aof().await?;
        }
        self.sync().await?;
        let mut loaded = Loaded::default();
        for on in Setup::modes(layout) {
            let progress = self.progress("load", Some(size));
            let proof = self.setup.prove(self.dir, layout, *on, &progress);
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
                    self.order.label,
                    lasting(converted),
                    lasting(&loaded)
                ),
            )
            .hint("try again; if it stays so, restore another backup; live data is untouched"));
        }
        Ok(Prepared {
            loaded,
            bytes: size,
            findings: self.findings,
        })
    }

    fn progress(&self, action: &str, total: Option<u64>) -> Progress {
        (self.along.steps)(action, total)
    }

    /// The artifact, to be read once.
    fn source(&self) -> Result<Source> {
        let source = self.along.source.clone().ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "redis.errand",
                format!("{} did not come along", self.order.label),
            )
        })?;
        Ok(source.cancelled_by(self.along.cancel.clone()))
    }

    /// The way to the moment that the run goes back to. What the plan promised may not be there
    /// any more: the live file was rewritten since.
    async fn way(&self) -> Result<Option<Way>> {
        let Some(rewind) = &self.order.rewind else {
            return Ok(None);
        };
        let way = rewind::find(self.root, &self.order.layout, rewind.clone()).await?;
        if way.is_some() || rewind.or_else_the_backup {
            return Ok(way);
        }
        Err(Error::new(
            ErrorKind::Failed,
            "redis.no_way",
            format!(
                "the live append-only file does not lead back to {} any more, and {} is of another time",
                rewind.time.precise(),
                self.order.label
            ),
        )
        .hint("make a new plan; --allow-time-gap takes the backup's data"))
    }

    /// Copies the artifact to `target`, verified, and refuses it by its first bytes.
    async fn copy(&self, target: &Path) -> Result<()> {
        let source = self.source()?;
        let progress = self.progress("stage", source.size());
        crate::stream::copy_verified(source, target, 0o640, self.setup.owner, progress).await?;
        let (target, kind, label) = (target.to_owned(), self.order.kind, self.order.label.clone());
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

    /// The live append-only file, cut at the target.
    async fn convert_live(&mut self, way: Way) -> Result<Loaded> {
        let layout = Layout {
            appendfilename: self.order.layout.appendfilename.clone(),
            appenddirname: self.order.layout.appenddirname.clone(),
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
        let source = self.source()?;
        let progress = self.progress("unpack", source.size());
        let policy = UnpackPolicy {
            live_root: work.clone(),
            chown: self.setup.owner,
            owner: self.setup.owner,
            ..UnpackPolicy::default()
        };
        crate::stream::unpack(source, &work, &policy, progress).await?;
        let (root, label) = (work, self.order.label.clone());
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
        let setup = self.setup;
        let progress = self.progress("replay", self.order.size);
        let first = self
            .stoppable(setup.convert(work, &layout, false, &progress))
            .await;
        let loaded = match first {
            Err(e) if e.code() == log::TRUNCATED => {
                // A copy of a file that was being written ends like this, and its hash says that
                // it is this copy; without a hash it may as well have been cut later.
                if !self.order.hashed {
                    return Err(e);
                }
                self.findings.push(Finding::warning(
                    log::TRUNCATED,
                    &self.order.label,
                    "the append-only file ends in the middle of a command, as one copied from a server at work does: that last command is left out",
                ));
                self.stoppable(setup.convert(work, &layout, true, &progress))
                    .await?
            }
            other => other?,
        };
        let made = work.join(&layout.dbfilename);
        let target = self.dir.join(&self.order.layout.dbfilename);
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
        let rdb = self.dir.join(&self.order.layout.dbfilename);
        let dir = self.dir.join(&self.order.layout.appenddirname);
        self.make_dir(&dir).await?;
        let base = dir.join(self.order.layout.base());
        let must_stay = self.order.layout.mode == Mode::Unknown;
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
        self.own(&dir.join(self.order.layout.base())).await?;
        self.write(
            &dir.join(self.order.layout.manifest()),
            self.order.layout.manifest_text(),
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
            () = self.along.cancel.cancelled() => Err(Error::interrupted()),
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
