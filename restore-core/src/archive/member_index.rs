//! Which names an archive had so far, in a few bytes each.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file that is unpacked.
    File,
    /// A regular file that is left out.
    FileLeftOut,
    /// A directory that is made, named or implied by a name below it.
    Directory,
    /// A directory that nothing selected needs so far.
    DirectoryLeftOut,
    /// A symbolic link that means the same wherever it lies inside the tree.
    Link,
    /// A symbolic link whose meaning depends on its place.
    LinkFixed,
    /// A symbolic link that is left out.
    LinkLeftOut,
    /// A named pipe.
    Fifo,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::File,
        Self::FileLeftOut,
        Self::Directory,
        Self::DirectoryLeftOut,
        Self::Link,
        Self::LinkFixed,
        Self::LinkLeftOut,
        Self::Fifo,
    ];

    /// The type in words; two kinds of the same type may follow each other under one name.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::File | Self::FileLeftOut => "a file",
            Self::Directory | Self::DirectoryLeftOut => "a directory",
            Self::Link | Self::LinkFixed | Self::LinkLeftOut => "a symbolic link",
            Self::Fifo => "a named pipe",
        }
    }
}

/// Remembers names by a keyed 61-bit hash, with their kind in the three bits below it: some
/// 9 to 18 bytes a name however long it is, so that a million members fit the memory that the
/// data path may use. The key is random, so nobody can prepare two names with the same hash.
pub(super) struct MemberIndex {
    key: RandomState,
    names: HashSet<Entry, BuildHasherDefault<Itself>>,
}

const KIND: u64 = 0b111;

#[derive(Clone, Copy)]
struct Entry(u64);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0 | KIND == other.0 | KIND
    }
}

impl Eq for Entry {}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0 | KIND);
    }
}

/// The hash of what is a hash already.
#[derive(Default)]
struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        // The low bits choose the bucket, and they are the same for all: bring down others.
        self.0 = value.rotate_right(3);
    }
}

impl MemberIndex {
    pub(super) fn new() -> Self {
        Self {
            key: RandomState::new(),
            names: HashSet::default(),
        }
    }

    /// What `name` stood for last; the root is a directory without saying.
    pub(super) fn get(&self, name: &[u8]) -> Option<Kind> {
        if name.is_empty() {
            return Some(Kind::Directory);
        }
        let found = self.names.get(&Entry(self.hash(name)))?;
        let kind = usize::try_from(found.0 & KIND).ok()?;
        Kind::ALL.get(kind).copied()
    }

    /// From now on `name` stands for `kind`.
    pub(super) fn set(&mut self, name: &[u8], kind: Kind) {
        let bits = Kind::ALL
            .iter()
            .zip(0_u64..)
            .find(|(each, _)| **each == kind);
        let bits = bits.map_or(0, |(_, bits)| bits);
        self.names.replace(Entry((self.hash(name) & !KIND) | bits));
    }

    fn hash(&self, name: &[u8]) -> u64 {
        self.key.hash_one(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_last_kind_of_each_name() {
        let mut seen = MemberIndex::new();
        for number in 0..10_000_u32 {
            let kind = Kind::ALL[number as usize % 8];
            seen.set(format!("dir/{number}").as_bytes(), Kind::File);
            seen.set(format!("dir/{number}").as_bytes(), kind);
        }
        for number in 0..10_000_u32 {
            let name = format!("dir/{number}");
            assert_eq!(
                seen.get(name.as_bytes()),
                Some(Kind::ALL[number as usize % 8])
            );
        }
        assert_eq!(seen.get(b"dir/10000"), None);
        assert_eq!(seen.get(b""), Some(Kind::Directory));
    }
}
