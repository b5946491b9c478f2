//! The content of a volume, replaced as a whole or by single paths.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use super::members::{Links, MemberKeys};
use super::not_there::planned_volume;
use super::{archive, hooks, place, readers};
use crate::archive::path_set::relative as tree_path;
use crate::archive::{Measured, Owners, UnpackPolicy, Unpacked};
use crate::contract::{
    BackedUp, Backup, BackupWriter, Component, ComponentDeps, Contents, Create, Inspection,
    KeptByRun, Platform, Program, RunContext, SharedComponent, Staged, Table, Target, Volume,
    parse_section,
};
use crate::model::{CheckOutcome, Error, ErrorKind, Finding, Result};
use crate::swap::scope::{Discard, SwapScope};
use crate::sys::space::Space;

mod absent;
mod contents;

/// The content of a volume: an archive is unpacked into a hidden folder inside the volume and
/// swapped with every live entry, dotfiles included, while the services that use it are down.
pub struct VolumeComponent {
    name: String,
    section: Section,
    archive: Vec<String>,
    platform: Arc<dyn Platform>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    volume: String,
    #[serde(default)]
    archive: Vec<String>,
    /// Not given: nobody has thought of it. Empty: nothing is to be stopped.
    #[serde(default)]
    stops: Option<Vec<String>>,
    /// Run in `service` once the volume's files are others: makes one that is not stopped open
    /// them anew.
    #[serde(default)]
    reload: Vec<String>,
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    prefix: Option<String>,
    #[serde(default)]
    strip: u32,
    #[serde(default)]
    owners: Owners,
    #[serde(default)]
    user: Option<u32>,
    #[serde(default)]
    group: Option<u32>,
    #[serde(default)]
    links: Option<Links>,
    #[serde(default)]
    allow_links: Vec<PathBuf>,
    #[serde(default)]
    allow_setuid: bool,
    #[serde(default)]
    max_members: u64,
    #[serde(default)]
    max_bytes: u64,
}

impl Section {
    /// The keys about the members of its archive.
    fn members(&self) -> MemberKeys<'_> {
        MemberKeys {
            prefix: self.prefix.as_deref(),
            strip: self.strip,
            owners: self.owners,
            user: self.user,
            group: self.group,
            links: self.links,
            allow_links: &self.allow_links,
            allow_setuid: self.allow_setuid,
            max_members: self.max_members,
            max_bytes: self.max_bytes,
        }
    }
}

impl VolumeComponent {
    /// The component `name` from its table in the configuration.
    pub fn from_table(name: &str, table: Table, parts: &ComponentDeps) -> Result<SharedComponent> {
        let place = format!("components.{name}");
        let section: Section = parse_section(&place, table)?;
        section.members().check(&place)?;
        let archive = if section.archive.is_empty() {
            default_names(&section.volume)
        } else {
            section.archive.clone()
        };
        Ok(Arc::new(Self {
            name: name.to_owned(),
            section,
            archive,
            platform: parts.platform.clone(),
        }))
    }

    async fn volume(&self) -> Result<Arc<dyn Volume>> {
        self.platform.volume(&self.section.volume).await
    }

    /// The volume, where it is not gone as it was before the run.
    async fn still_there(&self, cx: &RunContext) -> Result<Option<Arc<dyn Volume>>> {
        place::still_there(cx, self.volume().await).await
    }

    /// Looks where the archive will be staged, and says so; the room that is there.
    async fn look_where(&self, cx: &RunContext, inspection: &mut Inspection) -> Result<Space> {
        let platform = self.platform.as_ref();
        let volume = planned_volume(cx, platform, &self.section.volume, inspection).await?;
        let space = volume.free_space().await?;
        inspection.staged_at = archive::in_volume(volume.as_ref(), &cx.run().folder());
        archive::other_runs(cx, volume.as_ref(), &mut inspection.findings).await;
        Ok(space)
    }

    /// A path of the machine relative to the volume; `None`: it is not in it.
    async fn below(&self, path: &str) -> Result<Option<String>> {
        let live = place::path_of(self.platform.as_ref(), &self.section.volume).await?;
        let below = live.and_then(|live| {
            let below = Path::new(path).strip_prefix(live).ok()?;
            Some(below.to_string_lossy().into_owned())
        });
        Ok(below)
    }

    /// A path that begins with the component's name, relative to the volume; `None`: it is not in it.
    fn named(&self, path: &str) -> Result<Option<String>> {
        let path = tree_path(path)?;
        let below = path.strip_prefix(&self.name).ok();
        Ok(below.map(|below| below.to_string_lossy().into_owned()))
    }

    /// The paths of a run relative to the volume; none: all of it. They may be named below the
    /// component's name, or as on the machine.
    async fn paths(&self, paths: &[String]) -> Result<Vec<String>> {
        let mut inside = Vec::new();
        for path in paths {
            let relative = match path.starts_with('/') {
                true => self.below(path).await?,
                false => self.named(path)?,
            };
            let Some(relative) = relative else {
                return Err(Error::new(
                    ErrorKind::Config,
                    "volume.path_outside",
                    format!("{path} is not in volume {}", self.section.volume),
                )
                .hint(format!(
                    "name it {0}/…, as `restore show ID --files --only {0}` lists it",
                    self.name
                )));
            };
            if relative.is_empty() {
                return Ok(Vec::new());
            }
            inside.push(tree_path(&relative)?.to_string_lossy().into_owned());
        }
        Ok(inside)
    }

    /// What of the volume is replaced.
    async fn scope(&self, paths: &[String]) -> Result<SwapScope> {
        let paths = self.paths(paths).await?;
        Ok(match paths.is_empty() {
            true => SwapScope::Everything,
            false => SwapScope::Paths {
                paths,
                keep: Vec::new(),
            },
        })
    }

    /// Which members of an archive are let in.
    async fn policy(&self, volume: &dyn Volume) -> UnpackPolicy {
        let mut policy = self.section.members().policy("");
        if let Some(root) = volume.path() {
            policy.owner = archive::owner(root.clone()).await;
            policy.live_root = root;
        }
        if !policy.any_links {
            policy.links_to.extend(self.mount_points().await);
        }
        policy
    }

    /// Where the services that work with the volume see it: links in it that lead there stay inside of it.
    async fn mount_points(&self) -> Vec<PathBuf> {
        let stops = self.section.stops.iter().flatten();
        let mut points = Vec::new();
        for service in self.section.service.iter().chain(stops) {
            let seen = self.platform.volume_in(service, &self.section.volume).await;
            // Of one that cannot be asked nothing more is let in.
            points.extend(seen.ok().flatten().filter(|at| at.parent().is_some()));
        }
        points
    }

    /// Makes the service that goes on running open the files that are there now.
    async fn reload(&self) -> Result<()> {
        let argv = &self.section.reload;
        let service = self.section.service.as_deref();
        if argv.is_empty() {
            return Ok(());
        }
        if let Some(service) = service
            && self.platform.service(service).await?.running == 0
        {
            return Ok(());
        }
        let answer = hooks::run(&self.platform, service, argv).await?;
        if answer.success() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Failed,
            "volume.reload_failed",
            format!(
                "`{}` failed (exit code {}): {}",
                argv.join(" "),
                answer.code,
                answer.output
            ),
        )
        .hint("run it by hand and see what the service's log says"))
    }

    /// Refuses to put nothing in the place of what is live, unless somebody said so.
    async fn allow_empty(&self, cx: &RunContext, found: &str) -> Result<()> {
        let place = format!("volume {}", self.section.volume);
        let live = self.live().await;
        archive::refuse_nothing(cx, (&self.name, found), &place, live).map_err(self.at())
    }

    /// How much is live; nothing where nobody knows.
    async fn live(&self) -> Measured {
        let Ok(volume) = self.volume().await else {
            return Measured::default();
        };
        let there = volume.measure(&[archive::never_packed()]).await;
        there.ok().flatten().unwrap_or_default()
    }

    /// Refuses an archive that is seen to hold nothing before it is staged.
    async fn look_into(&self, cx: &RunContext, found: &str) -> Result<()> {
        let policy = self.section.members().policy("");
        match archive::restores_nothing(cx, found, policy).await? {
            true => self.allow_empty(cx, found).await,
            false => Ok(()),
        }
    }

    /// What is to be said where the site does not say which services are to be stopped. An empty
    /// list is an answer: whoever uses the volume may go on.
    async fn unstopped(&self) -> Result<Option<Finding>> {
        let Section {
            volume,
            stops,
            reload,
            service,
            ..
        } = &self.section;
        // Commands of this host could be for any service.
        if stops.is_some() || (!reload.is_empty() && service.is_none()) {
            return Ok(None);
        }
        let mut users = self.platform.in_use_by(volume).await?;
        if !reload.is_empty() {
            users.retain(|user| Some(user) != service.as_ref());
        }
        if users.is_empty() && !reload.is_empty() {
            return Ok(None);
        }
        let section = format!("[components.{}]", self.name);
        if users.is_empty() {
            let finding = Finding::warning(
                "volume.nothing_stops",
                &self.name,
                format!(
                    "no service is stopped for it: whoever uses volume {volume} has its files replaced meanwhile"
                ),
            );
            return Ok(Some(finding.hint(format!(
                "name the service in `stops` of {section}, or write stops = [] there if nobody minds"
            ))));
        }
        let mut hint = format!("write stops = {users:?} in {section}, or stops = [] if ");
        hint += match users.len() {
            1 => "it may go on meanwhile",
            _ => "they may go on meanwhile",
        };
        let known = self.platform.services();
        for unknown in users.iter().filter(|user| !known.contains(user)) {
            hint += &format!("; to be stopped it needs a section [services.{unknown}]");
        }
        let finding = Finding::error(
            "volume.in_use",
            &self.name,
            format!(
                "nothing says that {} is to be stopped while the files of volume {volume}, which it has mounted, are replaced",
                users.join(", ")
            ),
        );
        Ok(Some(finding.hint(hint)))
    }

    fn at(&self) -> impl Fn(Error) -> Error {
        let name = self.name.clone();
        move |error| error.in_component(&name)
    }
}

/// What is to be said of members that lie outside of what the component `name` restores.
fn outside(name: &str, section: &Section, found: &str, unpacked: &Unpacked) -> Option<Finding> {
    let place = match (section.prefix.as_deref().unwrap_or_default(), section.strip) {
        ("", strip) => format!("above what is left once {strip} leading directories are taken off"),
        (prefix, 0) => format!("outside of {prefix}"),
        (prefix, strip) => format!(
            "outside of {prefix}, or above what is left once {strip} directories are taken off"
        ),
    };
    let many = unpacked.outside;
    (many > 0).then(|| {
        Finding::warning(
            "volume.outside_tree",
            found,
            format!("{many} members are {place} and were left out"),
        )
        .hint(format!(
            "give them a component of their own if they should be restored, or change `prefix` and `strip` of [components.{name}]"
        ))
    })
}

/// What scripts of both generations call the archive of a volume: `grafana_data` is
/// `grafana-ID.tar.gz` or `grafana_data-ID.tar.gz`, `nginx_logs` is `nginx-logs-ID.tar.gz` or
/// `nginx_logs-ID.tar.gz`.
fn default_names(volume: &str) -> Vec<String> {
    let short = volume.strip_suffix("_data").unwrap_or(volume);
    let mut names = Vec::new();
    for stem in [short.replace('_', "-"), short.to_owned(), volume.to_owned()] {
        let name = format!("volumes/{stem}-{{id}}.tar.gz");
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[async_trait]
impl Component for VolumeComponent {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "volume"
    }

    fn stops(&self) -> Vec<String> {
        self.section.stops.clone().unwrap_or_default()
    }

    fn path_prefix(&self) -> Option<String> {
        Some(self.name.clone())
    }

    async fn targets(&self, paths: &[String]) -> Result<Vec<Target>> {
        let scope = self.scope(paths).await.map_err(self.at())?;
        let path = place::path_of(self.platform.as_ref(), &self.section.volume)
            .await
            .map_err(self.at())?;
        let target = path.map(|path| Target::new(path, scope));
        Ok(target.into_iter().collect())
    }

    async fn targets_elsewhere(&self, paths: &[String]) -> Result<Vec<(String, Target)>> {
        let found = place::path_elsewhere(self.platform.as_ref(), &self.section.volume)
            .await
            .map_err(self.at())?;
        let Some((machine, path)) = found else {
            return Ok(Vec::new());
        };
        let scope = self.scope(paths).await.map_err(self.at())?;
        Ok(vec![(machine, Target::new(path, scope))])
    }

    fn artifacts(&self, backup: &Backup) -> Vec<String> {
        backup.find_of(&self.name, &self.archive)
    }

    fn programs(&self) -> Vec<Program> {
        let service = self.section.service.as_deref();
        let named_by = format!("reload of [components.{}]", self.name);
        Vec::from_iter(Program::of(named_by, service, &self.section.reload))
    }

    async fn unpack_policies(&self, backup: &Backup) -> Result<Vec<(String, UnpackPolicy)>> {
        let volume = self.volume().await.map_err(self.at())?;
        let mut policy = self.policy(volume.as_ref()).await;
        policy.elsewhere = volume.path().is_none();
        let archives = self.artifacts(backup).into_iter();
        Ok(archives.map(|path| (path, policy.clone())).collect())
    }

    fn contents(&self) -> Option<&dyn Contents> {
        Some(self)
    }

    async fn live_bytes(&self) -> Result<u64> {
        let volume = self.volume().await.map_err(self.at())?;
        let there = volume.measure(&[archive::never_packed()]).await;
        Ok(there.map_err(self.at())?.map_or(0, |there| there.bytes))
    }

    async fn back_up(&self, writer: &BackupWriter) -> Result<BackedUp> {
        let volume = self.volume().await.map_err(self.at())?;
        let restore = self.policy(volume.as_ref()).await;
        let name = self.section.members().name_below("", &self.name);
        let what = (name.as_str(), vec![archive::never_packed()]);
        archive::back_up(writer, &self.archive, volume.as_ref(), what, restore)
            .await
            .map_err(self.at())
    }

    async fn inspect(&self, cx: &RunContext) -> Result<Inspection> {
        let mut inspection = Inspection::default();
        let only = self.paths(cx.paths()).await.map_err(self.at())?;
        let found = archive::find(cx.backup(), &self.name, &self.archive);
        if let Err(error) = &found {
            inspection
                .findings
                .push(Finding::from_error(&self.name, error));
        }
        let space = match self.look_where(cx, &mut inspection).await {
            Ok(space) => space,
            Err(error) => {
                inspection
                    .findings
                    .push(Finding::from_error(&self.name, &error));
                return Ok(inspection);
            }
        };
        if let Ok(found) = found {
            archive::weigh(cx, &found, space, &mut inspection)
                .await
                .map_err(self.at())?;
            let volume = &self.section.volume;
            if only.is_empty() {
                let looked = self.look_into(cx, &found).await;
                archive::tell(looked, &self.name, &mut inspection).map_err(self.at())?;
            }
            inspection.summary = match only.is_empty() {
                true => format!("volume {volume}"),
                false => format!("{} in volume {volume}", only.join(", ")),
            };
            if self.section.allow_setuid {
                inspection
                    .obeyed
                    .push(format!("set-uid files in volume {}", self.section.volume));
            }
        }
        inspection
            .findings
            .extend(self.unstopped().await.map_err(self.at())?);
        Ok(inspection)
    }

    async fn stage(&self, cx: &RunContext) -> Result<Staged> {
        cx.check_cancelled()?;
        let found = archive::find(cx.backup(), &self.name, &self.archive).map_err(self.at())?;
        place::ensure_ours(cx).await.map_err(self.at())?;
        let volume = self.volume().await.map_err(self.at())?;
        // A path that the archive lacks is an error there: it must not take the live one away.
        let only = self.paths(cx.paths()).await.map_err(self.at())?;
        let whole = only.is_empty();
        let mut policy = self.policy(volume.as_ref()).await;
        policy.only = only;
        let service = self.section.service.as_deref();
        policy.reader = readers::of(self.platform.as_ref(), service).await;
        if policy.max_bytes == 0 {
            policy.limit = Some(archive::limit(cx, &self.name, &found).await);
        }
        let source = cx.source(&found).map_err(self.at())?;
        let progress = cx.progress("unpack", source.size());
        let unpacked = volume
            .unpack(cx.run(), source, &policy, progress)
            .await
            .map_err(self.at())?;
        let mut staged = Staged {
            bytes: unpacked.bytes,
            facts: archive::facts(&unpacked),
            findings: archive::lost(&found, &unpacked),
        };
        let outside = outside(&self.name, &self.section, &found, &unpacked);
        staged.findings.extend(outside.filter(|_| whole));
        staged.findings.extend(readers::finding(
            (self.name.as_str(), found.as_str()),
            (service, policy.reader.as_ref()),
            &unpacked,
            policy.owner,
        ));
        let closed = readers::closed(
            (self.name.as_str(), found.as_str()),
            (service, policy.reader.as_ref()),
            &unpacked,
        );
        staged.findings.extend(closed.filter(|_| whole));
        cx.record("staged", Value::Object(staged.facts.clone()))
            .await?;
        if whole && unpacked.files + unpacked.links == 0 {
            self.allow_empty(cx, &found).await?;
            staged.findings.push(
                Finding::warning(
                    "volume.empty_archive",
                    &self.name,
                    format!(
                        "{found} holds no file: volume {} will be empty",
                        self.section.volume
                    ),
                )
                .hint("stop here if the volume should have content, and look for another backup"),
            );
        }
        if whole && unpacked.files + unpacked.links > 0 && !cx.allows_empty() {
            let live = self.live().await;
            staged
                .findings
                .extend(archive::far_smaller((&self.name, &found), &unpacked, live));
        }
        Ok(staged)
    }

    async fn cut_over(&self, cx: &RunContext) -> Result<()> {
        let volume = self.volume().await.map_err(self.at())?;
        let scope = self.scope(cx.paths()).await.map_err(self.at())?;
        archive::note_cutting(cx).await.map_err(self.at())?;
        volume.swap(cx.run(), &scope).await.map_err(self.at())?;
        self.reload().await.map_err(self.at())
    }

    fn creator(&self) -> Option<&dyn Create> {
        Some(self)
    }

    async fn undo(&self, cx: &RunContext) -> Result<()> {
        let Some(volume) = self.still_there(cx).await.map_err(self.at())? else {
            return Ok(());
        };
        archive::ensure_mounted(cx, Some(volume.as_ref()), &volume.describe())
            .await
            .map_err(self.at())?;
        let state = volume.state(cx.run()).await.map_err(self.at())?;
        archive::ensure_swapped(cx, state, &volume.describe()).map_err(self.at())?;
        volume.unswap(cx.run()).await.map_err(self.at())?;
        archive::note_undone(cx).await;
        if let Err(error) = self.reload().await {
            // The files are as they were; whether the service can use them is another question.
            let finding = Finding::warning("volume.not_reloaded", &self.name, error.message());
            cx.notice(finding.hint("the old files are back: reload the service by hand"));
        }
        Ok(())
    }

    async fn as_staged(&self, cx: &RunContext) -> Result<()> {
        let volume = self.volume().await?;
        archive::ensure_staged(cx, Some(volume.as_ref()), &volume.describe()).await
    }

    async fn way_back(&self, cx: &RunContext) -> Result<()> {
        match self.still_there(cx).await? {
            Some(volume) => {
                archive::ensure_kept(cx, Some(volume.as_ref()), &volume.describe()).await
            }
            None => Ok(()),
        }
    }

    async fn can_undo(&self, cx: &RunContext) -> Result<()> {
        match self.still_there(cx).await? {
            Some(volume) => archive::ensure_movable(cx, volume.as_ref()).await,
            None => Ok(()),
        }
    }

    async fn as_left(&self, cx: &RunContext) -> Result<()> {
        place::ensure_left(cx, self.volume().await, &self.section.volume).await
    }

    async fn kept_by_runs(&self) -> Result<Vec<KeptByRun>> {
        archive::kept_by_runs(self.volume().await?.as_ref()).await
    }

    async fn check(&self, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
        let volume = self.volume().await.map_err(self.at())?;
        let outcome = archive::check_swapped(cx, &self.name, volume.as_ref())
            .await
            .map_err(self.at())?;
        Ok(vec![outcome])
    }

    async fn discard(&self, cx: &RunContext, what: Discard) -> Result<()> {
        match self.still_there(cx).await.map_err(self.at())? {
            Some(volume) => volume.discard(cx.run(), what).await.map_err(self.at()),
            None => Ok(()),
        }
    }

    async fn replaced_at(&self, cx: &RunContext) -> Result<Option<String>> {
        match self.still_there(cx).await.map_err(self.at())? {
            Some(volume) => archive::replaced_at(cx, volume.as_ref())
                .await
                .map_err(self.at()),
            None => Ok(None),
        }
    }

    async fn kept_bytes(&self, cx: &RunContext) -> Result<Option<u64>> {
        match self.still_there(cx).await.map_err(self.at())? {
            Some(volume) => archive::kept_bytes(cx, volume.as_ref())
                .await
                .map_err(self.at()),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Section, default_names, outside};
    use crate::archive::Unpacked;

    #[test]
    fn what_is_left_out_is_said() {
        let mut unpacked = Unpacked::default();
        let found = |keys: &str, unpacked: &Unpacked| {
            let section: Section = toml::from_str(&format!("volume = 'x'\n{keys}")).unwrap();
            outside("data", &section, "a.tar.gz", unpacked)
        };
        assert!(found("strip = 1", &unpacked).is_none());
        unpacked.outside = 2;
        for (keys, words) in [
            ("strip = 1", "above what is left once 1 leading"),
            ("prefix = 'srv/data'", "outside of srv/data and"),
            ("prefix = 'srv'\nstrip = 2", "outside of srv, or above"),
        ] {
            let finding = found(keys, &unpacked).unwrap();
            assert_eq!(finding.code, "volume.outside_tree");
            assert!(finding.message.contains(words), "{}", finding.message);
            assert!(finding.message.starts_with("2 members"));
        }
    }

    #[test]
    fn both_generations_names_are_looked_for() {
        assert_eq!(
            default_names("grafana_data"),
            [
                "volumes/grafana-{id}.tar.gz",
                "volumes/grafana_data-{id}.tar.gz"
            ]
        );
        assert_eq!(
            default_names("nginx_logs"),
            [
                "volumes/nginx-logs-{id}.tar.gz",
                "volumes/nginx_logs-{id}.tar.gz"
            ]
        );
    }
}
