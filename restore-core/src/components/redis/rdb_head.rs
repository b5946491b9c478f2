//! The beginning of an RDB in a backup.

use tokio::io::AsyncReadExt;

use super::data::{Chosen, Kind};
use crate::contract::RunContext;
use crate::model::{Error, Result};

/// The first bytes of the artifact, at most so many; `None` where it is no RDB.
pub(super) async fn of(cx: &RunContext, chosen: &Chosen, most: u64) -> Result<Option<Vec<u8>>> {
    if !matches!(chosen.kind, Kind::Rdb) {
        return Ok(None);
    }
    let backup = cx.backup();
    let reader = backup.store().read(backup.id(), &chosen.path, 0).await?;
    let mut bytes = Vec::new();
    reader
        .take(most)
        .read_to_end(&mut bytes)
        .await
        .map_err(|e| Error::io(format!("read {}", chosen.path), e))?;
    Ok(Some(bytes))
}
