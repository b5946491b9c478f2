//! Deep verification: reading an artifact to its end as what it is, with the tool that knows it.

use std::io::{BufReader, ErrorKind as IoErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio_util::sync::CancellationToken;

use super::artifact::{self, Artifact};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Progress;
use crate::stream::{Source, UnpackPolicy, read_through, walk};

/// What came of reading one file.
pub(super) enum Outcome {
    /// It reads to its end.
    Sound,
    /// It does not; why, in one line.
    Broken(String),
    /// Nothing here could read it.
    Unchecked {
        /// Why, in one line.
        reason: String,
        /// The package that has the missing tool.
        package: Option<String>,
    },
}

impl From<Result<(), String>> for Outcome {
    fn from(result: Result<(), String>) -> Self {
        result.map_or_else(Self::Broken, |()| Self::Sound)
    }
}

/// Reads `source` to its end. `tools`: see [`VerifyOptions`](super::VerifyOptions).
///
/// An error is `Interrupted`, or that the file could not be opened, read or unpacked.
pub(super) async fn check(
    source: &Source,
    tools: Option<&[PathBuf]>,
    progress: &Progress,
) -> Result<Outcome> {
    let artifact = on_blocking(source, |source| {
        artifact::detect(source.path(), source.label())
    })
    .await?;
    let outcome = match artifact {
        // These two count their bytes themselves.
        Artifact::Archive => return read_archive(source, progress).await,
        Artifact::Packed => {
            read_through(source.clone(), progress.clone()).await?;
            return Ok(Outcome::Sound);
        }
        Artifact::Dump => {
            // `-l` reads the table of contents alone and takes a cut dump for whole.
            run(&PG_RESTORE, source, tools).await?
        }
        Artifact::Rdb => run(&REDIS_CHECK_RDB, source, tools).await?,
        Artifact::Aof => run(&REDIS_CHECK_AOF, source, tools).await?,
        Artifact::Sql => on_blocking(source, |source| artifact::check_sql(source.path()))
            .await?
            .into(),
        Artifact::Json => on_blocking(source, read_json).await?.into(),
        Artifact::Plain => Outcome::Sound,
        Artifact::Opaque => Outcome::Unchecked {
            reason: "it is encrypted, or packed in a way that is not read here".to_owned(),
            package: None,
        },
    };
    progress.add(source.size().unwrap_or_default());
    Ok(outcome)
}

/// A program that reads one kind of artifact, and how to understand it.
struct Tool {
    name: &'static str,
    package: &'static str,
    /// Arguments before the file.
    arguments: &'static [&'static str],
    /// What it says where the file is newer than the program, or needs something it lacks.
    limits: &'static [&'static str],
    /// What it says of a broken file, in one line.
    explain: fn(&str) -> String,
}

const PG_RESTORE: Tool = Tool {
    name: "pg_restore",
    package: "postgresql-client",
    arguments: &["-f", "/dev/null"],
    limits: &["unsupported version", "does not support compression"],
    explain: |said| {
        last_line_with(said, "error: ")
            .map(|line| line.split_once("error: ").map_or(line, |(_, why)| why))
            .map_or_else(|| last_line(said), str::to_owned)
    },
};

const REDIS_CHECK_RDB: Tool = Tool {
    name: "redis-check-rdb",
    package: "redis-tools",
    arguments: &[],
    limits: &["Can't handle RDB format version"],
    explain: |said| {
        said.lines()
            .skip_while(|line| !line.contains("RDB ERROR DETECTED"))
            .nth(1)
            .map_or_else(|| last_line(said), |line| line.trim().to_owned())
    },
};

const REDIS_CHECK_AOF: Tool = Tool {
    name: "redis-check-aof",
    package: "redis-tools",
    // Never `--fix`: it cuts the file.
    arguments: &[],
    // It opens the file for writing too, although it writes only with `--fix`: a store that is
    // mounted read-only or files that are immutable are beyond it.
    limits: &["Can't handle RDB format version", "Cannot open file"],
    explain: |said| {
        let field = |name: &str| {
            let (_, rest) = last_line_with(said, "AOF analyzed")?.split_once(name)?;
            Some(rest.split([',', ' ']).next().unwrap_or(rest))
        };
        match (field("ok_up_to="), field(" size=")) {
            (Some(good), Some(size)) => format!("it is intact up to byte {good} of {size}"),
            _ => (REDIS_CHECK_RDB.explain)(said),
        }
    },
};

/// Runs the first of a tool's programs that can read the file.
async fn run(tool: &Tool, source: &Source, tools: Option<&[PathBuf]>) -> Result<Outcome> {
    // A relative path could begin with a dash.
    let file = std::path::absolute(source.path())
        .map_err(|e| Error::io(format!("find {}", source.path().display()), e))?;
    let mut outcome = Outcome::Unchecked {
        reason: format!("{} is not installed", tool.name),
        package: Some(tool.package.to_owned()),
    };
    for program in programs(tool.name, tools) {
        let output = match start(&program, tool, &file, source.cancel()).await? {
            Ok(output) => output,
            Err(e) if e.kind() == IoErrorKind::NotFound => continue,
            Err(e) => {
                outcome = Outcome::Unchecked {
                    reason: format!("{} cannot be started: {e}", program.display()),
                    package: None,
                };
                continue;
            }
        };
        if output.status.success() {
            return Ok(Outcome::Sound);
        }
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push('\n');
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        if let Some(limit) = tool
            .limits
            .iter()
            .find_map(|words| last_line_with(&said, words))
        {
            outcome = Outcome::Unchecked {
                reason: format!("{} cannot read it: {}", tool.name, limit.trim()),
                package: None,
            };
            continue;
        }
        if output.status.code().is_none() {
            // Killed from outside (out of memory, an operator): says nothing of the file.
            outcome = Outcome::Unchecked {
                reason: format!("{} was stopped: {}", tool.name, output.status),
                package: None,
            };
            continue;
        }
        let why = (tool.explain)(&said);
        return Ok(Outcome::Broken(format!("{} says: {why}", tool.name)));
    }
    Ok(outcome)
}

/// Outer error: interrupted. Inner error: the program could not be started.
async fn start(
    program: &Path,
    tool: &Tool,
    file: &Path,
    cancel: &CancellationToken,
) -> Result<std::io::Result<Output>> {
    let child = tokio::process::Command::new(program)
        .args(tool.arguments)
        .arg(file)
        // The words that are looked for are English.
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    match child {
        Ok(child) => tokio::select! {
            () = cancel.cancelled() => Err(Error::interrupted()),
            output = child.wait_with_output() => Ok(output),
        },
        Err(e) => Ok(Err(e)),
    }
}

/// Where a program may be, best first. Debian keeps each major version of PostgreSQL's apart.
fn programs(name: &str, tools: Option<&[PathBuf]>) -> Vec<PathBuf> {
    if let Some(directories) = tools {
        return directories.iter().map(|dir| dir.join(name)).collect();
    }
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin").join(name)))
        })
        .collect();
    versions.sort_by(|a, b| b.cmp(a));
    std::iter::once(PathBuf::from(name))
        .chain(versions.into_iter().map(|(_, program)| program))
        .collect()
}

fn last_line_with<'a>(said: &'a str, words: &str) -> Option<&'a str> {
    said.lines().rev().find(|line| line.contains(words))
}

fn last_line(said: &str) -> String {
    said.lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or("nothing")
        .to_owned()
}

/// Reads a tar archive to its last member.
///
/// Where links may lead and who may own set-uid files is the site's word, which only a restore
/// has; names that lead out, devices and the like are refused whatever the site says.
async fn read_archive(source: &Source, progress: &Progress) -> Result<Outcome> {
    let policy = UnpackPolicy {
        live_root: PathBuf::from("/"),
        set_uid: true,
        ..UnpackPolicy::default()
    };
    walk(source.clone(), &policy, progress.clone()).await?;
    Ok(Outcome::Sound)
}

fn read_json(source: &Source) -> std::io::Result<Result<(), String>> {
    let reader = BufReader::new(std::fs::File::open(source.path())?);
    match serde_json::from_reader::<_, serde::de::IgnoredAny>(reader) {
        Ok(_) => Ok(Ok(())),
        Err(e) if e.is_io() => Err(e.into()),
        Err(e) => Ok(Err(format!("it is no JSON: {e}"))),
    }
}

/// Reads in a blocking thread; `Interrupted` where that is why it ended.
async fn on_blocking<T: Send + 'static>(
    source: &Source,
    read: impl FnOnce(&Source) -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    let (label, cancel) = (source.label().to_owned(), source.cancel().clone());
    let source = source.clone();
    let result = tokio::task::spawn_blocking(move || read(&source))
        .await
        .map_err(|e| {
            Error::new(
                ErrorKind::Internal,
                "verify.task",
                format!("reading {label} stopped: {e}"),
            )
        })?;
    if cancel.is_cancelled() {
        return Err(Error::interrupted());
    }
    result.map_err(|e| Error::io(format!("read {label}"), e))
}
