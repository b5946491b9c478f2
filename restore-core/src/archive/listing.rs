//! What is in an archive: each member as its headers describe it, told as it comes. Nothing is judged,
//! and nothing is kept of a member once it is told, however many there are.

use tokio::sync::mpsc::Sender;

use super::member::{Member, TarKind, Time};
use super::member_filter::MemberFilter;
use super::source_thread::compare;
use super::unpack::{Walked, blocking, read_archive};
use super::{Source, UnpackPolicy, Unpacked};
use crate::model::{Error, ErrorKind, Progress, Result};

/// What a member of an archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MemberType {
    File,
    Directory,
    /// With its target.
    Symlink(Vec<u8>),
    /// With the name of the member that it is another name of.
    HardLink(Vec<u8>),
    Fifo,
    Device,
    /// Something that no restore takes.
    Other,
}

/// A member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its name, as the archive has it.
    pub(crate) name: Vec<u8>,
    pub(crate) kind: MemberType,
    /// The size of a file once it is unpacked.
    pub(crate) size: u64,
    /// Permission bits, set-uid, set-gid and sticky included.
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) modified: Time,
}

impl Listed {
    /// A member; `None` for what only describes others.
    pub(super) fn of(member: &Member) -> Option<Self> {
        let kind = match &member.what {
            TarKind::File(_) => MemberType::File,
            TarKind::Directory | TarKind::Dumpdir { .. } => MemberType::Directory,
            TarKind::Symlink(target) => MemberType::Symlink(target.clone()),
            TarKind::Hardlink(target) => MemberType::HardLink(target.clone()),
            TarKind::Fifo => MemberType::Fifo,
            TarKind::CharacterDevice | TarKind::BlockDevice => MemberType::Device,
            TarKind::Continued | TarKind::Unknown(_) => MemberType::Other,
            TarKind::Global(_) | TarKind::Label => return None,
        };
        let size = match kind {
            MemberType::File => member.size,
            _ => 0,
        };
        Some(Self {
            name: member.name.clone(),
            kind,
            size,
            mode: member.mode,
            owner: (member.uid, member.gid),
            modified: member.mtime,
        })
    }
}

/// Reads an archive to its last entry without writing anything, and tells each member to `to`; the
/// hash is compared last. Whoever must not believe a damaged archive waits for the end.
///
/// # Errors
///
/// `Verification`: `archive.truncated`, `archive.corrupt`, `hash.mismatch`; `stream.unheard` where
/// nobody listens any more; `Interrupted` when the source's token is cancelled.
pub(crate) async fn list(
    source: Source,
    progress: Progress,
    to: Sender<Listed>,
) -> Result<Unpacked> {
    // Of one that was changed all is told first: the reading is not broken off for its hash.
    let unhashed = Source {
        expected: None,
        ..source.clone()
    };
    let unpacked = blocking(unhashed, move |source, halt| {
        let mut walked = Walked {
            to: Some(to),
            ..Walked::default()
        };
        let all = UnpackPolicy::default();
        read_archive(source, None, &all, &progress, halt, Some(&mut walked))
    })
    .await?;
    if let Some(digest) = unpacked.digest {
        compare(&source, digest)?;
    }
    Ok(unpacked)
}

/// That nobody takes what is told.
pub(super) fn unheard(label: &str) -> Error {
    Error::new(
        ErrorKind::Failed,
        "stream.unheard",
        format!("nobody takes the members of {label} any more"),
    )
}

/// Where members of an archive lie in the tree that is restored from it.
pub(crate) struct TreePaths<'a>(MemberFilter<'a>);

impl<'a> TreePaths<'a> {
    /// Of the archive called `label`; an impossible selection is refused.
    pub(crate) fn new(label: &'a str, policy: &'a UnpackPolicy) -> Result<Self> {
        MemberFilter::new(label, policy).map(Self)
    }

    /// The path below the tree that a member of this name has (empty: the tree itself); `None` where it
    /// is not restored.
    pub(crate) fn of(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.0.path_in_tree(name)
    }
}
