//! Restores from a store of one's own: `own_store restore.toml ROOT`.
//!
//! The store is in `examples/src/filed_by_year.rs`: backups in `ROOT/YEAR/ID`.

use std::sync::Arc;

use restore_core::Site;
use restore_examples::FiledByYear;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [config, root] = &args[..] else {
        return Err("usage: own_store restore.toml ROOT".into());
    };
    let site = Site::open(config)
        .await?
        .with_store("years", Arc::new(FiledByYear::new(root)));
    let backup = site.backup("latest").await?;
    println!("{} from {}", backup.id(), backup.store().describe());
    let stop = restore_core::stop_on_signals()?;
    let report = site.plan(backup).cancelled_by(stop).run().await?;
    println!("{}", report.headline());
    Ok(())
}
