//! Deep verification: reading an artifact to its end as what it is, with the tool that knows it.

use std::fs::File;
use std::io::{BufReader, ErrorKind as IoErrorKind, PipeWriter, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc::channel;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::archive::{
    RefusedMember, Source, UnpackPolicy, forward_chunks, is_compressed, walk_all,
};
use crate::contract::backup::artifact;
use crate::contract::backup::artifact::Artifact;
use crate::contract::backup::tar_dump::{self, Rows, TarDump};
use crate::model::{Error, ErrorKind, Progress, Result};
use crate::sys::process::account::Account;
use crate::sys::process::launch::{self, Bounds};
use crate::sys::process::programs::stranger;
use crate::sys::{child, random_name};

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
    /// It is whole as far as it was read, and would not be unpacked: why, and the members that would be refused
    /// besides.
    Unfit(Error, Vec<RefusedMember>),
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
        Artifact::Archive => {
            return match read_archive(source, policies, progress).await? {
                // It may be a dump's folder; all others are read once.
                (Outcome::Sound, true) if policies.is_empty() => {
                    look_inside(source, Inside::archive(), &Progress::hidden()).await
                }
                (outcome, _) => Ok(outcome),
            };
        }
        Artifact::Packed => {
            let rows = is_of_folder(source).then(Rows::default);
            return look_inside(source, Inside::packed(rows), progress).await;
        }
        Artifact::Dump => match on_blocking(source, check_tar).await? {
            // pg_restore would read it for ever, or take what there is for all of it.
            Err(why) => Outcome::Broken(why),
            // `-l` reads the table of contents alone and takes a cut dump for whole.
            Ok(()) => match run(&PG_RESTORE, source, tools).await? {
                Outcome::Sound if without_rows(source, tools).await? => Outcome::WithoutRows,
                outcome => outcome,
            },
        },
        Artifact::Plain if is_of_folder(source) => on_blocking(source, check_rows).await?.into(),
        Artifact::Rdb => run(&REDIS_CHECK_RDB, source, tools).await?,
        Artifact::Aof => run(&REDIS_CHECK_AOF, source, tools).await?,
        Artifact::ValkeyRdb => run(&VALKEY_CHECK_RDB, source, tools).await?,
        Artifact::ValkeyAof => run(&VALKEY_CHECK_AOF, source, tools).await?,
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

/// Whether a file has the rows of a table in a dump of pg_dump's directory format.
fn is_of_folder(source: &Source) -> bool {
    let name = source.label().rsplit('/').next().unwrap_or_default();
    tar_dump::rows_file(name).is_some() && source.path().with_file_name("toc.dat").is_file()
}

/// Whether a file is whole, if it is an archive in pg_dump's tar format.
fn check_tar(source: &Source) -> std::io::Result<Result<(), String>> {
    let mut file = source.open()?;
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(512).read_to_end(&mut head)?;
    if !TarDump::begins(&head) {
        return Ok(Ok(()));
    }
    file.rewind()?;
    tar_dump::check(&mut file, || source.cancel().is_cancelled())
}

/// Whether the rows of a table are whole.
fn check_rows(source: &Source) -> std::io::Result<Result<(), String>> {
    let whole = tar_dump::check_rows(&mut source.open()?)?;
    Ok(match whole {
        true => Ok(()),
        false => Err(tar_dump::cut_rows(source.label())),
    })
}

/// What is looked at of what a file is decompressed to.
#[derive(Default)]
struct Inside {
    /// What has come before it is known what it is.
    head: Vec<u8>,
    archive: Option<TarDump>,
    /// It is known to be an archive, whatever is in it.
    any: bool,
    rows: Option<Rows>,
}

impl Inside {
    fn archive() -> Self {
        Self {
            archive: Some(TarDump::default()),
            any: true,
            ..Self::default()
        }
    }

    fn packed(rows: Option<Rows>) -> Self {
        Self {
            rows,
            ..Self::default()
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        if let Some(rows) = &mut self.rows {
            rows.feed(bytes);
        } else if let Some(archive) = &mut self.archive {
            archive.feed(bytes);
        } else if self.head.len() < 512 {
            self.head.extend_from_slice(bytes);
            if self.head.get(257..262) == Some(b"ustar") {
                self.any = !TarDump::begins(&self.head);
                let mut archive = TarDump::default();
                archive.feed(&self.head);
                self.archive = Some(archive);
            }
        }
    }

    fn finish(self, label: &str) -> Result<(), String> {
        match (self.rows, self.archive) {
            (Some(rows), _) if !rows.is_whole() => Err(tar_dump::cut_rows(label)),
            (None, Some(archive)) if self.any => archive.finish_rows(),
            (None, Some(archive)) => archive.finish(),
            (None, None) if is_of_database(label) && self.head.is_empty() => {
                Err("it is the compressed form of nothing".to_owned())
            }
            (None, None) if is_of_database(label) && is_compressed(&self.head) => {
                Err("it is compressed twice".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Whether a file is by its name what a database is restored from, which is never nothing.
fn is_of_database(label: &str) -> bool {
    let mut packed = [".gz", ".zst", ".bz2", ".xz", ".lz4"].iter();
    let plain = packed.find_map(|end| label.strip_suffix(end));
    let plain = plain.unwrap_or(label);
    [".dump", ".sql", ".rdb"]
        .iter()
        .any(|end| plain.ends_with(end))
}

/// Reads a file to its end, decompressed where it is compressed, and looks at what comes.
async fn look_inside(source: &Source, mut inside: Inside, progress: &Progress) -> Result<Outcome> {
    let (send, mut pieces) = channel(4);
    let reading = forward_chunks(source.clone(), progress.clone(), send);
    let looking = async {
        while let Some(piece) = pieces.recv().await {
            inside.feed(&piece);
        }
    };
    let (read, ()) = tokio::join!(reading, looking);
    read?;
    Ok(inside.finish(source.label()).into())
}

/// A program that reads one kind of artifact, and how to understand it.
struct Tool {
    name: &'static str,
    /// What another product calls its own, which reads the same.
    other: Option<&'static str>,
    package: &'static str,
    /// Arguments before the file.
    arguments: &'static [&'static str],
    takes: Takes,
    /// What it says where the file is newer than the program, or needs something it lacks.
    limits: &'static [&'static str],
    /// What it says of a broken file, in one line.
    explain: fn(&str) -> String,
}

/// How a program takes the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// As its standard input.
    Input,
    /// By a name; it reads from the start to the end, and needs not know how long it is.
    Name,
    /// By a name; it opens the file for writing too, asks how long it is, and reads where it likes.
    Whole,
}

const PG_RESTORE: Tool = Tool {
    name: "pg_restore",
    other: None,
    package: "postgresql-client",
    arguments: &["-f", "/dev/null"],
    takes: Takes::Input,
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
    other: Some("valkey-check-rdb"),
    package: "redis-tools",
    arguments: &[],
    takes: Takes::Name,
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
    other: Some("valkey-check-aof"),
    package: "redis-tools",
    // Never `--fix`: it cuts the file.
    arguments: &[],
    takes: Takes::Whole,
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

/// What Valkey before 9 and Redis say of a format that is not theirs.
const NOT_ITS_OWN: &str = "Wrong signature";

const VALKEY_CHECK_RDB: Tool = Tool {
    name: "valkey-check-rdb",
    other: None,
    package: "valkey-tools",
    limits: &["Can't handle RDB format version", NOT_ITS_OWN],
    ..REDIS_CHECK_RDB
};

const VALKEY_CHECK_AOF: Tool = Tool {
    name: "valkey-check-aof",
    other: None,
    package: "valkey-tools",
    limits: &[
        "Can't handle RDB format version",
        "Cannot open file",
        NOT_ITS_OWN,
    ],
    ..REDIS_CHECK_AOF
};

/// Whether the table of contents of a dump has tables and no rows of any.
async fn without_rows(source: &Source, tools: Option<&[PathBuf]>) -> Result<bool> {
    for program in programs(PG_RESTORE_LIST.name, tools) {
        let Ran::Ended(output) = start(&program, &PG_RESTORE_LIST, source).await? else {
            continue;
        };
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
    let names = std::iter::once(tool.name).chain(tool.other);
    for program in names.flat_map(|name| programs(name, tools)) {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let output = match start(&program, tool, source).await? {
            Ran::Ended(output) => output,
            Ran::Absent => continue,
            Ran::Not(reason) => {
                outcome = Outcome::Unchecked {
                    reason,
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
                reason: format!("{name} cannot read it: {}", limit.trim()),
                package: None,
            };
            continue;
        }
        if output.status.code().is_none() {
            // Killed from outside (out of memory, an operator): says nothing of the file.
            outcome = Outcome::Unchecked {
                reason: format!("{name} was stopped: {}", output.status),
                package: None,
            };
            continue;
        }
        let why = (tool.explain)(&said);
        return Ok(Outcome::Broken(format!("{name} says: {why}")));
    }
    Ok(outcome)
}

/// What a program opens that is to read its standard input, and wants the name of a file: the very
/// file that is open there, whatever becomes of its name.
const GIVEN: &str = "/proc/self/fd/0";

/// How long a program may take for any file, and besides for each mebibyte of it. One that is broken in
/// some ways is read for ever: a cut dump in the tar format by `pg_restore`.
const PATIENCE: Duration = Duration::from_secs(600);
const PER_MEBIBYTE: Duration = Duration::from_secs(1);

/// As much of the end of what a program says is kept.
const KEPT: usize = 1 << 20;

/// So much is left of the file system that a copy is written to.
const LEFT: u64 = 256 << 20;

/// What came of a program.
enum Ran {
    Ended(Output),
    /// It is not there.
    Absent,
    /// It could not be started, or did not come to its end; in words.
    Not(String),
}

/// Runs a program that reads what a stranger may have written, in parsers that were made for what is
/// trusted: as a user that owns nothing where we are root, and not for ever.
///
/// An error is `Interrupted`, or that the file cannot be read.
async fn start(program: &Path, tool: &Tool, source: &Source) -> Result<Ran> {
    let size = source.size().unwrap_or_default();
    let per_size = u32::try_from(size >> 20).unwrap_or(u32::MAX);
    let patience = PATIENCE.saturating_add(PER_MEBIBYTE.saturating_mul(per_size));
    start_within(program, tool, source, patience).await
}

async fn start_within(
    program: &Path,
    tool: &Tool,
    source: &Source,
    patience: Duration,
) -> Result<Ran> {
    let name = program.to_string_lossy().into_owned();
    if child::find(&name).is_none() {
        return Ok(Ran::Absent);
    }
    let unstarted = |why: &dyn std::fmt::Display| {
        Ok(Ran::Not(format!(
            "{} cannot be started: {why}",
            program.display()
        )))
    };
    let is_root = rustix::process::geteuid().is_root();
    let reader = is_root.then(|| Account::of(stranger(), stranger()));
    let mut argv = vec![name];
    argv.extend(tool.arguments.iter().map(|word| (*word).to_owned()));
    if tool.takes != Takes::Input {
        argv.push(GIVEN.to_owned());
    }
    // A file that gets the better of its reader gets no further.
    let bounds = Bounds {
        no_network: true,
        ..Bounds::default()
    };
    let mut command = match launch::command(&argv, reader.as_ref(), bounds) {
        Ok(command) => command,
        Err(error) => return unstarted(&error),
    };
    let file = on_blocking(source, Source::open).await?;
    let given = match &reader {
        None => Ok(Given::file(file)),
        Some(reader) => give(tool.takes, file, reader.uid, source).await?,
    };
    let given = match given {
        Ok(given) => given,
        Err(error) => return unstarted(&error),
    };
    command
        // The words that are looked for are English.
        .env("LC_ALL", "C")
        .stdin(given.input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(Ran::Absent),
        Err(error) => return unstarted(&error),
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ending = async {
        let (stdout, stderr, status) = tokio::join!(end_of(stdout), end_of(stderr), child.wait());
        Ok::<_, std::io::Error>(Output {
            status: status?,
            stdout: stdout?,
            stderr: stderr?,
        })
    };
    let ended = tokio::select! {
        () = source.cancel().cancelled() => return Err(Error::interrupted()),
        ended = tokio::time::timeout(patience, ending) => ended,
    };
    let output = match ended {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return unstarted(&error),
        Err(_) => {
            return Ok(Ran::Not(format!(
                "{} did not come to its end within {} s and was stopped",
                program.display(),
                patience.as_secs()
            )));
        }
    };
    if let Some(feed) = given.feed {
        // What was cut here would be taken for a cut file.
        let fed = feed.await.unwrap_or_else(|e| Err(std::io::Error::other(e)));
        fed.map_err(|e| Error::io(format!("read {}", source.label()), e))?;
    }
    // What starts it says so where it cannot, as shells do.
    if let Some(126 | 127) = output.status.code() {
        return unstarted(&last_line(&String::from_utf8_lossy(&output.stderr)));
    }
    Ok(Ran::Ended(output))
}

/// What a program is given to read.
struct Given {
    input: Stdio,
    /// What writes into the pipe that it reads from.
    feed: Option<JoinHandle<std::io::Result<()>>>,
}

impl Given {
    fn file(file: File) -> Self {
        Self {
            input: file.into(),
            feed: None,
        }
    }
}

/// Gives the file to a program of another user, who may not open it by any name. The inner error says
/// why it cannot be given.
async fn give(
    takes: Takes,
    mut file: File,
    reader: u32,
    source: &Source,
) -> Result<std::io::Result<Given>> {
    match takes {
        Takes::Input => Ok(Ok(Given::file(file))),
        Takes::Name => Ok(std::io::pipe().and_then(|(input, pipe)| {
            fchown(&input, Some(reader), Some(reader))?;
            Ok(Given {
                input: input.into(),
                feed: Some(tokio::task::spawn_blocking(move || pour(&mut file, pipe))),
            })
        })),
        Takes::Whole => {
            let copy = on_blocking(source, move |source| {
                Ok(copy(&mut file, reader, source.cancel()))
            });
            Ok(copy.await?.map(Given::file))
        }
    }
}

/// Writes all of a file into a pipe, as long as somebody reads there.
fn pour(file: &mut File, mut pipe: PipeWriter) -> std::io::Result<()> {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = match file.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == IoErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let piece = chunk.get(..read).unwrap_or_default();
        // A program that has ended tells by its exit code what it has seen.
        if pipe.write_all(piece).is_err() {
            return Ok(());
        }
    }
}

/// A copy of a file that has no name, and belongs to another user.
fn copy(file: &mut File, owner: u32, cancel: &CancellationToken) -> std::io::Result<File> {
    let size = file.metadata()?.len();
    let places = [PathBuf::from("/var/tmp"), std::env::temp_dir()];
    let place = places.iter().find(|place| {
        rustix::fs::statvfs(place.as_path()).is_ok_and(|room| {
            room.f_bavail.saturating_mul(room.f_frsize) > size.saturating_add(LEFT)
        })
    });
    let Some(place) = place else {
        return Err(std::io::Error::other(format!(
            "it is given a copy, and there is no room for {size} bytes in {}",
            places.map(|place| place.display().to_string()).join(" or ")
        )));
    };
    let name = random_name().map_err(std::io::Error::other)?;
    let path = place.join(format!(".restore-{name}"));
    let mut to = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    let mut chunk = vec![0; 64 * 1024];
    // One that grows meanwhile is not what was looked at.
    let mut from = file.take(size);
    loop {
        let read = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == IoErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(chunk.get(..read).unwrap_or_default())?;
        if cancel.is_cancelled() {
            break;
        }
    }
    to.rewind()?;
    fchown(&to, Some(owner), Some(owner))?;
    Ok(to)
}

/// The end of what a program says, all of which is read: a full pipe would stop it.
async fn end_of(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let Some(mut pipe) = pipe else {
        return Ok(kept);
    };
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let read = pipe.read(&mut chunk).await?;
        if read == 0 {
            return Ok(kept);
        }
        kept.extend_from_slice(chunk.get(..read).unwrap_or_default());
        // Cut rarely: what is kept is moved each time.
        if kept.len() > 2 * KEPT {
            kept.drain(..kept.len() - KEPT);
        }
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
    let mut programs: Vec<_> = versions.into_iter().map(|(_, program)| program).collect();
    let last = programs.len();
    let at = if child::is_postgres_launcher(name) {
        last
    } else {
        0
    };
    programs.insert(at, PathBuf::from(name));
    programs
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

/// Reads a tar archive to its last member, once for each way in which it would be unpacked. With what came of that,
/// whether a dump by pg_dump may be in it.
///
/// Who may own set-uid files is the site's word: where nobody unpacks it,
/// only names that lead out, devices and the like are refused.
async fn read_archive(
    source: &Source,
    policies: &[&UnpackPolicy],
    progress: &Progress,
) -> Result<(Outcome, bool)> {
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
    let (mut unjudged, mut unfit, mut maybe_dump) = (0, None, false);
    for policy in policies {
        let walked = walk_all(source.clone(), policy, progress.clone()).await?;
        unjudged = walked.unjudged.max(unjudged);
        unfit = unfit.or(walked.unfit);
        maybe_dump |= walked.maybe_dump;
        for member in walked.refused {
            if !refused.contains(&member) {
                refused.push(member);
            }
        }
        // It is counted once.
        progress = Progress::hidden();
    }
    if let Some(error) = unfit {
        return Ok((Outcome::Unfit(error, refused), maybe_dump));
    }
    let outcome = match (refused.is_empty(), unjudged) {
        (true, 0) => Outcome::Sound,
        (true, members) => Outcome::Unjudged(members),
        (false, _) => Outcome::Refused(refused),
    };
    Ok((outcome, maybe_dump))
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program in a folder that everybody can enter, and a file that only we can read.
    fn case(script: &str) -> (tempfile::TempDir, PathBuf, Source) {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode: u32| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(dir.path(), 0o755);
        let program = dir.path().join("program");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        mode(&program, 0o755);
        let file = dir.path().join("file");
        std::fs::write(&file, "content").unwrap();
        mode(&file, 0o600);
        let source = Source::new(&file, "file", Some(7), None);
        (dir, program, source)
    }

    fn tool(takes: Takes) -> Tool {
        Tool {
            takes,
            arguments: &["-x"],
            ..PG_RESTORE
        }
    }

    #[tokio::test]
    async fn a_program_reads_the_file_as_a_user_who_owns_nothing() {
        let script = r#"id -u; for word in "$@"; do echo "$word"; done; cat $2"#;
        let (_dir, program, source) = case(script);
        let user = match rustix::process::geteuid() {
            us if us.is_root() => stranger(),
            us => us.as_raw(),
        };
        for (takes, words) in [
            (Takes::Input, "-x\n"),
            (Takes::Name, "-x\n/proc/self/fd/0\n"),
            (Takes::Whole, "-x\n/proc/self/fd/0\n"),
        ] {
            let ran = start(&program, &tool(takes), &source).await.unwrap();
            let Ran::Ended(output) = ran else {
                panic!("{takes:?}")
            };
            let said = String::from_utf8(output.stdout).unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(
                said,
                format!("{user}\n{words}content"),
                "{takes:?} {stderr}"
            );
        }
        // A copy may be opened for writing, and is nothing to anybody else.
        let (_dir, program, source) = case(": <>$2 && echo opened");
        let ran = start(&program, &tool(Takes::Whole), &source).await.unwrap();
        assert!(matches!(ran, Ran::Ended(output) if output.stdout == b"opened\n"));
        assert_eq!(std::fs::read(source.path()).unwrap(), b"content");
    }

    #[tokio::test]
    async fn one_that_does_not_end_is_stopped_and_what_it_says_is_bounded() {
        let (_dir, program, source) = case("exec sleep 60");
        let patience = Duration::from_millis(300);
        let ran = start_within(&program, &tool(Takes::Name), &source, patience).await;
        let Ran::Not(reason) = ran.unwrap() else {
            panic!("it ended")
        };
        assert!(reason.contains("did not come to its end"), "{reason}");
        let (_dir, program, source) = case("head -c 5000000 /dev/zero; echo end; exit 1");
        let ran = start(&program, &tool(Takes::Input), &source).await.unwrap();
        let Ran::Ended(output) = ran else {
            panic!("it did not end")
        };
        assert!(output.stdout.len() <= 2 * KEPT && output.stdout.ends_with(b"end\n"));
    }

    /// Only such an archive is read a second time.
    #[tokio::test]
    async fn an_archive_in_which_a_dump_may_be_is_known_from_its_names() {
        let dir = tempfile::tempdir().unwrap();
        for (at, (name, maybe)) in [
            ("d/toc.dat", true),
            ("toc.dat", true),
            ("d/a.toc.dat", false),
        ]
        .into_iter()
        .enumerate()
        {
            let folder = dir.path().join(at.to_string());
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "x").unwrap();
            let archive = dir.path().join(format!("{at}.tar"));
            let mut tar = std::process::Command::new("tar");
            tar.arg("-cf")
                .arg(&archive)
                .arg("-C")
                .arg(&folder)
                .arg(name);
            assert!(tar.status().unwrap().success());
            let source = Source::new(&archive, "x.tar", None, None);
            let (outcome, found) = read_archive(&source, &[], &Progress::hidden())
                .await
                .unwrap();
            assert!(matches!(outcome, Outcome::Sound));
            assert_eq!(found, maybe, "{name}");
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_or_cannot_be_run_says_nothing_of_the_file() {
        let (dir, program, source) = case("exit 1");
        let absent = dir.path().join("absent");
        let ran = start(&absent, &tool(Takes::Input), &source).await.unwrap();
        assert!(matches!(ran, Ran::Absent));
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o644)).unwrap();
        let ran = start(&program, &tool(Takes::Input), &source).await.unwrap();
        assert!(matches!(ran, Ran::Not(_)));
    }
}
