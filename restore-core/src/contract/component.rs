//! The restorable parts of a platform: the trait that each implements, and the registry that
//! makes them from configuration.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Backup, BackupWriter, Contents, Program, RunContext};
use crate::archive::UnpackPolicy;
use crate::model::{
    BackupId, CheckOutcome, Error, ErrorKind, Finding, NeverBackedUp, Recoverable, RecoveryTarget,
    Result, RunId, Timestamp,
};
use crate::swap::scope::{Discard, SwapScope};
use crate::sys::space::Space;

/// What a component found out before a run, without writing anything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Inspection {
    /// The backup's files that it would use, relative paths.
    pub artifacts: Vec<String>,
    /// What would be replaced, in a few words: `database hosting_db`. Shown beside the artifacts.
    pub summary: String,
    /// Where the staged data will lie, for people.
    pub staged_at: String,
    /// Bytes to read from the backup.
    pub read_bytes: u64,
    /// Room needed beside the live data while both exist, with where: an estimate, never below
    /// what is certainly needed.
    pub needs: Vec<SpaceNeed>,
    /// What it noticed. An error stops the run before anything is touched.
    pub findings: Vec<Finding>,
    /// Facts about the live side worth showing and comparing: versions, counts.
    pub facts: Map<String, Value>,
    /// What of it root will obey once it is restored, in a few words each: `the crontab of root`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obeyed: Vec<String>,
    /// What is restored besides that no signature of the backup is about, in a few words each: `the log in
    /// /srv/wal`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsigned: Vec<String>,
    /// What of its live side is absent and would be made, in a few words each: `directory
    /// /srv/shop`, `role app`. What only a run makes that may [create](RunContext::may_create) is
    /// otherwise an error among the findings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub creates: Vec<String>,
    /// Whether some of that is made by [`Create::create`] before anything is staged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub create_first: bool,
    /// Whether what is live is to be backed up before this is staged, and not while it is: a backup would
    /// meet what is staged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub save_first: bool,
    /// What its deployment makes as a whole, where nothing of it is there: `stack shop`. Services of the plan may
    /// come with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub makes_services: Option<String>,
    /// The services of the site that are not there and that its deployment makes, where other parts of what it
    /// deploys are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services_made: Vec<String>,
    /// The nodes that what it deploys is bound to, as the backup calls them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bound_to: Vec<String>,
    /// What its deployment needs and does not find, and another component of the run may bring: a plan tells what
    /// none of them does.
    #[serde(skip)]
    pub prerequisites: Vec<Prerequisite>,
    /// What speaks against its deployment alone: nothing against a drill, which deploys nothing. A plan moves it to
    /// its findings.
    #[serde(skip)]
    pub deployment_findings: Vec<Finding>,
    /// What it restores beside what is live and leaves there, in a few words: `database shop_monday`.
    /// `None`: it replaces what is live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<String>,
    /// The services that cannot run yet, and that [`Create::create`] starts once it has made what they
    /// need: that they are down speaks against nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub starts: Vec<String>,
}

/// Something that is not there and that a deployment needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Needed {
    /// A file or directory of this host.
    Path(PathBuf),
    /// An image, by its repository and tag.
    Image(String),
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Image(name) => f.write_str(name),
        }
    }
}

/// What a deployment needs that is not there, and what is said where no component of the run brings it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prerequisite {
    /// All of it.
    pub needs: Vec<Needed>,
    /// What is said of those that nothing brings: their names are put behind its message.
    pub otherwise: Finding,
}

impl Prerequisite {
    /// These, of which that is said.
    pub fn new(needs: Vec<Needed>, otherwise: Finding) -> Self {
        Self { needs, otherwise }
    }
}

/// Room that staging needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceNeed {
    /// What room there is now.
    pub space: Space,
    /// Bytes needed.
    pub bytes: u64,
    /// Inodes needed.
    pub inodes: u64,
}

/// A directory of this host whose content a run replaces, and which part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Target {
    /// The directory, as it is configured.
    pub path: PathBuf,
    /// What of it is replaced.
    pub scope: SwapScope,
}

impl Target {
    /// A part of a directory.
    pub fn new(path: impl Into<PathBuf>, scope: SwapScope) -> Self {
        Self {
            path: path.into(),
            scope,
        }
    }
}

/// What staging produced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Staged {
    /// Bytes written beside the live data.
    pub bytes: u64,
    /// Facts for the report: tables, rows, keys, files. [`Component::check`] is not given them:
    /// what it is to compare, [`Component::stage`] also gives to [`RunContext::record`].
    pub facts: Map<String, Value>,
    /// Things the report must say: a fallback taken, members left out.
    pub findings: Vec<Finding>,
}

/// What backing a component up came to, besides the artifacts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BackedUp {
    /// Facts about the live side to compare with after a restore: versions, rows, keys, files.
    pub facts: Map<String, Value>,
    /// What a person must know of it: files that changed while they were read, roles without
    /// passwords.
    pub findings: Vec<Finding>,
}

/// What a component is in a run with a [recovery target](crate::RecoveryTarget).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Recovery {
    /// It is restored as the backup has it, whatever the target.
    #[default]
    None,
    /// A whole database cluster: it takes part where there is a target, or where it is named, and
    /// is backed up where that is asked for.
    Cluster,
    /// One database of the cluster that is the component of this name: part of it in a run with a
    /// target, recovered alone where it is named and the cluster is not.
    PartOf(String),
    /// It is brought as near to the target as its data allows.
    Near,
}

/// Data that a run keeps, as it is found beside the live data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeptByRun {
    /// The run.
    pub run: RunId,
    /// Where it is, for people.
    pub place: String,
    /// How a person puts it back without the run's journal.
    pub put_back: String,
    /// How a person deletes it without the run's journal.
    pub delete: String,
}

impl KeptByRun {
    /// What `run` keeps in `place`.
    pub fn new(
        run: RunId,
        place: impl Into<String>,
        put_back: impl Into<String>,
        delete: impl Into<String>,
    ) -> Self {
        Self {
            run,
            place: place.into(),
            put_back: put_back.into(),
            delete: delete.into(),
        }
    }
}

/// One restorable part of a platform.
///
/// # Contract
///
/// `stage`, `cut_over`, `undo` and `discard` are idempotent and probe before they act: given the
/// run's id and what is really there, each tells whether its work is done, wholly, partly or not
/// at all, and finishes it. The process may be killed at any moment inside any of them; the same
/// method, or `undo`, is then called by a new process with the same run id. A fact that the act
/// destroys is given to [`RunContext::record`] (durable when that returns) before the act.
///
/// What one method finds out and a later one needs goes the same way, as the later one may be
/// called by another process on another instance: `stage` records what it counted or hashed, `check`
/// recalls it. The first value under a key stays, also when `stage` begins again after a crash: record
/// what is the same for the same backup, and only once it is known to be right.
///
/// In a run, `undo` is the end of the way forward: it is followed by `undo` again or by `discard`,
/// never by `stage` or `cut_over`. Restoring the same backup again is another run, with another id
/// and no facts. `discard` of `Staged` may come at any time and find nothing; that of
/// `Replaced` comes when the run is confirmed.
///
/// Work for longer than a moment belongs into async calls or onto blocking threads, which outlive a
/// future that is dropped: before `stage` uses a place again, whoever wrote to it has to be at its end
/// (see [`stream::copy_verified`](crate::stream::copy_verified)).
///
/// A cancelled `stage` (see [`RunContext::cancelled`]) returns
/// [`ErrorKind::Interrupted`](crate::ErrorKind) soon; the others run to their end, they are short.
///
/// The documentation of the module `conformance` (a feature) shows a whole component with its test.
#[async_trait]
pub trait Component: Send + Sync {
    /// The name that the site gives it.
    fn name(&self) -> &str;

    /// The kind, as written in the configuration.
    fn kind(&self) -> &'static str;

    /// The services that must be down while it cuts over or undoes; may be empty. The run stops
    /// them before and starts them after, each once for all components. Planning a run is an error
    /// (`plan.unknown_service`) where the site has none of such a name. By convention they are
    /// what the key `stops` of the component's section lists.
    fn stops(&self) -> Vec<String>;

    /// The services that must run for `stage`, `cut_over` and `undo`; a process that takes a run
    /// up after a crash starts them first where they do not.
    fn needs(&self) -> Vec<String> {
        Vec::new()
    }

    /// Waits until the services of [`needs`](Self::needs), which run, let it work: a database server
    /// that recovers from a crash answers, and lets nobody in. Called by a process that takes a run
    /// up, or takes it back, before services are started that may need the same. `Err`: they do not
    /// for a long time, or never will.
    async fn wait_ready(&self, _cx: &RunContext) -> Result<()> {
        Ok(())
    }

    /// The member paths (as a person names them: `mnt/nfs/nginx/conf.d/app.conf`) below which
    /// single paths can be restored; empty where only the whole can be.
    fn path_prefix(&self) -> Option<String> {
        None
    }

    /// The directories of this host of which it replaces something, restored as a whole or only these paths of it
    /// (as [`RunContext::paths`] names them). A plan refuses to replace what the tool itself needs, or what another
    /// component restores. Empty where it replaces no files of this host.
    async fn targets(&self, _paths: &[String]) -> Result<Vec<Target>> {
        Ok(Vec::new())
    }

    /// As [`targets`](Self::targets), of other machines whose paths are known, each with the machine's name: as
    /// the platform's [nodes](super::Nodes::name_of) call it.
    async fn targets_elsewhere(&self, _paths: &[String]) -> Result<Vec<(String, Target)>> {
        Ok(Vec::new())
    }

    /// Whether a run that restores it, as a whole or only these paths of it, brings what a deployment needs. By
    /// default a path of its [targets](Self::targets), or on the way to one.
    async fn brings(&self, _backup: &Backup, paths: &[String], needed: &Needed) -> bool {
        let Needed::Path(path) = needed else {
            return false;
        };
        let targets = self.targets(paths).await.unwrap_or_default();
        let covers =
            |target: &Target| path.starts_with(&target.path) || target.path.starts_with(path);
        targets.iter().any(covers)
    }

    /// Where on this host the server that it works on keeps its data and takes connections, each with the server's
    /// service: a plan refuses to move that away while the server runs. Asks the server. Empty where it works on
    /// none, or on one whose files are not seen here, and without what its [targets](Self::targets) cover. `Err`
    /// where the server does not tell: one that is down.
    async fn lives_in(&self) -> Result<Vec<(String, PathBuf)>> {
        Ok(Vec::new())
    }

    /// The directory of this host that its live side needs and that is not there: it may be a disk which is not
    /// mounted. `None` where nothing is missing, or nobody knows.
    async fn absent(&self) -> Result<Option<PathBuf>> {
        let targets = self.targets(&[]).await?;
        let absent = |path: &PathBuf| matches!(path.try_exists(), Ok(false));
        Ok(targets.into_iter().map(|it| it.path).find(absent))
    }

    /// Whether it restores what services are made from (files, images), and so before there are any. What lies in
    /// a service's volume, or in the server that it is, is restored once that is there.
    fn comes_before_services(&self) -> bool {
        false
    }

    /// Whether it can restore under [another name](RunContext::restore_as), or
    /// [some tables](RunContext::tables), beside what is live, and leave that there: its cut-over then replaces nothing, and its undo takes away what was restored.
    fn restores_beside(&self) -> bool {
        false
    }

    /// What it is in a run with a recovery target.
    fn recovery(&self) -> Recovery {
        Recovery::None
    }

    /// From when to when it can be recovered from a backup; `None` where it cannot be at all, or
    /// the backup has nothing to recover it from. Changes nothing.
    async fn recoverable(&self, _backup: &Backup) -> Result<Option<Recoverable>> {
        Ok(None)
    }

    /// When the backup's base backup ended; `None` where it has none.
    async fn base_ended(&self, _backup: &Backup) -> Result<Option<Timestamp>> {
        Ok(None)
    }

    /// Whether the target lies in what leads on from the backup's base backup.
    async fn reaches(&self, _backup: &Backup, _target: &RecoveryTarget) -> Result<bool> {
        Ok(false)
    }

    /// Of backups that have a base backup: the timeline of each base backup that the timeline which
    /// a recovery to the target would follow does not lead on from, so that it would bring back
    /// history that was left behind; `None` where it does lead on. In the backups' order.
    async fn left_behind(
        &self,
        backups: &[Backup],
        _target: &RecoveryTarget,
    ) -> Result<Vec<Option<u32>>> {
        Ok(vec![None; backups.len()])
    }

    /// Of these backups of a store, oldest first: those without which a moment could not be
    /// recovered any more that can be with them, each with why. Changes nothing.
    async fn must_keep(&self, _backups: &[Backup]) -> Result<Vec<(BackupId, String)>> {
        Ok(Vec::new())
    }

    /// The backup's files that it would use, best first, by name only; empty where the backup
    /// has none for it. Never reads them.
    fn artifacts(&self, backup: &Backup) -> Vec<String>;

    /// The programs that its cut-over and its undo need, beside those of its service.
    fn programs(&self) -> Vec<Program> {
        Vec::new()
    }

    /// How it would unpack which archives of the backup, so that verification finds the members
    /// that a restore would refuse; none where it unpacks no archive.
    async fn unpack_policies(&self, _backup: &Backup) -> Result<Vec<(String, UnpackPolicy)>> {
        Ok(Vec::new())
    }

    /// How to look into its artifacts; `None` where they are files that nothing here looks into.
    fn contents(&self) -> Option<&dyn Contents> {
        None
    }

    /// About how many bytes [`back_up`](Self::back_up) would read of the live data, to measure room
    /// and progress by; 0 where nobody knows. `Err` where the live data cannot be read.
    async fn live_bytes(&self) -> Result<u64> {
        Ok(0)
    }

    /// Writes the live data as artifacts that [`artifacts`](Self::artifacts) finds again, under the
    /// names that shell scripts give them, from one moment where that can be had; the platform
    /// serves meanwhile. Finishes an artifact only when it is known to be whole: one that was
    /// finished stays in the backup whatever happens to the next. Changes nothing live, and may
    /// stop at any time.
    ///
    /// A snapshot that it has to make first is its own to delete, whatever happens, and to
    /// replace where a killed process has left one: a site makes one backup at a time. It lies best
    /// beside the live data, where there is room for one more; only a small one in
    /// [`ComponentDeps::scratch`](super::ComponentDeps::scratch).
    ///
    /// Where nothing is live, it writes no artifact. Is that a usual state (no crontab), it returns
    /// `Ok` with a [finding](BackedUp::findings) that says so; is it a loss (no database, a disk that
    /// is not mounted), `Err`, as where something cannot be read. `Err` fails a backup that somebody
    /// asked for. The safety backup before a run does without the component where the plan said so,
    /// as [`live_bytes`](Self::live_bytes) is an error too; otherwise the run asks, or turns back. An error [because](Error::because) of
    /// [`NeverBackedUp`], as the default gives it, means that this kind never can: every backup does without it.
    async fn back_up(&self, _writer: &BackupWriter) -> Result<BackedUp> {
        Err(Error::new(
            ErrorKind::Preflight,
            "component.no_back_up",
            format!("components of kind {} cannot be backed up", self.kind()),
        )
        .because(NeverBackedUp)
        .hint("back it up by its own means, and leave it out with --only"))
    }

    /// Looks at the backup and the live side; changes nothing. Whatever speaks against the run
    /// is a finding; `Err` only where looking itself was impossible.
    async fn inspect(&self, cx: &RunContext) -> Result<Inspection>;

    /// How it makes what of its live side is absent; `None` where it never has to before it stages.
    fn creator(&self) -> Option<&dyn Create> {
        None
    }

    /// Brings the backup's data beside the live data, verified against the manifest's hash; live
    /// data untouched. Leftovers of an earlier attempt of the same run are replaced. On error
    /// nothing staged is left behind that `discard` would not find.
    async fn stage(&self, cx: &RunContext) -> Result<Staged>;

    /// Whether [`before_stop`](Self::before_stop) will be able to do its work, as far as can be told
    /// while the service runs; changes nothing.
    async fn can_stop(&self, _service: &str) -> Result<()> {
        Ok(())
    }

    /// Makes durable what only a running service holds, so that nothing is lost when it is stopped, or killed because stopping takes
    /// too long. Called before any service of the site is stopped, with the services down that are
    /// stopped before it, and asked of every component of the site, whether the run restores it or not. `Err`: the service is not
    /// stopped, and the run turns back.
    async fn before_stop(&self, _service: &str, _cx: &RunContext) -> Result<()> {
        Ok(())
    }

    /// Takes back what [`before_stop`](Self::before_stop) did to a service that was not stopped after it, as the
    /// run turned back or was abandoned; called as well where nothing says that it was stopped. Nothing waits for
    /// what cannot be taken back.
    async fn not_stopped(&self, _service: &str) {}

    /// Looks whether what [`stage`](Self::stage) brought is still there, and whole: called when another
    /// process takes the run up, before it touches anything, of a component that is staged and of which
    /// nothing is live. `Err`: it is not, or its place is out of reach; the run then waits. A server that
    /// is down is no error: the run starts it. Changes nothing.
    async fn as_staged(&self, _cx: &RunContext) -> Result<()> {
        Ok(())
    }

    /// Makes the staged data live and keeps what it replaces. The services of
    /// [`stops`](Self::stops) are down. Short: its duration does not grow with the data.
    async fn cut_over(&self, cx: &RunContext) -> Result<()>;

    /// Takes `cut_over` back, finished or not, so that what was live before is live again; the
    /// data that had been live in between is kept as staged until discarded. Does nothing where
    /// nothing was cut over. The services of [`stops`](Self::stops) are down.
    async fn undo(&self, cx: &RunContext) -> Result<()>;

    /// Looks whether [`undo`](Self::undo) would find what it needs: called while users are served,
    /// of a component whose cut-over was [begun](RunContext::cut_over) and not taken back. `Err`:
    /// what was put aside is not there, or not whole, or is somebody else's. What cannot be looked
    /// at now (a server that is down) is no error. Changes nothing.
    async fn way_back(&self, _cx: &RunContext) -> Result<()> {
        Ok(())
    }

    /// Looks whether [`undo`](Self::undo) could do its work as things are now: called after
    /// [`way_back`](Self::way_back), and only of a run that has ended, while users are served. `Err`:
    /// it could not (a disk is mounted read-only, a server that runs lets nobody in), and nothing is
    /// begun that would then stop halfway. What was broken off is taken back as far as it can be, and
    /// not asked first. Changes nothing.
    async fn can_undo(&self, _cx: &RunContext) -> Result<()> {
        Ok(())
    }

    /// Looks whether [`discard`](Self::discard) would delete what the run put aside, and nothing else:
    /// called before a confirmation deletes anything, and before what was staged is deleted. Of a
    /// component whose cut-over is [done](RunContext::cut_over) and not taken back that is what it
    /// replaced; of one whose cut-over was taken back or not begun it is what was staged, which may
    /// hold what users have written. `Err`: what was put aside is not there, or not whole, or is
    /// somebody else's, or is the only copy. What cannot be looked at now is no error. Changes
    /// nothing. By default what [`way_back`](Self::way_back) says where the cut-over is done, and
    /// otherwise nothing.
    async fn as_left(&self, cx: &RunContext) -> Result<()> {
        match cx.cut_over().is_begun() {
            true => self.way_back(cx).await,
            false => Ok(()),
        }
    }

    /// What runs keep on its live side, found by looking: journals may be lost. Changes nothing.
    async fn kept_by_runs(&self) -> Result<Vec<KeptByRun>> {
        Ok(Vec::new())
    }

    /// What [`deploy`](Self::deploy) does, in words (`stack hosting from docker-compose.yml`);
    /// `None`: nothing, and it is never called.
    fn deploys(&self) -> Option<String> {
        None
    }

    /// What its deployment would make as a whole, where nothing of it is there, as
    /// [`Inspection::makes_services`] has it; needs no backup and changes nothing.
    async fn makes_services(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Makes the platform run as the restored data describes it, and returns once it does. Called
    /// after all cut-overs, before the services are started. What it replaces is kept for
    /// [`undeploy`](Self::undeploy) before the first effect.
    async fn deploy(&self, _cx: &RunContext) -> Result<()> {
        Ok(())
    }

    /// Takes `deploy` back, finished or not, so that the platform is described as it was before.
    /// Called before the cut-overs are undone, with the run's services stopped.
    async fn undeploy(&self, _cx: &RunContext) -> Result<()> {
        Ok(())
    }

    /// Proves, after the cut-over and with the services up, that what is live is what was staged:
    /// by its content, not only by its being there. Users are still kept out where there is a
    /// maintenance page, but a service that was started may have written already.
    async fn check(&self, cx: &RunContext) -> Result<Vec<CheckOutcome>>;

    /// Deletes what is named, of this run only. Never touches live data.
    async fn discard(&self, cx: &RunContext, what: Discard) -> Result<()>;

    /// Where the other copy is kept, for the report: after a cut-over the data that the run
    /// replaced; after an undo, where it can be told, the restored data that was put aside.
    /// `None` where there is neither: nothing was replaced, or nothing had been live.
    async fn replaced_at(&self, cx: &RunContext) -> Result<Option<String>>;

    /// About how many bytes there are where [`replaced_at`](Self::replaced_at) says; `None` where
    /// nobody knows. May take as long as listing all of it does.
    async fn kept_bytes(&self, _cx: &RunContext) -> Result<Option<u64>> {
        Ok(None)
    }
}

/// Makes the places of a component that are absent, from nothing.
///
/// # Contract
///
/// Both methods are idempotent, and may be killed at any moment and called again by a new process with
/// the same run id. Each thing is [recorded](RunContext::record_made) before it is made, with what it
/// takes to know it again. Nothing that exists is altered.
#[async_trait]
pub trait Create: Send + Sync {
    /// Makes what is absent, so that [`Component::stage`] finds where to work. Called before it, once
    /// what is live is backed up, and only where the run may [create](RunContext::may_create).
    async fn create(&self, cx: &RunContext) -> Result<()>;

    /// Removes what [`create`](Self::create) made, finished or not, and nothing else: what somebody has
    /// put something into since, or what is another's by now, stays, and is
    /// [told](RunContext::notice). Called once nothing of the run is live or staged any more.
    async fn remove_created(&self, cx: &RunContext) -> Result<()>;
}

/// A component that several tasks hold.
pub type SharedComponent = Arc<dyn Component>;
