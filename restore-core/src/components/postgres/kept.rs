//! Databases and roles that runs keep, found by their names and marks: journals may be lost.

use super::client::{Session, column};
use super::globals::marked_by_runs;
use super::names::{DatabaseNames, ident};
use crate::contract::KeptByRun;
use crate::model::{Result, RunId};

/// What runs keep of the database `live`.
pub(super) async fn by_runs(
    session: &Session,
    live: &str,
    service: &str,
) -> Result<Vec<KeptByRun>> {
    let sql = "SELECT datname::text FROM pg_database WHERE datname ~ \
               '_(restore|replaced)_[0-9]{8}_[0-9]{6}_[0-9a-f]{4}$' ORDER BY 1";
    let mut kept = Vec::new();
    for row in session.rows(sql, &[]).await? {
        let name: String = column(&row, 0)?;
        let id = name
            .get(name.len().saturating_sub(20)..)
            .unwrap_or_default();
        let Ok(run) = id.replace('_', "-").parse::<RunId>() else {
            continue;
        };
        let names = DatabaseNames::new(live, &run);
        if name != names.staged && name != names.replaced {
            continue;
        }
        let (now, quoted) = (ident(live), ident(&name));
        let put_back = match name == names.replaced {
            true => format!(
                "with the services that use it stopped: ALTER DATABASE {now} RENAME TO another name; \
                 ALTER DATABASE {quoted} RENAME TO {now}; \
                 ALTER DATABASE {now} ALLOW_CONNECTIONS true"
            ),
            false => format!(
                "it was never live, or not for long: a run made it of a backup, and it may be half \
                 loaded; {live} is left as it is"
            ),
        };
        kept.push(KeptByRun::new(
            run,
            format!("database {name} on {service}"),
            put_back,
            format!("DROP DATABASE {quoted}, once nothing of it is needed"),
        ));
    }
    for (run, roles) in marked_by_runs(session).await? {
        let drop: Vec<String> = roles
            .iter()
            .map(|role| format!("DROP ROLE {}", ident(role)))
            .collect();
        kept.push(KeptByRun::new(
            run,
            format!("roles {} on {service}", roles.join(", ")),
            "the run created them from a backup, for what it restored: nothing is to be put back",
            format!(
                "{}, once nothing needs them; `COMMENT ON ROLE` takes the mark off one that is to stay",
                drop.join("; ")
            ),
        ));
    }
    Ok(kept)
}
