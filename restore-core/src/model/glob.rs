//! Patterns in which `*` stands for any run of characters.

/// Whether `name` matches `pattern`, in which `*` stands for any run of bytes, of `/` only where
/// `crosses_slash` says so. Every other byte stands for itself.
///
/// Takes time in proportion to the product of their lengths at worst, whatever the stars: names come from
/// backups and from the users of a service, and a matcher that backtracks into each star would never end
/// with some of them.
pub(crate) fn matches(pattern: &[u8], name: &[u8], crosses_slash: bool) -> bool {
    let (mut p, mut s) = (0, 0);
    // Where to resume after a mismatch: past the last star, with one byte more for it. An earlier star
    // never needs to grow: what follows it was found at the first place where it is.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), name.get(s)) {
            (Some(b'*'), _) => {
                p += 1;
                retry = Some((p, s));
                continue;
            }
            (Some(want), Some(have)) if want == have => {
                p += 1;
                s += 1;
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        match retry {
            Some((after, at))
                if name
                    .get(at)
                    .is_some_and(|&byte| crosses_slash || byte != b'/') =>
            {
                retry = Some((after, at + 1));
                (p, s) = (after, at + 1);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn stars_stop_at_slashes_unless_they_cross_them() {
        for (pattern, name, within, across) in [
            ("a/*.gz", "a/b.gz", true, true),
            ("a/*.gz", "a/b/c.gz", false, true),
            ("a/*", "a/", true, true),
            ("*", "", true, true),
            ("**", "", true, true),
            ("*", "a/b", false, true),
            ("*/*", "a/b", true, true),
            ("*a*/b*", "xay/bz", true, true),
            ("*a*/b*", "xay/cz", false, false),
            ("*a*/b*", "xa/y/bz", false, true),
            ("image-*.tar.gz", "image-a_b.tar.gz", true, true),
            ("image-*.tar.gz", "image-a.tar.gz.gpg", false, false),
            ("*.gz*.gz", "a.gz.gz", true, true),
            ("a*a", "a", false, false),
            ("*ab", "aab", true, true),
            ("", "", true, true),
            ("", "a", false, false),
            ("a", "", false, false),
            ("ü*", "üä", true, true),
        ] {
            for (crosses, wanted) in [(false, within), (true, across)] {
                let is = matches(pattern.as_bytes(), name.as_bytes(), crosses);
                assert_eq!(is, wanted, "{pattern} {name} {crosses}");
            }
        }
    }

    #[test]
    fn stars_without_end_take_no_time() {
        let begun = Instant::now();
        for crosses in [false, true] {
            let name = "a".repeat(5_000);
            let pattern = "*a".repeat(60) + "b";
            assert!(!matches(pattern.as_bytes(), name.as_bytes(), crosses));
            assert!(!matches("*a".repeat(40).as_bytes(), &[b'a'; 39], crosses));
        }
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
}
