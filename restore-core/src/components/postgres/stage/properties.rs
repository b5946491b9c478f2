//! The properties of the database itself: those of the live one, or else of the dump.

use serde_json::json;

use super::super::client::{SessionError, column};
use super::super::database::{Database, label_sql};
use super::super::names::ident;
use super::super::script::Script;
use super::super::swap::Found;
use super::{COMMENT, OWN_SETTINGS, Stage};
use crate::model::{Finding, Result};

impl Stage<'_> {
    /// Which locale the staged database has, of which the dump says nothing.
    async fn locale(&self) -> String {
        let sql = "SELECT datctype::text FROM pg_database WHERE datname = $1::text::name";
        let rows = self.session.try_rows(sql, &[&self.names.staged]).await;
        let locale = rows
            .ok()
            .and_then(|rows| column::<String>(rows.first()?, 0).ok());
        locale
            .map(|locale| format!(", nor its locale (it has {locale})"))
            .unwrap_or_default()
    }

    /// Where there is no live database its properties are the dump's. What of them cannot be had is told.
    pub(super) async fn take_over(
        &self,
        script: &Script,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let (properties, name) = (&script.properties, &self.names.live);
        let user = &self.pg.config.user;
        if properties.is_empty() {
            // Upper case, order and unique indexes of text follow from it.
            let locale = match script.create.is_empty() {
                true => self.locale().await,
                false => String::new(),
            };
            findings.push(
                Finding::warning(
                    "postgres.properties_unknown",
                    &self.pg.name,
                    format!("database {name} did not exist, and the dump does not say its owner, settings and privileges{locale}: it belongs to {user}, with the server's defaults"),
                )
                .hint("set them by hand (ALTER DATABASE … OWNER TO …; a locale only CREATE DATABASE sets), or restore from a custom dump"),
            );
            return Ok(());
        }
        let staged = ident(&self.names.staged);
        let mut failed: Vec<String> = Vec::new();
        if let Some(owner) = properties.owner.as_ref().filter(|owner| *owner != user) {
            let sql = format!("ALTER DATABASE {staged} OWNER TO {}", ident(owner));
            if let Err(error) = self.session.run(&sql).await {
                failed.push(format!("its owner {owner}: {error}"));
            }
        }
        for (grantor, before, after) in &properties.statements {
            let mut sql = format!("{before}{staged}{after}");
            let what = format!("{before}{name}{after}");
            if let Some(grantor) = grantor {
                sql = format!("BEGIN; SET LOCAL ROLE {}; {sql}; COMMIT", ident(grantor));
            }
            if let Err(error) = self.session.run(&sql).await {
                self.session.run("ROLLBACK").await?;
                // Values may be secrets.
                let what = what.split(" TO ").next().unwrap_or_default();
                failed.push(format!("`{what} …`: {error}"));
            }
        }
        if properties.unread {
            failed.push("a setting or comment over several lines".to_owned());
        }
        self.cx.record(COMMENT, json!(properties.comment)).await?;
        findings.push(Finding::info(
            "postgres.properties_of_dump",
            &self.pg.name,
            format!(
                "database {name} did not exist: its owner ({}), settings and privileges are those of the dump",
                properties.owner.as_deref().unwrap_or(user)
            ),
        ));
        if !failed.is_empty() {
            findings.push(
                Finding::warning(
                    "postgres.properties_lost",
                    &self.pg.name,
                    format!(
                        "of the properties of database {name} in the dump these could not be had: {}",
                        failed.join("; ")
                    ),
                )
                .hint("set them by hand; `pg_restore --create --schema-only --file=-` of the dump shows them"),
            );
        }
        Ok(())
    }

    /// Already here, and not only at the cut-over, so that what the user may not do is found
    /// while users are still served.
    pub(super) async fn carry_over(
        &self,
        script: &Script,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let found = Found::look(&self.session, &self.names).await?;
        let live = Database::find(&self.session, &self.pg.config.database).await?;
        let (Some(live), Some(staged)) = (live, found.staged) else {
            return Ok(());
        };
        self.give(&live, &staged).await?;
        self.label(&live, findings).await?;
        // Nobody gets into a live database with settings that cannot be had: the restored one is
        // to be used.
        let error = match self.pg.session(&self.names.staged).await {
            Ok(session) => {
                session.close().await;
                return Ok(());
            }
            Err(error) if error.is(&SessionError::Broken) || error.is(&SessionError::Refused) => {
                error
            }
            Err(error) => return Err(error),
        };
        let settings = live.setting_names().join(", ");
        if settings.is_empty() {
            return Err(error);
        }
        let found = Found::look(&self.session, &self.names).await?;
        let given = found.staged.unwrap_or_else(|| staged.clone());
        self.give(&live.clone().with_settings_of(&staged), &given)
            .await?;
        self.cx.record(OWN_SETTINGS, json!(true)).await?;
        let name = ident(&self.names.staged);
        let mut lost = Vec::new();
        for (_, before, after) in &script.properties.statements {
            if !after.trim_start().starts_with("SET ") {
                continue;
            }
            if let Err(error) = self.session.run(&format!("{before}{name}{after}")).await {
                // Values may be secrets.
                let what = after.split(" TO ").next().unwrap_or_default();
                lost.push(format!("`{} …`: {error}", what.trim()));
            }
        }
        let of_dump = match script.properties.is_empty() {
            true => "none, and the dump tells of none".to_owned(),
            false if lost.is_empty() => "those of the dump".to_owned(),
            false => format!("those of the dump but {}", lost.join("; ")),
        };
        findings.push(
            Finding::warning(
                "postgres.settings_left",
                &self.pg.name,
                format!(
                    "nobody gets into a database with the settings of the live {} ({settings}): {}; the restored one has {of_dump}",
                    live.name,
                    error.message()
                ),
            )
            .hint("ALTER DATABASE … SET sets what is missing"),
        );
        Ok(())
    }

    /// Whether nobody gets into the live database, as far as that can be asked.
    pub(super) async fn is_shut_out(&self) -> bool {
        match self.pg.session(&self.pg.config.database).await {
            Ok(session) => {
                session.close().await;
                false
            }
            Err(_) => true,
        }
    }

    /// Gives the staged database the security labels of the live one, which keeps its own when it is replaced. What is
    /// refused is told: the module that reads a label may be gone.
    async fn label(&self, live: &Database, findings: &mut Vec<Finding>) -> Result<()> {
        let mut failed: Vec<String> = Vec::new();
        for (provider, label) in live.labels(&self.session).await? {
            let sql = label_sql(&self.names.staged, &provider, &label);
            if let Err(error) = self.session.run(&sql).await {
                failed.push(format!("that of {provider}: {error}"));
            }
        }
        if !failed.is_empty() {
            findings.push(
                Finding::warning(
                    "postgres.properties_lost",
                    &self.pg.name,
                    format!(
                        "of the security labels of database {} the restored one cannot have these: {}",
                        live.name,
                        failed.join("; ")
                    ),
                )
                .hint("load what provides them (`shared_preload_libraries`), or set them by hand: SECURITY LABEL … ON DATABASE"),
            );
        }
        Ok(())
    }

    /// Gives one database the properties of another.
    async fn give(&self, live: &Database, staged: &Database) -> Result<()> {
        let sql = live.carry_over(staged);
        if sql.is_empty() {
            return Ok(());
        }
        self.session
            .run(&format!("BEGIN; {}; COMMIT", sql.join("; ")))
            .await
            .map_err(|e| {
                e.context(format!(
                    "cannot give the restored database the settings and privileges of {}",
                    live.name
                ))
                .hint("let the component connect as a superuser, or as the owner of the database")
            })
    }
}
