//! Names and links: what stays inside, decided by words alone, before anything exists.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::refusal::shortened;

/// Why a name with a leading slash is refused.
pub(super) const ABSOLUTE: &str = "its name is absolute";

/// A member's name without `.`, doubled or trailing slashes; empty for the root.
/// The error says what is wrong with it.
pub(super) fn normal(name: &[u8]) -> Result<Vec<u8>, &'static str> {
    if name.is_empty() {
        return Err("its name is empty");
    }
    if name.contains(&0) {
        return Err("its name has a zero byte");
    }
    if name.starts_with(b"/") {
        return Err(ABSOLUTE);
    }
    let mut out = Vec::with_capacity(name.len());
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err("its name leads upwards with `..`"),
            part => {
                if !out.is_empty() {
                    out.push(b'/');
                }
                out.extend_from_slice(part);
            }
        }
    }
    Ok(out)
}

/// The part before the last slash; empty for what lies in the root.
pub(super) fn parent(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    name.get(..end).unwrap_or_default()
}

/// The part behind the last slash.
pub(super) fn leaf(name: &[u8]) -> &[u8] {
    let start = name
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |slash| slash + 1);
    name.get(start..).unwrap_or_default()
}

/// The longest path that both lie at or below.
pub(super) fn common<'a>(one: &'a [u8], other: &[u8]) -> &'a [u8] {
    let equal = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let whole = |path: &[u8]| matches!(path.get(equal), None | Some(b'/'));
    let end = match whole(one) && whole(other) {
        true => equal,
        false => parent(one.get(..equal).unwrap_or_default()).len(),
    };
    one.get(..end).unwrap_or_default()
}

/// `name` relative to `top`, where it lies at or below it.
pub(super) fn below<'a>(name: &'a [u8], top: &[u8]) -> Option<&'a [u8]> {
    if top.is_empty() {
        return Some(name);
    }
    match name.strip_prefix(top)? {
        b"" => Some(b""),
        rest => rest.strip_prefix(b"/"),
    }
}

/// Where links may lead besides the tree itself.
pub(super) struct LinkPlaces<'a> {
    /// Where the tree will live; empty when nobody knows.
    pub(super) live_root: &'a Path,
    pub(super) links_to: &'a [PathBuf],
}

/// Devices that every program may open, and that images of nginx and others link their logs to.
const ALWAYS: [&str; 3] = ["/dev/null", "/dev/stdout", "/dev/stderr"];

impl LinkPlaces<'_> {
    /// Whether a symbolic link in the directory `place` of the tree may have this `target`.
    /// True: it means the same wherever it lies inside the tree. The error is the reason.
    pub(super) fn check(&self, place: &[u8], target: &[u8]) -> Result<bool, String> {
        let shown = || shortened(target);
        let (up, down) = Self::steps(target)?;
        if target.starts_with(b"/") {
            let target = Path::new("/").join(down);
            let inside =
                !self.live_root.as_os_str().is_empty() && target.starts_with(self.live_root);
            return if inside || self.allowed(&target) {
                Ok(true)
            } else {
                Err(format!(
                    "its link target {:?} lies outside the restored tree",
                    shown()
                ))
            };
        }
        let mut parts = place
            .split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty());
        let depth = parts.by_ref().count();
        if up <= depth {
            return Ok(up == 0);
        }
        if self.live_root.is_absolute() {
            // Out of the tree: then it must lead to an allowed place from where the tree lives.
            let mut from = self.live_root.to_path_buf();
            for _ in depth..up {
                from.pop();
            }
            let target = from.join(down);
            if target.starts_with(self.live_root) || self.allowed(&target) {
                return Ok(false);
            }
        }
        Err(format!(
            "its link target {:?} leads out of the restored tree",
            shown()
        ))
    }

    /// How many directories a target leads up first, and what then leads down; an absolute one
    /// from the root. The error is why it is let in nowhere.
    pub(super) fn steps(target: &[u8]) -> Result<(usize, PathBuf), String> {
        let shown = || shortened(target);
        if target.is_empty() || target.contains(&0) {
            return Err("it is a link to nowhere".to_owned());
        }
        let path = Path::new(OsStr::from_bytes(target));
        let mut up = 0_usize;
        let mut down = PathBuf::new();
        for part in path.components() {
            match part {
                Component::ParentDir if down.as_os_str().is_empty() && !path.is_absolute() => {
                    up += 1;
                }
                // Where `name/..` leads depends on whether `name` is itself a link.
                Component::ParentDir => {
                    return Err(format!(
                        "its link target {:?} has `..` behind a name, which may lead anywhere",
                        shown()
                    ));
                }
                Component::Normal(part) => down.push(part),
                _ => {}
            }
        }
        Ok((up, down))
    }

    fn allowed(&self, target: &Path) -> bool {
        ALWAYS.iter().any(|place| target == Path::new(place))
            || self
                .links_to
                .iter()
                .any(|place| place.is_absolute() && target.starts_with(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_plain_or_refused() {
        assert_eq!(normal(b"./a//b/./c/").unwrap(), b"a/b/c");
        assert_eq!(normal(b"./").unwrap(), b"");
        assert_eq!(normal(b"a..b/..c").unwrap(), b"a..b/..c");
        for name in [&b""[..], b"/a", b"..", b"a/../b", b"a/..", b"a\0b"] {
            assert!(normal(name).is_err(), "{name:?}");
        }
        assert_eq!((parent(b"a/b/c"), leaf(b"a/b/c")), (&b"a/b"[..], &b"c"[..]));
        assert_eq!((parent(b"a"), leaf(b"a")), (&b""[..], &b"a"[..]));
        assert_eq!(below(b"a/b", b"a"), Some(&b"b"[..]));
        assert_eq!(below(b"a", b"a"), Some(&b""[..]));
        assert_eq!(below(b"ab", b"a"), None);
        for (one, other, both) in [
            ("/a/b", "/a/b", "/a/b"),
            ("/a/b", "/a/b/c", "/a/b"),
            ("/a/bc", "/a/b", "/a"),
            ("/a/bc", "/a/bd", "/a"),
            ("/a", "/b", ""),
        ] {
            assert_eq!(common(one.as_bytes(), other.as_bytes()), both.as_bytes());
            assert_eq!(common(other.as_bytes(), one.as_bytes()), both.as_bytes());
        }
    }

    #[test]
    fn links_stay_inside_or_lead_where_they_may() {
        let links_to = [PathBuf::from("/usr/lib/nginx")];
        let places = LinkPlaces {
            live_root: Path::new("/srv/volumes/data"),
            links_to: &links_to,
        };
        let ok = |place: &str, target: &str| places.check(place.as_bytes(), target.as_bytes());
        for (place, target, movable) in [
            ("", "a", true),
            ("", "./a/b", true),
            ("a/b", "../../c", false),
            ("", "/srv/volumes/data/a", true),
            ("", "/dev/stdout", true),
            ("logs", "/dev/null", true),
            ("", "/usr/lib/nginx/modules", true),
            ("", "../../../usr/lib/nginx/modules", false),
            ("", "../data/x", false),
        ] {
            assert_eq!(ok(place, target), Ok(movable), "{place} {target}");
        }
        for (place, target) in [
            ("", ".."),
            ("a", "../.."),
            ("", "/etc/passwd"),
            ("", "/dev/sda"),
            ("", "/srv/volumes/database"),
            ("", "/srv/volumes/data/../other"),
            ("a/b", "c/../../../.."),
            ("", "a/.."),
            ("", "../../../usr/lib/nginx2"),
            ("", ""),
            ("", "/usr/lib/nginx/../../etc"),
        ] {
            assert!(ok(place, target).is_err(), "{place} {target}");
        }
        let nowhere = LinkPlaces {
            live_root: Path::new(""),
            links_to: &[],
        };
        assert!(nowhere.check(b"", b"/etc").is_err());
        assert!(nowhere.check(b"a", b"../b").is_ok());
    }
}
