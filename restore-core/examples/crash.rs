//! Dies in the middle of a restore, to show what `resume` and `rollback` make of it.
//!
//! `crash CONFIG ACTION WHEN [BACKUP [TO]]`: opens the site, does ACTION (`run`, `create`, which is a run
//! that may make what is absent, `create:ONLY:SECRETS`, the same of these components with the secrets in that
//! directory, `resume` or `rollback`) and, at the boundary WHEN, kills itself with SIGKILL. WHEN is a boundary's number or
//! what is written down there, `intent stop:app`; `error:WHEN` lets the boundary fail instead, and
//! `never` only counts. With TO (a time, or `latest`) the run recovers to that. Prints each boundary,
//! then how the run ended. An embedder does the same with a [`RunOptions::boundary`] to try
//! components of its own.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use restore_core::platform::SecretFiles;
use restore_core::run::Boundary;
use restore_core::{
    Error, ErrorKind, PlanRequest, RecoveryTarget, Report, Result, RunOptions, Site,
};

enum Fault {
    Kill(String),
    Error(String),
    Never,
}

fn is_at(boundary: &Boundary, when: &str) -> bool {
    // The time in an id is another one in each run.
    let timeless = |record: &str| record.replace(|it: char| it.is_ascii_digit(), "");
    match when.parse::<usize>() {
        Ok(index) => index == boundary.index,
        Err(_) if when.contains("pre-restore-") => timeless(when) == timeless(&boundary.record),
        Err(_) => when == boundary.record,
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (config, action, when, backup, to) = match &args[..] {
        [config, action, when] => (config, action, when, "latest", None),
        [config, action, when, backup] => (config, action, when, backup.as_str(), None),
        [config, action, when, backup, to] => {
            (config, action, when, backup.as_str(), Some(to.as_str()))
        }
        _ => {
            eprintln!(
                "usage: crash CONFIG run|create|resume|rollback WHEN|error:WHEN|never [BACKUP [TO]]"
            );
            return ExitCode::from(2);
        }
    };
    let fault = match (when.as_str(), when.strip_prefix("error:")) {
        ("never", _) => Fault::Never,
        (_, Some(when)) => Fault::Error(when.to_owned()),
        (when, None) => Fault::Kill(when.to_owned()),
    };
    let hook = move |boundary: &Boundary| {
        println!("{} {}", boundary.index, boundary.record);
        match &fault {
            Fault::Kill(when) if is_at(boundary, when) => {
                let me = rustix::process::getpid();
                let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
                // The signal is on its way; nothing may happen in the meantime.
                loop {
                    std::thread::park();
                }
            }
            Fault::Error(when) if is_at(boundary, when) => Err(Error::new(
                ErrorKind::Failed,
                "crash.injected",
                "an injected failure",
            )),
            _ => Ok(()),
        }
    };
    let options = RunOptions::new().boundary(Arc::new(hook));
    let ended = act(Path::new(config), action, (backup, to), options).await;
    match Report::however_ended(ended) {
        Ok(report) => {
            println!("outcome {}", report.outcome);
            if let Some(failure) = report.stuck.or(report.failure) {
                println!("{}: {}", failure.step, failure.message);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("refused {}: {error}", error.code());
            ExitCode::FAILURE
        }
    }
}

async fn act(
    config: &Path,
    action: &str,
    (backup, to): (&str, Option<&str>),
    options: RunOptions,
) -> Result<Report> {
    let site = Site::open(config).await?;
    match action {
        "resume" => site.resume(None, options).await,
        "rollback" => site.rollback(None, options).await,
        _ => {
            let target = to.map(str::parse::<RecoveryTarget>).transpose()?;
            let (create, rest) = match action.split_once(':') {
                Some((action, rest)) => (action == "create", rest.split_once(':')),
                None => (action == "create", None),
            };
            let mut request = PlanRequest::all().to(target).create(create);
            if let Some((only, secrets)) = rest {
                let secrets = SecretFiles::default().in_directory(Path::new(secrets).to_owned());
                request = request.only(only.split(',')).secrets(secrets);
            }
            let backup = site.backup_for(backup, &request).await?;
            let plan = site.plan_with(&backup, request, &RunOptions::new()).await?;
            site.run(plan, options).await
        }
    }
}
