//! Which members are let in: the gate that every member passes before anything is written.

use super::UnpackPolicy;
use super::links::{LinkPlaces, below, normal, parent};
use super::member::{CAPABILITIES, Member, What};
use super::seen::{Kind, Seen};
use crate::error::{Error, ErrorKind, Result};

/// What becomes of a member.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is unpacked at `path` below the target (empty: the target itself).
    Unpack {
        path: Vec<u8>,
        /// Of a hard link: the path below the target that it is another name of.
        original: Option<Vec<u8>>,
        /// The archive had this name before: what was written under it comes first.
        again: bool,
        /// Directories above it that the archive has not named so far.
        implied: Vec<Vec<u8>>,
    },
    /// It passed, but is not selected.
    LeftOut,
    /// It says nothing new: a comment for the whole archive, or a file linked to itself.
    Nothing,
}

/// Judges the members of one archive in their order.
pub(super) struct Gate<'a> {
    label: &'a str,
    policy: &'a UnpackPolicy,
    prefix: Vec<u8>,
    only: Vec<Wanted>,
    except: Vec<Vec<u8>>,
    prefix_met: bool,
    seen: Seen,
    /// The directory whose ancestors were checked last: most members share it with the one before.
    checked: Option<Vec<u8>>,
}

struct Wanted {
    path: Vec<u8>,
    met: bool,
}

/// A reason to refuse, with the key that would allow it.
struct Refusal {
    reason: String,
    hint: Option<&'static str>,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { reason, hint: None }
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

const ALLOW_LINKS: &str =
    "if links may lead there, add the place to the component's `allow_links` in restore.toml";
/// What attributes of one member may hold, names included: as much as Linux gives one of them.
const ATTRIBUTES: usize = 64 * 1024;
const ALLOW_SETUID: &str = "if the archive is trusted with this, set `allow_setuid = true` for the component in restore.toml";

impl<'a> Gate<'a> {
    /// A gate for the archive called `label`; an impossible selection is refused at once.
    pub(super) fn new(label: &'a str, policy: &'a UnpackPolicy) -> Result<Self> {
        let plain = |path: &str| -> Result<Vec<u8>> {
            let path = path.trim_start_matches('/');
            if path.is_empty() {
                return Ok(Vec::new());
            }
            normal(path.as_bytes()).map_err(|reason| {
                Error::new(
                    ErrorKind::Config,
                    "archive.selection",
                    format!("{path:?} cannot be selected from {label}: {reason}"),
                )
                .hint("name paths as the archive has them, without `..`")
            })
        };
        let only = policy.only.iter().map(|path| {
            Ok(Wanted {
                path: plain(path)?,
                met: false,
            })
        });
        Ok(Self {
            label,
            policy,
            prefix: plain(&policy.prefix)?,
            only: only.collect::<Result<_>>()?,
            except: policy
                .except
                .iter()
                .map(|path| plain(path))
                .collect::<Result<_>>()?,
            prefix_met: false,
            seen: Seen::new(),
            checked: None,
        })
    }

    /// Judges the next member.
    pub(super) fn admit(&mut self, member: &Member) -> Result<Verdict> {
        self.judge(member).map_err(|refusal| {
            let error = Error::new(
                ErrorKind::Verification,
                "archive.member_refused",
                format!(
                    "{}: member {:?} is refused: {}",
                    self.label,
                    String::from_utf8_lossy(&member.name),
                    refusal.reason
                ),
            );
            error.hint(refusal.hint.unwrap_or(
                "whoever made this archive could overwrite other files with it: find out where it \
                 comes from, or restore another backup",
            ))
        })
    }

    /// Called after the last member: everything that was asked for must have been there.
    pub(super) fn finish(&self) -> Result<()> {
        let missing = |what: String| {
            Err(
                Error::new(ErrorKind::Verification, "archive.member_missing", what)
                    .hint("look at the names that the archive has: `tar tf ARCHIVE`"),
            )
        };
        if !self.prefix.is_empty() && !self.prefix_met {
            return missing(format!(
                "{} has nothing below {:?}",
                self.label, self.policy.prefix
            ));
        }
        match self.only.iter().find(|wanted| !wanted.met) {
            Some(wanted) => missing(format!(
                "{} has no {:?}{}",
                self.label,
                String::from_utf8_lossy(&wanted.path),
                if self.prefix.is_empty() {
                    String::new()
                } else {
                    format!(" below {:?}", self.policy.prefix)
                }
            )),
            None => Ok(()),
        }
    }

    fn judge(&mut self, member: &Member) -> Result<Verdict, Refusal> {
        if let What::Global(keys) = &member.what {
            return match keys.iter().find(|key| !is_harmless(key)) {
                None => Ok(Verdict::Nothing),
                Some(key) => Err(format!("it sets {key:?} for all members after it").into()),
            };
        }
        let attributes = member.xattrs.iter().fold(0_usize, |sum, (key, value)| {
            sum.saturating_add(key.len()).saturating_add(value.len())
        });
        if attributes > ATTRIBUTES {
            return Err(Refusal {
                reason: format!(
                    "its extended attributes hold {attributes} bytes, more than {ATTRIBUTES}"
                ),
                hint: Some(
                    "no program here needs that: find out where the archive comes from, or restore another backup",
                ),
            });
        }
        let name = normal(&member.name)?;
        if name.is_empty() && member.what != What::Directory {
            return Err("it stands for the root, and is not a directory".into());
        }
        self.check_way(&name)?;
        let path = below(&name, &self.prefix).map(<[u8]>::to_vec);
        let selected = path
            .as_deref()
            .is_some_and(|path| self.select(path, member));
        let (kind, original) = self.kind(member, &name, path.as_deref(), selected)?;
        if original.as_deref() == Some(&name[..]) {
            return Ok(Verdict::Nothing);
        }
        let before = self.seen.get(&name);
        let again = before.is_some() && member.what != What::Directory;
        if let Some(before) = before
            && before.class() != kind.class()
        {
            return Err(format!(
                "the archive has it twice, first as {}, then as {}",
                before.class(),
                kind.class()
            )
            .into());
        }
        let mut implied = Vec::new();
        let mut above = parent(&name);
        loop {
            match self.seen.get(above) {
                None if !selected => self.seen.set(above, Kind::DirectoryLeftOut),
                None | Some(Kind::DirectoryLeftOut) if selected => {
                    self.seen.set(above, Kind::Directory);
                    if let Some(path) = below(above, &self.prefix)
                        && !path.is_empty()
                    {
                        implied.push(path.to_vec());
                    }
                }
                _ => break,
            }
            above = parent(above);
        }
        // A directory that something selected needs stays one, whatever is said of it later.
        if !name.is_empty() && (selected || before != Some(Kind::Directory)) {
            self.seen.set(&name, kind);
        }
        match path {
            Some(path) if selected => {
                if path.is_empty() && member.what != What::Directory {
                    return Err(
                        "the tree that is restored begins here, and it is not a directory".into(),
                    );
                }
                let original = original
                    .map(|original| below(&original, &self.prefix).unwrap_or_default().to_vec());
                Ok(Verdict::Unpack {
                    path,
                    original,
                    again,
                    implied,
                })
            }
            _ => Ok(Verdict::LeftOut),
        }
    }

    /// Nothing on the way to `name` may be anything but a directory.
    fn check_way(&mut self, name: &[u8]) -> Result<(), Refusal> {
        let directory = parent(name);
        if self.checked.as_deref() == Some(directory) {
            return Ok(());
        }
        let mut above = directory;
        while !above.is_empty() {
            if let Some(kind) = self.seen.get(above)
                && !matches!(kind, Kind::Directory | Kind::DirectoryLeftOut)
            {
                return Err(format!(
                    "it lies below {:?}, which the archive has as {}",
                    String::from_utf8_lossy(above),
                    kind.class()
                )
                .into());
            }
            above = parent(above);
        }
        self.checked = Some(directory.to_vec());
        Ok(())
    }

    /// Whether a path below the prefix is selected; notes what was asked for and is there.
    fn select(&mut self, path: &[u8], member: &Member) -> bool {
        self.prefix_met = true;
        let mut selected = self.only.is_empty();
        for wanted in &mut self.only {
            if below(path, &wanted.path).is_some() {
                wanted.met = true;
                selected = true;
            } else if member.what == What::Directory && below(&wanted.path, path).is_some() {
                selected = true;
            }
        }
        selected
            && !self
                .except
                .iter()
                .any(|except| below(path, except).is_some())
    }

    /// What the member's name stands for from now on; of a hard link also the member that it
    /// names.
    fn kind(
        &self,
        member: &Member,
        name: &[u8],
        path: Option<&[u8]>,
        selected: bool,
    ) -> Result<(Kind, Option<Vec<u8>>), Refusal> {
        let kind = match &member.what {
            What::File(_) => {
                self.check_powers(member)?;
                if selected {
                    Kind::File
                } else {
                    Kind::FileLeftOut
                }
            }
            What::Directory if selected => Kind::Directory,
            What::Directory => Kind::DirectoryLeftOut,
            What::Fifo => Kind::Fifo,
            What::Symlink(target) => {
                let places = LinkPlaces {
                    live_root: &self.policy.live_root,
                    links_to: &self.policy.links_to,
                };
                // Outside the prefix nothing is known of where it would live: it must stay
                // inside the archive.
                let movable =
                    places
                        .check(parent(path.unwrap_or(name)), target)
                        .map_err(|reason| Refusal {
                            reason,
                            hint: Some(ALLOW_LINKS),
                        })?;
                match (selected, movable) {
                    (false, _) => Kind::LinkLeftOut,
                    (true, true) => Kind::Link,
                    (true, false) => Kind::LinkFixed,
                }
            }
            What::Hardlink(target) => return self.hard_link(target, name, selected),
            What::CharacterDevice => return Err("it is a character device".into()),
            What::BlockDevice => return Err("it is a block device".into()),
            What::Global(_) | What::Unknown(_) => {
                return Err(match member.what {
                    What::Unknown(byte) => {
                        format!(
                            "it is of a type that is not known here ({:?})",
                            char::from(byte)
                        )
                    }
                    _ => "it describes other members".to_owned(),
                }
                .into());
            }
        };
        Ok((kind, None))
    }

    fn hard_link(
        &self,
        target: &[u8],
        name: &[u8],
        selected: bool,
    ) -> Result<(Kind, Option<Vec<u8>>), Refusal> {
        let shown = String::from_utf8_lossy(target);
        let target = normal(target).map_err(|_| {
            Refusal::from(format!(
                "it is a hard link to {shown:?}, which lies outside the archive"
            ))
        })?;
        let before = self.seen.get(&target);
        let kind = match before {
            _ if target == name && before.is_some() => before,
            None => {
                return Err(format!(
                    "it is a hard link to {shown:?}, which is no member before it"
                )
                .into());
            }
            Some(Kind::Directory | Kind::DirectoryLeftOut) => {
                return Err(format!("it is a hard link to {shown:?}, a directory").into());
            }
            Some(Kind::FileLeftOut | Kind::LinkLeftOut) if selected => {
                return Err(Refusal {
                    reason: format!("it is a hard link to {shown:?}, which is not selected"),
                    hint: Some("select the file that it is a link to as well"),
                });
            }
            Some(Kind::LinkFixed) if selected && parent(&target) != parent(name) => {
                return Err(format!(
                    "it is a hard link to {shown:?}, a symbolic link that means something else here"
                )
                .into());
            }
            Some(Kind::File | Kind::FileLeftOut) if !selected => Some(Kind::FileLeftOut),
            Some(Kind::Link | Kind::LinkFixed | Kind::LinkLeftOut) if !selected => {
                Some(Kind::LinkLeftOut)
            }
            other => other,
        };
        kind.map(|kind| (kind, Some(target)))
            .ok_or_else(|| "it is a hard link to nothing".into())
    }

    /// Set-uid, set-gid and file capabilities let whoever runs the file act as someone else.
    fn check_powers(&self, member: &Member) -> Result<(), Refusal> {
        if self.policy.set_uid {
            return Ok(());
        }
        // Root's powers are never a matter of course, whoever owns the live tree.
        let owner = self.policy.owner;
        let user = owner.map(|owner| owner.0).filter(|user| *user != 0);
        let group = owner.map(|owner| owner.1).filter(|group| *group != 0);
        let why = |id: u32, other: &'static str| match id {
            0 => "root",
            _ => other,
        };
        let refuse = |reason: String| {
            Err(Refusal {
                reason,
                hint: Some(ALLOW_SETUID),
            })
        };
        if member.mode & 0o4000 != 0 && user != Some(member.uid) {
            return refuse(format!(
                "it is set-uid for user {}, {}",
                member.uid,
                why(member.uid, "who does not own the live tree")
            ));
        }
        if member.mode & 0o2000 != 0 && group != Some(member.gid) {
            return refuse(format!(
                "it is set-gid for group {}, {}",
                member.gid,
                why(member.gid, "which does not own the live tree")
            ));
        }
        if member.xattrs.iter().any(|(key, _)| key == CAPABILITIES) {
            return refuse("it carries file capabilities, powers of root".to_owned());
        }
        Ok(())
    }
}

/// Keys of a global header that change nothing about the members after it.
fn is_harmless(key: &str) -> bool {
    matches!(
        key,
        "comment" | "charset" | "hdrcharset" | "atime" | "ctime"
    ) || (key.contains('.') && !key.starts_with("GNU.") && !key.starts_with("SCHILY."))
}
