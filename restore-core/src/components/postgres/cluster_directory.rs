//! The data directory in which a run makes a cluster: the journal's record of it, and what is done there.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::contract::RunContext;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::birth::Birth;
use crate::sys::blocking::blocking;
use crate::sys::process::procs;
use crate::sys::retry::Retry;
use crate::sys::{open_directory_of, remove_tree};

/// How long programs of a killed process may take to be gone.
const GRACE: Duration = Duration::from_secs(20);

/// How far the clock may have been set back since a directory was noted, in seconds.
const CLOCK: i64 = 3600;

/// The file in which a server keeps what it was started with, also once it is stopped.
const OPTIONS: &str = "postmaster.opts";
/// The file that no server starts without.
const CONTROL: &str = "pg_control";
/// The directory that it is in.
const GLOBAL: &str = "global";
/// How large it is at least, in every version.
const CONTROL_BYTES: u64 = 8192;

const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The data directory that a cluster is made in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NewDataDirectory {
    pub(super) path: PathBuf,
    inode: u64,
    /// Who may own directories above it.
    pub(super) user: u32,
    /// When it was made. Earlier versions did not keep that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    born: Option<Birth>,
    /// The id of its file system, where that does not keep when a directory was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system: Option<u64>,
    /// When it was noted, in seconds since 1970: a cluster that is older is not the run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<i64>,
}

/// What a new cluster holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    pub(super) entries: BTreeSet<String>,
    /// The directories of its databases.
    pub(super) databases: BTreeSet<String>,
}

impl NewDataDirectory {
    /// Of the directory that is open, which is at `path`.
    pub(super) fn of(held: &OwnedFd, path: &Path, user: u32) -> Result<Self> {
        let born = birth(held, path)?;
        let system = match born {
            Some(_) => None,
            None => Some(system(held, path)?),
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Ok(Self {
            path: path.to_owned(),
            inode: status(held, path)?.st_ino,
            user,
            born,
            system,
            since: now.ok().and_then(|now| i64::try_from(now.as_secs()).ok()),
        })
    }

    /// Whether a directory that is open is this one.
    fn is(&self, held: &OwnedFd) -> Result<bool> {
        if status(held, &self.path)?.st_ino != self.inode {
            return Ok(false);
        }
        match (self.born, self.system) {
            (Some(born), _) => Ok(birth(held, &self.path)? == Some(born)),
            (None, Some(known)) => Ok(system(held, &self.path)? == known),
            (None, None) => Ok(true),
        }
    }

    /// Whether the directory is still the one that the run made the cluster in.
    pub(super) async fn is_there(&self) -> Result<bool> {
        let record = self.clone();
        blocking(move || Ok(record.open()?.is_some())).await
    }

    /// Whether something else has its place.
    pub(super) async fn is_taken(&self) -> Result<bool> {
        let record = self.clone();
        blocking(move || {
            let there = record.path.symlink_metadata().is_ok();
            Ok(there && record.open()?.is_none())
        })
        .await
    }

    /// The directory, where it is still that.
    fn open(&self) -> Result<Option<OwnedFd>> {
        let there = open_directory_of(&self.path, Some(self.user))?;
        match there {
            Ok(data) => Ok(self.is(&data)?.then_some(data)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(failed("open", &self.path, e)),
        }
    }

    /// Whether a server may start on what is in it: once it is being emptied, none does.
    pub(super) async fn is_startable(&self) -> Result<bool> {
        let record = self.clone();
        blocking(move || match record.open()? {
            Some(data) => Ok(record.control(&data)?.is_some()),
            None => Ok(false),
        })
        .await
    }

    /// Whether a server was started on it: no `initdb` leaves what that does.
    pub(super) async fn was_started(&self) -> Result<bool> {
        let record = self.clone();
        blocking(move || match record.open()? {
            Some(data) => {
                let names = entries(&data, &record.path)?;
                Ok(names.iter().any(|name| name == OPTIONS))
            }
            None => Ok(false),
        })
        .await
    }

    /// Deletes all that is in it, once nobody of the run works there any more. The file that every server
    /// needs goes first: none starts on the rest.
    ///
    /// # Errors
    ///
    /// `create.taken` where it is another directory by now, or holds a cluster that was made before the run
    /// came to it; nothing is deleted then.
    pub(super) async fn empty(&self) -> Result<()> {
        let record = self.clone();
        blocking(move || {
            let failed = |e: Errno| failed("empty", &record.path, e);
            let data = record.open()?.ok_or_else(|| taken(&record.path))?;
            if record.is_older(&data)? {
                return Err(taken(&record.path));
            }
            end_programs(&record.path, &data)?;
            if let Some(global) = record.global(&data)? {
                match rustix::fs::unlinkat(&global, CONTROL, AtFlags::empty()) {
                    Ok(()) => rustix::fs::fsync(&global).map_err(failed)?,
                    // A directory of that name goes with all else.
                    Err(Errno::NOENT | Errno::ISDIR) => {}
                    Err(e) => return Err(failed(e)),
                }
            }
            for name in entries(&data, &record.path)? {
                remove_tree(data.as_fd(), &name).map_err(failed)?;
            }
            rustix::fs::fsync(&data).map_err(failed)
        })
        .await
    }

    /// Whether it holds a cluster that was made before the run noted the directory, as one is that somebody
    /// has moved there.
    fn is_older(&self, data: &OwnedFd) -> Result<bool> {
        let (Some(since), Some(file)) = (self.since, self.control(data)?) else {
            return Ok(false);
        };
        // One that is being written says nothing yet.
        if !file
            .metadata()
            .is_ok_and(|meta| meta.is_file() && meta.len() >= CONTROL_BYTES)
        {
            return Ok(false);
        }
        // It begins with the identifier of the cluster, whose upper half is when `initdb` made it.
        let mut identifier = [0; 8];
        (&file)
            .read_exact(&mut identifier)
            .map_err(|e| Error::io(format!("read {}", self.path.display()), e))?;
        let made = i64::try_from(u64::from_ne_bytes(identifier) >> 32).unwrap_or(i64::MAX);
        Ok(made != 0 && made.saturating_add(CLOCK) < since)
    }

    /// The file that every server needs.
    fn control(&self, data: &OwnedFd) -> Result<Option<File>> {
        let Some(global) = self.global(data)? else {
            return Ok(None);
        };
        match rustix::fs::openat(&global, CONTROL, FILE, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(None),
            Err(e) => Err(failed("look into", &self.path, e)),
        }
    }

    fn global(&self, data: &OwnedFd) -> Result<Option<OwnedFd>> {
        match rustix::fs::openat(data, GLOBAL, DIRECTORY, Mode::empty()) {
            Ok(global) => Ok(Some(global)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(e) => Err(failed("look into", &self.path, e)),
        }
    }

    /// What is in it; with `sync`, durable from then on.
    pub(super) async fn content(&self, sync: bool) -> Result<Content> {
        let record = self.clone();
        blocking(move || {
            let data = record.open()?.ok_or_else(|| taken(&record.path))?;
            let base = record.path.join("base");
            let databases = rustix::fs::openat(&data, "base", DIRECTORY, Mode::empty())
                .map_err(|e| failed("open", &base, e))?;
            if sync {
                // `initdb` has done so with all but these.
                for name in ["postgresql.conf", "pg_hba.conf"] {
                    let file = rustix::fs::openat(&data, name, FILE, Mode::empty());
                    file.and_then(rustix::fs::fsync)
                        .map_err(|e| failed("sync", &record.path, e))?;
                }
            }
            let text = |names: Vec<OsString>| {
                let names = names
                    .into_iter()
                    .map(|it| it.to_string_lossy().into_owned());
                names.collect()
            };
            // Beside them lies what large sorts leave: pgsql_tmp.
            let mut databases = entries(&databases, &base)?;
            databases.retain(|name| name.as_bytes().iter().all(u8::is_ascii_digit));
            Ok(Content {
                entries: text(entries(&data, &record.path)?),
                databases: text(databases),
            })
        })
        .await
    }
}

/// Opens a data directory, above which directories of its user may be.
pub(super) fn open_data(path: &Path, user: u32) -> Result<OwnedFd> {
    open_directory_of(path, Some(user))?.map_err(|e| failed("open", path, e))
}

fn status(held: &OwnedFd, path: &Path) -> Result<Stat> {
    rustix::fs::fstat(held).map_err(|e| failed("look at", path, e))
}

/// When a directory was made, as far as its file system keeps that.
fn birth(held: &OwnedFd, path: &Path) -> Result<Option<Birth>> {
    Birth::of(held).map_err(|e| failed("look at", path, e))
}

/// The id of its file system.
fn system(held: &OwnedFd, path: &Path) -> Result<u64> {
    let system = rustix::fs::fstatvfs(held).map_err(|e| failed("look at", path, e))?;
    Ok(system.f_fsid)
}

/// The names in a directory.
pub(super) fn entries(held: &OwnedFd, path: &Path) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    let listed = rustix::fs::Dir::read_from(held).map_err(|e| failed("list", path, e))?;
    for entry in listed {
        let entry = entry.map_err(|e| failed("list", path, e))?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    Ok(names)
}

/// Ends what a killed process has left at work on a cluster that is not whole, or that is going: `initdb`,
/// whose command names it, and servers of that, which work in it. Programs at work in a directory of another
/// disk, or in another's of the same name, are none of these.
fn end_programs(path: &Path, data: &OwnedFd) -> Result<()> {
    let retry = Retry::within(GRACE, Duration::from_millis(20));
    let own = std::process::id().cast_signed();
    let there = status(data, path)?;
    let is_it = |place: &Path| {
        std::fs::metadata(place)
            .is_ok_and(|found| (found.dev(), found.ino()) == (there.st_dev, there.st_ino))
    };
    loop {
        let mut left = 0;
        for stat in procs::all().into_iter().filter(procs::Stat::lives) {
            let pid = stat.ident.pid;
            let process = PathBuf::from(format!("/proc/{pid}"));
            let words = std::fs::read(process.join("cmdline")).unwrap_or_default();
            let mut words = words.split(|byte| *byte == 0);
            // In a container the same name is another directory's.
            let inside = || {
                path.strip_prefix("/")
                    .map(|inside| process.join("root").join(inside))
            };
            let makes = words.clone().any(|word| word.ends_with(b"initdb"))
                && words.any(|word| word == path.as_os_str().as_bytes())
                && inside().is_ok_and(|place| is_it(&place));
            let works = is_it(&process.join("cwd"))
                && std::fs::read_to_string(process.join("comm"))
                    .is_ok_and(|it| it.starts_with("postgres"));
            if pid != own && (makes || works) {
                left += 1;
                let _ = stat.ident.signal(Signal::KILL);
            }
        }
        if left == 0 {
            return Ok(());
        }
        if retry.is_over() {
            return Err(Error::new(
                ErrorKind::Failed,
                "postgres.cluster_busy",
                format!("programs at work in {} do not end", path.display()),
            )
            .hint("end them by hand, then try again"));
        }
        retry.pause_blocking();
    }
}

pub(super) fn recalled<T: for<'de> Deserialize<'de>>(
    cx: &RunContext,
    key: &str,
) -> Result<Option<T>> {
    let value = cx.recall(key).map(serde_json::from_value);
    value.transpose().map_err(broken)
}

pub(super) async fn keep<T: Serialize + Sync>(cx: &RunContext, key: &str, what: &T) -> Result<()> {
    cx.record(key, serde_json::to_value(what).map_err(broken)?)
        .await
}

fn broken(error: serde_json::Error) -> Error {
    Error::new(
        ErrorKind::Internal,
        "postgres.fact",
        format!("the journal's record of the cluster that the run makes is not usable: {error}"),
    )
}

pub(super) fn failed(verb: &str, path: &Path, error: Errno) -> Error {
    Error::io(format!("{verb} {}", path.display()), error.into())
}

pub(super) fn taken(path: &Path) -> Error {
    Error::new(
        ErrorKind::Failed,
        "create.taken",
        format!(
            "{} is not the empty directory in which the run makes a cluster: somebody has put something there since",
            path.display()
        ),
    )
    .hint("move it away, then `restore resume`; or `restore rollback`, which leaves it alone, and plan again")
}

pub(super) fn gone_since(path: &Path) -> Error {
    Error::new(
        ErrorKind::Failed,
        "create.gone_since",
        format!(
            "the cluster in {} was there when the run was planned, and is gone: it is not made anew",
            path.display()
        ),
    )
    .hint("is its disk mounted? mount it, then `restore resume`; if it is really gone, `restore rollback`, and plan again")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn held(path: &Path) -> OwnedFd {
        rustix::fs::open(path, DIRECTORY, Mode::empty()).unwrap()
    }

    fn record(path: &Path) -> NewDataDirectory {
        let user = rustix::process::geteuid().as_raw();
        NewDataDirectory::of(&held(path), path, user).unwrap()
    }

    /// A program that is called as a server is, at work in this directory until its input ends.
    struct Server(Child);

    impl Server {
        fn at_work_in(folder: &Path, program: &Path) -> Self {
            let mut server = Command::new(program);
            server
                .arg0("sh")
                .args(["-c", "read line"])
                .current_dir(folder);
            server.stdin(Stdio::piped());
            Self(server.spawn().unwrap())
        }

        fn lives(&mut self) -> bool {
            self.0.try_wait().unwrap().is_none()
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_server_in_a_directory_of_the_same_number_on_another_disk_lives_on() {
        let top = tempfile::tempdir().unwrap();
        // A program is called as the link that it is started by.
        let program = top.path().join("postgres");
        std::os::unix::fs::symlink("/bin/sh", &program).unwrap();
        // The tops of two file systems, both of which have the number 1.
        let (theirs, ours) = (Path::new("/proc"), Path::new("/sys"));
        let numbers = [theirs, ours].map(|it| std::fs::metadata(it).unwrap());
        assert_eq!(numbers[0].ino(), numbers[1].ino());
        assert_ne!(numbers[0].dev(), numbers[1].dev());
        let mut other = Server::at_work_in(theirs, &program);
        end_programs(ours, &held(ours)).unwrap();
        assert!(other.lives());

        let data = top.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let mut own = Server::at_work_in(&data, &program);
        end_programs(&data, &held(&data)).unwrap();
        let killed = own.0.wait().unwrap();
        assert_eq!(killed.signal(), Some(9));
        assert!(other.lives());
    }

    #[test]
    fn a_directory_of_the_same_number_that_was_made_at_another_time_is_another() {
        let top = tempfile::tempdir().unwrap();
        let mut known = record(top.path());
        assert!(known.open().unwrap().is_some());
        match (&mut known.born, &mut known.system) {
            (Some(born), _) => born.nanoseconds ^= 1,
            (None, Some(system)) => *system ^= 1,
            (None, None) => panic!("nothing tells it from another disk's"),
        }
        assert!(known.open().unwrap().is_none());

        // As earlier versions kept it.
        let text = format!(
            r#"{{"path":{:?},"inode":{},"user":{}}}"#,
            known.path, known.inode, known.user
        );
        let old: NewDataDirectory = serde_json::from_str(&text).unwrap();
        assert!(old.open().unwrap().is_some());
    }

    #[tokio::test]
    async fn a_cluster_that_is_older_than_the_run_is_not_deleted() {
        let top = tempfile::tempdir().unwrap();
        let known = record(top.path());
        let file = top.path().join(GLOBAL).join(CONTROL);
        std::fs::create_dir(top.path().join(GLOBAL)).unwrap();
        let write = |seconds: i64| {
            let mut bytes = vec![0; 8192];
            let identifier = u64::try_from(seconds).unwrap() << 32 | 7;
            bytes[..8].copy_from_slice(&identifier.to_ne_bytes());
            std::fs::write(&file, bytes).unwrap();
        };
        let since = known.since.unwrap();
        write(since - CLOCK - 60);
        assert!(known.is_startable().await.unwrap());
        let error = known.empty().await.unwrap_err();
        assert_eq!(error.code(), "create.taken");
        assert!(file.exists());

        write(since);
        known.empty().await.unwrap();
        assert!(!known.is_startable().await.unwrap());
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_cluster_that_a_server_was_started_on_is_seen() {
        let top = tempfile::tempdir().unwrap();
        let known = record(top.path());
        std::fs::write(top.path().join("PG_VERSION"), "15").unwrap();
        assert!(!known.was_started().await.unwrap());
        std::fs::write(top.path().join("postmaster.opts"), "").unwrap();
        assert!(known.was_started().await.unwrap());
    }

    #[tokio::test]
    async fn what_a_large_sort_leaves_is_no_database() {
        let top = tempfile::tempdir().unwrap();
        for name in ["1", "16384", "pgsql_tmp"] {
            std::fs::create_dir_all(top.path().join("base").join(name)).unwrap();
        }
        let found = record(top.path()).content(false).await.unwrap();
        let named: Vec<&str> = found.databases.iter().map(String::as_str).collect();
        assert_eq!(named, ["1", "16384"]);
    }
}
