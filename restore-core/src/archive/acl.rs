//! POSIX access control lists: as an attribute of a file, and as the text that archives have.
//!
//! While a file has one, the group's bits of its mode are the list's mask, and not what its group
//! may do: without the list they would give the group what only others were given.

/// The list itself, and what new entries of a directory get.
pub(super) const ACCESS: &str = "system.posix_acl_access";
pub(super) const DEFAULT: &str = "system.posix_acl_default";

const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

const VERSION: [u8; 4] = [2, 0, 0, 0];
const NOBODY: u32 = u32::MAX;

/// Whether it is the name of such an attribute.
pub(super) fn is_acl(name: &str) -> bool {
    name == ACCESS || name == DEFAULT
}

/// What the owning group may really do by such a list.
pub(crate) fn group_rights(list: &[u8]) -> Option<u32> {
    let entries = list.strip_prefix(&VERSION)?.chunks_exact(8);
    let (mut group, mut mask) = (None, 7);
    for entry in entries {
        let number = |at: usize| {
            let pair = entry.get(at..at + 2)?;
            Some(u16::from_le_bytes([*pair.first()?, *pair.get(1)?]))
        };
        match number(0)? {
            GROUP_OBJ => group = Some(number(2)? & 7),
            MASK => mask = number(2)? & 7,
            _ => {}
        }
    }
    Some(u32::from(group? & mask))
}

/// The list of a text as GNU tar and others write it (`user::rw-,user:nobody:rwx:65534,…`), without
/// those whom nobody knows here. `None` where it is none.
pub(super) fn from_text(text: &str) -> Option<Vec<u8>> {
    let mut entries = Vec::new();
    for entry in text.split([',', '\n']) {
        let entry = entry.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let entry = entry.strip_prefix("default:").unwrap_or(entry);
        let mut words = entry.split(':');
        let (kind, name, rights) = (words.next()?, words.next()?, words.next()?);
        let given = words.next().and_then(|id| id.trim().parse().ok());
        let (tag, id) = match (kind, name) {
            ("user" | "u", "") => (USER_OBJ, NOBODY),
            ("user" | "u", name) => match given.or_else(|| user(name)) {
                Some(id) => (USER, id),
                None => continue,
            },
            ("group" | "g", "") => (GROUP_OBJ, NOBODY),
            ("group" | "g", name) => match given.or_else(|| group(name)) {
                Some(id) => (GROUP, id),
                None => continue,
            },
            ("mask" | "m", "") => (MASK, NOBODY),
            ("other" | "o", "") => (OTHER, NOBODY),
            _ => return None,
        };
        let mut bits = 0_u16;
        for right in rights.chars() {
            bits |= match right {
                'r' => 4,
                'w' => 2,
                'x' => 1,
                '-' => 0,
                _ => return None,
            };
        }
        entries.push((tag, id, bits));
    }
    if entries.is_empty() {
        return None;
    }
    // The kernel wants them in this order.
    entries.sort_by_key(|(tag, id, _)| (*tag, *id));
    let mut list = VERSION.to_vec();
    for (tag, id, bits) in entries {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&bits.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    Some(list)
}

fn user(name: &str) -> Option<u32> {
    let known = || nix::unistd::User::from_name(name).ok().flatten();
    name.parse().ok().or_else(|| Some(known()?.uid.as_raw()))
}

fn group(name: &str) -> Option<u32> {
    let known = || nix::unistd::Group::from_name(name).ok().flatten();
    name.parse().ok().or_else(|| Some(known()?.gid.as_raw()))
}

/// For `fuzz/`: a list as a text, and as an attribute.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    assert!(group_rights(bytes).is_none_or(|rights| rights <= 7));
    let Some(list) = from_text(&String::from_utf8_lossy(bytes)) else {
        return;
    };
    assert!(list.len() > VERSION.len() && (list.len() - VERSION.len()).is_multiple_of(8));
    assert!(group_rights(&list).is_none_or(|rights| rights <= 7));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_a_list_in_the_order_of_the_kernel() {
        let text = "user::rw-,other::---,mask::rwx,user:4242:rwx,group::r--,group:7:--x,user:nobody?:r--:9";
        let list = from_text(text).unwrap();
        assert_eq!(list.len(), 4 + 7 * 8);
        assert_eq!(group_rights(&list), Some(4));
        let tags: Vec<u8> = list[4..].chunks(8).map(|entry| entry[0]).collect();
        assert_eq!(tags, [1, 2, 2, 4, 8, 0x10, 0x20]);
        let unknown = from_text("user::rwx,user:no-such-user-here:rwx,group::r--").unwrap();
        assert_eq!(unknown.len(), 4 + 2 * 8);
        for bad in ["", "user", "user::rwz", "x::r", "mask:1:r"] {
            assert_eq!(from_text(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_mask_bounds_what_the_group_may_do() {
        let rights = |text| group_rights(&from_text(text).unwrap());
        assert_eq!(rights("user::rw-,group::rwx,mask::r--,other::---"), Some(4));
        assert_eq!(rights("user::rw-,group::---,other::---"), Some(0));
        assert_eq!(group_rights(b"\x02\0\0\0"), None);
        assert_eq!(group_rights(b"whatever"), None);
    }
}
