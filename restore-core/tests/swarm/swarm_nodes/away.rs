//! worker1 goes down in the middle of a run, with all that runs on it.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use restore_core::run::{Boundary, Outcome};
use restore_core::{Finding, PlanRequest, Report, RunOptions, Site};
use restore_testing::{Ended as _, assert_same, run, text};

use super::ground::{Ground, patiently, section};
use super::page::status;

struct Row {
    components: &'static [&'static str],
    /// It goes once this is in the journal.
    record: &'static str,
    resume: bool,
    /// Users are turned away then, and stay so until it is back.
    downtime: bool,
}

const ROWS: [Row; 4] = [
    // Before anything of the platform is touched.
    Row {
        components: &["grafana"],
        record: "intent stage:grafana",
        resume: false,
        downtime: false,
    },
    Row {
        components: &["grafana", "nginx-logs"],
        record: "intent cut-over:grafana",
        resume: false,
        downtime: false,
    },
    Row {
        components: &["grafana", "nginx-logs"],
        record: "done cut-over:grafana",
        resume: true,
        downtime: false,
    },
    // Replicas of the application and their images are on worker1 too.
    Row {
        components: &["images"],
        record: "done stop:hosting_app",
        resume: false,
        downtime: true,
    },
];

pub async fn a_node_that_goes_away(ground: &Ground) {
    for row in ROWS {
        let at = row.record;
        let site = ground.site("away", &ground.nodes()).await;
        let report = run_until_it_goes(ground, &site, &row).await;
        let text = report.to_text();
        assert!(text.contains("worker1"), "{at}: {text}");
        let port = ground.swarm.setting("HTTP_PORT");
        let shown = status(&format!("127.0.0.1:{port}")) == "503";
        // Users are let in again only where all is as it was.
        let stuck = report.outcome == Outcome::Stuck;
        assert_eq!(shown, row.downtime && stuck, "{at}: {text}");
        assert_eq!(
            row.downtime && stuck,
            report.down_since.is_some(),
            "{at}: {text}"
        );
        ground.swarm.worker(1, "start");
        patiently(async || {
            let state = ["node", "inspect", "-f", "{{.Status.State}}", "worker1"];
            ground.swarm.docker(&state) == "ready"
        })
        .await;

        // Whoever comes next, in another process.
        let site = ground.site("away", &ground.nodes()).await;
        let report = match (report.outcome, row.resume) {
            (Outcome::Stuck, true) => site.resume(None, RunOptions::new()).await.ended().unwrap(),
            (Outcome::Stuck, false) => site.rollback(None, RunOptions::new()).await.unwrap(),
            // It was taken back without worker1.
            _ => {
                assert_eq!(report.outcome, Outcome::Undone, "{at}: {text}");
                assert!(!at.contains("cut-over"), "{at}: {text}");
                report
            }
        };
        let back = [Outcome::RolledBack, Outcome::Undone, Outcome::Restored];
        assert!(back.contains(&report.outcome), "{at}: {}", report.to_text());
        if report.outcome == Outcome::Restored {
            let now = ground.swarm.fingerprint();
            for name in row.components.iter().chain(["services"].iter()) {
                assert_same(&section(&ground.at_backup, name), &section(&now, name), at);
            }
            let report = site.rollback(None, RunOptions::new()).await.unwrap();
            assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
        }
        ground.confirm(&site).await;
        if row.components.contains(&"images") && !stuck {
            forget_what_was_told(ground, &report);
        }
        // Where nothing had to be started again the swarm does so, in its own time.
        let platform = site.platform();
        patiently(async || {
            platform
                .service("grafana")
                .await
                .is_ok_and(|it| it.running == 1)
        })
        .await;
        assert_same(&ground.damaged, &ground.swarm.fingerprint(), at);
        ground.nothing_left().await;
    }
}

/// What a way back could not do on worker1 is said, and left to do by hand.
fn forget_what_was_told(ground: &Ground, report: &Report) {
    let told = |it: &&Finding| it.code == "image.place_away" && it.subject.contains("worker1");
    let told = report.findings.iter().find(told);
    let told = told.unwrap_or_else(|| panic!("{}", report.to_text()));
    assert!(told.hint.as_ref().unwrap().contains("restore/"), "{told:?}");
    let docker = |args: &[&str]| {
        let mut command = Command::new("docker");
        let socket = format!("unix://{}", ground.swarm.worker_socket(1).display());
        text(&run(command.arg("--host").arg(socket).args(args)))
    };
    let names = docker(&[
        "images",
        "--format",
        "{{.Repository}}:{{.Tag}}",
        "restore/*",
    ]);
    for name in names.lines() {
        docker(&["image", "rm", name]);
    }
}

/// The run's report; worker1 is gone from its row's record on.
async fn run_until_it_goes(ground: &Ground, site: &Site, row: &Row) -> Report {
    let request = PlanRequest::all()
        .only(row.components.iter().copied())
        .no_safety_backup(true);
    let plan = ground.plan(site, request).await;
    let gone = Arc::new(AtomicBool::new(false));
    let seen = gone.clone();
    let swarm = &ground.swarm;
    let (kill, killed) = std::sync::mpsc::channel::<()>();
    let (done, waits) = std::sync::mpsc::channel::<()>();
    let waits = std::sync::Mutex::new(waits);
    let record = row.record;
    let hook = move |boundary: &Boundary| {
        if boundary.record == record && !seen.swap(true, Ordering::Relaxed) {
            let _ = kill.send(());
            let _ = waits.lock().unwrap().recv();
        }
        Ok(())
    };
    let report = std::thread::scope(|scope| {
        scope.spawn(move || {
            if killed.recv().is_ok() {
                swarm.worker(1, "kill");
                let _ = done.send(());
            }
        });
        tokio::task::block_in_place(|| {
            let options = RunOptions::new().boundary(Arc::new(hook));
            tokio::runtime::Handle::current().block_on(site.run(plan, options))
        })
    })
    .ended()
    .unwrap();
    assert!(gone.load(Ordering::Relaxed), "{record} is never written");
    report
}
