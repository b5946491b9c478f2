//! Where the values of a platform's secrets are, which no backup has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::text::shell_word;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::blocking::blocking;
use crate::sys::trust::{self, Trust};

/// The files of this host that hold secrets, by the secrets' names. Paths are kept, values never.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretFiles {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    named: BTreeMap<String, PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    directory: Option<PathBuf>,
}

impl SecretFiles {
    /// These files; `file` holds the secret `name`.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, file: impl Into<PathBuf>) -> Self {
        self.named.insert(name.into(), file.into());
        self
    }

    /// These files; each file of this directory that has a secret's name holds that secret, where no file
    /// is named for it.
    #[must_use]
    pub fn in_directory(mut self, directory: impl Into<Option<PathBuf>>) -> Self {
        self.directory = directory.into();
        self
    }

    /// Whether nothing is given.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && self.directory.is_none()
    }

    /// The names for which a file is given one by one.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// What is given, as options of the command line, each with a blank before it.
    pub(crate) fn options(&self) -> String {
        let mut text = String::new();
        for (name, file) in &self.named {
            let given = format!("{name}={}", file.display());
            text += &format!(" --secret {}", shell_word(&given));
        }
        if let Some(directory) = &self.directory {
            let directory = directory.display().to_string();
            text += &format!(" --secrets {}", shell_word(&directory));
        }
        text
    }

    /// The file that holds a secret; `None` where none is named and the directory has none of its name.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        if let Some(file) = self.named.get(name) {
            return Some(file.clone());
        }
        // A name is one of a file, and leads nowhere.
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
        let file = self.directory.as_ref().filter(|_| plain)?.join(name);
        file.is_file().then_some(file)
    }

    /// A secret's value, all bytes of its file, whose last line end belongs to it as it does with
    /// `docker secret create NAME FILE`. A file that others could read, or could have written, is an
    /// error (`config.secret_open`, `config.not_trusted`).
    pub(crate) async fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.file(name) {
            Some(file) => blocking(move || read(&file)).await.map(Some),
            None => Ok(None),
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let read = trust::read_bytes(file, "the secret's file", Trust::Secret)?;
    read.map_err(|e| {
        Error::new(
            ErrorKind::Config,
            "config.secret_unreadable",
            format!("cannot read the secret's file {}: {e}", file.display()),
        )
        .hint("name the right one: --secret NAME=FILE, or --secrets DIR")
        .source(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_secret_is_found_by_its_name_and_nowhere_else() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, mode: u32| {
            let path = dir.path().join(name);
            std::fs::write(&path, b"a\xff\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let other = file("other", 0o600);
        file("own", 0o600);
        file("open", 0o644);
        let inside = dir.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        let files = SecretFiles::default()
            .with("named", &other)
            .in_directory(dir.path().to_owned());
        assert_eq!(files.file("named"), Some(other));
        assert_eq!(files.read("own").await.unwrap().unwrap(), b"a\xff\n");
        for none in ["absent", "inside", "../own", "", ".hidden"] {
            assert_eq!(files.file(none), None, "{none}");
        }
        let error = files.read("open").await.unwrap_err();
        assert_eq!(error.code(), "config.secret_open");
        let gone = SecretFiles::default().with("x", dir.path().join("gone"));
        let error = gone.read("x").await.unwrap_err();
        assert_eq!(error.code(), "config.secret_unreadable");
    }
}
