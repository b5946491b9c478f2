//! Images on request: saved by a backup, read by the operator's own commands, restored.

use std::process::Command;

use restore_core::{BackupRequest, ErrorKind, Outcome, PlanRequest, RunOptions};
use restore_testing::{run, text};

use super::engine::{Engine, IMAGE};

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
        .plan(&backup, request, &RunOptions::new())
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
}
