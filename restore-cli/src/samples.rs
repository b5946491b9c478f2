//! Values that tests render, made the only way that lasts: from the JSON that programs see.

use restore_core::{Plan, Report};
use serde_json::{Value, json};

/// A plan of two components, changed by `change`.
pub(crate) fn plan(change: impl FnOnce(&mut Value)) -> Plan {
    let inspection = |artifact: &str, bytes: u64| {
        json!({
            "artifacts": [artifact], "summary": "", "staged_at": "", "read_bytes": bytes,
            "needs": [], "findings": [], "facts": {},
        })
    };
    let mut postgres = inspection("postgres/postgres-20240215-020000.dump", 1_288_490_189);
    postgres["summary"] = "database hosting_db".into();
    postgres["staged_at"] = "database hosting_db__restore".into();
    let space = restore_core::platform::Space::new(0, 0, "disk");
    postgres["needs"] = json!([{"space": space, "bytes": 3_221_225_472_u64, "inodes": 0}]);
    let mut value = json!({
        "site": "demo", "backup": "20240215-020000", "store": "directory /mnt/backups",
        "generation": "a", "made": "2024-02-15T09:29:00Z",
        "request": {"only": [], "paths": [], "allow_unverified": false, "over_unconfirmed": false},
        "components": [
            {"name": "postgres", "kind": "postgres", "paths": [], "stops": ["app"],
             "inspection": postgres},
            {"name": "crontab", "kind": "crontab", "paths": [], "stops": [],
             "inspection": inspection("configs/crontab-20240215-020000.txt", 120)},
        ],
        "services": [
            {"name": "app", "replicas": 5, "start": 5},
            {"name": "worker", "replicas": 0, "start": 1},
        ],
        "maintenance": true,
        "safety": {"store": "main", "place": "directory /mnt/backups", "bytes": 2_147_483_648_u64},
        "steps": [
            "backup:safety", "stage:postgres", "stage:crontab", "maintenance:on", "stop:app", "cut-over:postgres",
            "cut-over:crontab", "start:app", "check:inside", "maintenance:off", "check:outside",
        ],
        "earlier": [], "findings": [],
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

/// The report of a restored run, changed by `change`.
pub(crate) fn report(change: impl FnOnce(&mut Value)) -> Report {
    let mut value = json!({
        "site": "demo", "run": "20240215-093000-7f3a", "backup": "20240215-020000",
        "store": "directory /mnt/backups", "outcome": "restored", "confirmed": false,
        "started": "2024-02-15T09:30:00Z", "ended": "2024-02-15T09:31:30Z",
        "downtime_seconds": 2.5, "keeps_restored": true, "failure": null, "stuck": null,
        "components": [{
            "name": "postgres", "kind": "postgres",
            "artifacts": ["postgres/postgres-20240215-020000.dump"],
            "restored": true, "bytes": 2_147_483_648_u64, "facts": {"tables": 24},
            "kept_at": "database hosting_db__old", "kept": "replaced",
            "kept_bytes": 1_610_612_736_u64,
        }],
        "services": {"app": 5}, "checks_before": [], "checks_after": [], "steps": [],
        "findings": [], "next": [],
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}
