//! Single artifacts that are encrypted, unlocked after they came and were verified as they are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt;
use sha2::{Digest as _, Sha256};
use tokio_util::io::ReaderStream;

use super::place::Place;
use super::transfer::blocking;
use crate::archive::Digest;
use crate::backup::unlock::{ChannelReader, Decryption, Unlock};
use crate::contract::{Backup, Manifest, ManifestEntry, ManifestSize};
use crate::model::{Error, Result};
use crate::sys::private;

/// What the manifest that the backup came with is called beside the one of the unlocked files.
const ORIGINAL: &str = "MANIFEST.original.txt";

/// Decrypts every locked artifact of the backup in `place`, and writes a manifest of what is
/// there then. Killed in it, what is missing is fetched again.
pub(super) async fn unlock_artifacts(
    place: &Arc<Place>,
    here: &Backup,
    unlock: &Unlock,
) -> Result<()> {
    let mut plain: BTreeMap<String, (u64, Digest)> = BTreeMap::new();
    for locked in here.locked() {
        let (from, to) = (place.path(&locked)?, place.path(unlocked(&locked))?);
        plain.insert(locked.clone(), decrypt(unlock, &locked, &from, to).await?);
    }
    let (place, here) = (place.clone(), here.clone());
    blocking(move || rewrite(&place, &here, &plain)).await
}

/// The name of an artifact without its `.gpg`.
pub(crate) fn unlocked(path: &str) -> &str {
    path.strip_suffix(".gpg").unwrap_or(path)
}

async fn decrypt(unlock: &Unlock, label: &str, from: &Path, to: PathBuf) -> Result<(u64, Digest)> {
    let file = tokio::fs::File::open(from)
        .await
        .map_err(|e| Error::io(format!("read {}", from.display()), e))?;
    let (send, receive) = tokio::sync::mpsc::channel(8);
    let (plain, reader) = tokio::sync::mpsc::channel(8);
    let decryption = Decryption::start(unlock, label, receive, plain)?;
    let feeding = async move {
        let mut pieces = ReaderStream::with_capacity(file, 256 * 1024);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|e| Error::io(format!("read {label}"), e))?;
            if send.send(piece).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let writing = blocking(move || write(ChannelReader::new(reader), &to));
    let (fed, finished, written) = tokio::join!(feeding, decryption.finish(), writing);
    let written = written?;
    fed.and(finished)?;
    Ok(written)
}

fn write(mut from: ChannelReader, to: &Path) -> Result<(u64, Digest)> {
    let failed = |e| Error::io(format!("write {}", to.display()), e);
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(to)
        .map_err(failed)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = from.read(&mut buffer).map_err(failed)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else {
            break;
        };
        file.write_all(part).map_err(failed)?;
        hash.update(part);
        bytes += part.len() as u64;
    }
    file.sync_all().map_err(failed)?;
    Ok((bytes, Digest(hash.finalize().into())))
}

fn rewrite(place: &Place, here: &Backup, plain: &BTreeMap<String, (u64, Digest)>) -> Result<()> {
    let moved = |from: &str, to: &str| {
        let (from, to) = (place.path(from)?, place.path(to)?);
        std::fs::rename(&from, &to).map_err(|e| Error::io(format!("rename {}", from.display()), e))
    };
    for locked in plain.keys() {
        let path = place.path(locked)?;
        std::fs::remove_file(&path)
            .map_err(|e| Error::io(format!("remove {}", path.display()), e))?;
    }
    let Some(manifest) = here
        .manifest()
        .filter(|manifest| !manifest.entries.is_empty())
    else {
        return Ok(());
    };
    let mut manifest = manifest.clone();
    for entry in &mut manifest.entries {
        if let Some((size, digest)) = plain.get(&entry.path) {
            entry.path = unlocked(&entry.path).to_owned();
            entry.size = ManifestSize::Bytes(*size);
            entry.sha256 = *digest;
        } else if let Some(file) = here.file(&entry.path) {
            entry.size = ManifestSize::Bytes(file.size);
        }
    }
    let mut keep = vec![(Manifest::FILE_NAME, ORIGINAL.to_owned())];
    for name in Manifest::SIGNATURES {
        if here.file(name).is_some() {
            // It fits the original, and nothing else.
            keep.push((name, name.replace(Manifest::FILE_NAME, ORIGINAL)));
        }
    }
    for (name, kept) in keep {
        moved(name, &kept)?;
        let path = place.path(&kept)?;
        let content =
            std::fs::read(&path).map_err(|e| Error::io(format!("read {}", path.display()), e))?;
        manifest.entries.push(ManifestEntry {
            path: kept,
            size: ManifestSize::Bytes(content.len() as u64),
            sha256: Digest(Sha256::digest(&content).into()),
        });
    }
    let path = place.path(Manifest::FILE_NAME)?;
    private::write(&path, manifest.to_text()?)
        .map_err(|e| Error::io(format!("write {}", path.display()), e))
}
