use super::*;
use crate::contract::SiteConfig;

mod deployment;

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
    // What it serves may be relative to where it runs; so is what a Redis loads whose file names no other `dir`.
    assert_eq!(config.services["web"]["directory"], "/srv/p");
    assert_eq!(
        config.services["redis"]["directory"],
        "/srv/p/volumes/redis_data"
    );
    for name in ["postgres", "nginx", "shop-worker"] {
        assert!(config.services[name].get("directory").is_none(), "{name}");
    }
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
fn the_directory_of_a_process_is_kept_where_it_means_something() {
    let of = |directory: &str| {
        let mut found = servers();
        for it in &mut found.processes {
            it.directory = directory.into();
            if let Some(config) = it
                .config
                .as_mut()
                .filter(|it| it.path.ends_with("redis.conf"))
            {
                config.text += "dir ./data\n";
            }
        }
        propose(&found)
    };
    let everywhere = of("/");
    for (name, service) in &config(&everywhere).services {
        assert!(service.get("directory").is_none(), "{name}");
    }
    let gone = of("/srv/p (deleted)");
    assert!(config(&gone).services["web"].get("directory").is_none());
    let told = gone
        .todo
        .iter()
        .any(|it| it.contains("the directory that web was started in is deleted"));
    assert!(told, "{:?}", gone.todo);
    // A Redis is in its `dir`, and was started above it.
    let services = config(&of("/srv/p/data")).services;
    assert_eq!(services["redis"]["directory"], "/srv/p");
    assert_eq!(services["web"]["directory"], "/srv/p/data");
}

/// Any user may run a program that is called `nginx` and listens somewhere.
#[test]
fn a_program_of_somebody_elses_is_no_command_of_roots() {
    let mut found = servers();
    let mut fake = process(
        &["nginx: master process nginx -p /tmp/evil/ -c x.conf"],
        "/tmp/evil/nginx",
        "/tmp/evil",
        &["127.0.0.1:8081"],
    );
    fake.user = "www-data".to_owned();
    fake.foreign = Some("/tmp/evil/nginx belongs to www-data".to_owned());
    fake.config = Some(FoundConfig {
        path: "/tmp/evil/x.conf".into(),
        text: "http {\n include conf.d/*.conf;\n}\n".to_owned(),
    });
    // With the lowest number of all.
    for it in &mut found.processes {
        it.pid = 100;
    }
    found.processes.push(fake.clone());
    let proposal = propose(&found);
    let both = config(&proposal);
    assert_eq!(both.services["nginx"]["pid_file"], "/srv/p/run/nginx.pid");
    assert_eq!(both.services["nginx-8081"]["user"], "www-data");
    let told = "# GUESSED: /tmp/evil/nginx belongs to www-data: who can write there";
    assert!(proposal.text.contains(told), "{}", proposal.text);
    let page = both.maintenance.as_ref().unwrap();
    assert_eq!(page["conf_dir"], "/srv/p/conf/conf.d");
    assert!(!page["test"].to_string().contains("evil"), "{page:?}");

    found.processes = vec![fake];
    let proposal = propose(&found);
    let alone = config(&proposal);
    assert!(alone.maintenance.is_none());
    let tree = &alone.components["nginx-config"];
    assert!(tree.get("test").is_none() && tree.get("reload").is_none());
    let told = proposal
        .todo
        .iter()
        .any(|it| it.contains("no command is made of it"));
    assert!(told, "{:?}", proposal.todo);
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
         tar -C ../.. --zstd -cf configs/scripts-{id}.tar.zst opt/scripts && \
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
    postgres.secrets = vec!["tls.key".to_owned(), "postgres.pass".to_owned()];
    let mut redis = service(
        "redis",
        "valkey/valkey:8",
        &[("hosting_redis_data", "/data")],
    );
    redis.secrets = vec!["redis.conf".to_owned(), "redis.pass".to_owned()];
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
            redis,
        ],
        secrets: ["postgres.pass", "redis.conf"]
            .map(|name| Path::new("/srv/secrets").join(name))
            .to_vec(),
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
    // A file that is called as the secret holds it; a configuration is none, and what is not there is to be made.
    assert_eq!(
        config.components["postgres"]["password_file"],
        "/srv/secrets/postgres.pass"
    );
    let made = "/etc/restore/hosting_redis.pass";
    assert_eq!(config.components["redis"]["password_file"], made);
    assert!(
        proposal.todo.iter().any(|it| it.contains(made)),
        "{:?}",
        proposal.todo
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

#[test]
fn a_proxy_that_shows_no_page_is_named() {
    let said = |image: &str| {
        let found = Discovery {
            services: vec![service("front", image, &[])],
            ..Discovery::default()
        };
        let proposal = propose(&found);
        assert!(config(&proposal).maintenance.is_none(), "{image}");
        proposal.text.contains("hosting_front is in front of users")
    };
    assert!(said("traefik:v3") && said("docker.io/library/caddy:2"));
    assert!(!said("shop:2"));
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

#[test]
fn what_stands_before_a_server_is_none() {
    use containers::{Role, role};
    for image in [
        "postgrest/postgrest:v12",
        "prodrigestivill/postgres-backup-local",
        "registry.example:5000/postgres-operator:1",
        "edoburu/pgbouncer",
        "bitnami/pgpool:4",
        "adminer",
        "dpage/pgadmin4:8",
        "bitnami/redis-sentinel:7",
    ] {
        let mut it = service("x", image, &[]);
        it.listens = vec![5432];
        assert_eq!(role(&it), Role::App, "{image}");
    }
    for image in [
        "bitnami/postgresql-repmgr:15",
        "postgis/postgis:15",
        "timescale/timescaledb:latest-pg15",
    ] {
        assert_eq!(role(&service("x", image, &[])), Role::Postgres, "{image}");
    }
    let exporter = service("x", "prometheuscommunity/postgres-exporter", &[]);
    assert_eq!(role(&exporter), Role::Monitoring);
}

/// The project `shop` with another Redis, which asks for no password.
fn with_cache(mounts: &[(&str, &str)]) -> Discovery {
    let mut found = shop();
    found.compose_services.retain(|it| it.name != "cache");
    let mut cache = of_shop("cache", "redis:7", mounts);
    cache.protected = Some(false);
    found.compose_services.push(cache);
    found
}

#[test]
fn a_redis_may_have_its_data_in_a_directory_of_the_host() {
    let mut found = with_cache(&[
        ("/srv/shop/redis.conf", "/usr/local/etc/redis/redis.conf"),
        ("/srv/shop/redis", "/data"),
    ]);
    let proposal = propose(&found);
    let config = config(&proposal);
    let cache = &config.components["cache"];
    assert_eq!(
        (&cache["kind"], &cache["volume"]),
        (&"redis".into(), &"cache_data".into())
    );
    assert_eq!(
        serde_json::to_value(&config.volumes["cache_data"]).unwrap(),
        serde_json::json!({"path": "/srv/shop/redis"})
    );
    assert!(!config.components.contains_key("cache_data"));
    assert_eq!(proposal.todo.len(), 1, "{:?}", proposal.todo);
    // Where the project has a volume of that name, and where it keeps its data elsewhere.
    let cache = found.compose_services.last_mut().unwrap();
    cache.mounts.push(FoundMount {
        source: "shop_cache_data".to_owned(),
        called: Some("cache_data".to_owned()),
        target: "/other".into(),
        ..FoundMount::default()
    });
    let config = self::config(&propose(&found));
    assert_eq!(config.components["cache"]["volume"], "cache_data_2");
    assert_eq!(config.volumes["cache_data_2"]["path"], "/srv/shop/redis");
    let proposal = propose(&with_cache(&[("/srv/shop/redis", "/var/lib/redis")]));
    let config = self::config(&proposal);
    assert_eq!(config.components["cache"]["volume"], "cache_data");
    let told = "# GUESSED: it can write there, and nothing with a name is at its /data.";
    assert!(proposal.text.contains(told), "{}", proposal.text);
}

#[test]
fn a_redis_without_a_place_for_its_data_is_not_passed_over() {
    let nameless = "1f".repeat(32);
    for (mounts, says) in [
        (vec![], "cache has no volume for its data"),
        (
            vec![("/srv/shop/redis.conf", "/etc/redis.conf")],
            "cache has no volume for its data",
        ),
        (
            vec![(nameless.as_str(), "/data")],
            "cache keeps its data in a volume without a name",
        ),
    ] {
        let mut found = with_cache(&mounts);
        let proposal = propose(&found);
        let told = proposal.todo.iter().any(|it| it.contains(says));
        assert!(told, "{mounts:?}: {:?}", proposal.todo);
        assert!(!config(&proposal).components.contains_key("cache"));
        // One that is told to save nothing is nothing to do.
        found.compose_services.last_mut().unwrap().keeps_nothing = true;
        let proposal = propose(&found);
        assert_eq!(proposal.todo.len(), 1, "{mounts:?}: {:?}", proposal.todo);
        let told = "# cache is told to save nothing: it holds nothing to restore.";
        assert!(proposal.text.contains(told), "{}", proposal.text);
    }
    // A swarm's is restored in volumes alone.
    let found = Discovery {
        services: vec![service("redis", "redis:7", &[("/srv/redis", "/data")])],
        ..Discovery::default()
    };
    let proposal = propose(&found);
    let says = "driver_opts: type: none, o: bind, device: /srv/redis";
    let told = proposal.todo.iter().any(|it| it.contains(says));
    assert!(told, "{:?}", proposal.todo);
    assert!(!config(&proposal).components.contains_key("redis"));
}

#[test]
fn a_volume_without_a_name_is_named_by_its_place() {
    let nameless = "1f".repeat(32);
    let mut found = with_cache(&[(nameless.as_str(), "/data")]);
    let db = of_shop(
        "mysql",
        "mariadb:11",
        &[(nameless.as_str(), "/var/lib/mysql")],
    );
    found.compose_services.push(db);
    let text = propose(&found).text.replace("\n# ", " ");
    let told = "- the volume without a name at /var/lib/mysql of the service mysql of shop: no backup has it, and \
                containers made anew do not find it.";
    assert!(text.contains(told), "{text}");
    // What is to be done about that of the Redis is said where its component would be.
    assert!(!text.contains("without a name at /data"), "{text}");
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

/// Whoever runs a server decides what it asks for, and hears the password.
#[test]
fn no_secret_of_the_platforms_is_named_for_a_server_of_a_persons() {
    let mut found = servers();
    for it in &mut found.processes {
        it.user = "nobody".to_owned();
    }
    let proposal = propose(&found);
    let redis = &config(&proposal).components["redis"];
    assert_eq!(redis["password_file"], "/etc/restore/redis.pass");
    let mut todo = proposal.todo.iter();
    assert!(todo.any(|it| it.contains("/etc/restore/redis.pass")));
}

/// Where several users run a server of one kind, nobody can tell which of them the secret is for.
#[test]
fn no_secret_is_named_for_a_server_beside_that_of_another_user() {
    let of_redis = |found: &Discovery, name: &str| {
        let file = &config(&propose(found)).components[name]["password_file"];
        file.as_str().unwrap().to_owned()
    };
    let mut found = servers();
    let is_redis = |it: &&FoundProcess| it.words.iter().any(|word| word.contains("redis"));
    let mut second = found.processes.iter().find(is_redis).unwrap().clone();
    second.listens = vec!["127.0.0.1:6380".to_owned()];
    second.pid += 1000;
    found.processes.push(second);
    assert_eq!(of_redis(&found, "redis"), "/srv/p/secrets/redis.pass");
    assert_eq!(
        of_redis(&found, "redis-6380"),
        "/etc/restore/redis-6380.pass"
    );
    found.processes.last_mut().unwrap().user = "www-data".to_owned();
    for name in ["redis", "redis-6380"] {
        assert_eq!(of_redis(&found, name), format!("/etc/restore/{name}.pass"));
    }
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
