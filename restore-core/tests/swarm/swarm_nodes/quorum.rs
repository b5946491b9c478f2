//! A swarm that has lost more of its managers than it can do without.

use std::time::{Duration, Instant};

use restore_core::run::Outcome;
use restore_core::{BackupRequest, PlanRequest, RunOptions};

use crate::swarm::engine::{Engine, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_without_a_leader_is_gone_on_with_as_is_said() {
    let engine = Engine::with_workers(1);
    let own = engine.docker(&["info", "-f", "{{.Name}}"]);
    let address = engine.docker(&["info", "-f", "{{.Swarm.NodeAddr}}"]);
    let here = format!("node.hostname=={own}");
    let script = "trap 'exit 0' TERM; sleep 100000 & wait";
    engine.service("alone", &["--constraint", &here], script);
    until("it runs", || engine.containers("alone").len() == 1);
    engine.folder("backups");
    let root = engine.folder("tree");
    let page = root.join("srv/page");
    std::fs::create_dir_all(root.join("srv")).unwrap();
    std::fs::write(&page, "backed up").unwrap();
    let sections = format!(
        "[services.alone]\n[components.tree]\nkind = 'files'\nroot = '{}'\ntree = 'srv'\nstops = ['alone']\n",
        root.display()
    );
    let made = engine.site(&sections);
    made.back_up(BackupRequest::all(), RunOptions::new())
        .await
        .unwrap();
    std::fs::write(&page, "changed").unwrap();

    engine.docker(&["node", "promote", "worker1"]);
    until("both are managers", || {
        let status = ["node", "ls", "--format", "{{.ManagerStatus}}"];
        engine.docker(&status).contains("Reachable")
    });
    engine.script(&["node", "1", "kill"]);
    until("nobody leads any more", || {
        let said = engine.client(&["node", "ls"]).output().unwrap();
        String::from_utf8_lossy(&said.stderr).contains("does not have a leader")
    });
    // As a process that has met no leader yet.
    let site = engine.site(&sections);
    let backup = site.backup("latest").await.unwrap();
    let plan = async || {
        let request = PlanRequest::all().no_safety_backup(true);
        let options = RunOptions::new();
        site.plan_with(&backup, request, &options).await
    };
    let begun = Instant::now();
    let error = site.ensure_idle().await.unwrap_err();
    assert_eq!(error.code(), "swarm.no_leader", "{error}");
    let command = "docker swarm init --force-new-cluster --advertise-addr";
    assert!(error.hint_text().unwrap().contains(command), "{error}");
    match plan().await {
        Err(error) => assert_eq!(error.code(), "swarm.no_leader", "{error}"),
        Ok(plan) => {
            let mut errors = plan.errors();
            let told = errors.any(|it| it.code == "swarm.no_leader");
            assert!(told, "{:?}", plan.findings);
        }
    }
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(60), "{waited:?}");

    let mut words: Vec<&str> = command.split(' ').skip(1).collect();
    words.push(&address);
    // The client may give up before the engine is done.
    let _ = engine.client(&words).output().unwrap();
    until("it leads alone", || {
        let said = engine.client(&["node", "ls"]).output().unwrap();
        said.status.success()
    });
    until("it still runs", || engine.containers("alone").len() == 1);
    let plan = plan().await.unwrap();
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    let report = site.run(plan, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert_eq!(std::fs::read_to_string(&page).unwrap(), "backed up");
}
