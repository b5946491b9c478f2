//! An nginx of worker1: it shows the page where it reads the file that is put here, and where it

//! does not, nothing is stopped.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use restore_core::run::{Boundary, Outcome};
use restore_core::{Plan, PlanRequest, RunOptions, Severity, Site};
use restore_testing::{Ended as _, assert_same, run, text};

use super::ground::{Ground, patiently};

/// The HTTP status that users get at an address.
pub fn status(at: &str) -> String {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}"]);
    let answer = curl.arg(format!("http://{at}/")).output().unwrap();
    text(&answer)
}

/// A site whose page `far_nginx` shows.
async fn site(ground: &Ground, dir: &Path, shared: bool) -> Site {
    let more = format!("{}\n[services.far_nginx]\nafter = []\n", ground.nodes());
    ground.site("page", &more).await;
    let path = ground.swarm.root().join("page.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, section) = text.split_once("[maintenance]\n").unwrap();
    let conf_dir = format!("{}/mnt/nfs/nginx/conf.d", ground.swarm.root().display());
    assert!(section.contains(&conf_dir));
    let section = section
        .replace("service = \"hosting_nginx\"", "service = \"far_nginx\"")
        .replace(&conf_dir, dir.join("conf.d").to_str().unwrap());
    let shared = if shared { "shared = true\n" } else { "" };
    std::fs::write(&path, format!("{before}[maintenance]\n{shared}{section}")).unwrap();
    Site::open(&path).await.unwrap()
}

async fn planned(site: &Site) -> Plan {
    let backup = site.backup("latest").await.unwrap();
    let request = PlanRequest::all()
        .only(["applications"])
        .no_safety_backup(true);
    site.plan_with(&backup, request, &RunOptions::new())
        .await
        .unwrap()
}

pub async fn a_page_elsewhere(ground: &Ground) {
    let ours = ground.swarm.root().join("mnt/nfs/nginx");
    // What this stands for is worker1's own; or, below, of a file system that both mount.
    let far = ground.swarm.root().join("far-nginx");
    run(Command::new("cp").arg("-a").arg(&ours).arg(&far));
    let mount = format!(
        "type=bind,source={},target=/etc/nginx,readonly",
        far.display()
    );
    ground.swarm.docker(&[
        "service",
        "create",
        "-q",
        "--detach",
        "--no-resolve-image",
        "--name",
        "far_nginx",
        "--constraint",
        "node.hostname==worker1",
        "--publish",
        "mode=host,target=80,published=18080",
        "--publish",
        "mode=host,target=8080,published=18081",
        "--mount",
        &mount,
        "--network",
        "hosting_backend",
        "--endpoint-mode",
        "dnsrr",
        "restore-example/nginx:1.22",
    ]);
    let at = format!("{}:18080", ground.address(1));
    patiently(async || status(&at) == "404").await;
    let before = ground.swarm.fingerprint();

    // Not said to be shared: refused, and nothing is touched.
    let refused = site(ground, &ours, false).await;
    let plan = planned(&refused).await;
    let found = plan
        .findings
        .iter()
        .find(|it| it.code == "maintenance.elsewhere");
    let found = found.unwrap_or_else(|| panic!("{:#?}", plan.findings));
    assert_eq!(found.severity, Severity::Error);
    assert!(found.message.contains("far_nginx runs on worker1"));
    assert!(found.hint.as_ref().unwrap().contains("shared = true"));
    assert!(plan.refusal().is_some());
    assert!(refused.run(plan, RunOptions::new()).await.is_err());

    // Said to be, and is not: asked from outside it shows no page, and nothing is stopped.
    let wrong = site(ground, &ours, true).await;
    let plan = planned(&wrong).await;
    assert!(plan.refusal().is_none(), "{:#?}", plan.findings);
    let records = Arc::new(Mutex::new(Vec::new()));
    let seen = records.clone();
    let hook = move |boundary: &Boundary| {
        seen.lock().unwrap().push(boundary.record.clone());
        Ok(())
    };
    let report = wrong
        .run(plan, RunOptions::new().boundary(Arc::new(hook)))
        .await
        .ended()
        .unwrap();
    assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
    assert!(
        report
            .to_text()
            .contains("the maintenance page is not shown"),
        "{}",
        report.to_text()
    );
    let records = records.lock().unwrap().clone();
    let stops = records.iter().any(|it| it.starts_with("intent stop:"));
    assert!(!stops, "{records:?}");
    assert_eq!(status(&at), "404");
    assert_same(&before, &ground.swarm.fingerprint(), "a page not shown");
    ground.confirm(&wrong).await;

    // It is: users of worker1 are turned away for as long as the application is down.
    let right = site(ground, &far, true).await;
    let plan = planned(&right).await;
    assert!(plan.refusal().is_none(), "{:#?}", plan.findings);
    let answers = Arc::new(Mutex::new(Vec::new()));
    let (seen, asked) = (answers.clone(), at.clone());
    let hook = move |boundary: &Boundary| {
        let down = ["done maintenance:on", "done cut-over:applications"];
        if down.contains(&boundary.record.as_str()) {
            seen.lock().unwrap().push(status(&asked));
        }
        Ok(())
    };
    let report = right
        .run(plan, RunOptions::new().boundary(Arc::new(hook)))
        .await
        .unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert_eq!(*answers.lock().unwrap(), ["503", "503"]);
    patiently(async || status(&at) == "404").await;
    let report = right.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    ground.confirm(&right).await;
    assert_same(&before, &ground.swarm.fingerprint(), "there and back");
    ground.swarm.docker(&["service", "rm", "far_nginx"]);
    std::fs::remove_dir_all(far).unwrap();
    ground.nothing_left().await;
}
