//! Which members are let in: the gate that every member passes before anything is written.

use std::collections::HashSet;

use super::links::{ABSOLUTE, LinkPlaces, below, normal, parent};
use super::member::{CAPABILITIES, Member, What};
use super::ownership::Ownership;
use super::seen::{Kind, Seen};
use super::{RefusedMember, UnpackPolicy};
use crate::model::{Error, ErrorKind, Result};

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
        /// Whose it becomes: user and group.
        owner: (u32, u32),
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
    ownership: Ownership,
    prefix: Vec<u8>,
    /// So many names are taken off what is left.
    strip: usize,
    only: Vec<Wanted>,
    except: Vec<Vec<u8>>,
    prefix_met: bool,
    /// By the paths that members are given here.
    seen: Seen,
    /// The paths that were refused so far.
    refused: HashSet<Vec<u8>>,
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

/// How many refused members a message names.
const NAMED: usize = 10;
/// How many are remembered.
pub(super) const MOST: usize = 1000;

/// What is to be done about a member that no honest archive has.
const STRANGER: &str = "whoever made this archive could overwrite other files with it: find out \
                        where it comes from, or restore another backup";

/// The kernel's PATH_MAX without its end.
const LONGEST: usize = 4095;

/// As much of a name as a message shows, in characters.
const SHOWN: usize = 300;

const ALLOW_LINKS: &str = "if links may lead there, add the place to the component's `allow_links` in restore.toml, or take out `links = \"inside\"`";
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
            ownership: Ownership::new(policy),
            prefix: plain(&policy.prefix)?,
            strip: usize::try_from(policy.strip).unwrap_or(usize::MAX),
            only: only.collect::<Result<_>>()?,
            except: policy
                .except
                .iter()
                .map(|path| plain(path))
                .collect::<Result<_>>()?,
            prefix_met: false,
            seen: Seen::new(),
            refused: HashSet::new(),
            checked: None,
        })
    }

    /// Judges the next member.
    pub(super) fn admit(&mut self, member: &Member) -> Result<Verdict> {
        let label = self.label;
        self.judged(member)
            .map_err(|refused| refusals(label, &[refused], 1))
    }

    /// The same, with a refusal as a value. What is a link to a member that was refused is not
    /// refused again for that.
    pub(super) fn judged(&mut self, member: &Member) -> Result<Verdict, RefusedMember> {
        let refusal = match self.judge(member) {
            Ok(verdict) => return Ok(verdict),
            Err(refusal) => refusal,
        };
        if self.refused.len() < MOST
            && let Ok(Some(path)) = self.locate(&member.name)
        {
            self.refused.insert(path);
        }
        let hint = match refusal.hint {
            Some(hint) => hint.to_owned(),
            None if refusal.reason == ABSOLUTE => format!(
                "its maker kept leading slashes (`tar -P`): say which directory of the archive is restored with the component's `prefix`, such as prefix = {:?}",
                String::from_utf8_lossy(parent(&member.name)).trim_start_matches('/')
            ),
            None => STRANGER.to_owned(),
        };
        Err(RefusedMember {
            member: shortened(&member.name),
            reason: refusal.reason,
            hint,
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
        if member.what == What::Label {
            return Ok(Verdict::Nothing);
        }
        // What is not written harms nobody: it is not judged.
        let Some(path) = self.locate(&member.name)? else {
            return Ok(Verdict::LeftOut);
        };
        let directory = member.is_directory();
        if path.is_empty() && !directory {
            return match (self.strip, self.prefix.is_empty()) {
                (0, true) => Err("it stands for the root, and is not a directory".into()),
                (0, false) => {
                    Err("the tree that is restored begins here, and it is not a directory".into())
                }
                _ => Ok(Verdict::LeftOut),
            };
        }
        self.prefix_met = true;
        let selected = self.select(&path, directory);
        if path.len() > LONGEST {
            // Before its directories are remembered one by one.
            return match selected {
                true => Err(too_long(&member.name)),
                false => Ok(Verdict::LeftOut),
            };
        }
        if !selected {
            self.leave_out(&path, member);
            return Ok(Verdict::LeftOut);
        }
        check_attributes(member)?;
        self.check_way(&path)?;
        // What it becomes is judged, and not only what its header says.
        let owner = self.ownership.of(member);
        let (kind, original) = self.kind(member, owner, &path)?;
        if original.as_deref() == Some(&path[..]) {
            return Ok(Verdict::Nothing);
        }
        let before = self.seen.get(&path);
        let again = before.is_some() && !directory;
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
        if again && self.strip > 0 {
            return Err(Refusal {
                reason: format!(
                    "once {} leading directories are taken off, two members have its name",
                    self.strip
                ),
                hint: Some("choose one directory of the archive with the component's `prefix`"),
            });
        }
        let mut implied = Vec::new();
        let mut above = parent(&path);
        while let None | Some(Kind::DirectoryLeftOut) = self.seen.get(above) {
            self.seen.set(above, Kind::Directory);
            implied.push(above.to_vec());
            above = parent(above);
        }
        if !path.is_empty() {
            self.seen.set(&path, kind);
        }
        Ok(Verdict::Unpack {
            path,
            original,
            again,
            implied,
            owner,
        })
    }

    /// Whose everything becomes, where all has one owner.
    pub(super) fn owner_of_all(&self) -> Option<(u32, u32)> {
        self.ownership.all
    }

    /// The path that a member of this name has below the target; `None` where it lies outside of
    /// the prefix, or above what is left once leading directories are taken off.
    ///
    /// A leading slash means nothing where a prefix or `strip` says what is wanted.
    fn locate(&self, name: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
        if self.prefix.is_empty() && self.strip == 0 {
            return normal(name).map(Some);
        }
        let mut parts = name
            .split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty() && *part != b".");
        for wanted in self.prefix.split(|byte| *byte == b'/') {
            if !wanted.is_empty() && parts.next() != Some(wanted) {
                return Ok(None);
            }
        }
        let rest: Vec<&[u8]> = parts.collect();
        let rest = match rest.is_empty() {
            true => Vec::new(),
            false => normal(&rest.join(&b'/'))?,
        };
        let mut left = Some(&rest[..]);
        for _ in 0..self.strip {
            let Some(path) = left.filter(|path| !path.is_empty()) else {
                return Ok(None);
            };
            let end = path.iter().position(|byte| *byte == b'/');
            left = Some(end.and_then(|end| path.get(end + 1..)).unwrap_or_default());
        }
        Ok(left.map(<[u8]>::to_vec))
    }

    /// Notes what a member is that is not selected, for those below it and links to it.
    fn leave_out(&mut self, path: &[u8], member: &Member) {
        let kind = match &member.what {
            What::Symlink(_) => Kind::LinkLeftOut,
            What::Hardlink(target) => {
                let target = self.locate(target).ok().flatten();
                match target.and_then(|target| self.seen.get(&target)) {
                    Some(Kind::Link | Kind::LinkFixed | Kind::LinkLeftOut) => Kind::LinkLeftOut,
                    _ => Kind::FileLeftOut,
                }
            }
            _ if member.is_directory() => Kind::DirectoryLeftOut,
            _ => Kind::FileLeftOut,
        };
        let mut above = parent(path);
        while self.seen.get(above).is_none() {
            self.seen.set(above, Kind::DirectoryLeftOut);
            above = parent(above);
        }
        // A directory that something selected needs stays one, whatever is said of it later.
        if !path.is_empty() && self.seen.get(path) != Some(Kind::Directory) {
            self.seen.set(path, kind);
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
    fn select(&mut self, path: &[u8], directory: bool) -> bool {
        let mut selected = self.only.is_empty();
        for wanted in &mut self.only {
            if below(path, &wanted.path).is_some() {
                wanted.met = true;
                selected = true;
            } else if directory && below(&wanted.path, path).is_some() {
                selected = true;
            }
        }
        selected
            && !self
                .except
                .iter()
                .any(|except| below(path, except).is_some())
    }

    /// What the path stands for from now on; of a hard link also the path that it is another name
    /// of.
    fn kind(
        &self,
        member: &Member,
        owner: (u32, u32),
        path: &[u8],
    ) -> Result<(Kind, Option<Vec<u8>>), Refusal> {
        let kind = match &member.what {
            What::File(_) => {
                self.check_powers(member, owner)?;
                Kind::File
            }
            What::Directory => Kind::Directory,
            What::Dumpdir { absent: 0 } => Kind::Directory,
            What::Dumpdir { absent } => {
                return Err(Refusal {
                    reason: format!(
                        "the archive is an increment: {absent} entries of this directory are not in it"
                    ),
                    hint: Some(
                        "unpack the full backup and then this one with `tar --listed-incremental=/dev/null -x`, and make one archive of the result",
                    ),
                });
            }
            What::Fifo => Kind::Fifo,
            What::Symlink(target) if self.policy.any_links => match target.is_empty() {
                true => return Err("it is a link to nowhere".into()),
                false => Kind::Link,
            },
            What::Symlink(target) => {
                let places = LinkPlaces {
                    live_root: &self.policy.live_root,
                    links_to: &self.policy.links_to,
                };
                let movable = places
                    .check(parent(path), target)
                    .map_err(|reason| Refusal {
                        reason,
                        hint: Some(ALLOW_LINKS),
                    })?;
                match movable {
                    true => Kind::Link,
                    false => Kind::LinkFixed,
                }
            }
            What::Hardlink(target) => return self.hard_link(target, path),
            What::CharacterDevice => return Err("it is a character device".into()),
            What::BlockDevice => return Err("it is a block device".into()),
            What::Continued => {
                return Err(Refusal {
                    reason: "it is the rest of a file that another volume of the archive begins"
                        .to_owned(),
                    hint: Some(
                        "join the volumes into one archive: unpack them with `tar -M` and pack the result again",
                    ),
                });
            }
            What::Label | What::Global(_) => return Err("it describes other members".into()),
            What::Unknown(byte) => {
                return Err(format!(
                    "it is of a type that is not known here ({:?})",
                    char::from(*byte)
                )
                .into());
            }
        };
        Ok((kind, None))
    }

    fn hard_link(&self, target: &[u8], path: &[u8]) -> Result<(Kind, Option<Vec<u8>>), Refusal> {
        let shown = String::from_utf8_lossy(target);
        let not_selected = || Refusal {
            reason: format!("it is a hard link to {shown:?}, which is not selected"),
            hint: Some("select the file that it is a link to as well"),
        };
        let target = self
            .locate(target)
            .map_err(|_| {
                Refusal::from(format!(
                    "it is a hard link to {shown:?}, which lies outside the archive"
                ))
            })?
            .ok_or_else(not_selected)?;
        let kind = match self.seen.get(&target) {
            Some(before) if target == path => before,
            None if self.refused.contains(&target) => Kind::FileLeftOut,
            None => {
                return Err(format!(
                    "it is a hard link to {shown:?}, which is no member before it"
                )
                .into());
            }
            Some(Kind::Directory | Kind::DirectoryLeftOut) => {
                return Err(format!("it is a hard link to {shown:?}, a directory").into());
            }
            Some(Kind::FileLeftOut | Kind::LinkLeftOut) => return Err(not_selected()),
            Some(Kind::LinkFixed) if parent(&target) != parent(path) => {
                return Err(format!(
                    "it is a hard link to {shown:?}, a symbolic link that means something else here"
                )
                .into());
            }
            Some(other) => other,
        };
        Ok((kind, Some(target)))
    }

    /// Set-uid, set-gid and file capabilities let whoever runs the file act as someone else: as
    /// its recorded owner where it is unpacked elsewhere, as `becomes` here.
    fn check_powers(&self, member: &Member, becomes: (u32, u32)) -> Result<(), Refusal> {
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
        let other =
            |ids: [u32; 2], owner: Option<u32>| ids.into_iter().find(|id| owner != Some(*id));
        if member.mode & 0o4000 != 0
            && let Some(id) = other([becomes.0, member.uid], user)
        {
            return refuse(format!(
                "it is set-uid for user {id}, {}",
                why(id, "who does not own the live tree")
            ));
        }
        if member.mode & 0o2000 != 0
            && let Some(id) = other([becomes.1, member.gid], group)
        {
            return refuse(format!(
                "it is set-gid for group {id}, {}",
                why(id, "which does not own the live tree")
            ));
        }
        if member.xattrs.iter().any(|(key, _)| key == CAPABILITIES) {
            return refuse("it carries file capabilities, powers of root".to_owned());
        }
        Ok(())
    }
}

/// The error that some members are refused, of which `refused` are the first.
pub(super) fn refusals(label: &str, refused: &[RefusedMember], count: usize) -> Error {
    let said = |it: &RefusedMember| format!("{:?} ({})", it.member, it.reason);
    let message = match refused {
        [only] if count == 1 => {
            let RefusedMember { member, reason, .. } = only;
            format!("{label}: member {member:?} is refused: {reason}")
        }
        _ => {
            let named: Vec<String> = refused.iter().take(NAMED).map(said).collect();
            let more = match count.saturating_sub(named.len()) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!(
                "{label}: {count} members are refused: {}{more}",
                named.join(", ")
            )
        }
    };
    let mut hints: Vec<&str> = Vec::new();
    for it in refused {
        if !hints.contains(&it.hint.as_str()) {
            hints.push(&it.hint);
        }
    }
    Error::new(ErrorKind::Verification, "archive.member_refused", message).hint(hints.join("; "))
}

/// A name that no file can have.
fn too_long(name: &[u8]) -> Refusal {
    Refusal {
        reason: format!(
            "its name has {} bytes, more than a path may have ({LONGEST})",
            name.len()
        ),
        hint: Some(
            "no file can have such a name: find out where the archive comes from, or restore another backup",
        ),
    }
}

fn check_attributes(member: &Member) -> Result<(), Refusal> {
    let attributes = member.xattrs.iter().fold(0_usize, |sum, (key, value)| {
        sum.saturating_add(key.len()).saturating_add(value.len())
    });
    if attributes <= ATTRIBUTES {
        return Ok(());
    }
    Err(Refusal {
        reason: format!("its extended attributes hold {attributes} bytes, more than {ATTRIBUTES}"),
        hint: Some(
            "no program here needs that: find out where the archive comes from, or restore another backup",
        ),
    })
}

/// A name for a message.
fn shortened(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.into_owned(),
    }
}

/// Keys of a global header that change nothing about the members after it.
fn is_harmless(key: &str) -> bool {
    matches!(
        key,
        "comment" | "charset" | "hdrcharset" | "atime" | "ctime" | "GNU.volume.label"
    ) || (key.contains('.') && !key.starts_with("GNU.") && !key.starts_with("SCHILY."))
}
