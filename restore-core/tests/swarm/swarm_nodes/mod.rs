//! A swarm of three engines: what runs and lies on other nodes is restored through their engines.

mod away;
mod ground;
mod managers;
mod page;
mod quorum;
mod redis;
mod tree;
mod twins;

use ground::Ground;
use restore_core::platform::{Command, SwapState};
use restore_core::run::{Outcome, RunId};
use restore_core::{BackupRequest, ErrorKind, PlanRequest, RunOptions};
use restore_testing::assert_same;

// worker1, which has Grafana and its volume, is reached by TCP with TLS, worker2 by ssh.

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_of_several_nodes_is_restored_and_taken_back() {
    let ground = Ground::new(2);
    a_node_without_an_endpoint(&ground).await;
    other_engines(&ground).await;
    everything(&ground).await;
    a_stack_elsewhere(&ground).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_away_holds_a_run_until_it_is_back() {
    away::a_node_that_goes_away(&Ground::new(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_volumes_and_the_page_of_other_nodes() {
    let ground = Ground::whole(2);
    tree::a_tree_elsewhere(&ground).await;
    twins::volumes_of_the_same_name(&ground).await;
    twins::extended_attributes(&ground).await;
    page::a_page_elsewhere(&ground).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_of_another_node_and_two_managers() {
    let ground = Ground::whole(1);
    managers::two_of_them(&ground).await;
    a_database_elsewhere(&ground).await;
    redis::a_redis_elsewhere(&ground).await;
}

/// Refused before anything is touched, with what to add.
async fn a_node_without_an_endpoint(ground: &Ground) {
    let site = ground.site("alone", "").await;
    let backup = site.backup("latest").await.unwrap();
    let plan = site
        .plan_with(&backup, PlanRequest::all(), &RunOptions::new())
        .await
        .unwrap();
    let refused = |code: &str, of: &str| {
        let found = plan.findings.iter().find(|finding| {
            finding.code == code && format!("{} {}", finding.subject, finding.message).contains(of)
        });
        let found = found.unwrap_or_else(|| panic!("no {code} of {of}: {:#?}", plan.findings));
        found.hint.clone().unwrap()
    };
    let hint = refused("swarm.no_endpoint", "grafana");
    let address = ground.address(1);
    assert!(
        hint.contains("[nodes.worker1]") && hint.contains(&format!("ssh://root@{address}")),
        "{hint}"
    );
    let hint = refused("image.other_node", "hosting_app");
    assert!(hint.contains("[nodes.worker"), "{hint}");
    assert!(plan.refusal().is_some());
    let error = site.platform().volume("grafana_data").await.err().unwrap();
    assert_eq!(error.code(), "swarm.no_endpoint");
    assert_eq!(error.kind(), ErrorKind::Preflight);
    // Nothing was made by looking.
    assert!(
        !ground
            .swarm
            .docker(&["volume", "ls", "-q"])
            .contains("grafana_data\n")
    );
}

/// Each way to an engine, and that it is the right one.
async fn other_engines(ground: &Ground) {
    // Another node's engine is never taken for it.
    let wrong = format!(
        "[nodes.worker1]\nendpoint = 'unix://{}'\n",
        ground.swarm.worker_socket(2).display()
    );
    let site = ground.site("wrong", &wrong).await;
    let error = site.platform().volume("grafana_data").await.err().unwrap();
    assert_eq!(error.code(), "swarm.wrong_node", "{error}");

    // A client that the engine's authority has not signed, and an engine that ours has not.
    for (what, keys) in [
        ("no certificate of ours", "ca = 'ca.pem'"),
        (
            "another authority",
            "ca = 'other.pem'\ncert = 'cert.pem'\nkey = 'key.pem'",
        ),
    ] {
        let keys = keys.replace("= '", &format!("= '{}/", ground.swarm.tls().display()));
        let tls = format!(
            "[nodes.worker1]\nendpoint = 'tcp://{}'\n{keys}\n",
            ground.address(1)
        );
        let site = ground.site("tls", &tls).await;
        let error = site.platform().volume("grafana_data").await.err().unwrap();
        assert!(
            ["swarm.tls_refused", "swarm.unreachable", "swarm.engine"].contains(&error.code()),
            "{what}: {} {error}",
            error.code()
        );
    }

    // The manager itself from another host: files are reached through containers only.
    let far = format!(
        "endpoint = 'ssh://nas{}'\nssh_config = '{}'",
        ground.swarm.socket().display(),
        ground.ssh_config.display()
    );
    let site = ground.site_at("far", &far, "").await;
    let volume = site.platform().volume("prometheus_data").await.unwrap();
    assert_eq!(volume.path(), None);
    let run = RunId::generate();
    assert_eq!(volume.state(&run).await.unwrap(), SwapState::Nothing);
    assert!(volume.free_space().await.unwrap().free_bytes > 0);
    ground.agents_are_confined();
    drop((volume, site));
    ground.nothing_left().await;

    // An unknown host key, and a host without an engine there.
    for (config, socket, code) in [
        (
            &ground.strange_config,
            ground.swarm.socket(),
            "ssh.host_key_unknown",
        ),
        (
            &ground.ssh_config,
            "/nowhere/docker.sock".into(),
            "swarm.unreachable",
        ),
    ] {
        let platform = format!(
            "endpoint = 'ssh://nas{}'\nssh_config = '{}'",
            socket.display(),
            config.display()
        );
        let site = ground.site_at("far", &platform, "").await;
        let error = site
            .platform()
            .volume("prometheus_data")
            .await
            .err()
            .unwrap();
        assert_eq!(error.code(), code, "{error}");
    }

    // An agent that cannot start is said to be one, with what to do.
    let nodes = ground.nodes().replace(
        "[nodes.worker1]",
        "[nodes.worker1]\nimage = 'restore-example/tools:1'",
    );
    let site = ground.site_with_agent("/etc/hostname", &nodes).await;
    let volume = site.platform().volume("grafana_data").await.unwrap();
    let error = volume.state(&run).await.unwrap_err();
    assert_eq!(error.code(), "agent.cannot_start", "{error}");
    assert!(error.message().contains("exec format error"), "{error}");
    assert!(
        error.hint_text().unwrap().contains("[nodes.worker1]"),
        "{error}"
    );
    // One that runs, and ends at once without being what it should.
    let wrong = ground.swarm.root().join("no-agent");
    std::fs::write(&wrong, "#!/bin/sh\necho no such library >&2\nexit 127\n").unwrap();
    for _ in 0..5 {
        let site = ground
            .site_with_agent(wrong.to_str().unwrap(), &nodes)
            .await;
        let volume = site.platform().volume("grafana_data").await.unwrap();
        let error = volume.state(&run).await.unwrap_err();
        assert_eq!(error.code(), "agent.cannot_start", "{error}");
        assert!(error.message().contains("no such library"), "{error}");
    }
    ground.nothing_left().await;
}

/// A stack of which a part runs on worker1: what its removal leaves running there is waited for,
/// and images that only its files name are loaded wherever they may be needed.
async fn a_stack_elsewhere(ground: &Ground) {
    let site = ground.site("stack", &ground.nodes()).await;
    let platform = site.platform().clone();
    let stacks = platform.stacks().unwrap();
    let none = stacks.snapshot("fern").await.unwrap();
    let file = ground.swarm.root().join("fern.yml");
    let text = "version: '3.8'\nservices:\n  slow:\n    image: restore-example/tools:1\n    \
        entrypoint: [sh, -c, \"trap 'sleep 3; exit 0' TERM; while :; do sleep 0.05; done\"]\n    \
        networks: [outside]\n    stop_grace_period: 10s\n    \
        deploy: {endpoint_mode: dnsrr, placement: {constraints: [node.hostname==worker1]}}\n\
        networks:\n  outside: {external: true, name: host}\n";
    std::fs::write(&file, text).unwrap();
    stacks.deploy("fern", &[file], &none).await.unwrap();
    let socket = format!("unix://{}", ground.swarm.worker_socket(1).display());
    let there = || {
        let mut command = std::process::Command::new("docker");
        let filter = "label=com.docker.swarm.service.name=fern_slow";
        command.args(["--host", &socket, "ps", "-q", "--filter", filter]);
        restore_testing::text(&restore_testing::run(&mut command))
    };
    assert!(!there().is_empty());
    stacks.put_back("fern", &none).await.unwrap();
    assert_eq!(there(), "", "it still runs");

    let names = ["nobody/runs-it:1".to_owned()];
    for (deploys, nodes) in [("false", 0), ("true", ground.workers as usize)] {
        let deploys = format!("redeploy = {deploys}");
        let site = ground.site_but("stack", &deploys, &ground.nodes()).await;
        let images = site.platform().images().unwrap();
        let elsewhere = images.elsewhere(&names).await.unwrap();
        assert_eq!(elsewhere.len(), nodes, "{deploys}: {elsewhere:?}");
    }
}

/// A PostgreSQL on worker1, backed up and restored with the programs of its own container.
async fn a_database_elsewhere(ground: &Ground) {
    let password =
        std::fs::read_to_string(ground.swarm.root().join("secrets/postgres.pass")).unwrap();
    ground.swarm.docker(&[
        "service",
        "create",
        "-q",
        "--detach",
        "--no-resolve-image",
        "--name",
        "far",
        "--constraint",
        "node.hostname==worker1",
        "--secret",
        "hosting_postgres.pass",
        "--env",
        "POSTGRES_USER=hosting_user",
        "--env",
        "POSTGRES_DB=far_db",
        "--env",
        "POSTGRES_PASSWORD_FILE=/run/secrets/hosting_postgres.pass",
        "--publish",
        "mode=host,target=5432,published=15432",
        "--mount",
        "type=volume,source=far_data,target=/var/lib/postgresql/data",
        // Without a network of its own its port would be published nowhere.
        "--network",
        "hosting_backend",
        "--endpoint-mode",
        "dnsrr",
        "restore-example/postgres:15",
    ]);
    assert!(!password.is_empty());
    let site = ground.site("database", &format!(
        "{}\n[services.far]\nport = 5432\nready = 'tcp'\n[components.far]\nkind = 'postgres'\nservice = 'far'\ndatabase = 'far_db'\n\
         user = 'hosting_user'\npassword_file = '{}/secrets/postgres.pass'\nmaintenance_database = 'postgres'\n\
         dump = ['postgres/far-{{id}}.dump']\nsql = []\n",
        ground.nodes(), ground.swarm.root().display()
    )).await;
    let platform = site.platform().clone();
    platform.scale("far", 1).await.unwrap();
    let endpoint = platform.endpoint("far").await.unwrap();
    assert_eq!((endpoint.host, endpoint.port), (ground.address(1), 15432));
    let sql = async |text: &str| {
        let argv = [
            "psql",
            "-X",
            "-At",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "hosting_user",
            "-d",
            "far_db",
            "-c",
            text,
        ];
        ground::said(platform.as_ref(), "far", Command::new(argv)).await
    };
    // A new cluster's first server answers too, and is soon replaced by another.
    let create = "CREATE TABLE IF NOT EXISTS t AS SELECT n FROM generate_series(1, 1000) n";
    ground::patiently(async || sql(create).await.0 == 0).await;
    let made = site
        .back_up(BackupRequest::all().only(["far"]), RunOptions::new())
        .await
        .unwrap();
    assert_eq!(sql("DELETE FROM t WHERE n > 10").await.0, 0);
    let backup = site.backup(made.id.as_str()).await.unwrap();
    let plan = site
        .plan_with(
            &backup,
            PlanRequest::all().only(["far"]).no_safety_backup(true),
            &RunOptions::new(),
        )
        .await
        .unwrap();
    assert!(plan.refusal().is_none(), "{:#?}", plan.findings);
    let report = site.run(plan, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert_eq!(sql("SELECT count(*) FROM t").await.1, "1000\n");
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    assert_eq!(sql("SELECT count(*) FROM t").await.1, "10\n");
    ground.confirm(&site).await;
    ground.swarm.docker(&["service", "rm", "far"]);
    std::fs::remove_dir_all(ground.swarm.backup_folder(made.id.as_str())).unwrap();
    let socket = format!("unix://{}", ground.swarm.worker_socket(1).display());
    ground::patiently(async || {
        let mut command = std::process::Command::new("docker");
        command.args(["--host", &socket, "volume", "rm", "far_data"]);
        command.output().unwrap().status.success()
    })
    .await;
}

/// Volumes, services and images of all nodes, there and back.
async fn everything(ground: &Ground) {
    let site = ground.site("all", &ground.nodes()).await;
    let plan = ground.plan(&site, PlanRequest::all()).await;
    let report = site.run(plan, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert_same(
        &ground.at_backup,
        &ground.swarm.fingerprint(),
        "a full restore",
    );
    let safety = std::fs::read_dir(ground.swarm.root().join("backups")).unwrap();
    let safety = safety
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("pre-restore-")
        })
        .expect("a safety backup");
    let packed = std::fs::read_dir(safety.join("volumes")).unwrap();
    assert!(packed.into_iter().any(|file| {
        file.unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("grafana")
    }));
    let kept = report
        .components
        .iter()
        .find(|component| component.name == "grafana")
        .unwrap();
    assert!(
        kept.kept_at
            .as_ref()
            .unwrap()
            .contains("of the node worker1"),
        "{kept:?}"
    );

    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    assert_same(&ground.damaged, &ground.swarm.fingerprint(), "rolled back");
    ground.confirm(&site).await;
    assert_same(&ground.damaged, &ground.swarm.fingerprint(), "confirmed");
    ground.nothing_left().await;
}
