//! What a Docker engine runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::processes::is_telling;
use super::{Discovery, FoundMount, FoundService, LookOptions};
use crate::platforms::{compose, swarm};

/// An engine that does not answer by then is no reason to wait.
const ANSWER: Duration = Duration::from_secs(10);

/// Adds the services of the swarm that the engine manages, and the Compose projects that it runs.
pub(super) async fn look(options: &LookOptions, found: &mut Discovery) {
    let socket = options
        .socket
        .clone()
        .unwrap_or_else(|| PathBuf::from("/var/run/docker.sock"));
    // Who asks for one directory does not ask for the host's engine, unless it is named.
    if (options.below.is_some() && options.socket.is_none()) || !socket.exists() {
        return;
    }
    let Ok(Ok(listed)) = tokio::time::timeout(ANSWER, swarm::listed(&socket)).await else {
        return;
    };
    for container in &listed.containers {
        let project = text(container, "/Labels/com.docker.compose.project");
        found.compose.extend(project);
    }
    found.compose.sort();
    found.compose.dedup();
    found.services = listed.services.iter().filter_map(service).collect();
    found.services.sort_by(|a, b| a.name.cmp(&b.name));
    found.address = listed.address.filter(|_| !found.services.is_empty());
    if found.services.is_empty() && !found.compose.is_empty() {
        let listed = tokio::time::timeout(ANSWER, compose::listed(&socket)).await;
        found.compose_services = match listed {
            Ok(Ok(listed)) => of_projects(&listed),
            _ => Vec::new(),
        };
    }
    if !found.services.is_empty() || !found.compose_services.is_empty() {
        found.socket = Some(socket);
        let services = found.services.iter().chain(&found.compose_services);
        let binds = services.flat_map(|it| &it.mounts);
        let binds: Vec<PathBuf> = binds
            .filter(|mount| mount.bind)
            .map(|mount| PathBuf::from(&mount.source))
            .collect();
        for path in binds {
            add_roots(&path, &mut found.roots);
        }
    }
}

/// The directories above a path, as what members of archives may be relative to.
pub(super) fn add_roots(path: &Path, roots: &mut Vec<PathBuf>) {
    for above in path.ancestors().skip(1) {
        if !roots.iter().any(|known| known == above) {
            roots.push(above.to_owned());
        }
    }
}

fn service(value: &Value) -> Option<FoundService> {
    let container = value.pointer("/Spec/TaskTemplate/ContainerSpec")?;
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let mode = value.pointer("/Spec/Mode");
    let job = |key| mode.is_some_and(|mode: &Value| mode.get(key).is_some());
    let image = text(container, "/Image").unwrap_or_default();
    let arguments: Vec<Value> = [container.get("Command"), container.get("Args")]
        .into_iter()
        .flat_map(list)
        .collect();
    let words: Vec<&str> = arguments.iter().filter_map(Value::as_str).collect();
    Some(FoundService {
        name: text(value, "/Spec/Name")?,
        image: image.split('@').next().unwrap_or_default().to_owned(),
        stack: text(value, "/Spec/Labels/com.docker.stack.namespace"),
        networks: list(value.pointer("/Spec/TaskTemplate/Networks"))
            .iter()
            .filter_map(|network| text(network, "/Target"))
            .collect(),
        settings: list(container.get("Env"))
            .iter()
            .filter_map(|it| it.as_str()?.split_once('='))
            .filter(|(name, value)| tells(name, value))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        secrets: list(container.get("Secrets"))
            .iter()
            .filter_map(|secret| text(secret, "/File/Name"))
            .collect(),
        mounts: list(container.get("Mounts"))
            .iter()
            .filter_map(|mount| {
                Some(FoundMount {
                    source: text(mount, "/Source")?,
                    called: None,
                    target: PathBuf::from(text(mount, "/Target")?),
                    bind: text(mount, "/Type").as_deref() == Some("bind"),
                    read_only: mount.get("ReadOnly").and_then(Value::as_bool) == Some(true),
                })
            })
            .collect(),
        ports: list(value.pointer("/Endpoint/Ports"))
            .iter()
            .filter_map(|port| port.get("PublishedPort")?.as_u64()?.try_into().ok())
            .collect(),
        job: job("ReplicatedJob") || job("GlobalJob"),
        keeps_nothing: keeps_nothing(&words, &settings_of(&words, &[])),
        ..FoundService::default()
    })
}

/// Whether a variable of a container names something: the name of a file is no password.
fn tells(name: &str, value: &str) -> bool {
    is_telling(name) || (name.ends_with("PASSWORD_FILE") && value.starts_with('/'))
}

/// The services of the Compose projects, by their containers.
fn of_projects(listed: &compose::Listed) -> Vec<FoundService> {
    let runs = |it: &Value| text(it, "/State/Status").as_deref() == Some("running");
    let name =
        |it: &Value, key: &str| text(it, &format!("/Config/Labels/com.docker.compose.{key}"));
    // One that runs says most, and among those the newest.
    let mut containers: Vec<&Value> = listed.containers.iter().collect();
    containers.sort_by_key(|it| (!runs(it), std::cmp::Reverse(text(it, "/Created"))));
    let mut services: Vec<FoundService> = Vec::new();
    for it in &containers {
        let one_off = name(it, "oneoff").is_some_and(|it| it.eq_ignore_ascii_case("true"));
        let (false, Some(project), Some(service)) =
            (one_off, name(it, "project"), name(it, "service"))
        else {
            continue;
        };
        let known = services
            .iter()
            .any(|known| known.name == service && known.stack.as_deref() == Some(project.as_str()));
        if known {
            continue;
        }
        services.push(of_container(it, project, service, &listed.volumes));
    }
    services.sort_by(|a, b| (&a.stack, &a.name).cmp(&(&b.stack, &b.name)));
    services
}

fn of_container(it: &Value, project: String, service: String, volumes: &[Value]) -> FoundService {
    let list = |pointer: &str| {
        it.pointer(pointer)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let keys = |pointer: &str| {
        let object = it.pointer(pointer).and_then(Value::as_object);
        object.into_iter().flat_map(|object| object.keys().cloned())
    };
    let called = |name: &str| {
        let volume = volumes
            .iter()
            .find(|it| text(it, "/Name").as_deref() == Some(name))?;
        let of = text(volume, "/Labels/com.docker.compose.project")?;
        text(volume, "/Labels/com.docker.compose.volume").filter(|_| of == project)
    };
    let mounts: Vec<FoundMount> = list("/Mounts")
        .filter_map(|mount| {
            let bind = match text(mount, "/Type").as_deref() {
                Some("bind") => true,
                Some("volume") => false,
                _ => return None,
            };
            let source = text(mount, if bind { "/Source" } else { "/Name" })?;
            Some(FoundMount {
                called: (!bind).then(|| called(&source)).flatten(),
                source,
                target: PathBuf::from(text(mount, "/Destination")?),
                bind,
                read_only: mount.get("RW").and_then(Value::as_bool) == Some(false),
            })
        })
        .collect();
    let tcp = |port: String| {
        port.strip_suffix("/tcp")
            .and_then(|port| port.parse::<u16>().ok())
    };
    let published = it
        .pointer("/HostConfig/PortBindings")
        .and_then(Value::as_object);
    let published = published.into_iter().flat_map(serde_json::Map::values);
    let published = published.filter_map(Value::as_array).flatten();
    let mut ports: Vec<u16> = published
        .filter_map(|binding| text(binding, "/HostPort")?.parse().ok())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    let mut listens: Vec<u16> = keys("/Config/ExposedPorts").filter_map(tcp).collect();
    listens.sort_unstable();
    let depends_on = text(it, "/Config/Labels/com.docker.compose.depends_on");
    let words: Vec<&str> = list("/Config/Entrypoint")
        .chain(list("/Config/Cmd"))
        .filter_map(Value::as_str)
        .collect();
    let settings = settings_of(&words, &mounts);
    let of_project = |label: &str| {
        let label = format!("/Config/Labels/com.docker.compose.project.{label}");
        text(it, &label)
    };
    let folder = of_project("working_dir").map(PathBuf::from);
    // An older Compose has them as they were named.
    let files = |label: &str| -> Vec<PathBuf> {
        let named = of_project(label).unwrap_or_default();
        let named = named.split(',').filter(|name| !name.is_empty());
        let base = folder.as_deref().unwrap_or(Path::new(""));
        named.map(|name| base.join(name)).collect()
    };
    let ended = text(it, "/State/Status").as_deref() == Some("exited")
        && it.pointer("/State/ExitCode").and_then(Value::as_i64) == Some(0);
    let restarts = text(it, "/HostConfig/RestartPolicy/Name").unwrap_or_default();
    FoundService {
        name: service,
        image: text(it, "/Config/Image").unwrap_or_default(),
        networks: keys("/NetworkSettings/Networks").collect(),
        settings: list("/Config/Env")
            .filter_map(|it| it.as_str()?.split_once('='))
            .filter(|(name, value)| tells(name, value))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        ports,
        listens,
        // `db:service_healthy:false,cache:service_started:true`
        depends_on: depends_on.map(|text| {
            let names = text.split(',').filter_map(|one| one.split(':').next());
            names
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()
        }),
        protected: is_protected(&words, &settings),
        keeps_nothing: keeps_nothing(&words, &settings),
        config_files: files("config_files"),
        env_files: files("environment_file"),
        described_in: folder,
        // It did what it was for.
        job: ended && ["", "no"].contains(&restarts.as_str()),
        stack: Some(project),
        secrets: Vec::new(),
        mounts,
    }
}

/// No configuration is read further.
const LONGEST: u64 = 1 << 20;

/// The configuration of a server, which its arguments may name.
enum Settings {
    /// They name none.
    None,
    /// It cannot be read from here.
    Unseen,
    Text(String),
}

/// What is in the configuration that a server's arguments name, where a mount shows it on this host.
fn settings_of(words: &[&str], mounts: &[FoundMount]) -> Settings {
    let Some(file) = words.iter().find(|word| word.ends_with(".conf")) else {
        return Settings::None;
    };
    let inside = Path::new(file);
    let place = mounts.iter().filter(|mount| mount.bind).find_map(|mount| {
        let below = inside.strip_prefix(&mount.target).ok()?;
        let source = Path::new(&mount.source);
        Some(if below.as_os_str().is_empty() {
            source.to_owned()
        } else {
            source.join(below)
        })
    });
    let bytes = place.and_then(|place| crate::sys::read_small(&place, LONGEST).ok());
    match bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
        Some(text) => Settings::Text(text),
        None => Settings::Unseen,
    }
}

/// Whether a Redis asks for a password, by its arguments and its configuration; what that is goes nowhere.
fn is_protected(words: &[&str], settings: &Settings) -> Option<bool> {
    let asks = |text: &str| {
        text.split_whitespace()
            .any(|word| word.trim_start_matches('-') == "requirepass")
    };
    if words.iter().any(|word| asks(word)) {
        return Some(true);
    }
    let text = match settings {
        Settings::Text(text) => text,
        Settings::Unseen => return None,
        Settings::None => {
            // Variables may become arguments of a script.
            let plain = words.iter().all(|word| !word.contains('$'));
            return plain.then_some(false);
        }
    };
    let mut lines = text.lines().map(str::trim_start);
    Some(lines.any(|line| {
        line.starts_with("requirepass") || line.starts_with("user ") || line.starts_with("aclfile")
    }))
}

/// Whether a Redis is told to save nothing and to keep no log of what is written.
fn keeps_nothing(words: &[&str], settings: &Settings) -> bool {
    const EMPTY: &str = "\"\"";
    let text = match settings {
        Settings::None => "",
        Settings::Unseen => return false,
        Settings::Text(text) => text.as_str(),
    };
    // Variables may become arguments of a script.
    if words.iter().any(|word| word.contains('$')) {
        return false;
    }
    let lines = text.lines().filter(|line| !line.trim().starts_with('#'));
    let mut said: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    // Arguments hold whatever the file says.
    for word in words {
        match word.is_empty() {
            true => said.push(EMPTY),
            false => said.extend(word.split_whitespace()),
        }
    }
    let (mut saves, mut logs) = (true, false);
    for (key, value) in said.iter().zip(said.iter().skip(1)) {
        match key.trim_start_matches('-') {
            "save" => saves = *value != EMPTY && *value != "''",
            "appendonly" => logs = *value == "yes",
            _ => {}
        }
    }
    !saves && !logs
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    // A label's name has dots, and may have slashes: its own pointer would be in the way.
    let mut at = value;
    for key in pointer.split('/').skip(1) {
        at = at.get(key)?;
    }
    at.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(service: &str, more: Value) -> Value {
        let mut it = json!({
            "Created": "2024-02-15T02:00:00Z",
            "State": {"Status": "running"},
            "Config": {"Image": "postgres:15", "Cmd": ["postgres"], "Env": [], "Labels": {
                "com.docker.compose.project": "shop", "com.docker.compose.service": service}}});
        for (pointer, value) in more.as_object().into_iter().flatten() {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let parent = it.pointer_mut(parent).unwrap();
            parent[key] = value.clone();
        }
        it
    }

    fn seen(containers: Vec<Value>) -> Vec<FoundService> {
        let labels =
            json!({"com.docker.compose.project": "shop", "com.docker.compose.volume": "data"});
        of_projects(&compose::Listed {
            containers,
            volumes: vec![
                json!({"Name": "shop_data", "Labels": labels}),
                json!({"Name": "mine", "Labels": null}),
            ],
        })
    }

    #[test]
    fn a_service_is_read_from_the_container_that_says_most() {
        let services = seen(vec![
            container(
                "db",
                json!({"/State/Status": "exited", "/Created": "2024-03-01T00:00:00Z", "/Config/Image": "old"}),
            ),
            container(
                "db",
                json!({
                "/Config/Env": ["POSTGRES_DB=shop", "POSTGRES_PASSWORD=geheim", "POSTGRES_PASSWORD_FILE=/run/secrets/x"],
                "/Config/ExposedPorts": {"5432/tcp": {}, "8125/udp": {}},
                "/HostConfig": {"PortBindings": {"5432/tcp": [{"HostIp": "", "HostPort": "15432"}]}},
                "/NetworkSettings": {"Networks": {"shop_default": {}}},
                "/Mounts": [
                    {"Type": "volume", "Name": "shop_data", "Source": "/v", "Destination": "/data", "RW": true},
                    {"Type": "volume", "Name": "mine", "Source": "/w", "Destination": "/w", "RW": true},
                    {"Type": "bind", "Source": "/srv", "Destination": "/srv", "RW": false},
                    {"Type": "tmpfs", "Destination": "/tmp"}]}),
            ),
            container(
                "db",
                json!({"/Created": "2024-04-01T00:00:00Z", "/Config/Image": "once",
                "/Config/Labels": {"com.docker.compose.project": "shop", "com.docker.compose.service": "db",
                    "com.docker.compose.oneoff": "True"}}),
            ),
            container(
                "once",
                json!({"/State": {"Status": "exited", "ExitCode": 0}}),
            ),
        ]);
        let names: Vec<&str> = services.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["db", "once"]);
        let db = &services[0];
        assert_eq!((db.image.as_str(), db.job), ("postgres:15", false));
        assert!(services[1].job);
        assert_eq!(
            (db.ports.as_slice(), db.listens.as_slice()),
            (&[15432][..], &[5432][..])
        );
        let settings: Vec<&str> = db.settings.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(settings, ["POSTGRES_DB", "POSTGRES_PASSWORD_FILE"]);
        let called: Vec<Option<&str>> = db.mounts.iter().map(|it| it.called.as_deref()).collect();
        assert_eq!(called, [Some("data"), None, None]);
        assert_eq!(db.depends_on, None);
    }

    #[test]
    fn whether_a_redis_asks_for_a_password_is_told_without_reading_it() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("open.conf", "dir /data\n");
        write("shut.conf", "  requirepass geheim\n");
        // The service's user puts there what it likes.
        let pipe = dir.path().join("pipe.conf");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("endless.conf")).unwrap();
        let mounts = [FoundMount {
            source: dir.path().to_str().unwrap().to_owned(),
            target: "/etc/redis".into(),
            bind: true,
            ..FoundMount::default()
        }];
        for (words, wanted) in [
            (vec!["redis-server"], Some(false)),
            (vec!["redis-server", "--requirepass", "geheim"], Some(true)),
            (
                vec!["sh", "-c", "redis-server --requirepass geheim"],
                Some(true),
            ),
            (vec!["sh", "-c", "redis-server $ARGUMENTS"], None),
            (vec!["redis-server", "/etc/redis/open.conf"], Some(false)),
            (vec!["redis-server", "/etc/redis/shut.conf"], Some(true)),
            (vec!["redis-server", "/etc/redis/none.conf"], None),
            (vec!["redis-server", "/etc/redis/pipe.conf"], None),
            (vec!["redis-server", "/etc/redis/endless.conf"], None),
            (vec!["redis-server", "/image/redis.conf"], None),
        ] {
            let settings = settings_of(&words, &mounts);
            assert_eq!(is_protected(&words, &settings), wanted, "{words:?}");
        }
    }

    #[test]
    fn a_redis_that_is_told_to_save_nothing_keeps_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("cache.conf", "# save 60 1\nsave \"\"\nappendonly no\n");
        write("log.conf", "save ''\nappendonly yes\n");
        let mounts = [FoundMount {
            source: dir.path().to_str().unwrap().to_owned(),
            target: "/etc/redis".into(),
            bind: true,
            ..FoundMount::default()
        }];
        for (words, wanted) in [
            (vec!["redis-server"], false),
            (vec!["redis-server", "--save", ""], true),
            (
                vec!["redis-server", "--save", "", "--appendonly", "yes"],
                false,
            ),
            (vec!["redis-server", "--save", "60 1"], false),
            (
                vec!["sh", "-c", "redis-server --save '' --appendonly no"],
                true,
            ),
            (vec!["sh", "-c", "redis-server --save '' $MORE"], false),
            (vec!["redis-server", "/etc/redis/cache.conf"], true),
            (
                vec!["redis-server", "/etc/redis/cache.conf", "--save", "60 1"],
                false,
            ),
            (vec!["redis-server", "/etc/redis/log.conf"], false),
            (
                vec!["redis-server", "/image/redis.conf", "--save", ""],
                false,
            ),
        ] {
            let settings = settings_of(&words, &mounts);
            assert_eq!(keeps_nothing(&words, &settings), wanted, "{words:?}");
        }
        let service = json!({"Spec": {"Name": "cache", "TaskTemplate": {"ContainerSpec":
            {"Image": "redis:7", "Args": ["redis-server", "--save", ""]}}}});
        assert!(self::service(&service).unwrap().keeps_nothing);
    }

    #[test]
    fn the_secrets_of_a_service_are_known_by_their_names() {
        let service = json!({"Spec": {"Name": "db", "TaskTemplate": {"ContainerSpec": {
            "Image": "postgres:15",
            "Env": ["POSTGRES_PASSWORD=hunter2", "POSTGRES_PASSWORD_FILE=/run/secrets/db.pass"],
            "Secrets": [
                {"File": {"Name": "db.pass"}, "SecretName": "shop_db.pass"},
                {"File": null, "SecretName": "shop_more"}]}}}});
        let it = self::service(&service).unwrap();
        assert_eq!(it.secrets, ["db.pass"]);
        let file = (
            "POSTGRES_PASSWORD_FILE".to_owned(),
            "/run/secrets/db.pass".to_owned(),
        );
        assert_eq!(it.settings, [file]);
    }

    #[test]
    fn the_files_that_a_project_was_made_from_are_in_its_labels() {
        let labels = |files: &str| {
            json!({"com.docker.compose.project": "shop", "com.docker.compose.service": "web",
                "com.docker.compose.project.working_dir": "/srv/shop",
                "com.docker.compose.project.config_files": files,
                "com.docker.compose.project.environment_file": "/srv/shop/.env"})
        };
        let both = "/srv/shop/compose.yml,/srv/shop/compose.override.yml";
        for files in [both, "compose.yml,compose.override.yml"] {
            let labels = labels(files);
            let services = seen(vec![container("web", json!({"/Config/Labels": labels}))]);
            let web = &services[0];
            assert_eq!(web.described_in.as_deref(), Some(Path::new("/srv/shop")));
            let wanted = both.split(',').map(PathBuf::from).collect::<Vec<_>>();
            assert_eq!(web.config_files, wanted, "{files}");
            assert_eq!(web.env_files, [PathBuf::from("/srv/shop/.env")]);
        }
        let services = seen(vec![container("web", json!({}))]);
        assert!(services[0].config_files.is_empty() && services[0].env_files.is_empty());
    }

    #[test]
    fn what_a_service_depends_on_is_in_its_label() {
        let labels = json!({"com.docker.compose.project": "shop", "com.docker.compose.service": "web",
            "com.docker.compose.depends_on": "db:service_healthy:false,cache:service_started:true"});
        let services = seen(vec![container("web", json!({"/Config/Labels": labels}))]);
        let wanted = ["db", "cache"].map(str::to_owned).to_vec();
        assert_eq!(services[0].depends_on, Some(wanted));
    }
}
