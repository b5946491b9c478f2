//! Where a crontab lives: with cron, under a user's name, or in a file.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::model::{Error, ErrorKind, Result, RunId};
use crate::sys::absent::AbsentDirectory;
use crate::sys::durable::{self, Access};
use crate::sys::process::exec::code;
use crate::sys::spans::ProgramSpan;
use crate::sys::{check_file, child, read_small};

const PATIENCE: Duration = Duration::from_secs(30);

/// A crontab that can be read and replaced.
#[derive(Clone, Debug)]
pub(super) enum Table {
    /// A user's, through crontab(1).
    User(String),
    /// A plain file.
    File {
        path: PathBuf,
        /// Wherever its path leads.
        follow: bool,
    },
}

/// What installs, lists and removes them.
const CRONTAB: &str = "crontab";

/// Where cron keeps the tables of users.
const SPOOL: &str = "/var/spool/cron/crontabs";

/// No crontab is longer.
const LARGEST: u64 = 16 << 20;

/// What this host's cron says of a text, asked without installing it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It would take it.
    Takes,
    /// It would drop all of it, and why.
    Drops(String),
    /// There is no cron here, or none that can be asked.
    Unknown,
}

/// As much of what crontab(1) complains of is told.
const COMPLAINT: u64 = 16 * 1024;

impl Table {
    /// A file of our own, in the state directory.
    pub(super) fn kept(path: PathBuf) -> Self {
        Self::File { path, follow: true }
    }

    /// Whether its jobs may run as root; those of a file run as whom each of them names.
    pub(super) fn is_of_root(&self) -> bool {
        match self {
            Self::User(user) => user == "root",
            Self::File { .. } => true,
        }
    }

    /// The file that is replaced: its directory, and its name there. cron's own table of a user lies where
    /// Debian's cron keeps it, if anywhere that is known.
    pub(super) fn place(&self) -> Option<(PathBuf, String)> {
        let path = match self {
            Self::File { path, .. } => path.clone(),
            Self::User(user) => Path::new(SPOOL).join(user),
        };
        let name = path.file_name()?.to_str()?.to_owned();
        Some((path.parent()?.to_owned(), name))
    }

    /// The directory that a file lies in, where it is not there: without it the file cannot be written.
    pub(super) async fn absent_directory(&self) -> Result<Option<AbsentDirectory>> {
        let Self::File { path, follow } = self else {
            return Ok(None);
        };
        let Some(above) = path.parent() else {
            return Ok(None);
        };
        let at = AbsentDirectory::new(above).followed(*follow);
        match tokio::fs::metadata(above).await {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Some(at)),
            _ => Ok(None),
        }
    }

    /// The file that is really read and replaced, whatever links lead to it; `None` for one of cron's own, and
    /// where its directory is not there.
    pub(super) async fn leads_to(&self) -> Result<Option<PathBuf>> {
        let Self::File { path, .. } = self else {
            return Ok(None);
        };
        let path = path.clone();
        blocking(move || Ok(led_to(&path))).await
    }

    /// Refuses where the file's file system keeps it, or its directory, from being changed, also by root.
    /// Changes nothing.
    pub(super) async fn ensure_replaceable(&self) -> Result<()> {
        let Self::File { path, .. } = self else {
            return Ok(());
        };
        let path = path.clone();
        blocking(move || {
            let real = led_to(&path).unwrap_or(path);
            let above = real.parent().filter(|above| is_fixed(above));
            let Some(fixed) = above.or(Some(real.as_path()).filter(|real| is_fixed(real))) else {
                return Ok(());
            };
            Err(Error::new(
                ErrorKind::Failed,
                "crontab.immutable",
                format!(
                    "{} cannot be replaced: {} is marked as immutable, or to be only appended to",
                    real.display(),
                    fixed.display()
                ),
            )
            .hint(format!(
                "`chattr -i -a {}` lifts that; see who has set it, and why",
                fixed.display()
            )))
        })
        .await
    }

    /// A few words for people.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::User(user) => format!("the crontab of {user}"),
            Self::File { path, .. } => format!("the crontab file {}", path.display()),
        }
    }

    /// The present text; `None` where there is no crontab, which is not an empty one.
    pub(super) async fn read(&self) -> Result<Option<Vec<u8>>> {
        match self {
            Self::User(user) => {
                let output = crontab(&["-u", user, "-l"], None).await?;
                if output.status.success() {
                    return whole(user, output.stdout).map(Some);
                }
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                if said.to_ascii_lowercase().contains("no crontab for") {
                    return Ok(None);
                }
                Err(refused(&format!("crontab -u {user} -l"), &said))
            }
            Self::File { path, follow } => {
                let (path, follow) = (path.clone(), *follow);
                blocking(move || {
                    let real = check_file(&path, follow)?;
                    match read_small(&real, LARGEST) {
                        Ok(text) => Ok(Some(text)),
                        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                        Err(e) => Err(Error::io(format!("read {}", path.display()), e)),
                    }
                })
                .await
            }
        }
    }

    /// Replaces the text; `None` removes the crontab. Whole or not at all, durable for a file.
    pub(super) async fn write(&self, run: &RunId, text: Option<Vec<u8>>) -> Result<()> {
        match (self, text) {
            (Self::User(user), Some(text)) => {
                let output = crontab(&["-u", user, "-"], Some(&text)).await?;
                if output.status.success() {
                    return Ok(());
                }
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                Err(refused(&format!("crontab -u {user} -"), &said))
            }
            (Self::User(user), None) => {
                if self.read().await?.is_none() {
                    return Ok(());
                }
                let output = crontab(&["-u", user, "-r"], None).await?;
                if output.status.success() {
                    return Ok(());
                }
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                Err(refused(&format!("crontab -u {user} -r"), &said))
            }
            (Self::File { path, follow }, text) => {
                let (path, follow, run) = (path.clone(), *follow, run.clone());
                blocking(move || {
                    // In a directory of somebody else's, a link could lead root anywhere.
                    let real = check_file(&path, follow)?;
                    match text {
                        // Through a link: what it leads to is what cron, or whoever, reads.
                        Some(text) => replace(&real, &run, &text),
                        None => remove(&path),
                    }
                })
                .await
            }
        }
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "crontab.task",
            format!("work on a file ended unexpectedly: {e}"),
        )
    })?
}

/// Asks this host's cron, where its crontab(1) can look at a text without installing it.
pub(super) async fn judged_by_cron(text: &[u8]) -> Judgement {
    judged_by(CRONTAB, text).await
}

async fn judged_by(program: &str, text: &[u8]) -> Judgement {
    let Some(option) = looking_option(program).await else {
        return Judgement::Unknown;
    };
    let Ok(output) = call(program, &[option, "-"], Some(text)).await else {
        return Judgement::Unknown;
    };
    if output.status.success() {
        return Judgement::Takes;
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    complaint(&said).map_or(Judgement::Unknown, Judgement::Drops)
}

/// The option with which a crontab(1) looks at a text and changes nothing; `None` where it has none that is
/// known. None is tried out: what is Debian's `-n` sets, with cronie, the one host that all crontabs run on.
async fn looking_option(program: &str) -> Option<&'static str> {
    // Debian's for help; each other takes it for an error, and prints the same.
    let asked = call(program, &["-h"], None).await.ok()?;
    let said = [asked.stdout, asked.stderr].concat();
    looks_by(&String::from_utf8_lossy(&said))
}

/// The same, by what it says of its options.
fn looks_by(usage: &str) -> Option<&'static str> {
    let has = |option: &str, words: &str| {
        let mut lines = usage.lines();
        lines.any(|line| line.split_whitespace().next() == Some(option) && line.contains(words))
    };
    if has("-n", "dry run") {
        return Some("-n");
    }
    has("-T", "test a crontab file syntax").then_some("-T")
}

/// The first complaint about a line: `"-":3: bad minute`. Anything else is about how it was asked.
fn complaint(said: &str) -> Option<String> {
    said.lines().find_map(|line| {
        let (number, why) = line.strip_prefix("\"-\":")?.split_once(':')?;
        let number: u64 = number.parse().ok()?;
        let why = why.trim();
        Some(match number {
            // It does not count all lines.
            0 => why.to_owned(),
            number => format!("line {number}: {why}"),
        })
    })
}

/// Where a path leads: through a link that is its last part, else by the directories above it, which stays
/// the same whether there is a file or not.
fn led_to(path: &Path) -> Option<PathBuf> {
    let is_link = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink());
    if is_link && let Ok(real) = std::fs::canonicalize(path) {
        return Some(real);
    }
    let above = std::fs::canonicalize(path.parent()?).ok()?;
    Some(above.join(path.file_name()?))
}

/// Whether its file system keeps it from being changed, also by root.
fn is_fixed(path: &Path) -> bool {
    let fixed = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
    let stat = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
    stat.is_ok_and(|stat| stat.stx_attributes.intersects(fixed))
}

/// The text that crontab(1) has listed, if that is all of it.
fn whole(user: &str, text: Vec<u8>) -> Result<Vec<u8>> {
    if text.len() as u64 <= LARGEST {
        return Ok(text);
    }
    Err(refused(
        &format!("crontab -u {user} -l"),
        &format!("it lists more than {LARGEST} bytes, which is no crontab"),
    ))
}

async fn crontab(words: &[&str], input: Option<&[u8]>) -> Result<Output> {
    call(CRONTAB, words, input).await
}

async fn call(program: &str, words: &[&str], input: Option<&[u8]>) -> Result<Output> {
    let shown = format!("{program} {}", words.join(" "));
    let failed = |e: std::io::Error| {
        Error::new(
            ErrorKind::Failed,
            "crontab.unstartable",
            format!("cannot run `{shown}`: {e}"),
        )
        .hint("is cron installed here? otherwise name the crontab's `file`")
        .source(e)
    };
    let work = async {
        let mut child = child::tokio_command(program)
            .args(words)
            // Told apart by its words: they must be the untranslated ones.
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let span = ProgramSpan::open(program, child.id());
        let stdin = child.stdin.take();
        let feed = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // It may refuse without reading to the end; its exit code tells.
                let _ = stdin.write_all(input).await;
                let _ = stdin.shutdown().await;
            }
        };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ended = async {
            // One byte more than there may be tells that there is more.
            let (stdout, stderr, status) = tokio::join!(
                beginning(stdout, LARGEST + 1),
                beginning(stderr, COMPLAINT),
                child.wait()
            );
            Ok::<_, std::io::Error>(Output {
                status: status?,
                stdout: stdout?,
                stderr: stderr?,
            })
        };
        let ((), output) = tokio::join!(feed, ended);
        if let Ok(output) = &output {
            span.ended(code(output.status));
        }
        output.map_err(failed)
    };
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(output) => output,
        Err(_) => Err(Error::new(
            ErrorKind::Failed,
            "crontab.hangs",
            format!("`{shown}` did not end within {} s", PATIENCE.as_secs()),
        )
        .hint("run it by hand to see what it waits for, then try again")),
    }
}

/// The first `most` bytes of what a program prints. The rest is read and dropped: a full pipe would stop
/// it.
async fn beginning(pipe: Option<impl AsyncRead + Unpin>, most: u64) -> std::io::Result<Vec<u8>> {
    let mut said = Vec::new();
    if let Some(mut pipe) = pipe {
        (&mut pipe).take(most).read_to_end(&mut said).await?;
        tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    }
    Ok(said)
}

fn refused(shown: &str, said: &str) -> Error {
    Error::new(
        ErrorKind::Failed,
        "crontab.refused",
        format!("`{shown}` failed: {}", said.trim()),
    )
    .hint("does the user exist, and do we run as root?")
}

/// Where what is to replace a file is written first. cron reads no file whose name begins with a dot.
pub(super) fn beside(path: &Path, run: &RunId) -> PathBuf {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parent.join(format!("{}-{name}", run.folder()))
}

/// Writes a file beside the one it replaces and renames it, with the owner and mode of the
/// latter; a new one is for its owner alone.
pub(super) fn replace(path: &Path, run: &RunId, text: &[u8]) -> Result<()> {
    let old = std::fs::symlink_metadata(path).ok();
    // A link that leads nowhere has no mode to keep.
    let old = old.filter(std::fs::Metadata::is_file);
    let access = old.map_or(Access::PRIVATE, |old| Access {
        mode: old.mode() & 0o7777,
        owner: Some((old.uid(), old.gid())),
    });
    durable::replace(path, &beside(path, run), access, text)
        .map_err(|e| Error::io(format!("write {}", path.display()), e))
}

/// Removes a file that may be gone already.
pub(super) fn remove(path: &Path) -> Result<()> {
    durable::remove(path).map_err(|e| Error::io(format!("remove {}", path.display()), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cron_says_of_a_line_is_told_from_what_it_says_of_the_question() {
        let said = "\"-\":3: command too long\nerrors in crontab file, can't install.\n";
        assert_eq!(complaint(said).as_deref(), Some("line 3: command too long"));
        let said = "\"-\":0: bad time specifier\n";
        assert_eq!(complaint(said).as_deref(), Some("bad time specifier"));
        for other in [
            "crontab: invalid option -- 'n'\nusage: crontab [-u user] file\n",
            "You (nobody) are not allowed to use this program (crontab)\n",
            "",
        ] {
            assert_eq!(complaint(other), None, "{other}");
        }
    }

    /// What crontab(1) of Debian and of cronie print for an option that they do not have, in part; Debian's is
    /// asked for help so.
    const DEBIAN: &str = "usage:\tcrontab [-u user] [-n] file\n\tcrontab [ -u user ] [ -i ] { -e | -l | -r }\n\n\
        \t-h\t(displays this help message)\n\n\tfile\t(default operation is replace, per 1003.2)\n\
        \t-n\t(dry run: checks the syntax, then bails out)\n";
    const OLD_DEBIAN: &str =
        "usage:\tcrontab [-u user] file\n\tcrontab [ -u user ] [ -i ] { -e | -l | -r }\n";
    const CRONIE: &str = "Usage:\n crontab [options] file\n crontab -n [hostname]\n\nOptions:\n\
        \x20-n <host>  set host in cluster to run users' crontabs\n\
        \x20-T <file>  test a crontab file syntax\n";
    const OLD_CRONIE: &str = "Usage:\n crontab [options] file\n crontab -n [hostname]\n\nOptions:\n\
        \x20-n <host>  set host in cluster to run users' crontabs\n";

    #[test]
    fn a_crontab_says_how_it_looks_at_a_text() {
        for (usage, option) in [
            (DEBIAN, Some("-n")),
            (CRONIE, Some("-T")),
            (OLD_DEBIAN, None),
            (OLD_CRONIE, None),
            ("", None),
        ] {
            assert_eq!(looks_by(usage), option, "{usage}");
        }
    }

    /// cronie's `-n -` would name a host that no crontab runs on from then on, and end well.
    #[tokio::test]
    async fn a_crontab_is_asked_only_what_it_can_answer_without_changing_anything() {
        for (usage, asked, judgement) in [
            (DEBIAN, "-h\n-n -\n", Judgement::Takes),
            (CRONIE, "-h\n-T -\n", Judgement::Takes),
            (OLD_DEBIAN, "-h\n", Judgement::Unknown),
            (OLD_CRONIE, "-h\n", Judgement::Unknown),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let (program, words) = (dir.path().join("crontab"), dir.path().join("words"));
            let script = format!(
                "#!/bin/sh\necho \"$*\" >>{}\n[ \"$1\" = -h ] || exit 0\ncat >&2 <<'END'\n{usage}END\nexit 1\n",
                words.display()
            );
            // By another process: what a fork of this one has open to write cannot be run.
            let write = format!("cat >{0} && chmod 755 {0}", program.display());
            let mut shell = std::process::Command::new("sh")
                .args(["-c", &write])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = shell.stdin.take().unwrap();
            std::io::Write::write_all(&mut stdin, script.as_bytes()).unwrap();
            drop(stdin);
            assert!(shell.wait().unwrap().success());
            let found = judged_by(program.to_str().unwrap(), b"0 2 * * * x\n").await;
            assert_eq!(std::fs::read_to_string(&words).unwrap(), asked);
            assert_eq!(found, judgement, "{usage}");
        }
    }

    #[tokio::test]
    async fn what_is_printed_without_measure_is_read_and_not_kept() {
        let endless = tokio::io::repeat(b'x').take(50_000_000);
        let said = beginning(Some(endless), 10).await.unwrap();
        assert_eq!(said, b"xxxxxxxxxx");
        let short = beginning(Some(&b"short"[..]), 10).await.unwrap();
        assert_eq!(whole("root", short).unwrap(), b"short");
        // A part of a crontab is none: what is kept of it would be put back for the whole.
        let more = usize::try_from(LARGEST + 1).unwrap();
        let error = whole("root", vec![b'#'; more]).unwrap_err();
        assert_eq!(error.code(), "crontab.refused");
    }
}
