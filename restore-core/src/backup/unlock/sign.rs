//! Signing a manifest with a key of the operator's.

use secrecy::ExposeSecret;
use tokio::io::AsyncWriteExt;

use super::gpg::{gpg_with, spawn};
use super::{Unlock, status};
use crate::model::{Error, ErrorKind, Result};
use crate::sys::process::exec::code;

/// A detached signature of `manifest`, armoured; `None` where no key is named to sign with.
pub(crate) async fn sign(unlock: &Unlock, manifest: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(key) = &unlock.sign_with else {
        return Ok(None);
    };
    let passphrase = unlock.passphrase.read()?;
    let mut command = gpg_with(unlock, passphrase.is_some());
    command.args(["--armor", "--local-user", key, "--detach-sign"]);
    let (mut child, span) = spawn(command)?;
    let stdin = child.stdin.take();
    let feeding = async {
        let Some(mut stdin) = stdin else { return };
        if let Some(passphrase) = &passphrase {
            let line = passphrase.expose_secret().lines().next();
            let _ = stdin.write_all(line.unwrap_or_default().as_bytes()).await;
            let _ = stdin.write_all(b"\n").await;
        }
        // Where it does not take all of it, it says why.
        let _ = stdin.write_all(manifest).await;
        let _ = stdin.shutdown().await;
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feeding);
    let output = output.map_err(|e| Error::io("wait for gpg", e))?;
    span.ended(code(output.status));
    let said = String::from_utf8_lossy(&output.stderr);
    let (lines, words) = status::split(&said);
    let made = lines.iter().any(|line| line.starts_with("SIG_CREATED"));
    if output.status.success() && made && !output.stdout.is_empty() {
        return Ok(Some(output.stdout));
    }
    let why = words.last().map_or("it does not say why", |line| line);
    Err(Error::new(
        ErrorKind::Config,
        "signature.cannot_sign",
        format!("cannot sign the manifest with the key {key}: {why}"),
    )
    .hint("is the secret key in the keyring of gnupg_home, and the passphrase in passphrase_file its own?"))
}
