//! `gpg --decrypt` between two channels.

use std::io;
use std::process::Stdio;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::task::JoinHandle;

use super::framing::{Framing, Seen};
use super::{Unlock, status};
use crate::model::{Error, ErrorKind, Result};
use crate::sys::child;
use crate::sys::process::exec::code;
use crate::sys::spans::ProgramSpan;

/// Bytes of plain text handed on at once.
const CHUNK: usize = 256 * 1024;

/// What is kept of what `gpg` says: all that matters is short.
const SAID: u64 = 64 * 1024;

/// A decryption under way. Dropped, it ends.
pub(crate) struct Decryption {
    label: String,
    child: Child,
    feeding: JoinHandle<Seen>,
    draining: JoinHandle<()>,
    listening: JoinHandle<String>,
    span: ProgramSpan,
}

impl Decryption {
    /// Starts decrypting what comes from `from`, called `label` in messages, into `to`.
    pub(crate) fn start(
        unlock: &Unlock,
        label: &str,
        from: Receiver<Bytes>,
        to: Sender<Bytes>,
    ) -> Result<Self> {
        let passphrase = unlock.passphrase.read()?;
        let mut command = gpg_with(unlock, passphrase.is_some());
        command.arg("--decrypt");
        let (mut child, span) = spawn(command)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(mut stdout), Some(stderr)) = pipes else {
            return Err(Error::new(
                ErrorKind::Internal,
                "unlock.pipes",
                "gpg was started without its pipes",
            ));
        };
        let feeding = tokio::spawn(feed(stdin, passphrase, from));
        let draining = tokio::spawn(async move {
            let mut buffer = bytes::BytesMut::with_capacity(CHUNK);
            // Whether it ended well, the status says.
            while let Ok(1..) = stdout.read_buf(&mut buffer).await {
                let piece = buffer.split().freeze();
                if to.send(piece).await.is_err() {
                    return;
                }
                buffer.reserve(CHUNK);
            }
        });
        let listening = tokio::spawn(async move {
            let mut said = Vec::new();
            let mut stderr = stderr.take(SAID);
            let _ = stderr.read_to_end(&mut said).await;
            let _ = tokio::io::copy(&mut stderr.into_inner(), &mut tokio::io::sink()).await;
            String::from_utf8_lossy(&said).into_owned()
        });
        Ok(Self {
            label: label.to_owned(),
            child,
            feeding,
            draining,
            listening,
            span,
        })
    }

    /// Waits for its end: `Ok` only where all of the message was decrypted and is unchanged.
    pub(crate) async fn finish(mut self) -> Result<()> {
        let status = self
            .child
            .wait()
            .await
            .map_err(|e| Error::io("wait for gpg", e))?;
        self.span.ended(code(status));
        let _ = self.draining.await;
        let said = self.listening.await.unwrap_or_default();
        let seen = self.feeding.await.unwrap_or_default();
        status::verdict(&self.label, &said, status.success(), seen)
    }
}

/// Passphrase and message; tells what the message's packets say.
async fn feed(
    mut to: ChildStdin,
    passphrase: Option<SecretString>,
    mut from: Receiver<Bytes>,
) -> Seen {
    if let Some(passphrase) = passphrase {
        let line = passphrase
            .expose_secret()
            .lines()
            .next()
            .unwrap_or_default();
        let sent = async {
            to.write_all(line.as_bytes()).await?;
            to.write_all(b"\n").await
        };
        if sent.await.is_err() {
            return Seen::default();
        }
    }
    let mut framing = Framing::new();
    while let Some(piece) = from.recv().await {
        framing.take(&piece);
        // It stops reading where it will not go on; then its own words say why.
        if to.write_all(&piece).await.is_err() {
            return framing.seen(false);
        }
    }
    let _ = to.shutdown().await;
    framing.seen(true)
}

/// `gpg` that never asks, with the operator's own configuration and keys.
pub(super) fn gpg(unlock: &Unlock) -> Command {
    let mut command = child::tokio_command("gpg");
    if let Some(home) = &unlock.home {
        command.arg("--homedir").arg(home);
    }
    command.args(["--batch", "--no-tty", "--no-auto-key-retrieve"]);
    // Some of what is looked for is English.
    command.env("LC_ALL", "C");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// The same for work with a secret key, whose passphrase may be given; it says on stderr how it goes.
pub(super) fn gpg_with(unlock: &Unlock, passphrase: bool) -> Command {
    let mut command = gpg(unlock);
    command.args(["--status-fd", "2"]);
    match passphrase {
        // The first line is read from there, the message after it: no further pipe is needed,
        // which a child could only inherit together with all others.
        true => command.args(["--pinentry-mode", "loopback", "--passphrase-fd", "0"]),
        false => command.args(["--pinentry-mode", "error"]),
    };
    command
}

/// Starts it.
pub(super) fn spawn(mut command: Command) -> Result<(Child, ProgramSpan)> {
    let child = command.spawn().map_err(|e| {
        if e.kind() == io::ErrorKind::NotFound {
            return Error::new(
                ErrorKind::Config,
                "unlock.no_gpg",
                "cannot start gpg: it is not installed",
            )
            .hint("install the package gpg");
        }
        Error::io("start gpg", e)
    })?;
    let span = ProgramSpan::open("gpg", child.id());
    Ok((child, span))
}
