//! Which paths of a tree stay where they are.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::model::{Error, ErrorKind, Result, glob};

/// Paths that are neither moved nor replaced. A plain path names itself and all below it; one
/// that begins with `**/` names its remainder at any depth, in which `*` stands for any run of
/// characters but `/`.
#[derive(Clone, Debug, Default)]
pub(crate) struct PathSet {
    plain: Vec<Vec<u8>>,
    anywhere: Vec<Vec<Vec<u8>>>,
}

impl PathSet {
    /// Reads the patterns; `Config` for one that is empty, absolute or holds `..`.
    pub(crate) fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut keep = Self::default();
        for pattern in patterns {
            let pattern = pattern.as_ref();
            match pattern.strip_prefix("**/") {
                Some(rest) => keep.anywhere.push(
                    rest.trim_end_matches('/')
                        .split('/')
                        .map(|part| part.as_bytes().to_vec())
                        .collect(),
                ),
                None => keep
                    .plain
                    .push(relative(pattern)?.as_os_str().as_bytes().to_vec()),
            }
        }
        Ok(keep)
    }

    /// Whether exactly this path (or, by a plain pattern, one above it) is kept. Walkers ask
    /// for each path on their way down, so what is below a kept directory needs no answer.
    pub(crate) fn holds(&self, path: &Path) -> bool {
        let bytes = path.as_os_str().as_bytes();
        self.plain.iter().any(|kept| at_or_below(bytes, kept))
            || self.anywhere.iter().any(|parts| {
                let mut names = path.components().rev();
                parts.iter().rev().all(|part| {
                    names
                        .next()
                        .is_some_and(|name| glob::matches(part, name.as_os_str().as_bytes(), true))
                })
            })
    }

    /// Whether something at or below `path` is kept by a plain pattern.
    pub(crate) fn may_hold_below(&self, path: &Path) -> bool {
        let bytes = path.as_os_str().as_bytes();
        self.plain.iter().any(|kept| at_or_below(kept, bytes))
    }

    /// Whether there are patterns that hold at any depth.
    pub(crate) fn has_anywhere(&self) -> bool {
        !self.anywhere.is_empty()
    }
}

fn at_or_below(path: &[u8], above: &[u8]) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/'))
}

/// A path of a configuration or an argument, taken relative to a tree: `./` and double slashes
/// go; `Config` for one that is empty, absolute or holds `..`.
pub(crate) fn relative(text: &str) -> Result<std::path::PathBuf> {
    use std::path::Component;
    let mut path = std::path::PathBuf::new();
    for component in Path::new(OsStr::new(text)).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(bad_path(text));
            }
        }
    }
    if path.as_os_str().is_empty() {
        return Err(bad_path(text));
    }
    Ok(path)
}

fn bad_path(text: &str) -> Error {
    Error::new(
        ErrorKind::Config,
        "path.not_relative",
        format!("{text:?} is not a path inside the tree"),
    )
    .hint("name it relative to the tree, without a leading slash and without `..`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_hold_all_below_and_patterns_any_depth() {
        let keep = PathSet::new(["a/b", "**/conf.d/maintenance.conf", "**/*.log"]).unwrap();
        for held in [
            "a/b",
            "a/b/c",
            "conf.d/maintenance.conf",
            "x/conf.d/maintenance.conf",
            "x.log",
            "d/y.log",
        ] {
            assert!(keep.holds(Path::new(held)), "{held}");
        }
        for other in [
            "a",
            "a/bc",
            "maintenance.conf",
            "x.logs",
            "conf.d/maintenance.conf.bak",
        ] {
            assert!(!keep.holds(Path::new(other)), "{other}");
        }
        assert!(keep.may_hold_below(Path::new("a")));
        assert!(!keep.may_hold_below(Path::new("b")));
    }

    #[test]
    fn a_pattern_of_many_stars_is_answered_at_once() {
        let keep = PathSet::new(["**/*a*a*a*a*a*a*a*b"]).unwrap();
        let begun = std::time::Instant::now();
        assert!(!keep.holds(Path::new(&"a".repeat(255))));
        assert!(keep.holds(Path::new(&("a".repeat(254) + "b"))));
        assert!(begun.elapsed() < std::time::Duration::from_secs(2));
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for bad in ["", ".", "/etc", "a/../b", ".."] {
            assert_eq!(
                relative(bad).unwrap_err().code(),
                "path.not_relative",
                "{bad}"
            );
        }
        assert_eq!(relative("./a//b/").unwrap(), Path::new("a/b"));
    }
}
