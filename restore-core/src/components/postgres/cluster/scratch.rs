//! A scratch server that recovers a staged data directory.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::client::{Login, Session};
use super::Cluster;
use super::control::Control;
use super::programs::Programs;
use super::room::max_wal_size;
use crate::components::postgres::wal::{SegmentName, segment_of};
use crate::model::{
    Endpoint, Error, ErrorKind, Lsn, Progress, RecoveryPoint, RecoveryTarget, Result,
};
use crate::swap::Dir;
use crate::sys::connect::Tls;
use crate::sys::process::command::Scratch;

const CONFIG: &str = ".restore-scratch.conf";
const HBA: &str = ".restore-scratch-hba.conf";
const PORT: u16 = 5432;
/// How many of its last lines an error tells.
const WORDS: usize = 6;
/// More of a line nobody reads.
const LINE: usize = 300;
/// How often its words are looked at.
const LOOK: Duration = Duration::from_millis(30);
/// What it may take in memory besides what its settings make it set aside: its buffers, and what its processes need
/// for a record or a row.
const MEMORY: u64 = 4 << 30;
/// For each client that it could have, and each lock of one.
const BACKEND: u64 = 128 << 10;
const LOCK: u64 = 1 << 10;
/// How long it may take to end: all that it has changed is written then.
const GRACE: Duration = Duration::from_secs(30 * 60);

/// What is to be done over a staged data directory.
pub(super) struct Setup<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) programs: &'a Programs<'a>,
    /// On this host. What lies there may be the server's user's.
    pub(super) dir: &'a Dir,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) control: &'a Control,
    pub(super) restore_command: String,
    /// `None`: to the end of the base backup.
    pub(super) target: Option<&'a RecoveryTarget>,
    pub(super) timeline: u32,
    pub(super) start: Lsn,
    pub(super) segment_size: u64,
}

/// A scratch server; dropping it kills it.
pub(super) struct Server {
    process: Box<dyn Scratch>,
    dir: Dir,
    /// The data directory as its own programs see it.
    pub(super) seen: PathBuf,
    user: String,
}

impl Setup<'_> {
    /// Starts the server. Whatever the cluster's own configuration says, it listens to nobody but
    /// whoever may enter its directory, sends nothing anywhere and replaces nothing in the archive.
    pub(super) async fn start(&self) -> Result<Server> {
        let service = &self.cluster.config.service;
        let platform = &self.cluster.platform;
        let seen = platform
            .path_in(service, self.dir.path())
            .await?
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Preflight,
                    "cluster.staging_unseen",
                    format!(
                        "the service {service} cannot see {}",
                        self.dir.path().display()
                    ),
                )
                .hint("name the volume that the service has its data in")
            })?;
        self.write(CONFIG, "")?;
        self.write(HBA, "local all all trust\n")?;
        self.write("recovery.signal", "")?;
        let mut args = vec!["-D".to_owned(), seen.to_string_lossy().into_owned()];
        for (name, value) in self.settings(&seen) {
            args.extend(["-c".to_owned(), format!("{name}={value}")]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = self.programs.command("postgres", &args);
        command.dir = Some(seen.clone());
        command.memory = Some(memory(&self.control.settings()));
        let process = platform.scratch(service, command).await?;
        Ok(Server {
            process,
            dir: self.dir.again()?,
            seen,
            user: self.cluster.config.user.clone(),
        })
    }

    /// On the command line, which goes before everything that lies in the data directory.
    fn settings(&self, seen: &Path) -> Vec<(&'static str, String)> {
        let file = |name: &str| seen.join(name).to_string_lossy().into_owned();
        let mut settings = vec![
            ("config_file", file(CONFIG)),
            ("hba_file", file(HBA)),
            ("ident_file", file(CONFIG)),
            ("external_pid_file", String::new()),
            ("listen_addresses", String::new()),
            ("port", PORT.to_string()),
            // By a relative name, which fits into a socket's address wherever the volume is.
            ("unix_socket_directories", ".".to_owned()),
            ("unix_socket_permissions", "0700".to_owned()),
            ("unix_socket_group", String::new()),
            ("ssl", "off".to_owned()),
            ("shared_buffers", "128MB".to_owned()),
            ("huge_pages", "off".to_owned()),
            // What it writes is made durable when it has ended.
            ("fsync", "off".to_owned()),
            ("full_page_writes", "on".to_owned()),
            ("autovacuum", "off".to_owned()),
            ("hot_standby", "off".to_owned()),
            // The room that is planned for holds for these.
            ("max_wal_size", megabytes(max_wal_size(self.segment_size))),
            ("min_wal_size", megabytes(self.segment_size * 2)),
            // What a base backup of strangers names is not loaded.
            ("shared_preload_libraries", String::new()),
            ("session_preload_libraries", String::new()),
            ("local_preload_libraries", String::new()),
            ("dynamic_library_path", "$libdir".to_owned()),
            ("jit", "off".to_owned()),
            ("max_logical_replication_workers", "0".to_owned()),
            ("primary_conninfo", String::new()),
            ("primary_slot_name", String::new()),
            ("synchronous_standby_names", String::new()),
            // The history of the new timeline waits for the live server to archive it.
            ("archive_mode", "on".to_owned()),
            ("archive_command", String::new()),
            ("archive_cleanup_command", String::new()),
            ("recovery_end_command", String::new()),
            ("restore_command", self.restore_command.clone()),
            ("recovery_target_timeline", self.timeline.to_string()),
            ("recovery_target_action", "promote".to_owned()),
            // The cluster may be a standby's, or its clock anybody's.
            ("recovery_min_apply_delay", "0".to_owned()),
            ("logging_collector", "off".to_owned()),
            ("log_destination", "stderr".to_owned()),
            ("log_line_prefix", String::new()),
            ("log_min_messages", "warning".to_owned()),
            ("log_timezone", "UTC".to_owned()),
            ("timezone", "UTC".to_owned()),
            ("lc_messages", "C".to_owned()),
        ];
        if self.programs.major >= 15 {
            settings.push(("archive_library", String::new()));
        }
        if self.programs.major >= 17 {
            settings.push(("event_triggers", "off".to_owned()));
        }
        settings.extend(self.control.settings());
        settings.extend(self.targets());
        settings
    }

    fn targets(&self) -> Vec<(&'static str, String)> {
        let mut targets: Vec<(&'static str, String)> = [
            "recovery_target",
            "recovery_target_time",
            "recovery_target_lsn",
            "recovery_target_xid",
            "recovery_target_name",
        ]
        .into_iter()
        .map(|name| (name, String::new()))
        .collect();
        let chosen = match self.target.map(|target| &target.point) {
            None => Some(("recovery_target", "immediate".to_owned())),
            Some(RecoveryPoint::Latest) => None,
            Some(RecoveryPoint::Time(time)) => Some(("recovery_target_time", time.precise())),
            Some(RecoveryPoint::Lsn(lsn)) => Some(("recovery_target_lsn", lsn.to_string())),
            Some(RecoveryPoint::Xid(xid)) => Some(("recovery_target_xid", xid.to_string())),
            Some(RecoveryPoint::Name(name)) => Some(("recovery_target_name", name.clone())),
        };
        // Last: to set another one, be it to nothing, while one is set is refused.
        if let Some((name, _)) = &chosen {
            targets.retain(|(other, _)| other != name);
        }
        targets.extend(chosen);
        let inclusive = self.target.is_none_or(|target| target.inclusive);
        let inclusive = if inclusive { "on" } else { "off" };
        targets.push(("recovery_target_inclusive", inclusive.to_owned()));
        targets
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        self.dir.put(name, text.as_bytes(), 0o600, self.owner)
    }

    /// Waits until the target is reached and the server lets clients in.
    pub(super) async fn wait(&self, server: &Server, progress: &Progress) -> Result<()> {
        let first = segment_of(self.start, self.segment_size);
        let mut seen = 0;
        loop {
            let said = server.process.log_tail();
            if let Some(done) = restored(&said, self.segment_size) {
                let done = done.saturating_sub(first) * self.segment_size;
                progress.add(done.saturating_sub(seen));
                seen = seen.max(done);
            }
            if said.contains("database system is ready to accept connections") {
                progress.finish();
                return Ok(());
            }
            if !server.process.is_running() {
                // Its last lines may reach us after its end.
                tokio::time::sleep(Duration::from_millis(200)).await;
                return Err(explain(&server.process.log_tail()));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Server {
    /// How its own client programs and we sign in. The former must run in [`Self::seen`].
    pub(super) fn login(&self) -> Login {
        Login {
            service: "the scratch server".to_owned(),
            endpoint: Endpoint::new(
                format!("/proc/self/fd/{}", self.dir.as_fd().as_raw_fd()),
                PORT,
            ),
            inside: Endpoint::new("/proc/self/cwd", PORT),
            user: self.user.clone(),
            password: None,
            tls: Tls::default(),
            application: "restore".to_owned(),
        }
    }

    pub(super) async fn session(&self, database: &str) -> Result<Session> {
        Session::open(&self.login(), database).await
    }

    /// What it has said last.
    pub(super) fn said(&self) -> String {
        self.process.log_tail()
    }

    /// An error of the recovery, with what the server has said last.
    pub(super) fn with_last_words(&self, error: Error) -> Error {
        with_last_words(error, &self.said())
    }

    /// Ends it cleanly and removes what it left that is no data.
    pub(super) async fn stop(self) -> Result<Dir> {
        self.process.stop(GRACE).await?;
        let socket = format!(".s.PGSQL.{PORT}");
        for name in [
            CONFIG,
            HBA,
            "postmaster.opts",
            "backup_manifest",
            "backup_label.old",
            "tablespace_map.old",
            &socket,
            &format!("{socket}.lock"),
        ] {
            self.dir.unlink(Path::new(name))?;
        }
        Ok(self.dir)
    }
}

/// What a server with these settings may take in memory: several times what it does take, so that a bomb in its
/// data ends it and not the machine.
fn memory(settings: &[(&str, String)]) -> u64 {
    let of = |wanted: &str| {
        let found = settings.iter().find(|(name, _)| *name == wanted);
        found
            .and_then(|(_, value)| value.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let backends = ["max_connections", "max_worker_processes", "max_wal_senders"]
        .map(of)
        .into_iter()
        .fold(of("max_prepared_transactions"), u64::saturating_add);
    let locks = backends.saturating_mul(of("max_locks_per_transaction"));
    MEMORY
        .saturating_add(backends.saturating_mul(BACKEND))
        .saturating_add(locks.saturating_mul(LOCK))
}

fn megabytes(bytes: u64) -> String {
    format!("{}MB", bytes.div_ceil(1 << 20))
}

/// The number of the segment that was fetched last.
fn restored(said: &str, size: u64) -> Option<u64> {
    let line = said
        .lines()
        .rfind(|line| line.contains("restored log file"))?;
    let name = line.split('"').nth(1)?;
    Some(SegmentName::parse(name, size)?.number)
}

/// Why it ended.
fn explain(said: &str) -> Error {
    let line = said
        .lines()
        .rfind(|line| line.contains("FATAL:") || line.contains("PANIC:"))
        .or_else(|| said.lines().rfind(|line| !line.trim().is_empty()))
        .unwrap_or("it printed nothing");
    let line: String = line.trim().chars().take(LINE).collect();
    let (code, hint) = if said.contains("ended before configured recovery target was reached") {
        (
            "cluster.target_not_reached",
            "the archive does not go as far as it did when the plan was made; `restore show` says how far",
        )
    } else if said.contains("No space left on device") {
        (
            "cluster.disk_full",
            "free some space where the volume is, and try again",
        )
    } else {
        (
            "cluster.recovery_failed",
            "what it said last tells more; the live server was not touched",
        )
    };
    let error = Error::new(
        ErrorKind::Failed,
        code,
        format!("the scratch server ended while it recovered: {line}"),
    );
    with_last_words(error, said).hint(hint)
}

/// The log of a scratch server is gone with it: its last lines are told with the error.
fn with_last_words(error: Error, said: &str) -> Error {
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut last: Vec<String> = lines
        .rev()
        .take(WORDS)
        .map(|line| line.chars().take(LINE).collect())
        .collect();
    last.reverse();
    if last.is_empty() {
        return error;
    }
    error.with_more(format!("its log ends with: {}", last.join(" / ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_memory_is_bounded_by_what_its_settings_need() {
        assert_eq!(memory(&[]), MEMORY);
        let settings = |clients: &str| {
            [
                ("max_connections", clients.to_owned()),
                ("max_locks_per_transaction", "64".to_owned()),
                ("wal_level", "replica".to_owned()),
            ]
        };
        let more = 1000 * BACKEND + 64_000 * LOCK;
        assert_eq!(memory(&settings("1000")), MEMORY + more);
        // What strangers wrote.
        assert_eq!(memory(&settings(&u64::MAX.to_string())), u64::MAX);
        assert_eq!(memory(&settings("-1")), MEMORY);
    }
}
