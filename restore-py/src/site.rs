//! A site, its plans and its runs.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use restore_core::backup::{PrunePlan, PruneRequest};
use restore_core::component::Registry;
use restore_core::config::SiteConfig;
use restore_core::platform::SecretFiles;
use restore_core::run::WhichBackup;
use restore_core::site::{GetRequest, MembersRequest};
use restore_core::stream::Compression;
use restore_core::{
    BackupRequest, Error, ErrorKind, FetchOptions, PlanRequest, RecoveryPoint, RecoveryTarget,
    Report, Result, RunId, RunOptions,
};

use crate::backup::Backup;
use crate::convert::{dump, from_python};
use crate::error::{exception, raise};
use crate::part::Raised;
use crate::task::{Answer, Task, told};
use crate::{check, component, hook, maintenance, store};

/// One configured platform with its components and its stores: what `restore.toml` describes.
#[pyclass(frozen, module = "restore._restore")]
pub(crate) struct Site {
    inner: Arc<restore_core::Site>,
    raised: Raised,
}

/// What a restore would do, as the library keeps it.
#[pyclass(frozen, module = "restore._restore")]
pub(crate) struct Plan(restore_core::Plan);

#[pymethods]
impl Plan {
    /// The plan of a saved value.
    #[staticmethod]
    fn from_dict(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let value = from_python(value)?;
        serde_json::from_value(value)
            .map(Self)
            .map_err(|e| pyo3::exceptions::PyValueError::new_err(format!("not a plan: {e}")))
    }

    /// The plan as a value that can be saved.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        dump(py, &self.0)
    }

    /// The plan in words.
    fn text(&self) -> String {
        self.0.to_string()
    }

    /// The steps with their words and phases.
    fn steps<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let steps: Vec<_> = self
            .0
            .steps
            .iter()
            .map(|step| (step.to_string(), step.describe(), self.0.phase(step)))
            .collect();
        dump(py, &steps)
    }

    /// The error that running it would give before anything is touched.
    fn refusal<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0
            .refusal()
            .map(|error| exception(py, &error))
            .transpose()
    }
}

/// The library's kinds and those that are written in Python: of each part that a site may have (`components`,
/// `checks` …) the classes by their kinds.
fn registry(py: Python<'_>, kinds: &Bound<'_, PyDict>, raised: &Raised) -> PyResult<Registry> {
    let mut registry = Registry::default();
    for (part, classes) in kinds {
        let part: String = part.extract()?;
        for (kind, class) in classes.cast::<PyDict>()? {
            let kind: String = kind.extract()?;
            registry = added(py, registry, &part, &kind, class.unbind(), raised.clone())?;
        }
    }
    Ok(registry)
}

/// The registry with one more kind, which must not take the place of one of the library's.
fn added(
    py: Python<'_>,
    registry: Registry,
    part: &str,
    kind: &str,
    class: Py<PyAny>,
    raised: Raised,
) -> PyResult<Registry> {
    let is_known = match part {
        "components" => registry.contains(kind),
        "checks" => restore_core::check::KINDS.contains(&kind),
        "stores" => restore_core::store::KINDS.contains(&kind),
        "hooks" => restore_core::hook::KINDS.contains(&kind),
        _ => restore_core::maintenance::KINDS.contains(&kind),
    };
    if is_known {
        let error = Error::new(
            ErrorKind::Config,
            format!("config.{part}"),
            format!("{part}: {kind:?} is a kind of the library's own"),
        )
        .hint("give the class another `kind`, and name that in the configuration");
        return Err(raise(py, &error));
    }
    Ok(match part {
        "components" => registry.with(kind, component::factory(kind, class, raised)),
        "checks" => registry.with_check(kind, check::factory(class, raised)),
        "stores" => registry.with_store(kind, store::factory(class, raised)),
        "hooks" => registry.with_hook(kind, hook::factory(class, raised)),
        _ => registry.with_maintenance(kind, maintenance::factory(class, raised)),
    })
}

#[pymethods]
impl Site {
    /// From a file or a table, with the parts that are written in Python: classes by their kinds.
    #[new]
    fn new(
        py: Python<'_>,
        config: &Bound<'_, PyAny>,
        base: Option<PathBuf>,
        kinds: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        let raised = Raised::default();
        let registry = registry(py, kinds, &raised)?;
        let opened = match config.cast::<PyDict>() {
            Ok(table) => {
                let table = from_python(table)?;
                let base = base.unwrap_or_else(|| ".".into());
                SiteConfig::from_value(table)
                    .and_then(|config| restore_core::Site::from_config(config, &base, &registry))
            }
            Err(_) => {
                let path: PathBuf = config.extract()?;
                restore_core::Site::open_with(&path, &registry)
            }
        };
        let inner = opened.map_err(|error| raised.blame(py, raise(py, &error)))?;
        Ok(Self {
            inner: Arc::new(inner),
            raised,
        })
    }

    /// What can be known of a file without a backup; with the error of one that cannot be used.
    #[staticmethod]
    fn check_config(py: Python<'_>, path: PathBuf, kinds: &Bound<'_, PyDict>) -> PyResult<Task> {
        let registry = registry(py, kinds, &Raised::default())?;
        Ok(Task::reading(|options| async move {
            let check = restore_core::Site::check_config(&path, &registry, &options).await?;
            let refusal = check.refusal();
            Ok(Arc::new(move |py: Python<'_>| {
                let refusal = refusal
                    .as_ref()
                    .map(|error| exception(py, error))
                    .transpose()?;
                let pair = (dump(py, &check)?, refusal);
                Ok(pair.into_pyobject(py)?.into_any().unbind())
            }) as Answer)
        }))
    }

    #[getter]
    fn name(&self) -> &str {
        self.inner.name()
    }

    #[getter]
    fn platform(&self) -> String {
        self.inner.platform().describe()
    }

    /// Its stores, by name, in words.
    #[getter]
    fn stores(&self) -> Vec<(String, String)> {
        let stores = self.inner.stores().iter();
        stores
            .map(|(name, it)| (name.clone(), it.describe()))
            .collect()
    }

    /// Its components: names and kinds.
    #[getter]
    fn components(&self) -> Vec<(String, String)> {
        let components = self.inner.components().iter();
        components
            .map(|it| (it.name().to_owned(), it.kind().to_owned()))
            .collect()
    }

    fn backups(&self) -> Task {
        let site = self.inner.clone();
        Task::reading(|_| async move {
            let listed = site.backups().await?;
            Ok(told(listed))
        })
    }

    fn backup(&self, id: String, to: Option<Target>) -> Task {
        let site = self.inner.clone();
        Task::reading(|_| async move {
            let request = PlanRequest::all().to(target(to)?);
            let backup = Arc::new(site.backup_for(&id, &request).await?);
            Ok(opened(backup))
        })
    }

    fn plan(
        &self,
        backup: Which<'_>,
        selection: Selection,
        words: (bool, bool, bool, bool, bool),
        recovery: (Option<Target>, bool),
        places: Places,
        wait: f64,
    ) -> Task {
        let (site, raised) = (self.inner.clone(), self.raised.clone());
        let (allow_unverified, over_unconfirmed, safety_backup, create, maintenance) = words;
        let (only, paths, allow_missing, allow_empty) = selection;
        let (to, allow_time_gap) = recovery;
        let backup = backup.meant();
        let (over, name, tables, secrets, nodes) = places;
        let mut request = selected(only, paths)
            .restore_as(name)
            .secrets(files(secrets))
            .nodes(nodes);
        if let Some(tables) = tables {
            request = request.tables(tables);
        }
        let request = request
            .allow_unverified(allow_unverified)
            .over_unconfirmed(over_unconfirmed)
            .no_safety_backup(!safety_backup)
            .create(create)
            .no_maintenance(!maintenance)
            .allow_missing(allow_missing)
            .allow_empty(allow_empty)
            .allow_time_gap(allow_time_gap);
        Task::reading(|options| async move {
            raised.clear();
            let over = over.as_deref().map(str::parse::<RunId>).transpose()?;
            let request = request.to(target(to)?).over(over);
            let begin = site.begin().options(patient(options, wait));
            let plan = begin.plan(backup).request(request).await?;
            Ok(
                Arc::new(move |py: Python<'_>| Ok(Py::new(py, Plan(plan.clone()))?.into_any()))
                    as Answer,
            )
        })
    }

    fn drill(
        &self,
        backup: Which<'_>,
        only: Option<Vec<String>>,
        allow_unverified: bool,
        recovery: (Option<Target>, bool),
        wait: f64,
    ) -> Task {
        let (to, allow_time_gap) = recovery;
        let backup = backup.meant();
        let request = selected(only, None)
            .allow_unverified(allow_unverified)
            .allow_time_gap(allow_time_gap)
            .drill(true);
        self.reporting(wait, |site, options| async move {
            let request = request.to(target(to)?);
            let begin = site.begin().options(options.clone());
            match begin.plan(backup).request(request).await {
                Ok(plan) => site.run(plan, options).await,
                Err(error) => {
                    // A nightly drill that finds no backup is what somebody has to hear of.
                    site.tell_refused_drill(&error, &options).await;
                    Err(error)
                }
            }
        })
    }

    fn run(&self, plan: &Bound<'_, Plan>, wait: f64) -> Task {
        let plan = plan.get().0.clone();
        self.reporting(wait, |site, options| async move {
            site.run(plan, options).await
        })
    }

    fn resume(&self, py: Python<'_>, run: Option<&str>, wait: f64) -> PyResult<Task> {
        let run = run_id(py, run)?;
        Ok(self.reporting(wait, |site, options| async move {
            site.resume(run, options).await
        }))
    }

    fn rollback(&self, py: Python<'_>, run: Option<&str>, wait: f64) -> PyResult<Task> {
        let run = run_id(py, run)?;
        Ok(self.reporting(wait, |site, options| async move {
            site.rollback(run, options).await
        }))
    }

    fn confirm(&self, py: Python<'_>, run: Option<&str>, wait: f64) -> PyResult<Task> {
        let run = run_id(py, run)?;
        Ok(self.reporting(wait, |site, options| async move {
            site.confirm(run, options).await
        }))
    }

    fn abandon(&self, py: Python<'_>, run: Option<&str>, wait: f64) -> PyResult<Task> {
        let run = run_id(py, run)?;
        Ok(self.reporting(wait, |site, options| async move {
            site.abandon(run, options).await
        }))
    }

    /// A report that was saved: its value, its text, the exception that it amounts to.
    #[staticmethod]
    fn read_report(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let report: Report = serde_json::from_value(from_python(value)?)
            .map_err(|e| pyo3::exceptions::PyValueError::new_err(format!("not a report: {e}")))?;
        report_value(py, &report, None)
    }

    fn watch(&self, py: Python<'_>, run: Option<&str>) -> PyResult<Task> {
        let run = run_id(py, run)?;
        Ok(self.reporting(0.0, |site, options| async move {
            site.watch(run, &options).await?.into_result()
        }))
    }

    fn page(&self, up: bool) -> Task {
        let site = self.inner.clone();
        Task::run(move |_| async move { Ok(told(site.page(up).await?)) })
    }

    fn preview_rollback(&self, py: Python<'_>, run: Option<&str>) -> PyResult<Task> {
        let (run, site) = (run_id(py, run)?, self.inner.clone());
        Ok(reports(async move {
            Ok(vec![site.preview_rollback(run).await?])
        }))
    }

    fn preview_abandon(&self, py: Python<'_>, run: Option<&str>) -> PyResult<Task> {
        let (run, site) = (run_id(py, run)?, self.inner.clone());
        Ok(reports(async move {
            Ok(vec![site.preview_abandon(run).await?])
        }))
    }

    fn preview_confirm(&self, py: Python<'_>, run: Option<&str>) -> PyResult<Task> {
        let (run, site) = (run_id(py, run)?, self.inner.clone());
        Ok(reports(async move {
            Ok(vec![site.preview_confirm(run).await?])
        }))
    }

    fn report(&self, py: Python<'_>, run: Option<&str>) -> PyResult<Task> {
        let (run, site) = (run_id(py, run)?, self.inner.clone());
        Ok(reports(async move { Ok(vec![site.report(run).await?]) }))
    }

    fn history(&self) -> Task {
        let site = self.inner.clone();
        reports(async move { site.history().await })
    }

    fn status(&self) -> Task {
        let site = self.inner.clone();
        Task::reading(|options| async move {
            let status = site.status(&options).await?;
            let refusal = status.refusal();
            Ok(Arc::new(move |py: Python<'_>| {
                let refusal = refusal
                    .as_ref()
                    .map(|error| exception(py, error))
                    .transpose()?;
                let pair = (dump(py, &status)?, refusal);
                Ok(pair.into_pyobject(py)?.into_any().unbind())
            }) as Answer)
        })
    }

    fn check(&self) -> Task {
        let site = self.inner.clone();
        Task::reading(|options| async move {
            let outcomes = site.check(&options).await?;
            Ok(told(outcomes))
        })
    }

    fn ensure_idle(&self) -> Task {
        let site = self.inner.clone();
        Task::reading(|_| async move {
            site.ensure_idle().await?;
            Ok(told(()))
        })
    }

    fn lock_holder(&self) -> Task {
        let site = self.inner.clone();
        Task::reading(|_| async move { Ok(told(site.lock_holder().await?)) })
    }

    fn unlock(&self) -> Task {
        let site = self.inner.clone();
        Task::run(|_| async move { Ok(told(site.unlock().await?)) })
    }

    fn back_up(
        &self,
        py: Python<'_>,
        only: Option<Vec<String>>,
        to: Option<String>,
        compression: (String, Option<u8>),
        base: bool,
        wait: f64,
    ) -> PyResult<Task> {
        let compression =
            Compression::named(&compression.0, compression.1).map_err(|error| raise(py, &error))?;
        let mut request = BackupRequest::all().compression(compression).base(base);
        if let Some(only) = only {
            request = request.only(only);
        }
        request.to = to;
        let site = self.inner.clone();
        Ok(Task::run(|options| async move {
            Ok(told(site.back_up(request, patient(options, wait)).await?))
        }))
    }

    fn fetch(&self, id: String, from_: Option<String>, to: Option<String>, wait: f64) -> Task {
        let site = self.inner.clone();
        Task::run(|options| async move {
            let how = FetchOptions::new().from_store(from_).to_store(to);
            let begin = site.begin().options(patient(options, wait));
            Ok(told(begin.fetch(id, how).await?))
        })
    }

    /// The backup on this host: fetched first, where it is elsewhere or packed.
    fn bring(&self, id: String, wait: f64) -> Task {
        let site = self.inner.clone();
        Task::run(|options| async move {
            let begin = site.begin().options(patient(options, wait));
            let (backup, _) = begin.bring(id, FetchOptions::new()).await?;
            Ok(opened(Arc::new(backup)))
        })
    }

    /// From when to when each cluster can be recovered from a backup, and why that cannot be told.
    fn recoverable(&self, backup: Which<'_>) -> Task {
        let (site, raised) = (self.inner.clone(), self.raised.clone());
        let backup = backup.meant();
        Task::reading(|_| async move {
            raised.clear();
            let backup = here(&site, backup).await?;
            Ok(told(site.recoverable(&backup).await))
        })
    }

    /// What is in a backup's artifacts, and the error of those that are not what was backed up.
    fn members(
        &self,
        backup: Which<'_>,
        pattern: Option<String>,
        only: Option<Vec<String>>,
    ) -> Task {
        let site = self.inner.clone();
        let backup = backup.meant();
        let mut request = MembersRequest::all().pattern(pattern);
        if let Some(only) = only {
            request = request.only(only);
        }
        Task::reading(|options| async move {
            let backup = brought(&site, backup, &options).await?;
            let mut members = Vec::new();
            let report = site
                .members(&backup, &request, &options, |member| members.push(member))
                .await?;
            let refusal = report.refusal();
            Ok(Arc::new(move |py: Python<'_>| {
                let refusal = refusal
                    .as_ref()
                    .map(|error| exception(py, error))
                    .transpose()?;
                let answer = (dump(py, &members)?, dump(py, &report)?, refusal);
                Ok(answer.into_pyobject(py)?.into_any().unbind())
            }) as Answer)
        })
    }

    /// How what a backup has differs from what is live.
    fn difference(
        &self,
        backup: Which<'_>,
        only: Option<Vec<String>>,
        paths: Option<Vec<String>>,
        most: usize,
    ) -> Task {
        let (site, raised) = (self.inner.clone(), self.raised.clone());
        let backup = backup.meant();
        let request = selected(only, paths);
        Task::reading(|options| async move {
            raised.clear();
            let backup = here(&site, backup).await?;
            Ok(told(
                site.difference(&backup, &request, most, &options).await?,
            ))
        })
    }

    /// Brings files out of a backup into a directory.
    fn get(
        &self,
        backup: Which<'_>,
        paths: Vec<String>,
        to: PathBuf,
        words: (bool, bool, bool),
    ) -> Task {
        let site = self.inner.clone();
        let backup = backup.meant();
        let (owners, keep_setuid, allow_unverified) = words;
        let request = GetRequest::new(paths, to)
            .no_owner(!owners)
            .keep_powers(keep_setuid)
            .allow_unverified(allow_unverified);
        Task::run(|options| async move {
            let backup = brought(&site, backup, &options).await?;
            Ok(told(site.get(&backup, &request, &options).await?))
        })
    }

    fn plan_prune(&self, keep: Keep, older_than: Option<u64>, store: Option<String>) -> Task {
        let (site, request) = (self.inner.clone(), pruning(keep, older_than, store));
        Task::reading(|_| async move { Ok(told(site.plan_prune(&request).await?)) })
    }

    /// Deletes what a plan would, where it still may be; what was deleted.
    fn prune(
        &self,
        keep: Keep,
        older_than: Option<u64>,
        store: Option<String>,
        plan: &Bound<'_, PyAny>,
        wait: f64,
    ) -> PyResult<Task> {
        let plan: PrunePlan = serde_json::from_value(from_python(plan)?)
            .map_err(|e| pyo3::exceptions::PyValueError::new_err(format!("not a plan: {e}")))?;
        let (site, request) = (self.inner.clone(), pruning(keep, older_than, store));
        Ok(Task::run(|options| async move {
            let options = patient(options, wait);
            Ok(told(site.prune(&request, &plan, options).await?))
        }))
    }
}

/// A backup as Python names it: opened, or by its id.
#[derive(FromPyObject)]
enum Which<'py> {
    Opened(Bound<'py, Backup>),
    Named(String),
}

impl Which<'_> {
    fn meant(self) -> WhichBackup {
        match self {
            Self::Opened(backup) => WhichBackup::Opened(backup.get().0.clone()),
            Self::Named(id) => WhichBackup::Named(id),
        }
    }
}

/// The backup on this host: fetched first, where it is elsewhere or packed.
async fn brought(
    site: &restore_core::Site,
    backup: WhichBackup,
    options: &RunOptions,
) -> Result<Arc<restore_core::backup::Backup>> {
    match backup {
        WhichBackup::Named(id) => {
            let (backup, _) = site.bring(&id, fetching(options.clone())).await?;
            Ok(Arc::new(backup))
        }
        WhichBackup::Opened(backup) => Ok(backup),
        _ => Err(unknown_backup()),
    }
}

/// The backup where it is, opened.
async fn here(
    site: &restore_core::Site,
    backup: WhichBackup,
) -> Result<Arc<restore_core::backup::Backup>> {
    match backup {
        WhichBackup::Named(id) => site.backup(&id).await.map(Arc::new),
        WhichBackup::Opened(backup) => Ok(backup),
        _ => Err(unknown_backup()),
    }
}

fn unknown_backup() -> Error {
    Error::new(
        ErrorKind::Internal,
        "python.backup",
        "a backup of a kind that is not known here",
    )
}

/// The same options, waiting for so many seconds where another process holds a lock.
fn patient(options: RunOptions, seconds: f64) -> RunOptions {
    options.wait(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// The same watcher and stop for a fetch.
fn fetching(options: RunOptions) -> FetchOptions {
    FetchOptions::new()
        .events(options.events)
        .cancelled_by(options.cancel)
}

/// So many backups, and those of so many days, weeks and months.
type Keep = (Option<usize>, Option<usize>, Option<usize>, Option<usize>);

fn pruning(keep: Keep, older_than: Option<u64>, store: Option<String>) -> PruneRequest {
    let mut request = PruneRequest::default();
    let (newest, daily, weekly, monthly) = keep;
    request.keep = newest;
    request.keep_daily = daily;
    request.keep_weekly = weekly;
    request.keep_monthly = monthly;
    request.older_than = older_than.map(Duration::from_secs);
    request.store = store;
    request
}

impl Site {
    /// Work that ends with a report; what did not end as asked has failed, and its error has the report.
    fn reporting<F, Fut>(&self, wait: f64, work: F) -> Task
    where
        F: FnOnce(Arc<restore_core::Site>, RunOptions) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Report>> + Send + 'static,
    {
        let (site, raised) = (self.inner.clone(), self.raised.clone());
        Task::run(|options| async move {
            raised.clear();
            let ended = work(site, patient(options, wait)).await;
            let report = ended.map_err(|error| {
                let cause = error.report().and_then(|_| raised.take());
                match cause {
                    Some(cause) => error.source(cause),
                    None => error,
                }
            })?;
            let cause = raised.take();
            Ok(Arc::new(move |py: Python<'_>| report_value(py, &report, cause.as_ref())) as Answer)
        })
    }
}

/// These components and paths; `None`: all of them. An empty selection is one, and refused.
fn selected(only: Option<Vec<String>>, paths: Option<Vec<String>>) -> PlanRequest {
    let mut request = PlanRequest::all();
    if let Some(only) = only {
        request = request.only(only);
    }
    if let Some(paths) = paths {
        request = request.paths(paths);
    }
    request
}

/// Work that only reads reports.
fn reports(work: impl Future<Output = Result<Vec<Report>>> + Send + 'static) -> Task {
    Task::reading(|_| async move {
        let reports = work.await?;
        Ok(Arc::new(move |py: Python<'_>| {
            let values: PyResult<Vec<_>> = reports
                .iter()
                .map(|report| report_value(py, report, None))
                .collect();
            Ok(values?.into_pyobject(py)?.into_any().unbind())
        }) as Answer)
    })
}

/// A backup that was opened.
fn opened(backup: Arc<restore_core::backup::Backup>) -> Answer {
    Arc::new(move |py: Python<'_>| Ok(Py::new(py, Backup(backup.clone()))?.into_any()))
}

/// A report as its value, its text, and the exception of a run that did not end as asked; `cause`: what a
/// component has raised in it.
fn report_value(py: Python<'_>, report: &Report, cause: Option<&PyErr>) -> PyResult<Py<PyAny>> {
    let error = match report.error() {
        None => None,
        Some(error) => {
            let error = PyErr::from_value(exception(py, &error)?);
            if let Some(cause) = cause {
                error.set_cause(py, Some(cause.clone_ref(py)));
            }
            Some(error.into_value(py))
        }
    };
    let value = (
        dump(py, report)?,
        report.to_text(),
        error,
        report.is_failing(),
    );
    Ok(value.into_pyobject(py)?.into_any().unbind())
}

/// Of what there is: these components, these paths; and what may be missing, and empty.
type Selection = (
    Option<Vec<String>>,
    Option<Vec<String>>,
    Vec<String>,
    Vec<String>,
);

/// The run to restore over, a name beside what is live, the tables, the files of secrets, the nodes in the place
/// of others.
type Places = (
    Option<String>,
    Option<String>,
    Option<Vec<String>>,
    Secrets,
    BTreeMap<String, String>,
);

/// Files of secrets by their names, and a directory that has more of them.
type Secrets = (BTreeMap<String, PathBuf>, Option<PathBuf>);

/// Where the values of secrets are.
fn files((named, directory): Secrets) -> SecretFiles {
    let mut files = SecretFiles::default();
    for (name, file) in named {
        files = files.with(name, file);
    }
    files.in_directory(directory)
}

/// A recovery target as Python gives it: what the text is (`time`, `lsn`, `xid`, `name`), the text,
/// whether it is inclusive, the timeline.
type Target = (String, String, bool, Option<u32>);

/// The moment that is meant.
fn target(to: Option<Target>) -> Result<Option<RecoveryTarget>> {
    let Some((kind, text, inclusive, timeline)) = to else {
        return Ok(None);
    };
    let target: RecoveryTarget = match kind.as_str() {
        "lsn" => RecoveryPoint::Lsn(text.parse()?).into(),
        "xid" => RecoveryPoint::Xid(text.parse().map_err(|_| {
            Error::new(
                ErrorKind::Config,
                "target.bad_xid",
                format!("{text} is no transaction's id"),
            )
            .hint("it is a number below 4294967296: SELECT pg_current_xact_id()::xid")
        })?)
        .into(),
        "name" => RecoveryPoint::Name(text).into(),
        _ => text.parse()?,
    };
    Ok(Some(target.exclusive(!inclusive).timeline(timeline)))
}

fn run_id(py: Python<'_>, run: Option<&str>) -> PyResult<Option<RunId>> {
    run.map(str::parse)
        .transpose()
        .map_err(|error: Error| raise(py, &error))
}
