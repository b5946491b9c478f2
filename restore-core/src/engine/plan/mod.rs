//! Plans: what a restore would do, in order, with sizes, as a value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contract::{Generation, Inspection, SecretFiles};
use crate::model::{
    BackupId, Finding, MissingComponent, RecoveryTarget, Result, RunId, Severity, Timestamp,
};

mod background;
mod deployment;
mod evidence;
mod expected;
mod inside;
mod nodes;
mod paths;
mod pitr;
mod preflight;
mod programs;
mod provenance;
mod room;
mod safety;
mod selection;
mod step;
mod steps;
mod surroundings;
mod text;

pub(crate) use crate::model::error::nothing_selected;
pub use expected::Expected;
pub(crate) use expected::weight_of;
pub(crate) use inside::{ensure_not_in_itself, inside_any, moves, replaces};
pub(crate) use nodes::node_options;
pub(crate) use preflight::Preflight;
pub use step::{Phase, Step};
pub(crate) use surroundings::unanswered;

/// What to restore, and which warnings the caller has heard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlanRequest {
    /// Only these components; empty: all that the site has. Not public: an empty one of a caller's would
    /// be everything.
    pub(crate) only: Vec<String>,
    /// Only these paths, named as the archives name their members
    /// (`mnt/nfs/nginx/conf.d/app.conf`); implies the components that own them.
    pub(crate) paths: Vec<String>,
    /// Restore what has no checksum to verify it by.
    pub allow_unverified: bool,
    /// Restore although an earlier run is not confirmed yet.
    pub over_unconfirmed: bool,
    /// Restore over this run, which is stuck or unfinished: it is ended as it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<RunId>,
    /// Show no maintenance page: users meet whatever the services answer.
    #[serde(default)]
    pub no_maintenance: bool,
    /// Components that may stay as they are where the backup has nothing for them.
    #[serde(default)]
    pub allow_missing: Vec<String>,
    /// Components whose live data may be replaced by what is empty (a database by a dump without rows), or by
    /// far less, without being [asked](crate::run::RunOptions::asked).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_empty: Vec<String>,
    /// Make what is absent: directories of volumes and trees, a database's roles, a crontab's directory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub create: bool,
    /// Make no safety backup first.
    #[serde(default)]
    pub no_safety_backup: bool,
    /// Restore the one component under this name, beside what is live, and leave it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_as: Option<String>,
    /// Restore only these tables (`public.orders`) of the one database, beside its live ones, and
    /// leave them there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tables: Vec<String>,
    /// A drill: stage, prove, and delete what was staged; nothing live is stopped or replaced.
    #[serde(default)]
    pub drill: bool,
    /// The moment to recover to, where it is not the backup's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RecoveryTarget>,
    /// Restore components of another time than the recovery target's along with it.
    #[serde(default)]
    pub allow_time_gap: bool,
    /// Where the values are of secrets that are to be made: the files, never what is in them.
    #[serde(default, skip_serializing_if = "SecretFiles::is_empty")]
    pub secrets: SecretFiles,
    /// The nodes that have taken the place of others which the backup and the configuration name, by the names
    /// of those.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<String, String>,
    /// Somebody chose among components, paths or tables, and nothing was left. Saved along: what comes back
    /// would be everything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    nothing: bool,
}

impl PlanRequest {
    /// Everything, and no warnings waved through.
    pub fn all() -> Self {
        Self::default()
    }

    /// The same request, recovered to a moment.
    #[must_use]
    pub fn to(mut self, target: impl Into<Option<RecoveryTarget>>) -> Self {
        self.target = target.into();
        self
    }

    /// The same request; components of another time than the target's are restored along with it.
    #[must_use]
    pub fn allow_time_gap(mut self, allow: bool) -> Self {
        self.allow_time_gap = allow;
        self
    }

    /// The same request for these components only. Of an empty selection, a filter that matched
    /// nothing, say, no plan is made (`plan.nothing_selected`).
    #[must_use]
    pub fn only(mut self, components: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.only = texts(components);
        self.nothing |= self.only.is_empty();
        self
    }

    /// The same request for these paths only. Of an empty selection no plan is made.
    #[must_use]
    pub fn paths(mut self, paths: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.paths = texts(paths);
        self.nothing |= self.paths.is_empty();
        self
    }

    /// The components that were chosen; empty: nobody chose among them.
    pub fn selected_components(&self) -> &[String] {
        &self.only
    }

    /// The paths that were chosen; empty: nobody chose among them.
    pub fn selected_paths(&self) -> &[String] {
        &self.paths
    }

    /// The tables that were chosen; empty: nobody chose among them.
    pub fn selected_tables(&self) -> &[String] {
        &self.tables
    }

    /// Refuses an empty selection.
    pub(crate) fn ensure_something(&self) -> Result<()> {
        match self.nothing {
            true => Err(nothing_selected()),
            false => Ok(()),
        }
    }

    /// The same request; data without a checksum is restored too.
    #[must_use]
    pub fn allow_unverified(mut self, allow: bool) -> Self {
        self.allow_unverified = allow;
        self
    }

    /// The same request; these components stay as they are where the backup has nothing for them.
    #[must_use]
    pub fn allow_missing(mut self, components: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.allow_missing = texts(components);
        self
    }

    /// The same request; what is empty may take the place of these components' live data.
    #[must_use]
    pub fn allow_empty(mut self, components: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.allow_empty = texts(components);
        self
    }

    /// The same request; an unconfirmed earlier run does not stand in the way.
    #[must_use]
    pub fn over_unconfirmed(mut self, over: bool) -> Self {
        self.over_unconfirmed = over;
        self
    }

    /// The same request; no maintenance page is shown.
    #[must_use]
    pub fn no_maintenance(mut self, without: bool) -> Self {
        self.no_maintenance = without;
        self
    }

    /// The same request; the run `over` is ended as it stands, and restored over. Neither it nor
    /// what it keeps is in the way then.
    #[must_use]
    pub fn over(mut self, over: impl Into<Option<RunId>>) -> Self {
        self.over = over.into();
        self
    }

    /// The same request; what is live is not backed up first. Until the run is confirmed its
    /// replaced data is then the only copy there is.
    #[must_use]
    pub fn no_safety_backup(mut self, without: bool) -> Self {
        self.no_safety_backup = without;
        self
    }

    /// The same request; what is absent of the live side (directories, roles) is made first, and
    /// removed again where the run is taken back. Nothing that exists is altered by that. Without it
    /// a plan is refused where something is absent that no restore should make unasked: a disk that is
    /// not mounted looks the same.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// The same request; the one component that it selects (a database) is restored under this
    /// name, beside what is live, which is not touched: nothing is stopped, no page is shown. A
    /// rollback deletes what was restored, a confirmation leaves it there for good.
    #[must_use]
    pub fn restore_as(mut self, name: impl Into<Option<String>>) -> Self {
        self.restore_as = name.into();
        self
    }

    /// The same request; only these tables (`public.orders`) of the one database that it selects are
    /// restored, into a schema of their own beside the live ones, which are not touched. Of an empty
    /// selection no plan is made.
    #[must_use]
    pub fn tables<S: Into<String>>(mut self, tables: impl IntoIterator<Item = S>) -> Self {
        self.tables = tables.into_iter().map(Into::into).collect();
        self.nothing |= self.tables.is_empty();
        self
    }

    /// The same request; these files hold the values of secrets that are absent and made with
    /// [`create`](Self::create): no backup has them. Values get into no plan, journal or report.
    #[must_use]
    pub fn secrets(mut self, secrets: SecretFiles) -> Self {
        self.secrets = secrets;
        self
    }

    /// The same request, on a swarm whose nodes are others than at the backup: by the name of each that is no more,
    /// or its id, the name of the one that has taken its place. Services that are deployed run there, and what
    /// the configuration says to be on the old one (`node` of a volume) is looked for there. The restored files
    /// are as the backup has them.
    #[must_use]
    pub fn nodes(
        mut self,
        nodes: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        let nodes = nodes.into_iter();
        self.nodes = nodes.map(|(old, new)| (old.into(), new.into())).collect();
        self
    }

    /// Whether what is restored is left beside what is live, which is not touched.
    pub fn is_beside(&self) -> bool {
        self.restore_as.is_some() || !self.tables.is_empty()
    }

    /// The same request as a drill: everything is staged and proven as in a restore, and then
    /// deleted. Nothing live is backed up, stopped or replaced.
    #[must_use]
    pub fn drill(mut self, drill: bool) -> Self {
        self.drill = drill;
        self
    }
}

/// Names as they were given.
fn texts(names: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<String> {
    let names = names.into_iter();
    names.map(|name| name.as_ref().to_owned()).collect()
}

/// One component's part in a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlannedComponent {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// The only paths of it to restore; empty: all of it.
    pub paths: Vec<String>,
    /// The services that must be down while it cuts over.
    pub stops: Vec<String>,
    /// Whether it is swapped before users are turned away, as they do not see what it stops.
    #[serde(default)]
    pub background: bool,
    /// What it deploys once everything is swapped, in words; `None`: nothing.
    #[serde(default)]
    pub deploys: Option<String>,
    /// What it found out.
    pub inspection: Inspection,
}

impl PlannedComponent {
    /// Whether staging it would change what the safety backup reads, so that this is made before: what it
    /// makes of what is absent would be in there.
    pub(crate) fn is_saved_first(&self) -> bool {
        self.inspection.save_first || !self.inspection.creates.is_empty()
    }
}

/// A service that a plan stops and starts again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlannedService {
    /// Its name.
    pub name: String,
    /// Instances wanted now, which an undo brings back.
    pub replicas: u32,
    /// Instances after the restore: as now, but at least one.
    pub start: u32,
    /// Instances that run now, where these are fewer than are wanted: none of the others is waited for when it is
    /// started, where it has no place to run. `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran: Option<u32>,
    /// Whether it is stopped and started before users are turned away, who do not see it.
    #[serde(default)]
    pub background: bool,
    /// Those of the plan's services that it comes after: it is stopped before they are. `None`:
    /// all that are stopped after it.
    #[serde(default)]
    pub after: Option<Vec<String>>,
    /// Whether it is started only once those are ready; otherwise at the same time.
    #[serde(default = "yes")]
    pub waits: bool,
}

impl PlannedService {
    /// How many of its instances ran when the plan was made.
    pub fn ran_before(&self) -> u32 {
        self.ran.unwrap_or(self.replicas)
    }
}

/// What a plan means that does not say it.
fn yes() -> bool {
    true
}

/// The backup of what is live that a run makes first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlannedSafety {
    /// The name of the store that it goes to.
    pub store: String,
    /// The store, for people.
    pub place: String,
    /// About how many bytes there are to back up, before they are compressed.
    pub bytes: u64,
    /// What it will be without, as it cannot be read now.
    #[serde(default)]
    pub without: Vec<MissingComponent>,
}

/// An earlier run whose replaced data is still kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EarlierRun {
    /// Its id.
    pub run: RunId,
    /// The backup that it restored.
    pub backup: BackupId,
    /// When it ended.
    pub ended: Timestamp,
    /// Its components that the plan touches too.
    pub shared: Vec<String>,
}

/// What a restore would do, in order, with sizes.
///
/// Making one changes nothing. It can be printed, saved as JSON, compared, and executed by
/// [`Site::run`](crate::Site::run), which refuses it when it [is refused](Plan::refusal).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use = "a plan does nothing until it is run"]
#[non_exhaustive]
pub struct Plan {
    /// The site's name.
    pub site: String,
    /// The backup to restore.
    pub backup: BackupId,
    /// The store that it is in, for people.
    pub store: String,
    /// Whether the backup has checksums.
    pub generation: Generation,
    /// Who could have written what root will obey once it is restored, in a line; `None` where
    /// there is no such thing in the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<String>,
    /// What was asked for.
    pub request: PlanRequest,
    /// When the plan was made.
    pub made: Timestamp,
    /// The backup of what is live that is made first.
    #[serde(default)]
    pub safety: Option<PlannedSafety>,
    /// The components, in the order of their cut-overs.
    pub components: Vec<PlannedComponent>,
    /// The services to stop, in the order of stopping.
    pub services: Vec<PlannedService>,
    /// Whether the maintenance page goes up.
    pub maintenance: bool,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Earlier runs that are not confirmed.
    pub earlier: Vec<EarlierRun>,
    /// How long it will take; `None` where nothing is restored.
    #[serde(default)]
    pub expected: Option<Expected>,
    /// Everything noticed, of the site and of all components.
    pub findings: Vec<Finding>,
}

impl Plan {
    /// The findings that stop a run.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
    }

    /// The error that running this plan gives before anything is touched; `None` when it can
    /// run. Its kind is `Verification` when the backup itself is at fault, else `Preflight`.
    pub fn refusal(&self) -> Option<crate::model::Error> {
        let errors: Vec<&Finding> = self.errors().collect();
        let first = errors
            .iter()
            .find(|f| is_verification(f))
            .or(errors.first())?;
        let kind = if is_verification(first) {
            crate::model::ErrorKind::Verification
        } else {
            crate::model::ErrorKind::Preflight
        };
        let others = match errors.len() {
            1 => String::new(),
            2 => " (and one more finding)".to_owned(),
            n => format!(" (and {} more findings)", n - 1),
        };
        let error = crate::model::Error::new(
            kind,
            if kind == crate::model::ErrorKind::Verification {
                "plan.backup_unusable"
            } else {
                "plan.refused"
            },
            format!("not started: {}{others}", first.line()),
        );
        let hint = first.hint.clone().unwrap_or_else(|| {
            format!(
                "`restore plan {}` shows every finding; nothing was touched",
                self.backup
            )
        });
        Some(error.hint(hint))
    }

    /// Bytes to read from the backup.
    pub fn read_bytes(&self) -> u64 {
        self.components
            .iter()
            .map(|c| c.inspection.read_bytes)
            .sum()
    }

    /// The part of the run that a step belongs to: as the step says, but for those of services
    /// that users do not see.
    pub fn phase(&self, step: &Step) -> Phase {
        let background = match step {
            Step::Stop(name) | Step::Start(name) => self
                .services
                .iter()
                .any(|service| service.name == *name && service.background),
            Step::CutOver(name) => self.component(name).is_some_and(|c| c.background),
            _ => false,
        };
        match background {
            true => Phase::Background,
            false => step.phase(),
        }
    }

    /// A step in words, as this plan takes it.
    pub(crate) fn describe(&self, step: &Step) -> String {
        let beside = |name: &str| self.component(name)?.inspection.beside.as_deref();
        match step {
            Step::CutOver(name) => match beside(name) {
                Some(what) => format!("put {what} in its place"),
                None => step.describe(),
            },
            Step::CheckInside if self.request.is_beside() => "check what was restored".to_owned(),
            _ => step.describe(),
        }
    }

    /// The component of that name.
    pub fn component(&self, name: &str) -> Option<&PlannedComponent> {
        self.components.iter().find(|c| c.name == name)
    }
}

fn is_verification(finding: &Finding) -> bool {
    finding.kind == Some(crate::model::ErrorKind::Verification)
}
