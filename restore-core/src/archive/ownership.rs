//! Whose the members of an archive become.

use std::collections::HashMap;

use nix::unistd::{Group, User};

use super::member::Member;
use super::{Owners, UnpackPolicy};

/// So many names are remembered; an archive that has more is looked up again and again.
const REMEMBERED: usize = 1024;

/// What a policy says of owners, with the names that were looked up.
pub(super) struct Ownership {
    /// Whose all become.
    pub(super) all: Option<(u32, u32)>,
    names: bool,
    users: HashMap<Vec<u8>, Option<u32>>,
    groups: HashMap<Vec<u8>, Option<u32>>,
}

impl Ownership {
    pub(super) fn new(policy: &UnpackPolicy) -> Self {
        let all = match policy.owners {
            Owners::Volume => policy.chown.or(policy.owner),
            Owners::Names | Owners::Numbers => policy.chown,
        };
        Self {
            all,
            names: policy.owners == Owners::Names,
            users: HashMap::new(),
            groups: HashMap::new(),
        }
    }

    /// User and group of a member.
    pub(super) fn of(&mut self, member: &Member) -> (u32, u32) {
        if let Some(all) = self.all {
            return all;
        }
        if !self.names {
            return (member.uid, member.gid);
        }
        let user = |name: &str| Some(User::from_name(name).ok()??.uid.as_raw());
        let group = |name: &str| Some(Group::from_name(name).ok()??.gid.as_raw());
        (
            known(&mut self.users, member.user.as_deref(), user).unwrap_or(member.uid),
            known(&mut self.groups, member.group.as_deref(), group).unwrap_or(member.gid),
        )
    }
}

fn known(
    seen: &mut HashMap<Vec<u8>, Option<u32>>,
    name: Option<&[u8]>,
    find: impl Fn(&str) -> Option<u32>,
) -> Option<u32> {
    let name = name?;
    if let Some(found) = seen.get(name) {
        return *found;
    }
    let found = std::str::from_utf8(name).ok().and_then(find);
    if seen.len() < REMEMBERED {
        seen.insert(name.to_vec(), found);
    }
    found
}
