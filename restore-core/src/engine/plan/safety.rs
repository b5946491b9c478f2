//! The safety backup in a plan: whether there is one, where it goes, and its room.

use super::preflight::Preflight;
use super::{PlannedComponent, PlannedSafety};
use crate::contract::{SharedComponent, SpaceNeed};
use crate::model::{Finding, MissingComponent};

/// What findings call it.
pub(super) const SAFETY: &str = "the safety backup";

impl Preflight<'_> {
    /// What is backed up before the run, and the room that it takes where that is known.
    pub(super) async fn look_at_safety(
        &mut self,
        components: &[PlannedComponent],
    ) -> (Option<PlannedSafety>, Option<SpaceNeed>) {
        if components.is_empty() {
            return (None, None);
        }
        let Some(store) = self.site.safety_store() else {
            return (None, None);
        };
        if self.request.no_safety_backup {
            self.findings.push(
                Finding::warning(
                    "safety.none",
                    SAFETY,
                    "none is made: until the run is confirmed, what it replaces is the only copy of the present data, on the same disk as the live data; after that there is none",
                )
                .hint("leave --no-safety-backup away where there is time and room for a copy"),
            );
            return (None, None);
        }
        let (name, store) = match self.site.store(Some(store)) {
            Ok(found) => found,
            Err(error) => {
                self.findings.push(Finding::from_error(SAFETY, &error));
                return (None, None);
            }
        };
        let live: Vec<SharedComponent> = components
            .iter()
            .filter_map(|component| self.site.component(&component.name).cloned())
            .collect();
        let (mut bytes, mut without) = (0_u64, Vec::new());
        for component in &live {
            match component.live_bytes().await {
                Ok(more) => bytes = bytes.saturating_add(more),
                Err(error) => without.push(MissingComponent::of(component.name(), &error)),
            }
        }
        self.tell_without(&without);
        let planned = PlannedSafety {
            store: name.to_owned(),
            place: store.describe(),
            bytes,
            without,
        };
        let need = match store.room().await {
            // It may shrink by being compressed, and may not: it must not fill the disk that the
            // platform lives on.
            Ok(space) => space.map(|space| SpaceNeed {
                space,
                bytes: planned.bytes,
                inodes: 64,
            }),
            Err(error) => {
                let hint = error.hint_text().unwrap_or("fix that").to_owned();
                let mut finding = Finding::from_error(SAFETY, &error);
                finding.hint = Some(format!(
                    "{hint}; or name another store as safety_store, or do without (--no-safety-backup)"
                ));
                self.findings.push(finding);
                None
            }
        };
        (Some(planned), need)
    }

    /// A platform of which something cannot be read is one that needs the restore most: said here,
    /// before whoever wants the restore agrees to it.
    fn tell_without(&mut self, without: &[MissingComponent]) {
        let each: Vec<String> = without
            .iter()
            .map(|missing| format!("{} ({})", missing.name, missing.reason))
            .collect();
        if !each.is_empty() {
            self.findings.push(
                Finding::warning(
                    "safety.without",
                    SAFETY,
                    format!("cannot hold what is live of {}", each.join(", ")),
                )
                .hint(
                    "whatever the run replaces is kept beside the live data until `restore confirm`; \
                     after that there is no copy of it",
                ),
            );
        }
    }
}
