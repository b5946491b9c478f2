//! The words of this library as values: ids, times, targets, errors, findings, events, reports.
//!
//! Nothing here touches the machine, and nothing here imports another layer.

pub(crate) mod backup_file;
pub(crate) mod backup_id;
pub(crate) mod backup_report;
pub(crate) mod check_outcome;
pub(crate) mod difference;
pub(crate) mod endpoint;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod finding;
pub(crate) mod glob;
pub(crate) mod lsn;
pub(crate) mod maintenance_file;
pub(crate) mod member;
pub(crate) mod outcome;
pub(crate) mod recoverable;
pub(crate) mod report;
pub(crate) mod run_id;
pub(crate) mod safety_backup;
pub(crate) mod step_id;
pub(crate) mod target;
pub(crate) mod text;
pub(crate) mod time;

pub use backup_file::BackupFile;
pub use backup_id::BackupId;
pub use backup_report::{BackedUpComponent, BackupReport, MissingComponent, NeverBackedUp};
pub use check_outcome::CheckOutcome;
pub use difference::{Changes, Difference};
pub use endpoint::Endpoint;
pub use error::{Error, ErrorKind, Result, read_error};
pub use event::{Event, EventSink, NoEvents, Progress};
pub use finding::{Finding, Severity};
pub use lsn::Lsn;
pub use maintenance_file::FILE_NAME;
pub use member::{BackupMember, MemberKind};
pub use outcome::Outcome;
pub use recoverable::{Hole, Recoverable};
pub use report::{ComponentReport, Failure, Kept, Made, Report, ServiceDown, StepTime};
pub use run_id::RunId;
pub use safety_backup::SafetyBackup;
pub use target::{RecoveryPoint, RecoveryTarget};
pub use time::Timestamp;
