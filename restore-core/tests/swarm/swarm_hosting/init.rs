//! A first configuration of the platform, as it is written: nobody has to edit it.

use restore_core::component::Registry;
use restore_core::site::init::{self, LookOptions};
use restore_core::{PlanRequest, RunOptions, Site};

use super::ground::Ground;

pub async fn a_first_configuration_needs_no_edit(ground: &Ground) {
    let root = ground.swarm.root();
    let mut options = LookOptions::default();
    options.below = Some(root.to_owned());
    options.socket = Some(ground.swarm.socket());
    options.backups = Some(root.join("backups"));
    let found = init::look(&options).await.unwrap();
    let proposal = init::propose(&found);
    let text = &proposal.text;
    assert!(proposal.todo.is_empty(), "{:?}\n{text}", proposal.todo);
    for secret in ["postgres.pass", "redis.pass"] {
        let file = root.join("secrets").join(secret);
        let password = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains(password.trim()), "{secret}");
        assert!(text.contains(file.to_str().unwrap()), "{secret}: {text}");
    }
    // What deploys the stack anew is written down, for whoever wants it.
    for keys in [
        "# redeploy = true\n# stack = \"hosting\"\n",
        "# compose = [\"hosting/docker-compose.prod.yml\"",
        "# advertise = \"",
    ] {
        assert!(text.contains(keys), "{keys}: {text}");
    }
    // A test leaves nothing outside of its folder.
    let state = text.lines().find(|line| line.starts_with("state = "));
    let here = text.replace(state.unwrap(), "state = \"first-state\"");
    let config = root.join("first.toml");
    std::fs::write(&config, here).unwrap();
    let restrict = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&config, restrict).unwrap();

    let quiet = RunOptions::new();
    let check = Site::check_config(&config, &Registry::default(), &quiet).await;
    let check = check.unwrap();
    assert!(check.sound, "{:?}\n{text}", check.findings);
    let site = Site::open(&config).await.unwrap();
    let mut names: Vec<&str> = site.components().iter().map(|it| it.name()).collect();
    names.sort_unstable();
    let wanted = [
        "applications",
        "crontab",
        "docker-compose",
        "grafana",
        "images",
        "nginx-cache",
        "nginx-config",
        "nginx-logs",
        "postgres",
        "prometheus",
        "prometheus-config",
        "redis",
        "scripts",
    ];
    assert_eq!(names, wanted, "{text}");
    let backup = site.backup("latest").await.unwrap();
    assert_eq!(backup.id().as_str(), ground.backup);
    let plan = site.plan_with(&backup, PlanRequest::all(), &quiet).await;
    let plan = plan.unwrap();
    assert!(plan.refusal().is_none(), "{:?}\n{text}", plan.findings);
    let stopped = plan.services.iter().map(|it| it.name.as_str());
    let mut stopped: Vec<&str> = stopped.collect();
    stopped.sort_unstable();
    let stops = [
        "grafana",
        "hosting_app",
        "hosting_app_worker",
        "hosting_redis",
        "prometheus",
    ];
    assert_eq!(stopped, stops, "{text}");
    std::fs::remove_file(&config).unwrap();
}
