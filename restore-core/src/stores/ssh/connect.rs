//! Starting the operator's own `ssh`, and understanding what it says when it fails.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::SshConfig;
use crate::model::{Error, ErrorKind};
use crate::sys::process::exec::code;
use crate::sys::spans::ProgramSpan;
use crate::sys::trust::Trust;
use crate::sys::{child, trust};

/// As much of what `ssh` says as is kept: its last words are what matters.
const KEPT: usize = 8 * 1024;

/// A running `ssh` whose other end speaks SFTP.
pub(crate) struct Line {
    pub(crate) to: ChildStdin,
    pub(crate) from: ChildStdout,
    pub(crate) end: End,
}

/// How it ended, and what it said. Dropping it ends it.
pub(crate) struct End {
    pub(super) child: Child,
    said: Arc<Mutex<Vec<u8>>>,
    listening: Option<JoinHandle<()>>,
    span: ProgramSpan,
}

/// A configuration of `ssh` names commands that it runs (`ProxyCommand`).
pub(crate) fn check_config(file: &Path) -> Result<(), Error> {
    trust::check(file, "the configuration of ssh", Trust::Obeyed)
}

impl Line {
    /// Starts `ssh`; whether it gets through shows when the other end answers.
    pub(super) fn open(config: &SshConfig) -> Result<Self, Error> {
        if let Some(file) = &config.config {
            check_config(file)?;
        }
        Self::start(command(config))
    }

    /// As `open`, with a command of the caller's own, made by [`to`].
    pub(crate) fn start(mut command: Command) -> Result<Self, Error> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| {
                if e.kind() == std::io::ErrorKind::NotFound {
                    return Error::new(
                        ErrorKind::Config,
                        "ssh.not_installed",
                        "cannot start ssh: it is not installed",
                    )
                    .hint("install the package openssh-client");
                }
                Error::io("start ssh", e)
            })?;
        let span = ProgramSpan::open("ssh", child.id());
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(to), Some(from), Some(mut errors)) = pipes else {
            return Err(Error::new(
                ErrorKind::Internal,
                "ssh.pipes",
                "ssh was started without its pipes",
            ));
        };
        let said = Arc::new(Mutex::new(Vec::new()));
        let kept = said.clone();
        let listening = Some(tokio::spawn(async move {
            let mut buffer = [0; 1024];
            while let Ok(read @ 1..) = errors.read(&mut buffer).await {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
                let over = kept.len().saturating_sub(KEPT);
                kept.drain(..over);
            }
        }));
        Ok(Self {
            to,
            from,
            end: End {
                child,
                said,
                listening,
                span,
            },
        })
    }
}

impl End {
    /// What `ssh` said, all of it when it has ended. Waits a moment for that: the pipe of the
    /// data often closes before the reason is out.
    pub(crate) async fn last_words(&mut self) -> String {
        let ended = async {
            if let Ok(status) = self.child.wait().await {
                self.span.ended(code(status));
            }
            if let Some(listening) = self.listening.take() {
                let _ = listening.await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), ended).await;
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).into_owned()
    }
}

/// Everything about the connection is the operator's own configuration's business, except what
/// would make `ssh` ask, wave a host key through, or hang for ever.
pub(crate) fn to(user: Option<&str>, port: Option<u16>, config: Option<&Path>) -> Command {
    let mut command = child::tokio_command("ssh");
    if let Some(file) = config {
        command.arg("-F").arg(file);
    }
    command.args(["-T", "-x", "-a"]);
    for option in [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "LogLevel=ERROR",
        "ConnectTimeout=15",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=4",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
        "RemoteCommand=none",
    ] {
        command.arg("-o").arg(option);
    }
    if let Some(user) = user {
        command.arg("-l").arg(user);
    }
    if let Some(port) = port {
        command.arg("-p").arg(port.to_string());
    }
    // What is looked for in its messages is English.
    command.env("LC_ALL", "C");
    command
}

fn command(config: &SshConfig) -> Command {
    let mut command = to(
        config.user.as_deref(),
        config.port,
        config.config.as_deref(),
    );
    match &config.sftp_server {
        Some(program) => command.arg("--").arg(&config.host).arg(program),
        None => command.arg("-s").arg("--").arg(&config.host).arg("sftp"),
    };
    command
}

/// Why there is no session: what `ssh` said, in the words of an operator who must now act.
pub(crate) fn refusal(host: &str, said: &str) -> Error {
    let has = |words: &str| said.contains(words);
    let error =
        |kind, code, message: String, hint: &str| Error::new(kind, code, message).hint(hint);
    if has("REMOTE HOST IDENTIFICATION HAS CHANGED") || has("differs from the key for the IP") {
        return error(
            ErrorKind::Config,
            "ssh.host_key_changed",
            format!(
                "{host} shows another host key than the known one: it was set up anew, or it is another machine"
            ),
            "compare the key's fingerprint with the host's own (`ssh-keygen -lf` there) before you replace it in known_hosts; nothing was read",
        );
    }
    if has("host key is known for") || has("Host key verification failed") {
        return error(
            ErrorKind::Config,
            "ssh.host_key_unknown",
            format!("the host key of {host} is not known"),
            "connect once by hand as this user (`ssh`), compare the fingerprint and accept it, so that it is in known_hosts",
        );
    }
    if has("Permission denied") || has("Too many authentication failures") {
        return error(
            ErrorKind::Config,
            "ssh.login_refused",
            format!("{host} refuses the login{}", reason(said)),
            "try `ssh -o BatchMode=yes` to it as this user: the key must be in the agent or without a passphrase, and known there",
        );
    }
    if has("Could not resolve hostname") {
        return error(
            ErrorKind::NotFound,
            "ssh.unknown_host",
            format!("{host} is not a known host name{}", reason(said)),
            "correct the host in restore.toml, or give it an entry in ssh's configuration",
        );
    }
    if has("Connection refused")
        || has("Connection timed out")
        || has("No route to host")
        || has("Network is unreachable")
        || has("Operation timed out")
    {
        return error(
            ErrorKind::Failed,
            "ssh.unreachable",
            format!("{host} cannot be reached{}", reason(said)),
            "is it up, and sshd on that port? `ssh -v` to it as this user says more",
        )
        .retryable();
    }
    if has("subsystem request failed") || has("sftp-server: ") || has("sftp-server: not found") {
        return error(
            ErrorKind::Config,
            "ssh.no_sftp",
            format!("{host} offers no SFTP{}", reason(said)),
            "its sshd needs `Subsystem sftp internal-sftp`, or name the program there with sftp_server in restore.toml",
        );
    }
    if has("Bad configuration option")
        || has("Can't open user config file")
        || has("Bad owner or permissions on")
    {
        return error(
            ErrorKind::Config,
            "ssh.config",
            format!("ssh does not take its configuration{}", reason(said)),
            "correct the file that restore.toml names for it, or ~/.ssh/config",
        );
    }
    // Cut before the first answer: the same as later.
    lost(host, said)
}

/// The reason of an error: the connection ended in the middle of the work.
#[derive(Debug, PartialEq)]
pub(super) struct ConnectionLost;

/// The connection ended in the middle of the work.
pub(crate) fn lost(host: &str, said: &str) -> Error {
    Error::new(
        ErrorKind::Failed,
        "ssh.connection_lost",
        format!("the connection to {host} was lost{}", reason(said)),
    )
    .because(ConnectionLost)
    .hint("try again; `ssh -v` to it as this user says more")
    .retryable()
}

/// The last line of it, in brackets.
fn reason(said: &str) -> String {
    said.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !line.starts_with('@'))
        .map_or_else(String::new, |line| format!(" ({line})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_own_code() {
        for (said, code) in [
            (
                "No ED25519 host key is known for h and you have requested strict checking.\r\nHost key verification failed.\r\n",
                "ssh.host_key_unknown",
            ),
            (
                "@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n@@@\nHost key verification failed.\n",
                "ssh.host_key_changed",
            ),
            ("u@h: Permission denied (publickey).\n", "ssh.login_refused"),
            (
                "ssh: connect to host h port 1: Connection refused\n",
                "ssh.unreachable",
            ),
            (
                "ssh: Could not resolve hostname h: Name or service not known\n",
                "ssh.unknown_host",
            ),
            ("subsystem request failed on channel 0\n", "ssh.no_sftp"),
            ("", "ssh.connection_lost"),
            (
                "Connection closed by 1.2.3.4 port 22\n",
                "ssh.connection_lost",
            ),
        ] {
            let error = refusal("h", said);
            assert_eq!(error.code(), code, "{said}");
            assert!(error.hint_text().is_some());
        }
        assert!(
            refusal("h", "u@h: Permission denied (publickey).\n")
                .to_string()
                .ends_with("(u@h: Permission denied (publickey).)")
        );
    }
}
