//! Which of the paths in a backup somebody asks for.

use super::path_set::matches;

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
            (true, Some(wanted)) => names.any(|name| matches(wanted, name)),
            (false, _) => {
                let mut wanted = self.parts.iter();
                wanted.all(|part| names.next().is_some_and(|name| matches(part, name)))
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
}
