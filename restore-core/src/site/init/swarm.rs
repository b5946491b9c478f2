//! Services of a swarm: what each is, and what is written of it.

use std::path::{Path, PathBuf};

use super::emit::Emit;
use super::{Discovery, FoundMount, FoundService, backups, local};

/// What a service is, by its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Postgres,
    Redis,
    App,
    /// Users do not see it.
    Monitoring,
    Nginx,
}

fn role(it: &FoundService) -> Role {
    let name = it.image.rsplit('/').next().unwrap_or_default();
    let name = name
        .split(':')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if has(&[
        "exporter",
        "prometheus",
        "grafana",
        "alertmanager",
        "cadvisor",
        "loki",
        "promtail",
    ]) {
        Role::Monitoring
    } else if has(&["postgres", "postgis", "timescale"]) {
        Role::Postgres
    } else if has(&["redisinsight", "redis-commander", "pgadmin"]) {
        Role::App
    } else if has(&["redis", "valkey"]) {
        Role::Redis
    } else if has(&["nginx"]) {
        Role::Nginx
    } else {
        Role::App
    }
}

/// The configuration of a swarm's manager.
pub(super) fn propose(found: &Discovery, out: &mut Emit) {
    let mut services: Vec<(Role, &FoundService)> = found
        .services
        .iter()
        .filter(|it| !it.job)
        .map(|it| (role(it), it))
        .collect();
    services.sort_by_key(|(role, it)| (*role, it.name.as_str()));
    local::head(found, out);
    out.section(&["platform"]);
    out.comment("A Docker Swarm, spoken to at one of its managers: this host.");
    out.text("kind", "swarm");
    if let Some(socket) = found
        .socket
        .as_ref()
        .filter(|it| *it != Path::new("/var/run/docker.sock"))
    {
        out.path("socket", socket);
    }
    write_services(&services, out);
    let volumes = write_volumes(&services, out);
    out.heading("components: what is backed up and restored");
    for (role, it) in &services {
        match role {
            Role::Postgres => write_postgres(found, it, &services, out),
            Role::Redis => write_redis(it, &services, &volumes, out),
            _ => {}
        }
    }
    write_volume_components(found, &services, &volumes, out);
    let nginx = services
        .iter()
        .find(|(role, _)| *role == Role::Nginx)
        .map(|(_, it)| *it);
    let mut trees = backups::trees(found, out, |_, whole, out| {
        write_tree(whole, nginx, &services, out)
    });
    write_other_trees(found, nginx, &services, &mut trees, out);
    let images = |file: &String| file.starts_with("app/docker-image");
    if found
        .backups
        .as_ref()
        .is_some_and(|it| it.files.iter().any(images))
    {
        out.section(&["components", "images"]);
        out.text("kind", "image");
        out.list("stops", &names(&services, Role::App));
    }
    local::write_crontab(found, out);
    out.heading("checks: made before a run and after it; a failure after it turns the run back");
    for name in names(&services, Role::App) {
        out.section(&["checks", &format!("{name}-runs")]);
        out.text("kind", "process");
        out.text("service", &name);
    }
    if let Some(nginx) = nginx {
        write_maintenance(nginx, out);
    }
}

fn names(services: &[(Role, &FoundService)], wanted: Role) -> Vec<String> {
    let all = services.iter().filter(|(role, _)| *role == wanted);
    all.map(|(_, it)| it.name.clone()).collect()
}

fn write_services(services: &[(Role, &FoundService)], out: &mut Emit) {
    out.heading("services, by their exact names, in the order of starting");
    let stateful: Vec<String> = [
        names(services, Role::Postgres),
        names(services, Role::Redis),
    ]
    .concat();
    for (role, it) in services {
        out.section(&["services", &it.name]);
        match role {
            Role::Postgres | Role::Redis => {
                let port = if *role == Role::Postgres {
                    "5432"
                } else {
                    "6379"
                };
                out.comment(&format!("By its image, {}.", it.image));
                out.raw("port", port);
                out.text("ready", "tcp");
            }
            Role::App => {
                let after: Vec<&String> = stateful.iter().collect();
                out.list("after", &after);
                out.comment("It keeps trying until these are ready, as services of a swarm do.");
                out.raw("wait", "false");
            }
            Role::Monitoring => out.list("after", &[] as &[&str]),
            Role::Nginx => out.comment("Never stopped: it shows the maintenance page."),
        }
    }
}

/// The name of a volume without its stack's.
fn short<'a>(volume: &'a str, it: &FoundService) -> &'a str {
    let stack = it.stack.as_deref().unwrap_or_default();
    let rest = volume
        .strip_prefix(stack)
        .and_then(|rest| rest.strip_prefix('_'));
    rest.filter(|rest| !rest.is_empty()).unwrap_or(volume)
}

/// The named volumes, each once: the site's name for it, and the engine's.
fn write_volumes(services: &[(Role, &FoundService)], out: &mut Emit) -> Vec<(String, String)> {
    let mut volumes: Vec<(String, String)> = Vec::new();
    for (_, it) in services {
        for mount in it.mounts.iter().filter(|mount| !mount.bind) {
            if volumes.iter().any(|(_, name)| *name == mount.source) {
                continue;
            }
            let mut name = short(&mount.source, it).to_owned();
            if volumes.iter().any(|(known, _)| *known == name) {
                name.clone_from(&mount.source);
            }
            volumes.push((name, mount.source.clone()));
        }
    }
    volumes.sort();
    let renamed = || volumes.iter().filter(|(name, engine)| name != engine);
    if renamed().next().is_some() {
        out.heading("volumes: the engine's exact names");
    }
    for (name, engine) in renamed() {
        out.section(&["volumes", name]);
        out.text("name", engine);
    }
    volumes
}

/// Who may talk to a service: what shares a network with it.
fn clients(it: &FoundService, services: &[(Role, &FoundService)]) -> Vec<String> {
    let near = |other: &FoundService| {
        let shared = other
            .networks
            .iter()
            .any(|network| it.networks.contains(network));
        shared || (it.networks.is_empty() && it.stack.is_some() && it.stack == other.stack)
    };
    let apps = services
        .iter()
        .filter(|(role, other)| *role == Role::App && near(other));
    apps.map(|(_, it)| it.name.clone()).collect()
}

fn write_stops(stops: &[String], why: &str, out: &mut Emit) {
    out.guess(why);
    out.list("stops", stops);
}

fn secret(it: &FoundService, out: &mut Emit) {
    let path = format!("/etc/restore/{}.pass", it.name);
    out.todo(format!(
        "write the password into {path}, for root alone: install -m 600 /dev/stdin {path}"
    ));
    out.text("password_file", &path);
}

fn write_postgres(
    found: &Discovery,
    it: &FoundService,
    services: &[(Role, &FoundService)],
    out: &mut Emit,
) {
    let apps: Vec<&FoundService> = services.iter().map(|(_, it)| *it).collect();
    let setting = |names: &[&str]| {
        let own = std::iter::once(&it).chain(&apps);
        let mut all = own.flat_map(|it| &it.settings);
        all.find(|(name, _)| names.contains(&name.as_str()))
            .map(|(_, value)| value.clone())
    };
    out.section(&["components", short(&it.name, it)]);
    out.text("kind", "postgres");
    out.text("service", &it.name);
    let backups = found.backups.as_ref();
    let database = backups.and_then(|it| it.database.clone()).or_else(|| {
        setting(&[
            "POSTGRES_DB",
            "PGDATABASE",
            "PG_DATABASE",
            "DB_NAME",
            "POSTGRES_USER",
        ])
    });
    match database {
        Some(name) => {
            out.guess("from the backups, or from variables of the services. One component for each database.");
            out.text("database", &name);
        }
        None => {
            out.todo("name the database: `psql -l` lists them");
            out.text("database", "postgres");
        }
    }
    let user = setting(&["POSTGRES_USER", "PGUSER", "PG_USER", "DB_USER"]);
    out.text("user", user.as_deref().unwrap_or("postgres"));
    secret(it, out);
    write_stops(
        &clients(it, services),
        "what shares a network with it.",
        out,
    );
    let data = it
        .mounts
        .iter()
        .find(|mount| mount.target.starts_with("/var/lib/postgresql"));
    if let Some(data) = data {
        out.comment(&format!(
            "The cluster's data is in {}; to recover it to a moment, see kind = \"postgres_cluster\".",
            data.source
        ));
    }
}

fn write_redis(
    it: &FoundService,
    services: &[(Role, &FoundService)],
    volumes: &[(String, String)],
    out: &mut Emit,
) {
    let data = |mount: &&FoundMount| !mount.bind && mount.target == Path::new("/data");
    let data = it
        .mounts
        .iter()
        .find(data)
        .or(it.mounts.iter().find(|mount| !mount.bind));
    let volume = data.and_then(|data| volumes.iter().find(|(_, engine)| *engine == data.source));
    let Some((volume, _)) = volume else {
        out.blank();
        out.comment(&format!(
            "{} keeps no volume: it holds nothing to restore.",
            it.name
        ));
        return;
    };
    out.section(&["components", short(&it.name, it)]);
    out.text("kind", "redis");
    out.text("service", &it.name);
    out.text("volume", volume);
    out.comment("Without a password: take the next line out.");
    secret(it, out);
    write_stops(
        &clients(it, services),
        "what shares a network with it.",
        out,
    );
}

fn plain(name: &str) -> String {
    let name = name.replace('-', "_");
    name.strip_suffix("_data").unwrap_or(&name).to_owned()
}

fn write_volume_components(
    found: &Discovery,
    services: &[(Role, &FoundService)],
    volumes: &[(String, String)],
    out: &mut Emit,
) {
    for (name, engine) in volumes {
        let users = services
            .iter()
            .filter(|(_, it)| it.mounts.iter().any(|mount| mount.source == *engine));
        let users: Vec<&(Role, &FoundService)> = users.collect();
        // What a database has is no business of tar.
        if users
            .iter()
            .any(|(role, _)| matches!(role, Role::Postgres | Role::Redis))
        {
            continue;
        }
        let backups = found.backups.as_ref();
        let archive =
            backups.and_then(|it| it.archives("volumes").find(|it| plain(it) == plain(name)));
        out.section(&["components", archive.unwrap_or(name)]);
        out.text("kind", "volume");
        out.text("volume", name);
        match archive {
            Some(archive) => out.list(
                "archive",
                &[
                    format!("volumes/{archive}-{{id}}.tar.gz"),
                    format!("volumes/{name}-{{id}}.tar.gz"),
                ],
            ),
            None if backups.is_some() => {
                out.comment("The backups have nothing for it yet.");
                out.raw("optional", "true");
            }
            None => {}
        }
        let writes = users.iter().filter(|(role, it)| {
            let writable = |mount: &&FoundMount| mount.source == *engine && !mount.read_only;
            *role != Role::Nginx && it.mounts.iter().any(|mount| writable(&mount))
        });
        let stops: Vec<String> = writes.map(|(_, it)| it.name.clone()).collect();
        write_stops(
            &stops,
            "who mounts it and can write it; nginx goes on.",
            out,
        );
    }
}

fn is_tree(mount: &FoundMount) -> bool {
    let source = Path::new(&mount.source);
    let system = [
        "/var/run",
        "/run",
        "/proc",
        "/sys",
        "/dev",
        "/etc/localtime",
        "/etc/timezone",
    ];
    mount.bind
        && source.components().count() > 2
        && !system.iter().any(|path| source.starts_with(path))
}

fn write_tree(
    whole: &Path,
    nginx: Option<&FoundService>,
    services: &[(Role, &FoundService)],
    out: &mut Emit,
) {
    let mounts = |it: &FoundService| {
        it.mounts
            .iter()
            .any(|mount| is_tree(mount) && Path::new(&mount.source).starts_with(whole))
    };
    if let Some(nginx) = nginx.filter(|it| mounts(it)) {
        out.list("stops", &[] as &[&str]);
        out.comment("Links may lead out of the tree to these places only.");
        out.list("allow_links", &["/usr/lib/nginx"]);
        out.text("service", &nginx.name);
        out.list("test", &["nginx", "-t"]);
        out.list("reload", &["nginx", "-s", "reload"]);
        return;
    }
    let users = services
        .iter()
        .filter(|(role, it)| matches!(role, Role::App | Role::Monitoring) && mounts(it));
    let stops: Vec<String> = users.map(|(_, it)| it.name.clone()).collect();
    write_stops(&stops, "who mounts it.", out);
}

fn write_other_trees(
    found: &Discovery,
    nginx: Option<&FoundService>,
    services: &[(Role, &FoundService)],
    trees: &mut Vec<PathBuf>,
    out: &mut Emit,
) {
    let mounts = services
        .iter()
        .filter(|(role, _)| *role != Role::Postgres && *role != Role::Redis);
    let mounts: Vec<&FoundMount> = mounts.flat_map(|(_, it)| &it.mounts).collect();
    for mount in mounts.into_iter().filter(|mount| is_tree(mount)) {
        let whole = PathBuf::from(&mount.source);
        let (Some(root), Some(tree)) = (whole.parent(), whole.file_name()) else {
            continue;
        };
        if trees.iter().any(|known| whole.starts_with(known)) || !whole.is_dir() {
            continue;
        }
        let name = tree.to_string_lossy().into_owned();
        out.section(&["components", &name]);
        out.text("kind", "files");
        out.list("archive", &[format!("configs/{name}-{{id}}.tar.gz")]);
        if found.backups.is_some() {
            out.comment("The backups have nothing for it yet.");
            out.raw("optional", "true");
        }
        out.path("root", root);
        out.path("tree", Path::new(tree));
        write_tree(&whole, nginx, services, out);
        trees.push(whole);
    }
}

fn write_maintenance(nginx: &FoundService, out: &mut Emit) {
    out.heading("maintenance: how users are told to wait while the data is swapped");
    let folder = nginx
        .mounts
        .iter()
        .filter(|mount| mount.bind)
        .find_map(|mount| {
            let inside = Path::new("/etc/nginx/conf.d")
                .strip_prefix(&mount.target)
                .ok()?;
            let source = Path::new(&mount.source);
            Some(match inside.as_os_str().is_empty() {
                true => source.to_owned(),
                false => source.join(inside),
            })
        });
    match folder {
        Some(folder) => {
            out.section(&["maintenance"]);
            out.text("kind", "nginx");
            out.text("service", &nginx.name);
            out.guess("a folder that nginx includes whole, as it is on this host.");
            out.path("conf_dir", &folder);
        }
        None => {
            out.blank();
            out.todo(format!(
                "{} mounts no folder at /etc/nginx/conf.d: see [maintenance] in the reference",
                nginx.name
            ));
        }
    }
}
