//! Secrets: named by the configuration, never written in it.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::model::{Error, ErrorKind, Result};
use crate::sys::trust;
use crate::sys::trust::Trust;

/// Where a secret is: a file or an environment variable, as the configuration names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretSource {
    file: Option<PathBuf>,
    env: Option<String>,
}

impl SecretSource {
    /// From the keys `…_file` and `…_env` of the section `path`; both absent: no
    /// secret. `Config` where both are given: which of them holds is not guessed.
    pub fn new(path: &str, file: Option<PathBuf>, env: Option<String>) -> Result<Self> {
        if file.is_some() && env.is_some() {
            return Err(Error::new(
                ErrorKind::Config,
                "config.two_passwords",
                format!("[{path}] names a secret twice: in a file and in an environment variable"),
            )
            .hint("keep the key that names the right one"));
        }
        Ok(Self { file, env })
    }

    /// Whether one is configured.
    pub fn is_named(&self) -> bool {
        self.file.is_some() || self.env.is_some()
    }

    /// The file that holds it, where one does.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads it now; `None` where none is configured. One line end at the end of a file is not
    /// part of the secret. A file that others could read, or could have written, is an error
    /// (`config.secret_open`, `config.not_trusted`).
    pub fn read(&self) -> Result<Option<SecretString>> {
        if let Some(path) = &self.file {
            let text = trust::read(path, "the password file", Trust::Secret)?.map_err(|e| {
                Error::new(
                    ErrorKind::Config,
                    "config.secret_unreadable",
                    format!("cannot read the password file {}: {e}", path.display()),
                )
                .hint("only its owner needs to read it: run as that user, or correct password_file")
                .source(e)
            })?;
            let text = text.strip_suffix('\n').unwrap_or(&text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            return Ok(Some(SecretString::from(text)));
        }
        if let Some(name) = &self.env {
            return match std::env::var(name) {
                Ok(value) => Ok(Some(SecretString::from(value))),
                Err(_) => Err(Error::new(
                    ErrorKind::Config,
                    "config.secret_unset",
                    format!("the environment variable {name}, named for a password, is not set"),
                )
                .hint("export it first (sudo drops variables: sudo --preserve-env=NAME), or name a password_file")),
            };
        }
        Ok(None)
    }
}
