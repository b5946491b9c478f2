//! Verification: is every file there, and is it what the manifest says?

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use sha2::{Digest as _, Sha256};
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

use super::deep;
use super::deep::Outcome;
use super::verification::{FileStatus, ManifestIssue, Verification};
use crate::archive::{Digest, UnpackPolicy, hash_file};
use crate::contract::{Backup, Generation, Manifest, ManifestEntry};
use crate::model::{Error, ErrorKind, EventSink, Progress, Result};

/// How to verify.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// Also read every artifact to its end as what it is.
    pub deep: bool,
    /// How many files at the same time; 0 for one a core.
    pub jobs: usize,
    /// Where `pg_restore`, `redis-check-rdb` and `redis-check-aof`, or Valkey's, are looked for, in this order;
    /// `None`: where the system finds programs, then `/usr/lib/postgresql/*/bin`.
    pub tools: Option<Vec<PathBuf>>,
    /// How archives would be unpacked, by their path, so that deep verification finds what would be
    /// refused then: [`Site::verify`](crate::Site::verify) knows it. Of others only what no archive
    /// may have is refused.
    pub policies: Vec<(String, UnpackPolicy)>,
}

/// One file to read.
struct Work {
    path: String,
    size: u64,
    /// The hash to compare with; `None`: only read deeply.
    expected: Option<Digest>,
}

/// What came of it.
struct Done {
    path: String,
    status: FileStatus,
    remark: Option<ManifestIssue>,
    bytes: u64,
}

impl Backup {
    /// Verifies every file against the manifest, all findings reported.
    ///
    /// Reads each listed file once, the largest first, several at the same time; deep
    /// verification reads each sound one again as what it is. Writes nothing. What is wrong with
    /// the backup is in the result and no error.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Interrupted`] once `cancel` is cancelled; what the store says where it cannot
    /// be read. Of a store elsewhere everything is transferred once, and nothing read deeply.
    pub async fn verify(
        &self,
        options: VerifyOptions,
        events: Arc<dyn EventSink>,
        cancel: CancellationToken,
    ) -> Result<Verification> {
        let (mut statuses, mut work) = self.compare_listing(options.deep).await?;
        work.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.path.cmp(&b.path)));
        let total = work.iter().fold(0_u64, |sum, work| {
            let reads = u64::from(work.expected.is_some()) + u64::from(options.deep);
            sum.saturating_add(work.size.saturating_mul(reads))
        });
        let subject = format!("backup {}", self.id());
        let progress = Progress::new(events, subject, "verify", Some(total));

        // Whatever ends this call also ends the reading of files still under way.
        let cancel = cancel.child_token();
        let _stop_readers = cancel.clone().drop_guard();
        let jobs = match options.jobs {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            jobs => jobs,
        };
        let (options, files, cancel) = (&options, progress.part(), &cancel);
        let files = &files;
        let done: Vec<Done> = futures_util::stream::iter(work)
            .map(|work| self.verify_file(work, options, files, cancel))
            .buffer_unordered(jobs)
            .try_collect()
            .await?;
        progress.finish();

        let mut remarks = self.remarks();
        let mut bytes = 0_u64;
        for done in done {
            bytes = bytes.saturating_add(done.bytes);
            remarks.extend(done.remark);
            statuses.insert(done.path, done.status);
        }
        remarks.sort();
        Ok(Verification {
            id: self.id().clone(),
            generation: self.generation(),
            deep: options.deep,
            files: statuses.into_iter().collect(),
            remarks,
            bytes,
        })
    }

    /// What can be said of the backup without reading any file: what is missing, short, not listed, and of the
    /// manifest itself. Whatever is an error here is one of [`verify`](Self::verify) as well.
    ///
    /// # Errors
    ///
    /// What the store says where it cannot be listed.
    pub async fn verify_listing(&self) -> Result<Verification> {
        let (statuses, work) = self.compare_listing(false).await?;
        let unread = work
            .into_iter()
            .map(|work| (work.path, FileStatus::Unverifiable));
        Ok(self.shallow(statuses.into_iter().chain(unread).collect(), 0))
    }

    /// As [`verify`](Self::verify), without reading: each file's hash was taken while it was written.
    pub(crate) async fn verify_known(
        &self,
        digests: &BTreeMap<String, Digest>,
    ) -> Result<Verification> {
        let (mut statuses, work) = self.compare_listing(false).await?;
        let mut bytes = 0_u64;
        for Work {
            path,
            size,
            expected,
        } in work
        {
            bytes = bytes.saturating_add(size);
            let status = if expected.is_some() && digests.get(&path) == expected.as_ref() {
                FileStatus::Verified
            } else {
                FileStatus::Changed
            };
            statuses.insert(path, status);
        }
        Ok(self.shallow(statuses, bytes))
    }

    /// What was found without reading deeply.
    fn shallow(&self, files: BTreeMap<String, FileStatus>, bytes: u64) -> Verification {
        let mut remarks = self.remarks();
        remarks.sort();
        Verification {
            id: self.id().clone(),
            generation: self.generation(),
            deep: false,
            files: files.into_iter().collect(),
            remarks,
            bytes,
        }
    }

    /// What can be said without reading any file, and what there is to read.
    async fn compare_listing(
        &self,
        deep: bool,
    ) -> Result<(BTreeMap<String, FileStatus>, Vec<Work>)> {
        let generation = self.generation();
        let listed: HashMap<&str, &ManifestEntry> = self
            .manifest()
            .iter()
            .flat_map(|manifest| &manifest.entries)
            .map(|entry| (entry.path.as_str(), entry))
            .collect();
        let mut statuses: BTreeMap<String, FileStatus> = listed
            .keys()
            .map(|path| ((*path).to_owned(), FileStatus::Missing))
            .collect();
        for path in self.manifest().iter().flat_map(|it| &it.without_hash) {
            statuses.insert(path.clone(), FileStatus::Missing);
        }
        let mut work = Vec::new();
        for file in self.files() {
            let path = file.path.as_str();
            if self.is_manifest(path) {
                continue;
            }
            let unverifiable = generation != Generation::A
                || self
                    .manifest()
                    .is_some_and(|it| it.without_hash.binary_search(&file.path).is_ok());
            let (path, size) = (file.path.clone(), file.size);
            let status = match listed.get(path.as_str()) {
                Some(entry) => match entry.size.bytes() {
                    Some(expected) if expected > size => FileStatus::Short {
                        expected,
                        found: size,
                    },
                    Some(expected) if expected < size => FileStatus::Long {
                        expected,
                        found: size,
                    },
                    _ => {
                        let expected = Some(entry.sha256);
                        work.push(Work {
                            path,
                            size,
                            expected,
                        });
                        continue;
                    }
                },
                None if !unverifiable => FileStatus::Unlisted,
                None if deep => {
                    let expected = None;
                    work.push(Work {
                        path,
                        size,
                        expected,
                    });
                    continue;
                }
                None => FileStatus::Unverifiable,
            };
            statuses.insert(path, status);
        }
        for odd in self.store().odd_entries(self.id()).await? {
            let reason = format!("it is {}", odd.what);
            statuses.insert(odd.path, FileStatus::Unreadable { reason });
        }
        Ok((statuses, work))
    }

    async fn verify_file(
        &self,
        work: Work,
        options: &VerifyOptions,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Done> {
        let Work {
            path,
            size,
            expected,
        } = work;
        if cancel.is_cancelled() {
            return Err(Error::interrupted());
        }
        let mut done = Done {
            path,
            status: FileStatus::Unverifiable,
            remark: None,
            bytes: 0,
        };
        if self.local_path(&done.path).is_none() {
            return self
                .verify_remote(done, size, expected, options, progress, cancel)
                .await;
        }
        let source = self.source(&done.path)?.cancelled_by(cancel.clone());
        if let Some(expected) = expected {
            done.bytes = done.bytes.saturating_add(size);
            done.status = match hash_file(&source, progress.clone()).await {
                Ok(found) if found == expected => FileStatus::Verified,
                Ok(_) => FileStatus::Changed,
                Err(e) => unreadable(e)?,
            };
        }
        let sound = matches!(done.status, FileStatus::Verified | FileStatus::Unverifiable);
        if options.deep && sound {
            done.bytes = done.bytes.saturating_add(size);
            let policies = options.policies.iter();
            let policies = policies.filter(|(path, _)| *path == done.path);
            let policies: Vec<&UnpackPolicy> = policies.map(|(_, policy)| policy).collect();
            match deep::check(&source, options.tools.as_deref(), &policies, progress).await {
                Ok(Outcome::Sound) => {}
                Ok(Outcome::Refused(members)) => done.status = FileStatus::Refused { members },
                Ok(Outcome::Unfit(error, members)) => {
                    done.status = FileStatus::unfit(&error, members);
                }
                Ok(Outcome::WithoutRows) => {
                    done.remark = Some(ManifestIssue::NoRows {
                        path: done.path.clone(),
                    });
                }
                Ok(Outcome::Unjudged(members)) => {
                    let path = done.path.clone();
                    done.remark = Some(ManifestIssue::JudgedElsewhere { path, members });
                }
                Ok(Outcome::Broken(reason)) => done.status = FileStatus::Unreadable { reason },
                Ok(Outcome::Unchecked { reason, package }) => {
                    done.remark = Some(ManifestIssue::NotDeep {
                        path: done.path.clone(),
                        reason,
                        package,
                    });
                }
                Err(e) => done.status = unreadable(e)?,
            }
        } else if options.deep {
            progress.add(size);
        }
        Ok(done)
    }

    /// As `verify_file`, of a file elsewhere: it can be hashed as it comes, not read as what it is.
    async fn verify_remote(
        &self,
        mut done: Done,
        size: u64,
        expected: Option<Digest>,
        options: &VerifyOptions,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Done> {
        if let Some(expected) = expected {
            done.bytes = done.bytes.saturating_add(size);
            let hashed = tokio::select! {
                hashed = self.hash_remote(&done.path, progress) => hashed,
                () = cancel.cancelled() => Err(Error::interrupted()),
            };
            done.status = if hashed? == expected {
                FileStatus::Verified
            } else {
                FileStatus::Changed
            };
        }
        if options.deep {
            progress.add(size);
            done.remark = Some(ManifestIssue::NotDeep {
                path: done.path.clone(),
                reason: "it is not on this host, `restore fetch` brings it".to_owned(),
                package: None,
            });
        }
        Ok(done)
    }

    /// What goes wrong on the way is an error and no finding: it says nothing of the file.
    async fn hash_remote(&self, path: &str, progress: &Progress) -> Result<Digest> {
        let reader = self.store().read(self.id(), path, 0).await?;
        let mut pieces = ReaderStream::with_capacity(reader, 256 * 1024);
        let mut hash = Sha256::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|e| crate::model::read_error(path, e))?;
            hash.update(&piece);
            progress.add(piece.len() as u64);
        }
        Ok(Digest(hash.finalize().into()))
    }

    /// What is to be said of the backup as a whole.
    fn remarks(&self) -> Vec<ManifestIssue> {
        let mut remarks = Vec::new();
        let Some(manifest) = self.manifest() else {
            return remarks;
        };
        if manifest.truncated {
            remarks.push(ManifestIssue::ManifestTruncated);
        }
        // Some scripts count the manifest itself, which they are just writing, and some do not.
        let found = match self.generation() {
            Generation::A => (manifest.entries.len() + manifest.without_hash.len()) as u64,
            _ => self
                .files()
                .iter()
                .filter(|file| file.path != Manifest::FILE_NAME)
                .count() as u64,
        };
        let without = manifest.without_hash.len() as u64;
        if without > 0 && self.generation() == Generation::A {
            remarks.push(ManifestIssue::WithoutHash { files: without });
        }
        if let Some(said) = manifest.total_files()
            && said != found
            && said != found + 1
        {
            remarks.push(ManifestIssue::Count { said, found });
        }
        if let Some(said) = manifest.value("Backup ID")
            && said != self.id().as_str()
            && said != self.id().stamp()
        {
            let said = said.to_owned();
            remarks.push(ManifestIssue::OtherId { said });
        }
        remarks
    }
}

/// A file that cannot be read is a finding like any other; a wish to stop is not.
fn unreadable(error: Error) -> Result<FileStatus> {
    if error.kind() == ErrorKind::Interrupted {
        return Err(error);
    }
    Ok(FileStatus::Unreadable {
        reason: error.message().to_owned(),
    })
}
