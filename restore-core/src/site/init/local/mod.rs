//! Servers that are processes: what each is, and what is written of it.

mod nginx;
mod parts;

use std::path::{Path, PathBuf};

use super::emit::{Emit, quoted};
use super::processes::ports;
use super::{Discovery, FoundProcess, backups};
use crate::contract::backup::CONFIGURATION;

pub(super) use self::nginx::Nginx;
pub(super) use self::parts::write_crontab;
use self::parts::{
    is_locked, volumes, write_other_trees, write_postgres, write_redis, write_tree, write_volumes,
};

/// The first number of a person's account, as Debian gives them.
const FIRST_PERSON: u32 = 1000;

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
    // Debian's servers are links to the programs that check their files.
    const PROGRAMS: [&str; 4] = [
        "redis-server",
        "valkey-server",
        "redis-check-rdb",
        "valkey-check-rdb",
    ];
    named(it, &PROGRAMS)
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
    // The plain names are for those that nobody else has put there.
    all.sort_by_key(|(role, it)| (*role, it.foreign.is_some(), it.pid));
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

/// Whether a server is one of the platform's by the user it runs as: an account of the system. A person may run a
/// server too, to which no secret of the platform's is sent because its file has a fitting name.
fn is_of_the_system(it: &FoundProcess) -> bool {
    let user = nix::unistd::User::from_name(&it.user).ok().flatten();
    user.is_some_and(|user| user.uid.as_raw() < FIRST_PERSON)
}

/// Whether a server is the first of its kind and nobody else runs another one: an account of the system may be
/// that of a service which is broken into, and its user can run a server too.
fn is_the_one(found: &Discovery, service: &Service<'_>) -> bool {
    let plain = match service.role {
        Role::Postgres => "postgres",
        Role::Redis => "redis",
        _ => return false,
    };
    let mut others = found.processes.iter();
    service.name == plain && others.all(|it| role(it) != service.role || it.user == service.it.user)
}

/// A secret's file: one whose name has one of the words, else one that is to be made.
fn secret(found: &Discovery, words: &[&str], service: &Service<'_>, out: &mut Emit) {
    let name = &service.name;
    let fits = |path: &&PathBuf| {
        let file = path
            .file_name()
            .map(|it| it.to_string_lossy().to_lowercase());
        let file = file.unwrap_or_default();
        words.iter().any(|word| file.contains(word)) && !file.ends_with(".conf")
    };
    let known = found.secrets.iter().find(fits);
    let is_it = |_: &&PathBuf| is_of_the_system(service.it) && is_the_one(found, service);
    if let Some(path) = known.filter(is_it) {
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
            if let Some(newest) = backups
                .newest
                .as_ref()
                .filter(|_| backups.has(CONFIGURATION))
            {
                out.todo(format!(
                    "backup {newest} carries the {CONFIGURATION} of its site: `restore init --from {} {newest}` takes that instead, and guesses nothing",
                    backups.directory.display()
                ));
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
    let mut trees = backups::trees(found, out, |tree, out| {
        write_tree(tree.whole, nginx, &services, out);
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
    if let (Some(foreign), None) = (&it.foreign, &it.unit) {
        out.guess(&format!(
            "{foreign}: who can write there decides what runs here. Take the section out if it is no part of the platform."
        ));
    }
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
        write_directory(service, out);
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

/// Where it is started: what it is called with, and what it serves, may be relative to that.
fn write_directory(service: &Service<'_>, out: &mut Emit) {
    let it = service.it;
    let directory = match service.role {
        // Its paths are relative to its prefix, which it is called with.
        Role::Nginx => None,
        // It goes into its data directory by itself.
        Role::Postgres => None,
        Role::Redis => redis_started_in(it),
        Role::App => Some(it.directory.as_path()),
    };
    let Some(directory) = directory.filter(|path| path.is_absolute() && *path != Path::new("/"))
    else {
        return;
    };
    match directory.to_string_lossy().ends_with(" (deleted)") {
        true => out.todo(format!(
            "the directory that {} was started in is deleted: name in `directory` the one that it is to be started in",
            service.name
        )),
        false => out.path("directory", directory),
    }
}

/// The directory that a Redis was started in, where its own `dir` is relative to that: it is in `dir` now.
fn redis_started_in(it: &FoundProcess) -> Option<&Path> {
    let lines = it.config.iter().flat_map(|config| config.text.lines());
    let mut said = lines.filter_map(|line| line.trim().strip_prefix("dir "));
    let Some(said) = said.next_back() else {
        return Some(&it.directory);
    };
    let said = Path::new(said.trim().trim_matches(['"', '\'']));
    let mut at = it.directory.as_path();
    if said.is_absolute() {
        return None;
    }
    for part in said.components().rev() {
        match part {
            std::path::Component::Normal(name) if at.file_name() == Some(name) => {
                at = at.parent()?
            }
            std::path::Component::CurDir => {}
            _ => return None,
        }
    }
    Some(at)
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
            secret(found, &["redis", "valkey"], service, out);
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
    if let Some(foreign) = &nginx.it.foreign {
        out.blank();
        out.todo(format!(
            "{foreign}, so that no command is made of it for the maintenance page: see [maintenance] in the reference, and write it by hand"
        ));
        return;
    }
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
