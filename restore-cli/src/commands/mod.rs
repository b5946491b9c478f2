//! One file a verb.

mod abandon;
mod backup;
mod check;
mod completions;
mod config_check;
mod config_schema;
mod confirm;
mod detached;
mod drill;
mod fetch;
mod get;
mod help;
mod history;
mod init;
mod list;
mod manual;
mod members;
mod page;
mod plan;
mod prune;
mod report;
mod resume;
mod rollback;
mod run;
mod show;
mod status;
mod unlock;
mod verify;
mod volume_agent;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use restore_core::{FetchOptions, Finding, Report, Result, RunId, RunOptions, Site};

use crate::args::{Args, ConfigVerb, Consent, ProgressMode, RunArg, Verb};
use crate::printer::Answer;
use crate::progress::{Stderr, finding_line};
use crate::signals::{Signals, Work};
use crate::{config, consent, exit, render};

/// What every verb works with.
struct Context {
    config: Option<PathBuf>,
    stderr: Stderr,
    signals: Signals,
    json: bool,
    /// Nothing is shown but questions, errors and what was asked for.
    quiet: bool,
    /// Nothing of what is noticed is shown while it happens.
    silent: bool,
    /// What starts this program once more.
    again: Vec<OsString>,
}

impl Context {
    async fn site(&self) -> Result<Site> {
        Site::open(&config::find(self.config.as_deref())?).await
    }

    /// Options for work that leaves no traces.
    fn reading(&self) -> RunOptions {
        RunOptions::new()
            .events(Arc::new(self.stderr.clone()))
            .cancelled_by(self.signals.token())
    }

    /// Options for `work`, which from here on must not simply be dropped.
    fn entering(&self, work: Work) -> RunOptions {
        RunOptions::new()
            .events(Arc::new(self.stderr.clone()))
            .cancelled_by(self.signals.entering(work))
    }

    /// The same for a run: asks whoever agreed to its plan on a terminal about what that did not say.
    /// Who wants no questions is told, and goes on.
    fn running(&self, consent: &Consent) -> RunOptions {
        let (yes, stderr) = (consent.yes, self.stderr.clone());
        let options = self.entering(Work::Restoring);
        options.asked(Arc::new(move |question: &Finding| match yes {
            true => {
                stderr.tell(finding_line(question));
                true
            }
            false => consent::agrees(question, &stderr),
        }))
    }

    /// Options for fetching; the signals then know that it ends by itself.
    fn fetching(&self) -> FetchOptions {
        FetchOptions::new()
            .events(Arc::new(self.stderr.clone()))
            .cancelled_by(self.signals.entering(Work::Fetching))
    }

    /// The end of a run that was begun: its report, its last line, its error.
    fn ended(&self, report: &Report, began: Instant) -> Result<Answer> {
        if self.json {
            self.stderr.say(render::done_line(report, began.elapsed()));
        }
        let mut text = String::new();
        if self.silent {
            text += &render::noticed(report);
        }
        text += &report.to_summary();
        let answer = Answer::new("report", report, text)?;
        let answer = answer.failed(report.error(), exit::of_report(report));
        Ok(answer.told())
    }
}

impl RunArg {
    /// The run's id, where one is given.
    fn id(&self) -> Result<Option<RunId>> {
        self.run.as_deref().map(str::parse).transpose()
    }
}

/// A command's work on the heap, made in a frame of its own: otherwise the frame of whoever waits has room for all of
/// them.
#[inline(never)]
fn apart<'a, F>(
    command: impl FnOnce() -> F,
) -> Pin<Box<dyn Future<Output = Result<Answer>> + Send + 'a>>
where
    F: Future<Output = Result<Answer>> + Send + 'a,
{
    Box::pin(command())
}

/// Does what the arguments say.
pub(crate) async fn run(
    args: Args,
    stderr: Stderr,
    signals: Signals,
    again: Vec<OsString>,
) -> Result<Answer> {
    let cx = Context {
        config: args.config,
        stderr,
        signals,
        json: args.json,
        quiet: args.quiet,
        silent: args.quiet || args.progress == ProgressMode::Off,
        again,
    };
    match args.verb {
        Verb::Init(args) => apart(|| init::init(&cx, args)).await,
        Verb::Status => apart(|| status::status(&cx)).await,
        Verb::Config(ConfigVerb::Check) => apart(|| config_check::config_check(&cx)).await,
        Verb::Config(ConfigVerb::Schema) => config_schema::config_schema(),
        Verb::List => apart(|| list::list(&cx)).await,
        Verb::Show(args) => match &args.files {
            Some(pattern) => apart(|| members::members(&cx, &args, pattern.as_deref())).await,
            None => apart(|| show::show(&cx, &args.backup.id)).await,
        },
        Verb::Get(args) => apart(|| get::get(&cx, &args)).await,
        Verb::Verify { backup, deep } => apart(|| verify::verify(&cx, &backup.id, deep)).await,
        Verb::Backup(args) => apart(|| backup::backup(&cx, &args)).await,
        Verb::Prune(args) => apart(|| prune::prune(&cx, &args)).await,
        Verb::Fetch { backup, from, to } => apart(|| fetch::fetch(&cx, &backup.id, from, to)).await,
        Verb::Check => apart(|| check::check(&cx)).await,
        Verb::Plan(args) => apart(|| plan::plan(&cx, &args)).await,
        Verb::Run {
            plan,
            consent,
            detach,
        } => apart(|| run::run(&cx, &plan, &consent, detach)).await,
        Verb::Detached(consent) => apart(|| detached::go_on(&cx, &consent)).await,
        Verb::Watch(run) => {
            let id = run.id()?;
            apart(|| watch::watch(&cx, id)).await
        }
        Verb::Drill(args) => apart(|| drill::drill(&cx, &args)).await,
        Verb::Rollback { run, consent } => {
            let id = run.id()?;
            apart(|| rollback::rollback(&cx, id, &consent)).await
        }
        Verb::Resume(run) => {
            let id = run.id()?;
            apart(|| resume::resume(&cx, id)).await
        }
        Verb::Confirm { run, consent } => {
            let id = run.id()?;
            apart(|| confirm::confirm(&cx, id, &consent)).await
        }
        Verb::Abandon { run, consent } => {
            let id = run.id()?;
            apart(|| abandon::abandon(&cx, id, &consent)).await
        }
        Verb::Page { page } => apart(|| page::page(&cx, page)).await,
        Verb::Unlock(consent) => apart(|| unlock::unlock(&cx, &consent)).await,
        Verb::History { search } => apart(|| history::history(&cx, search)).await,
        Verb::Report(run) => {
            let id = run.id()?;
            apart(|| report::report(&cx, id)).await
        }
        Verb::Completions { shell } => completions::completions(shell),
        Verb::Help { topic } => help::help(&topic),
        Verb::Manual { directory } => manual::manual(&directory),
        Verb::VolumeAgent { directory } => apart(|| volume_agent::volume_agent(&directory)).await,
    }
}
