//! Images on a plain Docker host: containers keep what they were made from.

use restore_core::{BackupRequest, Outcome, PlanRequest, RunOptions};

use super::project::{OBEYS, Project};
use crate::swarm::engine::{Engine, IMAGE};

const NAME: &str = "localhost:5000/shop/app:2.4.1";

fn id(engine: &Engine, name: &str) -> String {
    engine.docker(&["image", "inspect", "--format", "{{.Id}}", name])
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_brought_back_for_containers_that_are_made_anew() {
    let engine = Engine::without_swarm();
    engine.docker(&["tag", IMAGE, NAME]);
    let project = Project::new(&engine, "pictures");
    std::fs::create_dir_all(engine.folder("site-pictures/backups")).unwrap();
    let runs = project.create("web", 1, &[], &[NAME, "sh", "-c", OBEYS]);
    engine.docker(&["start", &runs]);
    let site = |stops: &str| {
        project.site(&format!(
            "[components.images]\nkind = 'image'\nimages = ['{NAME}']\nstops = [{stops}]\n[services.web]\n"
        ))
    };
    let made = site("")
        .back_up(BackupRequest::all(), RunOptions::new())
        .await
        .unwrap();
    let before = id(&engine, NAME);

    // Another image under that name.
    let other = engine.docker(&["create", "--network", "none", IMAGE, "true"]);
    engine.docker(&["commit", "-m", "other", &other, NAME]);
    assert_ne!(id(&engine, NAME), before);

    let request = || PlanRequest::all().no_safety_backup(true);
    let site = |stops: &str| (site(stops), RunOptions::new());
    let (refusing, options) = site("'web'");
    let backup = refusing.backup(made.id.as_str()).await.unwrap();
    let plan = refusing
        .plan_with(&backup, request(), &options)
        .await
        .unwrap();
    assert!(plan.refusal().is_some());
    assert!(
        plan.findings.iter().any(|it| it.code == "image.kept"),
        "{:?}",
        plan.findings
    );

    let (site, options) = site("");
    let plan = site.plan_with(&backup, request(), &options).await.unwrap();
    let told = plan.findings.iter().find(|it| it.code == "image.kept");
    assert!(
        told.is_some_and(|it| it.message.contains("keep the image")),
        "{:?}",
        plan.findings
    );
    let report = site.run(plan, options).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert_eq!(id(&engine, NAME), before);
    assert_eq!(project.running(), [runs.as_str()]);
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_ne!(id(&engine, NAME), before, "{}", report.to_text());
}
