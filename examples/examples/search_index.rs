//! Restores a site that has a component of its own: `search_index [restore.toml]`.
//!
//! The component is in `examples/src/search_index.rs`; `restore.toml` has a
//! `[components.NAME]` with `kind = "search-index"` and `file = "…"`.

use std::sync::Arc;

use restore_core::Site;
use restore_core::component::Registry;
use restore_examples::SearchIndex;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = std::env::args().nth(1);
    let config = config.unwrap_or_else(|| "restore.toml".to_owned());
    // The library's kinds, and one more.
    let registry = Registry::default().with(SearchIndex::KIND, Arc::new(SearchIndex::from_table));
    let site = Site::open_with(config, &registry)?;
    let stop = restore_core::stop_on_signals()?;
    let report = site.plan("latest").cancelled_by(stop).run().await?;
    println!("{}", report.to_text());
    Ok(())
}
