//! The remote side of one file: its bytes, across connections that are lost.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc::Sender;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

use crate::contract::{BackupStore, PackedBackup, StoredFile};
use crate::model::{BackupId, Error, Event, EventSink, Finding, Result, read_error};

/// Bytes handed on at once.
const CHUNK: usize = 256 * 1024;

/// What is read.
#[derive(Clone, Copy)]
pub(super) enum FetchSource<'a> {
    File(&'a BackupId, &'a StoredFile),
    Packed(&'a PackedBackup),
}

impl<'a> FetchSource<'a> {
    fn name(self) -> &'a str {
        match self {
            Self::File(_, stored) => &stored.file.path,
            Self::Packed(packed) => &packed.name,
        }
    }

    fn size(self) -> u64 {
        match self {
            Self::File(_, stored) => stored.file.size,
            Self::Packed(packed) => packed.size,
        }
    }
}

/// How to go on when a connection is lost.
pub(super) struct RetryPolicy<'a> {
    pub(super) tries: u32,
    pub(super) events: &'a dyn EventSink,
    pub(super) cancel: &'a CancellationToken,
}

/// Sends the file's bytes from `offset` on into `to`; ends with what went wrong, or with the
/// number of bytes sent. Ends early where nobody takes them, who then knows why.
pub(super) async fn pump(
    store: &dyn BackupStore,
    origin: FetchSource<'_>,
    offset: u64,
    to: Sender<Bytes>,
    patience: &RetryPolicy<'_>,
) -> (u64, Result<()>) {
    let mut sent = 0;
    let mut futile = 0;
    loop {
        let before = sent;
        let work = attempt(store, origin, offset, &to, &mut sent);
        let done = tokio::select! {
            done = work => done,
            () = patience.cancel.cancelled() => Err(Error::interrupted()),
        };
        let error = match done {
            Err(error) if error.is_retryable() => error,
            done => return (sent, done),
        };
        futile = if sent > before { 1 } else { futile + 1 };
        if futile > patience.tries {
            let error = error.hint("fetch again: it goes on where it stopped");
            return (sent, Err(error));
        }
        let message = format!("{error}; going on at byte {}", offset + sent);
        patience.events.emit(&Event::Finding {
            finding: Finding::info("fetch.again", origin.name(), message),
        });
        let wait = Duration::from_secs(15.min(1 << (futile - 1).min(4)));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = patience.cancel.cancelled() => return (sent, Err(Error::interrupted())),
        }
    }
}

/// One connection's worth.
async fn attempt(
    store: &dyn BackupStore,
    origin: FetchSource<'_>,
    offset: u64,
    to: &Sender<Bytes>,
    sent: &mut u64,
) -> Result<()> {
    let (path, size) = (origin.name(), origin.size());
    let reader = match origin {
        FetchSource::File(id, stored) => store.read_stored(id, stored, offset + *sent).await?,
        FetchSource::Packed(packed) => store.read_packed(packed, offset + *sent).await?,
    };
    let mut pieces = ReaderStream::with_capacity(reader, CHUNK);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|e| read_error(path, e))?;
        let length = piece.len() as u64;
        if to.send(piece).await.is_err() {
            return Ok(());
        }
        *sent += length;
        if offset + *sent > size {
            // It grows while it is read; how far is of no interest.
            return Ok(());
        }
    }
    Ok(())
}
