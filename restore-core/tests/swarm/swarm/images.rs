//! Images on request: saved by a backup, read by the operator's own commands, restored.

use std::process::Command;

use restore_core::{BackupRequest, ErrorKind, Outcome, PlanRequest, RunOptions};
use restore_testing::{Ended as _, run, text};

use super::engine::{Engine, IMAGE, Service};

const NAME: &str = "localhost:5000/shop/app:2.4.1";
const OTHER: &str = "shop-worker:latest";

fn id(engine: &Engine, name: &str) -> String {
    engine.docker(&["image", "inspect", "--format", "{{.Id}}", name])
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_saved_and_brought_back() {
    let engine = Engine::new();
    let at = |path: &str| engine.socket().with_file_name(path);
    std::fs::create_dir(at("backups")).unwrap();
    for name in [NAME, OTHER] {
        engine.docker(&["tag", IMAGE, name]);
    }
    let site =
        |images: &str| engine.site(&format!("[components.images]\nkind = 'image'\n{images}"));
    // Not unless they are named.
    let error = site("")
        .back_up(BackupRequest::all(), RunOptions::new())
        .await
        .unwrap_err();
    assert!(
        error.message().contains("it is not said which images"),
        "{error}"
    );
    let error = site("images = ['absent:1']")
        .back_up(BackupRequest::all(), RunOptions::new())
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        ("image.not_found", ErrorKind::NotFound),
        "{error}"
    );

    let site = site(&format!("images = ['{NAME}', '{OTHER}']"));
    let made = site
        .back_up(BackupRequest::all(), RunOptions::new())
        .await
        .unwrap();
    let folder = at("backups").join(made.id.as_str());
    for file in ["localhost_5000_shop_app_2.4.1", "shop-worker_latest"] {
        let file = folder.join(format!("app/docker-image-{file}.tar.gz"));
        let listed = run(Command::new("tar").arg("-tzf").arg(file));
        assert!(text(&listed).contains("manifest.json"));
    }
    let before = id(&engine, NAME);

    // Lost; and found again by what operators type.
    engine.docker(&["image", "rm", NAME]);
    let archive = folder.join("app/docker-image-localhost_5000_shop_app_2.4.1.tar.gz");
    run(engine
        .client(&["load", "-q"])
        .stdin(std::fs::File::open(&archive).unwrap()));
    assert_eq!(id(&engine, NAME), before);

    // Another image under that name; and moved back by a run.
    let container = engine.docker(&["create", "--network", "none", IMAGE, "true"]);
    engine.docker(&["commit", "-m", "other", &container, NAME]);
    engine.docker(&["rm", &container]);
    assert_ne!(id(&engine, NAME), before);
    // A container of it has ended: that keeps the run from nothing.
    let ended = engine.docker(&["create", "--network", "none", NAME, "true"]);
    let backup = site.backup("latest").await.unwrap();
    let request = PlanRequest::all().no_safety_backup(true);
    let plan = site
        .plan_with(&backup, request, &RunOptions::new())
        .await
        .unwrap();
    let report = site.run(plan, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert_eq!(id(&engine, NAME), before);
    assert_eq!(id(&engine, OTHER), before);
    site.confirm(None, RunOptions::new()).await.unwrap();
    let names = engine.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert!(!names.contains("restore/"), "{names}");
    engine.docker(&["rm", &ended]);

    // A digest that an operator has written is not replaced by what nobody has signed; one that
    // `docker stack deploy` has found is none of theirs.
    let digest = format!("{NAME}@sha256:{}", "ab".repeat(32));
    let label = format!("com.docker.stack.image={NAME}");
    let create = ["service", "create", "--detach", "--no-resolve-image"];
    let idle = ["--replicas", "0", "--network", "host", "--name"];
    for (service, more) in [
        ("written", &[][..]),
        ("found", &["--label", label.as_str()][..]),
    ] {
        let command = [
            &create[..],
            more,
            &idle,
            &[service, digest.as_str(), "true"],
        ];
        engine.docker(&command.concat());
    }
    let plan = site
        .plan_with(&backup, PlanRequest::all(), &RunOptions::new())
        .await
        .unwrap();
    let gone = plan.findings.iter();
    let gone = gone.filter(|it| it.code.starts_with("image.pinned"));
    let gone: Vec<_> = gone.map(|it| (&*it.code, &*it.subject)).collect();
    assert_eq!(gone, [("image.pinned_gone", "written")]);
    engine.docker(&["service", "rm", "written", "found"]);
}

/// Images deleted while services run them: their names are gone, the containers run on. A rollback takes
/// away the name that the run gave back only where no service needs it.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_a_service_needs_is_not_taken_away() {
    let engine = Engine::new();
    std::fs::create_dir(engine.socket().with_file_name("backups")).unwrap();
    for name in [NAME, OTHER] {
        engine.docker(&["tag", IMAGE, name]);
    }
    let options = [
        "--replicas",
        "5",
        "--restart-delay",
        "200ms",
        "--stop-grace-period",
        "2s",
    ];
    let script = "trap 'exit 0' TERM; sleep 1000 & wait";
    let five = Service::from_image(&engine, NAME, "five", &options, script);
    five.runs(5);
    let site = engine.site(&format!(
        "[services.five]\nstart_timeout = '30s'\n[components.images]\nkind = 'image'\n\
         images = ['{NAME}', '{OTHER}']\nstops = ['five']\n"
    ));
    let made = site.back_up(BackupRequest::all(), RunOptions::new());
    made.await.unwrap();
    for name in [NAME, OTHER] {
        engine.docker(&["image", "rm", "-f", name]);
    }
    let is_there = |name: &str| {
        let seen = engine.client(&["image", "inspect", name]).output().unwrap();
        seen.status.success()
    };
    assert!(!is_there(NAME) && !is_there(OTHER));
    five.runs(5);
    let run_it = async |request: PlanRequest| {
        let backup = site.backup("latest").await.unwrap();
        let request = request.no_safety_backup(true);
        let options = RunOptions::new();
        let plan = site.plan_with(&backup, request, &options).await.unwrap();
        assert!(plan.refusal().is_none(), "{:?}", plan.findings);
        let report = site.run(plan, RunOptions::new()).await.ended().unwrap();
        assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
        five.runs(5);
        assert!(is_there(NAME) && is_there(OTHER), "{}", report.to_text());
    };
    run_it(PlanRequest::all()).await;

    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    let stays = report
        .findings
        .iter()
        .filter(|it| it.code == "image.name_stays");
    let stays: Vec<_> = stays
        .map(|it| (it.subject.as_str(), it.message.as_str()))
        .collect();
    let message =
        "no image had this name before the run, and five needs one: the restored image keeps it";
    assert_eq!(stays, [(NAME, message)], "{}", report.to_text());
    five.runs(5);
    assert!(is_there(NAME));
    assert!(!is_there(OTHER), "no service needs it");
    // Nothing is left open, and both ways on are there: a new run, and the end of this one.
    for run in site.history().await.unwrap() {
        let open = matches!(run.outcome, Outcome::Unfinished | Outcome::Stuck);
        assert!(!open, "{}", run.to_text());
    }
    let again = site.rollback(Some(report.run), RunOptions::new()).await;
    assert_eq!(again.unwrap_err().code(), "run.cannot_roll_back");
    run_it(PlanRequest::all().over_unconfirmed(true)).await;
    site.confirm(None, RunOptions::new()).await.unwrap();
    five.runs(5);
    assert!(is_there(NAME) && is_there(OTHER));
}
