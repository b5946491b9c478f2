//! Restores a hosting platform from plain backups: all or nothing, nothing unverified goes live,
//! the old data kept until confirmed.
//!
//! A run **stages** every part beside the live data while the platform serves, then turns users
//! away for seconds: stop, **cut over** by rename, start, **check**. On any failure it **undoes**
//! itself in reverse. Each effect is announced in a journal first, so another process can finish
//! or undo what a killed one began.
//!
//! ```
//! # use std::path::Path;
//! use restore_core::{Outcome, Site};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let backup = dir.path().join("backups/20240215-020000");
//! # std::fs::create_dir_all(backup.join("configs"))?;
//! # std::fs::write(backup.join("configs/crontab-20240215-020000.txt"), "0 2 * * * /opt/scripts/backup.sh\n")?;
//! # std::fs::write(backup.join("MANIFEST.txt"), "Backup ID: 20240215-020000\nconfigs/crontab-20240215-020000.txt|4.0K|efae2627372a77790e14fd7f04ef28b8a9ad96ead24027ec7c8ae48d67ed79d8\nTotal Files: 1\n")?;
//! # std::fs::write(dir.path().join("crontab"), "# lost\n")?;
//! # std::fs::write(dir.path().join("restore.toml"), "
//! #   [site]\nname = 'doc'\nstate = 'state'\n[stores.main]\nkind = 'directory'\npath = 'backups'\n
//! #   [components.crontab]\nkind = 'crontab'\nfile = 'crontab'\n".replace("file = 'crontab'", &format!("file = '{}'", dir.path().join("crontab").display())))?;
//! # let config = dir.path().join("restore.toml");
//! # let config = config.as_path();
//! let site = Site::open(config).await?;
//!
//! // A value: print it, save it, compare it. Nothing has been touched.
//! let plan = site.plan("latest").await?;
//! println!("{plan}");
//!
//! // `Err`: nothing was touched, or all is as it was again, which `error.report()` tells.
//! let report = site.begin().run(plan).await?;
//! assert_eq!(report.outcome, Outcome::Restored);
//! println!("{}", report.to_text());
//!
//! // The replaced data is kept: swap it back, or delete it.
//! let report = site.begin().rollback(Some(report.run)).await?;
//! site.begin().confirm(Some(report.run)).await?;
//!
//! // All in one line, for whoever need not look at the plan first.
//! site.plan("latest").only(["crontab"]).events(|event| println!("{event:?}")).run().await?;
//! # site.begin().rollback(None).await?;
//! # assert_eq!(std::fs::read_to_string(dir.path().join("crontab"))?, "# lost\n");
//! # Ok(())
//! # }
//! ```
//!
//! # The words
//!
//! | word | meaning |
//! |---|---|
//! | [backup](backup::Backup) | one dated folder of artifacts with a `MANIFEST.txt`, named by its [id](backup::BackupId) |
//! | artifact | one file of a backup that some component restores |
//! | [manifest](backup::Manifest) | the list of a backup's files with size and SHA-256 |
//! | [store](store::BackupStore) | where backups are |
//! | [component](component::Component) | one restorable part: a database, a Redis, a volume, a file tree, the crontab |
//! | [platform](platform::Platform) | what runs the services and knows the volumes |
//! | service | a thing that the platform stops and starts |
//! | [site](Site) | one configured platform with its components and stores: a `restore.toml` |
//! | [plan](Plan) | what a restore would do, in order, with sizes |
//! | [run] | one execution of a plan; it has an id, a journal, a [report](Report) |
//! | safety backup | what a run makes first, of what it will replace |
//! | stage | bring a backup's data beside the live data, verified, live data untouched |
//! | cut over | swap staged for live; the replaced data is kept |
//! | undo, roll back | swap back |
//! | confirm | accept a run: delete the data it replaced |
//! | [check](check::Check) | a proof that something works, made before and after |
//!
//! # Where to start
//!
//! - **Restore from a program of your own:** [`Site::plan`], and [`Site::begin`] for all else: a
//!   backup, a verification, a fetch, a rollback. Each gives a [`Run`]: a handle that is started or
//!   awaited, followed by its [events](Run::events) and its [progress](Run::progress), and
//!   [cancelled](Run::cancel), by a [`CancellationToken`] too, as [`stop_on_signals`] makes one for
//!   SIGTERM and Ctrl-C. A cancelled run undoes itself, and so does one whose handle is dropped.
//!   [`Site::attach`] follows a run of another process. `wait` waits for the lock.
//! - **Without a handle:** [`Site::run`], [`Site::rollback`] and the others are the same work as plain
//!   futures, with [`RunOptions`]; one that is dropped leaves the run to [`Site::resume`] or
//!   [`Site::rollback`].
//! - **Errors:** an [`Error`] has a [kind](Error::kind), a stable [code](Error::code) and a
//!   [hint](Error::hint_text), which its alternate form (`{:#}`) shows. Steps (level info), programs
//!   (debug), requests and connections (trace) are spans of `tracing`, with an event when each is over.
//! - **Make a backup:** [`Site::back_up`]; [`Site::plan_prune`] and [`Site::prune`] delete old ones.
//! - **Add a component:** implement [`component::Component`], whose documentation is the contract.
//!   A [`component::Registry`] makes components from configuration by their kind: add yours to it
//!   [like this](component::Registry), and open the site with [`Site::open_with`].
//!   [`RunContext`](run::RunContext) is what it is given; [`stream`] copies, verifies and unpacks in
//!   one pass. The documentation of `conformance` shows one, whole: its section of the
//!   configuration, its factory, and the test that tries it.
//! - **Add a platform:** implement [`platform::Platform`] and [`platform::Volume`], and open the
//!   site with [`Site::with_platform`].
//! - **Add a store:** implement [`store::BackupStore`], and give it to [`Site::with_store`]. The
//!   library's own are directories, other hosts by
//!   `ssh`, and buckets. [`Site::fetch`] brings a backup here, resumable and
//!   verified, from whatever store has it.
//! - **Add a check, a hook or another maintenance mode:** [`check::Check`], [`hook::Hook`] (with
//!   [`hook::HookCalls`]) and [`maintenance::Maintenance`] are the traits. A
//!   [`Registry`](component::Registry) makes them by their kinds, and stores and platforms too.
//!
//! Whatever you add, the suites of the feature `conformance` try whether it keeps its contract, the
//! way they try the library's own; what a killed *run* comes to is shown by a
//! [`RunOptions::boundary`], at which a test may stop one.
//!
//! The repository has whole programs, tried by its tests: in `examples/examples` the smallest
//! restore, events into a web page or a chat message, a service that restores and can be stopped, a
//! nightly verification; in `examples/src` a component, a store, a check, a hook, a maintenance mode and a
//! platform's lock of one's own; in
//! `restore-core/examples` a run that is killed at each boundary.
//!
//! # What it asks of a program
//!
//! The library never prints, reads no arguments, and keeps no global state but the secrets that
//! [`keep_secret`](config::keep_secret) was given. Work on files is done
//! on blocking threads; all else needs a tokio runtime with time and I/O enabled. Whoever adds a part
//! also depends on `async-trait`, and on `serde` with its feature `derive` for the part's section of
//! the configuration.
//!
//! | feature | |
//! |---|---|
//! | `object-store` | stores in buckets, [`store::BucketStore`] and the kinds `s3`, `azure` and `gcs`; brings some twenty crates more. The command line and the Python module have it |
//! | `conformance` | `restore_core::conformance`: the suites for stores, components, volumes and platforms of your own. For tests: enable it where `[dev-dependencies]` names this crate once more |
//!
//! Types of other crates are in its signatures where they are the point, and there only: tokio's
//! `AsyncRead` and `AsyncWrite`, tokio-util's [`CancellationToken`], [`serde_json::Value`] for
//! facts and configuration tables, `#[async_trait]` for the traits, and secrecy's
//! [`SecretString`](config::SecretString). What is public is listed in the repository's
//! `docs/public-api.txt`, which a test compares.

#![deny(missing_docs)]
// Tests may stop where they stand; what serves users may not.
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

mod archive;
pub mod backup;
mod checks;
mod components;
#[cfg(feature = "conformance")]
pub mod conformance;
mod contract;
mod engine;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod hooks;
pub mod maintenance;
mod model;
mod platforms;
pub mod site;
mod stores;
mod swap;
mod sys;

pub mod check {
    //! Checks: proofs that something works, made before a run and after it.

    pub use crate::checks::kinds::{KINDS, make};
    pub use crate::contract::{Check, RetryMode, When};
}

pub mod component {
    //! The restorable parts of a platform: the trait that each implements, and the registry that
    //! makes them from configuration.

    pub use crate::components::crontab::Crontab;
    pub use crate::components::files::Files;
    pub use crate::components::image::ImageComponent;
    pub use crate::components::postgres::{Cluster, Postgres};
    pub use crate::components::redis::Redis;
    pub use crate::components::volume::VolumeComponent;
    pub use crate::contract::{
        BackedUp, CheckFactory, Component, ComponentDeps, ComponentFactory, Contents, Create,
        DumpedTable, HookFactory, Inspection, KeptByRun, MaintenanceFactory, Needed,
        PlatformFactory, Prerequisite, Recovery, Registry, SharedComponent, SpaceNeed, Staged,
        StoreFactory, Target,
    };
    pub use crate::model::{Changes, CheckOutcome, Difference, NeverBackedUp};
}

pub mod config {
    //! `restore.toml`: what a site is made of, written down once.

    pub use crate::contract::{
        ConfigDuration, SecretSource, SiteConfig, SiteSection, Table, forget_secret, keep_secret,
        parse_section,
    };
    pub use secrecy::SecretString;
}

pub mod fetch {
    //! Bringing a backup from the store that has it into a directory of this host.
    //!
    //! A backup is fetched into `.fetching-ID`, which no store takes for a backup, is verified there
    //! while it is written, and gets its name by one rename when all of it is there. Whatever ends
    //! the work before that, the next fetch goes on with what it can prove to be right.

    pub use crate::backup::fetch::{FetchOptions, FetchReport};
}

pub mod hook {
    //! Hooks: what a site wants done, or told, at moments of its runs, drills and backups.

    pub use crate::contract::{Hook, HookMoment, HookNotice, HookSubject};
    pub use crate::hooks::HookCalls;
    pub use crate::hooks::kinds::KINDS;
}

pub mod plan {
    //! Plans: what a restore would do, in order, with sizes, as a value.

    pub use crate::engine::plan::{
        EarlierRun, Expected, Phase, Plan, PlanRequest, PlannedComponent, PlannedSafety,
        PlannedService, Step,
    };
}

pub mod platform {
    //! What runs the services: the traits that a platform implements.

    pub use crate::contract::{
        ImageUser, Images, LoadedImage, NoTree, Nodes, Platform, PlatformLock, Program, RemoteTask,
        SecretFiles, ServiceState, StackPart, StackPlan, StackSource, Stacks, Steps, Volume,
    };
    pub use crate::model::Endpoint;
    pub use crate::swap::scope::{Compared, Discard, SwapScope, SwapState};
    pub use crate::sys::absent::AbsentDirectory;
    pub use crate::sys::process::command::{Command, Exit, Process, Scratch};
    pub use crate::sys::space::Space;

    pub mod agent {
        //! Volumes of other machines: a program of ours beside the volume does there what a
        //! [`LocalVolume`](super::local::LocalVolume) does here, asked over its standard input.
        //!
        //! One process answers one request ([`serve`]), so nothing has to be remembered: whatever a killed
        //! request did is found by looking, as after any other crash. Two requests never move or delete on
        //! a volume at the same time, also when the connection to the first was lost and it still works: the
        //! second waits. A component's remote task may take long; the component itself sees to it that what is
        //! left of one has ended before the next is done.

        pub use crate::platforms::docker::agent::{Launch, RemoteVolume, serve};
    }

    pub mod local {
        //! Services that are processes of this machine, volumes that are directories.
        //!
        //! A service is either a `command` that we supervise, or a `start`/`stop`/`status` triple.
        //!
        //! - A command runs in a process group of its own with its output appended to its log, and
        //!   outlives us. What we started is written to `STATE/services/NAME.pid` with its start, so a
        //!   recycled pid is never mistaken for it. A server that was started by other means is adopted
        //!   through its own `pid_file`, which we only ever read. Its environment is a clean one: `PATH`,
        //!   the language, the time zone, and its user's `HOME`.
        //! - A triple's commands run as ourselves; `user` then says whom the service runs as, for
        //!   programs that run in its context and for the owner of staged data.
        //!
        //! What runs is what is wanted: a process has no desired count apart from its being there, so
        //! that of a service is 1 while it runs and 0 while it does not.

        pub use crate::platforms::local::make;
        pub use crate::swap::{LocalVolume, StagingDir};
    }
}

pub mod report {
    //! Reports: what a run did, from its journal, as a value; `text` makes words of it.

    pub use crate::model::{ComponentReport, Failure, Kept, Made, Report, ServiceDown, StepTime};
}

pub mod run {
    //! Runs: one execution of a plan, with its journal, lock, undo and resumption.

    pub use crate::contract::{CutOver, FactStore, MemoryFacts, RunContext};
    pub use crate::engine::handle::{
        Begin, CallState, EventRecord, Events, Followed, PlanBuilder, ProgressUpdates, Run,
        RunProgress, WhichBackup,
    };
    pub use crate::engine::run::{Ask, Boundary, BoundaryHook, RunOptions};
    pub use crate::model::{Outcome, RunId, SafetyBackup};
}

pub mod store {
    //! Where backups are.

    pub use crate::backup::latest::latest;
    pub use crate::contract::{
        BackupFolder, BackupStore, OddEntry, PackedBackup, StoreReason, StoredFile,
    };
    pub use crate::model::read_error;
    #[cfg(feature = "object-store")]
    pub use crate::stores::bucket::{BucketConfig, BucketService, BucketStore, SignIn};
    pub use crate::stores::config::KINDS;
    pub use crate::stores::directory::DirectoryStore;
    pub use crate::stores::ssh::{SshConfig, SshStore};
}

pub mod stream {
    //! The data path: each artifact is read once, and hashed, decompressed and unpacked in that pass.

    pub use crate::archive::{
        Compression, Digest, Measured, Owners, PackPolicy, Packed, RefusedMember, Sink, SinkFile,
        Source, UnpackPolicy, Unpacked, Written, copy_verified, estimate_unpacked, hash_file,
        measure, pack, read_through, unpack, walk,
    };
}

pub mod wal {
    //! PostgreSQL's write-ahead log, as an archive keeps it: which segments there are, on which
    //! timelines, where some are missing, and which moments the records in them tell.
    //!
    //! Records are read here and not by `pg_waldump`, so that an archive can be asked on a host
    //! without a server, compressed or not. What is read has been the same since PostgreSQL 9.5:
    //! page headers, record headers, and the first bytes of commits and restore points.

    pub use crate::model::{Hole, Lsn, Recoverable};
}

/// The program of the repository's README, which is compiled with the examples here.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

pub use backup::{BackupReport, BackupRequest};
pub use engine::handle::{EventRecord, Run, RunProgress};
pub use engine::plan::{Plan, PlanRequest};
pub use engine::run::RunOptions;
pub use fetch::{FetchOptions, FetchReport};
pub use model::{
    Error, ErrorKind, Event, EventSink, Finding, Kept, NoEvents, Outcome, Progress, RecoveryPoint,
    RecoveryTarget, Report, Result, RunId, Severity, Timestamp,
};
pub use site::Site;
pub use sys::signals::stop_on_signals;
pub use tokio_util::sync::CancellationToken;
