use super::*;
use crate::contract::SiteConfig;

fn process(words: &[&str], program: &str, directory: &str, listens: &[&str]) -> FoundProcess {
    FoundProcess {
        words: words.iter().map(|it| (*it).to_owned()).collect(),
        program: program.into(),
        directory: directory.into(),
        user: "root".to_owned(),
        listens: listens.iter().map(|it| (*it).to_owned()).collect(),
        ..FoundProcess::default()
    }
}

fn config(proposal: &Proposal) -> SiteConfig {
    SiteConfig::from_toml(&proposal.text).unwrap_or_else(|e| panic!("{e}\n{}", proposal.text))
}

fn servers() -> Discovery {
    let mut postgres = process(
        &[
            "/usr/lib/postgresql/15/bin/postgres",
            "-D",
            "/srv/p/postgres/data",
        ],
        "/usr/lib/postgresql/15/bin/postgres",
        "/srv/p/postgres/data",
        &["127.0.0.1:5432"],
    );
    postgres.pid_file = Some("/srv/p/postgres/data/postmaster.pid".into());
    postgres.databases = vec![("shop".to_owned(), "shop_user".to_owned())];
    postgres.user = "postgres".to_owned();
    let mut redis = process(
        &["/usr/bin/redis-server 127.0.0.1:6379"],
        "/usr/bin/redis-check-rdb",
        "/srv/p/volumes/redis_data",
        &["127.0.0.1:6379"],
    );
    redis.config = Some(FoundConfig {
        path: "/srv/p/etc/redis.conf".into(),
        text: "port 6379\nrequirepass\n".to_owned(),
    });
    let mut app = process(
        &["/usr/bin/python3", "/opt/shop/web.py"],
        "/usr/bin/python3.11",
        "/srv/p",
        &["127.0.0.1:8000"],
    );
    app.connected = vec![5432];
    app.pid_file = Some("/run/web.pid".into());
    app.user = "www-data".to_owned();
    app.from_root = true;
    let mut worker = process(&["/opt/shop/worker"], "/opt/shop/worker", "/srv/p", &[]);
    worker.connected = vec![5432, 6379];
    worker.unit = Some("shop-worker.service".to_owned());
    let mut nginx = process(
        &["nginx: master process nginx -p /srv/p/ -c conf/nginx.conf"],
        "/usr/sbin/nginx",
        "/srv/p",
        &["127.0.0.1:80"],
    );
    nginx.config = Some(FoundConfig {
        path: "/srv/p/conf/nginx.conf".into(),
        text: "pid run/nginx.pid;\nerror_log logs/error.log warn;\nhttp {\n include conf.d/*.conf;\n}\n".to_owned(),
    });
    Discovery {
        name: "shop".to_owned(),
        processes: vec![nginx, worker, app, redis, postgres],
        secrets: vec!["/srv/p/secrets/redis.pass".into()],
        crontab: Some(FoundCrontab::User("root".to_owned())),
        ..Discovery::default()
    }
}

#[test]
fn servers_are_recognised_by_program_port_and_who_talks_to_whom() {
    let proposal = propose(&servers());
    let config = config(&proposal);
    let names: Vec<&String> = config.services.keys().collect();
    assert_eq!(names, ["postgres", "redis", "shop-worker", "web", "nginx"]);
    assert_eq!(config.services["postgres"]["stop_signal"], "SIGINT");
    assert_eq!(config.services["postgres"]["user"], "postgres");
    assert_eq!(
        config.services["redis"]["command"],
        serde_json::json!(["/usr/bin/redis-server", "/srv/p/etc/redis.conf"])
    );
    assert_eq!(config.services["nginx"]["pid_file"], "/srv/p/run/nginx.pid");
    assert_eq!(
        config.services["nginx"]["command"],
        serde_json::json!([
            "/usr/sbin/nginx",
            "-p",
            "/srv/p/",
            "-c",
            "conf/nginx.conf",
            "-g",
            "daemon off;"
        ])
    );
    assert_eq!(
        config.services["shop-worker"]["start"],
        serde_json::json!(["systemctl", "start", "shop-worker.service"])
    );
    let postgres = &config.components["postgres"];
    assert_eq!(
        (&postgres["database"], &postgres["user"]),
        (&"shop".into(), &"shop_user".into())
    );
    assert_eq!(postgres["stops"], serde_json::json!(["shop-worker", "web"]));
    let redis = &config.components["redis"];
    assert_eq!(redis["stops"], serde_json::json!(["shop-worker"]));
    assert_eq!(redis["volume"], "redis_data");
    assert_eq!(redis["password_file"], "/srv/p/secrets/redis.pass");
    assert_eq!(
        config.volumes["redis_data"]["path"],
        "/srv/p/volumes/redis_data"
    );
    assert_eq!(
        config.components["web-code"]["stops"],
        serde_json::json!(["shop-worker", "web"])
    );
    assert_eq!(config.components["crontab"]["user"], "root");
    let page = config.maintenance.as_ref().unwrap();
    assert_eq!(page["conf_dir"], "/srv/p/conf/conf.d");
    // Root starts it, and it becomes another by itself.
    assert!(config.services["web"].get("user").is_none());
    // No password is known, and who has to write it is told where.
    assert!(
        proposal
            .todo
            .iter()
            .any(|it| it.contains("/etc/restore/postgres.pass"))
    );
    assert!(proposal.text.contains("GUESSED: "));
}

#[test]
fn backups_say_which_trees_volumes_and_databases_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for folder in ["opt/scripts", "volumes/grafana_data", "volumes/nginx_logs"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    let id = "20240215-020000";
    let script = format!(
        "mkdir -p b/{id}/postgres b/{id}/volumes b/{id}/configs b/20240216-020000 && cd b/{id} && \
         tar -C ../../volumes/grafana_data -czf volumes/grafana-{id}.tar.gz . && \
         tar -C ../../volumes/nginx_logs -czf volumes/nginx-logs-{id}.tar.gz . && \
         tar -C ../../volumes/nginx_logs -czf volumes/lost-{id}.tar.gz . && \
         tar -C ../.. -czf configs/scripts-{id}.tar.gz opt/scripts && \
         printf 'Backup Date: x\\nDatabase: hosting_db\\n' > postgres/metadata.txt && \
         printf 'ALTER ROLE \"hosting_user\" WITH SUPERUSER;\\n' > postgres/postgres-globals-{id}.sql"
    );
    let made = std::process::Command::new("sh")
        .args(["-ec", &script])
        .current_dir(root)
        .status();
    assert!(made.unwrap().success());
    let backups = backups::look(&root.join("b")).unwrap();
    assert_eq!(
        backups.newest.as_deref(),
        Some(id),
        "the newest that has files"
    );
    let mut found = servers();
    found.backups = Some(backups);
    found.roots = vec!["/".into(), root.to_owned()];
    found.directories = vec![
        root.join("volumes/grafana_data"),
        root.join("volumes/nginx_logs"),
    ];
    let proposal = propose(&found);
    let config = config(&proposal);
    assert_eq!(config.components["postgres"]["database"], "hosting_db");
    assert_eq!(config.components["postgres"]["user"], "hosting_user");
    let path = |volume: &str| config.volumes[volume]["path"].as_str().unwrap().to_owned();
    assert_eq!(
        path("grafana_data"),
        root.join("volumes/grafana_data").to_str().unwrap()
    );
    assert_eq!(config.components["nginx-logs"]["volume"], "nginx_logs");
    let scripts = &config.components["scripts"];
    assert_eq!(scripts["root"], root.to_str().unwrap());
    assert_eq!(scripts["tree"], "opt/scripts");
    assert_eq!(config.components["crontab"]["optional"], true);
    assert!(
        proposal.todo.iter().any(|it| it.contains("volumes/lost-")),
        "{:?}",
        proposal.todo
    );
    assert_eq!(
        config.stores["main"]["path"],
        root.join("b").to_str().unwrap()
    );
}

fn service(name: &str, image: &str, mounts: &[(&str, &str)]) -> FoundService {
    FoundService {
        name: format!("hosting_{name}"),
        image: image.to_owned(),
        stack: Some("hosting".to_owned()),
        networks: vec!["backend".to_owned()],
        mounts: mounts
            .iter()
            .map(|(source, target)| FoundMount {
                source: (*source).to_owned(),
                target: target.into(),
                bind: source.starts_with('/'),
                ..FoundMount::default()
            })
            .collect(),
        ..FoundService::default()
    }
}

#[test]
fn services_of_a_swarm_are_recognised_by_image_and_mounts() {
    let mut postgres = service(
        "postgres",
        "registry.example:5000/postgres:15",
        &[("hosting_postgres_data", "/var/lib/postgresql/data")],
    );
    postgres.settings = vec![
        ("POSTGRES_DB".to_owned(), "hosting_db".to_owned()),
        ("POSTGRES_USER".to_owned(), "hosting_user".to_owned()),
    ];
    let mut job = service("migrate", "shop:1", &[]);
    job.job = true;
    let found = Discovery {
        name: "manager".to_owned(),
        services: vec![
            service("app", "localhost:5000/hosting-app:2.4.1", &[]),
            service(
                "grafana",
                "grafana/grafana:10",
                &[("hosting_grafana_data", "/var/lib/grafana")],
            ),
            job,
            service(
                "nginx",
                "nginx:1.22",
                &[
                    ("/mnt/nfs/nginx", "/etc/nginx"),
                    ("hosting_nginx_logs", "/var/log/nginx"),
                ],
            ),
            postgres,
            service(
                "redis",
                "valkey/valkey:8",
                &[("hosting_redis_data", "/data")],
            ),
        ],
        compose: vec!["blog".to_owned()],
        ..Discovery::default()
    };
    let proposal = propose(&found);
    let config = config(&proposal);
    assert_eq!(config.platform["kind"], "swarm");
    let names: Vec<&String> = config.services.keys().collect();
    assert_eq!(
        names,
        [
            "hosting_postgres",
            "hosting_redis",
            "hosting_app",
            "hosting_grafana",
            "hosting_nginx"
        ]
    );
    assert_eq!(config.components["postgres"]["database"], "hosting_db");
    assert_eq!(
        config.components["postgres"]["stops"],
        serde_json::json!(["hosting_app"])
    );
    assert_eq!(config.components["redis"]["volume"], "redis_data");
    assert_eq!(config.volumes["redis_data"]["name"], "hosting_redis_data");
    assert_eq!(
        config.components["grafana_data"]["stops"],
        serde_json::json!(["hosting_grafana"])
    );
    assert_eq!(
        config.components["nginx_logs"]["stops"],
        serde_json::json!([])
    );
    assert!(
        !config.components.contains_key("postgres_data"),
        "a database's data is not tar's"
    );
    assert_eq!(
        config.maintenance.as_ref().unwrap()["conf_dir"],
        "/mnt/nfs/nginx/conf.d"
    );
    assert!(
        proposal.text.contains("# Compose projects run here: blog."),
        "{}",
        proposal.text
    );
}

/// One of the Compose project `shop`, whose volumes are called as the compose file has them.
fn of_shop(name: &str, image: &str, mounts: &[(&str, &str)]) -> FoundService {
    let mut it = service(name, image, mounts);
    it.name = name.to_owned();
    it.stack = Some("shop".to_owned());
    for mount in &mut it.mounts {
        mount.called = mount.source.strip_prefix("shop_").map(str::to_owned);
    }
    it
}

fn shop() -> Discovery {
    let mut db = of_shop(
        "db",
        "registry.example:5000/postgres:15",
        &[
            ("shop_db_data", "/var/lib/postgresql/data"),
            ("/srv/shop/secrets/db.pass", "/run/secrets/db_password"),
        ],
    );
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    db.settings = vec![
        setting("POSTGRES_USER", "shop_user"),
        setting("POSTGRES_DB", "shop_db"),
        setting("POSTGRES_PASSWORD_FILE", "/run/secrets/db_password"),
    ];
    let mut cache = of_shop("cache", "own-cache:1", &[("shop_cache_data", "/data")]);
    cache.listens = vec![6379];
    cache.protected = Some(false);
    let mut web = of_shop(
        "web",
        "shop:2",
        &[("shop_uploads", "/uploads"), ("outside", "/srv/outside")],
    );
    // Of which the first sorts behind it.
    web.depends_on = Some(vec!["worker".to_owned(), "db".to_owned()]);
    let worker = of_shop("worker", "shop:2", &[("shop_uploads", "/uploads")]);
    let mut migrate = of_shop("migrate", "shop:2", &[]);
    migrate.job = true;
    let mut other = of_shop(
        "web",
        "grafana/grafana:10",
        &[("board_data", "/var/lib/grafana")],
    );
    other.stack = Some("board".to_owned());
    other.networks = vec!["board".to_owned()];
    let nginx = of_shop(
        "nginx",
        "nginx:1.25",
        &[
            ("/srv/shop/conf.d", "/etc/nginx/conf.d"),
            ("shop_logs", "/var/log/nginx"),
        ],
    );
    Discovery {
        name: "host".to_owned(),
        compose: vec!["board".to_owned(), "shop".to_owned()],
        compose_services: vec![other, cache, db, migrate, nginx, web, worker],
        ..Discovery::default()
    }
}

#[test]
fn services_of_compose_projects_are_recognised_by_image_port_and_mounts() {
    let proposal = propose(&shop());
    let config = config(&proposal);
    assert_eq!(config.platform["kind"], "compose");
    assert_eq!(config.platform["project"], "shop");
    let names: Vec<&String> = config.services.keys().collect();
    assert_eq!(
        names,
        ["db", "cache", "worker", "shop-web", "board-web", "nginx"]
    );
    assert_eq!(config.services["db"]["port"], 5432);
    assert_eq!(config.services["shop-web"]["name"], "web");
    assert!(config.services["shop-web"].get("project").is_none());
    assert_eq!(config.services["board-web"]["project"], "board");
    let after = &config.services["shop-web"]["after"];
    assert_eq!(*after, serde_json::json!(["worker", "db"]));
    let after = &config.services["worker"]["after"];
    assert_eq!(*after, serde_json::json!(["db", "cache"]));

    let db = &config.components["db"];
    assert_eq!(
        (&db["database"], &db["user"]),
        (&"shop_db".into(), &"shop_user".into())
    );
    assert_eq!(db["password_file"], "/srv/shop/secrets/db.pass");
    assert_eq!(db["stops"], serde_json::json!(["worker", "shop-web"]));
    let cache = &config.components["cache"];
    assert_eq!(
        (&cache["kind"], &cache["volume"]),
        (&"redis".into(), &"cache_data".into())
    );
    assert!(cache.get("password_file").is_none(), "it asks for none");
    let uploads = &config.components["uploads"];
    assert_eq!(uploads["stops"], serde_json::json!(["worker", "shop-web"]));
    let logs = &config.components["logs"];
    assert_eq!(logs["stops"], serde_json::json!([]));
    assert_eq!(logs["service"], "nginx");
    assert!(
        !config.components.contains_key("db_data"),
        "a database's data is not tar's"
    );
    // The project's own need no section; others are the engine's by exact name.
    assert!(!config.volumes.contains_key("uploads"));
    for (name, engine) in [("outside", "outside"), ("data", "board_data")] {
        assert_eq!(config.volumes[name]["external"], true, "{name}");
        assert_eq!(config.volumes[name]["name"], engine);
    }
    assert_eq!(
        config.components["data"]["stops"],
        serde_json::json!(["board-web"])
    );
    assert_eq!(
        config.maintenance.as_ref().unwrap()["conf_dir"],
        "/srv/shop/conf.d"
    );
    assert_eq!(
        proposal.todo.len(),
        1,
        "only where backups go: {:?}",
        proposal.todo
    );
    for part in [
        "there are several projects: board, shop",
        "the service migrate of shop",
    ] {
        assert!(proposal.text.contains(part), "{part}: {}", proposal.text);
    }
}

/// Databases of the host itself are not forgotten for a project beside them.
#[test]
fn a_project_beside_servers_of_the_host_is_named() {
    let mut found = shop();
    found.processes = servers().processes;
    let proposal = propose(&found);
    let config = config(&proposal);
    assert_eq!(config.components["postgres"]["kind"], "postgres");
    assert!(
        proposal
            .text
            .contains("# Compose projects run here: board, shop."),
        "{}",
        proposal.text
    );
    // One that only passes requests on does not count.
    found.processes.retain(|it| it.program.ends_with("nginx"));
    let proposal = propose(&found);
    assert!(
        proposal.text.contains("kind = \"compose\""),
        "{}",
        proposal.text
    );
    assert!(
        proposal
            .text
            .contains("- /usr/sbin/nginx, a process of this host"),
        "{}",
        proposal.text
    );
}

#[test]
fn a_host_with_nothing_gets_a_file_that_says_what_to_do() {
    let proposal = propose(&Discovery::default());
    config(&proposal);
    assert!(
        proposal
            .todo
            .iter()
            .any(|it| it.contains("no server was found")),
        "{:?}",
        proposal.todo
    );
}

#[test]
fn names_of_others_stay_in_their_quotes() {
    let mut found = servers();
    found.name = "a\"]\n[evil]".to_owned();
    found.compose = vec!["x\n[evil]".to_owned()];
    found.secrets = vec!["/srv/p/secrets/redis\n[evil].pass".into()];
    let config = config(&propose(&found));
    assert_eq!(config.site.name, "a\"]\n[evil]");
    assert_eq!(
        config.components["redis"]["password_file"],
        "/srv/p/secrets/redis\n[evil].pass"
    );
}
