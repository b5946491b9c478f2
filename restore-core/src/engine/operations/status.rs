//! One look at a site: what it has, what it was proven to restore from, and what would stop a restore now.

use super::*;
use crate::model::Outcome;
use crate::sys::space::Space;

/// What is known of a site at one moment, without having changed anything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use = "whether a restore could begin is said by `refusal`"]
#[non_exhaustive]
pub struct SiteStatus {
    /// The site's name.
    pub site: String,
    /// What runs its services, in words.
    pub platform: String,
    /// The file that describes it, where there is one.
    pub file: Option<PathBuf>,
    /// The directory of its journals and reports.
    pub state: PathBuf,
    /// When it was looked at.
    pub at: Timestamp,
    /// Whether a restore of the newest full backup could begin now: no finding is an error. A plan may find
    /// more, as it reads artifacts where it has to.
    pub ready: bool,
    /// Its components, in the order of their cut-overs.
    pub components: Vec<String>,
    /// Its services, in the order of starting.
    pub services: Vec<String>,
    /// The stores' names, each with where it is, in words.
    pub stores: Vec<StoreStatus>,
    /// The newest full backup, which `latest` means; `None` where there is none.
    pub newest: Option<NewestBackup>,
    /// The last drill or restore that proved the newest full backup; where none did, the last that proved a backup.
    pub proven: Option<ProvenBackup>,
    /// The newest drill, however it ended.
    #[serde(default)]
    pub drill: Option<LastDrill>,
    /// Runs that have not ended, oldest first.
    pub unfinished: Vec<UnfinishedRun>,
    /// What runs keep beside the live data, oldest first.
    pub kept: Vec<KeptData>,
    /// The room where backups, journals and staged data go, each file system once.
    pub room: Vec<Room>,
    /// Who works on the site right now, in words.
    pub under_way: Option<String>,
    /// What was noticed. What is an error would stop a restore now.
    pub findings: Vec<Finding>,
}

/// A store of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoreStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Where it is, in words.
    pub place: String,
    /// How many full backups it has; `None` where it could not be listed.
    pub full_backups: Option<usize>,
}

/// The newest full backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewestBackup {
    /// Its id.
    pub id: BackupId,
    /// The store that it is in.
    pub store: String,
    /// Whether it is on this host and not packed, so that nothing must be fetched first.
    pub local: bool,
    /// Bytes of its files.
    pub bytes: Option<u64>,
    /// Seconds since the moment that its id names, in this host's local time; negative where that is to come.
    pub age_seconds: Option<i64>,
    /// Whether a drill or restore of it has passed.
    pub proven: bool,
}

/// A backup that a run has proven to restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProvenBackup {
    /// The backup.
    pub backup: BackupId,
    /// The run.
    pub run: RunId,
    /// Whether it was a drill, and not a restore.
    pub drill: bool,
    /// Whether it took all components that a full backup has.
    pub whole: bool,
    /// When it ended.
    pub at: Timestamp,
}

/// A run that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UnfinishedRun {
    /// Its id.
    pub run: RunId,
    /// Its backup.
    pub backup: BackupId,
    /// How far it has come.
    pub outcome: Outcome,
    /// Who is at work on it right now, in words; `None`: nobody.
    pub under_way: Option<String>,
    /// Since when users are turned away by it, where they are.
    pub down_since: Option<Timestamp>,
    /// Whether its maintenance page is up, or may be.
    pub page_up: bool,
    /// What to type about it, in a sentence.
    #[serde(default)]
    pub hint: String,
}

/// The newest drill that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LastDrill {
    /// The backup.
    pub backup: BackupId,
    /// The run.
    pub run: RunId,
    /// Whether the backup passed it.
    pub passed: bool,
    /// Whether it took all components of the site.
    pub whole: bool,
    /// When it ended.
    pub at: Timestamp,
    /// Why it did not pass, in a line.
    pub failure: Option<String>,
}

/// What a run keeps beside the live data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeptData {
    /// The run.
    pub run: RunId,
    /// How it ended.
    pub outcome: Outcome,
    /// The components of which it keeps something.
    pub components: Vec<String>,
    /// About how many bytes; `None` where nobody knows.
    pub bytes: Option<u64>,
}

/// Room on a file system that a site uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Room {
    /// What lies there: `state`, `store main`, `redis`.
    pub uses: Vec<String>,
    /// How much is free.
    pub space: Space,
}

impl SiteStatus {
    /// Why a restore could not begin now; `None`: it could. Its kind is that of what stops it.
    pub fn refusal(&self) -> Option<Error> {
        let stops = |finding: &&Finding| finding.severity == crate::model::Severity::Error;
        let mut errors = self.findings.iter().filter(stops);
        let first = errors.next()?;
        let others = match errors.count() {
            0 => String::new(),
            1 => " (and one more finding)".to_owned(),
            more => format!(" (and {more} more findings)"),
        };
        let kind = match first.kind {
            Some(kind @ (ErrorKind::Locked | ErrorKind::Verification)) => kind,
            _ => ErrorKind::Preflight,
        };
        let error = Error::new(
            kind,
            "status.not_ready",
            format!("a restore could not begin now: {}{others}", first.line()),
        );
        Some(match &first.hint {
            Some(hint) => error.hint(hint.as_str()),
            None => error.hint("`restore plan latest` shows every finding"),
        })
    }
}

/// Whether what a run took of its backup has been shown to restore.
fn proves(state: &RunState, report: &Report) -> bool {
    matches!(report.outcome, Outcome::Drilled | Outcome::Restored)
        && !report.is_failing()
        && state.damaged.is_none()
        && report.ended.is_some()
}

impl Site {
    /// What the site has, whether it was ever proven, and what would stop a restore of the newest
    /// full backup now. Changes nothing, and reads no artifact: what a plan finds without that is found here. What
    /// cannot be looked at is a finding, so that one part which is broken hides no other.
    pub async fn status(&self, options: &RunOptions) -> Result<SiteStatus> {
        let mut status = SiteStatus {
            site: self.name().to_owned(),
            platform: self.platform.describe(),
            file: self.file.clone(),
            state: self.state.clone(),
            at: Timestamp::now(),
            ready: false,
            components: self
                .components
                .iter()
                .map(|it| it.name().to_owned())
                .collect(),
            services: self.platform.services(),
            stores: Vec::new(),
            newest: None,
            proven: None,
            drill: None,
            unfinished: Vec::new(),
            kept: Vec::new(),
            room: Vec::new(),
            under_way: None,
            findings: Vec::new(),
        };
        let looked = async {
            self.look_at_lock(&mut status).await;
            self.look_at_runs(&mut status).await;
            self.look_at_backups(&mut status).await;
            self.look_at_plan(&mut status, options).await;
            self.look_at_room(&mut status).await;
        };
        tokio::select! {
            () = looked => {}
            () = options.cancel.cancelled() => return Err(Error::interrupted()),
        }
        // What stops a restore comes first, then what a run may have left in the middle.
        status
            .findings
            .sort_by_key(|it| std::cmp::Reverse(it.severity));
        status.ready = status.refusal().is_none();
        Ok(status)
    }

    async fn look_at_lock(&self, status: &mut SiteStatus) {
        if let Err(error) = SiteLock::probe(&self.state).await {
            if error.kind() == ErrorKind::Locked {
                status.under_way = Some(error.message().to_owned());
            }
            status.findings.push(Finding::from_error("lock", &error));
        }
        match self.platform.lock_holder().await {
            Ok(Some(holder)) if status.under_way.is_none() => {
                let finding = Finding::error("site.locked", "lock", holder.as_str())
                    .of_kind(ErrorKind::Locked)
                    .hint("wait for its end; `restore unlock` takes the lock of a host that is gone for good");
                status.findings.push(finding);
                status.under_way = Some(holder);
            }
            Ok(_) => {}
            Err(error) => status
                .findings
                .push(Finding::from_error("platform", &error)),
        }
    }

    async fn look_at_runs(&self, status: &mut SiteStatus) {
        let states = match Journal::all(&self.runs()).await {
            Ok(states) => states,
            Err(error) => {
                status.findings.push(Finding::from_error("state", &error));
                return;
            }
        };
        match self.unread_runs().await {
            Ok(unread) => status.findings.extend(unread),
            Err(error) => status.findings.push(Finding::from_error("state", &error)),
        }
        for state in states {
            let mut report = report_of(self, &state).await;
            // Of a part of a backup less is known than of all of it.
            let proof = self.proof(&state, &report);
            let passed = proves(&state, &report);
            if let Some(proof) = proof
                && (proof.whole || status.proven.as_ref().is_none_or(|known| !known.whole))
            {
                status.proven = Some(proof);
            }
            if let Some(at) = report.ended.filter(|_| report.drill && !state.is_open()) {
                let failure = report.failure.as_ref();
                status.drill = Some(LastDrill {
                    backup: report.backup.clone(),
                    run: report.run.clone(),
                    passed,
                    whole: state.plan.request.paths.is_empty()
                        && status
                            .components
                            .iter()
                            .all(|name| state.plan.component(name).is_some()),
                    at,
                    failure: failure.map(|it| it.message.clone()),
                });
            }
            if state.is_open() {
                let under_way = match state.pid {
                    Some(pid) => SiteLock::held_by(&self.state, pid).await,
                    None => None,
                };
                status.unfinished.push(UnfinishedRun {
                    run: report.run.clone(),
                    backup: report.backup.clone(),
                    outcome: report.outcome,
                    under_way,
                    down_since: report.down_since,
                    page_up: report.page_up,
                    hint: state.ways_on(),
                });
            }
            if report.components.iter().any(|part| part.kept_at.is_some()) {
                weigh(self, &state, &mut report).await;
                let kept = || report.components.iter().filter(|it| it.kept_at.is_some());
                let mut bytes = kept().filter_map(|part| part.kept_bytes).peekable();
                status.kept.push(KeptData {
                    run: report.run.clone(),
                    outcome: report.outcome,
                    components: kept().map(|part| part.name.clone()).collect(),
                    bytes: bytes.peek().is_some().then(|| bytes.sum()),
                });
            }
        }
    }

    /// What a run has proven. Single paths and tables tell nothing of the rest of their components.
    fn proof(&self, state: &RunState, report: &Report) -> Option<ProvenBackup> {
        let request = &state.plan.request;
        let part = !request.paths.is_empty() || request.is_beside();
        let at = report.ended.filter(|_| proves(state, report) && !part)?;
        let taken = |it: &SharedComponent| state.plan.component(it.name()).is_some();
        let mut counted = self.counted().peekable();
        Some(ProvenBackup {
            backup: report.backup.clone(),
            run: report.run.clone(),
            drill: report.drill,
            whole: match counted.peek() {
                Some(_) => counted.all(taken),
                None => self.components.iter().all(taken),
            },
            at,
        })
    }

    async fn look_at_backups(&self, status: &mut SiteStatus) {
        let mut backups: Vec<ListedBackup> = Vec::new();
        let mut all_listed = true;
        for (name, store) in &self.stores {
            let before = backups.len();
            let listed = self.list_store(name, store, &mut backups).await;
            let full = backups.iter().skip(before);
            let full = full.filter(|it| it.kind == BackupKind::Full).count();
            status.stores.push(StoreStatus {
                name: name.clone(),
                place: store.describe(),
                full_backups: listed.is_ok().then_some(full),
            });
            if let Err(error) = listed {
                all_listed = false;
                // What `latest` means is not known then.
                let finding = Finding::from_error(format!("store {name}"), &error);
                status.findings.push(finding);
            }
        }
        backups.sort_by(|a, b| a.id.cmp(&b.id));
        let usable = |it: &&ListedBackup| {
            it.kind == BackupKind::Full || (it.kind == BackupKind::Packed && !it.id.is_safety())
        };
        let local = |it: &ListedBackup| {
            let here = |(name, store): &(String, Arc<dyn BackupStore>)| {
                *name == it.store && store.directory().is_some()
            };
            it.kind == BackupKind::Full && self.stores.iter().any(here)
        };
        // Of several stores that have it, the first on this host; the last of equal ones wins.
        let newest = backups
            .iter()
            .rev()
            .filter(usable)
            .max_by(|a, b| a.id.cmp(&b.id).then(local(a).cmp(&local(b))));
        let Some(newest) = newest else {
            if all_listed {
                let partial = backups.iter().rfind(|it| it.kind == BackupKind::Partial);
                let partial = partial.map(|it| (it.id.clone(), it.lacking.clone()));
                let error = self.no_full(partial, &self.places());
                status.findings.push(Finding::from_error("backups", &error));
            }
            return;
        };
        status.newest = Some(NewestBackup {
            id: newest.id.clone(),
            store: newest.store.clone(),
            local: local(newest),
            bytes: match (&newest.summary, &newest.packed) {
                (Some(summary), _) => Some(summary.bytes),
                (None, Some(packed)) => Some(packed.size),
                (None, None) => None,
            },
            age_seconds: age(&newest.id, status.at),
            proven: false,
        });
        if let Ok(states) = Journal::all(&self.runs()).await
            && let Some(newest) = &mut status.newest
        {
            for state in states.iter().filter(|it| it.plan.backup == newest.id) {
                let proof = self.proof(state, &report_of(self, state).await);
                if let Some(proof) = proof.filter(|it| it.whole) {
                    newest.proven = true;
                    // What was proven of another one later makes it no less proven.
                    status.proven = Some(proof);
                }
            }
        }
        if let Some(drill) = status.drill.as_ref().filter(|it| !it.passed) {
            let why = drill
                .failure
                .as_deref()
                .unwrap_or("its report says how far it came");
            let finding = Finding::warning(
                "status.drill_failed",
                drill.run.as_str(),
                format!(
                    "the newest drill, of backup {}, did not pass: {why}",
                    drill.backup
                ),
            )
            .hint(format!(
                "`restore report {}` has all of it; `restore drill latest` tries again",
                drill.run
            ));
            status.findings.push(finding);
        }
        if status.proven.is_none() {
            status.findings.push(
                Finding::warning(
                    "status.unproven",
                    "backups",
                    "no backup of this site was ever proven to restore",
                )
                .hint("`restore drill latest` proves the newest, beside the live data"),
            );
        }
    }

    /// What a plan of the newest full backup finds.
    async fn look_at_plan(&self, status: &mut SiteStatus, options: &RunOptions) {
        let Some(newest) = status.newest.as_ref() else {
            return;
        };
        if !newest.local {
            let finding = Finding::info(
                "fetch.needed",
                newest.id.as_str(),
                "is fetched first: what a plan of it finds is known then",
            );
            status.findings.push(finding.hint(format!(
                "`restore fetch {0}`, then `restore plan {0}`",
                newest.id
            )));
            for run in &status.unfinished {
                let what = format!("an earlier run of backup {} is {}", run.backup, run.outcome);
                let finding = Finding::error("run.unfinished", run.run.as_str(), what);
                status.findings.push(finding.hint(run.hint.as_str()));
            }
            return;
        }
        let id = newest.id.clone();
        let planned = async {
            let backup = self.backup(id.as_str()).await?;
            self.plan_quickly(&backup, PlanRequest::all(), options)
                .await
        };
        match planned.await {
            Ok(plan) => {
                for finding in plan.findings {
                    if !status.findings.contains(&finding)
                        && finding.severity > crate::model::Severity::Info
                    {
                        status.findings.push(finding);
                    }
                }
            }
            Err(error) => status
                .findings
                .push(Finding::from_error(id.as_str(), &error)),
        }
    }

    async fn look_at_room(&self, status: &mut SiteStatus) {
        let mut add = |what: String, space: Space| {
            let mut known = status.room.iter_mut();
            match known.find(|it| it.space.file_system == space.file_system) {
                Some(room) => room.uses.push(what),
                None => status.room.push(Room {
                    uses: vec![what],
                    space,
                }),
            }
        };
        let state = self.state.ancestors().find(|path| path.is_dir());
        if let Ok(space) = Space::of(state.unwrap_or(Path::new("/"))) {
            add("state".to_owned(), space);
        }
        for (name, store) in &self.stores {
            if let Ok(Some(space)) = store.room().await {
                add(format!("store {name}"), space);
            }
        }
        for component in &self.components {
            for target in component.targets(&[]).await.unwrap_or_default() {
                let there = target.path.ancestors().find(|path| path.is_dir());
                if let Some(space) = there.and_then(|path| Space::of(path).ok()) {
                    add(component.name().to_owned(), space);
                }
            }
        }
        for room in &mut status.room {
            room.uses.dedup();
        }
    }
}

/// Seconds since the moment that an id names, taken for this host's local time.
fn age(id: &BackupId, now: Timestamp) -> Option<i64> {
    let made = jiff::civil::DateTime::strptime("%Y%m%d-%H%M%S", id.stamp()).ok()?;
    let made = made.to_zoned(jiff::tz::TimeZone::system()).ok()?;
    Some(now.seconds() - made.timestamp().as_second())
}
