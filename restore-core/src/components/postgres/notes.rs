//! What a plan says of a dump that is restored in another way than it was written.

use super::Postgres;
use super::script::{SUBSCRIPTION, Script};
use crate::model::Finding;

impl Postgres {
    /// What of the dump is not restored as it stands; `settings` are unknown to the server.
    pub(super) fn notes(&self, script: &Script, settings: &[String]) -> Vec<Finding> {
        let info = |code: &str, message: String| Finding::info(code, &self.name, message);
        let mut notes = Vec::new();
        let database = &self.config.database;
        let taken = script.taken_from.as_ref();
        let named = taken.unwrap_or(&self.config.dumped_as);
        if script.databases.len() > 1 {
            let others: Vec<&str> = script
                .databases
                .iter()
                .filter(|other| *other != named)
                .map(String::as_str)
                .collect();
            notes.push(info(
                "postgres.one_of_several",
                format!(
                    "of the dump only database {named} is restored, and not {}",
                    others.join(", ")
                ),
            ));
        }
        if (!script.databases.is_empty() || taken.is_some()) && named != database {
            notes.push(info(
                "postgres.other_name",
                format!("the dump is of a database {named}; it is restored as {database}"),
            ));
        }
        if !settings.is_empty() {
            notes.push(info(
                "postgres.settings_left_out",
                format!(
                    "the dump was made by a newer pg_dump: settings that the server does not know are left out ({})",
                    settings.join(", ")
                ),
            ));
        }
        if script.returns {
            notes.push(info(
                "postgres.line_ends",
                "each line of the dump ends with a carriage return, as what came through a terminal (docker exec -t): these are left out".to_owned(),
            ));
        }
        if !script.skipped.is_empty() {
            let mut named: Vec<&str> = script
                .skipped
                .iter()
                .map(|(_, entry)| entry.as_str())
                .collect();
            let more = match named.len().saturating_sub(10) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            named.truncate(10);
            notes.push(info(
                "postgres.skipped",
                format!(
                    "left out of the dump, as `skip` says: {}{more}",
                    named.join(", ")
                ),
            ));
        }
        if !script.subscriptions.is_empty() {
            let named = script.subscriptions.iter().take(10);
            let named: Vec<&str> = named
                .map(|entry| entry.strip_prefix(SUBSCRIPTION).unwrap_or(entry))
                .map(|name| name.strip_prefix("- ").unwrap_or(name))
                .collect();
            let more = match script.subscriptions.len().saturating_sub(named.len()) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            notes.push(
                Finding::warning(
                    "postgres.subscriptions_left_out",
                    &self.name,
                    format!(
                        "subscriptions of the dump are not restored, as they would take the slots of the live ones: {}{more}",
                        named.join(", ")
                    ),
                )
                .hint("CREATE SUBSCRIPTION them anew in the restored database, where they are wanted"),
            );
        }
        for (at, pattern) in self.config.skip.iter().enumerate() {
            if script.skipped.iter().all(|(by, _)| *by != at) {
                notes.push(
                    Finding::warning(
                        "postgres.nothing_to_skip",
                        &self.name,
                        format!("skip: the dump has no entry {pattern:?}"),
                    )
                    .hint("`pg_restore --list` of the dump shows its entries: KIND SCHEMA NAME, with - where there is no schema"),
                );
            }
        }
        notes
    }
}
