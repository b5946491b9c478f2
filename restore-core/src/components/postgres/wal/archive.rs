//! Segments as an `archive_command` leaves them, in a directory or in a store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::history::Timelines;
use super::{RemoteWalArchive, SegmentName, WalSource, history};
use crate::contract::StoredFile;
use crate::model::{Error, ErrorKind, Result};

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
    /// The store that it is in; `None`: it is on this host.
    pub(crate) elsewhere: Option<(Arc<RemoteWalArchive>, StoredFile)>,
    pub(crate) packing: Packing,
    /// Of a segment: its end is not there yet, or belongs to no timeline any more.
    pub(crate) partial: bool,
    pub(crate) bytes: u64,
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

    fn file(&self, path: PathBuf, bytes: u64) -> ArchivedFile {
        ArchivedFile {
            path,
            elsewhere: None,
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
            WalSource::Store(shelf) => return Self::on_shelf(shelf, segment_size).await,
        };
        tokio::task::spawn_blocking(move || Self::list(&root, segment_size))
            .await
            .unwrap_or_else(|e| {
                Err(Error::new(
                    ErrorKind::Internal,
                    "wal.task",
                    format!("listing an archive broke off: {e}"),
                ))
            })
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

    fn list(root: &Path, segment_size: u64) -> Result<Self> {
        let unread = |e: std::io::Error| {
            Error::new(
                ErrorKind::Preflight,
                "wal.no_archive",
                format!("the WAL archive {} cannot be listed: {e}", root.display()),
            )
            .hint("is it mounted, and is wal_archive in the component's section right?")
        };
        let mut archive = Self::empty(root.to_owned(), segment_size);
        for entry in std::fs::read_dir(root).map_err(unread)? {
            let entry = entry.map_err(unread)?;
            let name = entry.file_name();
            let named = name
                .to_str()
                .and_then(|name| Named::parse(name, segment_size));
            let path = entry.path();
            let (Some(named), Ok(meta)) = (named, path.metadata()) else {
                continue;
            };
            let file = named.file(path, meta.len());
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

    async fn on_shelf(shelf: &Arc<RemoteWalArchive>, segment_size: u64) -> Result<Self> {
        let mut archive = Self::empty(PathBuf::from(shelf.describe()), segment_size);
        let never = CancellationToken::new();
        for stored in shelf.files().await? {
            let name = &stored.file.path;
            let Some(named) = Named::parse(name, segment_size) else {
                continue;
            };
            let mut file = named.file(PathBuf::from(name), stored.file.size);
            file.elsewhere = Some((shelf.clone(), stored.clone()));
            match named.of {
                Of::Segment(segment) => archive.take(segment, file),
                Of::History(_) if file.bytes > SMALL => return Err(archive.bad_history(&file)),
                Of::History(id) => {
                    let content = shelf.content(&stored, &never).await?;
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

impl std::fmt::Display for ArchivedFile {
    /// Its path, or its name and the store that it is in.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        match &self.elsewhere {
            None => write!(f, "{path}"),
            Some((shelf, _)) => write!(f, "{path} in the WAL archive {}", shelf.describe()),
        }
    }
}

impl ArchivedFile {
    /// Its content, decompressed.
    pub(crate) fn open(&self) -> Result<Box<dyn Read + Send>> {
        self.open_until(&CancellationToken::new())
    }

    /// The same, until `cancel` fires: one in a store may be long on its way. Not for an async
    /// thread.
    pub(crate) fn open_until(&self, cancel: &CancellationToken) -> Result<Box<dyn Read + Send>> {
        let content = match &self.elsewhere {
            Some((shelf, stored)) => shelf.open(stored, cancel)?,
            None => Box::new(
                File::open(&self.path)
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
