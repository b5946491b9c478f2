//! Restores the newest backup and tells of it on a status page and in a chat:
//! `announce [restore.toml] [status.html] [http://chat:8080/webhook]`.

use std::path::Path;
use std::sync::Arc;

use restore_core::{PlanRequest, RunOptions, Site};
use restore_examples::Announce;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let config = args.next().unwrap_or_else(|| "restore.toml".to_owned());
    let page = args.next().unwrap_or_else(|| "status.html".to_owned());
    let (announce, told) = Announce::new(page, args.next());

    let options = RunOptions::new().events(Arc::new(announce));
    let site = Site::open(Path::new(&config)).await?;
    let backup = site.backup("latest").await?;
    let plan = site
        .plan(&backup, PlanRequest::all(), &RunOptions::new())
        .await?;
    let ended = site.run(plan, options).await;
    // The last sink went with the options: what is left to tell is told.
    told.await??;
    ended?;
    Ok(())
}
