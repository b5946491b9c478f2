//! A backup that is one packed file, encrypted or not: read once, unlocked and unpacked as it
//! comes. Nothing of it is on the disk but what it holds.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::place::PartialBackup;
use super::pump::{FetchSource, RetryPolicy, pump};
use super::transfer::{Transferred, blocking, changed, no_room};
use super::{FetchOptions, OpenDirectory};
use crate::archive::{Damaged, Source, UnpackPolicy, unpack_from};
use crate::backup::unlock::{ChannelReader, Decryption, Unlock, check_signature};
use crate::backup::verify::VerifyOptions;
use crate::contract::{Backup, BackupStore, PackedBackup, StoreReason};
use crate::model::{Error, Finding, Progress, Result};

/// Pieces between two stages.
const DEPTH: usize = 8;

/// Unpacks a backup into the directory `root`. A connection that is lost is made again and the
/// stream gone on with; whatever else ends it, the next fetch begins anew: half an archive is
/// nothing to go on with.
pub(crate) async fn unpack_backup(
    store: &Arc<dyn BackupStore>,
    packed: &PackedBackup,
    unlock: &Unlock,
    options: &FetchOptions,
    root: PathBuf,
    open_directory: OpenDirectory,
) -> Result<Transferred> {
    let cancel = options.cancel.child_token();
    let _stop = cancel.clone().drop_guard();
    let id = packed.id.clone();
    let place = {
        let id = id.clone();
        blocking(move || {
            let place = PartialBackup::open(&root, &id)?;
            place.empty()?;
            Ok(Arc::new(place))
        })
        .await?
    };
    let free = place.free()?;
    if packed.size > free {
        return Err(no_room(&id, &place, packed.size, free));
    }
    let progress = Progress::new(
        options.events.clone(),
        format!("backup {id}"),
        "fetch",
        Some(packed.size),
    );
    let (send, receive) = tokio::sync::mpsc::channel(DEPTH);
    let (decryption, reader) = if packed.encrypted {
        let (plain, reader) = tokio::sync::mpsc::channel(DEPTH);
        let decryption = Decryption::start(unlock, &packed.name, receive, plain)?;
        (Some(decryption), ChannelReader::new(reader))
    } else {
        (None, ChannelReader::new(receive))
    };
    let patience = RetryPolicy {
        tries: options.tries,
        events: options.events.as_ref(),
        cancel: &cancel,
    };
    let origin = FetchSource::Packed(packed);
    let pumping = pump(store.as_ref(), origin, 0, send, &patience);
    let unlocking = async {
        match decryption {
            Some(decryption) => decryption.finish().await,
            None => Ok(()),
        }
    };
    let folder = place.folder();
    let policy = UnpackPolicy {
        prefix: id.as_str().to_owned(),
        chown: Some((
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        )),
        ..UnpackPolicy::default()
    };
    let source = Source::new(&packed.name, &packed.name, None, None).cancelled_by(cancel.clone());
    let unpacking = unpack_from(reader, source, &folder, &policy, progress.part());
    let ((received, pumped), unlocked, unpacked) = tokio::join!(pumping, unlocking, unpacking);
    // Of what went wrong, what the others follow from: a stream that ends too early is a
    // damaged archive to whoever reads it.
    if let Err(error) = &unpacked
        && !error.is(&Damaged)
    {
        return Err(unpacked.err().unwrap_or_else(Error::interrupted));
    }
    if let Err(error) = pumped {
        return Err(match error.is(&StoreReason::Changed) {
            true => changed(&store.describe(), &packed.name),
            false => error,
        });
    }
    if !store.packed().await?.contains(packed) {
        return Err(changed(&store.describe(), &packed.name));
    }
    unlocked?;
    let unpacked = unpacked?;
    progress.finish();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))
        .map_err(|e| Error::io(format!("close {} to others", folder.display()), e))?;
    let here = Backup::open(open_directory(place.work().to_owned()), id).await?;
    check_signature(&here, unlock).await?;
    let verification = here
        .verify(VerifyOptions::default(), options.events.clone(), cancel)
        .await?
        .into_result()?;
    let mut findings = verification.findings();
    if unpacked.left_out > 0 {
        let message = format!(
            "{} members of it are outside of the backup's folder and were left out",
            unpacked.left_out
        );
        findings.push(Finding::warning(
            "fetch.left_out",
            packed.name.clone(),
            message,
        ));
    }
    let path = blocking(move || place.finish()).await?;
    Ok(Transferred {
        path,
        generation: verification.generation,
        verdict: verification.verdict(),
        findings,
        files: here.files().len() as u64,
        bytes: unpacked.bytes,
        received,
        kept: 0,
    })
}
