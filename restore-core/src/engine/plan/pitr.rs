//! Recovery targets in a plan: who takes part, from which backup, and who is of another time.

use std::collections::BTreeMap;

use serde_json::Value;

use super::preflight::Preflight;
use super::{Plan, PlannedComponent};
use crate::contract::{Recovery, SharedComponent};
use crate::model::target::FOLLOWS;
use crate::model::{Error, ErrorKind, Finding, RecoveryPoint, RecoveryTarget, Result, Timestamp};

impl Plan {
    /// The moment that a component is recovered to, along the timeline that was planned: what the
    /// live server would answer when it is staged may be another, or nothing.
    pub(crate) fn target_of(&self, component: &str) -> Option<RecoveryTarget> {
        let target = self.request.target.clone()?;
        let facts = self.component(component).map(|it| &it.inspection.facts);
        let planned = facts
            .and_then(|facts| facts.get(FOLLOWS))
            .and_then(Value::as_u64)
            .and_then(|timeline| u32::try_from(timeline).ok());
        let timeline = target.timeline.or(planned);
        Some(target.timeline(timeline))
    }
}

type Selected = Vec<(SharedComponent, Vec<String>)>;

impl Preflight<'_> {
    /// Of the components asked for, those that take part at the target's moment.
    pub(super) fn at_one_moment(&mut self, mut selected: Selected) -> Result<Selected> {
        let named = |component: &SharedComponent| {
            self.request
                .only
                .iter()
                .any(|name| name == component.name())
        };
        let Some(target) = self.request.target.clone() else {
            // A whole cluster and its databases are two ways to the same data.
            selected.retain(|(component, _)| {
                component.recovery() != Recovery::Cluster || named(component)
            });
            return Ok(selected);
        };
        let clusters: Vec<String> = selected
            .iter()
            .filter(|(component, _)| component.recovery() == Recovery::Cluster)
            .map(|(component, _)| component.name().to_owned())
            .collect();
        let mut parts = Vec::new();
        for (component, _) in &selected {
            let Recovery::PartOf(cluster) = component.recovery() else {
                continue;
            };
            if !clusters.contains(&cluster) {
                continue;
            }
            if named(component) {
                return Err(Error::new(
                    ErrorKind::Config,
                    "plan.cluster_and_part",
                    format!(
                        "{} is a database of the cluster {cluster}: either the whole cluster is recovered, or the one database",
                        component.name()
                    ),
                )
                .hint("name one of them with --only"));
            }
            parts.push(component.name().to_owned());
        }
        let reaches = selected.iter().any(|(component, _)| {
            matches!(
                component.recovery(),
                Recovery::Cluster | Recovery::PartOf(_)
            )
        });
        if !reaches {
            return Err(self.nobody(&target, &selected));
        }
        if !parts.is_empty() {
            self.findings.push(Finding::info(
                "plan.part_of_cluster",
                parts.join(", "),
                format!("comes back with the whole cluster {}", clusters.join(", ")),
            ));
        }
        selected.retain(|(component, _)| !parts.iter().any(|part| part == component.name()));
        Ok(selected)
    }

    /// Nothing that is selected can be recovered to a moment.
    fn nobody(&self, target: &RecoveryTarget, selected: &Selected) -> Error {
        let able: Vec<&str> = self
            .site
            .components()
            .iter()
            .filter(|component| {
                matches!(
                    component.recovery(),
                    Recovery::Cluster | Recovery::PartOf(_)
                )
            })
            .map(|component| component.name())
            .collect();
        let names: Vec<&str> = selected
            .iter()
            .map(|(component, _)| component.name())
            .collect();
        Error::new(
            ErrorKind::Config,
            "plan.no_point_in_time",
            format!(
                "nothing of {} can be recovered to {target}",
                names.join(", ")
            ),
        )
        .hint(match able.as_slice() {
            [] => "describe the database cluster as a component with kind = \"postgres_cluster\"; a database names it with `cluster`".to_owned(),
            able => format!("what can be is {}", able.join(", ")),
        })
    }

    /// Says from which base backup the recovery begins, and what is of another time than its
    /// target.
    pub(super) async fn look_at_moments(&mut self, components: &[PlannedComponent]) -> Result<()> {
        let Some(target) = self.request.target.clone() else {
            return Ok(());
        };
        self.look_at_gaps(&target, components);
        // They would be recovered in the same place at the same time.
        let mut clusters: BTreeMap<String, &str> = BTreeMap::new();
        for planned in components {
            let component = self.site.component(&planned.name);
            let Some(Recovery::PartOf(cluster)) = component.map(|it| it.recovery()) else {
                continue;
            };
            if let Some(other) = clusters.insert(cluster.clone(), &planned.name) {
                self.findings.push(
                    Finding::error(
                        "plan.two_of_one_cluster",
                        planned.name.clone(),
                        format!("it is a database of {cluster}, as {other} is: a run recovers one of them, or all"),
                    )
                    .hint(format!("restore one after the other, or all with --only {cluster}")),
                );
            }
        }
        let mut apart: Vec<&str> = Vec::new();
        let mut recovered = None;
        for planned in components {
            let Some(component) = self.site.component(&planned.name) else {
                continue;
            };
            match component.recovery() {
                Recovery::Cluster | Recovery::PartOf(_) => {
                    // Whatever keeps it from being recovered is said already.
                    recovered = component.base_ended(self.backup).await.ok().flatten();
                }
                Recovery::None => apart.push(&planned.name),
                // It says itself how near it comes.
                Recovery::Near => {}
            }
        }
        let Some(ended) = recovered else {
            return Ok(());
        };
        let (newer, left) = self.newer_bases(&target, ended).await?;
        if !left.is_empty() {
            self.findings.push(Finding::info(
                "plan.base_left_behind",
                left.join(", "),
                "newer base backups, of timelines that do not lead to the one that is followed: passed over",
            ));
        }
        // That it ended too late is told as an error.
        let late = newer.is_empty() && target.time().is_some_and(|time| ended > time);
        if !late {
            self.findings.push(match newer.as_slice() {
                [] => Finding::info(
                    "plan.base_chosen",
                    self.backup.id().as_str(),
                    format!(
                        "the newest base backup that ended before {target}: at {}",
                        ended.precise()
                    ),
                ),
                newer => Finding::info(
                    "plan.newer_base",
                    self.backup.id().as_str(),
                    format!(
                        "its base backup ended at {}; with a newer one there is less to replay: {}",
                        ended.precise(),
                        newer.join(", ")
                    ),
                ),
            });
        }
        if !apart.is_empty() {
            self.findings.push(Finding::warning(
                "plan.other_time",
                apart.join(", "),
                format!(
                    "restored as of the backup ({}), while the databases are recovered to {target}",
                    ended.precise()
                ),
            ));
        }
        Ok(())
    }

    /// A platform whose database is of one time and whose cache is of another must be a choice.
    fn look_at_gaps(&mut self, target: &RecoveryTarget, components: &[PlannedComponent]) {
        let moment = |planned: &PlannedComponent, key: &str| {
            let text = planned.inspection.facts.get(key)?.as_str()?;
            Timestamp::parse(text).ok()
        };
        let aim = target.time().or_else(|| {
            let mut last = components
                .iter()
                .filter_map(|planned| moment(planned, "last_transaction"));
            last.next()
        });
        for planned in components {
            let near = self
                .site
                .component(&planned.name)
                .is_some_and(|component| component.recovery() == Recovery::Near);
            if !near || planned.inspection.artifacts.is_empty() {
                continue;
            }
            let message = match (moment(planned, "moment"), aim) {
                (Some(moment), Some(aim)) => {
                    let apart = moment.since(aim).max(aim.since(moment));
                    if apart.as_secs() == 0 {
                        continue;
                    }
                    format!(
                        "its data is of {}, {} {} the databases' {}",
                        moment.precise(),
                        in_words(apart),
                        if moment < aim { "before" } else { "after" },
                        aim.precise()
                    )
                }
                _ => format!(
                    "of what time its data is, beside the databases' {target}, is not known"
                ),
            };
            let (code, name) = ("plan.time_gap", planned.name.clone());
            self.findings.push(match self.request.allow_time_gap {
                true => Finding::warning(code, name, message),
                false => Finding::error(code, name, message).hint(
                    "--allow-time-gap restores both all the same; --only leaves one of them out",
                ),
            });
        }
    }

    /// Backups with a base backup that ended after `than` and, as far as their times tell, before
    /// the target: those that lead to it, and those that were left behind.
    async fn newer_bases(
        &self,
        target: &RecoveryTarget,
        than: Timestamp,
    ) -> Result<(Vec<String>, Vec<String>)> {
        let before = |ended: &Timestamp| match &target.point {
            RecoveryPoint::Time(time) => ended <= time,
            RecoveryPoint::Latest => true,
            _ => false,
        };
        let found = self.site.base_backups().await?;
        let newer: Vec<_> = found
            .into_iter()
            .filter(|(_, ended)| *ended > than && before(ended))
            .map(|(backup, _)| backup)
            .collect();
        let left = self.site.left_behind(&newer, target).await;
        let (mut leading, mut behind) = (Vec::new(), Vec::new());
        for (backup, left) in newer.iter().zip(left) {
            match left {
                None => leading.push(backup.id().to_string()),
                Some(timeline) => behind.push(format!("{} (timeline {timeline})", backup.id())),
            }
        }
        Ok((leading, behind))
    }
}

/// `7 h 59 min`.
fn in_words(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}
