//! Room: for the journal, and for what is staged beside the live data.

use std::collections::BTreeMap;

use super::safety::SAFETY;
use super::{PlannedComponent, Preflight};
use crate::contract::SpaceNeed;
use crate::model::Finding;
use crate::model::text::needed_and_had;
use crate::sys::space::Space;

/// Room that a run's journal, its reserve and its reports need.
const STATE_BYTES: u64 = 1024 * 1024;
const STATE_INODES: u64 = 16;

impl Preflight<'_> {
    /// A journal that cannot be written would be found out once a copy of everything is made, and an
    /// undo needs it most.
    pub(super) fn look_at_state(&mut self) {
        let state = self.site.state();
        let there = state.ancestors().find(|path| path.is_dir());
        let there = there.unwrap_or(std::path::Path::new("/"));
        let place = state.display().to_string();
        let space = match Space::of(there) {
            Ok(space) => space,
            Err(error) => {
                self.findings.push(Finding::from_error(place, &error));
                return;
            }
        };
        let hint = "the state directory holds the journal, without which no run is begun: make room \
                    there, or name another as `state` in [site]";
        let short = if space.read_only {
            Some("cannot be written: its file system is read-only".to_owned())
        } else if space.free_bytes < STATE_BYTES {
            let (needed, had) = needed_and_had(STATE_BYTES, space.free_bytes);
            Some(format!(
                "{} needs {needed} for a journal, has {had}",
                space.shown()
            ))
        } else if space.free_inodes < STATE_INODES {
            Some(format!(
                "{} needs room for {STATE_INODES} more files, has it for {}",
                space.shown(),
                space.free_inodes
            ))
        } else {
            None
        };
        if let Some(message) = short {
            self.findings
                .push(Finding::error("state.no_room", place, message).hint(hint));
        }
    }

    /// Needs on the same file system are added up.
    pub(super) fn look_at_space(
        &mut self,
        components: &[PlannedComponent],
        safety: Option<&SpaceNeed>,
    ) {
        let mut needs: BTreeMap<String, (Space, u64, u64, Vec<&str>)> = BTreeMap::new();
        let of_components = components.iter().flat_map(|component| {
            let needs = component.inspection.needs.iter();
            needs.map(|need| (component.name.as_str(), need))
        });
        let of_safety = safety.map(|need| (SAFETY, need));
        let mut read_only = Vec::new();
        for (name, need) in of_components.chain(of_safety) {
            if need.space.read_only {
                read_only.push(
                    Finding::error(
                        "space.read_only",
                        name,
                        "its file system is read-only here, so that nothing can be staged beside the live data",
                    )
                    .hint("mount it for writing, or leave the component out with --only"),
                );
            }
            let sum = needs
                .entry(need.space.file_system.clone())
                .or_insert_with(|| (need.space.clone(), 0, 0, Vec::new()));
            sum.1 = sum.1.saturating_add(need.bytes);
            sum.2 = sum.2.saturating_add(need.inodes);
            sum.3.push(name);
        }
        self.findings.extend(read_only);
        for (space, bytes, inodes, names) in needs.into_values() {
            let what = names.join(", ");
            let place = space.shown();
            let without = match names.contains(&SAFETY) {
                true => ", or do without the safety backup (--no-safety-backup)",
                false => "",
            };
            if bytes > space.free_bytes {
                let (needed, had) = needed_and_had(bytes, space.free_bytes);
                self.findings.push(
                    Finding::error(
                        "space.short",
                        what.as_str(),
                        format!("{place} needs {needed}, has {had}"),
                    )
                    .hint(format!("free room there, confirm earlier runs, or restore fewer components at a time with --only{without}")),
                );
            }
            if inodes > space.free_inodes {
                self.findings.push(Finding::error(
                    "space.inodes",
                    what,
                    format!(
                        "{place} needs room for {inodes} more files, has it for {}",
                        space.free_inodes
                    ),
                )
                .hint("delete files there, confirm earlier runs, or restore fewer components at a time with --only"));
            }
        }
    }
}
