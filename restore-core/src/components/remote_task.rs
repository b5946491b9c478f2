//! What components do beside volumes of other machines, at the end where the files are.

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::archive::Source;
use crate::contract::Steps;
use crate::model::{Error, ErrorKind, Result};
use crate::swap::LocalVolume;

/// What comes along with an order.
pub(crate) struct Attachments<'a> {
    /// A file of the backup.
    pub(crate) source: Option<Source>,
    pub(crate) steps: Steps<'a>,
    pub(crate) cancel: CancellationToken,
}

/// Does what a component of that kind, at work on another machine, asks for; see
/// [`Volume::dispatch`](crate::platform::Volume::dispatch).
pub(crate) async fn run(
    kind: &str,
    volume: &LocalVolume,
    order: Value,
    along: Attachments<'_>,
) -> Result<Value> {
    match kind {
        "redis" => super::redis::serve(volume, order, along).await,
        _ => Err(Error::new(
            ErrorKind::Internal,
            "agent.broken",
            format!("the program beside the volume knows no work of the kind {kind:?}"),
        )),
    }
}
