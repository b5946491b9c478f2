//! A platform with one service, that server, and one volume, its data directory.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use restore_core::platform::agent::RemoteVolume;
use restore_core::platform::local::LocalVolume;
use restore_core::platform::{
    Command, Endpoint, Exit, Platform, Process, Scratch, ServiceState, Volume,
};
use restore_core::{Error, ErrorKind, Result, Timestamp};
use tokio::io::AsyncReadExt;

use super::Server;
use super::server::become_user;
use crate::beside::Here;

/// A platform with the service `redis` and the volume `redis_data`.
pub struct OneServer {
    pub server: Server,
    /// Every program that was started, arguments and all.
    pub started: Mutex<Vec<Vec<String>>>,
    /// Its files are another machine's: reached by an agent beside them.
    pub elsewhere: bool,
    /// Scratch servers are left running when dropped, as when we are killed.
    pub leave_scratch: Mutex<bool>,
}

const ENGINE: &str =
    "setpriv --bounding-set=-sys_ptrace -- \"$@\" | { trap '' PIPE; cat; cat >/dev/null; }";

#[async_trait]
impl Platform for OneServer {
    fn describe(&self) -> String {
        "one server".to_owned()
    }
    fn services(&self) -> Vec<String> {
        vec!["redis".to_owned()]
    }
    async fn service(&self, name: &str) -> Result<ServiceState> {
        assert_eq!(name, "redis");
        let running = u32::from(self.server.is_running());
        let state = serde_json::json!({
            "name": name, "desired": running, "running": running, "detail": "a test",
        });
        Ok(serde_json::from_value(state).unwrap())
    }
    async fn scale(&self, _name: &str, replicas: u32) -> Result<()> {
        if replicas == 0 {
            self.server.stop();
            return Ok(());
        }
        self.server
            .start()
            .map_err(|log| Error::new(ErrorKind::Failed, "test.start", log))
    }
    async fn exec(&self, _service: &str, command: Command) -> Result<Box<dyn Process>> {
        self.started.lock().unwrap().push(command.argv.clone());
        let output = std::process::Command::new(&command.argv[0])
            .args(&command.argv[1..])
            .output()
            .map_err(|e| Error::io(format!("run {}", command.argv[0]), e))?;
        let stdout = std::io::Cursor::new(output.stdout.clone());
        Ok(Box::new(Ran(output, Some(stdout))))
    }
    async fn logs(&self, _: &str, _: Timestamp, _: usize) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    async fn endpoint(&self, _service: &str) -> Result<Endpoint> {
        Ok(self.server.endpoint())
    }
    async fn volume(&self, name: &str) -> Result<Arc<dyn Volume>> {
        assert_eq!(name, "redis_data");
        let root = self.server.data();
        if !self.elsewhere {
            return Ok(Arc::new(LocalVolume::new(root).followed(true)));
        }
        Ok(Arc::new(RemoteVolume::new(Arc::new(Here {
            root,
            // As behind a container's engine: it goes on reading, and who is root there may not
            // look into processes of others.
            through: Some(ENGINE),
            leave: true,
        }))))
    }
    async fn volume_in(&self, _service: &str, name: &str) -> Result<Option<PathBuf>> {
        assert_eq!(name, "redis_data");
        Ok(Some(self.server.data()))
    }
    async fn scratch(&self, _service: &str, command: Command) -> Result<Box<dyn Scratch>> {
        assert!(!self.elsewhere, "its files are not here");
        self.started.lock().unwrap().push(command.argv.clone());
        let mut std = std::process::Command::new(&command.argv[0]);
        std.args(&command.argv[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some(dir) = &command.dir {
            std.current_dir(dir);
        }
        become_user(&mut std, self.server.user);
        let mut child = tokio::process::Command::from(std)
            .kill_on_drop(!*self.leave_scratch.lock().unwrap())
            .spawn()
            .map_err(|e| Error::io(format!("run {}", command.argv[0]), e))?;
        let log = Arc::new(Mutex::new(String::new()));
        let (mut stdout, into) = (child.stdout.take().unwrap(), log.clone());
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stdout.read(&mut buffer).await {
                let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                into.lock().unwrap().push_str(&text);
            }
        });
        Ok(Box::new(PlainScratch {
            child: Mutex::new(Some(child)),
            log,
        }))
    }
    async fn path_in(&self, _service: &str, host_path: &Path) -> Result<Option<PathBuf>> {
        Ok(Some(host_path.to_owned()))
    }
    async fn owner(&self, _service: &str) -> Result<Option<(u32, u32)>> {
        // Of a service that does not run nobody may know it.
        Ok(self.server.user.filter(|_| !self.elsewhere))
    }
}

struct Ran(std::process::Output, Option<std::io::Cursor<Vec<u8>>>);

#[async_trait]
impl Process for Ran {
    fn stdin(&mut self) -> Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>> {
        None
    }
    fn stdout(&mut self) -> Option<Box<dyn tokio::io::AsyncRead + Send + Unpin>> {
        Some(Box::new(self.1.take()?))
    }
    async fn wait(&mut self) -> Result<Exit> {
        let stderr = String::from_utf8_lossy(&self.0.stderr).into_owned();
        Ok(Exit::new(self.0.status.code().unwrap_or(128), stderr))
    }
}

struct PlainScratch {
    child: Mutex<Option<tokio::process::Child>>,
    log: Arc<Mutex<String>>,
}

#[async_trait]
impl Scratch for PlainScratch {
    async fn stop(self: Box<Self>, grace: Duration) -> Result<()> {
        let Some(mut child) = self.child.lock().unwrap().take() else {
            return Ok(());
        };
        if let Some(pid) = child
            .id()
            .and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()))
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if tokio::time::timeout(grace, child.wait()).await.is_err() {
            child.kill().await.unwrap();
        }
        Ok(())
    }
    fn log_tail(&self) -> String {
        self.log.lock().unwrap().clone()
    }
    fn is_running(&self) -> bool {
        let mut child = self.child.lock().unwrap();
        child
            .as_mut()
            .is_some_and(|child| child.try_wait().unwrap().is_none())
    }
}
