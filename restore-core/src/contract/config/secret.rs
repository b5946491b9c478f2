//! Secrets: named by the configuration, never written in it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use secrecy::{ExposeSecret as _, SecretString};

use crate::model::{Error, ErrorKind, Result};
use crate::sys::random_name;
use crate::sys::trust;
use crate::sys::trust::Trust;

/// The secrets that the program itself has given, by the names that it was told for them, each with how often.
static GIVEN: Mutex<BTreeMap<String, (SecretString, usize)>> = Mutex::new(BTreeMap::new());

/// Keeps a secret that the program has from elsewhere, a vault say, until it is
/// [forgotten](forget_secret); its name, for a key `…_env` of a configuration. No environment variable has
/// it, and no child gets it. Nobody guesses the name: another configuration of the same process gets at the
/// secret only where it is told it. The same secret has the same name.
pub fn keep_secret(secret: SecretString) -> String {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = given
        .iter_mut()
        .find(|(_, (known, _))| known.expose_secret() == secret.expose_secret());
    if let Some((name, (_, times))) = known {
        *times += 1;
        return name.clone();
    }
    // An environment variable cannot be named so.
    let name = format!("=secret-{}", unguessable());
    given.insert(name.clone(), (secret, 1));
    name
}

/// Forgets a secret that was kept under this name, once that was said as often as it was kept. A site that was
/// opened with it cannot read it any more.
pub fn forget_secret(name: &str) {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((_, times)) = given.get_mut(name) else {
        return;
    };
    *times -= 1;
    if *times == 0 {
        given.remove(name);
    }
}

/// What nobody else knows.
fn unguessable() -> String {
    random_name().unwrap_or_else(|_| {
        // Without a /dev: these are seeded by the kernel as well.
        let half = || RandomState::new().hash_one(0);
        format!("{:016x}{:016x}", half(), half())
    })
}

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
            let given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((secret, _)) = given.get(name) {
                return Ok(Some(secret.clone()));
            }
            drop(given);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_was_given_is_in_no_environment() {
        let one = keep_secret(SecretString::from("one"));
        let two = keep_secret(SecretString::from("two"));
        let read = |name: &str| SecretSource::new("x", None, Some(name.to_owned()))?.read();
        assert_eq!(read(&one).unwrap().unwrap().expose_secret(), "one");
        assert_eq!(read(&two).unwrap().unwrap().expose_secret(), "two");
        assert!(std::env::vars().all(|(_, value)| value != "one"));
        assert_eq!(read("=secret-0").unwrap_err().code(), "config.secret_unset");
    }

    /// Another site of the same process may name what it likes.
    #[test]
    fn nobody_guesses_the_name_of_a_secret_and_it_can_be_forgotten() {
        let keep = || keep_secret(SecretString::from("a third"));
        let name = keep();
        assert!(name.len() >= "=secret-".len() + 32, "{name}");
        let read = || SecretSource::new("x", None, Some(name.clone()))?.read();
        // Each opening of a site keeps it once more.
        assert_eq!(keep(), name);
        forget_secret(&name);
        assert!(read().is_ok());
        forget_secret(&name);
        assert_eq!(read().unwrap_err().code(), "config.secret_unset");
        forget_secret(&name);
    }
}
