//! The traits that components, platforms, stores, checks, hooks and maintenance modes implement, with the
//! values that pass through them, and the registry of their kinds.
//!
//! A part of an embedder's own needs nothing but this layer and those above it. No implementation
//! is here.

pub(crate) mod backup;
pub(crate) mod backup_folder;
pub(crate) mod check;
pub(crate) mod component;
pub(crate) mod config;
pub(crate) mod contents;
pub(crate) mod guard;
pub(crate) mod hook;
pub(crate) mod images;
pub(crate) mod maintenance;
pub(crate) mod nodes;
pub(crate) mod platform;
pub(crate) mod program;
pub(crate) mod registry;
pub(crate) mod remote_task;
pub(crate) mod run_context;
pub(crate) mod secret_files;
pub(crate) mod service_state;
pub(crate) mod stacks;
pub(crate) mod store;
pub(crate) mod volume;

pub use backup::{
    Artifact, Backup, BackupWriter, Generation, Manifest, ManifestEntry, ManifestSize,
    expand_pattern,
};
pub use backup_folder::BackupFolder;
pub use check::{Check, RetryMode, When};
pub use component::{
    BackedUp, Component, Create, Inspection, KeptByRun, Needed, Prerequisite, Recovery,
    SharedComponent, SpaceNeed, Staged, Target,
};
pub use config::{
    ConfigDuration, SecretSource, SiteConfig, SiteSection, Table, forget_secret, keep_secret,
    parse_section,
};
pub use contents::{Contents, DumpedTable};
pub(crate) use guard::StopGuard;
pub use hook::{Hook, HookMoment, HookNotice, HookSubject};
pub use images::{ImageUser, Images, LoadedImage};
pub use maintenance::{Maintenance, Readiness};
pub use nodes::{NoTree, Nodes};
pub use platform::{Platform, PlatformLock};
pub use program::Program;
pub use registry::{
    CheckFactory, ComponentDeps, ComponentFactory, HookFactory, MaintenanceFactory,
    PlatformFactory, Registry, StoreFactory,
};
pub use remote_task::{RemoteTask, Steps};
pub use run_context::{CutOver, FactStore, MemoryFacts, RunContext};
pub(crate) use run_context::{MADE, NeedsAWord, REMOVED};
pub use secret_files::SecretFiles;
pub use service_state::ServiceState;
pub use stacks::{StackPart, StackPlan, StackSource, Stacks};
pub use store::{BackupStore, OddEntry, PackedBackup, StoreReason, StoredFile};
pub use volume::Volume;
