//! Backups: ids, files, manifests, the layouts of both generations, verification; and making them.
//!
//! Here is what is done with a backup of a store, whatever the store: which is the newest, whether it
//! is whole, what may be deleted, how it is fetched, decrypted and signed.

pub(crate) mod deep;
pub(crate) mod fetch;
pub(crate) mod latest;
pub(crate) mod prune;
pub(crate) mod remote;
pub(crate) mod request;
pub(crate) mod summary;
pub(crate) mod unlock;
pub(crate) mod verification;
pub(crate) mod verify;

pub use self::prune::{PrunePlan, PruneRequest, Pruned};
pub use self::request::BackupRequest;
pub use self::summary::BackupSummary;
pub use self::verification::{FileStatus, ManifestIssue, Verdict, Verification};
pub use self::verify::VerifyOptions;
pub use crate::contract::{
    Artifact, Backup, BackupWriter, Generation, Manifest, ManifestEntry, ManifestSize,
    expand_pattern,
};
pub use crate::model::{
    BackedUpComponent, BackupFile, BackupId, BackupMember, BackupReport, MemberKind,
    MissingComponent,
};
