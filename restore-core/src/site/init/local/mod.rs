//! Servers that are processes: what each is, and what is written of it.

mod nginx;
mod parts;

use std::path::{Path, PathBuf};

use super::emit::{Emit, quoted};
use super::processes::ports;
use super::{Discovery, FoundProcess, backups};

pub(super) use self::nginx::Nginx;
pub(super) use self::parts::write_crontab;
use self::parts::{
    is_locked, volumes, write_other_trees, write_postgres, write_redis, write_tree, write_volumes,
};

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Postgres,
    Redis,
    /// Of the platform's own, or not known: a client of those above.
    App,
    Nginx,
}

fn first(it: &FoundProcess) -> &str {
    let first = it.words.first().map_or("", String::as_str);
    first.split(' ').next().unwrap_or_default()
}

fn named(it: &FoundProcess, names: &[&str]) -> bool {
    let base = |path: &Path| path.file_name().map(|it| it.to_string_lossy().into_owned());
    let program = base(&it.program).unwrap_or_default();
    let word = base(Path::new(first(it))).unwrap_or_default();
    names.iter().any(|name| program == *name || word == *name)
}

pub(super) fn is_postgres(it: &FoundProcess) -> bool {
    named(it, &["postgres", "postmaster"])
}

pub(super) fn is_redis(it: &FoundProcess) -> bool {
    named(it, &["redis-server", "valkey-server", "redis-check-rdb"])
}

pub(super) fn is_nginx(it: &FoundProcess) -> bool {
    named(it, &["nginx"]) || first(it) == "nginx:"
}

fn role(it: &FoundProcess) -> Role {
    match it {
        it if is_postgres(it) => Role::Postgres,
        it if is_redis(it) => Role::Redis,
        it if is_nginx(it) => Role::Nginx,
        _ => Role::App,
    }
}

struct Service<'a> {
    name: String,
    role: Role,
    it: &'a FoundProcess,
}

/// The services, in the order of starting, each with a name of its own.
fn services(found: &Discovery) -> Vec<Service<'_>> {
    let mut all: Vec<(Role, &FoundProcess)> =
        found.processes.iter().map(|it| (role(it), it)).collect();
    all.sort_by_key(|(role, it)| (*role, it.pid));
    let mut services: Vec<Service<'_>> = Vec::new();
    for (role, it) in all {
        let base = match role {
            Role::Postgres => "postgres".to_owned(),
            Role::Redis => "redis".to_owned(),
            Role::Nginx => "nginx".to_owned(),
            Role::App => app_name(it),
        };
        let taken = |name: &str| services.iter().any(|service| service.name == name);
        let name = match ports(it).next() {
            Some(port) if taken(&base) => format!("{base}-{port}"),
            _ => base.clone(),
        };
        let name = if taken(&name) {
            format!("{base}-{}", it.pid)
        } else {
            name
        };
        services.push(Service { name, role, it });
    }
    services
}

fn app_name(it: &FoundProcess) -> String {
    let unit = it
        .unit
        .as_deref()
        .and_then(|unit| unit.strip_suffix(".service"));
    let script = script(it);
    let stem = script.as_deref().and_then(Path::file_stem);
    let program = it.program.file_name();
    let name = unit.map(str::to_owned).or_else(|| {
        let name = stem.or(program)?;
        Some(name.to_string_lossy().into_owned())
    });
    let name: String = name
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let name = name.trim_matches('-').to_owned();
    if name.is_empty() {
        "app".to_owned()
    } else {
        name
    }
}

/// The script that an interpreter runs.
fn script(it: &FoundProcess) -> Option<PathBuf> {
    let words = it.words.iter().skip(1);
    let paths = words
        .filter(|word| !word.starts_with('-'))
        .map(PathBuf::from);
    paths
        .map(|path| it.directory.join(path))
        .find(|path| path.extension().is_some())
}

/// A secret's file: one whose name has one of the words, else one that is to be made.
fn secret(found: &Discovery, words: &[&str], name: &str, out: &mut Emit) {
    let fits = |path: &&PathBuf| {
        let file = path
            .file_name()
            .map(|it| it.to_string_lossy().to_lowercase());
        let file = file.unwrap_or_default();
        words.iter().any(|word| file.contains(word)) && !file.ends_with(".conf")
    };
    if let Some(path) = found.secrets.iter().find(fits) {
        out.guess("by its name; only the name was read.");
        out.path("password_file", path);
        return;
    }
    let path = format!("/etc/restore/{name}.pass");
    out.todo(format!(
        "write the password into {path}, for root alone: install -m 600 /dev/stdin {path}"
    ));
    out.text("password_file", &path);
}

/// The head of each file: site, store; `projects` are those of Compose that are not in it.
pub(super) fn head(found: &Discovery, projects: &[String], out: &mut Emit) {
    out.comment("Written by `restore init` from what it found on this host.");
    out.comment(
        "What stands behind GUESSED was concluded and is to be looked at; what stands behind TO DO is left to do. \
         `restore config check` says what is wrong, docs/configuration.md explains each key.",
    );
    if !projects.is_empty() {
        out.blank();
        out.comment(&format!(
            "Compose projects run here: {}. What they hold is not in this file: a site of its own has them, \
             with [platform] kind = \"compose\" and project = the name; docs/configuration.md has an example.",
            projects.join(", ")
        ));
    }
    out.section(&["site"]);
    out.text("name", &found.name);
    out.comment("Journals, reports and the lock. On a disk that outlives a restore.");
    let plain: String = found
        .name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
                c
            } else {
                '-'
            }
        })
        .collect();
    out.text("state", &format!("/var/lib/restore/{plain}"));
    out.blank();
    out.comment("Where backups are: one folder for each, named by its id.");
    out.section(&["stores", "main"]);
    out.text("kind", "directory");
    match &found.backups {
        Some(backups) => {
            out.path("path", &backups.directory);
            if backups.newest.is_none() {
                out.comment("There is no backup in it yet: `restore backup` makes one.");
            }
        }
        None => {
            out.todo(
                "say where backups are to go, best not on the disk with the live data, and make the directory: \
                 mkdir -p -m 700 /var/backups/restore",
            );
            out.text("path", "/var/backups/restore");
        }
    }
}

/// The configuration of a host without a swarm.
pub(super) fn propose(found: &Discovery, out: &mut Emit) {
    head(found, &found.compose, out);
    out.section(&["platform"]);
    out.comment("Processes and directories of this host.");
    out.text("kind", "local");
    let services = services(found);
    out.heading("services, in the order of starting; they stop in reverse");
    if services.is_empty() {
        out.todo("no server was found: run `restore init` as root while they run, or describe them by hand");
    }
    for service in &services {
        write_service(service, out);
    }
    let volumes = volumes(found, &services);
    if !volumes.is_empty() {
        out.heading("volumes");
    }
    for (name, path) in &volumes {
        out.section(&["volumes", name]);
        out.path("path", path);
    }
    out.heading("components: what is backed up and restored");
    for service in &services {
        match service.role {
            Role::Postgres => write_postgres(found, service, &services, out),
            Role::Redis => write_redis(found, service, &services, &volumes, out),
            _ => {}
        }
    }
    write_volumes(found, &services, &volumes, out);
    let nginx = services.iter().find(|it| it.role == Role::Nginx);
    let mut trees = backups::trees(found, out, |_, whole, out| {
        write_tree(whole, nginx, &services, out);
    });
    write_other_trees(found, nginx, &services, &mut trees, out);
    write_crontab(found, out);
    write_checks(found, &services, out);
    if let Some(nginx) = nginx {
        write_maintenance(nginx, out);
    }
}

fn write_service(service: &Service<'_>, out: &mut Emit) {
    let it = service.it;
    out.section(&["services", &service.name]);
    if let Some(unit) = &it.unit {
        out.list("start", &["systemctl", "start", unit.as_str()]);
        out.list("stop", &["systemctl", "stop", unit.as_str()]);
        out.list(
            "status",
            &["systemctl", "is-active", "--quiet", unit.as_str()],
        );
    } else if let Some(words) = command(service) {
        out.comment("As it runs now; restore starts it so, in the foreground.");
        out.list("command", &words);
        let nginx = (service.role == Role::Nginx).then(|| Nginx::of(it).pid_file());
        match it.pid_file.as_ref().or(nginx.as_ref()) {
            Some(file) => {
                out.comment("By it the server that runs already is recognised.");
                out.path("pid_file", file);
            }
            None => out.todo(format!(
                "{} has no pid file that names it: without one restore does not know that it runs already. Name \
                 it here, or describe the service by start, stop and status",
                service.name
            )),
        }
    }
    if it.user != "root" && it.from_root && it.unit.is_none() {
        out.guess(&format!(
            "root owns its pid file: it is started as root, and becomes {} by itself.",
            it.user
        ));
    } else if it.user != "root" {
        out.text("user", &it.user);
    }
    let log = match service.role {
        Role::Nginx => {
            let nginx = Nginx::of(it);
            nginx.directive("error_log").map(|log| nginx.path(log))
        }
        _ => it.log.clone(),
    };
    if let Some(log) = log {
        out.path("log", &log);
    }
    if let Some(endpoint) = it.listens.first() {
        out.text("endpoint", endpoint);
        if it.unit.is_none() && service.role != Role::App {
            out.text("ready", "tcp");
        }
    }
    if service.role == Role::Postgres && it.unit.is_none() {
        out.comment("SIGINT does not wait for clients to leave.");
        out.text("stop_signal", "SIGINT");
    }
}

/// What starts it in the foreground.
fn command(service: &Service<'_>) -> Option<Vec<String>> {
    let it = service.it;
    Some(match service.role {
        Role::Nginx => {
            let nginx = Nginx::of(it);
            match nginx.directive("daemon") {
                Some("off") => nginx.call(&[]),
                _ => nginx.call(&["-g", "daemon off;"]),
            }
        }
        Role::Redis => {
            // Its title has the address where the configuration stood.
            let program = Path::new(first(it));
            let program = match program.is_absolute() {
                true => program.to_owned(),
                false => PathBuf::from("/usr/bin").join(program),
            };
            let mut words = vec![program.to_string_lossy().into_owned()];
            words.extend(
                it.config
                    .as_ref()
                    .map(|it| it.path.to_string_lossy().into_owned()),
            );
            words
        }
        _ => {
            let mut words = it.words.clone();
            let program = words.first_mut()?;
            if !program.starts_with('/') && it.program.is_absolute() {
                *program = it.program.to_string_lossy().into_owned();
            }
            words
        }
    })
}

fn write_checks(found: &Discovery, services: &[Service<'_>], out: &mut Emit) {
    if services.is_empty() {
        return;
    }
    out.heading("checks: made before a run and after it; a failure after it turns the run back");
    for service in services.iter().filter(|it| it.role == Role::App) {
        out.section(&["checks", &format!("{}-runs", service.name)]);
        out.text("kind", "process");
        out.text("service", &service.name);
    }
    for service in services.iter().filter(|it| it.role == Role::Redis) {
        out.section(&["checks", &format!("{}-answers", service.name)]);
        out.text("kind", "redis");
        out.text("service", &service.name);
        if is_locked(service.it) {
            secret(found, &["redis", "valkey"], &service.name, out);
        }
    }
    out.blank();
    out.comment("The best check is the one that users make. With your host name and page:");
    let door = services.iter().rfind(|it| it.role == Role::Nginx);
    let door = door
        .and_then(|it| it.it.listens.first())
        .map_or("127.0.0.1:80", String::as_str);
    for line in [
        "[checks.front-page]".to_owned(),
        "kind = \"http\"".to_owned(),
        format!("url = {}", quoted(&format!("http://{door}/"))),
        "host = \"www.example.org\"".to_owned(),
        "status = 200".to_owned(),
    ] {
        out.comment(&line);
    }
}

fn write_maintenance(nginx: &Service<'_>, out: &mut Emit) {
    let it = Nginx::of(nginx.it);
    out.heading("maintenance: how users are told to wait while the data is swapped");
    let Some(folder) = it.conf_dir() else {
        out.blank();
        out.todo("nginx includes no folder of *.conf files, or its configuration was not found: see [maintenance] in the reference");
        return;
    };
    out.section(&["maintenance"]);
    out.text("kind", "nginx");
    out.text("service", &nginx.name);
    out.comment("A folder that nginx includes whole.");
    out.path("conf_dir", &folder);
    out.list("test", &it.call(&["-t"]));
    out.list("reload", &it.call(&["-s", "reload"]));
    out.list("dump", &it.call(&["-T"]));
}
