//! A database that is restored beside the live one under a name of its own, and left there.

use super::Postgres;
use super::client::Session;
use super::database::Database;
use super::inspect::Inspect;
use super::names::LONGEST;
use super::tables;
use crate::contract::RunContext;
use crate::model::{Error, ErrorKind, Finding, Result};

const ANOTHER: &str = "choose another name; what has this one is not touched";

/// Nothing that exists is replaced by what is left beside it.
pub(super) fn name_taken(pg: &Postgres, name: &str) -> Error {
    Error::new(
        ErrorKind::Preflight,
        "postgres.name_taken",
        format!(
            "there is a database {name} on {} already",
            pg.config.service
        ),
    )
    .hint(ANOTHER)
}

/// What a person reads in `psql -l+` of what a run has left beside the live database.
pub(super) fn whose(pg: &Postgres, cx: &RunContext) -> String {
    format!(
        "restored from backup {} by restore run {}, beside {}",
        cx.backup().id(),
        cx.run(),
        pg.config.database
    )
}

impl Postgres {
    /// What is left beside what is live.
    pub(super) fn beside_words(&self, cx: &RunContext) -> Option<String> {
        match cx.tables() {
            [] => cx.restore_as().map(|_| self.database_words(cx)),
            tables => Some(tables::words(tables)),
        }
    }

    /// What a run replaces or makes, for its plan.
    pub(super) fn summary(&self, cx: &RunContext) -> String {
        let words = self.database_words(cx);
        if !cx.tables().is_empty() {
            let what = self.beside_words(cx).unwrap_or_default();
            return format!("{what} of {words}, beside the live ones, which are not touched");
        }
        match cx.restore_as() {
            Some(_) => format!(
                "{words}, beside database {}, which is not touched",
                self.config.database
            ),
            None => words,
        }
    }
}

impl Inspect<'_> {
    /// Tables are left beside the live ones in the live database.
    pub(super) fn database_there(&mut self, there: bool) {
        if !there {
            let message = format!(
                "there is no {} to restore tables into",
                self.pg.database_words(self.cx)
            );
            self.refuse(
                "postgres.no_database",
                message,
                "--as NAME restores the whole database under a name of its own",
            );
        }
    }

    /// Whether there can be a database of this name, and is none yet.
    pub(super) async fn name_beside(&mut self, session: &Session, name: &str) -> Result<()> {
        if name.is_empty() || name.len() > LONGEST || name.contains('\0') {
            self.refuse(
                "postgres.bad_name",
                format!("no database can have the name {name:?}: names have 1 to {LONGEST} bytes"),
                "choose another name",
            );
        } else if Database::find(session, name).await?.is_some() {
            let taken = name_taken(self.pg, name);
            self.out
                .findings
                .push(Finding::from_error(&self.pg.name, &taken));
        }
        Ok(())
    }
}
