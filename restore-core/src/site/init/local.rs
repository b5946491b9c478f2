//! Servers that are processes: what each is, and what is written of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::emit::{Emit, quoted};
use super::processes::{data_directory, ports};
use super::{Discovery, FoundCrontab, FoundProcess, backups};

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

/// How an nginx was started, and what its configuration names.
pub(super) struct Nginx {
    program: PathBuf,
    prefix: Option<PathBuf>,
    pub(super) config: PathBuf,
    named: Option<String>,
    text: String,
}

impl Nginx {
    pub(super) fn of(it: &FoundProcess) -> Self {
        let title = it.words.join(" ");
        let line = title
            .split_once("master process ")
            .map_or(title.as_str(), |it| it.1);
        let words: Vec<&str> = line.split(' ').collect();
        let option = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1).map(|it| (*it).to_owned())
        };
        let prefix = option("-p").map(|prefix| it.directory.join(prefix));
        let named = option("-c");
        let base = prefix
            .clone()
            .unwrap_or_else(|| PathBuf::from("/etc/nginx"));
        let config = base.join(named.as_deref().unwrap_or("nginx.conf"));
        Self {
            program: it.program.clone(),
            config: config.components().collect(),
            prefix,
            named,
            text: it
                .config
                .as_ref()
                .map(|it| it.text.clone())
                .unwrap_or_default(),
        }
    }

    /// The words that call it with its configuration.
    fn call(&self, last: &[&str]) -> Vec<String> {
        let mut words = vec![self.program.to_string_lossy().into_owned()];
        if let Some(prefix) = &self.prefix {
            words.extend(["-p".to_owned(), prefix.to_string_lossy().into_owned()]);
        }
        if let Some(named) = &self.named {
            words.extend(["-c".to_owned(), named.clone()]);
        }
        words.extend(last.iter().map(|it| (*it).to_owned()));
        words
    }

    fn directive(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| {
            let rest = line.trim().strip_prefix(name)?;
            rest.starts_with(char::is_whitespace)
                .then(|| rest.trim().trim_end_matches(';').split_whitespace().next())?
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        let base = self
            .prefix
            .clone()
            .unwrap_or_else(|| PathBuf::from("/usr/share/nginx"));
        base.join(name).components().collect()
    }

    /// The folder that its `http` block includes whole.
    fn conf_dir(&self) -> Option<PathBuf> {
        let home = self.config.parent()?;
        let lines = self.text.lines().map(str::trim);
        let mut inside = lines.skip_while(|line| !line.starts_with("http"));
        inside.find_map(|line| {
            let rest = line.strip_prefix("include ")?.trim();
            let folder = rest.trim_end_matches(';').trim().strip_suffix("/*.conf")?;
            Some(home.join(folder).components().collect())
        })
    }

    fn pid_file(&self) -> PathBuf {
        match self.directive("pid") {
            Some(pid) => self.path(pid),
            None => PathBuf::from("/run/nginx.pid"),
        }
    }

    /// Where its logs and its cache are.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        let file = |name| Some(self.path(self.directive(name)?).parent()?.to_owned());
        let cache = self
            .directive("proxy_cache_path")
            .map(|path| self.path(path));
        // nginx deletes files below a cache's path that it does not know: a volume is the folder around it.
        let cache = cache.and_then(|path| {
            let parent = path.parent()?.to_owned();
            let named = parent.file_name()?.to_string_lossy().contains("cache");
            Some(if named { parent } else { path })
        });
        let mut all: Vec<PathBuf> = [file("error_log"), file("access_log"), cache]
            .into_iter()
            .flatten()
            .collect();
        all.dedup();
        all
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

/// The head of each file: site, store.
pub(super) fn head(found: &Discovery, out: &mut Emit) {
    out.comment("Written by `restore init` from what it found on this host.");
    out.comment(
        "What stands behind GUESSED was concluded and is to be looked at; what stands behind TO DO is left to do. \
         `restore config check` says what is wrong, docs/configuration.md explains each key.",
    );
    if !found.compose.is_empty() {
        out.blank();
        out.comment(&format!(
            "Compose projects run here: {}. Compose is not a platform of restore yet: what they hold is not \
             in this file. Describe their volumes by path and their services by start, stop and status \
             (`docker compose -p NAME stop SERVICE`), or run them in a swarm.",
            found.compose.join(", ")
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
    head(found, out);
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

/// Volumes: Redis' data, and directories that backups have archives of.
fn volumes(found: &Discovery, services: &[Service<'_>]) -> BTreeMap<String, PathBuf> {
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

fn plain(name: &str) -> String {
    let name = name.replace('-', "_");
    name.strip_suffix("_data").unwrap_or(&name).to_owned()
}

/// The directory that an archive of the backups was made of, by its name.
fn directory_of<'a>(found: &'a Discovery, archive: &str) -> Option<&'a PathBuf> {
    found.directories.iter().find(|path| {
        let name = path.file_name().map(|it| it.to_string_lossy().into_owned());
        name.is_some_and(|name| plain(&name) == plain(archive))
    })
}

/// Who talks to a server, or works on a directory: stopped while it is swapped.
fn clients(services: &[Service<'_>], server: &FoundProcess) -> Vec<String> {
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

fn write_stops(stops: &[String], out: &mut Emit) {
    match stops.is_empty() {
        true => out.guess("nothing was seen that talks to it. Name the services that write to it."),
        false => out.guess("these talk to it, or may. Name the services that write to it."),
    }
    out.list("stops", stops);
}

fn write_postgres(
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
    secret(found, &["postgres", "pg", "database"], &service.name, out);
    write_stops(&clients(services, service.it), out);
    if let Some(data) = data_directory(service.it) {
        out.comment(&format!(
            "The cluster's data is in {}; to recover it to a moment, see kind = \"postgres_cluster\".",
            data.display()
        ));
    }
}

/// Whether a Redis asks for a password, or may.
fn is_locked(it: &FoundProcess) -> bool {
    it.config.as_ref().is_none_or(|config| {
        let mut lines = config.text.lines();
        lines.any(|line| line.trim_start().starts_with("requirepass"))
    })
}

fn write_redis(
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
        secret(found, &["redis", "valkey"], &service.name, out);
    }
    if first(service.it).contains("valkey") {
        out.text("server_binary", "valkey-server");
    }
    write_stops(&clients(services, service.it), out);
}

fn write_volumes(
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
fn write_tree(whole: &Path, nginx: Option<&Service<'_>>, services: &[Service<'_>], out: &mut Emit) {
    let config = nginx.map(|it| (it, Nginx::of(it.it)));
    if let Some((service, nginx)) = config
        && nginx.config.starts_with(whole)
    {
        out.list("stops", &[] as &[&str]);
        let modules = Path::new("/usr/lib/nginx");
        out.comment("Links may lead out of the tree to these places only.");
        out.list("allow_links", &[modules.to_string_lossy()]);
        out.text("service", &service.name);
        out.list("test", &nginx.call(&["-t"]));
        out.list("reload", &nginx.call(&["-s", "reload"]));
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
fn write_other_trees(
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

pub(super) fn write_crontab(found: &Discovery, out: &mut Emit) {
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
