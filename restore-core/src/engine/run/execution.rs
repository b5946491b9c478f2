//! One process at work on one run.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument as _;

use super::hooks::end_hooks;
use super::{
    Action, DowntimeChange, Journal, KeptAt, Record, RunOptions, RunState, SiteLock, ask_kept_at,
    report_with,
};
use crate::contract::{
    Backup, Check, Readiness, RetryMode, RunContext, SharedComponent, Staged, When,
};
use crate::engine::operations::Site;
use crate::engine::plan::{PlannedService, Step};
use crate::model::step_id::phase_and_subject;
use crate::model::text::shown;
use crate::model::{
    CheckOutcome, Error, ErrorKind, Event, EventSink, Failure, Finding, Outcome, Report, Result,
    SafetyBackup, Severity, Timestamp,
};
use crate::sys::on_heap::on_heap;
use crate::sys::spans::milliseconds;
use crate::sys::{check_file, private};

/// How long a check is waited for that had failed before the run: its outcome turns nothing back.
const FAILED_BEFORE: Duration = Duration::from_secs(5);

/// The longest that one is waited for after the swap, where its own deadline is not what counts: while users are
/// turned away. Once they are let in, what was restored is given the time to come up.
fn longest(when: When) -> Option<Duration> {
    match when {
        When::BeforeTraffic => Some(FAILED_BEFORE),
        When::AfterTraffic => None,
    }
}

/// One process at work on one run. Dropping it stops what still works in the background and
/// releases the lock; the journal knows how far it came.
pub(crate) struct RunExecutor<'a> {
    pub(super) site: &'a Site,
    pub(super) journal: Journal,
    pub(super) backup: Arc<Backup>,
    pub(super) options: RunOptions,
    pub(super) cancel: CancellationToken,
    noticed: Arc<Mutex<Vec<Finding>>>,
    /// The decision to turn back, where the journal could not take it.
    unwritten: Mutex<Option<Record>>,
    _stop_on_drop: DropGuard,
    /// Keeps the nodes that the run was told of from being changed by others that look at the site.
    _nodes: Option<Arc<()>>,
    _lock: SiteLock,
}

/// Hands on what components tell, and holds what they warn of for the report: whoever reads that
/// has not watched.
struct FindingRecorder {
    watcher: Arc<dyn EventSink>,
    noticed: Arc<Mutex<Vec<Finding>>>,
}

impl EventSink for FindingRecorder {
    fn emit(&self, event: &Event) {
        self.watcher.emit(event);
        if let Event::Finding { finding } = event
            && finding.severity >= Severity::Warning
        {
            let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
            noticed.push(finding.clone());
        }
    }
}

/// What a step hands to the journal when it is done.
#[derive(Default)]
pub(super) struct StepResult {
    pub(super) staged: Option<Staged>,
    pub(super) checks: Vec<CheckOutcome>,
    pub(super) safety: Option<SafetyBackup>,
}

/// A span of `tracing` that is there while a step is made.
fn step_span(id: &str) -> tracing::Span {
    let (phase, subject) = phase_and_subject(id);
    tracing::info_span!("step", step = id, phase, subject)
}

impl<'a> RunExecutor<'a> {
    pub(crate) fn new(
        site: &'a Site,
        lock: SiteLock,
        journal: Journal,
        backup: Arc<Backup>,
        options: RunOptions,
    ) -> Self {
        let told = journal.with(|state| state.plan.request.nodes.clone());
        let nodes = site.platform().nodes().map(|nodes| nodes.hold(&told));
        let cancel = options.cancel.child_token();
        Self {
            site,
            journal,
            backup,
            options,
            noticed: Arc::default(),
            unwritten: Mutex::default(),
            _stop_on_drop: cancel.clone().drop_guard(),
            cancel,
            _nodes: nodes,
            _lock: lock,
        }
    }

    /// Runs forward from wherever the journal stands; on any failure undoes the run.
    pub(crate) async fn run(self, action: Action) -> Result<Report> {
        self.begin(action).await?;
        let turned_back = self.journal.with(RunState::keeps_what_it_restored);
        if action == Action::Resume && turned_back.is_none() {
            self.start_what_is_needed(|_, _| true).await;
        }
        if action == Action::Resume {
            self.start_web_server(turned_back.is_some()).await;
        }
        let ended = match turned_back {
            Some(keep) => on_heap(|| self.unwind(keep)).await,
            None => match on_heap(|| self.forward_unless_stopped(action)).await {
                Ok(()) if self.journal.with(|state| state.plan.request.drill) => {
                    self.discard_staged().await;
                    self.remove_created(&[]).await;
                    Ok(Outcome::Drilled)
                }
                Ok(()) => Ok(Outcome::Restored),
                Err((step, error)) => {
                    let keep = self.keeps(action);
                    // The decision may be written already, and users may have been let in since.
                    if self.journal.with(|state| state.turned_back) != Some(keep) {
                        self.begin_rollback(keep, Some(Failure::of(step, &error)))
                            .await;
                    }
                    on_heap(|| self.unwind(keep)).await
                }
            },
        };
        on_heap(|| self.end(ended)).await
    }

    /// Whether what was restored is put aside when it is taken back now: users may have been served
    /// by it.
    fn keeps(&self, action: Action) -> bool {
        let taken_up = action != Action::Run;
        self.journal.with(|state| state.may_have_served(taken_up))
    }

    /// Goes forward. That somebody wants the run stopped is written down at once, whatever goes on
    /// just then: a process that takes it up later must not go the other way. Then all of it is
    /// undone, also where its last step was done meanwhile.
    async fn forward_unless_stopped(&self, action: Action) -> Result<(), (String, Error)> {
        let over = CancellationToken::new();
        let forward = async {
            let went = on_heap(|| self.forward()).await;
            over.cancel();
            went
        };
        let decide = async {
            tokio::select! {
                () = self.options.cancel.cancelled() => {}
                () = over.cancelled() => return,
            }
            let step = self.journal.with(|state| {
                let mut steps = state.steps.iter().rev();
                let under_way = steps.find(|time| time.seconds.is_none());
                under_way.map(|time| time.step.clone())
            });
            let step = step.unwrap_or_else(|| "between two steps".to_owned());
            let failure = Failure::of(step, &Error::interrupted());
            self.begin_rollback(self.keeps(action), Some(failure)).await;
        };
        let (went, ()) = tokio::join!(forward, decide);
        let stopped = self.journal.with(|state| state.turned_back.is_some());
        match went {
            Ok(()) if stopped => Err(("its end".to_owned(), Error::interrupted())),
            went => went,
        }
    }

    /// Undoes the run, whatever its state; a run that had served users keeps what they wrote.
    pub(crate) async fn roll_back(self) -> Result<Report> {
        // This turns it back: see `RunState`.
        self.begin(Action::Rollback).await?;
        let keep = self
            .journal
            .with(|state| state.keeps_what_it_restored() == Some(true));
        self.start_web_server(true).await;
        let ended = on_heap(|| self.unwind(keep)).await;
        on_heap(|| self.end(ended)).await
    }

    pub(super) async fn begin(&self, action: Action) -> Result<()> {
        let (run, backup) = self
            .journal
            .with(|state| (state.run.to_string(), state.plan.backup.to_string()));
        let drill = self.journal.with(|state| state.plan.request.drill);
        let at = Timestamp::now();
        self.journal
            .append(Record::Attempt {
                at,
                action,
                pid: std::process::id(),
            })
            .await?;
        self.emit(&Event::RunStarted {
            run,
            backup,
            action: match action {
                Action::Run if drill => "drill".to_owned(),
                action => action.to_string(),
            },
            at,
        });
        if action == Action::Abandon {
            // It works where the platform does not.
            return Ok(());
        }
        // What it is to remove does no harm but take up room, so that failing is not fatal.
        if let Err(error) = self.site.platform().tidy().await {
            let finding = Finding::warning("platform.untidy", "platform", error.message());
            self.emit(&Event::Finding { finding });
        }
        // The services of a run that this one goes over are down.
        let alone = self.journal.with(|state| state.plan.request.over.is_none());
        if action == Action::Run && alone {
            self.release().await;
        }
        Ok(())
    }

    /// Whether a run other than this one may have services down: one that is open, or one of which
    /// nothing can be read.
    async fn is_another_open(&self) -> bool {
        let runs = self.site.runs();
        let (all, lost) = (Journal::all(&runs).await, Journal::lost(&runs).await);
        let (Ok(all), Ok(lost)) = (all, lost) else {
            return true;
        };
        let this = self.journal.with(|state| state.run.clone());
        let open = |state: &RunState| state.run != this && state.is_open();
        all.iter().any(open) || lost.iter().any(|run| run.report.is_none())
    }

    /// Has the platform give back what runs took from services for as long as these were down: also
    /// those that died, or ended while the platform did not answer. It is tried again before the next.
    /// Nothing is given back while another run is open: its services stay down.
    async fn release(&self) {
        if self.is_another_open().await {
            return;
        }
        if let Err(error) = self.site.platform().release().await {
            let finding = Finding::warning(
                "platform.unreleased",
                "platform",
                format!(
                    "what services were given for as long as they are down, such as another restart policy, is not taken from them yet: {error}"
                ),
            )
            .hint("see that the platform answers; the next run does it");
            self.record_best_effort(finding).await;
        }
    }

    /// After a power cut nobody else may have started a server that this platform supervises, and
    /// that a component swaps its data in while it runs; nor where it died in the middle of the
    /// run. One that recovers from a crash is waited for: what is started next may need it, too.
    pub(super) async fn start_what_is_needed(&self, by: impl Fn(&RunState, &str) -> bool) {
        let names: Vec<String> = self.journal.with(|state| {
            let components = state.plan.components.iter();
            let names = components.map(|component| component.name.clone());
            // What its services need may still have to be made, and is followed by their start.
            let unmade = |name: &String| {
                let step = Step::Create(name.clone());
                state.plan.steps.contains(&step) && !state.is_done(&step)
            };
            names
                .filter(|name| by(state, name) && !unmade(name))
                .collect()
        });
        let stopped: Vec<String> = self.services().into_iter().map(|s| s.name).collect();
        let platform = self.site.platform();
        for component in names.iter().filter_map(|name| self.site.component(name)) {
            for service in component.needs() {
                let down = platform
                    .service(&service)
                    .await
                    .is_ok_and(|s| s.running == 0);
                if !down || stopped.contains(&service) {
                    continue;
                }
                // What needs it says more about what follows from its not starting.
                if let Err(error) = platform.scale(&service, 1).await {
                    self.record_best_effort(Finding::from_error(service, &error))
                        .await;
                }
            }
            // So does what waits for it. One that the run itself has stopped is not waited for.
            if component.needs().iter().all(|name| !stopped.contains(name)) {
                let _ = component.wait_ready(&self.context(component.name())).await;
            }
        }
    }

    /// After a power cut nobody may have started the web server that shows the page. It ran when the run
    /// was planned: without it no page goes up, and none comes down. `back`: of a run that is undone only
    /// where its page is up; what else users see of a web server is no matter of an undo.
    async fn start_web_server(&self, back: bool) {
        let due = self
            .journal
            .with(|state| state.plan.maintenance && (state.page_up || !back));
        let Some(page) = self.site.maintenance().filter(|_| due) else {
            return;
        };
        let Readiness::Down { service } = page.readiness().await else {
            return;
        };
        // One that the run itself has stopped is started in its turn.
        if self.services().iter().any(|it| it.name == service) {
            return;
        }
        let platform = self.site.platform();
        let wanted = platform.service(&service).await.map(|it| it.desired);
        let started = platform.scale(&service, wanted.unwrap_or(0).max(1)).await;
        let finding = match started {
            Ok(()) => Finding::warning(
                "service.started",
                service,
                "did not run, and shows the maintenance page: it was started",
            ),
            Err(error) => {
                let hint = error
                    .hint_text()
                    .unwrap_or("its own log says why")
                    .to_owned();
                Finding::warning(
                    "maintenance.down",
                    service,
                    format!(
                        "does not run, and does not start, so that users are not served: {error}"
                    ),
                )
                .hint(format!("{hint}; start it by hand once that is fixed"))
            }
        };
        self.record_best_effort(finding).await;
    }

    /// Writes that the run is undone from here on. A journal that cannot be written any more
    /// (full disk) must not keep the undo from happening: the next attempt finds an unfinished
    /// run and undoes it again.
    async fn begin_rollback(&self, keep: bool, failure: Option<Failure>) {
        let at = Timestamp::now();
        let decision = Record::TurnedBack { at, keep, failure };
        if let Err(error) = self.journal.append(decision.clone()).await {
            self.emit(&Event::StepFailed {
                step: "journal".to_owned(),
                error: error.to_string(),
            });
            let unwritten = self.unwritten.lock();
            *unwritten.unwrap_or_else(PoisonError::into_inner) = Some(decision);
        }
    }

    pub(super) async fn end(self, ended: Result<Outcome, Error>) -> Result<Report> {
        let outcome = ended.unwrap_or(Outcome::Stuck);
        self.keep_noticed().await;
        // There may be room by now. Without it the journal leads forward, where nothing is any more.
        let unwritten = self
            .unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(decision) = unwritten
            && self.journal.with(|state| state.turned_back.is_none())
        {
            let _ = self.journal.append(decision).await;
        }
        let at = Timestamp::now();
        if let Err(error) = self.journal.append(Record::Ended { at, outcome }).await {
            // The report then says that the run has not ended, which is what a next attempt finds.
            let finding = Finding::warning("journal.unwritten", "journal", error.message());
            self.emit(&Event::Finding { finding });
        } else if outcome != Outcome::Stuck {
            self.release().await;
        }
        // Hooks may take long, and whoever kills the process in one of them finds that the run has ended.
        let mut logged = None;
        let state = self.journal.state();
        let kept_at = Box::pin(ask_kept_at(self.site, &state)).await;
        let report = report_with(&state, &kept_at);
        if end_hooks(self.site, &report).next().is_some() {
            logged = Some(report.findings.len());
            let _ = Box::pin(self.write_report_with(&kept_at, None)).await;
            Box::pin(self.call_end_hooks(&kept_at)).await;
        }
        let run = self.journal.with(|state| state.run.to_string());
        self.emit(&Event::RunFinished {
            run,
            outcome: outcome.to_string(),
            at,
        });
        self.write_report_with(&kept_at, logged).await
    }

    /// Writes the report beside the journal and appends its text to the site's log. Failing to
    /// write is noticed, not fatal: the journal has it all.
    pub(super) async fn write_report(&self) -> Result<Report> {
        let kept_at = ask_kept_at(self.site, &self.journal.state()).await;
        self.write_report_with(&kept_at, None).await
    }

    /// As `write_report`, with what the components have said already. Where the log has the report, with so many
    /// findings (`logged`), it gets the later ones.
    async fn write_report_with(&self, kept_at: &KeptAt, logged: Option<usize>) -> Result<Report> {
        self.journal.settle();
        let mut report = report_with(&self.journal.state(), kept_at);
        let text = report.to_text();
        let words = match logged {
            None => text.clone(),
            Some(known) => {
                let later = report.findings.iter().skip(known);
                let later = later.map(|it| format!("{}: {}", report.run, shown(&it.line())));
                later.collect::<Vec<String>>().join("\n")
            }
        };
        let json = serde_json::to_string_pretty(&report).unwrap_or_default();
        let folder = self.journal.folder();
        let log = self.site.log_path().filter(|_| !words.is_empty());
        let written = tokio::task::spawn_blocking(move || -> Result<()> {
            use std::io::Write;
            use std::os::unix::fs::OpenOptionsExt;
            const FLAGS: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK);
            for (name, content) in [("report.txt", &text), ("report.json", &json)] {
                let path = folder.join(name);
                private::write(&path, content)
                    .map_err(|e| Error::io(format!("write {}", path.display()), e))?;
            }
            if let Some(log) = log {
                // In a folder of somebody else's it could lead to any file of root's.
                let real = check_file(&log, false).map_err(|e| {
                    e.hint("name a `log` in a folder of root's that nobody else can write to")
                })?;
                // An older one is as open as its owner has made it.
                std::fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .mode(private::FILE)
                    .custom_flags(FLAGS.bits().cast_signed())
                    .open(&real)
                    .and_then(|mut file| match file.metadata()?.is_file() {
                        true => writeln!(file, "{words}"),
                        false => Err(std::io::Error::other("it is no regular file")),
                    })
                    .map_err(|e| Error::io(format!("append to the log {}", log.display()), e))?;
            }
            Ok(())
        })
        .await;
        if let Ok(Err(error)) = written {
            let finding = Finding::warning("report.unwritten", "report", error.message());
            self.emit(&Event::Finding {
                finding: finding.clone(),
            });
            report.findings.push(finding);
        }
        Ok(report)
    }

    pub(super) fn emit(&self, event: &Event) {
        self.options.events.emit(event);
    }

    /// Tells whoever watches and keeps it for the report.
    pub(super) async fn notice(&self, finding: Finding) -> Result<()> {
        self.emit(&Event::Finding {
            finding: finding.clone(),
        });
        self.journal.append(Record::Noticed { finding }).await
    }

    /// Keeps for the report what components have noticed and told by themselves, once each. That a
    /// journal cannot be written says whatever comes next.
    async fn keep_noticed(&self) {
        let noticed =
            std::mem::take(&mut *self.noticed.lock().unwrap_or_else(PoisonError::into_inner));
        for finding in noticed {
            if !self.journal.with(|state| state.findings.contains(&finding)) {
                let _ = self.journal.append(Record::Noticed { finding }).await;
            }
        }
    }

    /// As `notice`, where nothing can be done about a journal that cannot be written.
    pub(super) async fn record_best_effort(&self, finding: Finding) {
        let _ = self.notice(finding).await;
    }

    /// Writes the intent, does the work, writes that it is done.
    pub(super) async fn step<F>(&self, id: &str, what: String, work: F) -> Result<()>
    where
        F: Future<Output = Result<StepResult>> + Send,
    {
        self.attempt(id, what, work, true).await
    }

    /// As `step`, for a step of an undo, which a journal that cannot be written must not keep from
    /// happening: it can be repeated at any time, written down or not.
    pub(super) async fn undoing<F>(&self, id: &str, what: String, work: F) -> Result<()>
    where
        F: Future<Output = Result<StepResult>> + Send,
    {
        self.attempt(id, what, work, false).await
    }

    async fn attempt<F>(&self, id: &str, what: String, work: F, journal_first: bool) -> Result<()>
    where
        F: Future<Output = Result<StepResult>> + Send,
    {
        let write = async |record: Record| match self.journal.append_and_see(record).await {
            Err(error) if journal_first => Err(error),
            written => Ok(written.unwrap_or(DowntimeChange::None)),
        };
        let step = id.to_owned();
        let started = Timestamp::now();
        let (span, begun) = (step_span(id), Instant::now());
        let result: Result<()> = async {
            let turn = write(Record::Intent {
                at: started,
                step: step.clone(),
            })
            .await?;
            self.emit(&Event::StepStarted {
                step: step.clone(),
                what,
            });
            if let DowntimeChange::Away(at) = turn {
                self.emit(&Event::DowntimeStarted { at });
            }
            let StepResult {
                staged,
                checks,
                safety,
            } = work.await?;
            for check in &checks {
                self.emit(&Event::Check {
                    name: check.name.clone(),
                    passed: check.passed,
                    detail: check.detail.clone(),
                });
            }
            let at = Timestamp::now();
            let turn = write(Record::Done {
                at,
                step: step.clone(),
                staged,
                checks,
                safety,
            })
            .await?;
            let seconds = at.since(started).as_secs_f64();
            self.emit(&Event::StepFinished {
                step: step.clone(),
                seconds,
            });
            if let DowntimeChange::In(since) = turn {
                let seconds = at.since(since).as_secs_f64();
                self.emit(&Event::DowntimeEnded { at, seconds });
            }
            Ok(())
        }
        .instrument(span.clone())
        .await;
        let ms = milliseconds(begun);
        match &result {
            Ok(()) => tracing::info!(parent: &span, ms, "done"),
            Err(error) => tracing::info!(parent: &span, ms, code = error.code(), "failed"),
        }
        self.keep_noticed().await;
        if let Err(error) = &result {
            self.emit(&Event::StepFailed {
                step: step.clone(),
                error: error.to_string(),
            });
            let failure = Failure::of(id, error);
            let at = Timestamp::now();
            // The step's own error is what the caller needs, also when this cannot be written.
            let _ = self
                .journal
                .append(Record::Failed { at, step, failure })
                .await;
        }
        result
    }

    pub(super) fn component(&self, name: &str) -> Result<SharedComponent> {
        self.site.component(name).cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "run.component_gone",
                format!(
                    "the run needs the component {name}, which the configuration no longer has"
                ),
            )
            .hint("put the component back into the configuration and try again")
        })
    }

    /// What a component is given on the way back: nothing breaks that off, as little as a
    /// confirmation, which deletes.
    pub(super) fn context_of_undo(&self, name: &str) -> RunContext {
        self.context_until(name, CancellationToken::new())
    }

    /// What a component is given.
    pub(super) fn context(&self, name: &str) -> RunContext {
        self.context_until(name, self.cancel.clone())
    }

    fn context_until(&self, name: &str, cancel: CancellationToken) -> RunContext {
        let (
            run,
            paths,
            maintenance,
            target,
            (gap, create, creates, empty, (renamed, tables), (secrets, nodes)),
            cut_over,
        ) = self.journal.with(|state| {
            let paths = state
                .plan
                .component(name)
                .map(|c| c.paths.clone())
                .unwrap_or_default();
            let target = state.plan.target_of(name);
            let request = &state.plan.request;
            // A directory that two components lie in is told of one of them only.
            let components = state.plan.components.iter();
            let creates = components.flat_map(|it| it.inspection.creates.clone());
            let allowed = (
                request.allow_time_gap,
                request.create,
                creates.collect(),
                request.is_beside() || request.allow_empty.iter().any(|it| it == name),
                (request.restore_as.clone(), request.tables.clone()),
                (request.secrets.clone(), request.nodes.clone()),
            );
            (
                state.run.clone(),
                paths,
                state.plan.maintenance,
                target,
                allowed,
                state.cut_over(name),
            )
        });
        RunContext::new(
            run,
            name,
            self.backup.clone(),
            Arc::new(self.journal.clone()),
            Arc::new(FindingRecorder {
                watcher: self.options.events.clone(),
                noticed: self.noticed.clone(),
            }),
            cancel,
        )
        .with_paths(paths)
        .with_maintenance(maintenance)
        .with_target(target)
        .with_time_gap(gap)
        .with_create(create)
        .with_creates(creates)
        .with_secrets(secrets)
        .with_nodes(nodes)
        .with_empty(empty)
        .with_restore_as(renamed)
        .with_tables(tables)
        .with_cut_over(cut_over)
    }

    pub(super) fn services(&self) -> Vec<PlannedService> {
        self.journal.with(|state| state.plan.services.clone())
    }

    /// The site's checks of one kind, at the same time; also those that failed before the run, which
    /// may pass now.
    pub(super) async fn checks(&self, when: When, since: Timestamp) -> Vec<CheckOutcome> {
        let before = self.journal.with(|state| state.checks_before.clone());
        let wanted = |check: &&Arc<dyn Check>| check.when() == when;
        let checks: Vec<&Arc<dyn Check>> = self.site.checks().iter().filter(wanted).collect();
        let made = checks.iter().map(|check| async {
            let run = check.run(since, RetryMode::UntilDeadline);
            let then = before.iter().find(|it| it.name == check.name() && !it.passed);
            let (Some(then), Some(longest)) = (then, longest(when)) else {
                return run.await;
            };
            match tokio::time::timeout(longest, run).await {
                Ok(outcome) => outcome,
                Err(_) => CheckOutcome::new(
                    check.name(),
                    false,
                    format!(
                        "not within {} s, and what failed before the run is not waited for longer; then it was: {}",
                        longest.as_secs(),
                        then.detail
                    ),
                ),
            }
        });
        futures_util::future::join_all(made).await
    }

    /// The site's checks of one kind after an undo. What failed before the run is asked once, and
    /// not waited for.
    pub(super) async fn checks_after_undo(
        &self,
        when: When,
        since: Timestamp,
    ) -> Vec<CheckOutcome> {
        let before = self.journal.with(|state| state.checks_before.clone());
        let checks = self.site.checks().iter().filter(|it| it.when() == when);
        let made = checks.map(|check| {
            let failed = |then: &CheckOutcome| then.name == check.name() && !then.passed;
            let failed_before = before.iter().any(failed);
            async move {
                if !failed_before {
                    return check.run(since, RetryMode::UntilDeadline).await;
                }
                let once = tokio::time::timeout(FAILED_BEFORE, check.run(since, RetryMode::Once));
                once.await.unwrap_or_else(|_| {
                    let detail = format!("not within {} s", FAILED_BEFORE.as_secs());
                    CheckOutcome::new(check.name(), false, detail)
                })
            }
        });
        futures_util::future::join_all(made).await
    }

    /// The first outcome that speaks against the platform: failed now, and not already before
    /// the run.
    pub(super) fn blame(&self, outcomes: &[CheckOutcome]) -> Option<CheckOutcome> {
        let before = self.journal.with(|state| state.checks_before.clone());
        outcomes
            .iter()
            .find(|now| {
                !now.passed
                    && !before
                        .iter()
                        .any(|then| then.name == now.name && !then.passed)
            })
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_failed_before_a_run_keeps_nobody_turned_away() {
        assert_eq!(longest(When::BeforeTraffic), Some(FAILED_BEFORE));
        // A platform that comes up after a disaster is not told to fail still.
        assert_eq!(longest(When::AfterTraffic), None);
    }
}
