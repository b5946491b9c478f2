//! Which scripts wrote a backup, and how file names are matched.

use serde::{Deserialize, Serialize};

use crate::contract::Manifest;
use crate::contract::store::is_inside;
use crate::model::{BackupFile, BackupId, glob};

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
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    glob::matches(pattern.as_bytes(), path.as_bytes(), false)
}

/// What begins, in the place of the first `*`, the name that an artifact of ours gets where every pattern has one.
const OWN: char = '@';

/// The name that we give the artifact of a component by a pattern with `*`, which other tools' backups have:
/// `backup-@uploads.tar.gz` by `backup-*.tar.gz`. `None` by a pattern that says one name, and by one that this
/// name would not fit.
pub(super) fn own_name(pattern: &str, component: &str, id: &BackupId) -> Option<String> {
    let (before, after) = pattern.split_once('*')?;
    let after = after.replace('*', component);
    let name = expand_pattern(&format!("{before}{OWN}{component}{after}"), id);
    let fits = matches(&expand_pattern(pattern, id), &name);
    (fits && is_inside(&name)).then_some(name)
}

/// Of the files that fit a pattern those that may be the component's: the one that we named after it, or all but
/// those that we named after others.
pub(super) fn of_component(
    (pattern, component): (&str, &str),
    id: &BackupId,
    mut found: Vec<String>,
) -> Vec<String> {
    let own = own_name(pattern, component, id).filter(|own| found.contains(own));
    if let Some(own) = own {
        return vec![own];
    }
    if let Some((before, _)) = pattern.split_once('*') {
        let before = expand_pattern(before, id);
        let of_another = |path: &String| {
            path.strip_prefix(&before)
                .is_some_and(|rest| rest.starts_with(OWN))
        };
        found.retain(|path| !of_another(path));
    }
    found
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
    fn a_star_stops_at_a_slash_and_many_take_no_time() {
        assert!(matches("app/image-*.tar.gz", "app/image-a_b.tar.gz"));
        assert!(!matches("app/*.tar.gz", "app/images/a.tar.gz"));
        let begun = std::time::Instant::now();
        let id: BackupId = "20260101-000000".parse().unwrap();
        let pattern = expand_pattern("{id}*a*a*a*a*a*a*a*b", &id);
        assert!(!matches(&pattern, &format!("{id}{}", "a".repeat(255))));
        assert!(begun.elapsed() < std::time::Duration::from_secs(2));
    }

    #[test]
    fn what_we_name_by_a_pattern_fits_it_and_is_told_from_what_is_anothers() {
        let id: BackupId = "20260101-000000".parse().unwrap();
        for (pattern, want) in [
            ("backup-*.tar.gz", Some("backup-@uploads.tar.gz")),
            ("*", Some("@uploads")),
            ("*-{id}.*", Some("@uploads-20260101-000000.uploads")),
            ("*/x/*.tar", Some("@uploads/x/uploads.tar")),
            ("../*.tar", None),
            ("plain.tar", None),
        ] {
            let name = own_name(pattern, "uploads", &id);
            assert_eq!(name.as_deref(), want, "{pattern}");
        }
        assert_eq!(own_name("*.tar", "a/b", &id), None);
        let chosen = |component: &str, found: &[&str]| {
            let found = found.iter().map(|path| (*path).to_owned()).collect();
            of_component(("b-*.tar", component), &id, found)
        };
        let ours = ["b-@a.tar", "b-@ab.tar", "b-x.tar"];
        assert_eq!(chosen("a", &ours), ["b-@a.tar"]);
        assert_eq!(chosen("ab", &ours), ["b-@ab.tar"]);
        assert_eq!(chosen("c", &ours), ["b-x.tar"]);
        assert_eq!(chosen("a", &["b-x.tar", "b-y.tar"]).len(), 2);
        assert!(chosen("c", &["b-@a.tar"]).is_empty());
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
