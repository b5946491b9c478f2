//! What a server's configuration file, and what it is called with, say: read by everybody who must know what it
//! does when it starts again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use glob::{MatchOptions, Pattern};

use crate::model::Error;
use crate::sys::blocking::blocking;

/// How much of a configuration file is read.
pub(super) const LONGEST: u64 = 1 << 20;

/// Includes nested deeper than this go round in circles.
const DEEPEST: usize = 8;

/// So many files are included at most.
const MOST: usize = 64;

/// So many directories, and entries of them, are looked at for included files at most.
const LOOKED_AT: usize = 4096;

/// How long all of it may take to be read: it may lie on a file system that does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The directive that takes in another file. One that stays among the directives could not be followed: what was
/// said before it may be said otherwise there.
pub(super) const INCLUDE: &str = "include";

/// As a server asks glob(3).
const GLOB: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// One directive: its name in lower case, its value without quotes.
pub(super) type Directive = (String, String);

/// A configuration file, with what it includes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Configuration {
    /// In their order: of two of one name the later counts. An [`INCLUDE`] is one that could not be followed.
    pub(super) directives: Vec<Directive>,
    /// The files that it includes, also those that cannot be read.
    pub(super) included: Vec<PathBuf>,
}

impl Configuration {
    /// A file of this host, and what it includes; `None` where it cannot be read itself, or not in time. Whoever
    /// writes it bounds neither how much is read nor for how long.
    pub(super) async fn read(file: &str) -> Option<Self> {
        let file = PathBuf::from(file);
        let read = blocking(move || {
            let failed = |e| Error::io(format!("read {}", file.display()), e);
            let (mut found, mut room) = (Self::default(), LOOKED_AT);
            found.take(&text_of(&file).map_err(failed)?, 0, &mut room);
            Ok(found)
        });
        tokio::time::timeout(PATIENCE, read).await.ok()?.ok()
    }

    /// What is said last of a directive.
    pub(super) fn last(&self, name: &str) -> Option<&str> {
        let found = self.directives.iter().rfind(|(it, _)| it == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether it includes a file by a name that is taken from where the server stands by then, and nobody knows
    /// where that is.
    pub(super) fn includes_from_nowhere(&self) -> bool {
        let mut all = self.directives.iter();
        all.any(|(name, value)| name == INCLUDE && !value.starts_with('/'))
    }

    /// Takes in a text, and what it includes. `room`: so many more directories and entries may be looked at.
    fn take(&mut self, text: &str, depth: usize, room: &mut usize) {
        for (name, value) in directives(text) {
            if name != INCLUDE {
                self.directives.push((name, value));
                continue;
            }
            let few = depth < DEEPEST && self.included.len() < MOST;
            let Some(files) = few.then(|| self.meant(&value, room)).flatten() else {
                self.directives.push((name, value));
                continue;
            };
            for file in files {
                let read = match self.included.len() < MOST {
                    true => text_of(&file).ok(),
                    false => None,
                };
                match read {
                    Some(text) => {
                        self.included.push(file);
                        self.take(&text, depth + 1, room);
                    }
                    None => {
                        let shown = file.display().to_string();
                        self.directives.push((INCLUDE.to_owned(), shown));
                        self.included.push(file);
                    }
                }
            }
        }
    }

    /// The files that an include means; `None` where that is not known. A relative name is taken from where the
    /// server is by then: in the directory that the line `dir` before it names, else in one that nobody knows.
    fn meant(&self, value: &str, room: &mut usize) -> Option<Vec<PathBuf>> {
        let path = if value.starts_with('/') {
            PathBuf::from(value)
        } else {
            let known = |(name, _): &&Directive| name == "dir" || name == INCLUDE;
            let (name, dir) = self.directives.iter().rfind(known)?;
            let named = name == "dir" && dir.starts_with('/');
            Path::new(named.then_some(dir)?).join(value)
        };
        let name = path.to_str()?;
        if !is_pattern(name) {
            return Some(vec![path]);
        }
        let (folder, last) = name.rsplit_once('/')?;
        // Whole trees are not walked through.
        if is_pattern(folder) {
            return None;
        }
        listed(Path::new(&format!("{folder}/")), last, room)
    }
}

/// Whether a name stands for all that it matches.
fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// The files of a directory whose names match, in the order of these; `None` where that is not known, or there
/// is no `room` to look at all of it.
fn listed(folder: &Path, pattern: &str, room: &mut usize) -> Option<Vec<PathBuf>> {
    let mut pattern = pattern.to_owned();
    // For glob(3) two are as one.
    while pattern.contains("**") {
        pattern = pattern.replace("**", "*");
    }
    let pattern = Pattern::new(&pattern).ok()?;
    *room = room.checked_sub(1)?;
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // One that matches nothing is no error for a server either.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(Vec::new()),
        Err(_) => return None,
    };
    let mut found = Vec::new();
    for entry in entries {
        *room = room.checked_sub(1)?;
        let name = entry.ok()?.file_name();
        let matches = |name: &str| pattern.matches_with(name, GLOB);
        if name.to_str().is_some_and(matches) {
            found.push(folder.join(name));
        }
    }
    found.sort();
    found.truncate(MOST + 1);
    Some(found)
}

/// The text of a regular file: whose file it is, the server says, and a pipe there would hold us for ever.
fn text_of(file: &Path) -> std::io::Result<String> {
    let text = crate::sys::read_small(file, LONGEST)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The directives of a file's text, includes among them.
fn directives(text: &str) -> Vec<Directive> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        let mut words = line.splitn(2, char::is_whitespace);
        let name = words.next().unwrap_or_default();
        if name.is_empty() || name.starts_with('#') {
            continue;
        }
        found.push(directive(name, words.next().unwrap_or_default()));
    }
    found
}

/// The directives among what a server is called with, which count more than its file.
pub(super) fn of_arguments(arguments: &[String]) -> Vec<Directive> {
    let mut found = Vec::new();
    let mut words = arguments.iter().peekable();
    while let Some(word) = words.next() {
        let Some(name) = word.strip_prefix("--") else {
            continue;
        };
        if let Some(value) = words.next_if(|it| !it.starts_with("--")) {
            found.push(directive(name, value));
        }
    }
    found
}

/// Whether the value of a directive is a yes.
pub(super) fn is_yes(value: &str) -> bool {
    value.eq_ignore_ascii_case("yes")
}

fn directive(name: &str, value: &str) -> Directive {
    let value = value.trim().trim_matches(['"', '\'']);
    (name.to_ascii_lowercase(), value.to_owned())
}

/// For `fuzz/`: a file's text, and words that a server is called with.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    assert!(directives(&text).iter().all(|(name, _)| !name.is_empty()));
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    assert!(of_arguments(&words).len() <= words.len());
}

/// What a text without includes says, for tests.
#[cfg(test)]
pub(super) fn of_text(text: &str) -> Vec<Directive> {
    directives(text)
}

#[cfg(test)]
mod tests {
    use super::{Configuration, Directive, INCLUDE, LOOKED_AT, MOST, directives, of_arguments};

    fn pair(name: &str, value: &str) -> Directive {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn files_and_arguments_say_the_same() {
        let text = "# of the platform\nPORT 1\n\n  save \"\"\nappendonly 'yes'\nsave 900 1";
        let wanted = [
            pair("port", "1"),
            pair("save", ""),
            pair("appendonly", "yes"),
            pair("save", "900 1"),
        ];
        assert_eq!(directives(text), wanted);
        let words = "/etc/redis.conf --Port 1 --daemonize --appendonly yes stray";
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let wanted = [pair("port", "1"), pair("appendonly", "yes")];
        assert_eq!(of_arguments(&words), wanted);
        assert_eq!(directives("#port 1\n"), []);
    }

    /// What a configuration of these files says: the first is read, `DIR` in it is where they are.
    async fn read(files: &[(&str, &str)]) -> Configuration {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().display().to_string();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text.replace("DIR", &place)).unwrap();
        }
        let first = format!("{place}/{}", files[0].0);
        let mut found = Configuration::read(&first).await.unwrap();
        for (_, value) in &mut found.directives {
            *value = value.replace(&place, "DIR");
        }
        found
    }

    #[tokio::test]
    async fn includes_are_followed_where_they_stand() {
        let found = read(&[
            (
                "a",
                "port 1\nInclude \"DIR/b\"\nport 3\ninclude DIR/c/*.conf",
            ),
            ("b", "port 2\ndir DIR/c\ninclude x.conf"),
            ("c/2.conf", "save 2"),
            ("c/1.conf", "save 1"),
            ("c/x.conf", "maxmemory 1"),
            ("c/.hidden.conf", "maxmemory 2"),
        ])
        .await;
        let wanted = [
            pair("port", "1"),
            pair("port", "2"),
            pair("dir", "DIR/c"),
            pair("maxmemory", "1"),
            pair("port", "3"),
            pair("save", "1"),
            pair("save", "2"),
            pair("maxmemory", "1"),
        ];
        assert_eq!(found.directives, wanted);
        assert_eq!(found.included.len(), 5);
        assert_eq!(found.last("save"), Some("2"));
    }

    #[tokio::test]
    async fn what_cannot_be_followed_stays() {
        let found = read(&[(
            "a",
            "include DIR/none\ninclude DIR/none*\ninclude x\nport 1",
        )])
        .await;
        let wanted = [
            pair(INCLUDE, "DIR/none"),
            pair(INCLUDE, "x"),
            pair("port", "1"),
        ];
        assert_eq!(found.directives, wanted);
        assert!(found.includes_from_nowhere());
        assert_eq!(found.included.len(), 1);
        // No file, and one that includes itself.
        let found = read(&[("a", "include DIR\ninclude DIR/a")]).await;
        assert_eq!(found.directives[0], pair(INCLUDE, "DIR"));
        assert!(found.included.len() < 3 * MOST, "{}", found.included.len());
        assert_eq!(found.last(INCLUDE), Some("DIR/a"));
    }

    /// Who writes a configuration has nobody walk through trees, nor through directories without end.
    #[tokio::test]
    async fn what_would_take_long_to_look_for_is_not_followed() {
        let found = read(&[
            ("a", "include DIR/*/b.conf\ninclude DIR/c*/\nport 1"),
            ("c/b.conf", "save 1"),
        ])
        .await;
        let wanted = [
            pair(INCLUDE, "DIR/*/b.conf"),
            pair(INCLUDE, "DIR/c*/"),
            pair("port", "1"),
        ];
        assert_eq!(found.directives, wanted);
        assert_eq!(found.included.len(), 0);

        let many = tempfile::tempdir().unwrap();
        for n in 0..LOOKED_AT {
            std::fs::File::create(many.path().join(n.to_string())).unwrap();
        }
        let line = format!("include {}/*.none", many.path().display());
        let found = read(&[("a", line.as_str())]).await;
        assert!(found.last(INCLUDE).is_some(), "{found:?}");
        // One that matches nothing is looked for in few.
        let none = "include DIR/*.none\n".repeat(LOOKED_AT);
        let found = read(&[("a", none.as_str())]).await;
        let left = found.directives.len();
        assert_eq!(left, LOOKED_AT / 2, "{left}");
    }
}
