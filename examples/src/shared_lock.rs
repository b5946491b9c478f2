//! A platform's facet of one's own: the lock. Two hosts that share a disk restore one at a time; all else is
//! the platform's that it stands before. That is handed on method by method: what is left out falls to what
//! the trait says of a platform that knows nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use restore_core::config::SiteConfig;
use restore_core::platform::{
    AbsentDirectory, Command, Endpoint, Images, Nodes, Platform, PlatformLock, Process, Program,
    Scratch, ServiceState, Stacks, Volume, local,
};
use restore_core::{Error, ErrorKind, Finding, Result, Timestamp};

/// How often it is tried to take a lock that is given back just then.
const TRIES: u32 = 5;

/// `[platform]` with `kind = "local-shared"`: processes of this machine, with a lock on a shared disk.
pub struct SharedLock {
    inner: Arc<dyn Platform>,
    file: PathBuf,
}

impl SharedLock {
    /// As written in the configuration.
    pub const KIND: &'static str = "local-shared";

    /// Makes one beside the site's configuration, which both hosts see.
    pub fn make(config: &SiteConfig, base: &Path, state: &Path) -> Result<Arc<dyn Platform>> {
        // The one that it stands before reads its own section.
        let mut inner = config.clone();
        inner.platform.insert("kind".to_owned(), "local".into());
        Ok(Arc::new(Self {
            inner: local::make(&inner, base, state)?,
            file: base.join("restore.lock"),
        }))
    }

    /// Makes the lock's file, which only one host can.
    fn take(&self, text: &str) -> std::io::Result<Held> {
        let mut file = std::fs::File::create_new(&self.file)?;
        match std::io::Write::write_all(&mut file, text.as_bytes()) {
            Ok(()) => Ok(Held(self.file.clone())),
            Err(error) => {
                // On a full disk it would be held by nobody.
                let _ = std::fs::remove_file(&self.file);
                Err(error)
            }
        }
    }

    fn locked(&self, holder: &str) -> Error {
        Error::new(
            ErrorKind::Locked,
            "site.locked",
            format!(
                "a {holder} is under way; the lock is {}",
                self.file.display()
            ),
        )
        .hint("wait until it ends, or `restore unlock` where that host is gone")
    }
}

struct Held(PathBuf);

#[async_trait]
impl PlatformLock for Held {
    async fn release(self: Box<Self>) -> Result<()> {
        std::fs::remove_file(&self.0)
            .map_err(|e| Error::io(format!("delete {}", self.0.display()), e))
    }
}

#[async_trait]
impl Platform for SharedLock {
    fn describe(&self) -> String {
        format!("{}, one host at a time", self.inner.describe())
    }

    async fn lock(&self, action: &str) -> Result<Option<Box<dyn PlatformLock>>> {
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        let text = format!("{} of {}", action, host.trim());
        for _ in 0..TRIES {
            match self.take(&text) {
                Ok(held) => return Ok(Some(Box::new(held))),
                // Where it is given back just then it is free, and not taken: `None` would say that there is
                // no lock here.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    self.ensure_unlocked().await?;
                }
                Err(error) => {
                    return Err(Error::io(format!("make {}", self.file.display()), error));
                }
            }
        }
        Err(self.locked("restore of one host after another"))
    }

    async fn ensure_unlocked(&self) -> Result<()> {
        match self.lock_holder().await? {
            None => Ok(()),
            Some(holder) => Err(self.locked(&holder)),
        }
    }

    async fn lock_holder(&self) -> Result<Option<String>> {
        match std::fs::read_to_string(&self.file) {
            Ok(holder) => Ok(Some(holder)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("read {}", self.file.display()), error)),
        }
    }

    async fn break_lock(&self) -> Result<()> {
        Box::new(Held(self.file.clone())).release().await
    }

    // All else is the other platform's.

    fn services(&self) -> Vec<String> {
        self.inner.services()
    }

    async fn service(&self, name: &str) -> Result<ServiceState> {
        self.inner.service(name).await
    }

    async fn scale(&self, name: &str, replicas: u32) -> Result<()> {
        self.inner.scale(name, replicas).await
    }

    async fn scale_at_least(&self, name: &str, replicas: u32, least: u32) -> Result<()> {
        self.inner.scale_at_least(name, replicas, least).await
    }

    async fn exec(&self, service: &str, command: Command) -> Result<Box<dyn Process>> {
        self.inner.exec(service, command).await
    }

    async fn logs(&self, service: &str, since: Timestamp, limit: usize) -> Result<Vec<String>> {
        self.inner.logs(service, since, limit).await
    }

    async fn exec_each(&self, service: &str, command: Command) -> Result<Vec<Box<dyn Process>>> {
        self.inner.exec_each(service, command).await
    }

    async fn endpoint(&self, service: &str) -> Result<Endpoint> {
        self.inner.endpoint(service).await
    }

    async fn endpoint_inside(&self, service: &str) -> Result<Endpoint> {
        self.inner.endpoint_inside(service).await
    }

    async fn volume(&self, name: &str) -> Result<Arc<dyn Volume>> {
        self.inner.volume(name).await
    }

    async fn absent_volume(&self, name: &str) -> Result<Option<AbsentDirectory>> {
        self.inner.absent_volume(name).await
    }

    async fn at_work_on(&self, volume: &str) -> Result<Vec<String>> {
        self.inner.at_work_on(volume).await
    }

    async fn in_use_by(&self, volume: &str) -> Result<Vec<String>> {
        self.inner.in_use_by(volume).await
    }

    async fn scratch(&self, service: &str, command: Command) -> Result<Box<dyn Scratch>> {
        self.inner.scratch(service, command).await
    }

    async fn published(&self, service: &str, port: u16) -> Result<Vec<Endpoint>> {
        self.inner.published(service, port).await
    }

    fn images(&self) -> Option<Arc<dyn Images>> {
        self.inner.images()
    }

    fn stacks(&self) -> Option<&dyn Stacks> {
        self.inner.stacks()
    }

    fn nodes(&self) -> Option<&dyn Nodes> {
        self.inner.nodes()
    }

    async fn path_in(&self, service: &str, host_path: &Path) -> Result<Option<PathBuf>> {
        self.inner.path_in(service, host_path).await
    }

    async fn volume_in(&self, service: &str, volume: &str) -> Result<Option<PathBuf>> {
        self.inner.volume_in(service, volume).await
    }

    async fn owner(&self, service: &str) -> Result<Option<(u32, u32)>> {
        self.inner.owner(service).await
    }

    async fn inspect(&self, services: &[String]) -> Result<Vec<Finding>> {
        self.inner.inspect(services).await
    }

    async fn unanswered(&self, service: &str) -> Result<Option<String>> {
        self.inner.unanswered(service).await
    }

    fn programs(&self, service: &str) -> Vec<Program> {
        self.inner.programs(service)
    }

    fn start_command(&self, service: &str) -> Vec<String> {
        self.inner.start_command(service)
    }

    fn runs_here(&self, service: &str) -> bool {
        self.inner.runs_here(service)
    }

    async fn tidy(&self) -> Result<()> {
        self.inner.tidy().await
    }

    async fn release(&self) -> Result<()> {
        self.inner.release().await
    }
}
