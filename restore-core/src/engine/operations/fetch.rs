//! What a site does with stores: find a backup in them, and bring it here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::*;
use crate::backup::fetch;
use crate::backup::fetch::{FetchOptions, FetchReport, Transfer};
use crate::backup::latest::{Newest, latest_of};
use crate::backup::unlock::check_signature;
use crate::backup::verification::Verdict;
use crate::contract::PackedBackup;
use crate::model::Finding;

/// A store by its name.
type Named<'a> = (&'a str, &'a Arc<dyn BackupStore>);

/// A store that has a backup: in a folder, or as a packed file.
struct Holder<'a> {
    name: &'a str,
    store: &'a Arc<dyn BackupStore>,
    packed: Option<PackedBackup>,
}

/// What a store has of a backup.
enum Held {
    Finished,
    Unfinished,
    Packed(PackedBackup),
    Not,
}

impl Site {
    /// Opens a backup by its id, or by the name `latest` the newest full one that no plan refuses by
    /// its listing; where each is refused, the newest, so that its plan says why. Of several stores
    /// that have it, the first one on this host is taken, then the first of the others; a store
    /// elsewhere is asked only for what is not here. Where the store demands a signature of the
    /// manifest, it is checked.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Preflight` (`backup.packed`) where it is there as one packed file only;
    /// `Verification` where the signature that the store demands is missing or wrong.
    pub async fn backup(&self, id: &str) -> Result<Backup> {
        let id = self.resolve(id).await?;
        let found = self.holder(&id, self.nearest()).await?;
        match &found.packed {
            None => self.open_in(&found, id).await,
            Some(packed) => Err(Error::new(
                ErrorKind::Preflight,
                "backup.packed",
                format!(
                    "backup {id} is packed: {} in {}",
                    packed.name,
                    found.store.describe()
                ),
            )
            .hint(format!(
                "`restore fetch {id}` unpacks it beside; `restore run` does so by itself"
            ))),
        }
    }

    /// The same backup on this host, unpacked and unlocked: fetched first, where it is elsewhere
    /// or packed, with what that came to.
    pub async fn bring(
        &self,
        id: &str,
        options: FetchOptions,
    ) -> Result<(Backup, Option<FetchReport>)> {
        self.bring_once_unlocked(id, options, &RunOptions::new())
            .await
    }

    /// As [`bring`](Self::bring); `waiting` says how long where another process fetches it just now.
    pub(crate) async fn bring_once_unlocked(
        &self,
        id: &str,
        options: FetchOptions,
        waiting: &RunOptions,
    ) -> Result<(Backup, Option<FetchReport>)> {
        let id = self.resolve(id).await?;
        let found = self.holder(&id, self.nearest()).await?;
        if found.store.directory().is_some() && found.packed.is_none() {
            return Ok((self.open_in(&found, id).await?, None));
        }
        let what = match &found.packed {
            Some(packed) => format!(
                "it is packed: fetching {} from {}",
                packed.name,
                found.store.describe()
            ),
            None => format!(
                "it is not on this host: fetching it from {}",
                found.store.describe()
            ),
        };
        let finding = Finding::info("fetch.needed", id.as_str(), what);
        options.events.emit(&Event::Finding { finding });
        let fetch = || self.fetch(id.as_str(), options.clone());
        let report = until_unlocked(waiting, fetch).await?;
        let (_, store) = self.named(&report.to)?;
        let backup = Backup::open(store.clone(), id).await?;
        // It was checked when it was fetched; one that was unlocked then has a manifest of ours.
        let unlock = self.keys_of(found.name).unlock;
        let signer = check_signature(&backup, &unlock).await.unwrap_or_default();
        Ok((backup.signed_by(signer), Some(report)))
    }

    async fn open_in(&self, found: &Holder<'_>, id: BackupId) -> Result<Backup> {
        let backup = Backup::open(found.store.clone(), id).await?;
        let signer = check_signature(&backup, &self.keys_of(found.name).unlock).await?;
        Ok(backup.signed_by(signer))
    }

    /// What is configured of the store of that name besides where it is.
    pub(crate) fn keys_of(&self, name: &str) -> StoreKeys {
        let mut keys = self.stores().iter().zip(&self.keys);
        keys.find(|((known, _), _)| known == name)
            .map(|(_, keys)| keys.clone())
            .unwrap_or_default()
    }

    /// Fetches a backup, by its id or as `latest`, into a directory store, verified against its
    /// manifest while it is written. What is not whole and verified never has its name; an
    /// earlier fetch that was broken off is gone on with. Touches nothing else, and needs no
    /// lock but its own.
    ///
    /// A backup without checksums is fetched too, and the report says that nothing verified it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Verification`]: it is not whole or not unchanged where it is
    /// (`fetch.source_incomplete`, `fetch.mismatch`), or was changed meanwhile
    /// (`fetch.changed`). [`ErrorKind::Preflight`]: no room, or something else has its name.
    /// [`ErrorKind::Locked`]: it is being fetched already. [`ErrorKind::Failed`]: a store, the
    /// connection or the disk (`io.disk_full`). [`ErrorKind::Interrupted`]. After any of them the
    /// same call goes on where this one stopped.
    pub async fn fetch(&self, id: &str, options: FetchOptions) -> Result<FetchReport> {
        let began = Instant::now();
        let id = match &options.from {
            Some(name) if id == "latest" => {
                let (name, store) = self.named(name)?;
                let mut partial = None;
                let newest = self.latest_full(store, &mut partial).await?;
                newest
                    .sound
                    .or(newest.damaged)
                    .ok_or_else(|| self.no_full(partial, name))?
            }
            _ => self.resolve(id).await?,
        };
        let (to, root) = self.destination(&options)?;
        let there = self.named(&to)?.1.list().await?.contains(&id);
        let others: Vec<Named<'_>> = match &options.from {
            Some(name) => vec![self.named(name)?],
            None => self.nearest(),
        };
        let from = match self.holder_but(&id, others, &to).await {
            Ok(from) => Some(from),
            // What is here already needs no other store.
            Err(_) if there && options.from.is_none() => None,
            Err(error) => return Err(error),
        };
        let mut report = FetchReport {
            path: root.join(id.as_str()),
            from: from.as_ref().map(|found| found.name.to_owned()),
            already_there: there,
            generation: crate::contract::Generation::Unfinished,
            verdict: None,
            files: 0,
            bytes: 0,
            received: 0,
            kept: 0,
            seconds: 0.0,
            findings: Vec::new(),
            to,
            id: id.clone(),
        };
        if there {
            let here = Backup::open(self.named(&report.to)?.1.clone(), id.clone()).await?;
            if let Some(found) = from.filter(|found| found.packed.is_none()) {
                let source = found.store.files(&id).await?;
                let foreign = found.store.lists_nothing(&id);
                fetch::compare(&id, here.files(), &source, foreign)?;
            }
            Transfer::sweep(&root, &id);
            report.generation = here.generation();
            report.files = here.files().len() as u64;
            report.bytes = here.files().iter().map(|file| file.size).sum();
        } else if let Some(found) = from {
            let done = self
                .transfer(&found, id, &options, &report.to, root)
                .await?;
            report.generation = done.generation;
            report.verdict = Some(done.verdict);
            report.findings = done.findings;
            report.files = done.files;
            report.bytes = done.bytes;
            report.received = done.received;
            report.kept = done.kept;
            report.path = done.path;
        }
        report.seconds = began.elapsed().as_secs_f64();
        Ok(report)
    }

    async fn transfer(
        &self,
        found: &Holder<'_>,
        id: BackupId,
        options: &FetchOptions,
        to: &str,
        root: PathBuf,
    ) -> Result<fetch::Transferred> {
        let unlock = self.keys_of(found.name).unlock;
        let may_unlock = self.keys_of(to).unlocked;
        let Some(packed) = &found.packed else {
            let source = Backup::open(found.store.clone(), id).await?;
            let transfer =
                Transfer::new(&source, options, &unlock, may_unlock, self.open_directory);
            return transfer.run(root).await;
        };
        if packed.encrypted && !may_unlock {
            return Err(Error::new(
                ErrorKind::Preflight,
                "fetch.would_be_plain",
                format!(
                    "{} is encrypted, and the store {to} is not said to take it in plain",
                    packed.name
                ),
            )
            .hint(format!(
                "set unlocked = true in [stores.{to}], or fetch into a store that has it with --to"
            )));
        }
        fetch::unpack_backup(
            found.store,
            packed,
            &unlock,
            options,
            root,
            self.open_directory,
        )
        .await
    }

    /// The id that a name means.
    async fn resolve(&self, id: &str) -> Result<BackupId> {
        if id != "latest" {
            return id.parse();
        }
        let mut newest = Newest::default();
        let mut partial = None;
        for (name, store) in self.stores() {
            // An older one of another store is not what was asked for.
            let found = self
                .latest_full(store, &mut partial)
                .await
                .map_err(|error| {
                    error.context(format!(
                        "which backup is the newest is not known, because of the store {name}"
                    ))
                })?;
            let packed = store.packed().await?.into_iter().map(|packed| packed.id);
            newest.sound = newest
                .sound
                .max(found.sound)
                .max(packed.filter(|id| !id.is_safety()).max());
            newest.damaged = newest.damaged.max(found.damaged);
        }
        let newest = newest.sound.or(newest.damaged);
        newest.ok_or_else(|| self.no_full(partial, &self.places()))
    }

    /// The newest full backups of a store; `partial` becomes the newest one that is not, with what it lacks.
    async fn latest_full(
        &self,
        store: &Arc<dyn BackupStore>,
        partial: &mut Option<(BackupId, Vec<String>)>,
    ) -> Result<Newest> {
        latest_of(store, |backup| {
            let lacking = self.lacking(backup);
            let full = lacking.is_empty();
            if !full && partial.as_ref().is_none_or(|(id, _)| id < backup.id()) {
                *partial = Some((backup.id().clone(), lacking));
            }
            full
        })
        .await
    }

    /// The backups on this host that are newer than `than` and damaged as far as their listing tells, so
    /// that `latest` does not mean them, each with what is wrong with it. Not those of which another
    /// store of this host has a sound copy.
    pub async fn newer_damaged(&self, than: &BackupId) -> BTreeMap<BackupId, String> {
        let (mut damaged, mut sound) = (BTreeMap::new(), BTreeSet::new());
        for (_, store) in self.nearest() {
            if store.directory().is_none() {
                break;
            }
            // One that cannot be listed is told where it is needed.
            let ids = store.list().await.unwrap_or_default();
            for id in ids.into_iter().filter(|id| id > than && !id.is_safety()) {
                let looked = match Backup::open(store.clone(), id.clone()).await {
                    Ok(backup) => backup.verify_listing().await,
                    Err(error) => Err(error),
                };
                match looked.map(|listing| (listing.verdict(), listing.into_result())) {
                    Ok((Verdict::Failed, Err(error))) => {
                        damaged.insert(id, error.message().to_owned());
                    }
                    Ok((Verdict::Unfinished, _)) => {}
                    Ok(_) => {
                        sound.insert(id);
                    }
                    Err(error) if error.kind() == ErrorKind::Verification => {
                        damaged.insert(id, error.message().to_owned());
                    }
                    Err(_) => {}
                }
            }
        }
        // One that is older than the newest sound one changes nothing about what `latest` means.
        damaged
            .retain(|id, _| !sound.contains(id) && sound.last().is_none_or(|newest| newest < id));
        damaged
    }

    pub(super) fn no_full(&self, partial: Option<(BackupId, Vec<String>)>, place: &str) -> Error {
        match partial {
            None => Error::new(
                ErrorKind::NotFound,
                "backup.none",
                format!("there is no finished backup in {place}"),
            )
            .hint("`restore list` shows what is there, unfinished ones too; `restore backup` makes one"),
            Some((id, lacking)) => Error::new(
                ErrorKind::NotFound,
                "backup.none_full",
                format!(
                    "there is no full backup in {place}: the newest, {id}, has nothing for {}",
                    lacking.join(", ")
                ),
            )
            .hint(format!(
                "name the one that you want (`restore list`); where backups never have {0}, write optional = true in [components.{0}]",
                lacking.first().map_or("it", String::as_str)
            )),
        }
    }

    /// The stores, those of this host first.
    fn nearest(&self) -> Vec<Named<'_>> {
        let all = || {
            self.stores()
                .iter()
                .map(|(name, store)| (name.as_str(), store))
        };
        all()
            .filter(|(_, store)| store.directory().is_some())
            .chain(all().filter(|(_, store)| store.directory().is_none()))
            .collect()
    }

    /// Refuses a backup that is not the one that this site's run would open by its id: what was
    /// planned from one would be restored from another.
    pub(super) async fn ensure_own(&self, backup: &Backup) -> Result<()> {
        let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let own = match self.holder(backup.id(), self.nearest()).await {
            Ok(found) => found.packed.is_none().then_some(found.store),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let directory = |store: &Arc<dyn BackupStore>| store.directory().map(real);
        let same = |own: &Arc<dyn BackupStore>| {
            Arc::ptr_eq(own, backup.store())
                || directory(own).is_some_and(|it| Some(it) == directory(backup.store()))
        };
        if own.is_some_and(same) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Config,
            "plan.foreign_backup",
            format!(
                "backup {} in {} is not the one that this site would restore by that id",
                backup.id(),
                backup.store().describe()
            ),
        )
        .hint("open it by its id with the site that restores it"))
    }

    /// The first of these stores that has the backup. One that cannot be asked matters only
    /// where none of the others has it.
    async fn holder<'a>(&self, id: &BackupId, stores: Vec<Named<'a>>) -> Result<Holder<'a>> {
        self.holder_but(id, stores, "").await
    }

    /// As `holder`, where the folder that the store `but` has does not count.
    async fn holder_but<'a>(
        &self,
        id: &BackupId,
        stores: Vec<Named<'a>>,
        but: &str,
    ) -> Result<Holder<'a>> {
        let mut failed = None;
        let mut asked = Vec::new();
        let mut unfinished = None;
        for (name, store) in stores {
            let folder = Holder {
                name,
                store,
                packed: None,
            };
            match look(store, id, name == but).await {
                Ok(Held::Finished) => return Ok(folder),
                // Half a copy here must not hide the whole one elsewhere.
                Ok(Held::Unfinished) => {
                    unfinished.get_or_insert(folder);
                }
                Ok(Held::Packed(packed)) => {
                    return Ok(Holder {
                        packed: Some(packed),
                        ..folder
                    });
                }
                Ok(Held::Not) => asked.push(store.describe()),
                Err(error) => {
                    failed.get_or_insert(error.context(format!("the store {name}")));
                }
            }
        }
        if let Some(found) = unfinished {
            return Ok(found);
        }
        Err(failed.unwrap_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "backup.not_found",
                format!("there is no backup {id} in {}", asked.join(", ")),
            )
            .hint("`restore list` shows the backups that there are")
        }))
    }

    pub(super) fn named(&self, name: &str) -> Result<Named<'_>> {
        let found = self.stores().iter().find(|(known, _)| known == name);
        found
            .map(|(name, store)| (name.as_str(), store))
            .ok_or_else(|| {
                let known: Vec<&str> = self
                    .stores()
                    .iter()
                    .map(|(name, _)| name.as_str())
                    .collect();
                Error::new(
                    ErrorKind::Config,
                    "store.unknown",
                    format!("this site has no store {name:?}"),
                )
                .hint(format!("it has {}", known.join(", ")))
            })
    }

    /// The directory store to fetch into: its name and its directory.
    fn destination(&self, options: &FetchOptions) -> Result<(String, PathBuf)> {
        if let Some(name) = &options.to {
            let (name, store) = self.named(name)?;
            let Some(root) = store.directory() else {
                return Err(Error::new(
                    ErrorKind::Config,
                    "fetch.not_a_directory",
                    format!(
                        "the store {name} is not a directory of this host: {}",
                        store.describe()
                    ),
                )
                .hint("fetch into a store of kind \"directory\": name it with --to"));
            };
            return Ok((name.to_owned(), root.to_path_buf()));
        }
        let mut directories = self
            .stores()
            .iter()
            .filter_map(|(name, store)| Some((name, store.directory()?)));
        directories
            .find(|(name, _)| options.from.as_ref() != Some(name))
            .map(|(name, root)| (name.clone(), root.to_path_buf()))
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Config,
                    "fetch.nowhere",
                    "the configuration names no directory of this host to fetch into",
                )
                .hint("add [stores.here] with kind = \"directory\" and path = \"…\"")
            })
    }
}

async fn look(store: &Arc<dyn BackupStore>, id: &BackupId, packed_only: bool) -> Result<Held> {
    let mut found = Held::Not;
    if !packed_only && store.list().await?.contains(id) {
        let files = store.files(id).await?;
        // One that cannot be read is a finished one too: opening it says what is wrong.
        if !matches!(Manifest::of(store.as_ref(), id, &files).await, Ok(None)) {
            return Ok(Held::Finished);
        }
        found = Held::Unfinished;
    }
    let mut packed = store.packed().await?.into_iter();
    Ok(packed
        .find(|packed| packed.id == *id)
        .map_or(found, Held::Packed))
}
