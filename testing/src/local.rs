//! A site of local processes in a temporary directory, all of whose processes end with the test.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use restore_core::config::SiteConfig;
use restore_core::platform::{Platform, local};

/// A temporary directory. What runs in it, by its command line or its working directory, is
/// killed when this is dropped.
pub struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    pub fn below(parent: &Path) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("restore-local-")
            .tempdir_in(parent)
            .unwrap();
        // Servers that run as other users live in it.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).unwrap();
        Self { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }

    /// A platform of these sections, opened anew: what another process would see.
    pub fn platform(&self, sections: &str) -> Arc<dyn Platform> {
        self.try_platform(sections).unwrap()
    }

    pub fn try_platform(&self, sections: &str) -> restore_core::Result<Arc<dyn Platform>> {
        let text = format!(
            "[site]\nname = 't'\nstate = 'state'\n[stores]\n[components]\n{}",
            sections.replace("@", self.path().to_str().unwrap())
        );
        let config = SiteConfig::from_toml(&text).unwrap();
        local::make(&config, self.path(), &self.path().join("state"))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let mark = self.path().to_str().unwrap().to_owned();
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let left = processes(&mark);
            if left.is_empty() {
                return;
            }
            for pid in left {
                let _ = rustix::process::kill_process(
                    rustix::process::Pid::from_raw(pid).unwrap(),
                    rustix::process::Signal::KILL,
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The living processes, without this one, whose command line, environment or working directory
/// holds `mark`.
pub fn processes(mark: &str) -> Vec<i32> {
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let read = |name: &str| {
            let bytes = std::fs::read(entry.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let dir = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let marked = read("cmdline").contains(mark)
            || read("environ").contains(mark)
            || dir.to_string_lossy().contains(mark);
        if marked && pid.unsigned_abs() != own && lives(pid) {
            found.push(pid);
        }
    }
    found
}

/// Whether a process lives; a zombie does not.
pub fn lives(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(") ")
            .next()
            .unwrap_or("Z")
            .starts_with(['Z', 'X'])
    })
}

/// A port of the loopback that nobody listens on.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Waits until it holds, with a deadline.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
