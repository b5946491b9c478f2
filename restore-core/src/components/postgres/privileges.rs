//! What roles may do: in the live database, and in the one that is to take its place.

use std::collections::{BTreeMap, BTreeSet};

use super::client::{Session, column};
use crate::model::Result;

/// How many objects are named.
const NAMED: usize = 3;

/// Object, role, privilege; superusers may do everything anyway. Owners are left out: what belongs
/// to another role now is that one's in the dump too. What was never granted or revoked counts as PostgreSQL's defaults,
/// by which everybody may call a function.
const HELD: &str = "
WITH ours AS (
  SELECT oid, nspname, nspowner, nspacl FROM pg_namespace
  WHERE nspname <> 'information_schema' AND nspname !~ '^pg_'
), objects(object, owner, acl) AS (
  SELECT n.nspname::text || '.' || c.relname::text, c.relowner, c.relacl
    FROM pg_class c JOIN ours n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
  UNION ALL
  SELECT 'column ' || n.nspname::text || '.' || c.relname::text || '.' || a.attname::text,
         c.relowner, a.attacl
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN ours n ON n.oid = c.relnamespace
    WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attacl IS NOT NULL
  UNION ALL
  SELECT 'schema ' || n.nspname::text, n.nspowner, coalesce(n.nspacl, acldefault('n', n.nspowner))
    FROM ours n
  UNION ALL
  SELECT 'function ' || n.nspname::text || '.' || p.proname::text || '('
         || pg_get_function_identity_arguments(p.oid) || ')',
         p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
    FROM pg_proc p JOIN ours n ON n.oid = p.pronamespace
  UNION ALL
  SELECT 'type ' || n.nspname::text || '.' || t.typname::text,
         t.typowner, coalesce(t.typacl, acldefault('T', t.typowner))
    FROM pg_type t JOIN ours n ON n.oid = t.typnamespace WHERE t.typtype IN ('d', 'e', 'r')
  UNION ALL
  SELECT 'default privileges of ' || pg_get_userbyid(d.defaclrole)::text
         || coalesce(' in schema ' || n.nspname::text, '') || ' on '
         || CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences'
              WHEN 'f' THEN 'functions' WHEN 'T' THEN 'types' ELSE 'schemas' END,
         d.defaclrole, d.defaclacl
    FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
)
SELECT o.object, coalesce(r.rolname::text, 'PUBLIC'), a.privilege_type
FROM objects o, aclexplode(o.acl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
WHERE a.grantee <> o.owner AND NOT coalesce(r.rolsuper, false)";

/// The objects that may have such privileges; of default privileges there is always the lack.
const OBJECTS: &str = "
WITH ours AS (
  SELECT oid, nspname FROM pg_namespace
  WHERE nspname <> 'information_schema' AND nspname !~ '^pg_'
)
SELECT n.nspname::text || '.' || c.relname::text
  FROM pg_class c JOIN ours n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
UNION ALL
SELECT 'column ' || n.nspname::text || '.' || c.relname::text || '.' || a.attname::text
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN ours n ON n.oid = c.relnamespace
  WHERE a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT 'schema ' || n.nspname::text FROM ours n
UNION ALL
SELECT 'function ' || n.nspname::text || '.' || p.proname::text || '('
       || pg_get_function_identity_arguments(p.oid) || ')'
  FROM pg_proc p JOIN ours n ON n.oid = p.pronamespace
UNION ALL
SELECT 'type ' || n.nspname::text || '.' || t.typname::text
  FROM pg_type t JOIN ours n ON n.oid = t.typnamespace WHERE t.typtype IN ('d', 'e', 'r')";

type Held = BTreeSet<(String, String, String)>;

/// For each role that may do less, and each that may do more, with what both databases have: what it loses, and what it gains,
/// in words.
pub(super) async fn changed(
    live: &Session,
    staged: &Session,
) -> Result<(Vec<String>, Vec<String>)> {
    let before = (held(live).await?, objects(live).await?);
    let after = (held(staged).await?, objects(staged).await?);
    let both = |object: &str| {
        object.starts_with("default privileges ")
            || (before.1.contains(object) && after.1.contains(object))
    };
    let words = |from: &Held, without: &Held, text: fn(&str, &str, &str) -> String| {
        let mut roles: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for (object, role, privilege) in from.difference(without) {
            if both(object) {
                let objects = roles.entry((role.clone(), privilege.clone())).or_default();
                objects.push(object.clone());
            }
        }
        let told = roles.into_iter().map(|((role, privilege), objects)| {
            let more = match objects.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let named: Vec<&str> = objects.iter().take(NAMED).map(String::as_str).collect();
            text(&role, &privilege, &format!("{}{more}", named.join(", ")))
        });
        told.collect::<Vec<String>>()
    };
    let lost = words(&before.0, &after.0, |role, privilege, objects| {
        format!(
            "{role} has {privilege} on {objects} now, and will not have it in the restored database"
        )
    });
    let gained = words(&after.0, &before.0, |role, privilege, objects| {
        format!(
            "{role} will have {privilege} on {objects} in the restored database, and does not have it now"
        )
    });
    Ok((lost, gained))
}

async fn objects(session: &Session) -> Result<BTreeSet<String>> {
    let rows = session.rows(OBJECTS, &[]).await?;
    rows.iter().map(|row| column(row, 0)).collect()
}

async fn held(session: &Session) -> Result<Held> {
    let rows = session.rows(HELD, &[]).await?;
    rows.iter()
        .map(|row| Ok((column(row, 0)?, column(row, 1)?, column(row, 2)?)))
        .collect()
}
