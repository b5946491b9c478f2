//! Whether whoever works with a tree can read and write what is unpacked into it.

use serde::{Deserialize, Serialize};

use super::acl::is_acl;
use super::member::Member;

/// A user other than root, for whose service an archive is unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reader {
    pub(crate) uid: u32,
    /// The groups that it is in; `None`: nobody knows, so that what any group may do it may do.
    pub(crate) groups: Option<Vec<u32>>,
}

/// What a user may do with a file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) reads: bool,
    pub(super) writes: bool,
}

impl Reader {
    /// What it may do with a member that becomes this owner's; a directory it must be able to enter for
    /// either.
    pub(super) fn access(&self, member: &Member, owner: (u32, u32), directory: bool) -> Access {
        // Whom a list names only the machine knows that has these users.
        if member.xattrs.iter().any(|(name, _)| is_acl(name)) {
            return Access {
                reads: true,
                writes: true,
            };
        }
        let rights = self.rights(owner, member.mode);
        let enters = u32::from(directory);
        let all = |wanted: u32| rights & wanted == wanted;
        Access {
            reads: all(4 | enters),
            writes: all(2 | enters),
        }
    }

    /// Whether it can make files in a directory of this owner.
    pub(super) fn works_in(&self, owner: (u32, u32), mode: u32) -> bool {
        self.rights(owner, mode) & 3 == 3
    }

    /// Of three: 4 to read, 2 to write, 1 to enter.
    fn rights(&self, (uid, gid): (u32, u32), mode: u32) -> u32 {
        if uid == self.uid {
            return (mode >> 6) & 7;
        }
        match &self.groups {
            Some(groups) if groups.contains(&gid) => (mode >> 3) & 7,
            Some(_) => mode & 7,
            None => ((mode >> 3) | mode) & 7,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_those_of_owner_group_or_others() {
        let known = Reader {
            uid: 33,
            groups: Some(vec![33, 4]),
        };
        for (owner, mode, rights) in [
            ((33, 0), 0o700, 7),
            ((33, 33), 0o077, 0),
            ((0, 4), 0o640, 4),
            ((0, 5), 0o640, 0),
            ((0, 0), 0o755, 5),
        ] {
            assert_eq!(known.rights(owner, mode), rights, "{owner:?} {mode:o}");
        }
        let unknown = Reader {
            uid: 33,
            groups: None,
        };
        assert_eq!(unknown.rights((0, 5), 0o640), 4);
        assert_eq!(unknown.rights((0, 5), 0o600), 0);
    }
}
