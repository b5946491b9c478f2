//! The name of the file that a maintenance mode adds to a web server's configuration.

/// The configuration file that turns users away. Files of this name are never replaced by a
/// restored tree and never restored from a backup.
pub const FILE_NAME: &str = "00-restore-maintenance.conf";
