//! Restores the newest backup and tells of it on a status page and in a chat:
//! `announce [restore.toml] [status.html] [http://chat:8080/webhook]`.

use restore_core::Site;
use restore_examples::Announce;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let config = args.next().unwrap_or_else(|| "restore.toml".to_owned());
    let page = args.next().unwrap_or_else(|| "status.html".to_owned());
    let (announce, told) = Announce::new(page, args.next());

    let site = Site::open(config).await?;
    let stop = restore_core::stop_on_signals()?;
    let planned = site.plan("latest").sink(announce).cancelled_by(stop);
    let ended = planned.run().await;
    // The last sink went with the run: what is left to tell is told.
    told.await??;
    ended?;
    Ok(())
}
