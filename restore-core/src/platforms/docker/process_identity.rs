//! Which process made something that outlives it.

use std::collections::HashMap;

use crate::sys::process::procs::Stat;

/// A process, as others can tell whether it still lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProcessIdentity {
    pub(crate) host: String,
    /// The host's start: another one each time.
    boot: String,
    /// The namespace in which the process has its number.
    space: String,
    pub(crate) pid: u32,
    /// When it was started, in the kernel's ticks: numbers are used again.
    start: String,
}

/// Whether a process still works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Liveness {
    Lives,
    Gone,
    /// It is, or was, one of another host; or it cannot be looked at.
    Unknown,
}

const KEYS: [&str; 5] = [
    "restore.host",
    "restore.boot",
    "restore.space",
    "restore.pid",
    "restore.start",
];

impl ProcessIdentity {
    /// This process.
    pub(crate) fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let pid = std::process::id();
        let space = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        Self {
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            boot: read("/proc/sys/kernel/random/boot_id").trim().to_owned(),
            space: space.to_string_lossy().into_owned(),
            pid,
            start: started(pid).ok().flatten().unwrap_or_default(),
        }
    }

    pub(crate) fn labels(&self) -> HashMap<String, String> {
        let values = [
            self.host.clone(),
            self.boot.clone(),
            self.space.clone(),
            self.pid.to_string(),
            self.start.clone(),
        ];
        KEYS.iter()
            .map(|key| (*key).to_owned())
            .zip(values)
            .collect()
    }

    pub(crate) fn read(labels: &HashMap<String, String>) -> Option<Self> {
        let [host, boot, space, pid, start] = KEYS.map(|key| labels.get(key).cloned());
        Some(Self {
            host: host?,
            boot: boot?,
            space: space?,
            pid: pid?.parse().ok()?,
            start: start?,
        })
    }

    /// What has become of it. Only a process of this very kernel can be seen from here.
    pub(crate) fn fate(&self) -> Liveness {
        let here = Self::here();
        if here.boot.is_empty() || (&self.boot, &self.space) != (&here.boot, &here.space) {
            return Liveness::Unknown;
        }
        match started(self.pid) {
            Ok(Some(start)) if start == self.start => Liveness::Lives,
            Ok(_) => Liveness::Gone,
            // It cannot be looked at just now.
            Err(_) => Liveness::Unknown,
        }
    }
}

/// When a process of this host was started.
fn started(pid: u32) -> std::io::Result<Option<String>> {
    let stat = Stat::look(pid.cast_signed())?;
    Ok(stat.map(|stat| stat.ident.start.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let here = ProcessIdentity::here();
        assert_eq!(ProcessIdentity::read(&here.labels()), Some(here.clone()));
        assert_eq!(here.fate(), Liveness::Lives);
        let reused = ProcessIdentity {
            start: "1".to_owned(),
            ..here.clone()
        };
        assert_eq!(reused.fate(), Liveness::Gone);
        let elsewhere = ProcessIdentity {
            boot: "another".to_owned(),
            ..here
        };
        assert_eq!(elsewhere.fate(), Liveness::Unknown);
    }
}
