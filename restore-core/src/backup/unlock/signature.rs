//! Whether the right one signed a manifest.

use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt;

use super::gpg::{gpg, spawn};
use super::{Unlock, status};
use crate::archive::Digest;
use crate::contract::{Backup, Manifest};
use crate::model::{Error, ErrorKind, Result, read_error};
use crate::sys::process::exec::code;

/// A signature with more is none.
const LARGEST: u64 = 1 << 20;

/// Checks the detached signature of the backup's manifest (`MANIFEST.txt.asc` or `.sig`) where
/// the store demands one of some keys; the fingerprint of the key that it is of.
pub(crate) async fn check_signature(backup: &Backup, unlock: &Unlock) -> Result<Option<String>> {
    let id = backup.id();
    let refused = |code, what: String, hint: &str| {
        Err(Error::new(
            ErrorKind::Verification,
            code,
            format!("backup {id}: {what}"),
        )
        .hint(hint))
    };
    if unlock.signed_by.is_empty() {
        return match unlock.require_signature {
            false => Ok(None),
            true => refused(
                "signature.required",
                "its store requires a signature, and names no key whose signature counts"
                    .to_owned(),
                "name the fingerprints of your keys as signed_by of the store",
            ),
        };
    }
    let names = Manifest::SIGNATURES;
    let Some(name) = names.into_iter().find(|name| backup.file(name).is_some()) else {
        return refused(
            "signature.missing",
            format!(
                "its manifest is not signed, and the store demands it: there is no {}",
                names.join(" and no ")
            ),
            "choose another backup; who made this one is not known",
        );
    };
    let manifest = read(backup, Manifest::FILE_NAME, Manifest::MAX_BYTES).await?;
    // What was parsed is what must be signed: a store may show another file each time.
    if backup.manifest_digest() != Some(Digest(Sha256::digest(&manifest).into())) {
        return refused(
            "signature.changed",
            format!("its {} was changed while it was read", Manifest::FILE_NAME),
            "see what writes to the backup; once nothing does, start again",
        );
    }
    let signature = read(backup, name, LARGEST).await?;
    let said = verify(unlock, &manifest, &signature).await?;
    let (lines, words) = status::split(&said);
    let fields = |keyword: &str| {
        lines.iter().find_map(|line| {
            let (first, rest) = line.split_once(' ')?;
            (first == keyword).then(|| rest.split(' ').collect::<Vec<_>>())
        })
    };
    if fields("BADSIG").is_some() {
        return refused(
            "signature.bad",
            format!("{name} does not fit its manifest: one of them was changed"),
            "choose another backup; do not restore this one before you know why",
        );
    }
    if let Some(key) = fields("NO_PUBKEY") {
        return refused(
            "signature.unknown_key",
            format!(
                "{name} was made with the key {}, which is not in the keyring",
                key.join(" ")
            ),
            "if it should be, import it; else choose another backup",
        );
    }
    for (keyword, what) in [
        ("EXPKEYSIG", "a key that is expired"),
        ("REVKEYSIG", "a key that is revoked"),
        ("EXPSIG", "a signature that is expired"),
    ] {
        if fields(keyword).is_some() {
            return refused(
                "signature.bad",
                format!("{name} is of {what}"),
                "choose another backup, or a key that is good",
            );
        }
    }
    // The fingerprint of the key that signed, and last that of the primary key it belongs to.
    let Some(valid) = fields("VALIDSIG").filter(|_| fields("GOODSIG").is_some()) else {
        return refused(
            "signature.bad",
            format!(
                "{name} is no good signature{}",
                words
                    .last()
                    .map_or_else(String::new, |line| format!(" ({line})"))
            ),
            "choose another backup; do not restore this one before you know why",
        );
    };
    let signers = [valid.first(), valid.last()];
    let is_signer = |wanted: &String| {
        let wanted: String = wanted.chars().filter(|c| !c.is_whitespace()).collect();
        signers
            .iter()
            .flatten()
            .any(|found| found.eq_ignore_ascii_case(&wanted))
    };
    if unlock.signed_by.iter().any(is_signer) {
        let said_id = backup
            .manifest()
            .and_then(|manifest| manifest.value("Backup ID"));
        if said_id != Some(id.as_str()) {
            return refused(
                "signature.other_backup",
                match said_id {
                    Some(other) => format!("its manifest is signed, but as that of backup {other}"),
                    None => "its manifest is signed, but does not say of which backup".to_owned(),
                },
                "an older backup may have been put in its place: choose another one",
            );
        }
        return Ok(valid.last().map(|key| (*key).to_owned()));
    }
    refused(
        "signature.other_key",
        format!(
            "its manifest is signed by the key {}, which the store does not name",
            valid.last().copied().unwrap_or("?")
        ),
        "if that key is right, add its fingerprint to the store's signed_by",
    )
}

async fn read(backup: &Backup, path: &str, most: u64) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    backup
        .store()
        .read(backup.id(), path, 0)
        .await?
        .take(most)
        .read_to_end(&mut content)
        .await
        .map_err(|e| read_error(path, e))?;
    Ok(content)
}

/// What `gpg` says of it on its status lines.
async fn verify(unlock: &Unlock, manifest: &[u8], signature: &[u8]) -> Result<String> {
    use tokio::io::AsyncWriteExt;
    // `gpg` wants one of the two in a file, and that is the smaller one.
    let file = tempfile(signature)?;
    let mut command = gpg(unlock);
    command
        .args(["--status-fd", "1", "--verify", "--"])
        .arg(file.path())
        .arg("-");
    let (mut child, span) = spawn(command)?;
    let stdin = child.stdin.take();
    let feeding = async {
        if let Some(mut stdin) = stdin {
            // Where it does not take all of it, it says why.
            let _ = stdin.write_all(manifest).await;
            let _ = stdin.shutdown().await;
        }
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feeding);
    let output = output.map_err(|e| Error::io("wait for gpg", e))?;
    span.ended(code(output.status));
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push('\n');
    // Lines for people must not pass for status lines.
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        said.push_str(&format!("{}\n", line.trim_start_matches('[')));
    }
    Ok(said)
}

/// A file of our own that is gone when dropped.
struct Temporary(std::path::PathBuf);

impl Temporary {
    fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn tempfile(content: &[u8]) -> Result<Temporary> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let name = format!("restore-signature-{}", crate::model::RunId::generate());
    let path = std::env::temp_dir().join(name);
    let failed = |e| Error::io(format!("write {}", path.display()), e);
    let mut file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    let made = Temporary(path.clone());
    file.write_all(content).map_err(failed)?;
    Ok(made)
}
