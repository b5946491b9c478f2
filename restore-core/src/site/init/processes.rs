//! Servers that are processes of this host, from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::local::is_postgres;
use super::nearby::look_around;
use super::{Discovery, FoundProcess, LookOptions, backups};
use crate::model::Result;

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
    // What the program calls itself stands there too, and may be no text.
    let status = std::fs::read(format!("/proc/{pid}/status")).ok()?;
    Some(String::from_utf8_lossy(&status).into_owned())
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
    let mut found = FoundProcess {
        pid,
        words,
        program: program(std::fs::read_link(at("exe")).unwrap_or_default()),
        directory: std::fs::read_link(at("cwd")).unwrap_or_default(),
        user: user(uid),
        unit: unit(&String::from_utf8_lossy(
            &std::fs::read(at("cgroup")).unwrap_or_default(),
        )),
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
        } else if fd.file_name() == "1" && writes_to(&fd.path(), Path::new(&target)) {
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

/// Whether a descriptor below `/proc` is open for writing to the file of this name. One that cannot write is no log,
/// and any user may have one of any file: what they start must not become what root appends to. Nor may a file that has
/// the name only where they see it, in a mount of their own.
fn writes_to(descriptor: &Path, file: &Path) -> bool {
    // The mode of the link itself is what the descriptor may do.
    let writes = std::fs::symlink_metadata(descriptor).is_ok_and(|link| link.mode() & 0o200 != 0);
    let (Ok(open), Ok(named)) = (std::fs::metadata(descriptor), std::fs::metadata(file)) else {
        return false;
    };
    writes && open.is_file() && (open.dev(), open.ino()) == (named.dev(), named.ino())
}

/// The file that a process was started from, also where an update has put another in its place.
fn program(exe: PathBuf) -> PathBuf {
    match exe.to_str().and_then(|exe| exe.strip_suffix(" (deleted)")) {
        Some(path) => PathBuf::from(path),
        None => exe,
    }
}

pub(super) fn user(uid: u32) -> String {
    let known = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    known.map_or_else(|| uid.to_string(), |user| user.name)
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
    fn a_program_that_was_updated_keeps_its_name() {
        assert_eq!(
            program("/usr/sbin/nginx (deleted)".into()),
            Path::new("/usr/sbin/nginx")
        );
        assert_eq!(program("/usr/bin/x".into()), Path::new("/usr/bin/x"));
    }

    #[test]
    fn only_what_a_process_writes_to_is_its_log() {
        use std::os::unix::fs::OpenOptionsExt;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().canonicalize().unwrap().join("file");
        std::fs::write(&file, "").unwrap();
        let log = |options: &std::fs::OpenOptions| {
            let stdout = options.open(&file).unwrap();
            let mut child = std::process::Command::new("sleep")
                .arg("30")
                .stdout(stdout)
                .spawn()
                .unwrap();
            // It is there before its command line can be read.
            let begun = std::time::Instant::now();
            let found = loop {
                match read(child.id(), &BTreeMap::new()) {
                    Some(it) => break it.found.log,
                    None => assert!(begun.elapsed() < std::time::Duration::from_secs(60)),
                }
            };
            child.kill().unwrap();
            child.wait().unwrap();
            found
        };
        let options = std::fs::File::options;
        assert_eq!(log(options().append(true)), Some(file.clone()));
        assert_eq!(log(options().read(true)), None);
        let path = rustix::fs::OFlags::PATH.bits().cast_signed();
        assert_eq!(log(options().read(true).custom_flags(path)), None);
        // What another file is called where they see it.
        let own = std::fs::File::options().append(true).open(&file).unwrap();
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&own);
        let descriptor = PathBuf::from(format!("/proc/self/fd/{descriptor}"));
        assert!(writes_to(&descriptor, &file));
        assert!(!writes_to(&descriptor, Path::new("/etc/passwd")));
    }

    #[test]
    fn variables_that_may_hold_a_password_tell_nothing() {
        assert!(is_telling("PG_DATABASE") && is_telling("DB_USER") && !is_telling("DB_PASSWORD"));
        assert!(!is_telling("DATABASE_URL"), "it may hold the password");
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
