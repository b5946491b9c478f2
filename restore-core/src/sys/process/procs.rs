//! Processes of this machine as `/proc` shows them.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, test_kill_process};
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
    /// The process with this pid, zombies included; `None` where there is none, or it cannot be looked
    /// at.
    pub(crate) fn read(pid: i32) -> Option<Self> {
        Self::look(pid).ok().flatten()
    }

    /// As `read`, for whoever must not take a process for ended that cannot be looked at: that is an
    /// error.
    pub(crate) fn look(pid: i32) -> std::io::Result<Option<Self>> {
        match std::fs::read(format!("/proc/{pid}/stat")) {
            Ok(line) => Self::parse(&line).map(Some).ok_or_else(|| {
                std::io::Error::other(format!("/proc/{pid}/stat is not what the kernel writes"))
            }),
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound
                    || Errno::from_io_error(&error) == Some(Errno::SRCH) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let number = line.split(|byte| *byte == b' ').next()?;
        let pid = std::str::from_utf8(number).ok()?.parse().ok()?;
        // The second field is the program's name in parentheses, and may hold anything, bytes that are
        // no text too.
        let end = line.windows(2).rposition(|pair| pair == b") ")?;
        let rest = std::str::from_utf8(line.get(end + 2..)?).ok()?;
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

    /// Whether it still runs; a zombie does not. One that cannot be looked at just now does: whoever
    /// waits for its end waits on.
    pub(crate) fn lives(self) -> bool {
        match Stat::look(self.pid) {
            Ok(stat) => stat.is_some_and(|stat| stat.lives() && stat.ident == self),
            Err(_) => Pid::from_raw(self.pid)
                .is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH)),
        }
    }

    /// Sends a signal to exactly this process; `false` where it has ended already.
    pub(crate) fn signal(self, signal: Signal) -> std::io::Result<bool> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(false);
        };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(false),
            opened => opened?,
        };
        // The descriptor pins the process: checked after it is open, no other can be hit.
        let stat = Stat::look(self.pid)?;
        if !stat.is_some_and(|stat| stat.lives() && stat.ident == self) {
            return Ok(false);
        }
        match pidfd_send_signal(handle, signal) {
            Err(Errno::SRCH) => Ok(false),
            sent => Ok(sent.map(|()| true)?),
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
        Some(std::fs::metadata(format!("/proc/{}", self.pid)).ok()?.uid())
    }

    /// Whether it is one of these users' in every way: whoever starts a set-user-id program stays its
    /// real user.
    pub(crate) fn is_of(self, users: &[u32]) -> bool {
        let status = std::fs::read(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let status = String::from_utf8_lossy(&status);
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        // Real, effective, saved, of the file system.
        let ids: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        let known = |id: &&str| id.parse::<u32>().is_ok_and(|id| users.contains(&id));
        ids.len() == 4 && ids.iter().all(known)
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
        if wanted.is_empty() {
            return false;
        }
        let proc = format!("/proc/{}", self.pid);
        let exe = std::fs::read_link(format!("{proc}/exe")).unwrap_or_default();
        let comm = std::fs::read(format!("{proc}/comm")).unwrap_or_default();
        let comm = comm.strip_suffix(b"\n").unwrap_or(&comm);
        let line = std::fs::read(format!("{proc}/cmdline")).unwrap_or_default();
        // The kernel keeps 15 bytes of a name.
        let short = wanted.as_bytes();
        let short = short.get(..15).unwrap_or(short);
        name(&exe.to_string_lossy()) == wanted
            || comm == short
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
        let stat = Stat::parse(line.as_bytes()).unwrap();
        assert_eq!(
            (stat.ident.pid, stat.parent, stat.group, stat.ident.start),
            (42, 7, 42, 987)
        );
        assert!(stat.lives());
        assert!(Stat::parse(b"42 (a").is_none());
        // A program may call itself what is no text.
        let line = b"42 (caf\xe9) S) S 7 42 42 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 987 1 2\n";
        assert_eq!(Stat::parse(line).unwrap(), stat);
    }

    /// Its name is what the program says, and no reason to take it for ended.
    #[test]
    fn a_process_whose_name_is_no_text_is_there() {
        let started = std::thread::spawn(|| {
            rustix::thread::set_name(c"caf\xe9").unwrap();
            let own = rustix::thread::gettid().as_raw_nonzero().get();
            (Stat::look(own), Ident::of(own))
        });
        let (stat, ident) = started.join().unwrap();
        let stat = stat.unwrap().unwrap();
        assert_eq!(Some(stat.ident), ident);
        assert!(Stat::look(i32::MAX).unwrap().is_none());
    }

    #[test]
    fn a_process_is_its_users_and_nobody_elses() {
        let own = Ident::of(std::process::id().cast_signed()).unwrap();
        let uid = rustix::process::geteuid().as_raw();
        assert!(own.is_of(&[uid]) && own.is_of(&[64_999, uid]));
        assert!(!own.is_of(&[64_999]) && !own.is_of(&[]));
        assert!(!own.runs("/") && !own.runs(""));
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
