//! Where a path leads on this host: through which links, and onto which file system.

use std::collections::VecDeque;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use crate::sys::mount_table::unescape;

/// How many links one name may lead through.
const LINKS: usize = 40;

/// A path without links, on its file system.
#[derive(Clone, Debug)]
pub(super) struct Location {
    pub(super) path: PathBuf,
    /// The device and the path on it, which is one whichever mount leads there.
    on_device: Option<(String, PathBuf)>,
}

impl Location {
    /// A path of another machine, of which nothing but its name is known.
    pub(super) fn named(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            on_device: None,
        }
    }

    /// Where in `other` it is.
    pub(super) fn below(&self, other: &Self) -> Option<PathBuf> {
        if let Ok(inside) = self.path.strip_prefix(&other.path) {
            return Some(inside.to_owned());
        }
        let ((device, path), (other, root)) = (self.on_device.as_ref()?, other.on_device.as_ref()?);
        match device == other {
            true => path.strip_prefix(root).ok().map(PathBuf::from),
            false => None,
        }
    }
}

/// What is mounted where.
#[derive(Default)]
pub(super) struct Mounts(Vec<Mount>);

struct Mount {
    device: String,
    root: PathBuf,
    at: PathBuf,
}

impl Mounts {
    pub(super) fn read() -> Self {
        Self::parse(&std::fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    fn parse(table: &[u8]) -> Self {
        let path = |field: &[u8]| PathBuf::from(std::ffi::OsString::from_vec(unescape(field)));
        let lines = table.split(|byte| *byte == b'\n');
        Self(
            lines
                .filter_map(|line| {
                    let mut fields = line.split(|byte| *byte == b' ').skip(2);
                    Some(Mount {
                        device: String::from_utf8_lossy(fields.next()?).into_owned(),
                        root: path(fields.next()?),
                        at: path(fields.next()?),
                    })
                })
                .collect(),
        )
    }

    /// Mount points strictly below a path.
    pub(super) fn below(&self, root: &Path) -> impl Iterator<Item = &PathBuf> {
        self.0
            .iter()
            .map(|mount| &mount.at)
            .filter(move |at| at.starts_with(root) && *at != root)
    }

    fn place(&self, path: PathBuf) -> Location {
        let over = self.0.iter().filter(|mount| path.starts_with(&mount.at));
        // Of several at one place the last one is seen.
        let mount = over.max_by_key(|mount| mount.at.components().count());
        let on_device = mount.and_then(|mount| {
            let rest = path.strip_prefix(&mount.at).ok()?;
            Some((mount.device.clone(), mount.root.join(rest)))
        });
        Location { path, on_device }
    }

    /// Every place that a path leads through: itself up to each link, and at last where it ends. A link that is
    /// moved away breaks the path as surely as its end.
    pub(super) fn steps(&self, path: &Path) -> Vec<Location> {
        let mut todo: VecDeque<PathBuf> = parts(path);
        let mut done = PathBuf::from("/");
        let mut steps = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part.as_os_str() == ".." {
                done.pop();
                continue;
            }
            let next = done.join(&part);
            match std::fs::read_link(&next) {
                Ok(to) if links < LINKS => {
                    links += 1;
                    steps.push(self.place(next));
                    if to.is_absolute() {
                        done = PathBuf::from("/");
                    }
                    for part in parts(&to).into_iter().rev() {
                        todo.push_front(part);
                    }
                }
                _ => done = next,
            }
        }
        steps.push(self.place(done));
        steps
    }
}

/// The names in a path, without what means the same directory.
fn parts(path: &Path) -> VecDeque<PathBuf> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_mount_leads_to_the_same_place() {
        let table = b"1 0 8:1 / / rw - ext4 x rw\n2 1 8:1 /srv/app/data /mnt/da\\040ta rw - ext4 x rw\n3 1 8:2 / /home rw - ext4 y rw\n";
        let mounts = Mounts::parse(table);
        let app = mounts.place("/srv/app".into());
        let inside = |path: &str| mounts.place(path.into()).below(&app);
        assert_eq!(inside("/mnt/da ta/x"), Some("data/x".into()));
        assert_eq!(inside("/srv/app/y"), Some("y".into()));
        assert_eq!(inside("/srv/apple"), None);
        assert_eq!(inside("/home/srv/app"), None);
        let below: Vec<_> = mounts.below(Path::new("/mnt")).collect();
        assert_eq!(below, [Path::new("/mnt/da ta")]);
    }
}
