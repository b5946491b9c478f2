//! The restored compose files deployed.

use restore_core::plan::Step;
use restore_core::run::Outcome;
use restore_core::{PlanRequest, RunOptions};

use super::ground::{Ground, until};

/// `redeploy = true`: what runs is what the restored files say; and after a rollback what it was,
/// which no file says.
pub async fn redeployed_and_taken_back(ground: &Ground) {
    let by_hand = [
        "service",
        "update",
        "--detach",
        "--env-add",
        "BY_HAND=1",
        "hosting_app_worker",
    ];
    ground.swarm.docker(&by_hand);
    settled(ground, "hosting_app_worker");
    assert!(ground.specs().contains("BY_HAND"));
    let before = ground.specs();
    let replicas = ground.containers("hosting_app").len();
    let site = ground
        .site_but(|text| text.replace("redeploy = false", "redeploy = true"))
        .await;
    let backup = site.backup("latest").await.unwrap();
    let request = PlanRequest::all().only(["docker-compose"]);
    let plan = site
        .plan_with(&backup, request, &RunOptions::new())
        .await
        .unwrap();
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    assert!(plan.maintenance, "users may notice it");
    assert!(plan.steps.contains(&Step::Deploy("docker-compose".into())));
    let report = site.run(plan, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert!(!ground.specs().contains("BY_HAND"));
    // Whatever the files say.
    assert!(replicas > 0);
    until("as many as before", || {
        ground.containers("hosting_app").len() == replicas
    });
    ground.back(&site, "redeployed").await;
    assert_eq!(ground.specs(), before);
    ground.swarm.docker(&[
        "service",
        "update",
        "--detach",
        "--env-rm",
        "BY_HAND",
        "hosting_app_worker",
    ]);
    settled(ground, "hosting_app_worker");
}

/// Waits until an update of a service has come to its end.
pub fn settled(ground: &Ground, service: &str) {
    let state = [
        "service",
        "inspect",
        "-f",
        "{{json .UpdateStatus}}",
        service,
    ];
    until(&format!("{service} is updated"), || {
        ground.swarm.docker(&state).contains("completed")
    });
}
