//! What lies around the processes of this host: pid files, configurations, neighbours of data, secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::engine::add_roots;
use super::local::{Nginx, is_nginx, is_redis};
use super::owners::{foreign, is_of_root};
use super::processes::ports;
use super::{Discovery, FoundConfig, FoundCrontab, FoundProcess};

/// No configuration and no pid file is read further.
const LONGEST: u64 = 1 << 20;

/// Pid files, configurations, neighbours of data, secrets, the crontab.
pub(super) fn look_around(found: &mut Discovery, below: Option<&Path>) {
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
        let of_root = it.pid_file.as_deref();
        let of_root = of_root.is_some_and(|file| is_of_root(file, it.pid));
        it.from_root = it.user != "root" && of_root;
        it.foreign = foreign(it);
        it.from_root &= it.foreign.is_none();
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
pub(super) fn text_of(path: &Path) -> Option<String> {
    let bytes = crate::sys::read_small(path, LONGEST).ok()?;
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
}
