//! From `restore.toml` to a site: the only layer that sees all others.

mod config_check;
pub mod init;
pub(crate) mod open;

pub use self::config_check::{ConfigCheck, ConfigFinding};
pub use crate::engine::operations::{
    BackupKind, BackupListing, ComponentDifference, FoundData, GetReport, GetRequest, Gotten,
    KeptData, LastDrill, ListedBackup, MembersReport, MembersRequest, NewestBackup, ProvenBackup,
    Room, Site, SiteDifference, SiteStatus, StoreStatus, UnfinishedRun,
};
