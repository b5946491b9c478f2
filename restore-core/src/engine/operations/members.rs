//! What is in the artifacts of a backup, told as it is read.

use std::time::SystemTime;

use super::*;
use crate::archive::{Listed, MemberType, PathPattern, TreePaths, UnpackPolicy, list};
use crate::contract::DumpedTable;
use crate::contract::backup::artifact::{Artifact, detect};
use crate::model::error::nothing_selected;
use crate::model::{BackupMember, MemberKind, Progress, Severity};
use crate::sys::blocking::blocking;

/// How many members may wait to be told.
const DEPTH: usize = 256;

/// Which of what is in a backup is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MembersRequest {
    /// Only artifacts of these components; empty: all, also those of no component. Not public: an empty one
    /// of a caller's would be everything.
    only: Vec<String>,
    /// Somebody chose among the components, and nothing was left.
    nothing: bool,
    /// A path, or a name without a slash, in which `*` stands for anything but a slash: only what it
    /// names, and all below.
    pub pattern: Option<String>,
}

impl MembersRequest {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// This request, of these components only. Of an empty selection nothing is told (`plan.nothing_selected`).
    #[must_use]
    pub fn only<S: Into<String>>(mut self, components: impl IntoIterator<Item = S>) -> Self {
        self.only = components.into_iter().map(Into::into).collect();
        self.nothing = self.only.is_empty();
        self
    }

    /// The components that were chosen; empty: nobody chose among them.
    pub fn selected_components(&self) -> &[String] {
        &self.only
    }

    /// Refuses an empty selection: also the pattern that is a variable without a value.
    fn ensure_something(&self) -> Result<()> {
        match self.nothing || self.pattern.as_deref() == Some("") {
            true => Err(nothing_selected()),
            false => Ok(()),
        }
    }

    /// This request, of what this pattern names only.
    #[must_use]
    pub fn pattern(mut self, pattern: impl Into<Option<String>>) -> Self {
        self.pattern = pattern.into();
        self
    }
}

/// What reading a backup for its members came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "of artifacts that are not what was backed up nothing can be believed: see `refusal`"]
#[non_exhaustive]
pub struct MembersReport {
    /// How many were told.
    pub members: u64,
    /// How many there are.
    pub total: u64,
    /// What is to be said of the artifacts. Of one with an error among them nothing that was told can be
    /// believed.
    pub findings: Vec<Finding>,
}

impl MembersReport {
    /// The error that there was; `None` where all that was read is what was backed up.
    pub fn refusal(&self) -> Option<Error> {
        let mut errors = self.findings.iter();
        let first = errors.find(|it| it.severity == Severity::Error)?;
        let more = match errors.filter(|it| it.severity == Severity::Error).count() {
            0 => String::new(),
            more => format!(" (and {more} more artifacts)"),
        };
        let message = format!("{}{more}", first.line());
        let kind = first.kind.unwrap_or(ErrorKind::Failed);
        let error = Error::new(kind, "members.unread", message);
        let hint = first.hint.clone();
        Some(error.hint(hint.unwrap_or_else(|| {
            "what was listed of it cannot be believed: `restore verify` says more".to_owned()
        })))
    }
}

/// A component, and what it says of its artifacts.
struct Owner<'a> {
    component: &'a SharedComponent,
    artifacts: Vec<String>,
    archives: Vec<(String, UnpackPolicy)>,
}

impl Owner<'_> {
    fn policy(&self, artifact: &str) -> Option<&UnpackPolicy> {
        let mut archives = self.archives.iter();
        Some(&archives.find(|(path, _)| path == artifact)?.1)
    }
}

impl Site {
    /// Tells everything that is in a backup's artifacts: the members of archives, the tables of dumps,
    /// other artifacts as themselves. Each is read once, to its end, and its hash compared there:
    /// [`MembersReport::refusal`] says what was not what was backed up. Memory does not grow with what
    /// there is. Nothing is written, nothing live is looked at.
    ///
    /// The backup must be on this host: [`Site::bring`](Self::bring) brings one that is elsewhere, packed
    /// or encrypted.
    ///
    /// # Errors
    ///
    /// `plan.unknown_component`; `plan.nothing_selected`; `Interrupted` once [`RunOptions::cancel`] is
    /// cancelled.
    pub async fn members(
        &self,
        backup: &Backup,
        request: &MembersRequest,
        options: &RunOptions,
        mut tell: impl FnMut(BackupMember) + Send,
    ) -> Result<MembersReport> {
        request.ensure_something()?;
        let components = self.chosen(&request.only)?;
        let listed = backup.as_listed();
        let mut owners = Vec::new();
        for component in &components {
            let archives = match component.contents() {
                Some(contents) => contents.archives(backup).await,
                None => Vec::new(),
            };
            owners.push(Owner {
                artifacts: component.artifacts(&listed),
                component,
                archives,
            });
        }
        let pattern = request.pattern.as_deref().map(PathPattern::new);
        let mut report = MembersReport::default();
        let mut told = |member: BackupMember, report: &mut MembersReport| {
            report.total += 1;
            let names = |text: &String| pattern.as_ref().is_none_or(|it| it.names(text.as_bytes()));
            if names(&member.name) || member.path.as_ref().is_some_and(names) {
                report.members += 1;
                tell(member);
            }
        };
        let lists = backup.manifest().map_or(&[][..], |it| &it.lists[..]);
        for file in listed.files() {
            let path = file.path.as_str();
            if backup.is_manifest(path) || lists.contains(&file.path) {
                continue;
            }
            let owners: Vec<&Owner<'_>> = owners
                .iter()
                .filter(|it| it.artifacts.contains(&file.path) || it.policy(path).is_some())
                .collect();
            if owners.is_empty() && !request.only.is_empty() {
                continue;
            }
            let mut tell = |member: BackupMember| told(member, &mut report);
            match look_into(backup, path, &owners, options, &mut tell).await {
                Ok(findings) => report.findings.extend(findings),
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                Err(error) => report.findings.push(Finding::from_error(path, &error)),
            }
        }
        Ok(report)
    }
}

/// Tells what is in one artifact.
async fn look_into(
    backup: &Backup,
    path: &str,
    owners: &[&Owner<'_>],
    options: &RunOptions,
    tell: &mut (dyn FnMut(BackupMember) + Send),
) -> Result<Vec<Finding>> {
    let source = backup.source(path)?.cancelled_by(options.cancel.clone());
    let owner = owners.first().map(|it| it.component.name());
    let whole = || BackupMember {
        component: owner.map(str::to_owned),
        size: source.size(),
        ..BackupMember::new(path, path, MemberKind::Artifact)
    };
    if options.cancel.is_cancelled() {
        return Err(Error::interrupted());
    }
    let mut archive = owners.iter().any(|it| it.policy(path).is_some());
    if !archive {
        for contents in owners.iter().filter_map(|it| it.component.contents()) {
            let tables = contents.tables(backup, path, &options.cancel).await?;
            if let Some(tables) = tables {
                tables
                    .into_iter()
                    .for_each(|table| tell(of_table(path, owner, table)));
                return Ok(unverified(backup, path).into_iter().collect());
            }
        }
        let opened = source.clone();
        let looking = blocking(move || {
            let file = opened.open();
            let found = file.and_then(|file| detect(file, opened.label()));
            found.map_err(|e| Error::io(format!("read {}", opened.label()), e))
        });
        archive = looking.await? == Artifact::Archive;
    }
    if !archive {
        tell(whole());
        if !backup.locked().iter().any(|locked| locked == path) {
            return Ok(Vec::new());
        }
        let finding = Finding::warning(
            "members.encrypted",
            path,
            "it is encrypted: nothing in it is listed",
        );
        return Ok(vec![finding.hint(format!(
            "`restore fetch {} --to STORE` decrypts it into a store with `unlocked = true`",
            backup.id()
        ))]);
    }
    let mut trees = Vec::new();
    for owner in owners {
        if let Some(policy) = owner.policy(path) {
            trees.push((owner.component.name(), TreePaths::new(path, policy)?));
        }
    }
    let progress = Progress::new(options.events.clone(), path, "read", source.size());
    let (send, mut receive) = tokio::sync::mpsc::channel(DEPTH);
    let telling = async {
        while let Some(listed) = receive.recv().await {
            tell(of_listed(path, owner, &trees, listed));
        }
    };
    let (read, ()) = tokio::join!(list(source.clone(), progress, send), telling);
    read?;
    Ok(unverified(backup, path).into_iter().collect())
}

/// What is to be said of an artifact that has no hash.
fn unverified(backup: &Backup, path: &str) -> Option<Finding> {
    backup.expected_digest(path).is_none().then(|| {
        let message = "it has no checksum: nothing tells whether it is what was backed up";
        Finding::warning("backup.unverifiable", path, message)
    })
}

fn of_table(artifact: &str, component: Option<&str>, table: DumpedTable) -> BackupMember {
    let name = format!("{}.{}", table.schema, table.name);
    BackupMember {
        component: component.map(str::to_owned),
        rows: table.rows,
        ..BackupMember::new(artifact, name, MemberKind::Table)
    }
}

fn of_listed(
    artifact: &str,
    component: Option<&str>,
    trees: &[(&str, TreePaths<'_>)],
    listed: Listed,
) -> BackupMember {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let place = trees.iter().find_map(|(name, tree)| {
        let path = tree.of(&listed.name)?;
        Some((*name, path))
    });
    let (kind, target) = match &listed.kind {
        MemberType::File => (MemberKind::File, None),
        MemberType::Directory => (MemberKind::Directory, None),
        MemberType::Symlink(target) => (MemberKind::Symlink, Some(text(target))),
        MemberType::HardLink(target) => (MemberKind::HardLink, Some(text(target))),
        MemberType::Fifo => (MemberKind::Fifo, None),
        MemberType::Device => (MemberKind::Device, None),
        MemberType::Other => (MemberKind::Other, None),
    };
    let component = match &place {
        Some((name, _)) => Some(*name),
        // Part of its artifact, and restored by nobody.
        None if trees.is_empty() => component,
        None => None,
    };
    BackupMember {
        component: component.map(str::to_owned),
        path: place.map(|(name, path)| match path.is_empty() {
            true => name.to_owned(),
            false => format!("{name}/{}", text(&path)),
        }),
        size: (kind == MemberKind::File).then_some(listed.size),
        target,
        mode: Some(listed.mode),
        owner: Some(listed.owner),
        modified: Some(moment(listed.modified)),
        ..BackupMember::new(artifact, text(&listed.name), kind)
    }
}

/// A member's time; one that no clock shows is the beginning of 1970.
fn moment((seconds, nanos): (i64, u32)) -> Timestamp {
    let length = Duration::from_secs(seconds.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let time = match seconds < 0 {
        true => epoch.checked_sub(length),
        false => epoch.checked_add(length),
    };
    let time = time.and_then(|time| time.checked_add(Duration::from_nanos(nanos.into())));
    time.unwrap_or(epoch).into()
}
