//! What speaks against the backup: what is missing, damaged, or cannot be verified.

use std::collections::BTreeSet;

use super::{PlannedComponent, Preflight};
use crate::backup::verification::{FileStatus, Verification};
use crate::contract::backup::DESCRIPTION;
use crate::contract::{Generation, Manifest, Recovery, SharedComponent};
use crate::model::text::shown;
use crate::model::{ErrorKind, Finding, Severity};

impl Preflight<'_> {
    /// Whether the folder is whole as far as a listing tells: hashes are compared while staging,
    /// in the one pass that reads the data.
    pub(super) async fn look_at_backup(&mut self, selected: &[(SharedComponent, Vec<String>)]) {
        let id = self.backup.id().to_string();
        if self.backup.generation() == Generation::Unfinished {
            let manifest = self.backup.local_path(Manifest::FILE_NAME);
            let message = match manifest.is_some_and(|it| it.symlink_metadata().is_ok()) {
                true => {
                    "the backup's MANIFEST.txt is not a whole one, or lists no file that is there: it was never finished, or is being written or copied right now"
                }
                false => {
                    "the backup has no MANIFEST.txt: it was never finished, or is being written or copied right now"
                }
            };
            self.findings.push(
                Finding::error("verify.unfinished", id, message)
                    .hint("choose another backup: `restore list`")
                    .of_kind(ErrorKind::Verification),
            );
            return;
        }
        let listing = match self.backup.verify_listing().await {
            Ok(listing) => listing,
            Err(error) => {
                self.findings.push(Finding::from_error(id, &error));
                return;
            }
        };
        // What is not asked for may be missing, or damaged.
        let partial = !self.request.only.is_empty() || !self.request.paths.is_empty();
        let asked = self.asked_for(selected, &listing);
        for mut finding in listing.findings() {
            if finding.severity != Severity::Error {
                continue;
            }
            let mut files = listing.files.iter();
            match files.find(|(path, _)| shown(path) == finding.subject) {
                Some((path, _)) if partial && !asked.contains(path) => {
                    finding.severity = Severity::Warning;
                }
                // What to do with it is said.
                Some((_, FileStatus::Unlisted)) => {}
                Some(_) if partial => {
                    finding.hint = Some("fetch the backup again, or choose another".to_owned());
                }
                Some(_) => {
                    finding.hint = Some(
                        "fetch the backup again, choose another, or name what you need with --only"
                            .to_owned(),
                    );
                }
                None if self.request.allow_unverified => {
                    finding.severity = Severity::Warning;
                    finding.hint = None;
                }
                None => {
                    finding.hint = Some("fetch the backup again or choose another; --allow-unverified restores what there is".to_owned());
                }
            }
            self.findings.push(finding);
        }
    }

    /// The files that the components which are asked for would be restored from: those that are there, and those
    /// that the manifest lists or that lie there as something else than a file.
    fn asked_for(
        &self,
        selected: &[(SharedComponent, Vec<String>)],
        listing: &Verification,
    ) -> BTreeSet<String> {
        let named = self
            .backup
            .with_names(listing.files.iter().map(|(path, _)| path));
        let mut asked = BTreeSet::new();
        for (component, _) in selected {
            let mut source = Some(component);
            match component.recovery() {
                Recovery::Cluster => {
                    asked.insert(DESCRIPTION.to_owned());
                }
                Recovery::PartOf(cluster) if self.request.target.is_some() => {
                    asked.insert(DESCRIPTION.to_owned());
                    source = self.site.component(&cluster);
                }
                _ => {}
            }
            for backup in [self.backup, &named] {
                asked.extend(source.iter().flat_map(|it| it.artifacts(backup)));
            }
        }
        asked
    }

    /// Backups that `latest` passes over because they are damaged: that what is restored is older is for a
    /// person to decide.
    pub(super) async fn look_at_newer(&mut self) {
        if self.backup.id().is_safety() {
            return;
        }
        for (id, wrong) in self.site.newer_damaged(self.backup.id()).await {
            let message =
                format!("a newer backup is damaged, so that `latest` does not mean it: {wrong}");
            self.findings.push(
                Finding::warning("plan.newer_damaged", id.as_str(), message).hint(format!(
                    "`restore verify {id}` says all that is wrong with it"
                )),
            );
        }
    }

    /// The backup has nothing for a component that is to be restored. Left out without a word, it would
    /// pass for restored.
    pub(super) async fn nothing_for(&self, component: &SharedComponent) -> Finding {
        let name = component.name();
        let code = "plan.nothing_to_restore";
        if let (Some(target), Recovery::Cluster) = (&self.request.target, component.recovery()) {
            let newest = self.site.backup_for("latest", &self.request).await;
            return Finding::error(
                code,
                name,
                format!("the backup has no base backup of it: nothing of it can be recovered to {target}"),
            )
            .hint(match newest {
                Ok(newest) => format!("the newest backup that leads there is {}", newest.id()),
                Err(error) => error.hint_text().unwrap_or("`restore backup --base` makes one").to_owned(),
            });
        }
        if self.backup.nothing_live().contains(&name) {
            let message = "there was none when the backup was made; it stays as it is";
            return Finding::warning(code, name, message);
        }
        let message = "the backup has nothing for it; it stays as it is";
        // Who names it wants it.
        let optional =
            self.site.is_optional(name) && !self.request.only.iter().any(|it| it == name);
        if optional || self.request.allow_missing.iter().any(|it| it == name) {
            return Finding::warning(code, name, message);
        }
        if component.recovery() == Recovery::Cluster {
            return Finding::error(code, name, "the backup has no base backup of it")
                .hint("`restore run latest --to TIME` chooses the newest backup that has one; `restore backup --base` makes one");
        }
        Finding::error(code, name, "the backup has nothing for it").hint(format!(
            "choose a full backup (`restore list`), or leave it as it is with --allow-missing {name}; where backups never have it, write optional = true in [components.{name}]"
        ))
    }

    /// Whether what will be used can be verified.
    pub(super) fn look_at_artifacts(&mut self, components: &[PlannedComponent]) {
        if components.is_empty() {
            let id = self.backup.id().to_string();
            let message = "there is nothing to restore: it has nothing for what was asked for";
            self.findings
                .push(Finding::error("plan.empty", id, message).hint(
                "compare its files (`restore show ID`) with the names that the components look for",
            ));
            return;
        }
        // A folder stands for all files below it.
        let is_listed = |path: &str| {
            let within = format!("{path}/");
            let files = self.backup.files().iter().map(|file| file.path.as_str());
            let mut below = files.filter(|file| file.starts_with(&within)).peekable();
            self.backup.expected_digest(path).is_some()
                || (below.peek().is_some()
                    && below.all(|file| self.backup.expected_digest(file).is_some()))
        };
        let unverifiable: Vec<&str> = components
            .iter()
            .flat_map(|component| &component.inspection.artifacts)
            .filter(|path| !is_listed(path))
            .map(String::as_str)
            .collect();
        if unverifiable.is_empty() || self.backup.generation() == Generation::Unfinished {
            return;
        }
        let message = match self.backup.generation() {
            Generation::B => {
                "the backup has no checksums: nothing of it can be verified".to_owned()
            }
            _ => format!(
                "the manifest has no checksum for {}",
                unverifiable.join(", ")
            ),
        };
        let id = self.backup.id().to_string();
        self.findings.push(if self.request.allow_unverified {
            Finding::warning("backup.unverifiable", id, message)
        } else {
            Finding::error("backup.unverifiable", id, message).hint(
                "`restore verify ID --deep` reads it to its end; --allow-unverified restores it all the same",
            )
        });
    }
}
