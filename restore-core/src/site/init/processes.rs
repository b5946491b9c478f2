//! Servers that are processes of this host, from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::engine::add_roots;
use super::local::{Nginx, is_nginx, is_postgres, is_redis};
use super::{Discovery, FoundConfig, FoundCrontab, FoundProcess, LookOptions, backups};
use crate::model::Result;

/// No configuration and no pid file is read further.
const LONGEST: usize = 1 << 20;

/// Programs of the host itself, of people, and ours: no part of a platform.
const OTHERS: [&str; 36] = [
    "agetty",
    "avahi-daemon",
    "bash",
    "cargo",
    "chronyd",
    "containerd",
    "cron",
    "cupsd",
    "curl",
    "dbus-daemon",
    "dhclient",
    "dnsmasq",
    "docker",
    "docker-proxy",
    "dockerd",
    "exim4",
    "init",
    "login",
    "master",
    "ntpd",
    "pg_dump",
    "pg_restore",
    "psql",
    "redis-cli",
    "restore",
    "rpc.statd",
    "rpcbind",
    "rsyslogd",
    "sh",
    "snapd",
    "ssh",
    "sshd",
    "sudo",
    "systemd",
    "tailscaled",
    "valkey-cli",
];

/// Words in the names of variables that tell what a program works with.
const TELLING: [&str; 5] = ["DATABASE", "DB_NAME", "POSTGRES_DB", "USER", "HOST"];

/// Whether a variable names a database, a user or a host, and holds no secret.
pub(super) fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let secret = ["PASS", "SECRET", "TOKEN", "KEY", "URL", "URI", "DSN"];
    TELLING.iter().any(|word| name.contains(word)) && !secret.iter().any(|word| name.contains(word))
}

/// A socket of the network.
struct Socket {
    local: String,
    port: u16,
    peer: u16,
    listens: bool,
}

struct Raw {
    found: FoundProcess,
    parent: u32,
}

/// Looks at processes, and at what lies near them.
pub(super) fn look(options: &LookOptions) -> Result<Discovery> {
    let mut found = Discovery {
        name: name(options.below.as_deref()),
        ..Discovery::default()
    };
    if let Some(directory) = &options.backups {
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
        found.backups = Some(backups::look(&directory)?);
    }
    let below = options
        .below
        .as_ref()
        .map(|below| below.canonicalize().unwrap_or_else(|_| below.clone()));
    found.processes = processes(below.as_deref());
    look_around(&mut found, below.as_deref());
    Ok(found)
}

fn name(below: Option<&Path>) -> String {
    let below = below.and_then(|path| path.canonicalize().ok());
    let last = below.as_deref().and_then(Path::file_name);
    match last.and_then(|name| name.to_str()) {
        Some(name) => name.to_owned(),
        None => rustix::system::uname()
            .nodename()
            .to_str()
            .unwrap_or("site")
            .to_owned(),
    }
}

fn processes(below: Option<&Path>) -> Vec<FoundProcess> {
    let sockets = sockets();
    let ours = ancestry();
    let own_ns = std::fs::read_link("/proc/self/ns/pid").ok();
    let mut raw: BTreeMap<u32, Raw> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(pid) = pid.filter(|pid| !ours.contains(pid)) else {
            continue;
        };
        // What runs in a container is its engine's to tell.
        if std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok() != own_ns {
            continue;
        }
        if let Some(it) = read(pid, &sockets) {
            raw.insert(pid, it);
        }
    }
    // What workers do, their master does.
    let pids: Vec<u32> = raw.keys().rev().copied().collect();
    for pid in pids {
        let Some(it) = raw.get(&pid) else { continue };
        let parent = it.parent;
        let same = raw
            .get(&parent)
            .is_some_and(|above| above.found.program == it.found.program);
        if !same {
            continue;
        }
        if let Some(it) = raw.remove(&pid)
            && let Some(above) = raw.get_mut(&parent)
        {
            above.found.connected.extend(it.found.connected);
            if let Some(session) = session(&it.found.words) {
                above.found.databases.push(session);
            }
            above.found.databases.extend(it.found.databases);
        }
    }
    let mut found: Vec<FoundProcess> = raw.into_values().map(|it| it.found).collect();
    let served: BTreeSet<u16> = found.iter().flat_map(ports).collect();
    for it in &mut found {
        let own: Vec<u16> = ports(it).collect();
        it.connected
            .retain(|port| served.contains(port) && !own.contains(port));
        it.connected.sort_unstable();
        it.connected.dedup();
        it.databases.sort();
        it.databases.dedup();
    }
    found.retain(|it| {
        let name = it.program.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or_default();
        let other = OTHERS.contains(&name) || name.starts_with("systemd-");
        let inside = below.is_none_or(|below| {
            let text = below.to_string_lossy();
            it.directory.starts_with(below) || it.words.iter().any(|word| word.contains(&*text))
        });
        !other && inside && (!it.listens.is_empty() || !it.connected.is_empty())
    });
    found
}

/// The ports that it listens on.
pub(super) fn ports(it: &FoundProcess) -> impl Iterator<Item = u16> {
    let ports = it.listens.iter();
    ports.filter_map(|at| at.rsplit_once(':')?.1.parse().ok())
}

/// This process and those above it.
fn ancestry() -> Vec<u32> {
    let mut all = vec![std::process::id()];
    while let Some(parent) = all
        .last()
        .and_then(|pid| parent_of(*pid))
        .filter(|pid| *pid > 1)
    {
        all.push(parent);
    }
    all
}

fn status_of(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/status")).ok()
}

fn parent_of(pid: u32) -> Option<u32> {
    field(&status_of(pid)?, "PPid:")?.parse().ok()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()
}

fn read(pid: u32, sockets: &BTreeMap<u64, Socket>) -> Option<Raw> {
    let status = status_of(pid)?;
    let at = |name: &str| format!("/proc/{pid}/{name}");
    let line = std::fs::read(at("cmdline")).ok()?;
    let words: Vec<String> = line
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).trim().to_owned())
        .filter(|word| !word.is_empty())
        .collect();
    if words.is_empty() {
        return None;
    }
    let uid: u32 = field(&status, "Uid:")?.parse().ok()?;
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    let mut found = FoundProcess {
        pid,
        words,
        program: std::fs::read_link(at("exe")).unwrap_or_default(),
        directory: std::fs::read_link(at("cwd")).unwrap_or_default(),
        user: user.map_or_else(|| uid.to_string(), |user| user.name),
        unit: unit(&std::fs::read_to_string(at("cgroup")).unwrap_or_default()),
        ..FoundProcess::default()
    };
    for fd in std::fs::read_dir(at("fd")).into_iter().flatten().flatten() {
        let Ok(target) = std::fs::read_link(fd.path()) else {
            continue;
        };
        let target = target.to_string_lossy().into_owned();
        if let Some(inode) = target
            .strip_prefix("socket:[")
            .and_then(|it| it.strip_suffix(']'))
        {
            match inode
                .parse()
                .ok()
                .and_then(|inode: u64| sockets.get(&inode))
            {
                Some(socket) if socket.listens => found
                    .listens
                    .push(format!("{}:{}", socket.local, socket.port)),
                Some(socket) => found.connected.push(socket.peer),
                None => {}
            }
        } else if fd.file_name() == "1" && Path::new(&target).is_file() {
            found.log = Some(PathBuf::from(target));
        }
    }
    found.listens.sort();
    found.listens.dedup();
    let settings = std::fs::read(at("environ")).unwrap_or_default();
    found.settings = settings
        .split(|byte| *byte == 0)
        .filter_map(|it| std::str::from_utf8(it).ok()?.split_once('='))
        .filter(|(name, _)| is_telling(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Some(Raw {
        found,
        parent: field(&status, "PPid:")?.parse().unwrap_or(0),
    })
}

/// The service unit of a control group, where systemd runs this host.
fn unit(cgroup: &str) -> Option<String> {
    if !Path::new("/run/systemd/system").exists() {
        return None;
    }
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    let name = path.rsplit('/').find(|part| part.ends_with(".service"))?;
    let other = ["ssh", "user@", "docker", "containerd", "cron"];
    (!other.iter().any(|other| name.starts_with(other))).then(|| name.to_owned())
}

/// User and database of a session, from the title of PostgreSQL's process: `postgres: app shop 127.0.0.1(5) idle`.
fn session(words: &[String]) -> Option<(String, String)> {
    let title = words.join(" ");
    let mut parts = title.strip_prefix("postgres: ")?.split(' ');
    let (user, database) = (parts.next()?, parts.next()?);
    let from = parts.next()?;
    let client = from == "[local]" || (from.contains('(') && from.ends_with(')'));
    client.then(|| (database.to_owned(), user.to_owned()))
}

fn sockets() -> BTreeMap<u64, Socket> {
    let mut all = BTreeMap::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(peer), Some(state), Some(inode)) =
                (fields.get(1), fields.get(2), fields.get(3), fields.get(9))
            else {
                continue;
            };
            let port = |at: &str| u16::from_str_radix(at.rsplit_once(':')?.1, 16).ok();
            let (Some(own), Some(peer), Ok(inode)) = (port(local), port(peer), inode.parse())
            else {
                continue;
            };
            all.insert(
                inode,
                Socket {
                    local: address(local.split(':').next().unwrap_or_default()),
                    port: own,
                    peer,
                    listens: *state == "0A",
                },
            );
        }
    }
    all
}

/// Where clients of this host reach what listens at an address of the kernel's table.
fn address(hex: &str) -> String {
    match u32::from_str_radix(hex, 16) {
        Ok(0) => "127.0.0.1".to_owned(),
        Ok(number) => std::net::Ipv4Addr::from(number.swap_bytes()).to_string(),
        // All addresses of IPv6 take IPv4 too, as a rule.
        Err(_) if hex.chars().all(|digit| digit == '0') => "127.0.0.1".to_owned(),
        Err(_) if hex.ends_with("01000000") => "[::1]".to_owned(),
        Err(_) => "127.0.0.1".to_owned(),
    }
}

/// Pid files, configurations, neighbours of data, secrets, the crontab.
fn look_around(found: &mut Discovery, below: Option<&Path>) {
    let mut near: Vec<PathBuf> = Vec::new();
    for it in &found.processes {
        let words = it
            .words
            .iter()
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        for path in words.chain([it.directory.clone()]) {
            for above in path.ancestors().take(6) {
                let inside = below.is_none_or(|below| above.starts_with(below));
                if inside
                    && !is_open(above)
                    && above.components().count() > 1
                    && !near.iter().any(|it| it == above)
                {
                    near.push(above.to_owned());
                }
            }
        }
    }
    near.extend(below.map(Path::to_owned));
    let pid_files = pid_files(&near);
    for it in &mut found.processes {
        it.pid_file = pid_files.get(&it.pid).cloned();
        let meta = it
            .pid_file
            .as_ref()
            .and_then(|path| std::fs::metadata(path).ok());
        it.from_root = it.user != "root" && meta.is_some_and(|meta| meta.uid() == 0);
        if is_redis(it) {
            it.config = redis_config(it, &near);
        } else if let Some(path) = is_nginx(it).then(|| Nginx::of(it).config) {
            it.config = text_of(&path).map(|text| FoundConfig {
                path,
                text: without_secrets(&text),
            });
        }
    }
    let mut directories = BTreeSet::new();
    for it in &found.processes {
        if is_redis(it) {
            directories.insert(it.directory.clone());
        } else if is_nginx(it) {
            directories.extend(Nginx::of(it).directories());
        }
    }
    let parents: Vec<PathBuf> = directories
        .iter()
        .filter_map(|path| Some(path.parent()?.to_owned()))
        .chain(below.map(|below| below.join("volumes")))
        .filter(|path| path.file_name().is_some_and(|name| name == "volumes"))
        .collect();
    for parent in parents {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        directories.extend(
            entries
                .map(|entry| entry.path())
                .filter(|path| path.is_dir()),
        );
    }
    found.directories = directories
        .into_iter()
        .filter(|path| path.is_dir())
        .collect();
    let mut secrets = BTreeSet::new();
    for folder in near.iter().map(|path| path.join("secrets")) {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        secrets.extend(
            entries
                .map(|entry| entry.path())
                .filter(|path| path.is_file()),
        );
    }
    found.secrets = secrets.into_iter().collect();
    found.crontab = match below {
        Some(below) => Some(below.join("crontab"))
            .filter(|path| path.is_file())
            .map(FoundCrontab::File),
        None => Path::new("/var/spool/cron/crontabs/root")
            .is_file()
            .then(|| FoundCrontab::User("root".to_owned())),
    };
    let mut roots = Vec::new();
    for it in &found.processes {
        for word in it
            .words
            .iter()
            .map(Path::new)
            .filter(|path| path.is_absolute())
        {
            add_roots(word, &mut roots);
        }
        add_roots(&it.directory.join("x"), &mut roots);
        if let Some(config) = &it.config {
            add_roots(&config.path, &mut roots);
        }
    }
    for path in [PathBuf::from("/opt/x"), PathBuf::from("/srv/x")] {
        add_roots(&path, &mut roots);
    }
    roots.sort_by_key(|path| path.components().count());
    if let Some(below) = below {
        roots.retain(|path| path.starts_with(below));
        if !roots.iter().any(|root| root == below) {
            roots.insert(0, below.to_owned());
        }
    }
    found.roots = roots;
}

/// Whether anybody may put files there, so that what lies there tells nothing.
fn is_open(directory: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let meta = std::fs::metadata(directory);
    meta.is_ok_and(|meta| meta.is_dir() && meta.permissions().mode() & 0o002 != 0)
}

/// The processes that pid files name.
fn pid_files(near: &[PathBuf]) -> BTreeMap<u32, PathBuf> {
    let mut folders: Vec<PathBuf> = vec!["/run".into()];
    folders.extend(
        near.iter()
            .flat_map(|path| [path.clone(), path.join("run")]),
    );
    let inside: Vec<PathBuf> = folders
        .iter()
        .filter(|folder| folder.file_name().is_some_and(|name| name == "run"))
        .flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    folders.extend(inside);
    let mut found = BTreeMap::new();
    for folder in folders {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let small = entry
                .metadata()
                .is_ok_and(|meta| meta.is_file() && meta.len() < 4096);
            if !small || path.extension().is_none_or(|it| it != "pid") {
                continue;
            }
            let text = text_of(&path).unwrap_or_default();
            let pid = text
                .lines()
                .next()
                .and_then(|line| line.trim().parse().ok());
            if let Some(pid) = pid {
                found.entry(pid).or_insert(path);
            }
        }
    }
    found
}

/// The text of a file that a process names, which may be anybody's: no pipe is waited for, no device
/// read without end.
fn text_of(path: &Path) -> Option<String> {
    let bytes = crate::sys::read_small(path, LONGEST as u64).ok()?;
    String::from_utf8(bytes).ok()
}

/// The configuration of a Redis, whose title does not tell it: one in the usual places that has its port.
fn redis_config(it: &FoundProcess, near: &[PathBuf]) -> Option<FoundConfig> {
    let mut places: Vec<PathBuf> = Vec::new();
    for name in ["redis.conf", "valkey.conf"] {
        for folder in near {
            places.extend(
                ["", "etc", "conf", "redis"]
                    .iter()
                    .map(|sub| folder.join(sub).join(name)),
            );
        }
        places.push(Path::new("/etc/redis").join(name));
        places.push(Path::new("/etc/valkey").join(name));
        places.push(Path::new("/etc").join(name));
    }
    places.into_iter().find_map(|path| {
        let text = without_secrets(&text_of(&path)?);
        let port = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("port "));
        let port: u16 = port.map_or(Some(6379), |port| port.trim().parse().ok())?;
        ports(it)
            .any(|own| own == port)
            .then_some(FoundConfig { path, text })
    })
}

/// A configuration's text; of a line that may hold a secret only the first word.
fn without_secrets(text: &str) -> String {
    const SECRET: [&str; 7] = [
        "pass",
        "auth",
        "secret",
        "token",
        "user ",
        "key",
        "credential",
    ];
    let mut out = String::new();
    for line in text.lines() {
        let low = line.to_ascii_lowercase();
        let secret = SECRET.iter().any(|word| low.contains(word));
        // nginx: proxy_pass, keys_zone.
        let plain = low.contains("proxy_cache_path")
            || low.trim_start().starts_with("user ") && low.trim_end().ends_with(';');
        match secret && !plain {
            true => out += line.split_whitespace().next().unwrap_or_default(),
            false => out += line,
        }
        out.push('\n');
    }
    out
}

/// Whether it is a PostgreSQL whose data directory is known.
pub(super) fn data_directory(it: &FoundProcess) -> Option<PathBuf> {
    is_postgres(it).then(|| {
        let at = it.words.iter().position(|word| word == "-D");
        let named = at.and_then(|at| it.words.get(at + 1)).map(PathBuf::from);
        named.unwrap_or_else(|| it.directory.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_stay_in_a_configuration() {
        let text = "port 6379\nrequirepass hunter2\nmasterauth x\nuser app on >pw\n";
        assert_eq!(
            without_secrets(text),
            "port 6379\nrequirepass\nmasterauth\nuser\n"
        );
        let nginx = "user www-data;\nproxy_cache_path a keys_zone=s:1m;\nproxy_set_header Authorization x;\n";
        assert_eq!(
            without_secrets(nginx),
            "user www-data;\nproxy_cache_path a keys_zone=s:1m;\nproxy_set_header\n"
        );
        assert!(is_telling("PG_DATABASE") && is_telling("DB_USER") && !is_telling("DB_PASSWORD"));
        assert!(!is_telling("DATABASE_URL"), "it may hold the password");
    }

    #[test]
    fn neither_a_pipe_nor_a_device_holds_anybody_up() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("redis.conf");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        assert_eq!(text_of(&pipe), None);
        let link = dir.path().join("nginx.conf");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        assert_eq!(text_of(&link), None);
        let file = dir.path().join("file");
        std::fs::write(&file, "port 1\n").unwrap();
        assert_eq!(text_of(&file).as_deref(), Some("port 1\n"));
    }

    #[test]
    fn titles_and_addresses_are_read() {
        let words = |title: &str| vec![title.to_owned()];
        assert_eq!(
            session(&words("postgres: app shop 127.0.0.1(50514) idle")),
            Some(("shop".to_owned(), "app".to_owned()))
        );
        assert_eq!(session(&words("postgres: checkpointer ")), None);
        assert_eq!(
            session(&words("postgres: logical replication launcher")),
            None
        );
        assert_eq!(address("0100007F"), "127.0.0.1");
        assert_eq!(address("00000000"), "127.0.0.1");
        assert_eq!(address("0500000A"), "10.0.0.5");
    }
}
