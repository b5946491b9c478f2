//! Processes at work in a data directory: a Redis server's working directory is its `dir`.

use std::fs::Metadata;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags};

use super::scratch::{CONFIG, SOCKET, shutdown_of};
use crate::swap::Dir;

/// What Redis and its kin call their processes.
const SERVERS: [&str; 4] = ["redis", "valkey", "keydb", "dragonfly"];

/// The processes of this host whose working directory satisfies `wanted`, by id.
fn working(wanted: impl Fn(&Path) -> bool) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| wanted(Path::new(&format!("/proc/{pid}/cwd"))))
        .collect()
}

/// The servers whose data directory is `dir`, for people. Compared by what the directory is,
/// not by its name: a server in a container sees it under another one.
pub(super) fn servers_in(dir: &Path) -> Vec<String> {
    let servers = processes_in(dir).into_iter();
    servers
        .map(|(pid, name)| format!("{name} (process {pid})"))
        .collect()
}

/// The processes of these servers, by their ids, with their names.
fn processes_in(dir: &Path) -> Vec<(u32, String)> {
    let Ok(wanted) = dir.metadata() else {
        return Vec::new();
    };
    working(|cwd| cwd.metadata().is_ok_and(|seen| is_same(&seen, &wanted)))
        .into_iter()
        .filter_map(|pid| {
            let name = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
            let name = String::from_utf8_lossy(&name).trim().to_owned();
            let is_server = SERVERS.iter().any(|server| name.contains(server));
            is_server.then_some((pid, name))
        })
        .collect()
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Whether a server at work in `dir` has `file` open: not another one, put there beneath it under the same name.
/// `None` where nobody can say: none of this host is at work there, or what it has open may not be looked at.
pub(super) fn holds(dir: &Path, file: &Path) -> Option<bool> {
    let wanted = file.metadata().ok()?;
    let mut seen = None;
    for (pid, _) in processes_in(dir) {
        let Ok(opened) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        let mut opened = opened.filter_map(|it| std::fs::metadata(it.ok()?.path()).ok());
        if opened.any(|it| is_same(&it, &wanted)) {
            return Some(true);
        }
        seen = Some(false);
    }
    seen
}

/// Whether the first word of a command line is such a server.
pub(super) fn is_server(line: &str) -> bool {
    let program = line.split_whitespace().next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default();
    SERVERS.iter().any(|server| name.starts_with(server)) && !name.ends_with("-cli")
}

/// A scratch server that a killed process left.
pub(super) struct Leftover {
    socket: OwnedFd,
    /// What its command SHUTDOWN is called.
    pub(super) shutdown: String,
}

impl Leftover {
    /// Where it is connected to, as long as this lives.
    pub(super) fn address(&self) -> PathBuf {
        address_of(&self.socket)
    }
}

/// What the configuration beside a socket calls the command that ends its server.
fn shutdown_name(folder: &Dir, config: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(file) = crate::sys::open_file(folder.as_fd(), config) {
        // What cannot be read to its end holds no name.
        let _ = file.take(64 * 1024).read_to_end(&mut text);
    }
    shutdown_of(&String::from_utf8_lossy(&text)).to_owned()
}

/// The sockets below `folder` on which a scratch server listens: left by a process that was killed
/// while it staged. Told by their names: what a process of another user works on may not be asked in
/// a container. Each is held by a descriptor, and is a socket that was made there: whoever may write
/// in the folder could lead us to that of another server.
pub(super) fn scratch_servers_below(folder: &Dir) -> Vec<Leftover> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let Ok(names) = folder.names(&path) else {
            continue;
        };
        for name in names {
            let child = path.join(&name);
            if name == SOCKET {
                let socket = socket(folder, &child).filter(answers);
                found.extend(socket.map(|socket| Leftover {
                    socket,
                    shutdown: shutdown_name(folder, &path.join(CONFIG)),
                }));
            } else if path.components().count() < DEEPEST
                && matches!(folder.entry(&child), Ok(Some(entry)) if entry.directory)
            {
                pending.push(child);
            }
        }
    }
    found
}

/// Scratch servers are no deeper than the directories of an archive.
const DEEPEST: usize = 32;

pub(super) fn socket(folder: &Dir, path: &Path) -> Option<OwnedFd> {
    let held = crate::sys::open_beneath(folder.as_fd(), path, OFlags::PATH).ok()?;
    let stat = rustix::fs::fstat(&held).ok()?;
    let made_here = FileType::from_raw_mode(stat.st_mode) == FileType::Socket && stat.st_nlink == 1;
    made_here.then_some(held)
}

fn answers(socket: &OwnedFd) -> bool {
    UnixStream::connect(address_of(socket)).is_ok()
}

/// Where a socket that is held open is connected to.
pub(super) fn address_of(socket: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", socket.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::is_server;

    #[test]
    fn servers_are_told_by_their_names() {
        for line in [
            "redis-server *:6379",
            "/usr/bin/valkey-server /etc/v.conf",
            "dragonfly",
        ] {
            assert!(is_server(line), "{line}");
        }
        for line in [
            "",
            "redis-cli monitor",
            "tar c redis-server",
            "/redis_exporter/x",
        ] {
            assert!(!is_server(line), "{line}");
        }
    }
}
