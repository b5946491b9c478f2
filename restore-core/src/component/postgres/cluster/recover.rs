//! From a base backup to a recovered cluster, beside the live one.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::client::column;
use super::super::names::conninfo_value;
use super::super::tools::tool_failed;
use super::Cluster;
use super::base::Base;
use super::control::Control;
use super::feed;
use super::holders;
use super::programs::Programs;
use super::scratch::{Server, Setup, own};
use crate::error::{Error, ErrorKind, Result};
use crate::platform::Volume;
use crate::run::RunContext;
use crate::stream::UnpackPolicy;
use crate::target::RecoveryPoint;
use crate::time::Timestamp;
use crate::wal::{Chain, End, Lsn, Search, SegmentName, segment_of};

/// What a database is dumped into, inside the staged tree.
const DUMP: &str = ".restore-dump";

/// What the scratch server is fed with.
struct Feed {
    /// The command that fetches the log.
    restore_command: String,
    /// The timeline to follow.
    timeline: u32,
    /// How many bytes of log there are, where there is a target.
    total: Option<u64>,
    /// The archive's end, where all of it is to be replayed.
    end: Option<End>,
}

/// What was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Reached {
    pub(in super::super) from: String,
    pub(in super::super) target: Option<String>,
    /// The last transaction that was replayed.
    pub(in super::super) last_transaction: Option<Timestamp>,
    pub(in super::super) lsn: String,
    pub(in super::super) timeline: u32,
    pub(in super::super) system_identifier: String,
    pub(in super::super) databases: Vec<String>,
    pub(in super::super) bytes: u64,
}

/// A recovered cluster that its scratch server still serves; dropping it kills the server.
pub(in super::super) struct Recovered<'a> {
    cluster: &'a Cluster,
    owner: Option<(u32, u32)>,
    programs: Programs<'a>,
    server: Server,
    staged: PathBuf,
    pub(in super::super) reached: Reached,
}

impl Cluster {
    /// Unpacks the backup's base backup into the staging folder of the run and recovers it to the
    /// run's target. What an earlier attempt left is replaced.
    pub(in super::super) async fn recover(&self, cx: &RunContext) -> Result<Recovered<'_>> {
        let base = self.base(cx.backup()).await?;
        let volume = self.volume().await?;
        holders::end_scratch(cx, volume.as_ref()).await?;
        let programs = Programs::find(self, base.facts.major).await?;
        let staged = volume.stage_dir(cx.run()).await?;
        let owner = self.owner(volume.as_ref()).await?;
        let dir = self.make_dir(volume.as_ref(), &staged, owner)?;
        self.unpack(cx, &base, &dir, owner).await?;
        self.verify(&programs, &dir).await?;
        let seen = self.seen(&dir).await?;
        let control = Control::read(&programs, &seen).await?;
        self.same(&base, &control)?;
        let Feed {
            restore_command,
            timeline,
            total,
            end,
        } = self.feed(cx, &base, &staged, owner).await?;
        let setup = Setup {
            cluster: self,
            programs: &programs,
            dir: &dir,
            owner,
            control: &control,
            restore_command,
            target: cx.target(),
            timeline,
            start: base.facts.start_lsn,
            segment_size: base.facts.segment_size,
        };
        let server = setup.start().await?;
        let progress = cx.progress("recover", total);
        setup.wait(&server, &progress).await?;
        let reached = self.reached(cx, &base, &server).await?;
        if let Some(end) = end {
            reached
                .must_be_at(&end, timeline, base.facts.segment_size)
                .map_err(|error| server.with_last_words(error))?;
        }
        Ok(Recovered {
            cluster: self,
            owner,
            programs,
            server,
            staged,
            reached,
        })
    }

    /// Whoever the server's files belong to.
    async fn owner(&self, volume: &dyn Volume) -> Result<Option<(u32, u32)>> {
        // The files say it best: the platform may not know whom a container's program becomes.
        if let Ok(dir) = self.data_dir(volume)
            && let Ok(meta) = dir.metadata()
            && meta.uid() != 0
        {
            return Ok(Some((meta.uid(), meta.gid())));
        }
        self.platform.owner(&self.config.service).await
    }

    pub(super) async fn seen(&self, dir: &Path) -> Result<PathBuf> {
        let seen = self.platform.path_in(&self.config.service, dir).await?;
        seen.ok_or_else(|| {
            Error::new(
                ErrorKind::Preflight,
                "cluster.staging_unseen",
                format!(
                    "the service {} cannot see {}",
                    self.config.service,
                    dir.display()
                ),
            )
            .hint("name the volume that the service has its data in")
        })
    }

    /// The staged data directory, open to the server's user alone.
    fn make_dir(
        &self,
        volume: &dyn Volume,
        staged: &Path,
        owner: Option<(u32, u32)>,
    ) -> Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let dir = staged.join(&self.config.data_dir);
        std::fs::create_dir_all(&dir)
            .map_err(|e| Error::io(format!("make {}", dir.display()), e))?;
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))
            .map_err(|e| Error::io(format!("close {}", dir.display()), e))?;
        // The folder of the run is open to the volume's owner alone.
        let root = volume.path().unwrap_or_default();
        for dir in dir
            .ancestors()
            .take_while(|dir| dir.starts_with(&root) && *dir != root)
        {
            own(dir, owner)?;
        }
        Ok(dir)
    }

    async fn unpack(
        &self,
        cx: &RunContext,
        base: &Base,
        dir: &Path,
        owner: Option<(u32, u32)>,
    ) -> Result<()> {
        let source = cx.source(&base.artifact)?;
        let progress = cx.progress("unpack", source.size());
        let policy = UnpackPolicy {
            live_root: dir.to_owned(),
            chown: owner,
            owner,
            ..UnpackPolicy::default()
        };
        crate::stream::unpack(source, dir, &policy, progress)
            .await
            .map(drop)
    }

    /// The base backup's own manifest knows every file of it.
    async fn verify(&self, programs: &Programs<'_>, dir: &Path) -> Result<()> {
        let seen = self.seen(dir).await?.to_string_lossy().into_owned();
        let args = ["--exit-on-error", "--quiet", "--no-parse-wal", &seen];
        let (_, exit) = programs.say("pg_verifybackup", &args).await?;
        if exit.success() {
            return Ok(());
        }
        let line = exit
            .stderr
            .lines()
            .find_map(|line| Some(line.split_once("error: ")?.1))
            .unwrap_or(exit.stderr.trim());
        Err(Error::new(
            ErrorKind::Verification,
            "cluster.base_damaged",
            format!("the base backup is not what its own manifest says: {line}"),
        )
        .hint("choose another base backup; the live server was not touched"))
    }

    /// Whether the data is what the backup says that it is.
    fn same(&self, base: &Base, control: &Control) -> Result<()> {
        if control.system() == Some(&base.facts.system_identifier) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Verification,
            "cluster.other_system",
            format!(
                "the base backup is of the cluster {}, not of {} as the backup says",
                control.system().unwrap_or("?"),
                base.facts.system_identifier
            ),
        )
        .hint("choose another backup"))
    }

    /// The command that fetches the log, the timeline to follow, and how much there is.
    async fn feed(
        &self,
        cx: &RunContext,
        base: &Base,
        staged: &Path,
        owner: Option<(u32, u32)>,
    ) -> Result<Feed> {
        if self.config.wal_archive.is_none() && cx.target().is_none() {
            return Ok(Feed {
                restore_command: "false".to_owned(),
                timeline: base.facts.timeline,
                total: None,
                end: None,
            });
        }
        let mut archive = self.archive_here(cx, base, owner).await?;
        // Of a run with a plan it is pinned: what is asked now may have changed since.
        let wanted = match cx.target() {
            Some(target) => target.timeline,
            None => Some(base.facts.timeline),
        };
        let timeline = self.follows(base, &mut archive, wanted).await?.timeline;
        let chain = Chain::follow(&archive, &base.facts.origin(), timeline)?;
        let total = cx.target().map(|_| chain.bytes());
        let made = match feed::direct(self, &archive, &chain).await? {
            Some(place) => feed::link(&place, (&archive, &chain), staged, owner)?,
            None => feed::copy(cx, (&archive, &chain), staged, owner).await?,
        };
        let place = self.seen(&made).await?;
        // Looked at before the server begins: what is archived meanwhile it may take or not.
        let end = match cx.target().map(|target| &target.point) {
            Some(RecoveryPoint::Latest) => {
                let search = Search::new(chain, base.facts.origin(), cx.cancelled().clone());
                Some(search.end().await?)
            }
            _ => None,
        };
        Ok(Feed {
            restore_command: feed::command(&place),
            timeline,
            total,
            end,
        })
    }

    async fn reached(&self, cx: &RunContext, base: &Base, server: &Server) -> Result<Reached> {
        let session = server.session(&self.config.maintenance).await?;
        let row = session
            .one(
                "SELECT (extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000000)::int8 \
                    - 946684800000000, coalesce(pg_last_wal_replay_lsn(), '0/0')::text, \
                 pg_is_in_recovery(), (SELECT system_identifier::text FROM pg_control_system()), \
                 (SELECT coalesce(sum(pg_database_size(oid)), 0)::int8 FROM pg_database), \
                 ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int8",
                &[],
            )
            .await?;
        if column::<bool>(&row, 2)? {
            return Err(Error::new(
                ErrorKind::Failed,
                "cluster.still_in_recovery",
                format!(
                    "the scratch server did not end its recovery: {}",
                    server.said().lines().last().unwrap_or_default()
                ),
            ));
        }
        let names = session
            .rows(
                "SELECT datname::text FROM pg_database WHERE NOT datistemplate ORDER BY 1",
                &[],
            )
            .await?;
        let reached = Reached {
            from: base.artifact.clone(),
            target: cx.target().map(ToString::to_string),
            last_transaction: column::<Option<i64>>(&row, 0)?.and_then(Timestamp::of_postgres),
            lsn: column(&row, 1)?,
            timeline: u32::try_from(column::<i64>(&row, 5)?).unwrap_or(0),
            system_identifier: column(&row, 3)?,
            databases: names
                .iter()
                .map(|row| column(row, 0))
                .collect::<Result<_>>()?,
            bytes: u64::try_from(column::<i64>(&row, 4)?).unwrap_or(0),
        };
        session.close().await;
        Ok(reached)
    }
}

impl Reached {
    /// Without a target a server takes the first segment that it cannot read for the end of all,
    /// and says nothing: whether it came to the archive's end is seen by where it ended.
    fn must_be_at(&self, end: &End, timeline: u32, segment_size: u64) -> Result<()> {
        let lsn: Lsn = self.lsn.parse()?;
        let segment = segment_of(lsn, segment_size);
        let whole = segment >= segment_of(Lsn(end.lsn.0.saturating_sub(1)), segment_size);
        let last = end.last.as_ref().map(|mark| mark.time);
        if whole && last.is_none_or(|last| self.last_transaction.is_some_and(|at| at >= last)) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Verification,
            "cluster.stopped_short",
            format!(
                "the recovery ended at {lsn}, but the WAL archive leads on to {}: the segment {} cannot be read, or is damaged",
                end.lsn,
                SegmentName {
                    timeline,
                    number: segment,
                }
                .file(segment_size)
            ),
        )
        .hint("let the server's user read all of the archive, copy the segment again from where it is whole, or recover to a time before it"))
    }
}

impl Recovered<'_> {
    /// Dumps one database into a file of the staging folder, and ends the server: nothing else of
    /// it is wanted.
    pub(in super::super) async fn dump(
        self,
        cx: &RunContext,
        database: &str,
    ) -> Result<(PathBuf, Reached)> {
        let login = self.server.login();
        let conninfo = format!(
            "--dbname=host={} port={} user={} dbname={}",
            conninfo_value(&login.inside.host),
            login.inside.port,
            conninfo_value(&login.user),
            conninfo_value(database),
        );
        let args = ["--format=custom", "--blobs", "--no-password", &conninfo];
        let mut command = self.programs.command("pg_dump", &args);
        command.dir = Some(self.server.seen.clone());
        let platform = &self.cluster.platform;
        let mut process = platform.exec(&self.cluster.config.service, command).await?;
        drop(process.stdin());
        let mut stdout = process.stdout().ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "cluster.no_output",
                "a program without an output",
            )
        })?;
        let path = self.staged.join(DUMP);
        let failed = |e| Error::io(format!("write {}", path.display()), e);
        let mut file = tokio::fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .await
            .map_err(failed)?;
        let progress = cx.progress("dump", None);
        let bytes = tokio::io::copy(&mut stdout, &mut file)
            .await
            .map_err(failed)?;
        tokio::io::AsyncWriteExt::flush(&mut file)
            .await
            .map_err(failed)?;
        progress.add(bytes);
        let exit = process.wait().await?;
        if !exit.success() {
            return Err(tool_failed("pg_dump", &exit));
        }
        progress.finish();
        own(&path, self.owner)?;
        Ok((path, self.reached))
    }

    /// Ends the server cleanly: what is left is a data directory that the live server starts on.
    pub(super) async fn finish(self) -> Result<(Reached, PathBuf)> {
        let (seen, staged) = (self.server.seen.clone(), self.staged.clone());
        let dir = self.server.stop().await?;
        let copies = staged.join(feed::COPIES);
        match std::fs::remove_dir_all(&copies) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(format!("remove {}", copies.display()), e));
            }
            _ => {}
        }
        if let Some((folder, root)) = staged.parent().and_then(|it| Some((it, it.parent()?))) {
            let run = folder.file_name().unwrap_or_default().to_string_lossy();
            self.cluster.forget_fetched(root, &run)?;
        }
        let control = Control::read(&self.programs, &seen).await?;
        if !control.is_shut_down() || dir.join("recovery.signal").exists() {
            return Err(Error::new(
                ErrorKind::Failed,
                "cluster.not_shut_down",
                "the scratch server did not end cleanly: what it recovered cannot be used",
            )
            .hint("try again; the live server was not touched"));
        }
        forget_partial(&dir)?;
        sync(&staged).await?;
        Ok((self.reached, dir))
    }
}

/// What the new timeline leaves of the segment in which it branched off: the archive has the whole
/// one, and may refuse to take a second part of it, after which nothing would be archived any more.
fn forget_partial(dir: &Path) -> Result<()> {
    let log = dir.join("pg_wal");
    for folder in [log.clone(), log.join("archive_status")] {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".partial") || name.ends_with(".partial.ready") {
                std::fs::remove_file(entry.path())
                    .map_err(|e| Error::io(format!("remove {}", entry.path().display()), e))?;
            }
        }
    }
    Ok(())
}

/// Makes everything staged durable.
async fn sync(staged: &Path) -> Result<()> {
    let staged = staged.to_owned();
    let done = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::open(&staged)?;
        rustix::fs::syncfs(&file).map_err(std::io::Error::from)
    })
    .await;
    match done {
        Ok(done) => done.map_err(|e| Error::io("make what is staged durable", e)),
        Err(e) => Err(Error::new(
            ErrorKind::Internal,
            "cluster.task",
            format!("syncing broke off: {e}"),
        )),
    }
}
