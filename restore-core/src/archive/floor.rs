//! Room that unpacking leaves to whoever else writes to the file system: the live services.
//!
//! How much an archive takes is guessed before; one that is made to take more must not fill the disk.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::StatVfs;

use super::tree::Tree;
use crate::model::{Error, ErrorKind, Result};

/// Content after which the room is looked at again.
const EVERY_BYTES: u64 = 2 << 20;

/// Members after which it is.
const EVERY_MEMBERS: u64 = 256;

/// The least and the most that is left, which is otherwise a twentieth of the file system.
const LEAST: u64 = 16 << 20;
const MOST: u64 = 512 << 20;

/// The most inodes that are left, which are otherwise a hundredth.
const INODES: u64 = 10_000;

/// What must stay free. A quarter of what was free at most, so that a small archive goes into a disk
/// that is nearly full.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    bytes: u64,
    inodes: u64,
}

#[cfg(test)]
impl Limits {
    /// Nothing may be written.
    pub(super) fn everything() -> Self {
        let (bytes, inodes) = (u64::MAX, u64::MAX);
        Self { bytes, inodes }
    }
}

/// What must stay free where `root` is, told before anything is written there.
pub(super) fn limits(root: impl AsFd) -> Limits {
    // Where the room is not known, nothing is watched.
    let room = rustix::fs::fstatvfs(root).ok();
    let (bytes, inodes) = room.as_ref().map_or((0, 0), floors);
    Limits { bytes, inodes }
}

/// Watches the room while a tree is written.
pub(super) struct Floor<'a> {
    root: &'a File,
    limits: Limits,
    label: &'a str,
    written: u64,
    made: u64,
}

impl<'a> Floor<'a> {
    pub(super) fn new(tree: &'a Tree) -> Self {
        Self {
            root: tree.root(),
            limits: tree.limits,
            label: tree.label(),
            written: 0,
            made: 0,
        }
    }

    /// Watches the room while a file is written that `label` becomes.
    pub(super) fn over(file: &'a File, label: &'a str) -> Self {
        Self {
            root: file,
            limits: limits(file),
            label,
            written: 0,
            made: 0,
        }
    }

    /// Some content is about to be written, for some members.
    pub(super) fn look(&mut self, content: usize, members: usize) -> Result<()> {
        self.written += content as u64;
        self.made += members as u64;
        if self.written < EVERY_BYTES && self.made < EVERY_MEMBERS {
            return Ok(());
        }
        (self.written, self.made) = (0, 0);
        self.limits.hold(self.root, self.label)
    }
}

impl Limits {
    /// Fails where less is free than what must stay.
    fn hold(&self, root: impl AsFd, label: &str) -> Result<()> {
        let Ok(room) = rustix::fs::fstatvfs(root) else {
            return Ok(());
        };
        let free = room.f_bavail.saturating_mul(room.f_frsize);
        if free < self.bytes {
            return Err(reached(label, &format!("{free} bytes")));
        }
        if room.f_files > 0 && room.f_favail < self.inodes {
            return Err(reached(label, &format!("{} inodes", room.f_favail)));
        }
        Ok(())
    }
}

/// Watches the room of a directory into which somebody else writes for us.
pub(crate) struct RoomWatch {
    directory: File,
    limits: Limits,
}

impl RoomWatch {
    /// From now on; `None` where it cannot be seen.
    pub(crate) fn of(directory: &Path) -> Option<Self> {
        let directory = File::open(directory).ok()?;
        let limits = limits(&directory);
        Some(Self { directory, limits })
    }

    /// Fails with `archive.no_room_left` where `label` has left less than the services need.
    pub(crate) fn look(&self, label: &str) -> Result<()> {
        self.limits.hold(&self.directory, label)
    }
}

fn reached(label: &str, left: &str) -> Error {
    Error::new(
        ErrorKind::Failed,
        "archive.no_room_left",
        format!(
            "{label} takes more room than there is: {left} are left on the file system, which the services need"
        ),
    )
    .hint("look at what is in the archive (`restore show ID --files`); if it is right, make room and try again")
}

fn floors(room: &StatVfs) -> (u64, u64) {
    let total = room.f_blocks.saturating_mul(room.f_frsize);
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    let bytes = (total / 20).clamp(LEAST, MOST).min(free / 4);
    let inodes = (room.f_files / 100).min(INODES).min(room.f_favail / 4);
    (bytes, inodes)
}
