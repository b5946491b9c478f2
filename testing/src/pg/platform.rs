//! A platform with one service, that server.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use restore_core::platform::{
    Command, Endpoint, Exit, Platform, Process, Scratch, ServiceState, Volume,
};
use restore_core::{Error, ErrorKind, Result, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::initdb::owner;

/// A platform of one PostgreSQL that runs programs as plain processes and remembers them.
pub(super) struct OneServer {
    pub(super) endpoint: Endpoint,
    /// Whether programs have to be fed the backup's files.
    pub(super) stream: bool,
    /// Arguments and environment of every program run.
    pub(super) ran: Arc<Mutex<Vec<Command>>>,
}

fn unused<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Internal, "test.unused", "not here"))
}

#[async_trait]
impl Platform for OneServer {
    fn describe(&self) -> String {
        "one server".to_owned()
    }
    fn services(&self) -> Vec<String> {
        vec!["postgres".to_owned()]
    }
    async fn service(&self, _name: &str) -> Result<ServiceState> {
        unused()
    }
    async fn scale(&self, _name: &str, _replicas: u32) -> Result<()> {
        unused()
    }
    async fn exec(&self, _service: &str, command: Command) -> Result<Box<dyn Process>> {
        self.ran.lock().unwrap().push(command.clone());
        let dir = command.dir.as_deref().unwrap_or(Path::new("."));
        let child = tokio::process::Command::new(&command.argv[0])
            .args(&command.argv[1..])
            .current_dir(dir)
            .envs(&command.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| Error::io(format!("run {}", command.argv[0]), e))?;
        Ok(Box::new(Running(child)))
    }
    async fn logs(&self, _: &str, _: Timestamp, _: usize) -> Result<Vec<String>> {
        unused()
    }
    async fn endpoint(&self, _service: &str) -> Result<Endpoint> {
        Ok(self.endpoint.clone())
    }
    async fn volume(&self, _name: &str) -> Result<Arc<dyn Volume>> {
        unused()
    }
    async fn scratch(&self, _: &str, _: Command) -> Result<Box<dyn Scratch>> {
        unused()
    }
    async fn path_in(&self, _service: &str, host_path: &Path) -> Result<Option<PathBuf>> {
        Ok((!self.stream).then(|| host_path.to_owned()))
    }
    async fn owner(&self, _service: &str) -> Result<Option<(u32, u32)>> {
        Ok(Some(owner()))
    }
}

struct Running(tokio::process::Child);

#[async_trait]
impl Process for Running {
    fn stdin(&mut self) -> Option<Box<dyn AsyncWrite + Send + Unpin>> {
        self.0.stdin.take().map(|pipe| Box::new(pipe) as _)
    }
    fn stdout(&mut self) -> Option<Box<dyn AsyncRead + Send + Unpin>> {
        self.0.stdout.take().map(|pipe| Box::new(pipe) as _)
    }
    async fn wait(&mut self) -> Result<Exit> {
        let mut stderr = Vec::new();
        if let Some(mut pipe) = self.0.stderr.take() {
            pipe.read_to_end(&mut stderr).await.unwrap();
        }
        let status = self.0.wait().await.unwrap();
        Ok(Exit::new(
            status.code().unwrap_or(137),
            String::from_utf8_lossy(&stderr),
        ))
    }
}
