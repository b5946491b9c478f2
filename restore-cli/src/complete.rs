//! What shells complete words to: besides commands and options, ids of backups and runs, and names of components.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory as _;
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, CompletionCandidate};
use restore_core::{Error, ErrorKind, Result, Site};

use crate::args::{Args, ShellArg};
use crate::config;
use crate::topics::TOPICS;

/// The variable by which a shell's script asks for words.
const VARIABLE: &str = "RESTORE_COMPLETE";

/// Nobody waits longer for a word.
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers a shell's script, where one asks, and ends the program then.
pub(crate) fn answer() {
    CompleteEnv::with_factory(Args::command)
        .var(VARIABLE)
        .complete();
}

/// The script that makes a shell ask.
pub(crate) fn script(shell: ShellArg) -> Result<String> {
    let name = match shell {
        ShellArg::Bash => "bash",
        ShellArg::Zsh => "zsh",
        ShellArg::Fish => "fish",
    };
    let failed = |what: String| Error::new(ErrorKind::Internal, "cli.completions", what);
    let shells = Shells::builtins();
    let shell = shells
        .completer(name)
        .ok_or_else(|| failed(format!("no completions for {name}")))?;
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "restore", "restore", "restore", &mut script)
        .map_err(|e| failed(e.to_string()))?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// The ids of the backups on this host, newest first; other hosts are not asked for a word.
pub(crate) fn backups() -> Vec<CompletionCandidate> {
    words(async |site| {
        let mut ids = Vec::new();
        for (_, store) in site.stores() {
            if store.directory().is_some() {
                ids.extend(store.list().await.unwrap_or_default());
            }
        }
        ids.sort();
        ids.dedup();
        let ids = ids.iter().rev().map(ToString::to_string);
        std::iter::once("latest".to_owned()).chain(ids).collect()
    })
}

/// The ids of the runs, newest first.
pub(crate) fn runs() -> Vec<CompletionCandidate> {
    words(async |site| {
        let reports = site.history().await.unwrap_or_default();
        reports.iter().rev().map(|it| it.run.to_string()).collect()
    })
}

/// The names of the components.
pub(crate) fn components() -> Vec<CompletionCandidate> {
    words(async |site| {
        let components = site.components().iter();
        components.map(|it| it.name().to_owned()).collect()
    })
}

/// The topics of `restore help`.
pub(crate) fn topics() -> Vec<CompletionCandidate> {
    let topics = TOPICS.iter().enumerate();
    topics
        .map(|(at, topic)| CompletionCandidate::new(topic.name).display_order(Some(at)))
        .collect()
}

/// The names of the stores.
pub(crate) fn stores() -> Vec<CompletionCandidate> {
    words(async |site| site.stores().iter().map(|(name, _)| name.clone()).collect())
}

/// Words of the site; none where there is no configuration, or it does not answer.
fn words(of: impl AsyncFnOnce(Site) -> Vec<String>) -> Vec<CompletionCandidate> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return Vec::new();
    };
    let found = runtime.block_on(in_time(async {
        let site = Site::open(&config::find(named().as_deref())?).await?;
        Ok::<_, Error>(of(site).await)
    }));
    let found = found.and_then(Result::ok).unwrap_or_default();
    let candidates = found.into_iter().enumerate();
    candidates
        .map(|(at, word)| CompletionCandidate::new(word).display_order(Some(at)))
        .collect()
}

async fn in_time<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(PATIENCE, work).await.ok()
}

/// The configuration that the line names so far.
fn named() -> Option<PathBuf> {
    let words: Vec<_> = std::env::args_os().collect();
    let at = words.iter().position(|word| word == "--config")?;
    words.get(at + 1).map(PathBuf::from)
}
