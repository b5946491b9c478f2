//! How many keys a backup has, and how many are live.

use async_trait::async_trait;

use super::inspect::facts;
use super::{Redis, rdb_keys};
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
            let live = facts(&live);
            difference.live = total(&live);
            // An RDB of others tells of its first database alone.
            let of_first = match difference.backup {
                Some(_) => None,
                None => rdb_keys::of(cx, &chosen).await?,
            };
            let of_first = of_first.map(|(database, keys)| {
                let mut difference = Difference::new(format!("keys of database {database}"));
                difference.counted_only = true;
                difference.backup = Some(keys);
                let counts = live.get("keys").and_then(|keys| keys.as_object());
                difference.live = counts.map(|counts| {
                    let count = counts.get(&database.to_string());
                    count.and_then(serde_json::Value::as_u64).unwrap_or(0)
                });
                difference
            });
            if difference.backup.is_none() && difference.live.is_none() && of_first.is_none() {
                return Err(Error::new(
                    ErrorKind::Preflight,
                    "redis.keys_unknown",
                    "the backup does not say how many keys it has, and the server does not answer",
                )
                .hint("`restore drill` loads the backup's data and counts it"));
            }
            Ok([difference].into_iter().chain(of_first).collect())
        };
        compared
            .await
            .map_err(|error: Error| error.in_component(&self.name))
    }
}
