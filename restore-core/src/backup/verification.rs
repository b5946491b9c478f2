//! What verification found, and what to make of it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::archive::RefusedMember;
use crate::contract::Generation;
use crate::contract::backup::layout::looks_restorable;
use crate::model::{BackupId, Error, ErrorKind, Finding, Result, Severity};

/// What verification says of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FileStatus {
    /// Size and hash are what the manifest says.
    Verified,
    /// Listed, not there.
    Missing,
    /// There, smaller than the manifest's exact size.
    Short {
        /// Bytes the manifest gives.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// There, larger than the manifest's exact size.
    Long {
        /// Bytes the manifest gives.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// There, right size or size unknown, another hash.
    Changed,
    /// There, not listed by a manifest that lists others.
    Unlisted,
    /// No hash to compare with.
    Unverifiable,
    /// Could not be read to its end as what it is.
    Unreadable {
        /// Why, in one line.
        reason: String,
    },
    /// An archive that is whole, with members that a restore would refuse.
    Refused {
        /// All of them, up to a thousand.
        members: Vec<RefusedMember>,
    },
    /// It is not damaged, and a restore would refuse it: it unpacks to more than the site allows, has nothing of
    /// what it is restored for, or is not what its component can use.
    Unfit {
        /// Why, in one line.
        reason: String,
        /// What can be done about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
        /// Members of it that would be refused besides, as far as it was read.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        members: Vec<RefusedMember>,
    },
}

impl FileStatus {
    /// That of a file that a restore would refuse for this.
    pub(crate) fn unfit(error: &Error, members: Vec<RefusedMember>) -> Self {
        Self::Unfit {
            reason: error.message().to_owned(),
            hint: error.hint_text().map(str::to_owned),
            members,
        }
    }
}

/// What verification says of the backup as a whole, or of a file besides its status.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ManifestIssue {
    /// The manifest ends without its summary or in the middle of a line.
    ManifestTruncated,
    /// The manifest's own count of files is another than was found.
    Count {
        /// The manifest's `Total Files`.
        said: u64,
        /// File lines in the manifest or, where it has none, files in the folder.
        found: u64,
    },
    /// The manifest names another backup than the folder does.
    OtherId {
        /// The manifest's `Backup ID`.
        said: String,
    },
    /// The manifest lists some files with nothing that verifies them.
    WithoutHash {
        /// How many.
        files: u64,
    },
    /// A database dump has tables and not a single row.
    NoRows {
        /// Which.
        path: String,
    },
    /// An archive has members of which only the machine that has the live tree can say whether they
    /// are let in.
    JudgedElsewhere {
        /// Which.
        path: String,
        /// How many members.
        members: u64,
    },
    /// A file was not read deeply although that was asked for.
    NotDeep {
        /// Which.
        path: String,
        /// Why, in one line.
        reason: String,
        /// The package with the tool that is missing, where that is why.
        package: Option<String>,
    },
}

/// What the findings come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// Every listed file is there and is what the manifest says.
    Verified,
    /// No checksums: neither verified nor failed. Restoring it needs an explicit word.
    Unverifiable,
    /// At least one finding is an error.
    Failed,
    /// The backup was never finished, or only its beginning is here.
    Unfinished,
}

/// The whole result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "a backup that failed is no error: look at its verdict, or call `into_result`"]
#[non_exhaustive]
pub struct Verification {
    /// Which backup.
    pub id: BackupId,
    /// Which scripts wrote it.
    pub generation: Generation,
    /// Whether deep verification was asked for; see [`deeply_verified`](Self::deeply_verified).
    pub deep: bool,
    /// Every file but the manifest, also those only listed, sorted by path.
    pub files: Vec<(String, FileStatus)>,
    /// What else there is to say.
    pub remarks: Vec<ManifestIssue>,
    /// Bytes read; deep verification reads a file twice.
    pub bytes: u64,
}

impl Verification {
    /// What the findings come to. A backup that was never finished is that, whatever else.
    pub fn verdict(&self) -> Verdict {
        if self.generation == Generation::Unfinished {
            return Verdict::Unfinished;
        }
        if self.noted().iter().any(Noted::is_error) {
            return Verdict::Failed;
        }
        let all = !self
            .remarks
            .iter()
            .any(|remark| matches!(remark, ManifestIssue::WithoutHash { .. }));
        match self.generation {
            Generation::A if all => Verdict::Verified,
            _ => Verdict::Unverifiable,
        }
    }

    /// Whether every file was read to its end as what it is, and is sound: deep verification was
    /// asked for, no tool for it was missing, and nothing failed.
    pub fn deeply_verified(&self) -> bool {
        self.deep
            && matches!(self.verdict(), Verdict::Verified | Verdict::Unverifiable)
            && !self
                .remarks
                .iter()
                .any(|remark| matches!(remark, ManifestIssue::NotDeep { .. }))
    }

    /// Whether something is wrong with the file of this path.
    pub(crate) fn is_wrong(&self, path: &str) -> bool {
        let mut files = self.files.iter();
        files.any(|(known, status)| {
            known == path && status_noted(known, status).is_some_and(|it| it.is_error())
        })
    }

    /// What is to be said, the backup as a whole first, then by path. Empty for a backup of which
    /// all is well. That no file can be verified is one finding, not one a file.
    pub fn findings(&self) -> Vec<Finding> {
        self.noted().into_iter().map(Noted::into_finding).collect()
    }

    /// The result itself where the verdict is verified or unverifiable.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Verification`] with the first error's code, naming its file and how many
    /// more errors there are.
    pub fn into_result(self) -> Result<Self> {
        let mut errors = self.noted().into_iter().filter(Noted::is_error);
        let Some(first) = errors.next() else {
            return Ok(self);
        };
        let more = match errors.count() {
            0 => String::new(),
            1 => " (and one more error)".to_owned(),
            more => format!(" (and {more} more errors)"),
        };
        let message = format!("backup {}: {}{more}", self.id, first.message);
        Err(Error::new(ErrorKind::Verification, first.code, message).hint(first.hint))
    }

    fn noted(&self) -> Vec<Noted> {
        let mut noted = Vec::new();
        match self.generation {
            Generation::Unfinished => noted.push(self.unfinished()),
            Generation::B => noted.push(self.unverifiable()),
            Generation::A => {}
        }
        noted.extend(self.remarks.iter().map(|remark| self.remark(remark)));
        noted.extend(self.files.iter().flat_map(|(path, status)| match status {
            FileStatus::Refused { members } | FileStatus::Unfit { members, .. } => {
                let mut of_file = Vec::from_iter(status_noted(path, status));
                of_file.extend(members.iter().map(|it| member_noted(path, it)));
                of_file
            }
            status => Vec::from_iter(status_noted(path, status)),
        }));
        noted
    }

    fn unfinished(&self) -> Noted {
        Noted {
            severity: Severity::Error,
            code: "verify.unfinished",
            subject: self.id.to_string(),
            message: "it has no whole manifest, which is written last, or no files: the backup, \
                      or its copy to this place, was never finished"
                .to_owned(),
            hint: "copy it again from where it was made, or choose another backup: \
                   `restore list` shows them"
                .into(),
        }
    }

    fn unverifiable(&self) -> Noted {
        Noted {
            severity: Severity::Warning,
            code: "verify.unverifiable",
            subject: self.id.to_string(),
            message: format!(
                "its manifest has no checksums (SHA-256): nothing tells whether its {} files are what was \
                 backed up",
                self.files.len()
            ),
            hint: "`restore verify --deep` reads every file to its end; restoring it needs an \
                   explicit word"
                .into(),
        }
    }

    fn remark(&self, remark: &ManifestIssue) -> Noted {
        match remark {
            ManifestIssue::ManifestTruncated => Noted {
                severity: Severity::Error,
                code: "verify.manifest_cut",
                subject: crate::contract::Manifest::FILE_NAME.to_owned(),
                message:
                    "the manifest, or the list of checksums that stands for it, ends in the middle of a line, or without its count of files: \
                          it may have listed more"
                        .to_owned(),
                hint: "compare it with the one where the backup was made, and copy it again if \
                       they differ"
                    .into(),
            },
            ManifestIssue::Count { said, found } => Noted {
                severity: if said > found {
                    Severity::Error
                } else {
                    Severity::Warning
                },
                code: "verify.count",
                subject: crate::contract::Manifest::FILE_NAME.to_owned(),
                message: match self.generation {
                    Generation::A => {
                        format!("the manifest says that there are {said} files and lists {found}")
                    }
                    _ => format!(
                        "the manifest says that there are {said} files, and {found} are here"
                    ),
                },
                hint: "copy the backup again from where it was made, or choose another backup"
                    .into(),
            },
            ManifestIssue::OtherId { said } => Noted {
                severity: Severity::Warning,
                code: "verify.other_id",
                subject: self.id.to_string(),
                message: format!(
                    "its manifest is that of backup {said}: the folder was renamed or its files \
                     come from another backup"
                ),
                hint: "rename the folder to the id that the manifest gives".into(),
            },
            ManifestIssue::WithoutHash { files } => Noted {
                severity: Severity::Warning,
                code: "verify.unverifiable",
                subject: self.id.to_string(),
                message: format!(
                    "its manifest lists {files} of its files without a SHA-256: nothing tells \
                     whether they are what was backed up"
                ),
                hint: "`restore verify --deep` reads every file to its end; restoring these needs \
                       an explicit word"
                    .into(),
            },
            ManifestIssue::NoRows { path } => Noted {
                severity: Severity::Warning,
                code: "verify.no_rows",
                subject: path.clone(),
                message: format!(
                    "{path} has tables and no rows at all: it is a dump of the schema only, or of an \
                     empty database"
                ),
                hint: "look at how dumps are made; a backup with the data is another one".into(),
            },
            ManifestIssue::JudgedElsewhere { path, members } => Noted {
                severity: Severity::Warning,
                code: "verify.judged_elsewhere",
                subject: path.clone(),
                message: format!(
                    "{path} has {members} set-uid files or links of which only the machine that has \
                     the live tree can say whether they are let in: a restore asks there"
                ),
                hint: "allow_setuid and allow_links of the component say what is let in anywhere"
                    .into(),
            },
            ManifestIssue::NotDeep {
                path,
                reason,
                package,
            } => Noted {
                severity: Severity::Warning,
                code: if package.is_some() {
                    "verify.tool_missing"
                } else {
                    "verify.not_deep"
                },
                subject: path.clone(),
                message: match package {
                    Some(package) => format!(
                        "{path} was not read to its end as what it is: {reason}; the package \
                         {package} has it"
                    ),
                    None => format!("{path} was not read to its end as what it is: {reason}"),
                },
                hint: match package {
                    Some(_) => "install the package and verify again",
                    None => {
                        "verify it on a host that can read it, with the tools of the server \
                             that wrote it"
                    }
                }
                .into(),
            },
        }
    }
}

/// Each member that would be refused is a finding of its own.
fn member_noted(path: &str, refused: &RefusedMember) -> Noted {
    let RefusedMember {
        member,
        reason,
        hint,
    } = refused;
    Noted {
        severity: Severity::Error,
        code: "archive.member_refused",
        subject: path.to_owned(),
        message: format!("{path}: a restore refuses member {member:?}: {reason}"),
        hint: hint.clone().into(),
    }
}

fn status_noted(path: &str, status: &FileStatus) -> Option<Noted> {
    const COPY: &str = "copy the file again from where the backup was made, or choose another \
                        backup";
    let (code, message) = match status {
        FileStatus::Verified | FileStatus::Unverifiable | FileStatus::Refused { .. } => {
            return None;
        }
        FileStatus::Missing => (
            "verify.missing",
            format!("{path} is listed in the manifest and is not there"),
        ),
        FileStatus::Short { expected, found } => (
            "verify.short",
            format!("{path} is cut: it has {found} bytes of {expected}"),
        ),
        FileStatus::Long { expected, found } => (
            "verify.long",
            format!("{path} was added to: it has {found} bytes instead of {expected}"),
        ),
        FileStatus::Changed => (
            "verify.changed",
            format!("{path} is not what was backed up: its SHA-256 is not the manifest's"),
        ),
        FileStatus::Unlisted => {
            let message = format!(
                "{path} is not listed in the manifest: nothing tells whether it belongs to this \
                 backup"
            );
            return Some(Noted {
                // A note that someone put beside the files harms nobody; a dump would go live.
                severity: if looks_restorable(path) {
                    Severity::Error
                } else {
                    Severity::Warning
                },
                code: "verify.unlisted",
                subject: path.to_owned(),
                message,
                hint: "move it out of the backup's folder".into(),
            });
        }
        FileStatus::Unreadable { reason } => (
            "verify.unreadable",
            format!("{path} cannot be read to its end as what it is: {reason}"),
        ),
        FileStatus::Unfit { reason, hint, .. } => {
            return Some(Noted {
                severity: Severity::Error,
                code: "verify.unfit",
                subject: path.to_owned(),
                message: match reason.contains(path) {
                    true => format!("a restore refuses it: {reason}"),
                    false => format!("a restore refuses {path}: {reason}"),
                },
                hint: match hint {
                    Some(hint) => hint.clone().into(),
                    None => COPY.into(),
                },
            });
        }
    };
    Some(Noted {
        severity: Severity::Error,
        code,
        subject: path.to_owned(),
        message,
        hint: COPY.into(),
    })
}

/// A finding before it loses its code's lifetime, which an error needs.
struct Noted {
    severity: Severity,
    code: &'static str,
    subject: String,
    message: String,
    hint: Cow<'static, str>,
}

impl Noted {
    fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    fn into_finding(self) -> Finding {
        match self.severity {
            Severity::Error => Finding::error(self.code, self.subject, self.message)
                .of_kind(ErrorKind::Verification),
            Severity::Warning => Finding::warning(self.code, self.subject, self.message),
            Severity::Info => Finding::info(self.code, self.subject, self.message),
        }
        .hint(self.hint)
    }
}
