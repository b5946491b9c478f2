//! From a base backup to a recovered cluster, beside the live one.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::client::column;
use super::super::names::conninfo_value;
use super::super::tools::tool_failed;
use super::base::Base;
use super::control::Control;
use super::programs::Programs;
use super::scratch::{Server, Setup};
use super::{Cluster, feed, holders};
use crate::archive::{Limit, UnpackPolicy};
use crate::components::archive;
use crate::components::postgres::wal::{Chain, End, Search, SegmentName, segment_of};
use crate::contract::{RunContext, Volume};
use crate::model::{Error, ErrorKind, Lsn, RecoveryPoint, Result, Timestamp};
use crate::swap::{Dir, StagingDir};

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
pub(in super::super) struct RecoveryResult {
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
    staging: StagingDir,
    staged: Dir,
    pub(in super::super) reached: RecoveryResult,
}

impl Cluster {
    /// Unpacks the backup's base backup into the staging folder of the run and recovers it to the
    /// run's target. What an earlier attempt left is replaced.
    pub(in super::super) async fn recover(&self, cx: &RunContext) -> Result<Recovered<'_>> {
        let base = self.base(cx.backup()).await?;
        let volume = self.volume().await?;
        holders::end_scratch(cx, volume.as_ref()).await?;
        let programs = Programs::find(self, base.facts.major).await?;
        volume.stage_dir(cx.run()).await?;
        let staging = volume.staging_dir(cx.run()).await?;
        let staged = staging.place()?;
        let owner = self.owner(volume.as_ref()).await?;
        let dir = self.make_dir(&staged, owner)?;
        self.unpack(cx, &base, &dir, owner).await?;
        // From here on whatever is below is the server's user's.
        match self.config.data_dir.as_os_str().is_empty() {
            true => staging.let_in(owner, 0o700)?,
            false => staging.let_through()?,
        }
        self.verify(&programs, dir.path()).await?;
        let seen = self.seen(dir.path()).await?;
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
            staging,
            staged,
            reached,
        })
    }

    /// Whoever the server's files belong to.
    pub(super) async fn owner(&self, volume: &dyn Volume) -> Result<Option<(u32, u32)>> {
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
    fn make_dir(&self, staged: &Dir, owner: Option<(u32, u32)>) -> Result<Dir> {
        let mut dir = staged.again()?;
        for name in self.config.data_dir.components() {
            let name = name.as_os_str().to_string_lossy();
            let made = dir.make_new(&name)?;
            dir.give(&name, owner, 0o700, 1)?;
            dir = made;
        }
        Ok(dir)
    }

    async fn unpack(
        &self,
        cx: &RunContext,
        base: &Base,
        dir: &Dir,
        owner: Option<(u32, u32)>,
    ) -> Result<()> {
        let source = cx.source(&base.artifact)?;
        let progress = cx.progress("unpack", source.size());
        let key = archive::key(&self.name);
        let mut policy = policy(dir.path(), owner);
        policy.limit = Some(match self.config.max_bytes {
            0 => Limit::about(base.facts.bytes, &key),
            most => Limit::of_site(most, &key),
        });
        let held = dir.again()?.into_fd();
        crate::archive::unpack_into(source, held, dir.path(), &policy, progress)
            .await
            .map(drop)
    }

    /// The base backup's own manifest knows every file of it.
    async fn verify(&self, programs: &Programs<'_>, dir: &Path) -> Result<()> {
        let seen = self.seen(dir).await?.to_string_lossy().into_owned();
        let args = ["--exit-on-error", "--quiet", "--no-parse-wal", &seen];
        let (_, exit) = programs.output("pg_verifybackup", &args).await?;
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
        staged: &Dir,
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

    async fn reached(
        &self,
        cx: &RunContext,
        base: &Base,
        server: &Server,
    ) -> Result<RecoveryResult> {
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
        let reached = RecoveryResult {
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

/// Which members of a base backup are let in, where it is unpacked into `dir`.
pub(super) fn policy(dir: &Path, owner: Option<(u32, u32)>) -> UnpackPolicy {
    UnpackPolicy {
        live_root: dir.to_owned(),
        chown: owner,
        owner,
        ..UnpackPolicy::default()
    }
}

impl RecoveryResult {
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
    /// it is wanted. The folder is the server's user's by now, who may put anything else under the
    /// file's name: what is to be read is the open file.
    pub(in super::super) async fn dump(
        self,
        cx: &RunContext,
        database: &str,
    ) -> Result<(PathBuf, std::fs::File, RecoveryResult)> {
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
        let path = self.staged.path().join(DUMP);
        let failed = |e| Error::io(format!("write {}", path.display()), e);
        let file = self.staged.create(DUMP)?;
        let kept = file.try_clone().map_err(failed)?;
        if let Some((uid, gid)) = self.owner {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid)).map_err(failed)?;
        }
        let mut file = tokio::fs::File::from_std(file);
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
        Ok((path, kept, self.reached))
    }

    /// Ends the server cleanly: what is left is a data directory that the live server starts on.
    pub(super) async fn finish(self) -> Result<(RecoveryResult, PathBuf)> {
        let (seen, staged) = (self.server.seen.clone(), self.staged);
        let dir = self.server.stop().await?;
        staged.remove_tree(feed::COPIES)?;
        if let Some((folder, root)) = staged
            .path()
            .parent()
            .and_then(|it| Some((it, it.parent()?)))
        {
            let run = folder.file_name().unwrap_or_default().to_string_lossy();
            self.cluster.forget_fetched(root, &run)?;
        }
        let control = Control::read(&self.programs, &seen).await?;
        if !control.is_shut_down() || dir.has(Path::new("recovery.signal"))? {
            return Err(Error::new(
                ErrorKind::Failed,
                "cluster.not_shut_down",
                "the scratch server did not end cleanly: what it recovered cannot be used",
            )
            .hint("try again; the live server was not touched"));
        }
        forget_partial(&dir)?;
        self.staging.shut()?;
        let shown = dir.path().to_owned();
        sync(dir).await?;
        Ok((self.reached, shown))
    }
}

/// What the new timeline leaves of the segment in which it branched off: the archive has the whole
/// one, and may refuse to take a second part of it, after which nothing would be archived any more.
fn forget_partial(dir: &Dir) -> Result<()> {
    let log = PathBuf::from("pg_wal");
    for folder in [log.clone(), log.join("archive_status")] {
        for name in dir.names(&folder).unwrap_or_default() {
            let text = name.to_string_lossy();
            if text.ends_with(".partial") || text.ends_with(".partial.ready") {
                dir.unlink(&folder.join(&name))?;
            }
        }
    }
    Ok(())
}

/// Makes everything staged durable.
async fn sync(staged: Dir) -> Result<()> {
    let done = tokio::task::spawn_blocking(move || staged.sync_all()).await;
    match done {
        Ok(done) => done,
        Err(e) => Err(Error::new(
            ErrorKind::Internal,
            "cluster.task",
            format!("syncing broke off: {e}"),
        )),
    }
}
