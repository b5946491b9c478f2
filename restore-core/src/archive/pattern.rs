//! Which of the paths in a backup somebody asks for.

use crate::model::glob;

/// A path or a name, in which `*` stands for any run of characters but `/`. A path names what begins
/// with it, name by name; a name without a slash names what has it anywhere. Both name all below as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathPattern {
    parts: Vec<Vec<u8>>,
    anywhere: bool,
}

impl PathPattern {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            anywhere: !text.trim_end_matches('/').contains('/'),
            parts: parts(text.as_bytes()).map(<[u8]>::to_vec).collect(),
        }
    }

    /// Whether a path is meant.
    pub(crate) fn names(&self, path: &[u8]) -> bool {
        let mut names = parts(path);
        match (self.anywhere, self.parts.first()) {
            (_, None) => true,
            (true, Some(wanted)) => names.any(|name| glob::matches(wanted, name, true)),
            (false, _) => {
                let mut wanted = self.parts.iter();
                wanted.all(|part| {
                    let name = names.next();
                    name.is_some_and(|name| glob::matches(part, name, true))
                })
            }
        }
    }
}

fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !matches!(*part, b"" | b"."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_and_names_are_anywhere() {
        for (pattern, path, meant) in [
            ("a/b", "a/b/c", true),
            ("/a/b/", "./a/b", true),
            ("a/b", "x/a/b", false),
            ("a/*.conf", "a/x.conf", true),
            ("a/*.conf", "a/d/x.conf", false),
            ("b", "a/b/c", true),
            ("*.conf", "a/d/x.conf", true),
            ("*.conf", "a/d/x.config", false),
            ("a/", "x/a", true),
            ("", "a", true),
            ("/", "a", true),
        ] {
            let names = PathPattern::new(pattern).names(path.as_bytes());
            assert_eq!(names, meant, "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_is_answered_at_once() {
        let begun = std::time::Instant::now();
        let name = "a".repeat(255);
        for pattern in ["*a*a*a*a*a*a*a*b", "x/*a*a*a*a*a*a*a*b"] {
            let path = format!("x/{name}");
            assert!(
                !PathPattern::new(pattern).names(path.as_bytes()),
                "{pattern}"
            );
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(2));
    }
}
