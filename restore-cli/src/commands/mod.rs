//! One file a verb.

mod backup;
mod check;
mod confirm;
mod drill;
mod fetch;
mod history;
mod list;
mod plan;
mod prune;
mod report;
mod resume;
mod rollback;
mod run;
mod show;
mod unlock;
mod verify;
mod volume_agent;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use restore_core::{FetchOptions, Report, Result, RunId, RunOptions, Site};

use crate::args::{Args, RunArg, Verb};
use crate::printer::Answer;
use crate::progress::Stderr;
use crate::signals::{Signals, Work};
use crate::{config, exit, render};

/// What every verb works with.
struct Context {
    config: Option<PathBuf>,
    stderr: Stderr,
    signals: Signals,
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

    /// Options for fetching; the signals then know that it ends by itself.
    fn fetching(&self) -> FetchOptions {
        FetchOptions::new()
            .events(Arc::new(self.stderr.clone()))
            .cancelled_by(self.signals.entering(Work::Fetching))
    }

    /// The end of a run that was begun: its report, its last line, its error.
    fn ended(&self, report: &Report, began: Instant) -> Result<Answer> {
        self.stderr.say(render::done_line(report, began.elapsed()));
        let answer = Answer::new("report", report, report.to_text())?;
        Ok(answer.failed(report.error(), exit::of_report(report)))
    }
}

impl RunArg {
    /// The run's id, where one is given.
    fn id(&self) -> Result<Option<RunId>> {
        self.run.as_deref().map(str::parse).transpose()
    }
}

/// Does what the arguments say.
pub(crate) async fn run(args: Args, stderr: Stderr, signals: Signals) -> Result<Answer> {
    let cx = Context {
        config: args.config,
        stderr,
        signals,
    };
    match args.verb {
        Verb::List => list::list(&cx).await,
        Verb::Show(backup) => show::show(&cx, &backup.id).await,
        Verb::Verify { backup, deep } => verify::verify(&cx, &backup.id, deep).await,
        Verb::Backup(args) => backup::backup(&cx, &args).await,
        Verb::Prune(args) => prune::prune(&cx, &args).await,
        Verb::Fetch { backup, from, to } => fetch::fetch(&cx, &backup.id, from, to).await,
        Verb::Check => check::check(&cx).await,
        Verb::Plan(args) => plan::plan(&cx, &args).await,
        Verb::Run { plan, consent } => run::run(&cx, &plan, &consent).await,
        Verb::Drill(args) => drill::drill(&cx, &args).await,
        Verb::Rollback { run, consent } => rollback::rollback(&cx, run.id()?, &consent).await,
        Verb::Resume(run) => resume::resume(&cx, run.id()?).await,
        Verb::Confirm { run, consent } => confirm::confirm(&cx, run.id()?, &consent).await,
        Verb::Unlock(consent) => unlock::unlock(&cx, &consent).await,
        Verb::History => history::history(&cx).await,
        Verb::Report(run) => report::report(&cx, run.id()?).await,
        Verb::VolumeAgent { directory } => volume_agent::volume_agent(&directory).await,
    }
}
