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

use super::place::PartialBackup;
use super::transfer::blocking;
use crate::archive::{Digest, RoomWatch};
use crate::backup::unlock::{ChannelReader, Decryption, Unlock};
use crate::contract::{Backup, Manifest, ManifestEntry, ManifestSize};
use crate::model::text::bytes as shown_bytes;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::private;

/// What the manifest that the backup came with is called beside the one of the unlocked files.
pub(super) const ORIGINAL: &str = "MANIFEST.original.txt";

/// Decrypts every locked artifact of the backup in `place`, and writes a manifest of what is
/// there then. Killed in it, what is missing is fetched again.
pub(super) async fn unlock_artifacts(
    place: &Arc<PartialBackup>,
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
    let kept = to.clone();
    let file = tokio::fs::File::open(from)
        .await
        .map_err(|e| Error::io(format!("read {}", from.display()), e))?;
    let locked = file.metadata().await.map_or(0, |meta| meta.len());
    let most = locked.saturating_mul(TIMES).saturating_add(MARGIN);
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
    let name = label.to_owned();
    let writing = blocking(move || {
        let written = write(ChannelReader::new(reader), &to, (&name, most));
        // Half of it is nothing, and takes up room.
        written.inspect_err(|_| drop(std::fs::remove_file(&to)))
    });
    let (fed, finished, written) = tokio::join!(feeding, decryption.finish(), writing);
    let written = written?;
    // What was no message of whom we trust is not kept either.
    if let Err(error) = fed.and(finished) {
        let _ = tokio::fs::remove_file(&kept).await;
        return Err(error);
    }
    Ok(written)
}

/// So many times its own size an encrypted file may become, besides a gibibyte: dumps are packed before
/// they are encrypted, or while.
const TIMES: u64 = 64;
const MARGIN: u64 = 1 << 30;
/// Bytes after which the room is looked at again.
const LOOK: u64 = 16 << 20;

/// Writes what comes of `label`, at most `most` bytes. What anybody can write into the store
/// may be small and become very much, before anything tells whether it is a message at all.
fn write(mut from: ChannelReader, to: &Path, (label, most): (&str, u64)) -> Result<(u64, Digest)> {
    let failed = |e| Error::io(format!("write {}", to.display()), e);
    let room = to.parent().and_then(RoomWatch::of);
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
        if bytes > most {
            return Err(Error::new(
                ErrorKind::Verification,
                "fetch.too_large",
                format!(
                    "{label} becomes too large: more than {} have come of it",
                    shown_bytes(most)
                ),
            )
            .hint("if that is right, decrypt it by hand (gpg --decrypt) and restore that; else somebody has put another file in its place"));
        }
        if bytes % LOOK < part.len() as u64
            && let Some(room) = &room
        {
            room.look(label)?;
        }
    }
    file.sync_all().map_err(failed)?;
    Ok((bytes, Digest(hash.finalize().into())))
}

/// Writes a manifest of what is there once `plain` is, and deletes what is locked last: until then
/// nothing is lost, and a list of another form stays what it is.
fn rewrite(
    place: &PartialBackup,
    here: &Backup,
    plain: &BTreeMap<String, (u64, Digest)>,
) -> Result<()> {
    let listed = |it: &&Manifest| !it.entries.is_empty() || !it.without_hash.is_empty();
    if let Some(manifest) = here.manifest().filter(listed) {
        let kept = keep(place, here, manifest)?;
        let (manifest, sizes) = unlocked_manifest(here, manifest, plain, kept);
        let text = manifest.to_text_sized(|path| sizes.get(path).copied().unwrap_or(0))?;
        let path = place.path(Manifest::FILE_NAME)?;
        private::write(&path, text)
            .map_err(|e| Error::io(format!("write {}", path.display()), e))?;
    }
    for locked in plain.keys() {
        let path = place.path(locked)?;
        std::fs::remove_file(&path)
            .map_err(|e| Error::io(format!("remove {}", path.display()), e))?;
    }
    Ok(())
}

/// Keeps what the backup came with instead of a manifest of the unlocked files: a manifest and its
/// signatures under other names, lists of other forms under theirs. Returns them as entries.
fn keep(place: &PartialBackup, here: &Backup, manifest: &Manifest) -> Result<Vec<ManifestEntry>> {
    let mut kept = manifest.lists.clone();
    let names = std::iter::once(Manifest::FILE_NAME).chain(Manifest::SIGNATURES);
    for name in names.filter(|name| here.file(name).is_some()) {
        // A signature fits the original, and nothing else.
        let other = name.replace(Manifest::FILE_NAME, ORIGINAL);
        let (from, to) = (place.path(name)?, place.path(&other)?);
        std::fs::rename(&from, &to)
            .map_err(|e| Error::io(format!("rename {}", from.display()), e))?;
        kept.push(other);
    }
    let entry = |path: String| {
        let at = place.path(&path)?;
        let content =
            std::fs::read(&at).map_err(|e| Error::io(format!("read {}", at.display()), e))?;
        Ok(ManifestEntry {
            path,
            size: ManifestSize::Bytes(content.len() as u64),
            sha256: Digest(Sha256::digest(&content).into()),
        })
    };
    kept.into_iter().map(entry).collect()
}

/// The manifest of what is there then, and the sizes of all files. What was listed without a hash
/// stays so: nothing tells whether it is what was backed up.
fn unlocked_manifest(
    here: &Backup,
    manifest: &Manifest,
    plain: &BTreeMap<String, (u64, Digest)>,
    kept: Vec<ManifestEntry>,
) -> (Manifest, BTreeMap<String, u64>) {
    let mut manifest = manifest.clone();
    let files = here.files().iter();
    let mut sizes: BTreeMap<String, u64> = files.map(|it| (it.path.clone(), it.size)).collect();
    for (locked, (size, _)) in plain {
        sizes.insert(unlocked(locked).to_owned(), *size);
    }
    for entry in &mut manifest.entries {
        if let Some((size, digest)) = plain.get(&entry.path) {
            entry.path = unlocked(&entry.path).to_owned();
            entry.size = ManifestSize::Bytes(*size);
            entry.sha256 = *digest;
        } else if let Some(size) = sizes.get(&entry.path) {
            entry.size = ManifestSize::Bytes(*size);
        }
    }
    for path in &mut manifest.without_hash {
        if plain.contains_key(path) {
            *path = unlocked(path).to_owned();
        }
    }
    manifest.entries.extend(kept);
    manifest.lists.clear();
    (manifest, sizes)
}

#[cfg(test)]
mod tests {
    use super::super::place::compare;
    use super::*;
    use crate::contract::BackupStore;
    use crate::stores::directory::DirectoryStore;

    const ID: &str = "20240215-020000";

    fn sha(content: &str) -> Digest {
        Digest(Sha256::digest(content).into())
    }

    /// What a fetch brought with these files, whose locked ones are unlocked then as `plain`; the
    /// backup before and after.
    async fn unlocked_all(files: &[(&str, &str)]) -> (tempfile::TempDir, Backup, Backup) {
        let root = restore_testing::trees::temporary();
        let id: crate::model::BackupId = ID.parse().unwrap();
        let place = PartialBackup::open(root.path(), &id).unwrap();
        for (path, content) in files {
            std::fs::write(place.path(path).unwrap(), content).unwrap();
        }
        let store: Arc<dyn BackupStore> = Arc::new(DirectoryStore::new(place.work()));
        let before = Backup::open(store.clone(), id.clone()).await.unwrap();
        let mut plain = BTreeMap::new();
        for locked in before.locked() {
            std::fs::write(place.path(unlocked(&locked)).unwrap(), "plain").unwrap();
            plain.insert(locked, (5, sha("plain")));
        }
        rewrite(&place, &before, &plain).unwrap();
        let after = Backup::open(store, id).await.unwrap();
        (root, before, after)
    }

    async fn sound(backup: &Backup) {
        let verification = backup
            .verify(
                Default::default(),
                Arc::new(crate::model::NoEvents),
                Default::default(),
            )
            .await
            .unwrap();
        let errors: Vec<_> = verification.findings();
        assert!(
            errors.iter().all(|it| it.code == "verify.unverifiable"),
            "{errors:?}"
        );
    }

    #[tokio::test]
    async fn lists_of_other_forms_stay_and_know_what_was_unlocked() {
        let sums = format!("{}  a.dump.gpg\n{}  b.txt\n", sha("locked"), sha("b"));
        let beside = format!("{}\n", sha("locked"));
        let md5 = "d41d8cd98f00b204e9800998ecf8427e";
        let weak = format!("{md5}  a.dump.gpg\n{md5}  b.txt\n");
        let mixed = format!("a.dump.gpg|6|{md5}\nb.txt|1|{}\n", sha("b"));
        for (list, content, hashed) in [
            ("SHA256SUMS", sums.as_str(), true),
            ("a.dump.gpg.sha256", &beside, true),
            ("MD5SUMS", &weak, false),
            ("MANIFEST.txt", &mixed, false),
        ] {
            let mut files = vec![("a.dump.gpg", "locked"), (list, content)];
            if list != "a.dump.gpg.sha256" {
                files.push(("b.txt", "b"));
            }
            let (root, before, after) = unlocked_all(&files).await;
            assert!(after.locked().is_empty(), "{list}");
            let expected = hashed.then(|| sha("plain"));
            assert_eq!(after.expected_digest("a.dump"), expected, "{list}");
            sound(&after).await;
            compare(after.id(), after.files(), before.files(), false).unwrap();
            drop(root);
        }
    }

    #[test]
    fn what_becomes_far_too_large_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (send, receive) = tokio::sync::mpsc::channel(1);
        let feeding = std::thread::spawn(move || {
            let piece = bytes::Bytes::from(vec![0; 1 << 20]);
            let mut sent = 0_u64;
            while sent < 1 << 30 && send.blocking_send(piece.clone()).is_ok() {
                sent += piece.len() as u64;
            }
            sent
        });
        let to = dir.path().join("dump");
        let error = write(ChannelReader::new(receive), &to, ("dump.gpg", 4 << 20)).unwrap_err();
        assert_eq!(error.code(), "fetch.too_large", "{error}");
        assert!(feeding.join().unwrap() < 16 << 20);
    }
}
