//! `MANIFEST.txt`: what it says, and writing ours. Reading is in `manifest_parse`.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::manifest_parse;
use crate::archive::Digest;
use crate::contract::BackupStore;
use crate::model::{BackupFile, BackupId, Error, ErrorKind, Result};

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
    /// It ends in the middle of a line, or is ours and does not say how many files there are: files
    /// may be missing from the list.
    #[serde(default)]
    pub truncated: bool,
    /// The files that are listed with nothing that verifies them: MD5, or no hash. Sorted.
    #[serde(default)]
    pub without_hash: Vec<String>,
    /// The files of the backup that its lines were read from, where that is not `MANIFEST.txt`: lists
    /// of other forms. None of them is an artifact. Sorted.
    #[serde(default)]
    pub lists: Vec<String>,
}

impl Manifest {
    /// The manifest's own name inside a backup's folder.
    pub const FILE_NAME: &'static str = "MANIFEST.txt";

    /// Where a detached signature of it may be, beside it. No manifest lists its own signature.
    pub const SIGNATURES: [&'static str; 2] = ["MANIFEST.txt.asc", "MANIFEST.txt.sig"];

    /// A manifest with more is not one: the file was overwritten with something else.
    pub(crate) const MAX_BYTES: u64 = 64 << 20;

    pub(super) const UNIT: (&'static str, &'static str) = ("Size Unit", "bytes");
    pub(crate) const NOTHING_LIVE: &'static str = "Nothing Live";

    /// The header with the directory that the site's configuration lay in, from which its relative paths are taken.
    pub(crate) const CONFIGURED_IN: &'static str = "Configured In";
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

    /// Whether a file of the backup is its manifest, a part of that, or the manifest's signature.
    pub fn is_own(&self, path: &str) -> bool {
        path == Self::FILE_NAME
            || Self::SIGNATURES.contains(&path)
            || self
                .lists
                .binary_search_by(|list| list.as_str().cmp(path))
                .is_ok()
    }

    /// The lists that `files` have instead of a `MANIFEST.txt`, the first kind that there is: one
    /// list of SHA-256, one in JSON, one beside each file, the same of MD5.
    fn lists_of(files: &[BackupFile]) -> Vec<String> {
        let paths = || files.iter().map(|file| file.path.as_str());
        for names in LISTS {
            if let Some(one) = Self::named_in(files, names) {
                return vec![one];
            }
        }
        for ends in [[".sha256", ".sha256sum"], [".md5", ".md5sum"]] {
            let beside: Vec<String> = paths()
                .filter(|path| ends.iter().any(|end| path.ends_with(end)))
                .map(str::to_owned)
                .collect();
            if !beside.is_empty() {
                return beside;
            }
        }
        Vec::new()
    }

    /// The file that has one of these names.
    fn named_in(files: &[BackupFile], names: &[&str]) -> Option<String> {
        let mut paths = files.iter().map(|file| &file.path);
        let named = |path: &&String| names.iter().any(|name| path.eq_ignore_ascii_case(name));
        paths.find(named).cloned()
    }

    /// Reads the manifest of a backup that has these `files`; `None` where it has none. One that lists
    /// no file is completed by the list of SHA-256 beside it. With it the SHA-256 of what was read, where
    /// that is one `MANIFEST.txt`, which can be signed.
    pub(crate) async fn of(
        store: &dyn BackupStore,
        id: &BackupId,
        files: &[BackupFile],
    ) -> Result<Option<(Self, Option<Digest>)>> {
        if files.iter().any(|file| file.path == Self::FILE_NAME) {
            let (mut manifest, digest) = Self::read(store, id).await?;
            // One that is whole, as older scripts wrote it.
            let counts = manifest.total_files().is_some() && !manifest.truncated;
            if counts && manifest.lists_nothing() {
                // One list of all files, and not what another tool has put beside some of them. One
                // that cannot be read as such is a file like any other.
                let lists = Self::named_in(files, LISTS[0]).into_iter().collect();
                let listed = match Self::of_lists(store, id, (files, lists)).await {
                    Err(error) if error.kind() != ErrorKind::Verification => return Err(error),
                    listed => listed.unwrap_or_default(),
                };
                if !listed.entries.is_empty() {
                    // What it counts may be other files than those of the list.
                    let keys = [Self::TOTAL_FILES, Self::TOTAL_SIZE];
                    let is_count = |key: &str| keys.iter().any(|it| it.eq_ignore_ascii_case(key));
                    manifest.header.retain(|(key, _)| !is_count(key));
                    manifest.summary.retain(|(key, _)| !is_count(key));
                    manifest.entries = listed.entries;
                    manifest.without_hash = listed.without_hash;
                    manifest.truncated = listed.truncated;
                    manifest.lists = listed.lists;
                    // Whoever signed it has not signed the list.
                    return Ok(Some((manifest, None)));
                }
            }
            return Ok(Some((manifest, Some(digest))));
        }
        let mut whole = Self::of_lists(store, id, (files, Self::lists_of(files))).await?;
        // What lists nothing is another tool's file, and no list.
        if whole.lists_nothing() {
            if !store.lists_nothing(id) {
                return Ok(None);
            }
            whole.without_hash = files.iter().map(|file| file.path.clone()).collect();
        }
        Ok(Some((whole, None)))
    }

    /// Whether it has no line of any file.
    fn lists_nothing(&self) -> bool {
        self.entries.is_empty() && self.without_hash.is_empty()
    }

    /// What these lists, which are no `MANIFEST.txt`, say of the `files` of a backup.
    async fn of_lists(
        store: &dyn BackupStore,
        id: &BackupId,
        (files, lists): (&[BackupFile], Vec<String>),
    ) -> Result<Self> {
        let is_there = |path: &str| files.iter().any(|file| file.path == path);
        let mut merged = manifest_parse::Merged::default();
        for list in &lists {
            let text = Self::text(store, id, list).await?;
            manifest_parse::parse_list(&text, list, is_there)
                .and_then(|listed| merged.add(listed))
                .map_err(|e| e.context(format!("backup {id}: {list}")))?;
        }
        let mut whole = merged.end();
        let mine: HashSet<&str> = lists.iter().map(String::as_str).collect();
        whole.entries.retain(|it| !mine.contains(it.path.as_str()));
        whole.without_hash.retain(|it| !mine.contains(it.as_str()));
        if !whole.lists_nothing() {
            whole.lists = lists;
            whole.lists.sort();
        }
        Ok(whole)
    }

    async fn read(store: &dyn BackupStore, id: &BackupId) -> Result<(Self, Digest)> {
        let text = Self::text(store, id, Self::FILE_NAME).await?;
        let manifest = Self::parse(&text).map_err(|e| e.context(format!("backup {id}")))?;
        Ok((manifest, Digest(sha2::Sha256::digest(&text).into())))
    }

    async fn text(store: &dyn BackupStore, id: &BackupId, path: &str) -> Result<Vec<u8>> {
        use tokio::io::AsyncReadExt;
        let mut text = Vec::new();
        store
            .read(id, path, 0)
            .await?
            .take(Self::MAX_BYTES + 1)
            .read_to_end(&mut text)
            .await
            .map_err(|e| Error::io(format!("read {path} of backup {id}"), e))?;
        if text.len() as u64 > Self::MAX_BYTES {
            return Err(Error::new(
                ErrorKind::Verification,
                "manifest.too_large",
                format!(
                    "{path} of backup {id} is larger than {} MiB and cannot be a manifest",
                    Self::MAX_BYTES >> 20
                ),
            )
            .hint("copy the manifest again from where the backup was made"));
        }
        Ok(text)
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
    /// [`parse`](Self::parse) of it gives the same header, entries and files without a hash back.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`] where something cannot be written down: a rounded size, a path or
    /// value with a line break, a path that `parse` would refuse.
    pub fn to_text(&self) -> Result<String> {
        self.to_text_sized(|_| 0)
    }

    /// As [`to_text`](Self::to_text), with the sizes of files that are listed without a hash.
    pub(crate) fn to_text_sized(&self, size_of: impl Fn(&str) -> u64) -> Result<String> {
        let mut out = String::from("=== Backup Manifest ===\n");
        let (unit, bytes) = Self::UNIT;
        let has_unit = self.header.iter().any(|(key, _)| key == unit);
        let unit_line = (!has_unit).then(|| (unit.to_owned(), bytes.to_owned()));
        for (key, value) in self.header.iter().chain(&unit_line) {
            out.push_str(&key_line(key, value)?);
        }
        out.push_str("\n=== Files ===\n");
        let mut total = 0_u64;
        let hashed = self.entries.iter().map(|entry| {
            let hash = entry.sha256.to_string();
            (entry.path.as_str(), entry.size.bytes(), hash)
        });
        let others = self.without_hash.iter().map(String::as_str);
        let others = others.map(|path| (path, Some(size_of(path)), String::new()));
        for (path, size, hash) in hashed.chain(others) {
            let clean = manifest_parse::clean_path(path).ok();
            let (Some(size), true) = (size, clean.as_deref() == Some(path)) else {
                return Err(unwritable(format!("an entry for {path:?}")));
            };
            total = total.saturating_add(size);
            // A line that begins so is none of a file.
            let here = match path.starts_with(['=', '#']) {
                true => "./",
                false => "",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{here}{path}|{size}|{hash}");
        }
        out.push_str("\n=== Summary ===\n");
        for (key, value) in &self.summary {
            if key != Self::TOTAL_FILES && key != Self::TOTAL_SIZE {
                out.push_str(&key_line(key, value)?);
            }
        }
        let files = self.entries.len().saturating_add(self.without_hash.len());
        let _ = writeln!(out, "{}: {files}", Self::TOTAL_FILES);
        let _ = writeln!(out, "{}: {total}", Self::TOTAL_SIZE);
        Ok(out)
    }
}

/// Names of lists that stand for a manifest, in the order in which they are looked for.
const LISTS: [&[&str]; 3] = [
    &[
        "SHA256SUMS",
        "SHA256SUMS.txt",
        "sha256sum.txt",
        "checksums.sha256",
        "checksums.txt",
    ],
    &["manifest.json", "checksums.json"],
    &["MD5SUMS", "MD5SUMS.txt", "md5sum.txt", "checksums.md5"],
];

/// A `Key: value` line that reads back as the same.
fn key_line(key: &str, value: &str) -> Result<String> {
    let line = format!("{key}: {value}");
    if line.contains(['\n', '\r', '\0'])
        || line.starts_with(['=', '#'])
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
    fn files_without_a_hash_are_written_too() {
        let mut written = manifest();
        written.without_hash = vec!["#c".to_owned(), "d/e|f".to_owned()];
        let text = written.to_text_sized(|_| 7).unwrap();
        let read = Manifest::parse(text.as_bytes()).unwrap();
        assert_eq!(read.without_hash, written.without_hash);
        assert_eq!(read.entries, written.entries);
        assert_eq!((read.total_files(), read.truncated), (Some(6), false));
        assert_eq!(read.value("total size"), Some("43"));
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
