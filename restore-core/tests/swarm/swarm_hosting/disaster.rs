//! The engine's data are destroyed, and all trees: two runs bring everything back on a new engine that is in
//! no swarm, from a backup by the runbook's commands as from one of our own.

use restore_core::plan::Plan;
use restore_core::run::Outcome;
use restore_core::site::init::from_backup;
use restore_core::{BackupRequest, PlanRequest, RunOptions, Site};
use restore_testing::{Ended as _, Swarm, assert_same};

/// What services are made from.
const FILES: [&str; 7] = [
    "images",
    "docker-compose",
    "nginx-config",
    "prometheus-config",
    "scripts",
    "applications",
    "crontab",
];

/// What lies in them.
const DATA: [&str; 7] = [
    "postgres",
    "metrics",
    "redis",
    "prometheus",
    "grafana",
    "nginx-logs",
    "nginx-cache",
];

async fn plan(swarm: &Swarm, id: &str, request: PlanRequest) -> (Site, Plan) {
    let site = Site::open(&swarm.config()).await.unwrap();
    let backup = site.backup(id).await.unwrap();
    let options = RunOptions::new();
    let plan = site.plan_with(&backup, request, &options).await.unwrap();
    (site, plan)
}

async fn run(swarm: &Swarm, id: &str, only: &[&str]) {
    let request = PlanRequest::all().only(only).create(true);
    let (site, plan) = plan(swarm, id, request).await;
    assert!(plan.refusal().is_none(), "{id}: {:?}", plan.findings);
    let report = site.run(plan, RunOptions::new()).await.ended().unwrap();
    assert_eq!(
        report.outcome,
        Outcome::Restored,
        "{id}: {}",
        report.to_text()
    );
}

pub async fn everything_is_brought_back_on_a_new_engine() {
    let swarm = Swarm::alone(200, 1, &[]);
    swarm.prepare_for_disaster();
    let by_hand = swarm.back_up();
    let site = Site::open(&swarm.config()).await.unwrap();
    let made = site.back_up(BackupRequest::all(), RunOptions::new());
    let ours = made.await.unwrap().id.to_string();
    let at_backup = swarm.script("platform", &["fingerprint", "--anew"]);
    let config = std::fs::read(swarm.config()).unwrap();
    for id in [&ours, &by_hand] {
        swarm.script("disaster.sh", &[]);
        assert!(!swarm.config().exists());
        // Our own carries it; beside the runbook's there is a copy.
        let text = match id == &ours {
            true => from_backup(&swarm.root().join("backups"), id)
                .await
                .unwrap()
                .text
                .into_bytes(),
            false => config.clone(),
        };
        assert!(text == config, "{id} carries another one");
        std::fs::write(swarm.config(), text).unwrap();
        // The commands are named, whatever is asked for first.
        for request in [PlanRequest::all(), PlanRequest::all().create(true)] {
            let (_, plan) = plan(&swarm, id, request).await;
            let refused = plan.refusal().unwrap();
            let hint = refused.hint_text().unwrap();
            for only in [&FILES, &DATA] {
                let listed = hint.split("--only ").skip(1).any(|names| {
                    let names = names.split('`').next().unwrap_or_default();
                    let mut names: Vec<&str> = names.split(',').collect();
                    let mut wanted = only.to_vec();
                    names.sort_unstable();
                    wanted.sort_unstable();
                    names == wanted
                });
                assert!(listed, "{only:?}: {hint}");
            }
        }
        run(&swarm, id, &FILES).await;
        run(&swarm, id, &DATA).await;
        let now = swarm.script("platform", &["fingerprint", "--anew"]);
        assert_same(&at_backup, &now, id);
    }
}
