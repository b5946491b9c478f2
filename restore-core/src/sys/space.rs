//! Room on file systems.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::model::{Error, Result};

/// Free and total room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Space {
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Inodes that can still be made; `u64::MAX` where the file system does not count them.
    pub free_inodes: u64,
    /// Identifies the file system, so that needs on the same one are added up.
    pub file_system: String,
    /// Whether nothing can be written there at all.
    #[serde(default)]
    pub read_only: bool,
    /// Where it is mounted and of which kind it is, for people: `/srv (ext4)`; empty where that is
    /// not known.
    #[serde(default)]
    pub place: String,
}

impl Space {
    /// Room on the file system `file_system`.
    pub fn new(free_bytes: u64, free_inodes: u64, file_system: impl Into<String>) -> Self {
        Self {
            free_bytes,
            free_inodes,
            file_system: file_system.into(),
            read_only: false,
            place: String::new(),
        }
    }

    /// This room; says where the file system is that a path lies on.
    #[must_use]
    pub fn placed(mut self, path: &Path) -> Self {
        self.place = mounted_at(path);
        self
    }

    /// What people call it.
    pub(crate) fn shown(&self) -> &str {
        match self.place.as_str() {
            "" => &self.file_system,
            place => place,
        }
    }

    /// This room; says whether nothing can be written there at all.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// The room in a directory of this host.
    ///
    /// # Errors
    ///
    /// `Failed` where it cannot be measured.
    pub fn of(directory: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let opened = rustix::fs::open(directory, flags, Mode::empty())
            .map_err(|e| Error::io(format!("measure {}", directory.display()), e.into()))?;
        Self::of_open(&opened, directory)
    }

    /// The room in an open directory, which people know as `directory`.
    pub(crate) fn of_open(opened: impl AsFd, directory: &Path) -> Result<Self> {
        let failed = |e: Errno| Error::io(format!("measure {}", directory.display()), e.into());
        let room = rustix::fs::fstatvfs(&opened).map_err(failed)?;
        let device = rustix::fs::fstat(&opened).map_err(failed)?.st_dev;
        Ok(Self::new(
            room.f_bavail.saturating_mul(room.f_frsize),
            // Some file systems make inodes as they need them and count none.
            if room.f_files == 0 {
                u64::MAX
            } else {
                room.f_favail
            },
            format!(
                "device {}:{}",
                rustix::fs::major(device),
                rustix::fs::minor(device)
            ),
        )
        .read_only(room.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
        .placed(directory))
    }
}

/// The mount point that a path lies below, with the kind of its file system; empty where the table
/// of mounts does not tell.
fn mounted_at(path: &Path) -> String {
    // Names in it may be no text.
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let table = String::from_utf8_lossy(&table);
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    mount_of(&table, &path).unwrap_or_default()
}

fn mount_of(table: &str, path: &Path) -> Option<String> {
    let mounts = table.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let at = left.split(' ').nth(4)?.replace("\\040", " ");
        let kind = right.split(' ').next()?;
        Some((PathBuf::from(at), kind))
    });
    // Of several at one place the last one is seen.
    let (at, kind) = mounts
        .filter(|(at, _)| path.starts_with(at))
        .max_by_key(|(at, _)| at.components().count())?;
    Some(format!("{} ({kind})", at.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lies_on_the_innermost_mount() {
        let table = "1 0 8:1 / / rw shared:1 - ext4 /dev/a rw\n\
                     2 1 8:2 / /srv rw - xfs /dev/b rw\n\
                     3 1 0:9 / /srv/my\\040data rw - tmpfs none rw\n";
        let of = |path: &str| mount_of(table, Path::new(path)).unwrap();
        assert_eq!(of("/var/lib"), "/ (ext4)");
        assert_eq!(of("/srv"), "/srv (xfs)");
        assert_eq!(of("/srv/my data/x"), "/srv/my data (tmpfs)");
        assert_eq!(of("/srvx"), "/ (ext4)");
        assert_eq!(mount_of("", Path::new("/")), None);
    }
}
