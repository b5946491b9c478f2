//! Whether the server could start again: once it is stopped for the swap it is too late to learn that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::Redis;
use super::live::Live;
use crate::contract::Volume;
use crate::model::{Finding, Result};
use crate::sys::process::command::Command;

/// A directory that is nowhere. A server that is told to work in it ends as soon as it has read its
/// configuration, before it opens a port or looks at data.
const NOWHERE: &str = "/nonexistent/restore-probe";
/// How long such a server may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of what it says is read.
const SAID: u64 = 64 * 1024;

impl Redis {
    /// What would keep the server from starting on restored data. Asked where its programs are this
    /// host's own; elsewhere the names mean other files.
    pub(super) async fn could_start(&self, live: &Live, volume: &dyn Volume) -> Vec<Finding> {
        if !self.platform.runs_here(&self.section.service) {
            return Vec::new();
        }
        let found = [
            self.configuration(live).await,
            self.closed_directory(volume).await,
        ];
        found.into_iter().flatten().collect()
    }

    /// The configuration file that it starts with: it says so itself, or the command that starts it does.
    fn configuration_file(&self, live: &Live) -> Option<PathBuf> {
        let says = live.info.as_ref().and_then(|it| it.text("config_file"));
        let programs = self.platform.programs(&self.section.service);
        let named = programs.iter().find_map(|program| {
            let name = Path::new(&program.program).file_name()?.to_str()?;
            let first = program.arguments.first()?;
            name.starts_with("redis-server").then_some(first.as_str())
        });
        let file = says.filter(|it| !it.is_empty()).or(named)?;
        file.starts_with('/').then(|| PathBuf::from(file))
    }

    async fn configuration(&self, live: &Live) -> Option<Finding> {
        let file = self.configuration_file(live)?;
        let binary = &self.section.server_binary;
        let name = file.to_str()?;
        let command = Command::new([binary, name, "--dir", NOWHERE]);
        let asked = tokio::time::timeout(PATIENCE, self.said(command));
        let (code, said) = asked.await.ok()?.ok()?;
        let wrong = (code != 0).then(|| wrong_line(&said)).flatten()?;
        let service = &self.section.service;
        Some(
            Finding::error(
                "redis.broken_configuration",
                &self.name,
                format!(
                    "its configuration {name} cannot be loaded ({wrong}): {service} would not start again"
                ),
            )
            .hint(format!(
                "correct that file, then plan again; what it holds is in no component here, and {service} as it runs now does not read it"
            )),
        )
    }

    /// Whether the service's user may work in the data directory: as that user, for rights are more than modes.
    async fn closed_directory(&self, volume: &dyn Volume) -> Option<Finding> {
        let path = volume.path().filter(|path| path.is_dir())?;
        let name = path.to_str()?.to_owned();
        let script = "test -w \"$0\" && test -x \"$0\"";
        let command = Command::new(["sh", "-c", script, name.as_str()]);
        let (code, _) = self.said(command).await.ok()?;
        if code != 1 {
            return None;
        }
        let service = &self.section.service;
        let (uid, gid) = self.platform.owner(service).await.ok().flatten()?;
        Some(
            Finding::error(
                "redis.closed_directory",
                &self.name,
                format!("{service} runs as user {uid}, who may not work in its data directory {name}"),
            )
            .hint(format!(
                "chown -R {uid}:{gid} {name} && chmod 750 {name}, see whether that user gets there, and plan again"
            )),
        )
    }

    /// Runs a program in the service's context; its exit code, and what it says.
    async fn said(&self, command: Command) -> Result<(i32, String)> {
        let mut process = self.platform.exec(&self.section.service, command).await?;
        drop(process.stdin());
        let mut said = Vec::new();
        if let Some(stdout) = process.stdout() {
            // What cannot be read is not there.
            let _ = stdout.take(SAID).read_to_end(&mut said).await;
        }
        let exit = process.wait().await?;
        let said = String::from_utf8_lossy(&said).into_owned() + &exit.stderr;
        Ok((exit.code, said))
    }
}

/// What is wrong with a configuration, in the words of the server that was told to work nowhere. Never
/// the line itself, which may hold a password. `None`: it was read to its end.
fn wrong_line(said: &str) -> Option<String> {
    if let Some((_, why)) = said.split_once("can't open config file") {
        let why = why.lines().next().unwrap_or_default();
        return Some(
            why.rsplit(": ")
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned(),
        );
    }
    let (_, said) = said.split_once("FATAL CONFIG FILE ERROR")?;
    if said.contains(NOWHERE) {
        return None;
    }
    let number = said.split_once("at line ").map(|(_, rest)| rest);
    let number = number.and_then(|rest| rest.lines().next()).map(str::trim);
    let quoted = said.lines().find_map(|line| line.strip_prefix(">>> '"));
    let directive = quoted.and_then(|line| line.split_whitespace().next());
    let directive = directive
        .map(|word| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()))
        .filter(|word| {
            word.len() < 40 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
    // Its data directory is absent or closed: that is looked at by itself, and may be made.
    if directive == Some("dir") {
        return None;
    }
    let why = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    // Its last line is the reason, never what it quotes.
    let why = why.filter(|line| !line.starts_with(">>>"));
    Some(format!(
        "line {}{}: {}",
        number.unwrap_or("?"),
        directive.map(|it| format!(", {it}")).unwrap_or_default(),
        why.unwrap_or("it is refused")
    ))
}

#[cfg(test)]
mod tests {
    use super::{NOWHERE, wrong_line};

    #[test]
    fn what_is_wrong_is_told_without_the_line() {
        let said = |line: &str, why: &str| {
            format!(
                "\n*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\nReading the configuration file, at line 11\n>>> '{line}'\n{why}\n"
            )
        };
        let nowhere = said(&format!("dir \"{NOWHERE}\""), "No such file or directory");
        assert_eq!(wrong_line(&nowhere), None);
        let absent = said("dir \"/var/lib/redis\"", "No such file or directory");
        assert_eq!(wrong_line(&absent), None);
        let secret = said(
            "requirepass \"hidden",
            "Unbalanced quotes in configuration line",
        );
        assert_eq!(
            wrong_line(&secret).unwrap(),
            "line 11, requirepass: Unbalanced quotes in configuration line"
        );
        let gone = "1:C # Fatal error, can't open config file '/x: y': Permission denied\n";
        assert_eq!(wrong_line(gone).unwrap(), "Permission denied");
        assert_eq!(wrong_line("sh: redis-server: not found"), None);
    }
}
