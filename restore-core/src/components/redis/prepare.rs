//! Preparing what is staged, where it is staged: the files that the live server will load, proven
//! by a server over exactly these files.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::client::Module;
use super::data::{DataLayout, HEADER, Header, Kind, Mode};
use super::rewind::{AofPrefix, AofRecovery};
use super::scratch::{Loaded, ScratchHost, Setup, same_beside};
use super::{aof, blocking, log, remote_task, rewind};
use crate::archive::{Limit, RoomWatch, Source, UnpackPolicy};
use crate::components::remote_task::Attachments;
use crate::contract::Volume;
use crate::model::{Error, ErrorKind, Finding, Progress, Result, RunId};
use crate::swap::{Dir, StagingDir};

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
    pub(super) layout: DataLayout,
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
    pub(super) rewind: Option<AofRecovery>,
    /// What the artifact may unpack to, and take in a server's memory.
    #[serde(default)]
    pub(super) limit: Option<Limit>,
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
    /// Only what is prepared is in it, until a server was let in.
    dir: Dir,
    staging: &'a StagingDir,
    order: &'a Preparation,
    setup: &'a Setup<'a>,
    along: Attachments<'a>,
    findings: Vec<Finding>,
}

/// Stages into a new staging folder of the run. After an error something may be left there.
pub(super) async fn prepare(
    volume: &dyn Volume,
    root: &Path,
    ground: ScratchHost<'_>,
    mut order: Preparation,
    along: Attachments<'_>,
) -> Result<Prepared> {
    if let ScratchHost::Beside = ground {
        same_beside(&order.binary, &order.version).await?;
    }
    if let Some(folder) = remote_task::folder_of(root, &order.run)? {
        // Whoever still works there would do so in what is deleted now.
        drop(remote_task::hold(&folder)?);
    }
    volume.stage_dir(&order.run).await?;
    let staging = volume.staging_dir(&order.run).await?;
    let _held = remote_task::hold(&staging.folder()?)?;
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
        limit: order.limit.as_ref(),
        room: RoomWatch::of(root),
    };
    let job = Job {
        root,
        dir: staging.place()?,
        staging: &staging,
        order: &order,
        setup: &setup,
        along,
        findings: Vec::new(),
    };
    job.run().await
}

impl Job<'_> {
    async fn run(mut self) -> Result<Prepared> {
        let layout = &self.order.layout;
        let mode = self.staging.mode()?;
        let rdb = layout.dbfilename.as_str();
        let converted = match (self.way().await?, self.order.kind) {
            (Some(way), _) => Some(self.convert_live(way).await?),
            (None, Kind::Rdb) => {
                self.copy(&self.dir, rdb).await?;
                None
            }
            (None, Kind::Aof) => Some(self.convert_aof().await?),
            (None, Kind::AofDir) => Some(self.convert_aof_dir().await?),
        };
        // A file that the server's user has only moved there would become that user's.
        if let (Some((uid, _)), Some(entry)) = (self.setup.owner, self.dir.entry(Path::new(rdb))?)
            && entry.meta.uid != uid
        {
            return Err(Error::new(
                ErrorKind::Failed,
                "redis.not_its_own",
                format!(
                    "the RDB that was made of {} belongs to the user {}, and not to the server's",
                    self.order.label, entry.meta.uid
                ),
            )
            .hint("find out who meddles with the server's directory, then try again"));
        }
        self.dir.give(rdb, self.setup.owner, 0o640, 1)?;
        let size = self
            .dir
            .entry(Path::new(rdb))?
            .map_or(0, |entry| entry.size);
        if layout.mode != Mode::Off {
            self.lay_out_aof().await?;
        }
        self.sync().await?;
        self.staging.let_in(self.setup.owner, mode)?;
        let mut loaded = Loaded::default();
        for on in Setup::modes(layout) {
            let progress = self.progress("load", Some(size));
            let proof = self.setup.prove(&self.dir, layout, *on, &progress);
            loaded = self.stoppable(proof).await?;
        }
        self.staging.shut()?;
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
        let source = source.limited(self.order.limit.clone());
        Ok(source.cancelled_by(self.along.cancel.clone()))
    }

    /// The way to the moment that the run goes back to.
    async fn way(&self) -> Result<Option<AofPrefix>> {
        let Some(rewind) = self.order.rewind else {
            return Ok(None);
        };
        match rewind::find(self.root, &self.order.layout, rewind).await? {
            None => Err(rewind::changed()),
            way => Ok(way),
        }
    }

    /// Copies the artifact to the file `name` of a directory, verified, and refuses it by its first
    /// bytes.
    async fn copy(&self, dir: &Dir, name: &str) -> Result<()> {
        let source = self.source()?;
        let progress = self.progress("stage", source.size());
        let held = dir.again()?;
        let shown = held.path().to_owned();
        let to = (held.into_fd(), shown.as_path());
        let owned = (0o640, self.setup.owner);
        crate::archive::copy_verified_into(source, to, name, owned, progress).await?;
        let (dir, name) = (dir.again()?, name.to_owned());
        let (kind, label) = (self.order.kind, self.order.label.clone());
        blocking(move || {
            use std::io::Read;
            let mut bytes = Vec::new();
            crate::sys::open_file(dir.as_fd(), Path::new(&name))
                .and_then(|file| file.take(HEADER as u64).read_to_end(&mut bytes))
                .map_err(|e| Error::io(format!("read {}", dir.show(Path::new(&name))), e))?;
            Header::of(&bytes).expect(kind, &label)
        })
        .await
    }

    /// The live append-only file, cut at the target.
    async fn convert_live(&mut self, way: AofPrefix) -> Result<Loaded> {
        let layout = DataLayout {
            appendfilename: self.order.layout.appendfilename.clone(),
            appenddirname: self.order.layout.appenddirname.clone(),
            ..DataLayout::default()
        };
        let work = self.make_dir(&self.dir, WORK)?;
        let dir = self.make_dir(&work, &layout.appenddirname)?;
        way.copy(dir, &layout, self.setup.owner).await?;
        self.convert(work, layout).await
    }

    /// A single-file AOF becomes the base of a multi-part one, which the scratch server loads.
    async fn convert_aof(&mut self) -> Result<Loaded> {
        let layout = DataLayout::default();
        let work = self.make_dir(&self.dir, WORK)?;
        let dir = self.make_dir(&work, &layout.appenddirname)?;
        self.copy(&dir, &layout.base()).await?;
        let manifest = layout.manifest_text();
        dir.put(
            &layout.manifest(),
            manifest.as_bytes(),
            0o640,
            self.setup.owner,
        )?;
        self.convert(work, layout).await
    }

    async fn convert_aof_dir(&mut self) -> Result<Loaded> {
        let above = self.make_dir(&self.dir, WORK)?;
        // Also what was packed from inside of it is in a directory then.
        let inside = DataLayout::default().appenddirname;
        let work = self.make_dir(&above, &inside)?;
        let source = self.source()?;
        let progress = self.progress("unpack", source.size());
        let policy = UnpackPolicy {
            live_root: work.path().to_owned(),
            chown: self.setup.owner,
            owner: self.setup.owner,
            ..UnpackPolicy::default()
        };
        let held = work.again()?.into_fd();
        crate::archive::unpack_into(source, held, work.path(), &policy, progress).await?;
        let (held, label) = (above.again()?, self.order.label.clone());
        let set = blocking(move || {
            let here = PathBuf::from(format!("/proc/self/fd/{}", held.as_fd().as_raw_fd()));
            let mut set = aof::find_aof_set(&here, &label)?;
            set.parent = match set.parent.strip_prefix(&here) {
                Ok(below) => below.to_owned(),
                Err(_) => PathBuf::new(),
            };
            Ok(set)
        })
        .await?;
        let layout = DataLayout {
            appendfilename: set.filename,
            appenddirname: set.dirname,
            ..DataLayout::default()
        }
        .checked()?;
        let parent = above.sub(&set.parent)?.ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "redis.work_lost",
                format!("{} vanished", above.show(&set.parent)),
            )
        })?;
        self.convert(parent, layout).await
    }

    /// Turns the AOF in `work` into the staged RDB and removes the work folder. Every source
    /// becomes an RDB: the server loads one many times faster than it replays commands, and
    /// that time is downtime.
    async fn convert(&mut self, work: Dir, layout: DataLayout) -> Result<Loaded> {
        let setup = self.setup;
        // From here on whatever is in there is the server's user's.
        self.staging.let_through()?;
        let progress = self.progress("replay", self.order.size);
        let first = self
            .stoppable(setup.convert(&work, &layout, false, &progress))
            .await;
        let loaded = match first {
            Err(e) if e.is(&log::Ended::Truncated) => {
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
                self.stoppable(setup.convert(&work, &layout, true, &progress))
                    .await?
            }
            other => other?,
        };
        self.staging.shut()?;
        work.rename_to(&layout.dbfilename, &self.dir, &self.order.layout.dbfilename)?;
        let dir = self.dir.again()?;
        blocking(move || dir.remove_tree(WORK)).await?;
        Ok(loaded)
    }

    /// With `appendonly yes` a server looks at nothing but its `appendonlydir`: the RDB becomes
    /// the base file there. It also stays what it is, by a hard link: whoever turns the AOF off
    /// later finds the restored data instead of none, and never what was there before.
    async fn lay_out_aof(&self) -> Result<()> {
        let layout = &self.order.layout;
        let dir = self.make_dir(&self.dir, &layout.appenddirname)?;
        let (top, held) = (self.dir.again()?, dir.again()?);
        let (rdb, base) = (layout.dbfilename.clone(), layout.base());
        let must_stay = layout.mode == Mode::Unknown;
        let owner = self.setup.owner;
        // Redis never writes into either file again: it writes new ones and renames them.
        let names = blocking(move || top.link_or_move(&rdb, &held, &base, must_stay)).await?;
        dir.give(&layout.base(), owner, 0o640, names)?;
        let manifest = layout.manifest_text();
        dir.put(&layout.manifest(), manifest.as_bytes(), 0o640, owner)
    }

    /// Makes a directory for the server's user.
    fn make_dir(&self, above: &Dir, name: &str) -> Result<Dir> {
        let made = above.make_new(name)?;
        above.give(name, self.setup.owner, 0o750, 1)?;
        Ok(made)
    }

    /// Makes everything staged durable.
    async fn sync(&self) -> Result<()> {
        let dir = self.dir.again()?;
        blocking(move || dir.sync_all()).await
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

/// The keys of each database that never expire: the same whenever one file is loaded.
fn lasting(loaded: &Loaded) -> BTreeMap<u32, u64> {
    loaded
        .keys
        .iter()
        .map(|(database, keys)| (*database, keys.keys.saturating_sub(keys.expires)))
        .filter(|(_, keys)| *keys > 0)
        .collect()
}
