//! Segments as an `archive_command` leaves them, in a directory or in a store.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::history::Timelines;
use super::{RemoteWalArchive, SegmentName, WalSource, history};
use crate::contract::StoredFile;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::{no_link, open_by_our_links, open_file_across};

/// How a file of the archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// A file of the archive.
#[derive(Clone, Debug)]
pub(crate) struct ArchivedFile {
    /// Of one in a store: its name.
    pub(crate) path: PathBuf,
    place: FileLocation,
    pub(crate) packing: Packing,
    /// Of a segment: its end is not there yet, or belongs to no timeline any more.
    pub(crate) partial: bool,
    pub(crate) bytes: u64,
}

/// Where a file of the archive is.
#[derive(Clone, Debug)]
enum FileLocation {
    Here(Arc<Held>),
    Store(Arc<RemoteWalArchive>, StoredFile),
}

/// The directory of an archive on this host. It is the server's user's, who may put anything in the
/// place of any name in it at any time: so it is held open, and no link is followed below it.
#[derive(Debug)]
struct Held {
    fd: OwnedFd,
    /// Whose it is.
    owner: u32,
}

impl Held {
    fn open(root: &Path) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Self::of(open_by_our_links(root, flags)?.0)
    }

    fn of(fd: OwnedFd) -> rustix::io::Result<Self> {
        let owner = rustix::fs::fstat(&fd)?.st_uid;
        Ok(Self { fd, owner })
    }

    /// A file directly in it.
    fn file(&self, path: &Path) -> std::io::Result<File> {
        let name = Path::new(path.file_name().unwrap_or_default());
        let file = open_file_across(self.fd.as_fd(), name).map_err(no_link)?;
        let meta = file.metadata()?;
        // Its other name may be where its owner keeps what nobody else is to read.
        if meta.nlink() > 1 && meta.uid() != self.owner {
            return Err(std::io::Error::other(
                "it is a hard link to a file of another user than the directory's",
            ));
        }
        Ok(file)
    }
}

/// What is in an archive: names and sizes, and the small files' content.
#[derive(Clone, Debug)]
pub(crate) struct Archive {
    /// Of one in a store: where that is, in words.
    pub(crate) root: PathBuf,
    pub(crate) segment_size: u64,
    pub(crate) segments: BTreeMap<SegmentName, ArchivedFile>,
    pub(crate) timelines: Timelines,
    pub(crate) histories: Vec<ArchivedFile>,
}

/// More than this no history or label has.
const SMALL: u64 = 1 << 20;

/// What a name says.
struct Named {
    of: Of,
    packing: Packing,
    partial: bool,
}

enum Of {
    Segment(SegmentName),
    History(u32),
}

impl Named {
    /// `None` for a file that is none of an archive's own.
    fn parse(name: &str, segment_size: u64) -> Option<Self> {
        let (stem, packing) = match name.rsplit_once('.') {
            Some((stem, "gz")) => (stem, Packing::Gzip),
            Some((stem, "zst")) => (stem, Packing::Zstd),
            _ => (name, Packing::Plain),
        };
        let (stem, partial) = match stem.strip_suffix(".partial") {
            Some(stem) => (stem, true),
            None => (stem, false),
        };
        let of = match stem.strip_suffix(".history") {
            Some(id) => Of::History(u32::from_str_radix(id, 16).ok()?),
            None => Of::Segment(SegmentName::parse(stem, segment_size)?),
        };
        Some(Self {
            of,
            packing,
            partial,
        })
    }

    fn file(&self, path: PathBuf, place: FileLocation, bytes: u64) -> ArchivedFile {
        ArchivedFile {
            path,
            place,
            packing: self.packing,
            partial: self.partial,
            bytes,
        }
    }
}

impl Archive {
    /// Lists the archive. Files that are none of its own are left alone.
    pub(crate) async fn open(source: &WalSource, segment_size: u64) -> Result<Self> {
        let root = match source {
            WalSource::Directory(root) => root.clone(),
            WalSource::Store(remote) => return Self::from_remote(remote, segment_size).await,
        };
        listing(move || {
            let held = Held::open(&root).map_err(|e| unlisted(&root, e))?;
            Self::list(held, root, segment_size)
        })
        .await
    }

    /// Lists the archive in an open directory, which messages and the server know as `root`.
    pub(crate) async fn of_directory(
        fd: OwnedFd,
        root: PathBuf,
        segment_size: u64,
    ) -> Result<Self> {
        listing(move || {
            let held = Held::of(fd).map_err(|e| unlisted(&root, e))?;
            Self::list(held, root, segment_size)
        })
        .await
    }

    fn empty(root: PathBuf, segment_size: u64) -> Self {
        Self {
            root,
            segment_size,
            segments: BTreeMap::new(),
            timelines: Timelines::default(),
            histories: Vec::new(),
        }
    }

    fn list(held: Held, root: PathBuf, segment_size: u64) -> Result<Self> {
        let unread = |e: Errno| unlisted(&root, e);
        let held = Arc::new(held);
        let mut archive = Self::empty(root.clone(), segment_size);
        for entry in rustix::fs::Dir::read_from(&held.fd).map_err(unread)? {
            let entry = entry.map_err(unread)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            let named = name
                .to_str()
                .and_then(|name| Named::parse(name, segment_size));
            let stat = rustix::fs::statat(&held.fd, name, AtFlags::SYMLINK_NOFOLLOW);
            let (Some(named), Ok(stat)) = (named, stat) else {
                continue;
            };
            let path = root.join(name);
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => {}
                FileType::Directory => continue,
                // To leave it out would be to end there without a word.
                kind => return Err(no_file(&path, kind)),
            }
            let bytes = u64::try_from(stat.st_size).unwrap_or(0);
            let file = named.file(path, FileLocation::Here(held.clone()), bytes);
            match named.of {
                Of::Segment(segment) => archive.take(segment, file),
                Of::History(id) => {
                    let content = file.open()?;
                    archive.learn(id, file, content)?;
                }
            }
        }
        Ok(archive)
    }

    async fn from_remote(remote: &Arc<RemoteWalArchive>, segment_size: u64) -> Result<Self> {
        let mut archive = Self::empty(PathBuf::from(remote.describe()), segment_size);
        let never = CancellationToken::new();
        for stored in remote.files().await? {
            let name = &stored.file.path;
            let Some(named) = Named::parse(name, segment_size) else {
                continue;
            };
            let place = FileLocation::Store(remote.clone(), stored.clone());
            let file = named.file(PathBuf::from(name), place, stored.file.size);
            match named.of {
                Of::Segment(segment) => archive.take(segment, file),
                Of::History(_) if file.bytes > SMALL => return Err(archive.bad_history(&file)),
                Of::History(id) => {
                    let content = remote.content(&stored, &never).await?;
                    let content = file.unpacked(content)?;
                    archive.learn(id, file, content)?;
                }
            }
        }
        Ok(archive)
    }

    /// All files of it.
    pub(crate) fn files(&self) -> impl Iterator<Item = &ArchivedFile> {
        self.segments.values().chain(&self.histories)
    }

    fn take(&mut self, segment: SegmentName, file: ArchivedFile) {
        // One that was cut while it was copied is none; a whole one goes before a part.
        let whole = file.packing != Packing::Plain || file.bytes == self.segment_size;
        let rank = |file: &ArchivedFile| (file.partial, file.packing);
        let known = self.segments.get(&segment);
        if whole && known.is_none_or(|known| rank(known) > rank(&file)) {
            self.segments.insert(segment, file);
        }
    }

    fn learn(&mut self, id: u32, file: ArchivedFile, content: Box<dyn Read + Send>) -> Result<()> {
        let mut text = String::new();
        let read = content.take(SMALL).read_to_string(&mut text);
        match read.ok().and_then(|_| history::parse(&text)) {
            Some(ancestors) => {
                self.timelines.add(id, ancestors);
                self.histories.push(file);
                Ok(())
            }
            None => Err(self.bad_history(&file)),
        }
    }

    fn bad_history(&self, file: &ArchivedFile) -> Error {
        Error::new(
            ErrorKind::Preflight,
            "wal.bad_history",
            format!("{file} is no timeline history"),
        )
        .hint("copy it again from a server's pg_wal directory, or move it away")
    }
}

/// Runs what lists an archive off the async threads.
async fn listing(work: impl FnOnce() -> Result<Archive> + Send + 'static) -> Result<Archive> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(Error::new(
            ErrorKind::Internal,
            "wal.task",
            format!("listing an archive broke off: {e}"),
        ))
    })
}

fn unlisted(root: &Path, error: Errno) -> Error {
    let why = no_link(error.into());
    let unlisted = Error::new(
        ErrorKind::Preflight,
        "wal.no_archive",
        format!("the WAL archive {} cannot be listed: {why}", root.display()),
    )
    .hint("is it mounted, and is wal_archive in the component's section right?");
    match error {
        // A link to a directory that is not followed is none.
        Errno::LOOP | Errno::NOTDIR if root.is_symlink() => unlisted.hint(
            "another user than root can have made that link: name the directory that it leads to as wal_archive",
        ),
        _ => unlisted,
    }
}

fn no_file(path: &Path, kind: FileType) -> Error {
    let what = match kind {
        FileType::Symlink => "a symbolic link, and none is followed there",
        _ => "neither a file nor a directory",
    };
    Error::new(
        ErrorKind::Preflight,
        "wal.not_a_file",
        format!("{} in the WAL archive is {what}", path.display()),
    )
    .hint("put the file itself there, or move it away if it is none of the log's")
}

impl std::fmt::Display for ArchivedFile {
    /// Its path, or its name and the store that it is in.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        match &self.place {
            FileLocation::Here(_) => write!(f, "{path}"),
            FileLocation::Store(remote, _) => {
                write!(f, "{path} in the WAL archive {}", remote.describe())
            }
        }
    }
}

impl ArchivedFile {
    /// The file of the store that it is in; `None`: it is on this host.
    pub(crate) fn stored(&self) -> Option<&StoredFile> {
        match &self.place {
            FileLocation::Here(_) => None,
            FileLocation::Store(_, stored) => Some(stored),
        }
    }

    /// Its content, decompressed.
    pub(crate) fn open(&self) -> Result<Box<dyn Read + Send>> {
        self.open_until(&CancellationToken::new())
    }

    /// Its content, decompressed, until `cancel` fires: one in a store may be long on its way. Not for an async
    /// thread.
    pub(crate) fn open_until(&self, cancel: &CancellationToken) -> Result<Box<dyn Read + Send>> {
        let content: Box<dyn Read + Send> = match &self.place {
            FileLocation::Store(remote, stored) => remote.open(stored, cancel)?,
            FileLocation::Here(held) => Box::new(
                held.file(&self.path)
                    .map_err(|e| Error::io(format!("read {}", self.path.display()), e))?,
            ),
        };
        self.unpacked(content)
    }

    fn unpacked(&self, content: Box<dyn Read + Send>) -> Result<Box<dyn Read + Send>> {
        Ok(match self.packing {
            Packing::Plain => content,
            Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(content)),
            Packing::Zstd => Box::new(
                zstd::stream::read::Decoder::new(content)
                    .map_err(|e| Error::io(format!("read {self}"), e))?,
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 20;
    const HISTORY: &str = "1\t0/3000000\tno recovery target specified\n";

    async fn list(root: &Path) -> Result<Archive> {
        let source = WalSource::Directory(root.to_owned());
        let listing = Archive::open(&source, SIZE);
        let done = tokio::time::timeout(std::time::Duration::from_secs(20), listing).await;
        done.expect("it waits for a pipe")
    }

    /// Where the server's user replaces a file once it is listed, root reads nothing for that user.
    #[tokio::test]
    async fn what_takes_the_place_of_a_file_is_not_followed_elsewhere() {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().join("archive");
        std::fs::create_dir(&root).unwrap();
        let secret = top.path().join("secret");
        std::fs::write(&secret, "of root").unwrap();
        let path = root.join("00000002.history");
        std::fs::write(&path, HISTORY).unwrap();
        let archive = list(&root).await.unwrap();
        let [file] = archive.histories.as_slice() else {
            panic!("{archive:?}")
        };
        let read = || {
            let mut text = String::new();
            file.open()?
                .read_to_string(&mut text)
                .map(|_| text)
                .map_err(|e| Error::io("read", e))
        };
        assert_eq!(read().unwrap(), HISTORY);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&secret, &path).unwrap();
        assert!(read().unwrap_err().message().contains("symbolic link"));
        std::fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        assert!(read().unwrap_err().message().contains("regular file"));
        // A second name of somebody else's file is no file of the archive's.
        std::fs::remove_file(&path).unwrap();
        if rustix::process::geteuid().is_root() {
            std::fs::hard_link(&secret, &path).unwrap();
            std::os::unix::fs::chown(&root, Some(65_534), Some(65_534)).unwrap();
            let held = Held::open(&root).unwrap();
            let error = held.file(&path).unwrap_err().to_string();
            assert!(error.contains("hard link"), "{error}");
            std::fs::remove_file(&path).unwrap();
        }
        // The directory that was listed is the one that is read, whatever has its name.
        std::fs::write(&path, HISTORY).unwrap();
        std::fs::rename(&root, top.path().join("moved")).unwrap();
        std::os::unix::fs::symlink(top.path(), &root).unwrap();
        assert_eq!(read().unwrap(), HISTORY);
    }

    #[tokio::test]
    async fn a_link_or_a_pipe_in_an_archive_is_told_and_neither_followed_nor_waited_for() {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().join("archive");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("00000002.history"), HISTORY).unwrap();
        // None of an archive's own, and a directory, are left alone.
        std::os::unix::fs::symlink("/dev/null", root.join("other")).unwrap();
        std::fs::create_dir(root.join("00000003.history")).unwrap();
        assert_eq!(list(&root).await.unwrap().histories.len(), 1);
        let path = root.join("0000000A.history");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        assert_eq!(list(&root).await.unwrap_err().code(), "wal.not_a_file");
        std::fs::remove_file(&path).unwrap();
        let segment = root.join("000000010000000000000003.gz");
        std::os::unix::fs::symlink("/nowhere", &segment).unwrap();
        assert_eq!(list(&root).await.unwrap_err().code(), "wal.not_a_file");
        std::fs::remove_file(&segment).unwrap();
        // The way to it is followed where only root and we can have made it.
        let way = top.path().join("way");
        std::os::unix::fs::symlink("archive", &way).unwrap();
        assert_eq!(list(&way).await.unwrap().histories.len(), 1);
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(top.path(), open).unwrap();
        let error = list(&way).await.unwrap_err();
        assert_eq!(error.code(), "wal.no_archive");
        assert!(error.hint_text().unwrap().contains("leads to"), "{error:?}");
        assert_eq!(list(&root).await.unwrap().histories.len(), 1);
    }
}
