//! How many keys a backup has, and how many are live.

use async_trait::async_trait;

use super::Redis;
use super::inspect::facts;
use crate::contract::{Contents, RunContext};
use crate::model::{Difference, Error, ErrorKind, Result};

#[async_trait]
impl Contents for Redis {
    async fn compare(&self, cx: &RunContext, _most: usize) -> Result<Vec<Difference>> {
        let compared = async {
            let chosen = self.chosen(cx.backup())?;
            let described = cx.backup().described(&chosen.path).await?;
            let (live, _) = self.ask_server().await?;
            let mut difference = Difference::new("keys");
            difference.counted_only = true;
            let total =
                |facts: &serde_json::Map<String, serde_json::Value>| facts.get("total")?.as_u64();
            difference.backup = described.as_ref().and_then(total);
            difference.live = total(&facts(&live));
            if difference.backup.is_none() && difference.live.is_none() {
                return Err(Error::new(
                    ErrorKind::Preflight,
                    "redis.keys_unknown",
                    "the backup does not say how many keys it has, and the server does not answer",
                )
                .hint("`restore drill` loads the backup's data and counts it"));
            }
            Ok(vec![difference])
        };
        compared
            .await
            .map_err(|error: Error| error.in_component(&self.name))
    }
}
