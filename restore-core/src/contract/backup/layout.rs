//! Which scripts wrote a backup, and how file names are matched.

use serde::{Deserialize, Serialize};

use crate::contract::Manifest;
use crate::model::{BackupFile, BackupId};

/// Which scripts wrote a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Generation {
    /// With checksums: every file can be verified.
    A,
    /// Without checksums: unverifiable.
    B,
    /// No manifest, an empty or a cut one, or no artifact at all: unfinished.
    Unfinished,
}

impl Generation {
    /// Both generations write the manifest last, so a folder without one, or with a beginning of
    /// one, is unfinished. Generation B's last line is its file count: that it is there is all
    /// that tells B from an A that was cut before its first file line.
    pub(crate) fn of(manifest: Option<&Manifest>, files: &[BackupFile]) -> Self {
        let Some(manifest) = manifest else {
            return Self::Unfinished;
        };
        if !manifest.entries.is_empty() {
            return Self::A;
        }
        let has_artifacts = files.iter().any(|file| !manifest.is_own(&file.path));
        let ends = manifest.total_files().is_some() || !manifest.without_hash.is_empty();
        if has_artifacts && ends && !manifest.truncated {
            return Self::B;
        }
        Self::Unfinished
    }
}

/// A file name pattern with `{id}` replaced by the backup's id.
pub fn expand_pattern(pattern: &str, id: &BackupId) -> String {
    pattern.replace("{id}", id.as_str())
}

/// An archive's name without what says how it is compressed; `None`: it is no archive's.
pub(crate) fn archive_stem(name: &str) -> Option<&str> {
    let mut ends = crate::archive::ARCHIVES.iter();
    ends.find_map(|end| name.strip_suffix(end))
}

/// The names that an archive has when it is compressed in another way.
pub(crate) fn twins(name: &str) -> Vec<String> {
    let Some(stem) = archive_stem(name) else {
        return Vec::new();
    };
    let others = [
        ".tar.zst", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar.lz4", ".tar",
    ];
    let twins = others.iter().map(|end| format!("{stem}{end}"));
    twins.filter(|twin| twin != name).collect()
}

/// Whether `path` matches `pattern`, in which `*` stands for any run of characters but `/`.
/// Takes time in proportion to the product of their lengths at worst, whatever the stars.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, path) = (pattern.as_bytes(), path.as_bytes());
    let (mut p, mut s) = (0, 0);
    // Where to take up again after a mismatch: past the last star, with one byte more for it.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), path.get(s)) {
            (Some(b'*'), _) => {
                p += 1;
                retry = Some((p, s));
                continue;
            }
            (Some(want), Some(have)) if want == have => {
                p += 1;
                s += 1;
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        // The star grows by one byte, unless that is a `/`: an earlier star cannot help then.
        match retry {
            Some((after, at)) if path.get(at).is_some_and(|&byte| byte != b'/') => {
                retry = Some((after, at + 1));
                (p, s) = (after, at + 1);
            }
            _ => return false,
        }
    }
}

/// Whether a file looks like something that a component restores, by its name's end. Used where
/// no manifest vouches for it: a stray note beside a backup is harmless, a stray dump is not.
pub(crate) fn looks_restorable(path: &str) -> bool {
    const ENDS: &[&str] = &[
        ".dump", ".sql", ".rdb", ".aof", ".tar", ".tgz", ".gz", ".zst", ".bz2", ".tbz2", ".tbz",
        ".xz", ".txz", ".lz4", ".gpg",
    ];
    let name = path.rsplit('/').next().unwrap_or(path);
    let crontab = name.starts_with("crontab-") && name.ends_with(".txt");
    // Half-copied files of rsync are hidden and end in random letters.
    crontab || (!name.starts_with('.') && ENDS.iter().any(|end| name.ends_with(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stop_at_slashes() {
        for (pattern, path, want) in [
            ("a/*.gz", "a/b.gz", true),
            ("a/*.gz", "a/b/c.gz", false),
            ("a/*", "a/", true),
            ("*", "", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("*a*/b*", "xay/bz", true),
            ("*a*/b*", "xay/cz", false),
            (
                "app/docker-image-*.tar.gz",
                "app/docker-image-a_b.tar.gz",
                true,
            ),
            (
                "app/docker-image-*.tar.gz",
                "app/docker-image-a.tar.gz.gpg",
                false,
            ),
            ("*.gz*.gz", "a.gz.gz", true),
            ("", "", true),
            ("", "a", false),
            ("ü*", "üä", true),
        ] {
            assert_eq!(matches(pattern, path), want, "{pattern} {path}");
        }
        // Exponential in a matcher that backtracks into every star.
        assert!(!matches(&"*a".repeat(40), &"a".repeat(30_000)[..39]));
        assert!(!matches(&("*a".repeat(60) + "b"), &"a".repeat(5_000)));
    }

    #[test]
    fn stray_files_are_told_from_artifacts() {
        for path in ["postgres/x.dump", "a.tar.gz", "configs/crontab-1.txt"] {
            assert!(looks_restorable(path), "{path}");
        }
        for path in [
            "NOTES.txt",
            "postgres/.x.dump.Ab12Cd",
            "configs/env-files/.env",
        ] {
            assert!(!looks_restorable(path), "{path}");
        }
    }
}
