//! The server's programs: which ones, and what they say.

use std::path::{Path, PathBuf};

use super::super::client::Login;
use super::super::passfile;
use super::super::tools::VERSIONED;
use super::Cluster;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::process::command::{Command, Exit, Process, printed};

/// The server programs of one version, run in the context of the service.
pub(super) struct Programs<'a> {
    cluster: &'a Cluster,
    dir: Option<PathBuf>,
    /// `15.4`.
    pub(super) version: String,
    pub(super) major: u32,
}

impl<'a> Programs<'a> {
    /// Those of this major version: in the configured `bin`, else where Debian puts them, else on
    /// the path.
    pub(super) async fn find(cluster: &'a Cluster, major: u32) -> Result<Self> {
        let (service, bin) = (&cluster.config.service, cluster.config.bin.as_deref());
        let dirs = match bin {
            Some(bin) => vec![Some(bin.to_owned())],
            None => vec![
                Some(Path::new(VERSIONED).join(major.to_string()).join("bin")),
                None,
            ],
        };
        let mut other = None;
        for dir in dirs {
            let mut programs = Self {
                cluster,
                dir,
                version: String::new(),
                major: 0,
            };
            let Ok((text, exit)) = programs.output("postgres", &["--version"]).await else {
                continue;
            };
            // "postgres (PostgreSQL) 15.4 (Debian 15.4-1)"
            let version = text
                .split_once(") ")
                .and_then(|(_, rest)| rest.split_whitespace().next());
            let (true, Some(version)) = (exit.success(), version) else {
                continue;
            };
            programs.version = version.to_owned();
            programs.major = major_of(version).unwrap_or(0);
            if programs.major == major {
                return Ok(programs);
            }
            other = Some(programs.version);
        }
        let place = bin.map_or_else(
            || format!("{VERSIONED}/{major}/bin or on the path"),
            |bin| bin.display().to_string(),
        );
        Err(Error::new(
            ErrorKind::Preflight,
            "cluster.wrong_version",
            match other {
                Some(other) => format!(
                    "the base backup is of PostgreSQL {major}, the service {service} runs {other}: a data directory fits its own major version only"
                ),
                None => format!(
                    "the programs of a PostgreSQL {major} server are not in {place} of the service {service}"
                ),
            },
        )
        .hint("choose a base backup of this version, or install the server of the other and name its programs with bin"))
    }

    /// The program as it is called.
    pub(super) fn path(&self, name: &str) -> String {
        match &self.dir {
            Some(dir) => dir.join(name).to_string_lossy().into_owned(),
            None => name.to_owned(),
        }
    }

    /// A command, whose messages are in English.
    pub(super) fn command(&self, name: &str, args: &[&str]) -> Command {
        let program = self.path(name);
        let words = std::iter::once(program.as_str()).chain(args.iter().copied());
        Command::new(words).env("LC_ALL", "C").env("TZ", "UTC")
    }

    /// Runs a program to its end; what it printed, at most a megabyte.
    pub(super) async fn output(&self, name: &str, args: &[&str]) -> Result<(String, Exit)> {
        let command = self.command(name, args);
        let service = &self.cluster.config.service;
        let process = self.cluster.platform.exec(service, command).await?;
        printed(process, name).await
    }

    /// Starts a program that signs in to the server.
    pub(super) async fn signed_in(
        &self,
        login: &Login,
        name: &str,
        args: &[&str],
    ) -> Result<Box<dyn Process>> {
        let command = self.command(name, args);
        passfile::exec(self.cluster.platform.as_ref(), login, command).await
    }
}

/// The major version in `15.4`, `16beta1`, `17rc1`.
pub(in super::super) fn major_of(version: &str) -> Option<u32> {
    let end = version
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(version.len());
    version.get(..end)?.parse().ok()
}
