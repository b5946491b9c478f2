//! Blocking work beside the async threads.

use crate::model::{Error, ErrorKind, Result};

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::new(
            ErrorKind::Internal,
            "local.task",
            format!("a task of the local platform broke off: {e}"),
        )),
    }
}
