//! A store that is described by itself, for a machine that has no `restore.toml` yet.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::model::{Error, ErrorKind, Result};
use crate::sys::trust::{self, Trust};

/// A store, as a section `[stores.NAME]` of a `restore.toml` describes it.
#[derive(Clone, Debug)]
pub struct StoreSection {
    pub(super) name: String,
    pub(super) section: Value,
    pub(super) base: PathBuf,
}

impl StoreSection {
    /// The store of these keys; relative paths among them are taken from `base`, and messages call it by its
    /// name.
    pub fn new(name: impl Into<String>, section: Value, base: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            section,
            base: base.into(),
        }
    }

    /// The only store that a TOML file describes; relative paths are taken from the file's folder.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read, others can write to it, or it describes no store or several.
    pub fn read(file: &Path) -> Result<Self> {
        let text = trust::read(file, "the description of the store", Trust::Obeyed)?;
        let text = text.map_err(|e| {
            Error::new(
                ErrorKind::Config,
                "init.store_file",
                format!("cannot read {}: {e}", file.display()),
            )
            .hint("name a file that describes the store: `restore init --from ID --store FILE`")
            .source(e)
        })?;
        let table: Value = toml::from_str(&text).map_err(|e| {
            let message = format!("{}: not TOML: {}", file.display(), e.message());
            Error::new(ErrorKind::Config, "config.syntax", message).source(e)
        })?;
        let stores = table.get("stores").and_then(Value::as_object);
        let mut stores = stores.into_iter().flatten();
        let (Some((name, section)), None) = (stores.next(), stores.next()) else {
            return Err(Error::new(
                ErrorKind::Config,
                "init.store_file",
                format!("{} does not describe one store", file.display()),
            )
            .hint("have one section [stores.NAME] in it, with the keys that it has in a restore.toml: kind, and what that kind needs"));
        };
        let file = std::path::absolute(file)
            .map_err(|e| Error::io(format!("find {}", file.display()), e))?;
        let base = file.parent().unwrap_or(Path::new("/"));
        Ok(Self::new(name, section.clone(), base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_describes_one_store() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store.toml");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            StoreSection::read(&file)
        };
        let one = "[stores.nas]\nkind = 'ssh'\nhost = 'nas'\npath = '/backups'\n";
        let store = read(&format!("[site]\nname = 'x'\n{one}")).unwrap();
        assert_eq!(
            (store.name.as_str(), store.base.as_path()),
            ("nas", dir.path())
        );
        assert_eq!(store.section["host"], "nas");
        let two = format!("{one}[stores.other]\nkind = 's3'\n");
        for (text, code) in [
            ("", "init.store_file"),
            (two.as_str(), "init.store_file"),
            ("[stores", "config.syntax"),
        ] {
            assert_eq!(read(text).unwrap_err().code(), code, "{text}");
        }
        std::fs::write(&file, one).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
        let error = StoreSection::read(&file).unwrap_err();
        assert_eq!(error.code(), "config.not_trusted");
    }
}
