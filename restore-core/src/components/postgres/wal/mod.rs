//! PostgreSQL's write-ahead log, as an archive keeps it: which segments there are, on which
//! timelines, where some are missing, and which moments the records in them tell.
//!
//! Records are read here and not by `pg_waldump`, so that an archive can be asked on a host
//! without a server, compressed or not. What is read has been the same since PostgreSQL 9.5:
//! page headers, record headers, and the first bytes of commits and restore points.

mod archive;
mod chain;
mod history;
mod name;
mod records;
mod remote_archive;
mod search;
mod source;

pub(crate) use archive::{Archive, ArchivedFile, Packing};
pub(crate) use chain::{BaseBackupRange, Chain};
pub(crate) use history::{Ancestors, parse as parse_history};

pub(crate) use name::{SegmentName, segment_of};
#[cfg(feature = "fuzzing")]
pub(crate) use records::fuzz;

pub(crate) use remote_archive::{RemoteWalArchive, RetryPolicy};
pub(crate) use search::{End, ReplayEstimate, Search};
pub(crate) use source::WalSource;
