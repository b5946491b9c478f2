//! What a dump may not do, and the roles that it needs.

use super::super::client::column;
use super::super::config::MissingRoles;
use super::super::names::ident;
use super::super::roles::Unusable;
use super::super::script::Script;
use super::Stage;
use crate::model::{Error, ErrorKind, Finding, Result, Severity};

impl Stage<'_> {
    /// Roles of the dump that cannot be used here, once those are created that the site wants to be.
    pub(super) async fn roles(
        &self,
        script: &Script,
        findings: &mut Vec<Finding>,
    ) -> Result<Unusable> {
        if self.pg.creates_roles(self.cx) {
            let wanted = (script, self.live.is_some());
            let created = self.pg.create_roles(&self.session, self.cx, wanted).await;
            let ignored = self.pg.config.missing_roles == MissingRoles::Ignore;
            match created {
                Ok(told) => findings.extend(told),
                Err(error) if error.kind() == ErrorKind::Interrupted || !ignored => {
                    return Err(error);
                }
                Err(error) => {
                    findings.push(self.pg.not_created(&error));
                    self.pg.forget_uncreated(&self.session, self.cx).await?;
                }
            }
        }
        self.pg.unusable_roles(&self.session, script).await
    }

    /// What the plan would have refused and told, where it could not read the dump. What would take the
    /// place of live rows without any of its own is refused in any case.
    pub(super) async fn guard(
        &self,
        script: &Script,
        unknown: &[String],
        known: bool,
    ) -> Result<Vec<Finding>> {
        let mut findings = self.pg.losses(self.cx, script).await;
        let stops = |it: &&Finding| it.severity == Severity::Error;
        if let Some(found) = findings.iter().find(stops) {
            let error = Error::new(
                ErrorKind::Preflight,
                found.code.clone(),
                found.message.clone(),
            );
            return Err(error.hint(found.hint.clone().unwrap_or_default()));
        }
        findings.extend(self.pg.notes(script, unknown));
        if known {
            // What a run goes on with only after a yes is asked of what was staged.
            findings.retain(|it| it.asks);
        }
        Ok(findings)
    }

    /// Who makes the objects of an SQL dump that names no owners: the database's owner, whose application uses them. Only
    /// where it makes extensions that may not be that one's to make does everything stay ours, and is told.
    pub(super) async fn owner_of_sql(
        &self,
        script: &Script,
        label: &str,
    ) -> Result<(Option<String>, Vec<Finding>)> {
        let (owner, user) = (self.owner().to_owned(), &self.pg.config.user);
        if owner == *user || !script.owners.is_empty() || script.objects.is_empty() {
            return Ok((None, Vec::new()));
        }
        let row = self
            .session
            .one(
                "SELECT pg_has_role(current_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = $1",
                &[&owner],
            )
            .await?;
        let nothing = script.extensions.is_empty();
        if nothing && column::<bool>(&row, 0)? {
            let finding = Finding::info(
                "postgres.owner_chosen",
                &self.pg.name,
                format!(
                    "{label} names no owners: everything belongs to {owner}, the database's owner"
                ),
            );
            return Ok((
                Some(format!("--command=SET ROLE {}", ident(&owner))),
                vec![finding],
            ));
        }
        let finding = Finding::warning(
            "postgres.without_owners",
            &self.pg.name,
            format!("{label} names no owners, and everything in it belongs to {user}: {owner}, the database's owner, may be locked out"),
        )
        .hint("name what it may do in `grants` of the component, or make dumps with owners (pg_dump without --no-owner)");
        Ok((None, vec![finding]))
    }

    pub(super) fn owner(&self) -> &str {
        self.live
            .as_ref()
            .map_or(&self.pg.config.user, |live| &live.owner)
    }
}
