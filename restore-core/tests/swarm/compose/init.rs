//! A first configuration of a project, made of what runs.

use restore_core::component::Registry;
use restore_core::site::init::{self, LookOptions};
use restore_core::{BackupRequest, Outcome, PlanRequest, RunOptions, Site};

use super::project::OBEYS;
use super::runs::Shop;
use crate::swarm::engine::{Engine, IMAGE};

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_becomes_a_configuration_that_restores() {
    let engine = Engine::without_swarm_with_images();
    let shop = Shop::new(&engine).await;
    // Once done, never again; and a volume that nobody gave a name.
    let done = shop.project.create("migrate", 1, &[], &[IMAGE, "true"]);
    engine.docker(&["start", "-a", &done]);
    shop.project.run("worker", 1, &["-v", "/scratch"], OBEYS);
    shop.become_version("one");
    let one = shop.fingerprint();

    let mut options = LookOptions::default();
    options.below = Some(shop.root.clone());
    options.socket = Some(engine.socket());
    let found = init::look(&options).await.unwrap();
    let proposal = init::propose(&found);
    let text = &proposal.text;
    assert!(!text.contains("geheim"), "{text}");
    assert!(text.contains("the service migrate of shop"), "{text}");
    let nameless = "the volume without a name at /scratch of the service worker of shop";
    assert!(text.replace("\n# ", " ").contains(nameless), "{text}");
    assert_eq!(
        proposal.todo.len(),
        1,
        "only where backups go: {proposal:?}"
    );
    // A test leaves nothing outside of its folder, and no directory is there that is to be made by hand.
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for line in &mut lines {
        if line.starts_with("state = ") {
            "state = \"first-state\"".clone_into(line);
        }
        if line.starts_with("path = \"/var/backups/") {
            "path = \"backups\"".clone_into(line);
        }
    }
    let config = shop.root.join("first.toml");
    std::fs::write(&config, lines.join("\n") + "\n").unwrap();
    let restrict = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&config, restrict).unwrap();

    let quiet = RunOptions::new();
    let check = Site::check_config(&config, &Registry::default(), &quiet).await;
    let check = check.unwrap();
    assert!(check.sound, "{:?}\n{text}", check.findings);
    let site = Site::open(&config).await.unwrap();
    assert_eq!(site.platform().services(), ["db", "cache", "web", "worker"]);
    let names: Vec<&str> = site.components().iter().map(|it| it.name()).collect();
    assert_eq!(names, ["db", "cache", "pages"], "{text}");
    let made = site.back_up(BackupRequest::all(), RunOptions::new()).await;
    let backup = site.backup(made.unwrap().id.as_str()).await.unwrap();
    shop.become_version("two");
    let plan = site
        .plan_with(&backup, PlanRequest::all().no_safety_backup(true), &quiet)
        .await
        .unwrap();
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    let stopped: Vec<&str> = plan.services.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(stopped, ["worker", "web", "cache"]);
    let report = site.run(plan, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    shop.is(&one, "restored by the first configuration");
}
