//! Bringing files out of a backup into a directory, with nothing live touched.

use super::*;
use crate::archive::{MemberMissing, UnpackPolicy, copy_stored_into, unpack_into};
use crate::engine::plan::nothing_selected;
use crate::model::Progress;
use crate::sys::NewDirectory;

/// What is brought out of a backup, and where to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GetRequest {
    /// What: `COMPONENT/path` below what the component restores, `COMPONENT` for all of it, a path as
    /// the archive or the live machine has it, or a file of the backup itself.
    pub paths: Vec<String>,
    /// The directory, which must not be there yet, or be empty.
    pub to: PathBuf,
    /// Leave everything to whoever asks, instead of the recorded owners.
    pub no_owner: bool,
    /// Keep set-uid and set-gid bits and capabilities of files, which are taken off otherwise.
    pub keep_powers: bool,
    /// Also what has no checksum to verify it by.
    pub allow_unverified: bool,
}

impl GetRequest {
    /// These paths, into that directory.
    pub fn new<S: Into<String>>(
        paths: impl IntoIterator<Item = S>,
        to: impl Into<PathBuf>,
    ) -> Self {
        Self {
            paths: paths.into_iter().map(Into::into).collect(),
            to: to.into(),
            ..Self::default()
        }
    }

    /// The same request; everything belongs to whoever asks.
    #[must_use]
    pub fn no_owner(mut self, without: bool) -> Self {
        self.no_owner = without;
        self
    }

    /// The same request; set-uid and set-gid bits and capabilities of files are kept.
    #[must_use]
    pub fn keep_powers(mut self, keep: bool) -> Self {
        self.keep_powers = keep;
        self
    }

    /// The same request; what has no checksum is taken too.
    #[must_use]
    pub fn allow_unverified(mut self, allow: bool) -> Self {
        self.allow_unverified = allow;
        self
    }
}

/// What was taken from one artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Gotten {
    /// The artifact, by its path in the backup.
    pub artifact: String,
    /// The component whose tree it is; `None`: the artifact itself was taken.
    pub component: Option<String>,
    /// The paths below what that restores; empty: all of it.
    pub paths: Vec<String>,
    /// Where in the directory it is.
    pub at: String,
}

/// What bringing files out of a backup came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GetReport {
    /// The backup.
    pub backup: BackupId,
    /// The directory that has them.
    pub to: PathBuf,
    /// What was taken from where.
    pub taken: Vec<Gotten>,
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic and hard links.
    pub links: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Whether all of it was compared with its checksum.
    pub verified: bool,
    /// What must be known of them.
    pub findings: Vec<Finding>,
}

/// Something to take from one artifact.
struct Wanted {
    taken: Gotten,
    /// How it is unpacked; `None`: it is copied as it is.
    policy: Option<UnpackPolicy>,
}

impl Site {
    /// Brings files out of a backup into a directory. Nothing live is touched or looked at, and no lock
    /// is needed.
    ///
    /// The directory gets its name once everything in it is there, durable and verified: until then it
    /// is beside, under a name that begins with `.restore-get-`. On an error there is nothing. What a
    /// killed process left there, the next call for the same directory removes. Links are made as they
    /// are, and never followed.
    ///
    /// The backup must be on this host: [`Site::bring`](Self::bring) brings one that is elsewhere, packed
    /// or encrypted.
    ///
    /// # Errors
    ///
    /// `Config`: `get.unknown_path`, `get.exists`; `Preflight`: `path.untrusted`, `backup.unverifiable`;
    /// `Verification` where an artifact is not what was backed up, or has no such member
    /// (`archive.member_missing`); `Locked` while another process brings files there; `Interrupted`
    /// once [`RunOptions::cancel`] is cancelled.
    pub async fn get(
        &self,
        backup: &Backup,
        request: &GetRequest,
        options: &RunOptions,
    ) -> Result<GetReport> {
        let wanted = self.wanted(backup, request).await?;
        let findings = verifiable(backup, &wanted, request.allow_unverified)?;
        let to = std::path::absolute(&request.to)
            .map_err(|e| Error::io(format!("find {}", request.to.display()), e))?;
        let directory = NewDirectory::begin(&to)?;
        let mut report = GetReport {
            backup: backup.id().clone(),
            to,
            taken: Vec::new(),
            files: 0,
            directories: 0,
            links: 0,
            bytes: 0,
            verified: findings.is_empty(),
            findings,
        };
        for wanted in wanted {
            take(backup, &wanted, request, &directory, options, &mut report).await?;
            report.taken.push(wanted.taken);
        }
        if options.cancel.is_cancelled() {
            return Err(Error::interrupted());
        }
        directory.finish()?;
        Ok(report)
    }

    /// What the paths mean, one for each artifact.
    async fn wanted(&self, backup: &Backup, request: &GetRequest) -> Result<Vec<Wanted>> {
        if request.paths.is_empty() {
            return Err(nothing_selected());
        }
        let mut all: Vec<Wanted> = Vec::new();
        for path in &request.paths {
            let plain = path.trim_end_matches('/');
            if backup.file(plain).is_some() {
                add(&mut all, artifact(plain));
                continue;
            }
            let (component, inside) = self.place_of(path).await?;
            for wanted in self
                .of_component(backup, component, inside, request)
                .await?
            {
                add(&mut all, wanted);
            }
        }
        Ok(all)
    }

    /// The component that a path is of, and the path below what that restores.
    async fn place_of(&self, path: &str) -> Result<(&SharedComponent, String)> {
        let plain = path.trim_start_matches("./").trim_end_matches('/');
        let (name, inside) = plain.split_once('/').unwrap_or((plain, ""));
        if let Some(component) = self.component(name) {
            return Ok((component, inside.to_owned()));
        }
        for component in self.components() {
            let Some(contents) = component.contents() else {
                continue;
            };
            if let Some(inside) = contents.inside(path).await {
                return Ok((component, inside));
            }
        }
        let known: Vec<&str> = self.components().iter().map(|it| it.name()).collect();
        Err(Error::new(
            ErrorKind::Config,
            "get.unknown_path",
            format!("{path:?} is no file of the backup, and lies in nothing that a component restores"),
        )
        .hint(format!(
            "name it as COMPONENT/path with one of {}; `restore show ID --files` lists what there is",
            known.join(", ")
        )))
    }

    async fn of_component(
        &self,
        backup: &Backup,
        component: &SharedComponent,
        inside: String,
        request: &GetRequest,
    ) -> Result<Vec<Wanted>> {
        let name = component.name();
        let archives = match component.contents() {
            Some(contents) => contents.archives(backup).await,
            None => Vec::new(),
        };
        let mut archives = archives.into_iter();
        let Some((path, policy)) = archives.next() else {
            let artifacts = component.artifacts(backup);
            return match (artifacts.is_empty(), inside.is_empty()) {
                (true, _) => Err(Error::new(
                    ErrorKind::NotFound,
                    "get.nothing",
                    format!("backup {} has nothing for {name}", backup.id()),
                )
                .hint("`restore show ID` lists its files; `restore list` shows the other backups")),
                (false, true) => Ok(artifacts.iter().map(|path| artifact(path)).collect()),
                (false, false) => Err(Error::new(
                    ErrorKind::Config,
                    "get.no_members",
                    format!(
                        "{name} is restored from no archive of files: there is no {inside:?} in it"
                    ),
                )
                .hint(format!(
                    "`{name}` alone brings out {}",
                    artifacts.join(", ")
                ))),
            };
        };
        if let Some((other, _)) = archives.next() {
            return Err(Error::new(
                ErrorKind::Config,
                "archive.ambiguous",
                format!(
                    "backup {} has several files that fit: {path}, {other}",
                    backup.id()
                ),
            )
            .hint("make the pattern in `archive` fit one of them only"));
        }
        let own = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        let policy = UnpackPolicy {
            set_uid: request.keep_powers,
            drop_powers: !request.keep_powers,
            chown: match request.no_owner {
                true => Some((own, group)),
                false => policy.chown,
            },
            ..policy
        };
        Ok(vec![Wanted {
            taken: Gotten {
                artifact: path,
                component: Some(name.to_owned()),
                at: name.to_owned(),
                paths: match inside.is_empty() {
                    true => Vec::new(),
                    false => vec![inside],
                },
            },
            policy: Some(policy),
        }])
    }
}

/// An artifact as it is.
fn artifact(path: &str) -> Wanted {
    Wanted {
        taken: Gotten {
            artifact: path.to_owned(),
            component: None,
            paths: Vec::new(),
            at: path.to_owned(),
        },
        policy: None,
    }
}

/// Adds what is wanted: each artifact is read once.
fn add(all: &mut Vec<Wanted>, more: Wanted) {
    let same = |it: &&mut Wanted| {
        it.taken.artifact == more.taken.artifact && it.taken.component == more.taken.component
    };
    match all.iter_mut().find(same) {
        // All of it is wanted anyway.
        Some(known) if known.taken.paths.is_empty() => {}
        Some(known) if more.taken.paths.is_empty() => known.taken.paths.clear(),
        Some(known) => known.taken.paths.extend(more.taken.paths),
        None => all.push(more),
    }
}

/// Refuses what nothing could verify, unless that is allowed.
fn verifiable(backup: &Backup, wanted: &[Wanted], allowed: bool) -> Result<Vec<Finding>> {
    let unverifiable: Vec<&str> = wanted
        .iter()
        .map(|it| it.taken.artifact.as_str())
        .filter(|path| backup.expected_digest(path).is_none())
        .collect();
    if unverifiable.is_empty() {
        return Ok(Vec::new());
    }
    let message = format!("there is no checksum for {}", unverifiable.join(", "));
    let finding = Finding::warning("backup.unverifiable", backup.id().as_str(), &message);
    match allowed {
        true => Ok(vec![finding]),
        false => Err(Error::new(
            ErrorKind::Preflight,
            "backup.unverifiable",
            format!("backup {}: {message}", backup.id()),
        )
        .hint("--allow-unverified takes it all the same")),
    }
}

async fn take(
    backup: &Backup,
    wanted: &Wanted,
    request: &GetRequest,
    directory: &NewDirectory,
    options: &RunOptions,
    report: &mut GetReport,
) -> Result<()> {
    let taken = &wanted.taken;
    let source = backup
        .source(&taken.artifact)?
        .cancelled_by(options.cancel.clone());
    let subject = taken.component.as_deref().unwrap_or(&taken.artifact);
    let progress =
        |action: &str| Progress::new(options.events.clone(), subject, action, source.size());
    let Some(policy) = &wanted.policy else {
        let (folder, name) = directory.place(Path::new(&taken.at))?;
        let shown = directory.shown().join(&taken.at);
        let shown = shown.parent().unwrap_or(directory.shown());
        let name = name.to_string_lossy().into_owned();
        let copy = copy_stored_into(
            source.clone(),
            (folder, shown),
            &name,
            (0o600, None),
            progress("copy"),
        );
        let (bytes, _) = copy.await?;
        report.files += 1;
        report.bytes = report.bytes.saturating_add(bytes);
        return Ok(());
    };
    let folder = directory.folder(Path::new(&taken.at))?;
    let shown = directory.shown().join(&taken.at);
    let policy = UnpackPolicy {
        only: taken.paths.clone(),
        ..policy.clone()
    };
    let progress = progress("unpack");
    let unpacked = unpack_into(source.clone(), folder, &shown, &policy, progress)
        .await
        .map_err(|error| match error.is(&MemberMissing) {
            true => error.hint(format!(
                "`restore show {} --files` lists what there is",
                backup.id()
            )),
            false => error,
        })?;
    report.files += unpacked.files;
    report.directories += unpacked.directories;
    report.links += unpacked.links;
    report.bytes = report.bytes.saturating_add(unpacked.bytes);
    if unpacked.acls_lost > 0 {
        let message = format!(
            "{} access control lists could not be set",
            unpacked.acls_lost
        );
        report.findings.push(Finding::warning(
            "archive.acls_lost",
            &taken.artifact,
            message,
        ));
    }
    if unpacked.attributes_lost > 0 {
        report.findings.push(Finding::warning(
            "archive.attributes_lost",
            &taken.artifact,
            format!(
                "{} extended attributes were not given back",
                unpacked.attributes_lost
            ),
        ));
    }
    if request.no_owner || rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let finding = Finding::info(
        "get.owners_lost",
        &taken.artifact,
        "its files belong to whoever asked: only root can give them their recorded owners",
    );
    report.findings.push(finding);
    Ok(())
}
