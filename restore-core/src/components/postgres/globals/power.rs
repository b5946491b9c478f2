//! What roles of a backup may do beyond the databases that they are let into: by themselves, and by
//! what they become members of.

use std::collections::{BTreeMap, BTreeSet};

use super::super::client::{Session, column};
use super::role::Role;
use crate::model::Result;

/// What reaches so far of roles that are to be created; of the others nothing is known to.
pub(super) async fn of(
    session: &Session,
    roles: &BTreeMap<String, Role>,
) -> Result<BTreeMap<String, Vec<String>>> {
    let groups: BTreeSet<&String> = roles
        .values()
        .flat_map(|role| role.member_of.iter().map(|(group, _)| group))
        .filter(|group| !roles.contains_key(*group))
        .collect();
    let groups: Vec<&String> = groups.into_iter().collect();
    Ok(powers(roles, &of_server(session, &groups).await?))
}

/// As `of`, in a cluster that has no other roles than these: what they are members of besides is the server's
/// own, or its superuser.
pub(super) fn of_new(roles: &BTreeMap<String, Role>) -> BTreeMap<String, Vec<String>> {
    let groups = roles
        .values()
        .flat_map(|role| role.member_of.iter().map(|(group, _)| group))
        .filter(|group| !roles.contains_key(*group));
    let groups = groups.map(|group| (group.clone(), vec![format!("member of {group}")]));
    powers(roles, &groups.collect())
}

/// What members of groups that are on the server gain by them, also by what those are members of.
async fn of_server(session: &Session, groups: &[&String]) -> Result<BTreeMap<String, Vec<String>>> {
    let rows = session
        .rows(
            "WITH RECURSIVE up AS ( \
               SELECT rolname::text AS start, oid FROM pg_roles \
               WHERE rolname = ANY($1::text[]::name[]) \
               UNION SELECT up.start, m.roleid FROM up JOIN pg_auth_members m ON m.member = up.oid) \
             SELECT up.start, r.rolname::text, concat_ws(' ', \
               CASE WHEN r.rolsuper THEN 'SUPERUSER' END, \
               CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, \
               CASE WHEN r.rolreplication THEN 'REPLICATION' END, \
               CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END) \
             FROM up JOIN pg_roles r ON r.oid = up.oid \
             WHERE r.rolsuper OR r.rolcreaterole OR r.rolreplication OR r.rolbypassrls \
                OR r.rolname ~ '^pg_' ORDER BY 1, 2",
            &[&groups],
        )
        .await?;
    let mut powers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in &rows {
        let (start, role, words): (String, String, String) =
            (column(row, 0)?, column(row, 1)?, column(row, 2)?);
        let mut what = format!("member of {start}");
        if role != start {
            what.push_str(&format!(", and by it of {role}"));
        }
        if !words.is_empty() {
            what.push_str(&format!(", which has {words}"));
        }
        powers.entry(start).or_default().push(what);
    }
    Ok(powers)
}

/// The powers of roles, where members of these groups of the server gain so much.
fn powers(
    roles: &BTreeMap<String, Role>,
    groups: &BTreeMap<String, Vec<String>>,
) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, role) in roles {
        let mut own = role.powers();
        for (group, _) in &role.member_of {
            own.extend(groups.get(group).into_iter().flatten().cloned());
        }
        if !own.is_empty() {
            found.insert(name.clone(), own);
        }
    }
    // Members of members, until nobody gains any more.
    loop {
        let mut gained = Vec::new();
        for (name, role) in roles.iter().filter(|(name, _)| !found.contains_key(*name)) {
            let by = role.member_of.iter().map(|(group, _)| group);
            let by: Vec<String> = by
                .filter(|group| found.contains_key(*group))
                .map(|group| format!("member of {group}"))
                .collect();
            if !by.is_empty() {
                gained.push((name.clone(), by));
            }
        }
        if gained.is_empty() {
            return found;
        }
        found.extend(gained);
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::tests::read;
    use super::*;

    #[test]
    fn whoever_is_a_member_of_power_has_power() {
        let globals = read(
            "CREATE ROLE app;\nALTER ROLE app WITH LOGIN;\nGRANT staff TO app;\n\
             CREATE ROLE staff;\nGRANT dba TO staff;\nCREATE ROLE plain;\nGRANT plain TO plain2;\n\
             CREATE ROLE loads;\nALTER ROLE loads SET session_preload_libraries TO 'x';\n\
             CREATE ROLE local;\nALTER ROLE local SET local_preload_libraries TO 'x';\n\
             CREATE ROLE quiet;\nALTER ROLE quiet SET lc_messages TO 'C';\n\
             CREATE ROLE repl;\nALTER ROLE repl WITH REPLICATION BYPASSRLS;\n",
        );
        let dba = (
            "dba".to_owned(),
            vec!["member of dba, which has SUPERUSER".to_owned()],
        );
        let found = powers(&globals.roles, &BTreeMap::from([dba]));
        let said: Vec<String> = found
            .iter()
            .map(|(name, by)| format!("{name}: {}", by.join("; ")))
            .collect();
        assert_eq!(
            said,
            [
                "app: member of staff",
                "loads: sets session_preload_libraries",
                "local: sets local_preload_libraries",
                "repl: REPLICATION; BYPASSRLS",
                "staff: member of dba, which has SUPERUSER",
            ]
        );
    }
}
