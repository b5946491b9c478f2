//! The local platform and its volumes.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use restore_core::conformance::{self, Files, PlatformUnderTest, VolumeUnderTest};
use restore_core::platform::agent::RemoteVolume;
use restore_core::platform::{Platform, Volume};
use restore_core::{Error, Result};
use restore_testing::beside::Here;
use restore_testing::local::Ground;

struct Local {
    ground: Ground,
    sections: &'static str,
}

#[async_trait]
impl PlatformUnderTest for Local {
    async fn platform(&self) -> Result<Arc<dyn Platform>> {
        self.ground.try_platform(self.sections)
    }

    fn service(&self) -> String {
        "app".to_owned()
    }
}

/// A service that this platform itself starts and watches.
#[tokio::test]
async fn a_supervised_service() {
    let under_test = Local {
        ground: Ground::new(),
        sections: r#"
            [services.app]
            command = ["sh", "-c", "trap 'exit 0' TERM; echo up; echo and; echo running; while :; do sleep 0.02; done # @"]
            [services.application]
            command = ["sleep", "600"]
        "#,
    };
    conformance::platform(Arc::new(under_test)).await.unwrap();
}

/// A service of three commands, such as a unit of systemd.
#[tokio::test]
async fn a_service_of_three_commands() {
    let under_test = Local {
        ground: Ground::new(),
        sections: r#"
            [services.app]
            start = ["sh", "-c", "cd @ && { setsid sleep 600 </dev/null >log 2>&1 & echo $! >pid; }"]
            stop = ["sh", "-c", "cd @ && if [ -e pid ]; then kill $(cat pid) && while kill -0 $(cat pid) 2>/dev/null; do sleep 0.01; done; rm -f pid; fi"]
            status = ["sh", "-c", "cd @ && [ -e pid ] && kill -0 $(cat pid)"]
        "#,
    };
    conformance::platform(Arc::new(under_test)).await.unwrap();
}

struct Directory(Ground);

impl Directory {
    fn root(&self) -> std::path::PathBuf {
        self.0.path().join("volume")
    }
}

fn failed(what: &str) -> impl Fn(std::io::Error) -> Error + '_ {
    move |e| Error::io(what, e)
}

#[async_trait]
impl VolumeUnderTest for Directory {
    async fn volume(&self) -> Result<Arc<dyn Volume>> {
        let platform = self.0.platform("[volumes.data]\npath = 'volume'");
        platform.volume("data").await
    }

    async fn fill(&self, files: &Files) -> Result<()> {
        let root = self.root();
        let _ = std::fs::remove_dir_all(&root);
        for (path, content) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).map_err(failed("fill"))?;
            std::fs::write(path, content).map_err(failed("fill"))?;
        }
        Ok(())
    }

    async fn files(&self) -> Result<Files> {
        let mut found = Files::new();
        read(&self.root(), "", &mut found).map_err(failed("look"))?;
        Ok(found)
    }

    async fn hidden(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(self.root()).map_err(failed("look"))?;
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.starts_with(".restore-")).collect();
        names.sort();
        Ok(names)
    }
}

fn read(directory: &Path, prefix: &str, found: &mut Files) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if name.starts_with(".restore-") {
            continue;
        }
        if entry.file_type()?.is_dir() {
            read(&entry.path(), &format!("{name}/"), found)?;
        } else {
            found.insert(name, std::fs::read_to_string(entry.path())?);
        }
    }
    Ok(())
}

/// The same directory, by an agent beside it.
struct Remote(Directory);

#[async_trait]
impl VolumeUnderTest for Remote {
    async fn volume(&self) -> Result<Arc<dyn Volume>> {
        let beside = Here {
            root: self.0.root(),
            through: None,
            leave: false,
        };
        Ok(Arc::new(RemoteVolume::new(Arc::new(beside))))
    }

    async fn fill(&self, files: &Files) -> Result<()> {
        self.0.fill(files).await
    }

    async fn files(&self) -> Result<Files> {
        self.0.files().await
    }

    async fn hidden(&self) -> Result<Vec<String>> {
        self.0.hidden().await
    }
}

#[tokio::test]
async fn a_directory_of_another_machine() {
    let directory = Directory(Ground::new());
    conformance::volume(Arc::new(Remote(directory)))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_directory() {
    conformance::volume(Arc::new(Directory(Ground::new())))
        .await
        .unwrap();
}
