//! Volumes without a name that were left when their containers were removed: afterwards nothing tells whose they
//! were, so it is written down before.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::record::write_down;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::blocking::blocking;
use crate::sys::durable;

/// How the names of the files end.
const SUFFIX: &str = ".kept-volumes.json";

/// A file for each project, in the site's state directory.
pub(super) struct KeptVolumes {
    folder: PathBuf,
}

impl KeptVolumes {
    /// Those that are written down in this folder.
    pub(super) fn of(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Adds volumes of a project; durable once this returns.
    pub(super) async fn add(&self, project: &str, names: Vec<String>) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let mut all: BTreeSet<String> = self.read(project).await?.into_iter().collect();
        all.extend(names);
        let path = self.path(project);
        blocking(move || {
            let content = serde_json::to_vec(&all).unwrap_or_default();
            write_down(&path, &content)
        })
        .await
    }

    /// Those of a project that were left since it was last made.
    pub(super) async fn read(&self, project: &str) -> Result<Vec<String>> {
        let path = self.path(project);
        blocking(move || {
            let content = match std::fs::read(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
                read => read.map_err(|e| Error::io(format!("read {}", path.display()), e))?,
            };
            serde_json::from_slice(&content).map_err(|e| {
                Error::new(
                    ErrorKind::Failed,
                    "compose.bad_volumes_record",
                    format!(
                        "{}, which says which volumes without a name were left, cannot be read: {e}",
                        path.display()
                    ),
                )
                .hint("`docker volume ls --filter dangling=true` lists volumes that no container uses; delete that file, then try again")
            })
        })
        .await
    }

    /// What a project that is made anew leaves is its own.
    pub(super) async fn forget(&self, project: &str) -> Result<()> {
        let path = self.path(project);
        blocking(move || {
            durable::remove(&path).map_err(|e| Error::io(format!("remove {}", path.display()), e))
        })
        .await
    }

    fn path(&self, project: &str) -> PathBuf {
        // A label may hold anything; a name of a file may not.
        let plain = project.bytes().map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            byte => format!("%{byte:02x}"),
        });
        let plain: String = plain.collect();
        self.folder.join(format!("{plain}{SUFFIX}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_left_is_known_to_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let services = folder.path().join("services");
        let names =
            |all: &[&str]| -> Vec<String> { all.iter().map(|it| (*it).to_owned()).collect() };
        let kept = KeptVolumes::of(&services);
        kept.add("a/b", Vec::new()).await.unwrap();
        assert!(!services.exists());
        kept.add("a/b", names(&["2"])).await.unwrap();
        kept.add("a/b", names(&["1", "2"])).await.unwrap();
        let next = KeptVolumes::of(&services);
        assert_eq!(next.read("a/b").await.unwrap(), names(&["1", "2"]));
        assert_eq!(next.read("a").await.unwrap(), names(&[]));
        std::fs::write(services.join("a.kept-volumes.json"), "{").unwrap();
        let error = next.read("a").await.unwrap_err();
        assert_eq!(error.code(), "compose.bad_volumes_record");
        for _ in 0..2 {
            next.forget("a/b").await.unwrap();
            assert_eq!(kept.read("a/b").await.unwrap(), names(&[]));
        }
    }
}
