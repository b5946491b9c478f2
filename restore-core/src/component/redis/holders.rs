//! Processes at work in a data directory: a Redis server's working directory is its `dir`.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::scratch::{SOCKET, socket_in};

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
    let Ok(wanted) = dir.metadata() else {
        return Vec::new();
    };
    working(|cwd| {
        cwd.metadata()
            .is_ok_and(|seen| (seen.dev(), seen.ino()) == (wanted.dev(), wanted.ino()))
    })
    .into_iter()
    .filter_map(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let name = name.trim();
        SERVERS
            .iter()
            .any(|server| name.contains(server))
            .then(|| format!("{name} (process {pid})"))
    })
    .collect()
}

/// Whether the first word of a command line is such a server.
pub(super) fn is_server(line: &str) -> bool {
    let program = line.split_whitespace().next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default();
    SERVERS.iter().any(|server| name.starts_with(server)) && !name.ends_with("-cli")
}

/// The directories below `folder` in which a scratch server listens: left by a process that was
/// killed while it staged. Told by their sockets: what a process of another user works on may not
/// be asked in a container.
pub(super) fn scratch_servers_below(folder: &Path) -> Vec<File> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(dir) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(entry.path());
            } else if entry.file_name() == SOCKET {
                // Its path may be longer than a socket's may be.
                let Ok(held) = File::open(&dir) else {
                    continue;
                };
                if UnixStream::connect(socket_in(&held)).is_ok() {
                    found.push(held);
                }
            }
        }
    }
    found
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
