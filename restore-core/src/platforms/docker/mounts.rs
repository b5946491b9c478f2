//! What containers have mounted, and where it is on this host.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::json::text;

/// The directory of this host that holds a volume's files; `None` where a driver mounts it only
/// while somebody uses it.
pub(crate) fn directory_of(volume: &Value) -> Option<PathBuf> {
    if text(volume, "/Driver")? != "local" {
        return None;
    }
    let option = |key: &str| text(volume, &format!("/Options/{key}")).unwrap_or_default();
    let device = option("device");
    if device.is_empty() {
        return text(volume, "/Mountpoint").map(PathBuf::from);
    }
    let bound = option("o").split(',').any(|o| o == "bind" || o == "rbind");
    (bound && device.starts_with('/')).then(|| PathBuf::from(device))
}

/// How a file of this host is seen in a container that has these directories of the host mounted,
/// each at its target; `None` where it is not seen.
pub(crate) fn path_inside(mounts: &[(PathBuf, String)], host_path: &Path) -> Option<PathBuf> {
    let real = host_path
        .canonicalize()
        .unwrap_or_else(|_| host_path.to_owned());
    let mut best: Option<(usize, PathBuf)> = None;
    for (source, target) in mounts {
        let source = source.canonicalize().unwrap_or_else(|_| source.clone());
        let Ok(below) = real.strip_prefix(&source) else {
            continue;
        };
        let depth = source.components().count();
        if best.as_ref().is_none_or(|(known, _)| *known < depth) {
            let inside = Path::new(target);
            // Joining nothing would end the path with a slash.
            let inside = match below.as_os_str().is_empty() {
                true => inside.to_owned(),
                false => inside.join(below),
            };
            best = Some((depth, inside));
        }
    }
    best.map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_that_stay_are_used() {
        let plain =
            serde_json::json!({"Driver": "local", "Mountpoint": "/v/_data", "Options": null});
        assert_eq!(directory_of(&plain), Some("/v/_data".into()));
        let bound = serde_json::json!({"Driver": "local", "Mountpoint": "/v/_data",
            "Options": {"type": "none", "o": "bind", "device": "/srv/x"}});
        assert_eq!(directory_of(&bound), Some("/srv/x".into()));
        let nfs = serde_json::json!({"Driver": "local", "Mountpoint": "/v/_data",
            "Options": {"type": "nfs", "o": "addr=x", "device": ":/x"}});
        assert_eq!(directory_of(&nfs), None);
    }

    #[test]
    fn the_innermost_mount_shows_a_path() {
        let mounts = [
            ("/nowhere/srv".into(), "/outer".to_owned()),
            ("/nowhere/srv/data".into(), "/inner".to_owned()),
        ];
        for (path, seen) in [
            ("/nowhere/srv/data/x", Some("/inner/x")),
            ("/nowhere/srv/data", Some("/inner")),
            ("/nowhere/srv/database", Some("/outer/database")),
            ("/nowhere", None),
        ] {
            assert_eq!(
                path_inside(&mounts, Path::new(path)),
                seen.map(PathBuf::from),
                "{path}"
            );
        }
    }
}
