//! Two operators, each at a manager of their own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use restore_core::run::{Boundary, Outcome};
use restore_core::{Error, ErrorKind, PlanRequest, RunOptions, Site};
use restore_testing::assert_same;

use super::ground::{Ground, patiently};

/// What the second operator, who has another state directory and asks another manager, is told.
fn second(config: PathBuf) -> Result<(), Error> {
    let work = async move {
        let site = Site::open(&config).await?;
        let backup = site.backup("latest").await?;
        let request = PlanRequest::all().only(["scripts"]).no_safety_backup(true);
        let plan = site.plan_with(&backup, request, &RunOptions::new()).await?;
        site.run(plan, RunOptions::new()).await.map(drop)
    };
    let thread = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(work)
    });
    thread.join().unwrap()
}

pub async fn two_of_them(ground: &Ground) {
    let before = ground.swarm.fingerprint();
    ground.swarm.docker(&["node", "promote", "worker1"]);
    let there = ground.swarm.worker_socket(1);
    let is_manager = |wanted: &str| {
        let mut command = std::process::Command::new("docker");
        command
            .arg("--host")
            .arg(format!("unix://{}", there.display()))
            .args(["info", "-f", "{{.Swarm.ControlAvailable}}"]);
        let said = command.output().unwrap();
        String::from_utf8_lossy(&said.stdout).trim() == wanted
    };
    patiently(async || is_manager("true")).await;

    // Its own state, so that no lock of this host is in the way of the swarm's.
    let socket = format!("socket = '{}'", there.display());
    ground.site_at("second", &socket, &ground.nodes()).await;
    let config = ground.swarm.root().join("second.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let state = format!("state = \"{}/state\"", ground.swarm.root().display());
    assert!(text.contains(&state));
    let other = ground.swarm.root().join("state-of-second");
    let text = text.replace(&state, &format!("state = '{}'", other.display()));
    std::fs::write(&config, text).unwrap();

    let first = ground.site("first", &ground.nodes()).await;
    let request = PlanRequest::all().only(["scripts"]).no_safety_backup(true);
    let plan = ground.plan(&first, request).await;
    let told = Arc::new(Mutex::new(None));
    let (tells, asks) = (told.clone(), config.clone());
    let hook = move |boundary: &Boundary| {
        let mut told = tells.lock().unwrap();
        if boundary.record == "intent cut-over:scripts" && told.is_none() {
            *told = Some(second(asks.clone()));
        }
        Ok(())
    };
    let report = first
        .run(plan, RunOptions::new().boundary(Arc::new(hook)))
        .await
        .unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    let error = told.lock().unwrap().take().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    assert_eq!(error.code(), "site.locked", "{error}");
    assert!(error.message().contains("the swarm's config"), "{error}");
    let report = first.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    ground.confirm(&first).await;

    // Nobody is in the second one's way any more.
    second(config.clone()).unwrap();
    let site = Site::open(&config).await.unwrap();
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    ground.confirm(&site).await;
    drop(site);
    std::fs::remove_dir_all(other).unwrap();

    ground.swarm.docker(&["node", "demote", "worker1"]);
    patiently(async || is_manager("false")).await;
    assert_same(&before, &ground.swarm.fingerprint(), "two managers");
    ground.nothing_left().await;
}
