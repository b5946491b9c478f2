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
//! use restore_core::{Outcome, PlanRequest, RunOptions, Site};
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
//! let backup = site.backup("latest").await?;
//!
//! // A value: print it, save it, compare it. Nothing has been touched.
//! let plan = site.plan(&backup, PlanRequest::all(), &RunOptions::new()).await?;
//! for finding in &plan.findings {
//!     eprintln!("{}: {}", finding.subject, finding.message);
//! }
//!
//! // `Err`: nothing was touched. `Ok`: the run has ended, restored or as it was before.
//! let report = site.run(plan, RunOptions::new()).await?;
//! assert_eq!(report.outcome, Outcome::Restored);
//! println!("{}", report.to_text());
//!
//! // The replaced data is kept: swap it back, or delete it.
//! let report = site.rollback(Some(report.run), RunOptions::new()).await?;
//! site.confirm(Some(report.run), RunOptions::new()).await?;
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
//! - **Restore from a program of your own:** [`Site`]. [`RunOptions`] takes an [`EventSink`] to
//!   watch a run and a [`CancellationToken`] to stop it; a cancelled run undoes itself, a dropped
//!   future leaves the run to [`Site::resume`] or [`Site::rollback`]. An [`Error`] has a
//!   [kind](Error::kind), a stable [code](Error::code) and a [hint](Error::hint_text).
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
//! - **Add a check or another maintenance mode:** [`check::Check`] and
//!   [`maintenance::Maintenance`] are the traits; a site makes those of its configuration.
//!
//! Whatever you add, the suites of the feature `conformance` try whether it keeps its contract, the
//! way they try the library's own; what a killed *run* comes to is shown by a
//! [`RunOptions::boundary`], at which a test may stop one.
//!
//! The repository has whole programs, tried by its tests: in `examples/examples` the smallest
//! restore, events into a web page or a chat message, a service that restores and can be stopped, a
//! nightly verification; in `examples/src` a component and a store of one's own; in
//! `restore-core/examples` a run that is killed at each boundary.
//!
//! # What it asks of a program
//!
//! The library never prints, reads no arguments, and keeps no global state. Work on files is done
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

pub mod backup;
pub mod check;
pub mod component;
pub mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod fetch;
pub mod maintenance;
pub mod plan;
pub mod platform;
pub mod report;
pub mod run;
pub mod site;
pub mod store;
pub mod stream;
pub mod wal;

mod error;
mod event;
mod finding;
mod target;
mod time;
mod unlock;

pub use backup::{BackupReport, BackupRequest};
pub use error::{Error, ErrorKind, Result};
pub use event::{Event, EventSink, NoEvents, Progress};
pub use fetch::{FetchOptions, FetchReport};
pub use finding::{Finding, Severity};
pub use plan::{Plan, PlanRequest};
pub use report::Report;
pub use run::{Outcome, RunId, RunOptions};
pub use site::Site;
pub use target::{RecoveryPoint, RecoveryTarget};
pub use time::Timestamp;
pub use tokio_util::sync::CancellationToken;
