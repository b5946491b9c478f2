//! Restores from a store of one's own: `own_store restore.toml ROOT`.
//!
//! The store is in `examples/src/filed_by_year.rs`: backups in `ROOT/YEAR/ID`.

use std::path::Path;
use std::sync::Arc;

use restore_core::{PlanRequest, RunOptions, Site};
use restore_examples::FiledByYear;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [config, root] = &args[..] else {
        return Err("usage: own_store restore.toml ROOT".into());
    };
    let site = Site::open(Path::new(config))
        .await?
        .with_store("years", Arc::new(FiledByYear::new(root)));
    let backup = site.backup("latest").await?;
    println!("{} from {}", backup.id(), backup.store().describe());
    let plan = site
        .plan(&backup, PlanRequest::all(), &RunOptions::new())
        .await?;
    let report = site.run(plan, RunOptions::new()).await?;
    println!("{}", report.headline());
    Ok(())
}
