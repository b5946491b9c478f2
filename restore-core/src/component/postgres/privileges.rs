//! What roles may do with tables: in the live database, and in the one that is to take its place.

use std::collections::{BTreeMap, BTreeSet};

use super::client::{Session, column};
use crate::error::Result;

/// How many tables are named.
const NAMED: usize = 3;

/// Table, role, privilege; superusers may do everything anyway. Owners are left out: what belongs
/// to another role now is that one's in the dump too.
const HELD: &str = "
SELECT n.nspname::text || '.' || c.relname::text,
       coalesce(r.rolname::text, 'PUBLIC'), a.privilege_type
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
     aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND a.grantee <> c.relowner
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT coalesce(r.rolsuper, false)";

const TABLES: &str = "
SELECT n.nspname::text || '.' || c.relname::text FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S')";

/// For each role that may do less with the tables of both databases: what it loses, in words.
pub(super) async fn lost(live: &Session, staged: &Session) -> Result<Vec<String>> {
    let there: BTreeSet<String> = staged
        .rows(TABLES, &[])
        .await?
        .iter()
        .map(|row| column(row, 0))
        .collect::<Result<_>>()?;
    let (before, after) = (held(live).await?, held(staged).await?);
    let mut losers: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for (table, role, privilege) in before.difference(&after) {
        if there.contains(table) {
            let tables = losers.entry((role.clone(), privilege.clone())).or_default();
            tables.push(table.clone());
        }
    }
    Ok(losers
        .into_iter()
        .map(|((role, privilege), tables)| {
            let more = match tables.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let named: Vec<&str> = tables.iter().take(NAMED).map(String::as_str).collect();
            format!(
                "{role} has {privilege} on {}{more} now, and will not have it in the restored database",
                named.join(", ")
            )
        })
        .collect())
}

async fn held(session: &Session) -> Result<BTreeSet<(String, String, String)>> {
    let rows = session.rows(HELD, &[]).await?;
    rows.iter()
        .map(|row| Ok((column(row, 0)?, column(row, 1)?, column(row, 2)?)))
        .collect()
}
