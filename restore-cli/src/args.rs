//! The command line's words.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCandidates;
use restore_core::backup::PruneRequest;
use restore_core::platform::SecretFiles;
use restore_core::stream::Compression;
use restore_core::{
    BackupRequest, Error, ErrorKind, PlanRequest, RecoveryPoint, RecoveryTarget, RunId,
};

use crate::{complete, exit};

/// Restores a hosting platform from plain backups: all or nothing, verified, and with the old
/// data kept until you confirm.
#[derive(Debug, Parser)]
#[command(name = "restore", version, after_help = exit::HELP, disable_help_subcommand = true)]
pub(crate) struct Args {
    /// The site's configuration [default: $RESTORE_CONFIG, ./restore.toml, /etc/restore/restore.toml]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,

    /// Print exactly one JSON document on stdout, also on error
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// What stderr shows of the work
    #[arg(long, value_enum, value_name = "HOW", default_value_t, global = true)]
    pub(crate) progress: ProgressMode,

    /// Show nothing of the work on stderr: only questions and errors
    #[arg(long, short, global = true, conflicts_with = "progress")]
    pub(crate) quiet: bool,

    /// Log steps and programs to stderr, with -vv requests and connections too [default: $RESTORE_LOG]
    #[arg(long, short, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What stderr shows of the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// Bars on a terminal, else lines
    #[default]
    Auto,
    /// Lines
    Plain,
    /// One JSON object a line: events, messages, lines of the log, errors
    Json,
    /// Nothing but messages and errors
    Off,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write a first restore.toml from what runs here, or take the one that a backup carries
    Init(InitArgs),
    /// Show on one screen what the site has, and whether a restore could begin now
    Status,
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigVerb),
    /// List the backups of all stores
    List,
    /// Show what is in a backup
    Show(ShowArgs),
    /// Bring files out of a backup into a directory; touches nothing live
    Get(GetArgs),
    /// Read a backup through and compare it with its checksums
    Verify {
        #[command(flatten)]
        backup: BackupArg,
        /// Also read every artifact to its end as what it is
        #[arg(long)]
        deep: bool,
    },
    /// Back up what is live now, while the platform serves
    Backup(BackupArgs),
    /// Delete old backups: shows which, asks, then does it
    Prune(PruneArgs),
    /// Bring a backup from another store into a directory of this host; goes on where it stopped
    Fetch {
        #[command(flatten)]
        backup: BackupArg,
        /// The store to fetch from [default: the first that has it]
        #[arg(long, value_name = "STORE", add = ArgValueCandidates::new(complete::stores))]
        from: Option<String>,
        /// The directory store to fetch into [default: the first]
        #[arg(long, value_name = "STORE", add = ArgValueCandidates::new(complete::stores))]
        to: Option<String>,
    },
    /// Make the site's checks now
    Check,
    /// Show what a restore would do; changes nothing
    Plan(PlanArgs),
    /// Restore a backup: shows the plan, asks, then does it
    Run {
        #[command(flatten)]
        plan: PlanArgs,
        #[command(flatten)]
        consent: Consent,
        /// Once it is agreed to, go on without this terminal: `restore watch` shows it
        #[arg(long)]
        detach: bool,
    },
    /// Prove that a backup restores: stage and check it beside the live data, then delete it again
    Drill(DrillArgs),
    /// Put back what a restore replaced, or undo an unfinished one
    Rollback {
        #[command(flatten)]
        run: RunArg,
        #[command(flatten)]
        consent: Consent,
    },
    /// Finish a run whose process died: onward, or back if it was being undone
    Resume(RunArg),
    /// Accept a run: delete the data it replaced, and with it the way back
    Confirm {
        #[command(flatten)]
        run: RunArg,
        #[command(flatten)]
        consent: Consent,
    },
    /// End an unfinished or stuck run as the platform stands: nothing is moved, what it keeps stays
    Abandon {
        #[command(flatten)]
        run: RunArg,
        #[command(flatten)]
        consent: Consent,
    },
    /// Put the maintenance page up, or take it down
    Page {
        /// Whether users are turned away
        #[arg(value_enum, value_name = "on|off")]
        page: PageArg,
    },
    /// Take the lock of a cluster away from a host that is gone for good
    Unlock(Consent),
    /// List all runs
    History {
        /// Look for what runs keep beside the live data instead: also what no journal tells of
        #[arg(long)]
        search: bool,
    },
    /// Follow a run that another process does, until it has ended; ending this does not end it
    Watch(RunArg),
    /// Show what a run did
    Report(RunArg),
    /// Print the script by which a shell completes words: `source <(restore completions bash)`
    Completions {
        /// The shell
        #[arg(value_enum, value_name = "SHELL")]
        shell: ShellArg,
    },
    /// Explain a topic, or a command; without either, list the topics
    Help {
        /// A topic, as `restore help` lists them, or a command
        #[arg(value_name = "TOPIC", add = ArgValueCandidates::new(complete::topics))]
        topic: Vec<String>,
    },
    /// Write the pages of the manual and the completions below a directory such as /usr/local/share
    #[command(hide = true)]
    Manual {
        /// The directory
        #[arg(value_name = "DIRECTORY")]
        directory: PathBuf,
    },
    /// Do the run of which a plan comes on stdin: what `run --detach` leaves behind
    #[command(hide = true)]
    Detached(Consent),
    /// Answer one request about the volume in a directory, for a restore on another machine
    #[command(hide = true)]
    VolumeAgent {
        /// The directory
        #[arg(value_name = "DIRECTORY")]
        directory: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// A directory of backups: from their layout it is told what there is to restore
    #[arg(long, value_name = "DIR")]
    pub(crate) backups: Option<PathBuf>,

    /// Take the restore.toml that a backup carries: where the backup is, and its id or `latest`
    ///
    /// A directory, ssh://USER@HOST:PORT/PATH, or s3://BUCKET/PREFIX, which the variables of Amazon's own tools
    /// open (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL). With --backups or --store,
    /// only the id.
    #[arg(long, num_args = 1..=2, value_names = ["STORE", "ID"])]
    pub(crate) from: Vec<String>,

    /// With --from ID: the store that the backup is in, in a file with its [stores.NAME] section
    #[arg(long, value_name = "FILE", requires = "from", conflicts_with = "backups", value_hint = clap::ValueHint::FilePath)]
    pub(crate) store: Option<PathBuf>,

    /// A key of which one must have signed that backup
    #[arg(long, value_name = "FINGERPRINT", requires = "from")]
    pub(crate) signed_by: Vec<String>,

    /// Where gpg keeps those keys
    #[arg(long, value_name = "DIR", requires = "signed_by")]
    pub(crate) gnupg_home: Option<PathBuf>,

    /// Only servers that work in this directory, or whose files are named below it
    #[arg(long, value_name = "DIR", conflicts_with = "from")]
    pub(crate) below: Option<PathBuf>,

    /// The Docker engine's socket [default: /var/run/docker.sock]
    #[arg(long, value_name = "SOCKET", conflicts_with = "from")]
    pub(crate) socket: Option<PathBuf>,

    /// The file to write, which must not be there yet
    #[arg(long, short, value_name = "FILE", default_value = "restore.toml")]
    pub(crate) output: PathBuf,

    /// Print the file instead of writing it
    #[arg(long, conflicts_with = "output")]
    pub(crate) print: bool,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Tell everything that is wrong with the configuration, each with its line; needs no backup
    Check,
    /// Print the JSON Schema of restore.toml, from which editors complete and check one
    Schema,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BackupArg {
    /// The backup's id, or `latest`
    #[arg(value_name = "ID", add = ArgValueCandidates::new(complete::backups))]
    pub(crate) id: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) backup: BackupArg,

    /// List what is in its archives and dumps, read to their end and verified; only what is called
    /// PATTERN: a path, or a name without a slash, `*` for anything but a slash
    #[arg(long, value_name = "PATTERN")]
    #[expect(clippy::option_option, reason = "an option whose value may be missing")]
    pub(crate) files: Option<Option<String>>,

    /// Only what is in files of these components
    #[arg(long, value_name = "COMPONENT", value_delimiter = ',', requires = "files", add = ArgValueCandidates::new(complete::components))]
    pub(crate) only: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) backup: BackupArg,

    /// What to bring out: COMPONENT/path as `show --files` lists it, a path as in the archive or on
    /// the live machine, a COMPONENT for all of it, or a file of the backup
    #[arg(value_name = "PATH", required_unless_present = "only")]
    pub(crate) paths: Vec<String>,

    /// The directory for it, which must not be there yet, or be empty
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,

    /// All of these components: their files, or the dump itself
    #[arg(long, value_name = "COMPONENT", value_delimiter = ',', add = ArgValueCandidates::new(complete::components))]
    pub(crate) only: Vec<String>,

    /// Leave the files to whoever runs this, instead of the owners that the archive has
    #[arg(long)]
    pub(crate) no_owner: bool,

    /// Keep set-uid and set-gid bits and capabilities of files, which are taken off otherwise
    #[arg(long)]
    pub(crate) keep_setuid: bool,

    /// Also what has no checksum to verify it by
    #[arg(long)]
    pub(crate) allow_unverified: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunArg {
    /// The run's id, as `restore history` shows it [default: the one that the verb fits]
    #[arg(value_name = "RUN", add = ArgValueCandidates::new(complete::runs))]
    pub(crate) run: Option<String>,
}

/// A shell that completes words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShellArg {
    Bash,
    Zsh,
    Fish,
}

/// Whether the maintenance page is to be up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PageArg {
    /// Users are turned away
    On,
    /// Users are let in
    Off,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Consent {
    /// Do not ask; a run then also goes on where its safety backup turns out to lack something
    #[arg(long)]
    pub(crate) yes: bool,
}

/// A word as a shell reads it back.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// The same where a shell would read it as anything else than what it is.
pub(crate) fn word(value: &str) -> Cow<'_, str> {
    let plain = |letter: char| letter.is_alphanumeric() || "_./:=@%+,-".contains(letter);
    match !value.is_empty() && value.chars().all(plain) {
        true => value.into(),
        false => quoted(value).into(),
    }
}

/// An option with its value, to be typed again. One that begins with a dash would pass for an option.
fn option(name: &str, value: &str) -> String {
    let between = if value.starts_with('-') { "=" } else { " " };
    format!(" --{name}{between}{}", word(value))
}

/// A secret's name and the file that has its value: `db.pass=/root/db.pass`.
fn secret_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(file)))
        }
        // What was typed may be the secret itself: it is not repeated.
        _ => Err("NAME=FILE, the file that holds the value".to_owned()),
    }
}

/// A node that is no more and the one in its place: `worker1=worker3`.
fn successor(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => {
            Ok((old.to_owned(), new.to_owned()))
        }
        _ => Err("OLD=NEW, the names of two nodes".to_owned()),
    }
}

/// Names as people type them in lists: `a, b`.
fn trimmed(names: &[String]) -> impl Iterator<Item = &str> {
    names.iter().map(|name| name.trim())
}

#[derive(Debug, clap::Args)]
pub(crate) struct BackupArgs {
    /// Only these components
    #[arg(long, value_name = "COMPONENT", value_delimiter = ',', add = ArgValueCandidates::new(complete::components))]
    pub(crate) only: Vec<String>,

    /// The store to write to [default: the first on this host]
    #[arg(long, value_name = "STORE", add = ArgValueCandidates::new(complete::stores))]
    pub(crate) to: Option<String>,

    /// Also make base backups of database clusters, from which they can be recovered to any later
    /// moment
    #[arg(long)]
    pub(crate) base: bool,

    /// How archives are compressed: gzip, which everything reads, or zstd
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    pub(crate) compression: CompressionArg,

    /// How hard to compress: 1 to 9 for gzip, 1 to 19 for zstd [default: 6 for gzip, 3 for zstd]
    #[arg(long, value_name = "N")]
    pub(crate) level: Option<u8>,
}

/// How archives are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompressionArg {
    #[default]
    Gzip,
    Zstd,
}

impl BackupArgs {
    /// What the library is asked for.
    pub(crate) fn request(&self) -> Result<BackupRequest, Error> {
        let name = match self.compression {
            CompressionArg::Gzip => "gzip",
            CompressionArg::Zstd => "zstd",
        };
        let mut request = BackupRequest::all().compression(Compression::named(name, self.level)?);
        if !self.only.is_empty() {
            request = request.only(trimmed(&self.only));
        }
        request.to.clone_from(&self.to);
        request.base = self.base;
        Ok(request)
    }
}

#[derive(Debug, clap::Args)]
#[group(id = "which", required = true, multiple = true, args = ["keep", "keep_daily", "keep_weekly", "keep_monthly", "older_than"])]
pub(crate) struct PruneArgs {
    /// Keep the newest N full backups
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep: Option<u32>,

    /// Keep the newest full backup of each of the last N days that have one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep_daily: Option<u32>,

    /// Keep the newest of each of the last N weeks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep_weekly: Option<u32>,

    /// Keep the newest of each of the last N months
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep_monthly: Option<u32>,

    /// Delete only what is older: 12h, 30d, 8w
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) older_than: Option<Duration>,

    /// The store [default: the first on this host]
    #[arg(long, value_name = "STORE", add = ArgValueCandidates::new(complete::stores))]
    pub(crate) store: Option<String>,

    /// Only show what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) consent: Consent,
}

impl PruneArgs {
    /// What the library is asked for.
    pub(crate) fn request(&self) -> PruneRequest {
        let mut request = PruneRequest::default();
        request.store.clone_from(&self.store);
        let count = |count: Option<u32>| count.and_then(|count| usize::try_from(count).ok());
        request.keep = count(self.keep);
        request.keep_daily = count(self.keep_daily);
        request.keep_weekly = count(self.keep_weekly);
        request.keep_monthly = count(self.keep_monthly);
        request.older_than = self.older_than;
        request
    }
}

/// `12h`, `30d`, `8w`.
fn age(text: &str) -> Result<Duration, String> {
    let hours = [("h", 1), ("d", 24), ("w", 24 * 7)];
    hours
        .iter()
        .find_map(|(unit, hours)| {
            let number: u64 = text.strip_suffix(unit)?.trim().parse().ok()?;
            number.checked_mul(hours * 3600)
        })
        .map(Duration::from_secs)
        .ok_or_else(|| "an age is a number of hours, days or weeks: 12h, 30d, 8w".to_owned())
}

#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) backup: BackupArg,

    /// Only these components
    #[arg(long, value_name = "COMPONENT", value_delimiter = ',', add = ArgValueCandidates::new(complete::components))]
    pub(crate) only: Vec<String>,

    /// Only this path: COMPONENT/path as `show --files` lists it, or named as in the archive or on the
    /// live machine (`mnt/nfs/nginx/conf.d/app.conf`); repeatable
    #[arg(long = "path", value_name = "PATH")]
    pub(crate) paths: Vec<String>,

    /// Restore the database under this name beside the live one, which is not touched, and leave it
    /// there: `restore rollback` drops it, `restore confirm` keeps it
    #[arg(long = "as", value_name = "NAME", conflicts_with_all = ["paths", "over", "diff", "tables"])]
    pub(crate) restore_as: Option<String>,

    /// Only this table of the database (`public.orders`, as `show --files` lists it), into a schema
    /// of its own beside the live tables, which are not touched; repeatable
    #[arg(long = "table", value_name = "TABLE", conflicts_with_all = ["paths", "over", "diff"])]
    pub(crate) tables: Vec<String>,

    /// Also show what would change: files, crontab lines, tables, keys; archives are read for it
    #[arg(long)]
    pub(crate) diff: bool,

    /// Restore what has no checksum to verify it by
    #[arg(long)]
    pub(crate) allow_unverified: bool,

    /// Leave these components as they are where the backup has nothing for them
    #[arg(long, value_name = "COMPONENT", value_delimiter = ',', add = ArgValueCandidates::new(complete::components))]
    pub(crate) allow_missing: Vec<String>,

    /// Replace live data of these components by what is empty, or by far less: a dump without rows, an
    /// archive without files, an RDB of a few keys
    #[arg(long, value_name = "COMPONENT", value_delimiter = ',', add = ArgValueCandidates::new(complete::components))]
    pub(crate) allow_empty: Vec<String>,

    /// Restore although an earlier run is not confirmed yet
    #[arg(long)]
    pub(crate) over_unconfirmed: bool,

    /// Restore over this run, which is stuck or unfinished: it is ended as it stands
    #[arg(long, value_name = "RUN", add = ArgValueCandidates::new(complete::runs))]
    pub(crate) over: Option<String>,

    /// Show no maintenance page: users meet whatever the services answer
    #[arg(long)]
    pub(crate) no_maintenance: bool,

    /// Make what is absent: directories, a database's roles, a stack; nothing that exists is altered
    #[arg(long)]
    pub(crate) create: bool,

    /// This file holds the value of a secret that is absent and made; repeatable
    #[arg(long = "secret", value_name = "NAME=FILE", value_parser = secret_file, requires = "create")]
    pub(crate) secrets: Vec<(String, PathBuf)>,

    /// Files of this directory hold the values of secrets of their names
    #[arg(long = "secrets", value_name = "DIR", requires = "create", value_hint = clap::ValueHint::DirPath)]
    pub(crate) secrets_in: Option<PathBuf>,

    /// Of a swarm: deploy on the node NEW what the backup binds to the node OLD, which is no more; repeatable
    ///
    /// Constraints on node.hostname and node.id in compose files are deployed so, and `node` in restore.toml is
    /// taken for NEW by this run.
    #[arg(long = "node", value_name = "OLD=NEW", value_parser = successor, requires = "create")]
    pub(crate) nodes: Vec<(String, String)>,

    /// Do not back up first what is live now
    #[arg(long)]
    pub(crate) no_safety_backup: bool,

    #[command(flatten)]
    pub(crate) target: TargetArgs,

    /// Restore components of another time along with databases that are recovered to a moment
    #[arg(long)]
    pub(crate) allow_time_gap: bool,
}

/// Which moment databases are recovered to.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct TargetArgs {
    /// Recover database clusters to this time, zone and all ('2024-02-15 10:00:00 UTC'), or to
    /// `latest`: all that was archived
    #[arg(long, value_name = "TIME", conflicts_with_all = ["to_lsn", "to_xid", "to_name"])]
    pub(crate) to: Option<String>,

    /// Recover to this place in the write-ahead log
    #[arg(long, value_name = "LSN", conflicts_with_all = ["to_xid", "to_name"])]
    pub(crate) to_lsn: Option<String>,

    /// Recover to the end of this transaction
    #[arg(long, value_name = "XID", conflicts_with = "to_name")]
    pub(crate) to_xid: Option<u32>,

    /// Recover to this restore point (pg_create_restore_point)
    #[arg(long, value_name = "NAME")]
    pub(crate) to_name: Option<String>,

    /// Leave out what happened exactly at that moment
    #[arg(long)]
    pub(crate) exclusive: bool,

    /// Follow this timeline, also one that a recovery or a rollback left behind [default: the live
    /// server's]
    #[arg(long, value_name = "N")]
    pub(crate) timeline: Option<u32>,
}

impl TargetArgs {
    /// The target that was given.
    fn target(&self) -> Result<Option<RecoveryTarget>, Error> {
        let point = match (&self.to, &self.to_lsn, self.to_xid, &self.to_name) {
            (Some(to), ..) => to.parse::<RecoveryTarget>()?.point,
            (_, Some(lsn), ..) => RecoveryPoint::Lsn(lsn.parse()?),
            (_, _, Some(xid), _) => RecoveryPoint::Xid(xid),
            (.., Some(name)) => RecoveryPoint::Name(name.clone()),
            _ if self.exclusive || self.timeline.is_some() => {
                return Err(Error::new(
                    ErrorKind::Config,
                    "cli.no_moment",
                    "--exclusive and --timeline say how to come to a moment, and none is given",
                )
                .hint("name it with --to, --to-lsn, --to-xid or --to-name"));
            }
            _ => return Ok(None),
        };
        let target = RecoveryTarget::new(point).exclusive(self.exclusive);
        Ok(Some(target.timeline(self.timeline)))
    }

    fn repeated(&self) -> String {
        let mut text = String::new();
        if let Some(to) = &self.to {
            text += &format!(" --to {}", quoted(to));
        }
        if let Some(lsn) = &self.to_lsn {
            text += &format!(" --to-lsn {lsn}");
        }
        if let Some(xid) = self.to_xid {
            text += &format!(" --to-xid {xid}");
        }
        if let Some(name) = &self.to_name {
            text += &format!(" --to-name {}", quoted(name));
        }
        if self.exclusive {
            text += " --exclusive";
        }
        if let Some(timeline) = self.timeline {
            text += &format!(" --timeline {timeline}");
        }
        text
    }
}

impl PlanArgs {
    /// What the library is asked for.
    pub(crate) fn request(&self) -> Result<PlanRequest, Error> {
        let mut request = PlanRequest::all();
        if !self.only.is_empty() {
            request = request.only(trimmed(&self.only));
        }
        if !self.paths.is_empty() {
            request = request.paths(&self.paths);
        }
        if !self.tables.is_empty() {
            request = request.tables(&self.tables);
        }
        Ok(request
            .allow_unverified(self.allow_unverified)
            .allow_missing(trimmed(&self.allow_missing))
            .allow_empty(trimmed(&self.allow_empty))
            .over_unconfirmed(self.over_unconfirmed)
            .over(self.over.as_deref().map(str::parse::<RunId>).transpose()?)
            .no_maintenance(self.no_maintenance)
            .no_safety_backup(self.no_safety_backup)
            .restore_as(self.restore_as.clone())
            .create(self.create)
            .secrets(self.secret_files()?)
            .nodes(self.nodes()?)
            .to(self.target.target()?)
            .allow_time_gap(self.allow_time_gap))
    }

    /// The nodes that took the place of others: one for each.
    fn nodes(&self) -> Result<BTreeMap<String, String>, Error> {
        let mut nodes: BTreeMap<String, String> = BTreeMap::new();
        for (old, new) in &self.nodes {
            // As a swarm compares them.
            let mut known = nodes.iter();
            if let Some((_, first)) = known.find(|(it, _)| it.eq_ignore_ascii_case(old)) {
                return Err(Error::new(
                    ErrorKind::Config,
                    "cli.node_twice",
                    format!("--node says that {old} is {first} by now, and that it is {new}"),
                )
                .hint("give each node that is no more one that takes its place"));
            }
            nodes.insert(old.clone(), new.clone());
        }
        Ok(nodes)
    }

    /// Where secrets are, from whichever directory the run is gone on with.
    fn secret_files(&self) -> Result<SecretFiles, Error> {
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).map_err(|e| Error::io(format!("find {}", path.display()), e))
        };
        let mut files = SecretFiles::default();
        for (name, file) in &self.secrets {
            files = files.with(name, absolute(file)?);
        }
        let directory = self.secrets_in.as_ref().map(absolute).transpose()?;
        Ok(files.in_directory(directory))
    }

    /// The options as they were given, to be repeated in a command line that is shown.
    pub(crate) fn repeated(&self) -> String {
        let mut text = String::new();
        if !self.only.is_empty() {
            text += &option("only", &self.only.join(","));
        }
        for path in &self.paths {
            text += &option("path", path);
        }
        if let Some(name) = &self.restore_as {
            text += &format!(" --as {}", quoted(name));
        }
        for table in &self.tables {
            text += &format!(" --table {}", quoted(table));
        }
        if self.allow_unverified {
            text += " --allow-unverified";
        }
        if !self.allow_missing.is_empty() {
            text += &option("allow-missing", &self.allow_missing.join(","));
        }
        if !self.allow_empty.is_empty() {
            text += &option("allow-empty", &self.allow_empty.join(","));
        }
        if self.over_unconfirmed {
            text += " --over-unconfirmed";
        }
        if let Some(over) = &self.over {
            text += &option("over", over);
        }
        if self.no_maintenance {
            text += " --no-maintenance";
        }
        if self.no_safety_backup {
            text += " --no-safety-backup";
        }
        if self.create {
            text += " --create";
        }
        for (name, file) in &self.secrets {
            let given = format!("{name}={}", file.display());
            text += &format!(" --secret {}", quoted(&given));
        }
        if let Some(directory) = &self.secrets_in {
            text += &format!(" --secrets {}", quoted(&directory.display().to_string()));
        }
        for (old, new) in &self.nodes {
            text += &format!(" --node {}", quoted(&format!("{old}={new}")));
        }
        text += &self.target.repeated();
        if self.allow_time_gap {
            text += " --allow-time-gap";
        }
        text
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct DrillArgs {
    #[command(flatten)]
    pub(crate) backup: BackupArg,

    /// Only these components
    #[arg(long, value_name = "COMPONENT", value_delimiter = ',', add = ArgValueCandidates::new(complete::components))]
    pub(crate) only: Vec<String>,

    /// Drill with what has no checksum to verify it by
    #[arg(long)]
    pub(crate) allow_unverified: bool,

    /// Drill without these components where the backup has nothing for them
    #[arg(long, value_name = "COMPONENT", value_delimiter = ',', add = ArgValueCandidates::new(complete::components))]
    pub(crate) allow_missing: Vec<String>,

    /// Drill with what is empty (a dump without rows) although there is live data of these components
    #[arg(long, value_name = "COMPONENT", value_delimiter = ',', add = ArgValueCandidates::new(complete::components))]
    pub(crate) allow_empty: Vec<String>,

    #[command(flatten)]
    pub(crate) target: TargetArgs,

    /// Drill with components of another time than the moment that databases are recovered to
    #[arg(long)]
    pub(crate) allow_time_gap: bool,
}

impl DrillArgs {
    /// What the library is asked for.
    pub(crate) fn request(&self) -> Result<PlanRequest, Error> {
        let mut request = PlanRequest::all();
        if !self.only.is_empty() {
            request = request.only(trimmed(&self.only));
        }
        Ok(request
            .allow_unverified(self.allow_unverified)
            .allow_missing(trimmed(&self.allow_missing))
            .allow_empty(trimmed(&self.allow_empty))
            .to(self.target.target()?)
            .allow_time_gap(self.allow_time_gap)
            .drill(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn ages_have_units() {
        assert_eq!(age("12h"), Ok(Duration::from_secs(12 * 3600)));
        assert_eq!(age("30d"), Ok(Duration::from_secs(30 * 86400)));
        for bad in [
            "",
            "d",
            "30",
            "-1d",
            "1.5d",
            "30 days",
            "99999999999999999999w",
        ] {
            assert!(age(bad).is_err(), "{bad}");
        }
        assert!(Args::try_parse_from(["restore", "prune"]).is_err());
        assert!(Args::try_parse_from(["restore", "prune", "--keep", "0"]).is_err());
        let both = ["restore", "prune", "--keep", "3", "--older-than", "8w"];
        assert!(Args::try_parse_from(both).is_ok());
    }

    #[test]
    fn what_is_missing_and_what_is_empty_are_two_words() {
        let args = [
            "restore",
            "run",
            "latest",
            "--allow-missing",
            "a",
            "--allow-empty",
            "b,c",
        ];
        let Verb::Run { plan, .. } = Args::try_parse_from(args).unwrap().verb else {
            panic!("not a run")
        };
        let request = plan.request().unwrap();
        assert_eq!(request.allow_missing, ["a"]);
        assert_eq!(request.allow_empty, ["b", "c"]);
        assert_eq!(plan.repeated(), " --allow-missing a --allow-empty b,c");
    }

    #[test]
    fn each_node_that_is_no_more_has_one_in_its_place() {
        let parsed = |words: &[&str]| {
            let all = ["restore", "plan", "latest"].iter().chain(words);
            Args::try_parse_from(all).map(|args| match args.verb {
                Verb::Plan(plan) => plan,
                _ => panic!("not a plan"),
            })
        };
        let plan = parsed(&["--create", "--node", "db1=new", "--node", "web1=new"]).unwrap();
        let nodes = plan.request().unwrap().nodes;
        assert_eq!((&*nodes["db1"], &*nodes["web1"]), ("new", "new"));
        assert_eq!(
            plan.repeated(),
            " --create --node 'db1=new' --node 'web1=new'"
        );
        for again in ["a=c", "A=c"] {
            let twice = parsed(&["--create", "--node", "a=b", "--node", again]).unwrap();
            assert_eq!(twice.request().unwrap_err().code(), "cli.node_twice");
        }
        for refused in ["a", "=b", "a="] {
            assert!(
                parsed(&["--create", "--node", refused]).is_err(),
                "{refused}"
            );
        }
        assert!(parsed(&["--node", "a=b"]).is_err());
    }

    #[test]
    fn what_is_left_beside_what_is_live_is_repeated_as_it_was_given() {
        let parsed = |words: &[&str]| {
            let all = ["restore", "plan", "latest"].iter().chain(words);
            Args::try_parse_from(all).map(|args| match args.verb {
                Verb::Plan(plan) => plan,
                _ => panic!("not a plan"),
            })
        };
        let plan = parsed(&["--only", "db", "--as", "it's"]).unwrap();
        assert_eq!(plan.request().unwrap().restore_as.as_deref(), Some("it's"));
        assert_eq!(plan.repeated(), r" --only db --as 'it'\''s'");
        let plan = parsed(&["--table", "a.b", "--table", "c d"]).unwrap();
        assert_eq!(plan.request().unwrap().selected_tables(), ["a.b", "c d"]);
        assert_eq!(plan.repeated(), " --table 'a.b' --table 'c d'");
        for refused in ["--path", "--over", "--table"] {
            assert!(parsed(&["--as", "x", refused, "y"]).is_err(), "{refused}");
        }
    }

    #[test]
    fn options_may_stand_behind_the_verb() {
        let args = Args::try_parse_from([
            "restore", "plan", "latest", "--only", "a,b", "--path", "x/y", "--path", "z", "--json",
            "--config", "c.toml",
        ])
        .unwrap();
        assert!(args.json);
        assert_eq!(args.config, Some(PathBuf::from("c.toml")));
        let Verb::Plan(plan) = args.verb else {
            panic!("not a plan")
        };
        let request = plan.request().unwrap();
        assert_eq!(request.selected_components(), ["a", "b"]);
        assert_eq!(request.selected_paths(), ["x/y", "z"]);
        assert_eq!(plan.repeated(), " --only a,b --path x/y --path z");
    }

    #[test]
    fn what_is_repeated_can_be_typed_as_it_stands() {
        let given = [
            ("--only", "a, b"),
            ("--path", "mnt/a b"),
            ("--path", "it's;$HOME"),
            ("--path", "*.jpg"),
            ("--path", "größe/1"),
            ("--path=-x", ""),
            ("--allow-missing", "c, d"),
        ];
        let words: Vec<&str> = given
            .iter()
            .flat_map(|(name, value)| [*name, *value])
            .filter(|word| !word.is_empty())
            .collect();
        let parsed = |words: &[&str]| {
            let all = ["restore", "plan", "latest"].iter().chain(words);
            match Args::try_parse_from(all).unwrap().verb {
                Verb::Plan(plan) => plan.request().unwrap(),
                _ => panic!("not a plan"),
            }
        };
        let all = ["restore", "plan", "latest"].iter().chain(&words);
        let Verb::Plan(plan) = Args::try_parse_from(all).unwrap().verb else {
            panic!("not a plan")
        };
        let repeated = plan.repeated();
        assert!(
            repeated.contains(" --path größe/1 --path=-x "),
            "{repeated}"
        );
        let told = std::process::Command::new("sh")
            .args(["-fc", &format!("printf '%s\\n'{repeated}")])
            .output()
            .unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        let again: Vec<&str> = told.lines().collect();
        assert_eq!(parsed(&again), parsed(&words), "{repeated}");
    }

    #[test]
    fn a_moment_is_one_and_is_repeated() {
        let parse = |args: &[&str]| {
            let words = ["restore", "plan", "latest"].iter().chain(args);
            let Verb::Plan(plan) = Args::try_parse_from(words).map_err(|_| "clap")?.verb else {
                return Err("verb");
            };
            Ok(plan)
        };
        let plan = parse(&["--to", "2024-02-15 10:00:00 UTC", "--exclusive"]).unwrap();
        let target = plan.request().unwrap().target.unwrap();
        assert_eq!(target.to_string(), "2024-02-15 10:00:00 UTC, exclusive");
        assert_eq!(
            plan.repeated(),
            " --to '2024-02-15 10:00:00 UTC' --exclusive"
        );
        let bare = parse(&["--to", "2024-02-15 10:00:00"]).unwrap();
        assert_eq!(bare.request().unwrap_err().code(), "target.no_zone");
        let name = parse(&["--to-name", "it's", "--timeline", "3"]).unwrap();
        assert_eq!(name.repeated(), r" --to-name 'it'\''s' --timeline 3");
        assert!(parse(&["--to", "latest", "--to-xid", "5"]).is_err());
        let none = parse(&["--exclusive"]).unwrap();
        assert_eq!(none.request().unwrap_err().code(), "cli.no_moment");
    }
}
