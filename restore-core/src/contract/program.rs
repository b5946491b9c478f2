//! Programs that a run will need.

use std::path::{Path, PathBuf};

use super::Platform;
use crate::model::Finding;
use crate::sys::child;
use crate::sys::trust::{self, Trust};

/// Programs that run what they are called with.
const RUNNERS: [&str; 14] = [
    "sh", "bash", "dash", "ksh", "zsh", "python", "perl", "ruby", "node", "php", "env", "timeout",
    "nice", "ionice",
];

/// A program that a run will need, and that is to be there before it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Program {
    /// What names it: `start of [services.app]`.
    pub named_by: String,
    /// In whose context it runs; `None`: on this host, as ourselves.
    pub service: Option<String>,
    /// The program: a name or a path.
    pub program: String,
    /// What it is called with.
    pub arguments: Vec<String>,
    /// The number of the user whom it runs as, where that is said by neither of these: a service's own
    /// command.
    pub user: Option<u32>,
}

impl Program {
    /// The program that a list of words names, where it names one.
    pub fn of(
        named_by: impl Into<String>,
        service: Option<&str>,
        words: &[String],
    ) -> Option<Self> {
        Some(Self {
            named_by: named_by.into(),
            service: service.map(str::to_owned),
            program: words.first()?.clone(),
            arguments: words.iter().skip(1).cloned().collect(),
            user: None,
        })
    }

    /// The same program, run as the user of this number.
    #[must_use]
    pub fn run_by(mut self, user: Option<u32>) -> Self {
        self.user = user;
        self
    }

    /// What speaks against a program of this host that we run as root: that somebody else could put another
    /// one in its place.
    pub(crate) async fn untrusted(&self, platform: &dyn Platform) -> Option<Finding> {
        if !rustix::process::geteuid().is_root() || !self.runs_as_root(platform).await {
            return None;
        }
        let mut files = vec![child::find(&self.program)?];
        files.extend(self.script());
        let interpreters: Vec<PathBuf> = files
            .iter()
            .filter_map(|it| child::interpreter(it))
            .collect();
        files.extend(interpreters);
        let check = |path: &PathBuf| trust::check(path, "the program", Trust::Obeyed).err();
        let error = files.iter().find_map(check)?;
        let hint = error.hint_text().unwrap_or_default();
        Some(
            Finding::warning(
                "program.untrusted",
                self.named_by.as_str(),
                format!("names {}: {}", self.program, error.message()),
            )
            .hint(format!(
                "{hint}, or have it run as the user whose it is: `service` of hooks and checks, `user` of a service with a `command`"
            )),
        )
    }

    async fn runs_as_root(&self, platform: &dyn Platform) -> bool {
        match (self.user, &self.service) {
            (Some(user), _) => user == 0,
            (None, None) => true,
            (None, Some(service)) => {
                let owner = match platform.runs_here(service) {
                    true => platform.owner(service).await.ok().flatten(),
                    false => None,
                };
                owner.is_some_and(|(user, _)| user == 0)
            }
        }
    }

    /// The file that a shell or the like is told to run.
    fn script(&self) -> Option<PathBuf> {
        let name = Path::new(&self.program).file_name()?.to_str()?;
        let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        if !RUNNERS.contains(&name) {
            return None;
        }
        let mut paths = self.arguments.iter().map(PathBuf::from);
        paths.find(|path| path.is_absolute() && path.is_file())
    }

    /// The program, and what it is called with.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        let words = std::iter::once(&self.program).chain(&self.arguments);
        words.map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_is_told_to_run_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("x");
        std::fs::write(&script, "").unwrap();
        let path = script.display().to_string();
        for (words, runs) in [
            (&["sh", "-e", &path][..], true),
            (&["/usr/bin/python3.12", &path], true),
            (&["timeout", "5", "sh", &path], true),
            (&["cat", &path], false),
            (&["sh", "-c", "true"], false),
            (&["sh", "/nowhere/x"], false),
        ] {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            let program = Program::of("it", None, &words).unwrap();
            assert_eq!(program.script(), runs.then(|| script.clone()), "{words:?}");
        }
    }
}
