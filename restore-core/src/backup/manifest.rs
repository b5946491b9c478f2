//! `MANIFEST.txt`: what it says, and writing ours. Reading is in `manifest_parse`.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::BackupId;
use super::manifest_parse;
use crate::error::{Error, ErrorKind, Result};
use crate::store::BackupStore;
use crate::stream::Digest;

/// The size that a manifest line gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ManifestSize {
    /// Exact bytes.
    Bytes(u64),
    /// `du -h` text, blocks and not bytes: never compared.
    Rounded(String),
}

impl ManifestSize {
    /// The exact size, where the line gives one.
    pub fn bytes(&self) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(*bytes),
            Self::Rounded(_) => None,
        }
    }
}

/// One file line of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// Path relative to the backup's folder.
    pub path: String,
    /// The size as written.
    pub size: ManifestSize,
    /// The file's SHA-256.
    pub sha256: Digest,
}

/// What `MANIFEST.txt` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// The `Key: value` lines before the first file line, in order.
    pub header: Vec<(String, String)>,
    /// The file lines, in order, without a line for the manifest itself.
    pub entries: Vec<ManifestEntry>,
    /// The `Key: value` lines after the first file line, in order.
    #[serde(default)]
    pub summary: Vec<(String, String)>,
    /// It ends in the middle of a line, or its file lines are not followed by the summary that
    /// every generation writes last: files may be missing from the list.
    #[serde(default)]
    pub truncated: bool,
}

impl Manifest {
    /// The manifest's own name inside a backup's folder.
    pub const FILE_NAME: &'static str = "MANIFEST.txt";

    /// Where a detached signature of it may be, beside it. No manifest lists its own signature.
    pub const SIGNATURES: [&'static str; 2] = ["MANIFEST.txt.asc", "MANIFEST.txt.sig"];

    /// A manifest with more is not one: the file was overwritten with something else.
    pub(crate) const MAX_BYTES: u64 = 64 << 20;

    pub(super) const UNIT: (&'static str, &'static str) = ("Size Unit", "bytes");
    const TOTAL_FILES: &'static str = "Total Files";
    const TOTAL_SIZE: &'static str = "Total Size";

    /// Reads a manifest of either generation.
    ///
    /// A file line is one with two `|` (split from the right, so names may hold `|`); a malformed
    /// one is an error that names its line number, as is a path that is absolute or has `..`, and
    /// a path listed twice with different content. Sizes count as exact bytes only after a
    /// `Size Unit: bytes` header line, which ours writes: `du -h` prints bare numbers too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Verification`] with a code that begins with `manifest.`.
    pub fn parse(text: &[u8]) -> Result<Self> {
        manifest_parse::parse(text)
    }

    /// Reads the manifest of a backup; `files` says that there is one.
    pub(crate) async fn read(store: &dyn BackupStore, id: &BackupId) -> Result<Self> {
        use tokio::io::AsyncReadExt;
        let mut text = Vec::new();
        store
            .read(id, Self::FILE_NAME, 0)
            .await?
            .take(Self::MAX_BYTES + 1)
            .read_to_end(&mut text)
            .await
            .map_err(|e| Error::io(format!("read {} of backup {id}", Self::FILE_NAME), e))?;
        if text.len() as u64 > Self::MAX_BYTES {
            return Err(Error::new(
                ErrorKind::Verification,
                "manifest.too_large",
                format!(
                    "{} of backup {id} is larger than {} MiB and cannot be a manifest",
                    Self::FILE_NAME,
                    Self::MAX_BYTES >> 20
                ),
            )
            .hint("copy the manifest again from where the backup was made"));
        }
        Self::parse(&text).map_err(|e| e.context(format!("backup {id}")))
    }

    /// The line for a file.
    pub fn entry(&self, path: &str) -> Option<&ManifestEntry> {
        self.entries.iter().find(|entry| entry.path == path)
    }

    /// The value of a `Key: value` line, the key compared without regard to case; the first of
    /// several.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.header
            .iter()
            .chain(&self.summary)
            .find(|(name, _)| name.eq_ignore_ascii_case(key))
            .map(|(_, value)| value.as_str())
    }

    /// How many files it says there are (`Total Files:`), which may count the manifest itself.
    pub fn total_files(&self) -> Option<u64> {
        self.value(Self::TOTAL_FILES)?.parse().ok()
    }

    /// The manifest as text: header, one line a file with its exact size, summary.
    /// [`parse`](Self::parse) of it gives the same header and entries back.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`] where something cannot be written down: a rounded size, a path or
    /// value with a line break, a path that `parse` would refuse.
    pub fn to_text(&self) -> Result<String> {
        let mut out = String::from("=== Backup Manifest ===\n");
        let (unit, bytes) = Self::UNIT;
        let has_unit = self.header.iter().any(|(key, _)| key == unit);
        let unit_line = (!has_unit).then(|| (unit.to_owned(), bytes.to_owned()));
        for (key, value) in self.header.iter().chain(&unit_line) {
            out.push_str(&key_line(key, value)?);
        }
        out.push_str("\n=== Files ===\n");
        let mut total = 0_u64;
        for entry in &self.entries {
            let clean = manifest_parse::clean_path(&entry.path).ok();
            let (Some(size), true) = (
                entry.size.bytes(),
                clean.as_deref() == Some(entry.path.as_str()),
            ) else {
                return Err(unwritable(format!("an entry for {:?}", entry.path)));
            };
            total = total.saturating_add(size);
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{}|{size}|{}", entry.path, entry.sha256);
        }
        out.push_str("\n=== Summary ===\n");
        for (key, value) in &self.summary {
            if key != Self::TOTAL_FILES && key != Self::TOTAL_SIZE {
                out.push_str(&key_line(key, value)?);
            }
        }
        let _ = writeln!(out, "{}: {}", Self::TOTAL_FILES, self.entries.len());
        let _ = writeln!(out, "{}: {total}", Self::TOTAL_SIZE);
        Ok(out)
    }
}

/// A `Key: value` line that reads back as the same.
fn key_line(key: &str, value: &str) -> Result<String> {
    let line = format!("{key}: {value}");
    if line.contains(['\n', '\r', '\0'])
        || line.matches('|').count() >= 2
        || manifest_parse::key_value(&line) != Some((key.to_owned(), value.to_owned()))
    {
        return Err(unwritable(format!("the line {line:?}")));
    }
    Ok(line + "\n")
}

fn unwritable(what: String) -> Error {
    Error::new(
        ErrorKind::Internal,
        "manifest.unwritable",
        format!("a manifest cannot hold {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            header: vec![
                ("Backup ID".into(), "20240215-020000".into()),
                ("Created".into(), "2024-02-15T02:00:00Z".into()),
                ("Size Unit".into(), "bytes".into()),
            ],
            entries: ["a b|c|.txt", "=name", "dir/ünï", "#x: y"]
                .iter()
                .map(|path| ManifestEntry {
                    path: (*path).to_owned(),
                    size: ManifestSize::Bytes(path.len() as u64),
                    sha256: Digest([7; 32]),
                })
                .collect(),
            ..Manifest::default()
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let written = manifest();
        let text = written.to_text().unwrap();
        let read = Manifest::parse(text.as_bytes()).unwrap();
        assert_eq!(read.header, written.header);
        assert_eq!(read.entries, written.entries);
        assert!(!read.truncated);
        assert_eq!(read.total_files(), Some(4));
        assert_eq!(read.value("total size"), Some("29"));
        assert_eq!(read.to_text().unwrap(), text);
    }

    #[test]
    fn what_cannot_be_read_back_is_not_written() {
        for path in ["a\nb", "../a", "/a", "a//b", "", "MANIFEST.txt", "a\r"] {
            let mut bad = manifest();
            bad.entries[0].path = path.to_owned();
            assert!(bad.to_text().is_err(), "{path:?}");
        }
        let mut bad = manifest();
        bad.entries[0].size = ManifestSize::Rounded("4.0K".into());
        assert!(bad.to_text().is_err());
        for header in [("a", "b|c|d"), ("a", "b\nc"), ("", "x"), ("a: b", "c")] {
            let mut bad = manifest();
            bad.header.push((header.0.into(), header.1.into()));
            assert!(bad.to_text().is_err(), "{header:?}");
        }
    }
}
