//! What `pg_controldata` says of a data directory.

use std::collections::BTreeMap;
use std::path::Path;

use super::programs::Programs;
use crate::model::{Error, ErrorKind, Result};

/// What `pg_controldata` says of a data directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Control(BTreeMap<String, String>);

impl Control {
    /// Reads that of the data directory which the service's programs see at `dir`.
    pub(super) async fn read(programs: &Programs<'_>, dir: &Path) -> Result<Self> {
        let dir = dir.to_string_lossy().into_owned();
        let (text, exit) = programs.output("pg_controldata", &["-D", &dir]).await?;
        if !exit.success() {
            return Err(Error::new(
                ErrorKind::Failed,
                "cluster.no_control",
                format!(
                    "pg_controldata cannot read {dir}: {}",
                    exit.stderr
                        .trim()
                        .lines()
                        .last()
                        .unwrap_or("it printed nothing")
                ),
            )
            .hint("it is no PostgreSQL data directory, or damaged"));
        }
        // It prints what it takes garbage for, and says so in its output or, since version 17, beside it.
        let untrue = |said: &str| said.contains("CRC checksum does not match");
        if untrue(&text) || untrue(&exit.stderr) {
            return Err(Error::new(
                ErrorKind::Failed,
                "cluster.no_control",
                format!("the control file of {dir} is damaged: its checksum does not hold"),
            )
            .hint("what it says cannot be believed: restore the cluster from a base backup"));
        }
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let pair = |line: &str| {
            let (key, value) = line.split_once(':')?;
            Some((key.trim().to_owned(), value.trim().to_owned()))
        };
        Self(text.lines().filter_map(pair).collect())
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// What makes a cluster and its copies one.
    pub(super) fn system(&self) -> Option<&str> {
        self.text("Database system identifier")
    }

    pub(super) fn timeline(&self) -> Option<u32> {
        self.text("Latest checkpoint's TimeLineID")?.parse().ok()
    }

    /// Whether the server over it ended as it should.
    pub(super) fn is_shut_down(&self) -> bool {
        self.text("Database cluster state") == Some("shut down")
    }

    /// The settings without which what is in the log cannot be replayed, or is lost.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let settings = [
            "max_connections",
            "max_worker_processes",
            "max_wal_senders",
            "max_prepared_xacts",
            "max_locks_per_xact",
            "wal_level",
            "track_commit_timestamp",
        ];
        settings
            .into_iter()
            .filter_map(|name| {
                let value = self.text(&format!("{name} setting"))?.to_owned();
                let name = match name {
                    "max_prepared_xacts" => "max_prepared_transactions",
                    "max_locks_per_xact" => "max_locks_per_transaction",
                    name => name,
                };
                Some((name, value))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_lines_are_read() {
        let control = Control::parse(
            "pg_control version number:            1300\n\
             Database system identifier:           7301\n\
             Database cluster state:               shut down\n\
             Latest checkpoint location:           0/2000060\n\
             Latest checkpoint's TimeLineID:       3\n\
             max_prepared_xacts setting:           5\n",
        );
        assert_eq!(control.system(), Some("7301"));
        assert_eq!(control.timeline(), Some(3));
        assert!(control.is_shut_down());
        assert_eq!(
            control.settings(),
            [("max_prepared_transactions", "5".to_owned())]
        );
    }
}
