//! When a directory was made: it tells it from others that have its number, on another disk or in its
//! place since. The number of the disk does not, as it may be another's after the next boot.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// A directory of a layer below has another one as soon as something is made in it.
const OVERLAY: u64 = 0x794c_7630;

/// When a directory was made, since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Birth {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

impl Birth {
    /// That of a directory that is open; `None` where its file system does not keep it.
    pub(crate) fn of(directory: impl AsFd) -> rustix::io::Result<Option<Self>> {
        let directory = directory.as_fd();
        let system = rustix::fs::fstatfs(directory)?;
        if system.f_type as u64 & 0xffff_ffff == OVERLAY {
            return Ok(None);
        }
        match rustix::fs::statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME) {
            Ok(found) if found.stx_mask & StatxFlags::BTIME.bits() != 0 => Ok(Some(Self {
                seconds: found.stx_btime.tv_sec,
                nanoseconds: found.stx_btime.tv_nsec,
            })),
            Ok(_) | Err(Errno::NOSYS | Errno::PERM) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
