//! Services that are containers: what each is, and the components that are written of them.

use std::path::{Path, PathBuf};

use super::deployment::Deploys;
use super::emit::Emit;
use super::trees::{self, is_of_system};
use super::{Discovery, FoundMount, FoundService, local};

/// Where containers see their secrets.
pub(super) const SECRETS: &str = "/run/secrets";

/// Where nginx writes its logs.
const NGINX_LOGS: &str = "/var/log/nginx";

/// What a service is, by its image, or else by the port that it listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Postgres,
    Redis,
    App,
    /// Users do not see it.
    Monitoring,
    Nginx,
}

pub(super) fn role(it: &FoundService) -> Role {
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
    } else if has(&[
        "adminer",
        "backup",
        "operator",
        "pgadmin",
        "pgbouncer",
        "pgcat",
        "pgpool",
        "postgrest",
        "redis-commander",
        "redisinsight",
        "sentinel",
    ]) {
        // Clients, and what stands before a server: no data of it is theirs.
        Role::App
    } else if has(&["postgres", "postgis", "timescale"]) {
        Role::Postgres
    } else if has(&["redis", "valkey"]) {
        Role::Redis
    } else if has(&["nginx"]) {
        Role::Nginx
    } else {
        match it.listens.as_slice() {
            [5432] => Role::Postgres,
            [6379] => Role::Redis,
            _ => Role::App,
        }
    }
}

pub(super) fn names(services: &[(Role, &FoundService)], wanted: Role) -> Vec<String> {
    let all = services.iter().filter(|(role, _)| *role == wanted);
    all.map(|(_, it)| it.name.clone()).collect()
}

/// The name of a volume without its stack's.
pub(super) fn short<'a>(volume: &'a str, it: &FoundService) -> &'a str {
    let stack = it.stack.as_deref().unwrap_or_default();
    let rest = volume
        .strip_prefix(stack)
        .and_then(|rest| rest.strip_prefix('_'));
    rest.filter(|rest| !rest.is_empty()).unwrap_or(volume)
}

/// Whether the engine has made up a volume's name.
pub(super) fn is_nameless(volume: &str) -> bool {
    volume.len() == 64 && volume.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a directory of the host is one that a server keeps data in: it can write there, and what is there is
/// neither configuration nor a log.
pub(super) fn holds_data(mount: &FoundMount) -> bool {
    let others = [
        "/docker-entrypoint-initdb.d",
        "/etc",
        "/opt",
        "/run",
        "/tmp",
        "/usr",
        "/var/log",
        "/var/run",
    ];
    let settings = mount.target.extension().is_some_and(|it| it == "conf");
    mount.bind
        && !mount.read_only
        && !settings
        && !is_of_system(Path::new(&mount.source))
        && !others.iter().any(|path| mount.target.starts_with(path))
        && !Path::new(&mount.source).is_file()
}

/// What a Redis keeps its data in, as far as its mounts tell.
pub(super) fn redis_data(it: &FoundService) -> Option<&FoundMount> {
    let rank = |mount: &FoundMount| {
        let usual = mount.target == Path::new("/data");
        match (mount.bind, usual) {
            (true, _) if !holds_data(mount) => None,
            // An image may have one for a place that its server does not use.
            (false, _) if is_nameless(&mount.source) => Some(4),
            (false, true) => Some(0),
            (true, true) => Some(1),
            (false, false) => Some(2),
            (true, false) => Some(3),
        }
    };
    let ranked = it
        .mounts
        .iter()
        .filter_map(|mount| Some((rank(mount)?, mount)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, mount)| mount)
}

/// The components, the checks and the page; `volumes` has the site's names and the engine's (of a directory of
/// the host its path), and an image that is restored stops `image_stops`. Returns the directories that are components.
pub(super) fn write_components(
    found: &Discovery,
    services: &[(Role, &FoundService)],
    volumes: &[(String, String)],
    image_stops: &[String],
    deploys: Deploys,
    out: &mut Emit,
) -> Vec<PathBuf> {
    out.heading("components: what is backed up and restored");
    for (role, it) in services {
        match role {
            Role::Postgres => write_postgres(found, it, services, out),
            Role::Redis => write_redis(found, it, services, volumes, out),
            _ => {}
        }
    }
    write_volume_components(found, services, volumes, out);
    let trees = trees::write(found, services, deploys, out);
    let images = |file: &String| file.starts_with("app/docker-image");
    if found
        .backups
        .as_ref()
        .is_some_and(|it| it.files.iter().any(images))
    {
        out.section(&["components", "images"]);
        out.text("kind", "image");
        out.list("stops", image_stops);
    }
    local::write_crontab(found, out);
    out.heading("checks: made before a run and after it; a failure after it turns the run back");
    for name in names(services, Role::App) {
        out.section(&["checks", &format!("{name}-runs")]);
        out.text("kind", "process");
        out.text("service", &name);
    }
    let nginx = services.iter().find(|(role, _)| *role == Role::Nginx);
    match nginx {
        Some((_, nginx)) => write_maintenance(nginx, out),
        None => write_no_page(services, out),
    }
    trees
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

pub(super) fn write_stops(stops: &[String], why: &str, out: &mut Emit) {
    out.guess(why);
    out.list("stops", stops);
}

/// The file that holds a server's password: one that its container has, one of this host that is called as the
/// swarm's secret, else one that is to be made.
fn secret(found: &Discovery, it: &FoundService, words: &[&str], out: &mut Emit) {
    let inside = it
        .settings
        .iter()
        .find(|(name, _)| name.ends_with("PASSWORD_FILE"))
        .map(|(_, inside)| Path::new(inside));
    let told = inside.and_then(|inside| it.mounts.iter().find(|at| at.target == inside));
    let is_password = |name: &str| {
        let name = name.to_lowercase();
        words.iter().any(|word| name.contains(word)) && !name.ends_with(".conf")
    };
    let fits = |mount: &&FoundMount| {
        let name = mount.target.file_name().unwrap_or_default();
        mount.target.starts_with(SECRETS) && is_password(&name.to_string_lossy())
    };
    match (told, it.mounts.iter().find(fits)) {
        (Some(mount), _) if mount.bind => {
            out.text("password_file", &mount.source);
            return;
        }
        (_, Some(mount)) if mount.bind => {
            out.guess("by its name; only the name was read.");
            out.text("password_file", &mount.source);
            return;
        }
        _ => {}
    }
    let named = inside.and_then(|inside| inside.strip_prefix(SECRETS).ok());
    let named = named.and_then(Path::to_str);
    let named = named.filter(|name| it.secrets.iter().any(|it| it == name));
    let name = named.or_else(|| {
        let mut secrets = it.secrets.iter().map(String::as_str);
        secrets.find(|name| is_password(name))
    });
    let file = name.and_then(|name| {
        let mut files = found.secrets.iter();
        files.find(|file| file.file_name().is_some_and(|it| it == name))
    });
    match file {
        Some(file) => {
            out.guess("it is called as the swarm's secret; only the name was read.");
            out.path("password_file", file);
        }
        None => {
            let path = format!("/etc/restore/{}.pass", it.name);
            out.todo(format!(
                "write the password into {path}, for root alone: install -m 600 /dev/stdin {path}"
            ));
            out.text("password_file", &path);
        }
    }
}

fn write_postgres(
    found: &Discovery,
    it: &FoundService,
    services: &[(Role, &FoundService)],
    out: &mut Emit,
) {
    let apps: Vec<&FoundService> = services.iter().map(|(_, it)| *it).collect();
    let setting = |names: &[&str]| {
        let mut own = std::iter::once(&it).chain(&apps);
        own.find_map(|it| names.iter().find_map(|name| it.setting(name)))
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
    secret(found, it, &["postgres", "pg", "db"], out);
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
    found: &Discovery,
    it: &FoundService,
    services: &[(Role, &FoundService)],
    volumes: &[(String, String)],
    out: &mut Emit,
) {
    let data = redis_data(it);
    let volume = data.and_then(|data| volumes.iter().find(|(_, engine)| *engine == data.source));
    let (Some(data), Some((volume, _))) = (data, volume) else {
        out.blank();
        write_no_data(it, data, out);
        return;
    };
    out.section(&["components", short(&it.name, it)]);
    out.text("kind", "redis");
    out.text("service", &it.name);
    if data.bind && data.target != Path::new("/data") {
        out.guess("it can write there, and nothing with a name is at its /data.");
    }
    out.text("volume", volume);
    if it.image.to_ascii_lowercase().contains("valkey") {
        out.text("server_binary", "valkey-server");
    }
    if it.protected.is_none() {
        out.comment("Without a password: take out what names its file.");
    }
    if it.protected != Some(false) {
        secret(found, it, &["redis", "valkey"], out);
    }
    write_stops(
        &clients(it, services),
        "what shares a network with it.",
        out,
    );
}

/// Why a Redis is no component: `data` is what it keeps its data in, which nothing can be done with.
fn write_no_data(it: &FoundService, data: Option<&FoundMount>, out: &mut Emit) {
    let name = &it.name;
    match data {
        Some(data) if data.bind => out.todo(format!(
            "{name} keeps its data in the directory {0}, and on a swarm a Redis is restored in a volume: give it one \
             in the compose file that is this directory (driver_opts: type: none, o: bind, device: {0}), then describe \
             it here with kind = \"redis\"",
            data.source
        )),
        _ if it.keeps_nothing => out.comment(&format!(
            "{name} is told to save nothing: it holds nothing to restore."
        )),
        Some(data) => out.todo(format!(
            "{name} keeps its data in a volume without a name, {}: give it one in the compose file, so that \
             containers made anew find it, then describe it here with kind = \"redis\"",
            data.source
        )),
        None => out.todo(format!(
            "{name} has no volume for its data, so that no backup has it: give it one at /data in the compose file, \
             then describe it here with kind = \"redis\"; a cache that may be lost needs none, with save \"\""
        )),
    }
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
        let logs = users.iter().find(|(role, it)| {
            let of_logs = |mount: &FoundMount| {
                mount.source == *engine && mount.target == Path::new(NGINX_LOGS)
            };
            *role == Role::Nginx && it.mounts.iter().any(of_logs)
        });
        if let Some((_, nginx)) = logs {
            out.comment("It is told to open the files that are there then.");
            out.text("service", &nginx.name);
            out.list("reload", &["nginx", "-s", "reopen"]);
        }
    }
}

/// Who is in front of users and shows them no page by itself.
fn write_no_page(services: &[(Role, &FoundService)], out: &mut Emit) {
    let is_proxy = |image: &str| {
        let known = ["traefik", "caddy", "haproxy"];
        known.iter().any(|name| image.contains(name))
    };
    let front = services.iter().find(|(_, it)| is_proxy(&it.image));
    if let Some((_, front)) = front {
        out.blank();
        out.comment(&format!(
            "{} is in front of users, who meet stopped services meanwhile unless two commands turn them away: \
             [maintenance] kind = \"command\".",
            front.name
        ));
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
