//! A program of this host, put into a container that was made and not started.

use std::path::Path;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::Request;
use hyper::body::Frame;
use hyper::header::CONTENT_TYPE;
use tokio::io::AsyncReadExt;

use super::engine::Engine;
use super::json::encoded;
use crate::model::{Error, ErrorKind, Result};

/// How much is read at once.
const PIECE: usize = 256 * 1024;

/// Archives are made of these.
const BLOCK: u64 = 512;

/// More of a refusal is not read.
const LARGEST: usize = 64 * 1024;

/// Puts the file `program` into a directory of the container, an absolute path, under this name.
pub(crate) async fn program(
    engine: &Engine,
    container: &str,
    program: &Path,
    (directory, name): (&str, &str),
) -> Result<()> {
    let what = format!("put {} into a container", program.display());
    let unread = |e| Error::io(format!("read {}", program.display()), e);
    let file = tokio::fs::File::open(program).await.map_err(unread)?;
    let size = file.metadata().await.map_err(unread)?.len();
    let head = header(name, size).map_err(|e| Error::io(&what, e))?;
    // The rest of the last block, and the two that end an archive.
    let rest = (BLOCK - size % BLOCK) % BLOCK + 2 * BLOCK;
    let rest = vec![0; usize::try_from(rest).unwrap_or_default()];
    let content = stream::unfold(file.take(size), |mut file| async move {
        let mut piece = vec![0; PIECE];
        match file.read(&mut piece).await {
            Ok(0) => None,
            Ok(read) => {
                piece.truncate(read);
                Some((Ok(Bytes::from(piece)), file))
            }
            Err(error) => Some((Err(error), file)),
        }
    });
    let frames = {
        use stream::StreamExt;
        let once = |bytes: Vec<u8>| stream::iter([Ok::<_, std::io::Error>(Bytes::from(bytes))]);
        let all = once(head).chain(content).chain(once(rest));
        Box::pin(all.map(|piece| piece.map(Frame::data)))
    };
    let request = Request::put(format!(
        "http://engine/containers/{container}/archive?path={}",
        encoded(directory)
    ))
    .header(CONTENT_TYPE, "application/x-tar")
    .body(StreamBody::new(frames))
    .map_err(|e| engine.refused(&what, e.into()))?;
    let response = engine
        .send(request)
        .await
        .map_err(|e| engine.refused(&what, e))?;
    let status = response.status();
    let said = http_body_util::Limited::new(response.into_body(), LARGEST)
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    if status.is_success() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Failed,
        "swarm.engine",
        format!(
            "cannot {what}: the engine says: {}",
            String::from_utf8_lossy(&said).trim()
        ),
    ))
}

fn header(name: &str, size: u64) -> std::io::Result<Vec<u8>> {
    let mut header = tokio_tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tokio_tar::EntryType::Regular);
    header.set_cksum();
    Ok(header.as_bytes().to_vec())
}
