//! Deep verification: reading an artifact to its end as what it is, with the tool that knows it.

use std::io::{BufReader, ErrorKind as IoErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use crate::archive::{RefusedMember, Source, UnpackPolicy, read_through, walk_all};
use crate::contract::backup::artifact;
use crate::contract::backup::artifact::Artifact;
use crate::model::{Error, ErrorKind, Progress, Result};
use crate::sys::child;

/// What came of reading one file.
pub(crate) enum Outcome {
    /// It reads to its end.
    Sound,
    /// It does, and is a dump of tables without a single row.
    WithoutRows,
    /// It does not; why, in one line.
    Broken(String),
    /// It reads to its end, and these members of it would be refused.
    Refused(Vec<RefusedMember>),
    /// It does, and whether so many members of it are let in only the machine of the live tree knows.
    Unjudged(u64),
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

/// Reads `source` to its end. `tools`: see [`VerifyOptions`](crate::backup::verify::VerifyOptions). `policies`: how
/// it would be unpacked, where it is an archive.
///
/// An error is `Interrupted`, or that the file could not be opened, read or unpacked.
pub(crate) async fn check(
    source: &Source,
    tools: Option<&[PathBuf]>,
    policies: &[&UnpackPolicy],
    progress: &Progress,
) -> Result<Outcome> {
    let artifact = match policies {
        [] => {
            on_blocking(source, |source| {
                artifact::detect(source.open()?, source.label())
            })
            .await?
        }
        // Whatever its name: it is unpacked.
        _ => Artifact::Archive,
    };
    let outcome = match artifact {
        // These two count their bytes themselves.
        Artifact::Archive => return read_archive(source, policies, progress).await,
        Artifact::Packed => {
            read_through(source.clone(), progress.clone()).await?;
            return Ok(Outcome::Sound);
        }
        Artifact::Dump => {
            // `-l` reads the table of contents alone and takes a cut dump for whole.
            match run(&PG_RESTORE, source, tools).await? {
                Outcome::Sound if without_rows(source, tools).await? => Outcome::WithoutRows,
                outcome => outcome,
            }
        }
        Artifact::Rdb => run(&REDIS_CHECK_RDB, source, tools).await?,
        Artifact::Aof => run(&REDIS_CHECK_AOF, source, tools).await?,
        Artifact::Sql => on_blocking(source, |source| artifact::check_sql(source.open()?))
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

const PG_RESTORE_LIST: Tool = Tool {
    arguments: &["--list"],
    ..PG_RESTORE
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

/// Whether the table of contents of a dump has tables and no rows of any.
async fn without_rows(source: &Source, tools: Option<&[PathBuf]>) -> Result<bool> {
    for program in programs(PG_RESTORE_LIST.name, tools) {
        let started = start(&program, &PG_RESTORE_LIST, source).await?;
        let Ok(output) = started else { continue };
        if !output.status.success() {
            continue;
        }
        let list = String::from_utf8_lossy(&output.stdout);
        let entries = || list.lines().filter(|line| !line.starts_with(';'));
        return Ok(entries().any(|line| line.contains(" TABLE "))
            && !entries().any(|line| line.contains(" TABLE DATA ")));
    }
    Ok(false)
}

/// Runs the first of a tool's programs that can read the file.
async fn run(tool: &Tool, source: &Source, tools: Option<&[PathBuf]>) -> Result<Outcome> {
    let mut outcome = Outcome::Unchecked {
        reason: format!("{} is not installed", tool.name),
        package: Some(tool.package.to_owned()),
    };
    for program in programs(tool.name, tools) {
        let output = match start(&program, tool, source).await? {
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

/// What a program opens that is to read its standard input, and wants the name of a file: the very
/// file that is open there, whatever becomes of its name.
const GIVEN: &str = "/proc/self/fd/0";

/// Outer error: interrupted, or the file cannot be opened. Inner error: the program could not be
/// started.
async fn start(program: &Path, tool: &Tool, source: &Source) -> Result<std::io::Result<Output>> {
    let file = on_blocking(source, Source::open).await?;
    let child = child::tokio_command(&program.to_string_lossy())
        .args(tool.arguments)
        .arg(GIVEN)
        // The words that are looked for are English.
        .env("LC_ALL", "C")
        .stdin(file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    match child {
        Ok(child) => tokio::select! {
            () = source.cancel().cancelled() => Err(Error::interrupted()),
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

/// Reads a tar archive to its last member, once for each way in which it would be unpacked.
///
/// Who may own set-uid files is the site's word: where nobody unpacks it,
/// only names that lead out, devices and the like are refused.
async fn read_archive(
    source: &Source,
    policies: &[&UnpackPolicy],
    progress: &Progress,
) -> Result<Outcome> {
    let anywhere = UnpackPolicy {
        any_links: true,
        set_uid: true,
        ..UnpackPolicy::default()
    };
    let policies = match policies {
        [] => &[&anywhere][..],
        policies => policies,
    };
    let mut progress = progress.clone();
    let mut refused: Vec<RefusedMember> = Vec::new();
    let mut unjudged = 0;
    for policy in policies {
        let walked = walk_all(source.clone(), policy, progress.clone()).await?;
        unjudged = walked.unjudged.max(unjudged);
        for member in walked.refused {
            if !refused.contains(&member) {
                refused.push(member);
            }
        }
        // It is counted once.
        progress = Progress::hidden();
    }
    Ok(match (refused.is_empty(), unjudged) {
        (true, 0) => Outcome::Sound,
        (true, members) => Outcome::Unjudged(members),
        (false, _) => Outcome::Refused(refused),
    })
}

fn read_json(source: &Source) -> std::io::Result<Result<(), String>> {
    let reader = BufReader::new(source.open()?);
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
