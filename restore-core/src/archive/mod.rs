//! The data path: each artifact is read once, and hashed, decompressed and unpacked in that pass.

pub(crate) mod path_set;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

mod abort;
mod acl;
mod chunk;
mod codec;
mod copy;
mod estimate;
mod floor;
mod hash;
mod limit;
mod links;
mod listing;
mod member;
mod member_filter;
mod member_index;
mod ownership;
mod pack;
mod parse;
mod pattern;
mod reader;
mod refusal;
mod sink;
mod source_thread;
mod tar_reader;
mod tree;
mod unpack;
mod write;
mod writer_pool;

#[cfg(feature = "fuzzing")]
pub(crate) use acl::fuzz as fuzz_acl;
pub(crate) use acl::group_rights;
pub(crate) use codec::{ARCHIVES, is_compressed};
pub(crate) use copy::{Unheard, copy_stored_into, copy_verified_into, forward_chunks};
pub use copy::{copy_verified, read_through};
pub use estimate::estimate_unpacked;
pub(crate) use estimate::{estimate_most, estimate_source};
pub(crate) use floor::RoomWatch;
pub use hash::{Digest, hash_file};
pub(crate) use limit::{Limit, TooLarge};
pub(crate) use listing::{Listed, MemberType, TreePaths, list};
pub(crate) use member_filter::MemberMissing;
pub use pack::{Compression, Measured, PackPolicy, Packed, measure, pack};
pub(crate) use pack::{measure_dir, pack_dir};
pub(crate) use pattern::PathPattern;
pub(crate) use reader::Reader;
pub(crate) use sink::unwritable;
pub use sink::{Sink, SinkFile, Written};
pub(crate) use source_thread::open_sized;
pub(crate) use unpack::{Content, Damaged, Walked, read_files, unpack_from, unpack_into, walk_all};
pub use unpack::{unpack, walk};

/// A file to be read once, and what is known of it beforehand.
#[derive(Clone, Debug)]
pub struct Source {
    path: PathBuf,
    /// What is read instead of the file at `path`.
    given: Option<Arc<File>>,
    /// The directory that `path` is below, of which no link may lead away.
    root: Option<PathBuf>,
    label: String,
    size: Option<u64>,
    expected: Option<Digest>,
    /// What it may unpack to.
    limit: Option<Limit>,
    cancel: CancellationToken,
}

impl Source {
    /// The file at `path`, called `label` in messages, with the size and hash expected of it
    /// where they are known.
    pub fn new(
        path: impl Into<PathBuf>,
        label: impl Into<String>,
        size: Option<u64>,
        expected: Option<Digest>,
    ) -> Self {
        Self {
            path: path.into(),
            given: None,
            root: None,
            label: label.into(),
            size,
            expected,
            limit: None,
            cancel: CancellationToken::new(),
        }
    }

    /// What comes out of `input`, a pipe for instance, from where it is read now to its end. It
    /// can be read once.
    pub(crate) fn from_file(
        input: File,
        label: impl Into<String>,
        size: Option<u64>,
        expected: Option<Digest>,
    ) -> Self {
        let label = label.into();
        Self {
            given: Some(Arc::new(input)),
            ..Self::new(label.clone(), label, size, expected)
        }
    }

    /// The same source, whose file lies below the directory `root`: it is opened there without following
    /// links, whoever may put one in its place meanwhile.
    #[must_use]
    pub(crate) fn below(mut self, root: Option<&Path>) -> Self {
        self.root = root.map(Path::to_path_buf);
        self
    }

    /// The same source, whose readers end with `archive.too_large` where it unpacks to more than that.
    #[must_use]
    pub(crate) fn limited(mut self, limit: Option<Limit>) -> Self {
        self.limit = limit;
        self
    }

    /// What it may unpack to.
    pub(crate) fn limit(&self) -> Option<&Limit> {
        self.limit.as_ref()
    }

    /// Opens the file for reading; what is no regular file is an error.
    pub(crate) fn open(&self) -> std::io::Result<File> {
        if let Some(given) = &self.given {
            return given.try_clone();
        }
        match &self.root {
            None => crate::sys::open_to_read(&self.path),
            Some(root) => crate::sys::open_to_read_below(root, &self.path),
        }
    }

    /// The same source, whose readers stop with `Interrupted` once `cancel` is cancelled.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: CancellationToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What messages call it: its path inside the backup.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its size in bytes, where known.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The hash that it must have, where known.
    pub fn expected(&self) -> Option<Digest> {
        self.expected
    }

    /// What stops its readers.
    pub fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }
}

/// Which archive members are let in, and under which names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UnpackPolicy {
    /// Only members at or below this path are unpacked, and their names are taken relative to
    /// it; empty: all. Others are left out and counted, whatever they are: only what would be
    /// written is judged. With a prefix a leading slash of a member's name means nothing.
    pub prefix: String,
    /// So many leading names are taken off what is left of a member's name, as `tar
    /// --strip-components` does; members that have no more are left out.
    #[serde(default)]
    pub strip: u32,
    /// Of those, only members at or below one of these paths (relative to `prefix`); empty: all.
    /// Directories on the way are made with their recorded mode.
    pub only: Vec<String>,
    /// Members at or below these paths (relative to `prefix`) are left out.
    pub except: Vec<String>,
    /// Symbolic links are data: they are made as they are, wherever they lead, and never followed.
    /// Without it, those are refused that lead out of the tree; see [`Self::live_root`].
    #[serde(default)]
    pub any_links: bool,
    /// Where the tree will live. Without [`Self::any_links`], symbolic links to places below it, or relative ones that stay
    /// inside it, are let in. A target with `..` behind a name never is: where that leads
    /// depends on whether the name is a link.
    pub live_root: PathBuf,
    /// Further places that symbolic links may lead to. `/dev/null`, `/dev/stdout` and
    /// `/dev/stderr` always are.
    pub links_to: Vec<PathBuf>,
    /// The live tree is on another machine, which alone knows its owner and perhaps its place: what
    /// depends on these is not judged here but there.
    #[serde(skip)]
    pub(crate) elsewhere: bool,
    /// Let set-uid and set-gid files in whose owner (for set-gid: group), as recorded or as they
    /// become, is not [`Self::owner`] or is root, and files with capabilities.
    pub set_uid: bool,
    /// Take set-uid, set-gid and capabilities off the files that are written: nothing is refused for
    /// them then.
    #[serde(default)]
    pub drop_powers: bool,
    /// The owner of the live tree: set-uid files of this owner are let in, save root's.
    pub owner: Option<(u32, u32)>,
    /// Give every member this owner instead of the recorded one.
    pub chown: Option<(u32, u32)>,
    /// Where `chown` says nothing: whose each member becomes.
    #[serde(default)]
    pub owners: Owners,
    /// So many members the archive may have, those that are left out included; 0: twenty million.
    #[serde(default)]
    pub max_members: u64,
    /// So many bytes of content may be unpacked, and so many zeros may stand for the holes of sparse
    /// files; 0: as many as the file system has room for, and two tebibytes of zeros.
    #[serde(default)]
    pub max_bytes: u64,
    /// What was planned for the archive, where `max_bytes` says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<Limit>,
    /// Whose service is to work with what is unpacked: members that it cannot read, and those that
    /// it can write, are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reader: Option<Reader>,
}

/// Whose the members of an archive become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Owners {
    /// The recorded numbers'.
    #[default]
    Numbers,
    /// The recorded names', as the machine that unpacks knows them; the numbers' where it does not.
    Names,
    /// The live tree's: [`UnpackPolicy::owner`], where that is known.
    Volume,
}

/// Members that an archive may have where nothing else is said.
const MEMBERS: u64 = 20_000_000;
/// A member of an archive that is not let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RefusedMember {
    /// Its name, perhaps shortened.
    pub member: String,
    /// Why, in a few words.
    pub reason: String,
    /// What can be done about it.
    pub hint: String,
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Unpacked {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic and hard links.
    pub links: u64,
    /// Bytes of file content.
    pub bytes: u64,
    /// Bytes of the archive read (compressed).
    pub read: u64,
    /// The archive's hash.
    pub digest: Option<Digest>,
    /// Members left out because of `prefix`, `only` or `except`.
    pub left_out: u64,
    /// Of those, the ones outside of `prefix` or without a name once `strip` directories are taken
    /// off; directories that only lead to what is wanted are not counted.
    #[serde(default)]
    pub outside: u64,
    /// Access control lists that the file system does not take, or that name somebody unknown here:
    /// the group then has what it really had, and those whom the list named have nothing.
    #[serde(default)]
    pub acls_lost: u64,
    /// Other extended attributes that were not given back: those of the system that the archive was made on
    /// (`trusted.*` and the like), and those that the file system does not take.
    #[serde(default)]
    pub attributes_lost: u64,
    /// Members with a label of SELinux, which is not given back: what is made gets that of its place.
    #[serde(default)]
    pub labels_lost: u64,
    /// Files and directories that the service which works with them cannot read, where that was asked.
    #[serde(default)]
    pub unreadable: u64,
    /// Those that it can write.
    #[serde(default)]
    pub writable: u64,
    /// The archive says nothing of the tree's own directory, in which that service cannot write.
    #[serde(default)]
    pub closed: bool,
    /// It has a member for that directory.
    #[serde(skip)]
    pub(crate) names_top: bool,
}

#[cfg(test)]
mod tests;
