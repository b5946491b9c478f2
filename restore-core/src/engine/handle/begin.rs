//! What a site can be asked to do, as handles.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Run;
use super::log::{EventRecord, Watcher};
use crate::backup::fetch::{FetchOptions, FetchReport};
use crate::backup::request::BackupRequest;
use crate::backup::verification::Verification;
use crate::backup::verify::VerifyOptions;
use crate::contract::Backup;
use crate::engine::operations::{Site, until_unlocked};
use crate::engine::plan::{Plan, PlanRequest};
use crate::engine::run::RunOptions;
use crate::model::{BackupId, BackupReport, EventSink, RecoveryTarget, Result, RunId};

/// A backup by its name (an id, `latest`), or one that was opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WhichBackup {
    /// By its id, or as `latest`.
    Named(String),
    /// One that [`Site::backup`] or [`Site::bring`] has opened.
    Opened(Arc<Backup>),
}

impl WhichBackup {
    async fn open(self, site: &Site, request: &PlanRequest) -> Result<Arc<Backup>> {
        match self {
            Self::Named(name) => site.backup_for(&name, request).await.map(Arc::new),
            Self::Opened(backup) => Ok(backup),
        }
    }
}

impl From<&str> for WhichBackup {
    fn from(name: &str) -> Self {
        Self::Named(name.to_owned())
    }
}

impl From<String> for WhichBackup {
    fn from(name: String) -> Self {
        Self::Named(name)
    }
}

impl From<&String> for WhichBackup {
    fn from(name: &String) -> Self {
        Self::Named(name.clone())
    }
}

impl From<&BackupId> for WhichBackup {
    fn from(id: &BackupId) -> Self {
        Self::Named(id.to_string())
    }
}

impl From<BackupId> for WhichBackup {
    fn from(id: BackupId) -> Self {
        Self::Named(id.to_string())
    }
}

impl From<&Backup> for WhichBackup {
    fn from(backup: &Backup) -> Self {
        Self::Opened(Arc::new(backup.clone()))
    }
}

impl From<Backup> for WhichBackup {
    fn from(backup: Backup) -> Self {
        Self::Opened(Arc::new(backup))
    }
}

impl From<Arc<Backup>> for WhichBackup {
    fn from(backup: Arc<Backup>) -> Self {
        Self::Opened(backup)
    }
}

/// Makes a handle for whatever a site can be asked to do: who watches, what stops it, how long it waits
/// for a lock, then what.
///
/// ```no_run
/// # use restore_core::{Result, Site};
/// # async fn take_back(site: Site) -> Result<()> {
/// let report = site.begin().wait_seconds(60).rollback(None).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing is done before it is said what to do"]
pub struct Begin {
    site: Site,
    options: RunOptions,
    watchers: Vec<Watcher>,
}

impl Begin {
    /// With someone who watches. Called from any task or thread, often; it must return at once. One that
    /// panics is told nothing more, and the call goes on.
    pub fn events(mut self, watcher: impl Fn(&EventRecord) + Send + Sync + 'static) -> Self {
        self.watchers.push(Arc::new(watcher));
        self
    }

    /// With a sink for its events as they are.
    pub fn sink(mut self, sink: impl EventSink + 'static) -> Self {
        self.options = self.options.events(sink);
        self
    }

    /// Stopped by `cancel`, as by [`Run::cancel`]: that of [`stop_on_signals`](crate::stop_on_signals), say.
    pub fn cancelled_by(mut self, cancel: CancellationToken) -> Self {
        self.options = self.options.cancelled_by(cancel);
        self
    }

    /// Waits for so long where another process holds the site's lock; [`Duration::MAX`] is for ever.
    pub fn wait(mut self, longest: Duration) -> Self {
        self.options = self.options.wait(longest);
        self
    }

    /// As [`wait`](Self::wait), in seconds.
    pub fn wait_seconds(self, longest: u64) -> Self {
        self.wait(Duration::from_secs(longest))
    }

    /// With all options of a run at once, in place of those that were given before.
    pub fn options(mut self, options: RunOptions) -> Self {
        self.options = options;
        self
    }

    /// What restoring a backup would do, and doing it.
    pub fn plan(self, backup: impl Into<WhichBackup>) -> PlanBuilder {
        PlanBuilder {
            begin: self,
            backup: backup.into(),
            request: PlanRequest::all(),
        }
    }

    /// Executes a plan: [`Site::run`].
    pub fn run(self, plan: Plan) -> Run {
        self.working(|site, options| async move { site.run(plan, options).await })
    }

    /// Finishes an unfinished run: [`Site::resume`].
    pub fn resume(self, run: Option<RunId>) -> Run {
        self.working(move |site, options| async move { site.resume(run, options).await })
    }

    /// Takes a run back: [`Site::rollback`].
    pub fn rollback(self, run: Option<RunId>) -> Run {
        self.working(move |site, options| async move { site.rollback(run, options).await })
    }

    /// Accepts a run: [`Site::confirm`].
    pub fn confirm(self, run: Option<RunId>) -> Run {
        self.working(move |site, options| async move { site.confirm(run, options).await })
    }

    /// Ends a run as the platform stands: [`Site::abandon`].
    pub fn abandon(self, run: Option<RunId>) -> Run {
        self.working(move |site, options| async move { site.abandon(run, options).await })
    }

    /// Follows a run (`None`: the newest) of whatever process by its journal, as [`Site::watch`] does. To
    /// stop it ends the following, and not the run.
    ///
    /// It ends as the run does: a run that did not end as asked, or that nobody is at work on any more, is
    /// an error with its [report](crate::Error::report). One that was rolled back on request is none: the
    /// [outcome](crate::Report::outcome) says which.
    pub fn attach(self, run: Option<RunId>) -> Run {
        self.reading(
            move |site, options| async move { site.watch(run, &options).await?.into_result() },
        )
    }

    /// Makes a backup: [`Site::back_up`].
    pub fn back_up(self, request: BackupRequest) -> Run<BackupReport> {
        self.working(move |site, options| async move { site.back_up(request, options).await })
    }

    /// Verifies a backup: [`Site::verify`].
    pub fn verify(self, backup: impl Into<WhichBackup>, how: VerifyOptions) -> Run<Verification> {
        let backup = backup.into();
        self.reading(move |site, options| async move {
            let backup = backup.open(&site, &PlanRequest::all()).await?;
            site.verify(&backup, how, options.events, options.cancel)
                .await
        })
    }

    /// Fetches a backup: [`Site::fetch`]. Who watches and what stops it is said here, and not in `how`.
    pub fn fetch(self, id: impl Into<String>, how: FetchOptions) -> Run<FetchReport> {
        let id = id.into();
        self.working(move |site, options| async move {
            let how = how
                .events(options.events.clone())
                .cancelled_by(options.cancel.clone());
            until_unlocked(&options, || site.fetch(&id, how.clone())).await
        })
    }

    /// Opens a backup on this host, fetched first where it is elsewhere or packed, with what that came to:
    /// [`Site::bring`]. Who watches and what stops it is said here, and not in `how`.
    pub fn bring(
        self,
        id: impl Into<String>,
        how: FetchOptions,
    ) -> Run<(Backup, Option<FetchReport>)> {
        let id = id.into();
        self.working(move |site, options| async move {
            let how = how
                .events(options.events.clone())
                .cancelled_by(options.cancel.clone());
            site.bring_once_unlocked(&id, how, &options).await
        })
    }

    fn working<T, F>(self, work: impl FnOnce(Site, RunOptions) -> F) -> Run<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let site = self.site;
        Run::watched(self.options, self.watchers, false, |options| {
            work(site, options)
        })
    }

    fn reading<T, F>(self, work: impl FnOnce(Site, RunOptions) -> F) -> Run<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let site = self.site;
        Run::watched(self.options, self.watchers, true, |options| {
            work(site, options)
        })
    }
}

/// What restoring a backup would do: awaited it is the [`Plan`], [`run`](Self::run) does it.
///
/// ```no_run
/// # use restore_core::{Result, Site};
/// # async fn bring_back(site: Site) -> Result<()> {
/// let plan = site.plan("latest").only(["redis"]).await?;
/// println!("{plan}");
/// site.begin().run(plan).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "awaited it is a plan; `run` does what it says"]
pub struct PlanBuilder {
    begin: Begin,
    backup: WhichBackup,
    request: PlanRequest,
}

impl PlanBuilder {
    /// Only these components. Of an empty selection no plan is made.
    pub fn only(self, components: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.asking(|request| request.only(components))
    }

    /// Only these paths. Of an empty selection no plan is made.
    pub fn paths(self, paths: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.asking(|request| request.paths(paths))
    }

    /// Recovered to a moment.
    pub fn to(self, target: impl Into<Option<RecoveryTarget>>) -> Self {
        self.asking(|request| request.to(target))
    }

    /// Components of another time than the target's are restored along with it.
    pub fn allow_time_gap(self) -> Self {
        self.asking(|request| request.allow_time_gap(true))
    }

    /// What has no checksum to verify it by is restored too.
    pub fn allow_unverified(self) -> Self {
        self.asking(|request| request.allow_unverified(true))
    }

    /// These components stay as they are where the backup has nothing for them.
    pub fn allow_missing(self, components: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.asking(|request| request.allow_missing(components))
    }

    /// What is empty, or far less, may take the place of these components' live data.
    pub fn allow_empty(self, components: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.asking(|request| request.allow_empty(components))
    }

    /// An unconfirmed earlier run does not stand in the way.
    pub fn over_unconfirmed(self) -> Self {
        self.asking(|request| request.over_unconfirmed(true))
    }

    /// The run `over` is ended as it stands, and restored over.
    pub fn over(self, over: RunId) -> Self {
        self.asking(|request| request.over(over))
    }

    /// No maintenance page is shown.
    pub fn no_maintenance(self) -> Self {
        self.asking(|request| request.no_maintenance(true))
    }

    /// What is live is not backed up first.
    pub fn no_safety_backup(self) -> Self {
        self.asking(|request| request.no_safety_backup(true))
    }

    /// What is absent of the live side is made first.
    pub fn create(self) -> Self {
        self.asking(|request| request.create(true))
    }

    /// A drill: everything is staged and proven, and then deleted.
    pub fn drill(self) -> Self {
        self.asking(|request| request.drill(true))
    }

    /// All of a request at once, in place of what was asked for before.
    pub fn request(self, request: PlanRequest) -> Self {
        self.asking(|_| request)
    }

    /// As [`Begin::events`].
    pub fn events(self, watcher: impl Fn(&EventRecord) + Send + Sync + 'static) -> Self {
        self.beginning(|begin| begin.events(watcher))
    }

    /// As [`Begin::sink`].
    pub fn sink(self, sink: impl EventSink + 'static) -> Self {
        self.beginning(|begin| begin.sink(sink))
    }

    /// As [`Begin::cancelled_by`].
    pub fn cancelled_by(self, cancel: CancellationToken) -> Self {
        self.beginning(|begin| begin.cancelled_by(cancel))
    }

    /// As [`Begin::wait`].
    pub fn wait(self, longest: Duration) -> Self {
        self.beginning(|begin| begin.wait(longest))
    }

    /// As [`Begin::options`].
    pub fn options(self, options: RunOptions) -> Self {
        self.beginning(|begin| begin.options(options))
    }

    /// Makes the plan and executes it, without anybody having looked at it: what speaks against it is an
    /// error before anything is touched.
    pub fn run(self) -> Run {
        let (backup, request) = (self.backup, self.request);
        self.begin.working(|site, options| async move {
            let drill = request.drill;
            match made(&site, backup, request, &options).await {
                Ok(plan) => site.run(plan, options).await,
                Err(error) => {
                    if drill {
                        site.tell_refused_drill(&error, &options).await;
                    }
                    Err(error)
                }
            }
        })
    }

    /// Making the plan, as a handle.
    pub fn making(self) -> Run<Plan> {
        let (backup, request) = (self.backup, self.request);
        self.begin
            .reading(|site, options| async move { made(&site, backup, request, &options).await })
    }

    fn asking(mut self, change: impl FnOnce(PlanRequest) -> PlanRequest) -> Self {
        self.request = change(self.request);
        self
    }

    fn beginning(mut self, change: impl FnOnce(Begin) -> Begin) -> Self {
        self.begin = change(self.begin);
        self
    }
}

impl IntoFuture for PlanBuilder {
    type Output = Result<Plan>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Plan>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        self.making().into_future()
    }
}

async fn made(
    site: &Site,
    backup: WhichBackup,
    request: PlanRequest,
    options: &RunOptions,
) -> Result<Plan> {
    // What a run under way has half done says nothing about what there will be.
    if !options.wait.is_zero() {
        until_unlocked(options, || site.ensure_idle()).await?;
    }
    let backup = backup.open(site, &request).await?;
    site.plan_with(&backup, request, options).await
}

impl Site {
    /// Makes handles for whatever the site can be asked to do.
    pub fn begin(&self) -> Begin {
        Begin {
            site: self.clone(),
            options: RunOptions::new(),
            watchers: Vec::new(),
        }
    }

    /// What restoring a backup would do, and doing it:
    /// `site.plan("latest").only(["redis"]).run().await?`. Awaited it is the plan, as of
    /// [`plan_with`](Self::plan_with).
    pub fn plan(&self, backup: impl Into<WhichBackup>) -> PlanBuilder {
        self.begin().plan(backup)
    }

    /// A [drill](PlanBuilder::drill) of a backup: proves that it restores, and touches nothing live.
    pub fn drill(&self, backup: impl Into<WhichBackup>) -> PlanBuilder {
        self.plan(backup).drill()
    }

    /// Follows a run of whatever process: [`Begin::attach`].
    pub fn attach(&self, run: Option<RunId>) -> Run {
        self.begin().attach(run)
    }
}
