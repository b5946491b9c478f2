//! A directory of segments, as an `archive_command` leaves them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::SegmentName;
use super::history::{self, Timelines};
use crate::error::{Error, ErrorKind, Result};

/// How a file of the archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// A file of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArchivedFile {
    pub(crate) path: PathBuf,
    pub(crate) packing: Packing,
    /// Of a segment: its end is not there yet, or belongs to no timeline any more.
    pub(crate) partial: bool,
    pub(crate) bytes: u64,
}

/// What is in an archive: names and sizes, and the small files' content.
#[derive(Clone, Debug)]
pub(crate) struct Archive {
    pub(crate) root: PathBuf,
    pub(crate) segment_size: u64,
    pub(crate) segments: BTreeMap<SegmentName, ArchivedFile>,
    pub(crate) timelines: Timelines,
    pub(crate) histories: Vec<ArchivedFile>,
}

/// More than this no history or label has.
const SMALL: u64 = 1 << 20;

impl Archive {
    /// Lists the archive. Files that are none of its own are left alone.
    pub(crate) async fn open(root: &Path, segment_size: u64) -> Result<Self> {
        let root = root.to_owned();
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

    fn list(root: &Path, segment_size: u64) -> Result<Self> {
        let unread = |e: std::io::Error| {
            Error::new(
                ErrorKind::Preflight,
                "wal.no_archive",
                format!("the WAL archive {} cannot be listed: {e}", root.display()),
            )
            .hint("is it mounted, and is wal_archive in the component's section right?")
        };
        let mut archive = Self {
            root: root.to_owned(),
            segment_size,
            segments: BTreeMap::new(),
            timelines: Timelines::default(),
            histories: Vec::new(),
        };
        for entry in std::fs::read_dir(root).map_err(unread)? {
            let entry = entry.map_err(unread)?;
            if let Some(name) = entry.file_name().to_str() {
                archive.take(name, &entry.path())?;
            }
        }
        Ok(archive)
    }

    fn take(&mut self, name: &str, path: &Path) -> Result<()> {
        let (stem, packing) = match name.rsplit_once('.') {
            Some((stem, "gz")) => (stem, Packing::Gzip),
            Some((stem, "zst")) => (stem, Packing::Zstd),
            _ => (name, Packing::Plain),
        };
        let (stem, partial) = match stem.strip_suffix(".partial") {
            Some(stem) => (stem, true),
            None => (stem, false),
        };
        let history = stem.strip_suffix(".history");
        let segment = SegmentName::parse(stem, self.segment_size);
        if history.is_none() && segment.is_none() {
            return Ok(());
        }
        let Ok(meta) = path.metadata() else {
            return Ok(());
        };
        let file = ArchivedFile {
            path: path.to_owned(),
            packing,
            partial,
            bytes: meta.len(),
        };
        if let Some(id) = history.and_then(|id| u32::from_str_radix(id, 16).ok()) {
            let mut text = String::new();
            let read = file.open()?.take(SMALL).read_to_string(&mut text);
            match read.ok().and_then(|_| history::parse(&text)) {
                Some(ancestors) => {
                    self.timelines.add(id, ancestors);
                    self.histories.push(file);
                }
                None => {
                    return Err(Error::new(
                        ErrorKind::Preflight,
                        "wal.bad_history",
                        format!("{} is no timeline history", path.display()),
                    )
                    .hint("copy it again from a server's pg_wal directory, or move it away"));
                }
            }
        } else if let Some(segment) = segment {
            // One that was cut while it was copied is none; a whole one goes before a part.
            let whole = packing != Packing::Plain || meta.len() == self.segment_size;
            let known = self.segments.get(&segment);
            if whole
                && known.is_none_or(|known| (known.partial, known.packing) > (partial, packing))
            {
                self.segments.insert(segment, file);
            }
        }
        Ok(())
    }
}

impl ArchivedFile {
    /// Its content, decompressed.
    pub(crate) fn open(&self) -> Result<Box<dyn Read + Send>> {
        let failed = |e| Error::io(format!("read {}", self.path.display()), e);
        let file = File::open(&self.path).map_err(failed)?;
        Ok(match self.packing {
            Packing::Plain => Box::new(file),
            Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
            Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(file).map_err(failed)?),
        })
    }
}
