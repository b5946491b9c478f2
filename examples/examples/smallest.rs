//! Restores the newest backup: `smallest [restore.toml]`.
//!
//! The program of the README. A run that fails is an error, and the platform is as it was. Ctrl-C and SIGTERM
//! stop the run, which then undoes itself.

use restore_core::{Site, stop_on_signals};

#[tokio::main]
async fn main() -> restore_core::Result<()> {
    let config = std::env::args().nth(1);
    let site = Site::open(config.unwrap_or_else(|| "restore.toml".to_owned())).await?;
    let run = site.plan("latest").cancelled_by(stop_on_signals()?).run();
    println!("{}", run.await?.headline());
    Ok(())
}
