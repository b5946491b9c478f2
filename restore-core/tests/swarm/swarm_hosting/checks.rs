//! The checks of the runbook's step 12, as the example configures them.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use restore_core::{RunOptions, Site};

use super::ground::{Ground, until};

/// Each notices what it is there for, and passes when that is mended.
pub async fn fail_by_name(ground: &Ground) {
    let site = ground.site().await;
    // What the damage itself makes fail.
    let damaged = failing(&site).await;
    for name in ["health", "tables"] {
        assert!(damaged.contains(name), "{name}: {damaged:?}");
    }
    let more =
        |now: BTreeSet<String>| -> Vec<String> { now.difference(&damaged).cloned().collect() };

    ground.sql("ALTER TABLE users ADD CONSTRAINT odd CHECK (id > 0) NOT VALID");
    assert_eq!(more(failing(&site).await), ["constraints"]);
    ground.sql("ALTER TABLE users DROP CONSTRAINT odd");
    assert_eq!(failing(&site).await, damaged);

    // A check looks at what is written from its own beginning on.
    let container = ground.containers("hosting_app").remove(0);
    let complain = "for n in $(seq 1000); do [ ! -e /tmp/enough ] || exit 0; echo ERROR $n; sleep 0.02; done >/proc/1/fd/1";
    let mut writing = ground
        .swarm
        .client(&["exec", &container, "sh", "-c", complain])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(8);
    while more(failing(&site).await) != ["app-log"] {
        assert!(Instant::now() < deadline, "no complaint is ever seen");
    }
    let inside = |script: &str| {
        let args = ["exec", &container, "sh", "-c", script];
        ground.swarm.docker(&args);
    };
    inside("touch /tmp/enough");
    assert!(writing.wait().unwrap().success());
    inside("echo enough >/proc/1/fd/1");
    until("all of it is in the log", || {
        let log = ground.swarm.docker(&["logs", "--tail", "50", &container]);
        log.contains("enough")
    });
    assert_eq!(failing(&site).await, damaged);

    ground.swarm.service("hosting_app", "stop");
    let stopped = more(failing(&site).await);
    for name in ["app-answers", "app-replicas", "version"] {
        assert!(stopped.iter().any(|it| it == name), "{name}: {stopped:?}");
    }
    ground.swarm.service("hosting_app", "start");
    let deadline = Instant::now() + Duration::from_secs(30);
    while failing(&site).await != damaged {
        assert!(Instant::now() < deadline, "{:?}", failing(&site).await);
    }
    ground.is(&ground.damaged, "after the checks");
}

/// On a platform that is well.
pub async fn all_pass(ground: &Ground) {
    assert_eq!(failing(&ground.site().await).await, BTreeSet::new());
}

/// The names of the checks that fail now.
async fn failing(site: &Site) -> BTreeSet<String> {
    let outcomes = site.check(&RunOptions::new()).await.unwrap();
    let failed = outcomes.into_iter().filter(|outcome| !outcome.passed);
    failed.map(|outcome| outcome.name).collect()
}
