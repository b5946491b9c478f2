//! Restores the newest backup: `smallest [restore.toml]`.
//!
//! The program of the README. Nothing is printed on the way; see `events` for that. A run that
//! fails is an error, and the platform is as it was.

use std::path::Path;

use restore_core::{PlanRequest, RunOptions, Site};

async fn bring_back(config: &Path) -> restore_core::Result<()> {
    let site = Site::open(config).await?;
    let backup = site.backup("latest").await?;
    let plan = site
        .plan(&backup, PlanRequest::all(), &RunOptions::new())
        .await?;
    let report = site.run(plan, RunOptions::new()).await?;
    println!("{}", report.headline());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = std::env::args().nth(1);
    let config = config.unwrap_or_else(|| "restore.toml".to_owned());
    Ok(bring_back(Path::new(&config)).await?)
}
