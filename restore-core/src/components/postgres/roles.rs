//! Roles that a dump names and that cannot be used here.

use super::client::{Session, column};
use super::script::Script;
use crate::model::{Error, ErrorKind, Result};

/// Roles that stand in the way of a restore with owners and privileges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unusable {
    /// Named by the dump, not on the server.
    pub(super) missing: Vec<String>,
    /// Owners in the dump, whose objects the connecting user cannot give to them.
    pub(super) foreign: Vec<String>,
    /// Of the missing, those that policies or user mappings name: no dump is restored without them.
    pub(super) named: Vec<String>,
}

impl Unusable {
    pub(super) async fn find(session: &Session, script: &Script) -> Result<Self> {
        // Only these: other names need not be text in any encoding.
        let asked: Vec<&String> = script.roles.union(&script.named).collect();
        let rows = session
            .rows(
                "SELECT rolname::text, pg_has_role(current_user, oid, 'MEMBER') FROM pg_roles \
                 WHERE rolname = ANY($1::text[]::name[])",
                &[&asked],
            )
            .await?;
        let mut known = std::collections::BTreeMap::new();
        for row in &rows {
            known.insert(column::<String>(row, 0)?, column::<bool>(row, 1)?);
        }
        Ok(Self {
            named: script
                .named
                .iter()
                .filter(|role| !known.contains_key(*role))
                .cloned()
                .collect(),
            missing: script
                .roles
                .iter()
                .filter(|role| !known.contains_key(*role))
                .cloned()
                .collect(),
            foreign: script
                .owners
                .iter()
                // Membership of the server's own roles depends on the database.
                .filter(|role| !role.starts_with("pg_") && known.get(*role) == Some(&false))
                .cloned()
                .collect(),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.foreign.is_empty()
    }

    pub(super) fn describe(&self) -> String {
        let mut parts = Vec::new();
        if !self.named.is_empty() {
            parts.push(format!(
                "policies or user mappings of the dump name roles that the server lacks, without which it cannot be restored ({})",
                self.named.join(", ")
            ));
        }
        if !self.missing.is_empty() {
            parts.push(format!(
                "the dump names roles that the server lacks ({})",
                self.missing.join(", ")
            ));
        }
        if !self.foreign.is_empty() {
            parts.push(format!(
                "the dump has objects of roles that the user is no member of ({})",
                self.foreign.join(", ")
            ));
        }
        parts.join("; ")
    }

    pub(super) const HINT: &str = "create the roles by hand, or have them made from the backup's globals file (`restore run ID --create`, or roles = \"create\"); or let the component connect as a superuser; or set missing_roles = \"ignore\" to restore a custom dump without owners and privileges";

    pub(super) fn code(&self) -> &'static str {
        if self.missing.is_empty() {
            "postgres.foreign_roles"
        } else {
            "postgres.missing_roles"
        }
    }

    pub(super) fn as_error(&self, label: &str) -> Error {
        Error::new(
            ErrorKind::Preflight,
            self.code(),
            format!("{label}: {}", self.describe()),
        )
        .hint(self.hint())
    }

    pub(super) fn hint(&self) -> &'static str {
        match self.named.is_empty() {
            true => Self::HINT,
            false => {
                "create the roles by hand, or have them made from the backup's globals file (`restore run ID --create`, or roles = \"create\")"
            }
        }
    }
}
