//! Processes of this machine as `/proc` shows them.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One process and no other: a pid alone names a different process once it was recycled, its
/// start (in clock ticks since boot) tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Ident {
    pub(crate) pid: i32,
    pub(crate) start: u64,
}

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) ident: Ident,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    state: u8,
}

impl Stat {
    /// The process with this pid, zombies included; `None` where there is none.
    pub(crate) fn read(pid: i32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let pid = text.split_once(' ')?.0.parse().ok()?;
        // The second field is the program's name in parentheses, and may hold anything.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            ident: Ident {
                pid,
                start: number(19)?,
            },
            parent: number(1)?.try_into().ok()?,
            group: number(2)?.try_into().ok()?,
            state: *fields.first()?.as_bytes().first()?,
        })
    }

    /// A zombie has ended and merely was not asked after yet; it holds nothing but its number.
    pub(crate) fn lives(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }
}

impl Ident {
    /// The living process with this pid.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Stat::read(pid).filter(Stat::lives).map(|stat| stat.ident)
    }

    /// Whether it still runs; a zombie does not.
    pub(crate) fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal to exactly this process; `false` where it has ended already.
    pub(crate) fn signal(self, signal: Signal) -> std::io::Result<bool> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(false);
        };
        // The descriptor pins the process: checked after it is open, no other can be hit.
        let sent = pidfd_open(pid, PidfdFlags::empty()).and_then(|handle| {
            if self.lives() {
                pidfd_send_signal(handle, signal).map(|()| true)
            } else {
                Ok(false)
            }
        });
        match sent {
            Err(rustix::io::Errno::SRCH) => Ok(false),
            other => Ok(other?),
        }
    }

    /// When it started, to about a second.
    pub(crate) fn started(self) -> Option<SystemTime> {
        let boot = std::fs::read_to_string("/proc/stat").ok()?;
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
        let boot = Duration::from_secs(boot.trim().parse().ok()?);
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        let after = Duration::from_millis(self.start.saturating_mul(1000) / ticks);
        SystemTime::UNIX_EPOCH.checked_add(boot + after)
    }

    /// Its user.
    pub(crate) fn uid(self) -> Option<u32> {
        use std::os::unix::fs::MetadataExt;
        Some(std::fs::metadata(format!("/proc/{}", self.pid)).ok()?.uid())
    }

    /// Whether it looks like the program of this name: by its executable, its own name, or one
    /// of the first words of its command line (an interpreter's script).
    pub(crate) fn runs(self, program: &str) -> bool {
        let name = |path: &str| -> String {
            Path::new(path)
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let wanted = name(program);
        let proc = format!("/proc/{}", self.pid);
        let exe = std::fs::read_link(format!("{proc}/exe")).unwrap_or_default();
        let comm = std::fs::read_to_string(format!("{proc}/comm")).unwrap_or_default();
        let line = std::fs::read(format!("{proc}/cmdline")).unwrap_or_default();
        // The kernel keeps 15 bytes of a name.
        let short: String = wanted.chars().take(15).collect();
        name(&exe.to_string_lossy()) == wanted
            || comm.trim_end() == short
            || line.split(|byte| *byte == 0).take(3).any(|word| {
                let word = String::from_utf8_lossy(word);
                // Servers rewrite their line: "nginx: master process …".
                name(&word) == wanted || word.starts_with(&format!("{wanted}:"))
            })
    }

    /// Whether its environment holds exactly this `NAME=value`.
    pub(crate) fn has_env(self, entry: &str) -> bool {
        std::fs::read(format!("/proc/{}/environ", self.pid)).is_ok_and(|env| {
            env.split(|byte| *byte == 0)
                .any(|word| word == entry.as_bytes())
        })
    }
}

/// The users of all processes.
pub(crate) fn users() -> HashSet<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().parse::<i32>().is_ok())
        .filter_map(|entry| Some(entry.metadata().ok()?.uid()))
        .collect()
}

/// All living processes.
pub(crate) fn all() -> Vec<Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Stat::read)
        .filter(Stat::lives)
        .collect()
}

/// The living descendants of `roots` and the living members of the process groups that they
/// lead or led; without the roots themselves. Of a dead root only its group is found.
pub(crate) fn family(roots: &HashSet<Ident>) -> HashSet<Ident> {
    let all = all();
    let living: HashMap<i32, Ident> = all
        .iter()
        .map(|stat| (stat.ident.pid, stat.ident))
        .collect();
    let mut found = roots.clone();
    loop {
        // A group's number is its leader's pid, which the kernel gives to nobody else while a
        // member lives: a living process of that pid that is not ours means another group.
        let groups: HashMap<i32, u64> = found
            .iter()
            .filter(|ident| living.get(&ident.pid).is_none_or(|other| other == *ident))
            .map(|ident| (ident.pid, ident.start))
            .collect();
        let before = found.len();
        for stat in &all {
            let member = groups
                .get(&stat.group)
                .is_some_and(|start| stat.ident.start >= *start);
            let child = living
                .get(&stat.parent)
                .is_some_and(|parent| found.contains(parent));
            if member || child {
                found.insert(stat.ident);
            }
        }
        if found.len() == before {
            return &found - roots;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_is_no_trouble() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987 1 2";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(
            (stat.ident.pid, stat.parent, stat.group, stat.ident.start),
            (42, 7, 42, 987)
        );
        assert!(stat.lives());
        assert!(Stat::parse("42 (a").is_none());
    }

    #[test]
    fn this_process_lives_and_another_of_its_pid_does_not() {
        let own = Ident::of(std::process::id().cast_signed()).unwrap();
        assert!(own.lives());
        let recycled = Ident {
            start: own.start + 1,
            ..own
        };
        assert!(!recycled.lives());
        assert!(!recycled.signal(Signal::KILL).unwrap());
        let age = SystemTime::now().duration_since(own.started().unwrap());
        assert!(age.unwrap_or_default() < Duration::from_secs(3600));
    }

    #[test]
    fn a_zombie_is_dead() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id().cast_signed();
        while Ident::of(pid).is_some() {
            std::thread::yield_now();
        }
        assert!(Stat::read(pid).is_some(), "not reaped yet");
        child.wait().unwrap();
    }
}
