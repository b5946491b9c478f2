//! What was verified is what is run: a dump is hashed, and then read again by a program.
//!
//! Where nobody but root and we can write to the file, it is read in place. A file that others
//! could change in between is copied into a folder of ours while it is hashed, and so is one that
//! the service's user, who runs the program, may not read.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use super::Postgres;
use super::content::UnknownFormat;
use super::tools::Input;
use super::{toc, whole};
use crate::archive::{Digest, Limit, Source, UnpackPolicy};
use crate::components::archive;
use crate::contract::{Backup, RunContext};
use crate::model::{Error, ErrorKind, Progress, Result, RunId};
use crate::sys::process::command::Command;
use crate::sys::space::Space;
use crate::sys::{private, trust};

/// The name of the copy.
const COPY: &str = "dump";

/// What must stay free beside the copy.
const ROOM: u64 = 64 << 20;

/// The table of contents in a folder that `pg_dump -Fd` made.
pub(super) const CONTENTS: &str = "toc.dat";

/// A copy of our own; deleted when dropped.
pub(super) struct Spool {
    folder: PathBuf,
}

/// The folders of dumps in the directory format that the first pattern names which names any.
pub(super) fn find_folders(backup: &Backup, component: &str, patterns: &[String]) -> Vec<String> {
    let contents: Vec<String> = patterns
        .iter()
        .map(|pattern| format!("{}/{CONTENTS}", pattern.trim_end_matches('/')))
        .collect();
    let found = backup.find_of(component, &contents);
    let folders = found
        .iter()
        .filter_map(|path| path.strip_suffix(CONTENTS)?.strip_suffix('/'));
    folders.map(str::to_owned).collect()
}

/// The files of a dump: itself, or all those of its folder.
pub(super) fn files_of(backup: &Backup, label: &str) -> Vec<String> {
    if backup.file(label).is_some() {
        return vec![label.to_owned()];
    }
    let within = format!("{label}/");
    let files = backup.files().iter().map(|file| &file.path);
    files
        .filter(|path| path.starts_with(&within))
        .cloned()
        .collect()
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
        if let Some(run) = self.folder.parent() {
            // Refused while other components keep something there.
            let _ = std::fs::remove_dir(run);
        }
    }
}

impl Postgres {
    fn spool_folder(&self, run: &RunId) -> PathBuf {
        self.scratch
            .join(run.as_str())
            .join(format!("{}.spool", self.name))
    }

    /// Deletes what a killed process left.
    pub(super) async fn forget_spool(&self, run: &RunId) -> Result<()> {
        let folder = self.spool_folder(run);
        tokio::task::spawn_blocking(move || match std::fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(format!("delete {}", folder.display()), e))
            }
            _ => {
                if let Some(run) = folder.parent() {
                    let _ = std::fs::remove_dir(run);
                }
                Ok(())
            }
        })
        .await
        .map_err(|e| task(&e))?
    }

    /// How the programs read a file; those of the service see only what its user may read.
    pub(super) async fn input(&self, path: &Path) -> Result<Input> {
        let seen = self.platform.path_in(&self.config.service, path).await?;
        let seen = match seen {
            Some(seen) if self.may_read(&seen).await => Some(seen),
            _ => None,
        };
        Ok(Input::new(path, seen))
    }

    /// Whom a file must belong to that the programs of the service are to read: where the service runs as
    /// root, they run as nobody.
    async fn reader(&self) -> Result<Option<(u32, u32)>> {
        let mut command = Command::new(["sh", "-c", "id -u && id -g"]);
        command.unprivileged = true;
        let asked = async {
            let process = self.platform.exec(&self.config.service, command).await;
            let mut process = process.ok()?;
            drop(process.stdin());
            let mut stdout = process.stdout()?;
            let mut text = Vec::new();
            let (read, exit) = tokio::join!(stdout.read_to_end(&mut text), process.wait());
            if read.is_err() || !exit.ok()?.success() {
                return None;
            }
            let text = String::from_utf8(text).ok()?;
            let (uid, gid) = text.trim().split_once('\n')?;
            Some((uid.trim().parse().ok()?, gid.trim().parse().ok()?))
        };
        match asked.await {
            Some(reader) => Ok(Some(reader)),
            None => self.platform.owner(&self.config.service).await,
        }
    }

    async fn may_read(&self, seen: &Path) -> bool {
        let shown = seen.to_string_lossy().into_owned();
        let mut command = Command::new(["sh", "-c", "[ -r \"$1\" ]", "restore", &shown]);
        command.unprivileged = true;
        let asked = async {
            let mut process = self.platform.exec(&self.config.service, command).await?;
            drop(process.stdin());
            process.wait().await
        };
        // Where it cannot be asked, the program itself will tell.
        asked.await.map_or(true, |exit| exit.success())
    }

    /// A source of which all that is read from now on was hashed, and is what the manifest says;
    /// `None`: it may be read where it is. `parallel`: a program of the service is to read it, and
    /// reads faster from a file than from a pipe.
    pub(super) async fn spooled(
        &self,
        cx: &RunContext,
        source: &Source,
        parallel: bool,
    ) -> Result<Option<(Spool, Input)>> {
        let path = source.path().to_owned();
        let steady = tokio::task::spawn_blocking(move || trust::is_ours(&path))
            .await
            .map_err(|e| task(&e))?;
        // A file of ours that is elsewhere for the service, or unseen, is piped to it.
        let local = self
            .platform
            .path_in(&self.config.service, source.path())
            .await?
            .filter(|seen| seen == source.path());
        let unread = match &local {
            Some(seen) => parallel && !self.may_read(seen).await,
            None => false,
        };
        if steady && !unread {
            return Ok(None);
        }
        let folder = self.spool_folder(cx.run());
        let size = std::fs::metadata(source.path()).map_or(0, |meta| meta.len());
        self.forget_spool(cx.run()).await?;
        private::create_dir_all(&folder)
            .map_err(|e| Error::io(format!("make {}", folder.display()), e))?;
        let spool = Spool { folder };
        let free = Space::of(&spool.folder).map_or(u64::MAX, |space| space.free_bytes);
        if free < size.saturating_add(ROOM) {
            if steady {
                // By a pipe it is slower, but needs no room.
                return Ok(None);
            }
            let (size, free) = crate::model::text::needed_and_had(size, free);
            return Err(Error::new(
                ErrorKind::Preflight,
                "postgres.no_room_to_copy",
                format!(
                    "{} has {size}, {free} are free at {}: others could change it in the store while it is restored, so it must be copied first",
                    source.label(),
                    spool.folder.display()
                ),
            )
            .hint("free some space there, or make the backup root's own (chown -R root, chmod -R go-w)"));
        }
        // What goes to a program of the service is its user's, what we feed to one stays ours.
        let owner = match (parallel, &local) {
            (true, Some(_)) => self.reader().await?,
            _ => None,
        };
        let to = spool.folder.join(COPY);
        let progress = cx.progress("verify", source.size());
        let found = copy(source, to.clone(), owner, progress).await?;
        if let Some(expected) = source.expected()
            && found != expected
        {
            return Err(mismatch(source, found, expected));
        }
        let mut input = Input::new(&to, None);
        if parallel && local.is_some() {
            if let Some((uid, gid)) = owner {
                std::os::unix::fs::lchown(&spool.folder, Some(uid), Some(gid))
                    .map_err(|e| Error::io(format!("give {} away", spool.folder.display()), e))?;
            }
            // The folders above are closed: the program is started in this one.
            input.seen = Some(PathBuf::from(COPY));
            input.dir = Some(spool.folder.clone());
        }
        Ok(Some((spool, input)))
    }
}

impl Postgres {
    /// A dump in the directory format, copied to where the service's programs can read it, each
    /// file hashed on its way.
    pub(super) async fn spooled_folder(
        &self,
        cx: &RunContext,
        label: &str,
    ) -> Result<(Spool, Input)> {
        let backup = cx.backup();
        let sources = files_of(backup, label)
            .iter()
            .map(|file| cx.source(file))
            .collect::<Result<Vec<_>>>()?;
        let size = sources.iter().filter_map(Source::size).sum();
        let (spool, owner) = self.folder_of_service(cx, label, size).await?;
        for source in &sources {
            let name = source.label().rsplit('/').next().unwrap_or_default();
            let to = spool.folder.join(COPY).join(name);
            let progress = cx.progress("verify", source.size());
            let found = copy(source, to, owner, progress).await?;
            if let Some(expected) = source.expected()
                && found != expected
            {
                return Err(mismatch(source, found, expected));
            }
        }
        toc::check(&spool.folder.join(COPY), label).await?;
        whole::check_folder(&spool.folder.join(COPY), label, cx.cancelled()).await?;
        let input = spool.folder_input(COPY, owner)?;
        Ok((spool, input))
    }

    /// A tar archive of such a folder, unpacked there and hashed.
    pub(super) async fn unpacked_folder(
        &self,
        cx: &RunContext,
        source: Source,
    ) -> Result<(Spool, Input)> {
        let label = source.label().to_owned();
        let size = crate::archive::estimate_source(&source)?;
        let most = crate::archive::estimate_most(&source)?;
        let (spool, owner) = self.folder_of_service(cx, &label, size).await?;
        let policy = UnpackPolicy {
            chown: owner,
            limit: Some(match self.config.max_bytes {
                0 => Limit::guessed(most, &archive::key(&self.name)),
                most => Limit::of_site(most, &archive::key(&self.name)),
            }),
            ..UnpackPolicy::default()
        };
        let to = spool.folder.join(COPY);
        crate::archive::unpack(source, &to, &policy, cx.progress("unpack", None)).await?;
        let within = contents_below(&to, 3).ok_or_else(|| {
            Error::new(
                ErrorKind::Verification,
                "postgres.unknown_format",
                format!("{label} is a tar archive, and no dump of PostgreSQL: nothing in it is called {CONTENTS}"),
            )
            .because(UnknownFormat)
            .hint("choose another backup; pg_dump writes what can be restored, in any of its formats")
        })?;
        toc::check_unpacked(&within, &label).await?;
        whole::check_folder(&within, &label, cx.cancelled()).await?;
        let name = within.strip_prefix(&spool.folder).unwrap_or(&within);
        let input = spool.folder_input(&name.to_string_lossy(), owner)?;
        Ok((spool, input))
    }

    /// An empty folder of the service's user.
    async fn folder_of_service(
        &self,
        cx: &RunContext,
        label: &str,
        size: u64,
    ) -> Result<(Spool, Option<(u32, u32)>)> {
        let folder = self.spool_folder(cx.run());
        if self
            .platform
            .path_in(&self.config.service, &folder)
            .await?
            .is_none_or(|seen| seen != folder)
        {
            return Err(unseen(label));
        }
        self.forget_spool(cx.run()).await?;
        let to = folder.join(COPY);
        private::create_dir_all(&to).map_err(|e| Error::io(format!("make {}", to.display()), e))?;
        let spool = Spool { folder };
        let free = Space::of(&spool.folder).map_or(u64::MAX, |space| space.free_bytes);
        if free < size.saturating_add(ROOM) {
            let (size, free) = crate::model::text::needed_and_had(size, free);
            return Err(Error::new(
                ErrorKind::Preflight,
                "postgres.no_room_to_copy",
                format!(
                    "{label} has {size}, {free} are free at {}, where it must be copied to",
                    spool.folder.display()
                ),
            )
            .hint("free some space there"));
        }
        let owner = self.reader().await?;
        Ok((spool, owner))
    }

    /// Whether programs of the service see files of this host.
    pub(super) async fn sees_folders(&self, cx: &RunContext, label: &str) -> Result<()> {
        let folder = self.spool_folder(cx.run());
        let seen = self.platform.path_in(&self.config.service, &folder).await?;
        match seen.is_some_and(|seen| seen == folder) {
            true => Ok(()),
            false => Err(unseen(label)),
        }
    }
}

fn unseen(label: &str) -> Error {
    Error::new(
        ErrorKind::Preflight,
        "postgres.folder_unseen",
        format!("{label} is a dump in the directory format, and the programs of the service see no files of this host"),
    )
    .hint("make dumps in the custom format (pg_dump -Fc), or restore the SQL dump")
}

/// The folder that has the table of contents, at most so deep.
fn contents_below(folder: &Path, depth: u32) -> Option<PathBuf> {
    if std::fs::symlink_metadata(folder.join(CONTENTS)).is_ok_and(|meta| meta.is_file()) {
        return Some(folder.to_owned());
    }
    let depth = depth.checked_sub(1)?;
    let entries = std::fs::read_dir(folder).ok()?;
    let mut folders: Vec<PathBuf> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            entry.file_type().ok()?.is_dir().then(|| entry.path())
        })
        .take(100)
        .collect();
    folders.sort();
    folders
        .iter()
        .find_map(|folder| contents_below(folder, depth))
}

impl Spool {
    /// The folder `name` in it, as the programs of the service read it.
    fn folder_input(&self, name: &str, owner: Option<(u32, u32)>) -> Result<Input> {
        let to = self.folder.join(name);
        if let Some((uid, gid)) = owner {
            // The outer one last: whoever has that can put a link in the place of the inner one.
            for folder in [&self.folder.join(COPY), &self.folder] {
                std::os::unix::fs::lchown(folder, Some(uid), Some(gid))
                    .map_err(|e| Error::io(format!("give {} away", folder.display()), e))?;
            }
        }
        let mut input = Input::new(&to, Some(PathBuf::from(name)));
        input.dir = Some(self.folder.clone());
        Ok(input)
    }
}

/// The error for a file that is not the one that the manifest means.
pub(super) fn mismatch(source: &Source, found: Digest, expected: Digest) -> Error {
    Error::new(
        ErrorKind::Verification,
        "hash.mismatch",
        format!(
            "{} has the SHA-256 {found}, but the manifest says {expected}",
            source.label()
        ),
    )
    .hint("the file was changed or damaged since the backup was made: choose another backup, or fetch this one again")
}

/// Copies and hashes in one reading.
async fn copy(
    source: &Source,
    to: PathBuf,
    owner: Option<(u32, u32)>,
    progress: Progress,
) -> Result<Digest> {
    let source = source.clone();
    let work = move || -> Result<Digest> {
        let reading = |e| Error::io(format!("read {}", source.path().display()), e);
        let writing = |e| Error::io(format!("write {}", to.display()), e);
        // What is appended meanwhile is none of it, and might go on for ever.
        let from = crate::archive::open_sized(&source)?;
        let most = from.metadata().map_err(reading)?.len();
        let mut from = from.take(most);
        let mut options = File::options();
        options.write(true).create_new(true);
        let mut file = private::open(&mut options, &to).map_err(writing)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            if source.cancel().is_cancelled() {
                return Err(Error::interrupted());
            }
            let count = from.read(&mut buffer).map_err(reading)?;
            let bytes = buffer.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            hash.update(bytes);
            file.write_all(bytes).map_err(writing)?;
            progress.add(count as u64);
        }
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid)).map_err(writing)?;
        }
        progress.finish();
        Ok(Digest(hash.finalize().into()))
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| task(&e))?
}

fn task(error: &tokio::task::JoinError) -> Error {
    Error::new(
        ErrorKind::Internal,
        "postgres.task",
        format!("copying a file ended unexpectedly: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    /// Whoever has the outer folder puts a link in the place of the inner one.
    #[test]
    fn a_folder_is_given_away_and_nothing_that_a_link_in_it_leads_to() {
        assert!(rustix::process::geteuid().is_root(), "a test of root");
        let top = tempfile::tempdir().unwrap();
        let victim = top.path().join("victim");
        std::fs::write(&victim, "root's").unwrap();
        let folder = top.path().join("shop.spool");
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(&victim, folder.join(COPY)).unwrap();
        let spool = Spool { folder };
        let _ = spool.folder_input(COPY, Some((65_533, 65_533)));
        assert_eq!(std::fs::metadata(&victim).unwrap().uid(), 0);
    }

    /// The inner one first, while nobody else can reach it.
    #[test]
    fn while_the_inner_folder_is_given_away_the_outer_one_is_ours() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("shop.spool");
        std::fs::create_dir(&folder).unwrap();
        let spool = Spool { folder };
        assert!(spool.folder_input(COPY, Some((65_533, 65_533))).is_err());
        assert_eq!(std::fs::metadata(&spool.folder).unwrap().uid(), 0);
    }
}
