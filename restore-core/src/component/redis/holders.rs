//! Processes at work in a data directory: a Redis server's working directory is its `dir`.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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

/// The sockets of scratch servers that still run below `folder`: left by a process that was
/// killed while it staged.
pub(super) fn scratch_servers_below(folder: &Path) -> Vec<(u32, PathBuf)> {
    let Ok(folder) = folder.canonicalize() else {
        return Vec::new();
    };
    working(|cwd| cwd.read_link().is_ok_and(|cwd| cwd.starts_with(&folder)))
        .into_iter()
        .map(|pid| {
            let socket = format!("/proc/{pid}/cwd/{}", super::scratch::SOCKET);
            (pid, PathBuf::from(socket))
        })
        .filter(|(_, socket)| socket.exists())
        .collect()
}
