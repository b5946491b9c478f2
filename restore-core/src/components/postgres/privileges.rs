//! What roles may do and what there is besides rows: in the live database, and in the one that is to take
//! its place.

use std::collections::{BTreeMap, BTreeSet};

use super::client::{Session, column};
use crate::model::Result;

/// How many objects are named.
const NAMED: usize = 3;

/// By what a privilege ends that may be given on.
const GRANTABLE: &str = " WITH GRANT OPTION";

/// Object, role, privilege; superusers may do everything anyway, and what owners may is told by who they
/// are. What was never granted or revoked counts as PostgreSQL's defaults,
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
    FROM pg_type t JOIN ours n ON n.oid = t.typnamespace WHERE (t.typtype IN ('d', 'e', 'r') OR EXISTS (
    SELECT 1 FROM pg_class k WHERE k.oid = t.typrelid AND k.relkind = 'c'))
  UNION ALL
  SELECT 'foreign server ' || srvname::text, srvowner, srvacl FROM pg_foreign_server
  UNION ALL
  SELECT 'foreign data wrapper ' || fdwname::text, fdwowner, fdwacl FROM pg_foreign_data_wrapper
  UNION ALL
  SELECT 'language ' || lanname::text, lanowner, coalesce(lanacl, acldefault('l', lanowner))
    FROM pg_language WHERE lanpltrusted
  UNION ALL
  -- There may be millions: of so many it is told.
  SELECT 'large object ' || l.oid::text, l.lomowner, l.lomacl
    FROM (SELECT oid, lomowner, lomacl FROM pg_largeobject_metadata ORDER BY oid LIMIT 10000) l
  UNION ALL
  SELECT 'default privileges of ' || pg_get_userbyid(d.defaclrole)::text
         || coalesce(' in schema ' || n.nspname::text, '') || ' on '
         || CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences'
              WHEN 'f' THEN 'functions' WHEN 'T' THEN 'types' ELSE 'schemas' END,
         d.defaclrole, d.defaclacl
    FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
)
SELECT o.object, coalesce(r.rolname::text, 'PUBLIC'), p.privilege
FROM objects o, aclexplode(o.acl) a LEFT JOIN pg_roles r ON r.oid = a.grantee,
  LATERAL (SELECT a.privilege_type
           UNION ALL SELECT a.privilege_type || ' WITH GRANT OPTION' WHERE a.is_grantable) p(privilege)
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
  FROM pg_type t JOIN ours n ON n.oid = t.typnamespace WHERE (t.typtype IN ('d', 'e', 'r') OR EXISTS (
    SELECT 1 FROM pg_class k WHERE k.oid = t.typrelid AND k.relkind = 'c'))
UNION ALL SELECT 'foreign server ' || srvname::text FROM pg_foreign_server
UNION ALL SELECT 'foreign data wrapper ' || fdwname::text FROM pg_foreign_data_wrapper
UNION ALL SELECT 'language ' || lanname::text FROM pg_language WHERE lanpltrusted
UNION ALL
SELECT 'large object ' || l.oid::text
  FROM (SELECT oid FROM pg_largeobject_metadata ORDER BY oid LIMIT 10000) l";

/// Objects, and the role that owns each.
const OWNERS: &str = "
WITH ours AS (
  SELECT oid, nspname, nspowner FROM pg_namespace
  WHERE nspname <> 'information_schema' AND nspname !~ '^pg_'
)
SELECT n.nspname::text || '.' || c.relname::text, pg_get_userbyid(c.relowner)::text
  FROM pg_class c JOIN ours n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') OR (c.relkind = 'S' AND NOT EXISTS (
    SELECT 1 FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')))
UNION ALL SELECT 'schema ' || n.nspname::text, pg_get_userbyid(n.nspowner)::text FROM ours n
UNION ALL
SELECT 'function ' || n.nspname::text || '.' || p.proname::text || '('
       || pg_get_function_identity_arguments(p.oid) || ')', pg_get_userbyid(p.proowner)::text
  FROM pg_proc p JOIN ours n ON n.oid = p.pronamespace
UNION ALL
SELECT 'type ' || n.nspname::text || '.' || t.typname::text, pg_get_userbyid(t.typowner)::text
  FROM pg_type t JOIN ours n ON n.oid = t.typnamespace WHERE (t.typtype IN ('d', 'e', 'r') OR EXISTS (
    SELECT 1 FROM pg_class k WHERE k.oid = t.typrelid AND k.relkind = 'c'))
UNION ALL
SELECT 'collation ' || n.nspname::text || '.' || c.collname::text, pg_get_userbyid(c.collowner)::text
  FROM pg_collation c JOIN ours n ON n.oid = c.collnamespace
UNION ALL
SELECT 'text search configuration ' || n.nspname::text || '.' || c.cfgname::text, pg_get_userbyid(c.cfgowner)::text
  FROM pg_ts_config c JOIN ours n ON n.oid = c.cfgnamespace
UNION ALL
SELECT 'operator ' || n.nspname::text || '.' || o.oprname::text || ' ('
       || format_type(o.oprleft, NULL) || ', ' || format_type(o.oprright, NULL) || ')',
       pg_get_userbyid(o.oprowner)::text
  FROM pg_operator o JOIN ours n ON n.oid = o.oprnamespace
UNION ALL SELECT 'publication ' || pubname::text, pg_get_userbyid(pubowner)::text FROM pg_publication
UNION ALL SELECT 'event trigger ' || evtname::text, pg_get_userbyid(evtowner)::text FROM pg_event_trigger
UNION ALL SELECT 'foreign server ' || srvname::text, pg_get_userbyid(srvowner)::text FROM pg_foreign_server
UNION ALL
SELECT 'foreign data wrapper ' || fdwname::text, pg_get_userbyid(fdwowner)::text FROM pg_foreign_data_wrapper
UNION ALL SELECT 'language ' || lanname::text, pg_get_userbyid(lanowner)::text FROM pg_language
UNION ALL
SELECT 'large object ' || l.oid::text, pg_get_userbyid(l.lomowner)::text
  FROM (SELECT oid, lomowner FROM pg_largeobject_metadata ORDER BY oid LIMIT 10000) l";

/// Functions and views that may do what their owner may, whoever uses them.
const RUN_AS_OWNER: &str = "
WITH ours AS (
  SELECT oid, nspname FROM pg_namespace
  WHERE nspname <> 'information_schema' AND nspname !~ '^pg_'
)
SELECT 'function ' || n.nspname::text || '.' || p.proname::text || '('
       || pg_get_function_identity_arguments(p.oid) || ')'
  FROM pg_proc p JOIN ours n ON n.oid = p.pronamespace WHERE p.prosecdef
UNION ALL
SELECT n.nspname::text || '.' || c.relname::text
  FROM pg_class c JOIN ours n ON n.oid = c.relnamespace
  WHERE c.relkind = 'v' AND NOT EXISTS (
    SELECT 1 FROM pg_options_to_table(c.reloptions)
    WHERE CASE option_name WHEN 'security_invoker' THEN option_value::bool ELSE false END)";

/// Tables, and each rule of theirs about who sees which rows.
const ROW_SECURITY: &str = "
SELECT n.nspname::text || '.' || c.relname::text, 'row level security'
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relrowsecurity
UNION ALL
SELECT n.nspname::text || '.' || c.relname::text, 'forced row level security'
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relforcerowsecurity
UNION ALL
SELECT n.nspname::text || '.' || c.relname::text, 'the policy ' || p.polname::text
  FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace";

/// What else a database has besides tables, and what belongs to no extension.
const OTHERS: &str = "
WITH ours AS (
  SELECT oid, nspname FROM pg_namespace
  WHERE nspname <> 'information_schema' AND nspname !~ '^pg_'
), extended AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e')
SELECT 'publication ' || pubname::text FROM pg_publication
UNION ALL SELECT 'event trigger ' || evtname::text FROM pg_event_trigger t
  WHERE NOT EXISTS (SELECT 1 FROM extended e WHERE e.classid = 'pg_event_trigger'::regclass AND e.objid = t.oid)
UNION ALL SELECT 'extension ' || extname::text FROM pg_extension
UNION ALL SELECT 'schema ' || n.nspname::text FROM ours n
  WHERE NOT EXISTS (SELECT 1 FROM extended e WHERE e.classid = 'pg_namespace'::regclass AND e.objid = n.oid)
UNION ALL SELECT 'foreign server ' || srvname::text FROM pg_foreign_server
UNION ALL SELECT 'user mapping of ' || coalesce(usename::text, 'somebody') || ' on ' || srvname::text FROM pg_user_mappings
UNION ALL
SELECT 'collation ' || n.nspname::text || '.' || c.collname::text
  FROM pg_collation c JOIN ours n ON n.oid = c.collnamespace
  WHERE NOT EXISTS (SELECT 1 FROM extended e WHERE e.classid = 'pg_collation'::regclass AND e.objid = c.oid)
UNION ALL
SELECT 'text search configuration ' || n.nspname::text || '.' || c.cfgname::text
  FROM pg_ts_config c JOIN ours n ON n.oid = c.cfgnamespace
  WHERE NOT EXISTS (SELECT 1 FROM extended e WHERE e.classid = 'pg_ts_config'::regclass AND e.objid = c.oid)
UNION ALL
SELECT 'operator ' || n.nspname::text || '.' || o.oprname::text || ' ('
       || format_type(o.oprleft, NULL) || ', ' || format_type(o.oprright, NULL) || ')'
  FROM pg_operator o JOIN ours n ON n.oid = o.oprnamespace
  WHERE NOT EXISTS (SELECT 1 FROM extended e WHERE e.classid = 'pg_operator'::regclass AND e.objid = o.oid)
UNION ALL
SELECT CASE c.relkind WHEN 'S' THEN 'sequence ' WHEN 'f' THEN 'foreign table ' ELSE 'view ' END || n.nspname::text || '.' || c.relname::text
  FROM pg_class c JOIN ours n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('S', 'v', 'm', 'f') AND NOT EXISTS (
    SELECT 1 FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i', 'e'))
UNION ALL
SELECT 'function ' || n.nspname::text || '.' || p.proname::text || '('
       || pg_get_function_identity_arguments(p.oid) || ')'
  FROM pg_proc p JOIN ours n ON n.oid = p.pronamespace
  WHERE NOT EXISTS (SELECT 1 FROM extended e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid)
UNION ALL
SELECT 'type ' || n.nspname::text || '.' || t.typname::text
  FROM pg_type t JOIN ours n ON n.oid = t.typnamespace
  WHERE (t.typtype IN ('d', 'e', 'r') OR EXISTS (
    SELECT 1 FROM pg_class k WHERE k.oid = t.typrelid AND k.relkind = 'c'))
    AND NOT EXISTS (SELECT 1 FROM extended e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid)";

/// Tables, and what belongs to each.
const PARTS: &str = "
SELECT n.nspname::text || '.' || c.relname::text, 'constraint ' || x.conname::text
  FROM pg_constraint x JOIN pg_class c ON c.oid = x.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE x.contype IN ('p', 'u', 'f', 'c', 'x')
UNION ALL
SELECT n.nspname::text || '.' || c.relname::text, 'index ' || i.relname::text
  FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
       JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = x.indexrelid)
UNION ALL
SELECT n.nspname::text || '.' || c.relname::text, 'trigger ' || t.tgname::text
  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE NOT t.tgisinternal
UNION ALL
SELECT n.nspname::text || '.' || c.relname::text, 'column ' || a.attname::text
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f')
    AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
UNION ALL
SELECT n.nspname::text || '.' || c.relname::text, 'rule ' || r.rulename::text
  FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE r.rulename <> '_RETURN' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
UNION ALL
SELECT n.nspname::text || '.' || c.relname::text, 'statistics ' || s.stxname::text
  FROM pg_statistic_ext s JOIN pg_class c ON c.oid = s.stxrelid JOIN pg_namespace n ON n.oid = c.relnamespace";

type Held = BTreeSet<(String, String, String)>;

/// What will be otherwise in the restored database, in words.
pub(super) struct Changes {
    /// For each role that may do less with what both databases have: what it loses.
    pub(super) lost: Vec<String>,
    /// For each role that may do more: what it gains.
    pub(super) gained: Vec<String>,
    /// What belongs to another role.
    pub(super) owners: Vec<String>,
    /// Who sees which rows.
    pub(super) row_security: Vec<String>,
    /// As whom code runs.
    pub(super) runs_as: Vec<String>,
    /// What only the live database has, tables left out: they are told before.
    pub(super) missing: Vec<String>,
}

/// Compares what both databases have, and names what only the live one has.
pub(super) async fn changed(live: &Session, staged: &Session) -> Result<Changes> {
    let before = (held(live).await?, names(live, OBJECTS).await?);
    let after = (held(staged).await?, names(staged, OBJECTS).await?);
    let both = |object: &str| {
        object.starts_with("default privileges ")
            || (before.1.contains(object) && after.1.contains(object))
    };
    let words = |from: &Held, without: &Held, text: fn(&str, &str, &str) -> String| {
        let mut roles: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for (object, role, privilege) in from.difference(without) {
            // It goes with the privilege itself.
            let alone = privilege.strip_suffix(GRANTABLE).is_none_or(|plain| {
                without.contains(&(object.clone(), role.clone(), plain.to_owned()))
            });
            if alone && both(object) {
                let objects = roles.entry((role.clone(), privilege.clone())).or_default();
                objects.push(object.clone());
            }
        }
        let told = roles
            .into_iter()
            .map(|((role, privilege), objects)| text(&role, &privilege, &some_of(&objects)));
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
    let owners = owners_changed(&pairs(live, OWNERS).await?, &pairs(staged, OWNERS).await?);
    let rules = (
        pairs(live, ROW_SECURITY).await?,
        pairs(staged, ROW_SECURITY).await?,
    );
    let row_security = row_security_changed(&rules.0, &rules.1, |table| {
        before.1.contains(table) && after.1.contains(table)
    });
    let runs_as = runs_as_changed(
        &names(live, RUN_AS_OWNER).await?,
        &names(staged, RUN_AS_OWNER).await?,
        both,
    );
    let mut only_live: Vec<String> = {
        let (there, staged) = (names(live, OTHERS).await?, names(staged, OTHERS).await?);
        there.difference(&staged).cloned().collect()
    };
    let parts = (pairs(live, PARTS).await?, pairs(staged, PARTS).await?);
    let parts = parts.0.difference(&parts.1);
    let parts = parts.filter(|(table, _)| before.1.contains(table) && after.1.contains(table));
    only_live.extend(parts.map(|(table, part)| format!("{part} of {table}")));
    let missing = match only_live.is_empty() {
        true => Vec::new(),
        false => vec![format!(
            "the restored database will lack what the live one has: {}",
            some_of(&only_live)
        )],
    };
    Ok(Changes {
        lost,
        gained,
        owners,
        row_security,
        runs_as,
        missing,
    })
}

/// Some names, and how many there are more.
fn some_of(names: &[String]) -> String {
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
    format!("{}{more}", named.join(", "))
}

/// What belongs to another role than now, for each pair of roles.
fn owners_changed(live: &Pairs, staged: &Pairs) -> Vec<String> {
    let now: BTreeMap<&str, &str> = live
        .iter()
        .map(|(it, to)| (it.as_str(), to.as_str()))
        .collect();
    let mut changed: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for (object, then) in staged {
        if let Some(now) = now.get(object.as_str()).filter(|now| **now != then) {
            let objects = changed.entry((*now, then.as_str())).or_default();
            objects.push(object.clone());
        }
    }
    let told = changed.into_iter().map(|((now, then), objects)| {
        format!(
            "{} belongs to {now} now, and to {then} in the restored database",
            some_of(&objects)
        )
    });
    told.collect()
}

/// Which rules about rows go, and which come, of tables that both databases have.
fn row_security_changed(live: &Pairs, staged: &Pairs, both: impl Fn(&str) -> bool) -> Vec<String> {
    let only = |one: &Pairs, other: &Pairs| -> Vec<String> {
        let only = one.difference(other).filter(|(table, _)| both(table));
        only.map(|(table, rule)| format!("{rule} of {table}"))
            .collect()
    };
    let mut told = Vec::new();
    let (goes, comes) = (only(live, staged), only(staged, live));
    if !goes.is_empty() {
        told.push(format!(
            "the restored database lacks {}: roles may see and change rows that are hidden from them now",
            some_of(&goes)
        ));
    }
    if !comes.is_empty() {
        told.push(format!(
            "the restored database has {}, which the live one has not: rows may be hidden from roles that see them now",
            some_of(&comes)
        ));
    }
    told
}

/// What runs as its owner in one of the two only, of what both have.
fn runs_as_changed(
    live: &BTreeSet<String>,
    staged: &BTreeSet<String>,
    both: impl Fn(&str) -> bool,
) -> Vec<String> {
    const OWNER: &str = "as its owner";
    const CALLER: &str = "as who uses it";
    let ways = [(live, staged, OWNER, CALLER), (staged, live, CALLER, OWNER)];
    ways.into_iter()
        .filter_map(|(one, other, now, then)| {
            let changed = one.difference(other).filter(|object| both(object));
            let changed: Vec<String> = changed.cloned().collect();
            (!changed.is_empty()).then(|| {
                format!(
                    "{} runs {now} now, and {then} in the restored database",
                    some_of(&changed)
                )
            })
        })
        .collect()
}

type Pairs = BTreeSet<(String, String)>;

async fn pairs(session: &Session, sql: &str) -> Result<Pairs> {
    let rows = session.rows(sql, &[]).await?;
    rows.iter()
        .map(|row| Ok((column(row, 0)?, column(row, 1)?)))
        .collect()
}

async fn names(session: &Session, sql: &str) -> Result<BTreeSet<String>> {
    let rows = session.rows(sql, &[]).await?;
    rows.iter().map(|row| column(row, 0)).collect()
}

async fn held(session: &Session) -> Result<Held> {
    let rows = session.rows(HELD, &[]).await?;
    rows.iter()
        .map(|row| Ok((column(row, 0)?, column(row, 1)?, column(row, 2)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(of: &[(&str, &str)]) -> Pairs {
        let pairs = of.iter();
        pairs
            .map(|&(one, other)| (one.to_owned(), other.to_owned()))
            .collect()
    }

    #[test]
    fn what_belongs_to_another_role_is_told_once_for_both() {
        let live = pairs(&[("a", "shop"), ("b", "new"), ("c", "new"), ("d", "new")]);
        let staged = pairs(&[("a", "shop"), ("b", "shop"), ("c", "shop"), ("e", "shop")]);
        assert_eq!(
            owners_changed(&live, &staged),
            ["b, c belongs to new now, and to shop in the restored database"]
        );
    }

    #[test]
    fn what_runs_as_another_is_told_of_what_both_have() {
        let set =
            |of: &[&str]| -> BTreeSet<String> { of.iter().map(|it| (*it).to_owned()).collect() };
        let told = runs_as_changed(&set(&["f", "same", "gone"]), &set(&["same", "v"]), |it| {
            it != "gone"
        });
        assert_eq!(
            told,
            [
                "f runs as its owner now, and as who uses it in the restored database",
                "v runs as who uses it now, and as its owner in the restored database",
            ]
        );
    }

    #[test]
    fn rules_about_rows_are_told_of_tables_that_both_have() {
        let live = pairs(&[
            ("users", "row level security"),
            ("gone", "row level security"),
        ]);
        let staged = pairs(&[("orders", "the policy p")]);
        let told = row_security_changed(&live, &staged, |table| table != "gone");
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("lacks row level security of users:"),
            "{told:?}"
        );
        assert!(told[1].contains("the policy p of orders"), "{told:?}");
    }
}
