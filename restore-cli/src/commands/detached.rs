//! `restore run --detach`: the run goes on in a process of its own, without a terminal.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use restore_core::{Error, ErrorKind, Plan, Report, Result, RunId, Site};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::args::Consent;
use crate::printer::Answer;
use crate::signals::Work;
use crate::{config, exit};

/// How often it is looked whether the run has begun.
const LOOK: Duration = Duration::from_millis(200);

/// Starts a process that does what was agreed to, and returns once it has begun its run, or has ended
/// without one.
pub(super) async fn leave(
    cx: &Context,
    site: &Site,
    plan: &Plan,
    consent: &Consent,
) -> Result<Answer> {
    let failed = |e| Error::io("start a process for the run", e);
    let before: BTreeSet<RunId> = runs(site).await?.map(|report| report.run).collect();
    let began = Instant::now();
    // From here on a wish to stop is the other process's: this one waits for what becomes of it.
    let cancel = cx.signals.entering(Work::Restoring);
    let config = std::path::absolute(config::find(cx.config.as_deref())?).map_err(failed)?;
    let missing = || failed(std::io::Error::other("what would start it is not known"));
    let (own, words) = cx.again.split_first().ok_or_else(missing)?;
    let mut command = Command::new(own);
    command.args(words).arg("--config").arg(config);
    command.args(["--progress", "off", "detached"]);
    if consent.yes {
        command.arg("--yes");
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let plan = serde_json::to_vec(plan).map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "cli.json",
            format!("cannot write the plan as JSON: {e}"),
        )
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that has ended already says why.
        let _ = stdin.write_all(&plan);
    }
    let Some(report) = begun(site, &mut child, &before, &cancel).await? else {
        return ended(child);
    };
    if report.under_way.is_none() {
        return cx.ended(&report, began);
    }
    let run = &report.run;
    let text = format!(
        "Run {run} goes on without this terminal.\n\
         restore watch {run}     shows it; ending that does not end the run\n\
         restore report {run}    shows what it did\n"
    );
    Answer::new("detached", &json!({ "run": run }), text)
}

/// The report of the run that the process has begun, be it that it has ended; `None` where the process
/// has ended without one. `before`: the runs that there were.
async fn begun(
    site: &Site,
    child: &mut Child,
    before: &BTreeSet<RunId>,
    cancel: &CancellationToken,
) -> Result<Option<Report>> {
    let process = format!("(process {})", child.id());
    let mut asked = false;
    loop {
        let has_ended = !matches!(child.try_wait(), Ok(None));
        let mut new = runs(site)
            .await?
            .filter(|report| !before.contains(&report.run));
        let own = new.find(|report| match &report.under_way {
            Some(at_work) => at_work.ends_with(&process),
            None => has_ended,
        });
        if own.is_some() || has_ended {
            return Ok(own);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = cancel.cancelled(), if !asked => {
                asked = true;
                let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                if let Some(pid) = pid {
                    // Planning it ends, restoring it undoes itself: it says which.
                    let _ = kill_process(pid, Signal::TERM);
                }
            }
        }
    }
}

/// All runs, newest first.
async fn runs(site: &Site) -> Result<impl Iterator<Item = Report>> {
    Ok(site.history().await?.into_iter().rev())
}

/// What a process that has ended before it was seen at work on a run has said.
fn ended(mut child: Child) -> Result<Answer> {
    let mut said = String::new();
    if let Some(stderr) = &mut child.stderr {
        let _ = stderr.read_to_string(&mut said);
    }
    let failed = |e| Error::io("wait for the process of the run", e);
    let code = child.wait().map_err(failed)?.code();
    let code = code.and_then(|code| u8::try_from(code).ok());
    let error = Error::new(
        ErrorKind::Failed,
        "cli.detached",
        "no run was begun: the process that was to do it has ended",
    )
    .hint("what it said stands above; without --detach it is seen as it happens");
    let code = code.unwrap_or_else(|| exit::of_error(&error));
    let answer = Answer::new("detached", &json!({ "run": null, "said": said }), said)?;
    Ok(answer.failed(Some(error), code))
}

/// The process that was left: the plan comes on stdin, and nobody sees what is printed once the run has
/// begun. It is in the report, in the site's log, and in what `restore watch` shows.
pub(super) async fn go_on(cx: &Context, consent: &Consent) -> Result<Answer> {
    // No terminal's end is this one's. Fails where it leads a session already.
    let _ = rustix::process::setsid();
    let mut text = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut text)
        .map_err(|e| Error::io("read the plan", e))?;
    let plan: Plan = serde_json::from_slice(&text).map_err(|e| {
        Error::new(
            ErrorKind::Config,
            "cli.bad_plan",
            format!("what comes on stdin is no plan: {e}"),
        )
        .hint("`restore run --detach` starts this with the plan that was agreed to")
    })?;
    let site = cx.site().await?;
    let began = Instant::now();
    cx.signals.entering(Work::Restoring);
    let report = Report::however_ended(site.run(plan, cx.running(consent)).await)?;
    cx.ended(&report, began)
}
