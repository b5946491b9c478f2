//! What brings projects and stacks back where nothing is left of them.

use serde_json::json;

use super::*;

/// A directory of this test, by the path that leads there without links.
struct Folder {
    root: PathBuf,
    _dir: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            root: dir.path().canonicalize().unwrap(),
            _dir: dir,
        }
    }

    fn directory(&self, name: &str) -> String {
        let path = self.root.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The projects `shop` and `board`, each with its file in a directory of its own.
    fn projects(&self) -> Discovery {
        let mut found = shop();
        for it in &mut found.compose_services {
            let project = it.stack.clone().unwrap();
            let file = self.file(&format!("{project}/compose.yml"), "services: {}\n");
            it.config_files = vec![file.into()];
            it.described_in = Some(self.root.join(project));
        }
        found
    }

    fn backups(&self, archive: &str, member: &str) -> FoundBackups {
        FoundBackups {
            directory: self.root.join("shop/backups"),
            newest: Some("20240215-020000".to_owned()),
            files: vec![archive.to_owned()],
            members: [(archive.to_owned(), member.to_owned())].into(),
            ..FoundBackups::default()
        }
    }
}

fn bind(source: String, target: &str) -> FoundMount {
    FoundMount {
        source,
        target: target.into(),
        bind: true,
        ..FoundMount::default()
    }
}

fn component(config: &SiteConfig, name: &str) -> serde_json::Value {
    serde_json::to_value(&config.components[name]).unwrap()
}

/// As it is for somebody who has everything of a project in one directory.
#[test]
fn what_a_project_is_made_from_becomes_a_component() {
    let folder = Folder::new();
    let mut found = folder.projects();
    for it in &mut found.compose_services {
        match (it.stack.as_deref(), it.name.as_str()) {
            (_, "cache") => it.mounts = vec![bind(folder.directory("shop/redis"), "/data")],
            (_, "nginx") => {
                let config = folder.directory("shop/nginx");
                it.mounts = vec![bind(config, "/etc/nginx/conf.d")];
            }
            (_, "db") => {
                let secret = folder.file("shop/secrets/db.pass", "geheim");
                it.mounts = vec![
                    bind(folder.directory("shop/pgdata"), "/var/lib/postgresql/data"),
                    bind(secret, "/run/secrets/db_password"),
                    bind(
                        folder.directory("shop/initdb"),
                        "/docker-entrypoint-initdb.d",
                    ),
                ];
            }
            (Some("shop"), "web") => {
                it.mounts = vec![bind(folder.file("shop/web.ini", "a"), "/web.ini")];
            }
            _ => {}
        }
    }
    found.backups = Some(folder.backups("redis/redis-{id}.rdb", ""));
    let proposal = propose(&found);
    assert_eq!(proposal.todo, [""; 0], "{}", proposal.text);
    let config = config(&proposal);
    let root = folder.root.to_str().unwrap();
    assert_eq!(
        component(&config, "shop-compose"),
        json!({
            "kind": "files", "archive": ["configs/shop-compose-{id}.tar.gz"], "optional": true,
            "root": root, "tree": "shop",
            "exclude": ["backups", "nginx", "pgdata", "redis", "secrets/db.pass"],
            "stops": ["shop-web"],
            "redeploy": true, "stack": "shop", "compose": ["compose.yml"],
        })
    );
    assert_eq!(
        component(&config, "board-compose"),
        json!({
            "kind": "files", "archive": ["configs/board-compose-{id}.tar.gz"], "optional": true,
            "root": root, "tree": "board", "stops": [],
            "redeploy": true, "stack": "board", "compose": ["compose.yml"],
        })
    );
    assert_eq!(config.components["nginx"]["kind"], "files");
    assert_eq!(config.components["cache"]["kind"], "redis");
    for name in ["pgdata", "redis", "initdb"] {
        assert!(!config.components.contains_key(name), "{name}");
    }
    assert!(
        !proposal.text.contains("the compose files in"),
        "{}",
        proposal.text
    );
}

#[test]
fn a_tree_with_the_files_of_two_projects_becomes_two_components() {
    let folder = Folder::new();
    let mut found = folder.projects();
    let archive = "configs/compose-files-{id}.tar.gz";
    let tree = folder.root.file_name().unwrap().to_str().unwrap();
    let root = folder.root.parent().unwrap();
    found.backups = Some(folder.backups(archive, tree));
    found.roots = vec![root.to_owned()];
    let proposal = propose(&found);
    assert_eq!(proposal.todo, [""; 0], "{}", proposal.text);
    let config = config(&proposal);
    let root = root.to_str().unwrap();
    assert_eq!(
        component(&config, "compose-files"),
        json!({
            "kind": "files", "archive": [archive], "root": root, "tree": tree,
            "exclude": ["board", "shop/backups"], "stops": [],
            "redeploy": true, "stack": "shop", "compose": ["shop/compose.yml"],
        })
    );
    assert_eq!(
        component(&config, "compose-files-board"),
        json!({
            "kind": "files", "archive": ["configs/compose-files-board-{id}.tar.gz", archive],
            "root": root, "tree": format!("{tree}/board"), "stops": [],
            "redeploy": true, "stack": "board", "compose": ["compose.yml"],
        })
    );
    let made = config.components.keys();
    let made: Vec<&String> = made.filter(|name| name.contains("compose")).collect();
    assert_eq!(made, ["compose-files", "compose-files-board"]);
}

/// Code and compose file in one directory, which a service mounts whole.
#[test]
fn a_tree_that_is_mounted_may_be_what_a_project_is_made_from() {
    let folder = Folder::new();
    let mut found = folder.projects();
    let web = found.compose_services.iter_mut();
    let mut web = web.filter(|it| it.name == "web" && it.stack.as_deref() == Some("shop"));
    let web = web.next().unwrap();
    web.mounts = vec![bind(folder.directory("shop"), "/app")];
    let config = config(&propose(&found));
    let shop = component(&config, "shop");
    assert_eq!(
        (&shop["redeploy"], &shop["stack"], &shop["compose"]),
        (&json!(true), &json!("shop"), &json!(["compose.yml"]))
    );
    assert_eq!(shop["stops"], json!(["shop-web"]));
    assert!(!config.components.contains_key("shop-compose"));
}

#[test]
fn what_keeps_a_project_from_being_made_anew_is_told() {
    type Change = fn(&Folder, &mut FoundService);
    let cases: [(&str, Change); 5] = [
        ("have its file ", |folder, it| {
            it.config_files = vec![folder.root.join("shop/gone.yml")];
        }),
        ("make it without --project-directory: ", |folder, it| {
            it.described_in = Some(folder.directory("elsewhere").into());
        }),
        ("have its variables in ", |folder, it| {
            it.env_files = vec![folder.file("shop/prod.env", "").into()];
        }),
        ("have its files in one directory: ", |folder, it| {
            let other = folder.file("common/compose.yml", "");
            it.config_files.push(other.into());
        }),
        (
            "have its files in a directory of their own: ",
            |folder, it| {
                // That of the project with most services stays.
                if it.stack.as_deref() == Some("board") {
                    it.described_in = Some(folder.directory("shop").into());
                    it.config_files = vec![folder.file("shop/board.yml", "").into()];
                }
            },
        ),
    ];
    for (at, (says, change)) in cases.into_iter().enumerate() {
        let folder = Folder::new();
        let mut found = folder.projects();
        // The last case is of both projects.
        for it in &mut found.compose_services {
            if at == 4 || it.stack.as_deref() == Some("shop") {
                change(&folder, it);
            }
        }
        let proposal = propose(&found);
        let name = if at == 4 { "board" } else { "shop" };
        let told = format!(
            "so that a run can make the project {name} where nothing of it is left, {says}"
        );
        let todo = proposal.todo.iter().any(|it| it.starts_with(&told));
        assert!(todo, "{told}: {:?}", proposal.todo);
        assert_eq!(proposal.todo.len(), 2, "{:?}", proposal.todo);
        let config = config(&proposal);
        let mut made = config.components.values();
        assert!(
            !made.any(|it| it.get("stack").is_some_and(|it| *it == name)),
            "{}",
            proposal.text
        );
    }
}

#[test]
fn files_that_are_not_on_this_host_are_left_to_a_person() {
    let mut found = shop();
    for it in &mut found.compose_services {
        it.described_in = Some("/nowhere/shop".into());
        it.config_files = vec!["/nowhere/shop/compose.yml".into()];
    }
    let proposal = propose(&found);
    assert_eq!(proposal.todo.len(), 1, "{:?}", proposal.todo);
    assert!(!proposal.text.contains("redeploy = true"));
    assert!(
        proposal
            .text
            .contains("- the compose files in /nowhere/shop: "),
        "{}",
        proposal.text
    );
}

/// A deployment would be a step of each run: what a swarm is made from is written down, and left to a person.
#[test]
fn what_a_stack_is_deployed_from_stands_there_in_comments() {
    let folder = Folder::new();
    folder.file(
        "opt/hosting/stack.yml",
        "services:\n  app: {image: a}\n  web: {image: b}\n",
    );
    folder.file(
        "opt/hosting/prod.yaml",
        "services:\n  app: {environment: {A: b}}\n",
    );
    folder.file("opt/board/stack.yml", "services: {board: {image: c}}\n");
    folder.file("opt/hosting/prometheus.yml", "scrape_configs: []\n");
    folder.file("opt/hosting/other.yml", "services: {other: {image: d}}\n");
    let mut board = service("board", "grafana/grafana", &[]);
    board.name = "board_board".to_owned();
    board.stack = Some("board".to_owned());
    let archive = "configs/compose-files-{id}.tar.gz";
    let mut found = Discovery {
        services: vec![board, service("app", "a", &[]), service("web", "b", &[])],
        address: Some("10.0.0.11".to_owned()),
        backups: Some(folder.backups(archive, "opt")),
        roots: vec![folder.root.clone()],
        ..Discovery::default()
    };
    let proposal = propose(&found);
    let text = &proposal.text;
    let keys = "# redeploy = true\n# stack = \"hosting\"\n# compose = [\"hosting/stack.yml\", \"hosting/prod.yaml\"]\n";
    for part in [
        keys,
        "# The files of board are here too: ",
        "# advertise = \"10.0.0.11\"\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(
        config(&proposal).components["compose-files"]
            .get("redeploy")
            .is_none()
    );
    // Whoever wants it takes the comment signs away.
    let wanted = keys.replace("# ", "");
    let text = text
        .replace(keys, &wanted)
        .replace("# advertise", "advertise");
    let config = SiteConfig::from_toml(&text).unwrap();
    assert_eq!(config.components["compose-files"]["redeploy"], true);
    assert_eq!(config.platform["advertise"], "10.0.0.11");

    found.backups = None;
    let text = propose(&found).text.replace("\n# ", " ");
    let told = "No tree here has the compose files of: hosting, board. ";
    assert!(text.contains(told), "{text}");
}
