//! The components: a database, a Redis, volumes, trees, the crontab.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::emit::Emit;
use super::super::{Discovery, FoundCrontab, FoundProcess};
use super::nginx::Nginx;
use super::{Role, Service, first, script, secret};
use crate::site::init::processes::{data_directory, ports};

/// Volumes: Redis' data, and directories that backups have archives of.
pub(super) fn volumes(found: &Discovery, services: &[Service<'_>]) -> BTreeMap<String, PathBuf> {
    let mut volumes = BTreeMap::new();
    let mut add = |path: &Path| {
        if let Some(name) = path.file_name().map(|it| it.to_string_lossy().into_owned()) {
            volumes.entry(name).or_insert_with(|| path.to_owned());
        }
    };
    for service in services {
        if service.role == Role::Redis {
            add(&service.it.directory);
        }
    }
    let Some(backups) = &found.backups else {
        return volumes;
    };
    for archive in backups.archives("volumes") {
        if let Some(path) = directory_of(found, archive) {
            add(path);
        }
    }
    volumes
}

pub(super) fn plain(name: &str) -> String {
    let name = name.replace('-', "_");
    name.strip_suffix("_data").unwrap_or(&name).to_owned()
}

/// The directory that an archive of the backups was made of, by its name.
pub(super) fn directory_of<'a>(found: &'a Discovery, archive: &str) -> Option<&'a PathBuf> {
    found.directories.iter().find(|path| {
        let name = path.file_name().map(|it| it.to_string_lossy().into_owned());
        name.is_some_and(|name| plain(&name) == plain(archive))
    })
}

/// Who talks to a server, or works on a directory: stopped while it is swapped.
pub(super) fn clients(services: &[Service<'_>], server: &FoundProcess) -> Vec<String> {
    let served: Vec<u16> = ports(server).collect();
    let apps = || services.iter().filter(|it| it.role == Role::App);
    let talk = apps().filter(|it| it.it.connected.iter().any(|port| served.contains(port)));
    let mut names: Vec<String> = talk.map(|it| it.name.clone()).collect();
    if names.is_empty() {
        // One that is idle just now has no connection.
        names = apps().map(|it| it.name.clone()).collect();
    }
    names
}

pub(super) fn write_stops(stops: &[String], out: &mut Emit) {
    match stops.is_empty() {
        true => out.guess("nothing was seen that talks to it. Name the services that write to it."),
        false => out.guess("these talk to it, or may. Name the services that write to it."),
    }
    out.list("stops", stops);
}

pub(super) fn write_postgres(
    found: &Discovery,
    service: &Service<'_>,
    services: &[Service<'_>],
    out: &mut Emit,
) {
    out.section(&["components", &service.name]);
    out.text("kind", "postgres");
    out.text("service", &service.name);
    let settings: Vec<&(String, String)> = services.iter().flat_map(|it| &it.it.settings).collect();
    let setting = |words: &[&str]| {
        let fits = |(name, _): &&&(String, String)| {
            words.iter().any(|word| name.to_uppercase().ends_with(word))
        };
        settings.iter().find(fits).map(|(_, value)| value.clone())
    };
    let backups = found.backups.as_ref();
    let seen = service
        .it
        .databases
        .iter()
        .find(|(database, _)| database != "postgres");
    let database = backups
        .and_then(|it| it.database.clone())
        .map(|it| (it, "as the backups say."))
        .or_else(|| {
            seen.map(|it| {
                (
                    it.0.clone(),
                    "somebody is connected to it. One component for each database.",
                )
            })
        })
        .or_else(|| {
            setting(&["DATABASE", "DB_NAME", "POSTGRES_DB"])
                .map(|it| (it, "from a service's environment."))
        });
    match &database {
        Some((name, why)) => {
            out.guess(why);
            out.text("database", name);
        }
        None => {
            out.todo("name the database: `psql -l` lists them");
            out.text("database", "postgres");
        }
    }
    let user = backups
        .and_then(|it| it.user.clone())
        .or_else(|| seen.map(|it| it.1.clone()))
        .or_else(|| setting(&["PG_USER", "PGUSER", "DB_USER", "POSTGRES_USER"]));
    out.guess("whom to sign in as: the database's owner with CREATEDB, or a superuser.");
    out.text("user", user.as_deref().unwrap_or("postgres"));
    secret(found, &["postgres", "pg", "database"], service, out);
    write_stops(&clients(services, service.it), out);
    if let Some(data) = data_directory(service.it) {
        out.comment(&format!(
            "The cluster's data is in {}; to recover it to a moment, see kind = \"postgres_cluster\".",
            data.display()
        ));
    }
}

/// Whether a Redis asks for a password, or may.
pub(super) fn is_locked(it: &FoundProcess) -> bool {
    it.config.as_ref().is_none_or(|config| {
        let mut lines = config.text.lines();
        lines.any(|line| line.trim_start().starts_with("requirepass"))
    })
}

pub(super) fn write_redis(
    found: &Discovery,
    service: &Service<'_>,
    services: &[Service<'_>],
    volumes: &BTreeMap<String, PathBuf>,
    out: &mut Emit,
) {
    out.section(&["components", &service.name]);
    out.text("kind", "redis");
    out.text("service", &service.name);
    let volume = volumes
        .iter()
        .find(|(_, path)| **path == service.it.directory);
    if let Some((name, _)) = volume {
        out.text("volume", name);
    }
    if is_locked(service.it) {
        secret(found, &["redis", "valkey"], service, out);
    }
    if first(service.it).contains("valkey") {
        out.text("server_binary", "valkey-server");
    }
    write_stops(&clients(services, service.it), out);
}

pub(super) fn write_volumes(
    found: &Discovery,
    services: &[Service<'_>],
    volumes: &BTreeMap<String, PathBuf>,
    out: &mut Emit,
) {
    let Some(backups) = &found.backups else {
        return;
    };
    let mut done: Vec<&String> = Vec::new();
    for archive in backups.archives("volumes") {
        let path = directory_of(found, archive);
        let volume = path.and_then(|path| volumes.iter().find(|(_, known)| *known == path));
        let Some((volume, path)) = volume else {
            out.blank();
            out.todo(format!(
                "volumes/{archive}-{{id}}.tar.gz is in the backups: say which directory it belongs to, as [volumes.{archive}] \
                 with path, and as a component of kind \"volume\""
            ));
            continue;
        };
        let redis = |it: &Service<'_>| it.role == Role::Redis && it.it.directory == *path;
        if done.contains(&volume) || services.iter().any(redis) {
            continue;
        }
        done.push(volume);
        out.section(&["components", archive]);
        out.text("kind", "volume");
        out.text("volume", volume);
        let mut names = vec![archive.to_owned(), volume.clone()];
        names.dedup();
        let names: Vec<String> = names
            .iter()
            .map(|it| format!("volumes/{it}-{{id}}.tar.gz"))
            .collect();
        out.list("archive", &names);
        let inside = services
            .iter()
            .filter(|it| it.role == Role::App && it.it.directory.starts_with(path));
        let stops: Vec<String> = inside.map(|it| it.name.clone()).collect();
        if stops.is_empty() {
            out.guess("no service works in it. Name those that write to it.");
        }
        out.list("stops", &stops);
    }
}

/// What a tree needs besides its place.
pub(super) fn write_tree(
    whole: &Path,
    nginx: Option<&Service<'_>>,
    services: &[Service<'_>],
    out: &mut Emit,
) {
    let config = nginx.map(|it| (it, Nginx::of(it.it)));
    if let Some((service, nginx)) = config
        && nginx.config.starts_with(whole)
    {
        out.list("stops", &[] as &[&str]);
        let modules = Path::new("/usr/lib/nginx");
        out.comment("Links may lead out of the tree to these places only.");
        out.list("allow_links", &[modules.to_string_lossy()]);
        out.text("service", &service.name);
        // Whatever root is to run is no stranger's.
        if service.it.foreign.is_none() {
            out.list("test", &nginx.call(&["-t"]));
            out.list("reload", &nginx.call(&["-s", "reload"]));
        }
        return;
    }
    let runs = |it: &&Service<'_>| {
        it.role == Role::App
            && (it
                .it
                .words
                .iter()
                .any(|word| Path::new(word).starts_with(whole))
                || it.it.directory.starts_with(whole))
    };
    let stops: Vec<String> = services
        .iter()
        .filter(runs)
        .map(|it| it.name.clone())
        .collect();
    if !stops.is_empty() {
        out.guess("what backups of code usually leave out: it stays as it is.");
        out.list("exclude", &["**/node_modules", "**/.git", "**/*.log"]);
    }
    out.list("stops", &stops);
}

/// Trees that no backup told of: nginx' configuration, the code of services.
pub(super) fn write_other_trees(
    found: &Discovery,
    nginx: Option<&Service<'_>>,
    services: &[Service<'_>],
    trees: &mut Vec<PathBuf>,
    out: &mut Emit,
) {
    let mut wanted: Vec<(String, String, PathBuf)> = Vec::new();
    if let Some(home) = nginx.and_then(|it| Nginx::of(it.it).config.parent().map(Path::to_owned)) {
        wanted.push(("nginx-config".to_owned(), "configs".to_owned(), home));
    }
    for service in services.iter().filter(|it| it.role == Role::App) {
        let home = script(service.it).and_then(|it| it.parent().map(Path::to_owned));
        let system = |path: &PathBuf| path.starts_with("/usr") || path.components().count() < 3;
        if let Some(home) = home.filter(|home| home.is_absolute() && !system(home)) {
            wanted.push((format!("{}-code", service.name), "app".to_owned(), home));
        }
    }
    for (name, folder, home) in wanted {
        let known = |tree: &PathBuf| home.starts_with(tree);
        let (Some(root), Some(tree)) = (home.parent(), home.file_name()) else {
            continue;
        };
        if trees.iter().any(known) {
            continue;
        }
        out.section(&["components", &name]);
        out.text("kind", "files");
        out.list("archive", &[format!("{folder}/{name}-{{id}}.tar.gz")]);
        if found.backups.is_some() {
            out.comment("The backups have nothing for it yet.");
            out.raw("optional", "true");
        }
        out.path("root", root);
        out.path("tree", Path::new(tree));
        write_tree(&home, nginx, services, out);
        trees.push(home);
    }
}

pub(in super::super) fn write_crontab(found: &Discovery, out: &mut Emit) {
    let Some(crontab) = &found.crontab else {
        return;
    };
    out.section(&["components", "crontab"]);
    out.text("kind", "crontab");
    match crontab {
        FoundCrontab::User(user) => out.text("user", user),
        FoundCrontab::File(file) => out.path("file", file),
    }
    if found
        .backups
        .as_ref()
        .is_some_and(|it| !it.has("configs/crontab-{id}.txt"))
    {
        out.comment("The backups have nothing for it yet.");
        out.raw("optional", "true");
    }
}
