//! Which members are let in: the gate that every member passes before anything is written.

use std::collections::HashSet;

use super::links::{below, normal, parent};
use super::member::{Member, TarKind};
use super::member_index::{Kind, MemberIndex};
use super::ownership::Ownership;
use super::refusal::{Absolute, Refusal, refusals, shortened};
use super::{RefusedMember, UnpackPolicy};
use crate::model::{Error, ErrorKind, Result};

mod kind;

use kind::{attributes, check_attributes, check_names, too_long};

/// The reason of an error: something that the policy names is not in the archive.
#[derive(Debug, PartialEq)]
pub(crate) struct MemberMissing;

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
pub(super) struct MemberFilter<'a> {
    label: &'a str,
    policy: &'a UnpackPolicy,
    ownership: Ownership,
    prefix: Vec<u8>,
    /// So many names are taken off what is left.
    strip: usize,
    only: Vec<Wanted>,
    except: Vec<Vec<u8>>,
    prefix_met: bool,
    /// Something below the target itself was let in.
    kept: bool,
    /// Members, directories aside, of whose names nothing is left once directories are taken off.
    taken_off: u64,
    /// See [`Unpacked::outside`](super::Unpacked::outside).
    outside: u64,
    /// Members about which only the machine that has the live tree can say whether they are let in.
    unjudged: u64,
    /// Directories that no member is, but that names of members imply.
    implied: u64,
    /// Bytes to be kept until the end for the directories that are made.
    held: u64,
    /// By the paths that members are given here.
    seen: MemberIndex,
    /// The paths that were refused so far.
    refused: HashSet<Vec<u8>>,
    absolute: Absolute,
    /// The directory whose ancestors were checked last: most members share it with the one before.
    checked: Option<Vec<u8>>,
}

struct Wanted {
    path: Vec<u8>,
    met: bool,
}

/// Where a member's name leads.
enum Destination {
    /// To this path below the target.
    At(Vec<u8>),
    /// Outside of the prefix.
    Outside,
    /// Nowhere: nothing is left of it once leading directories are taken off.
    TakenOff,
}

/// How many are remembered.
pub(super) const MOST: usize = 1000;

/// The kernel's PATH_MAX without its end.
const LONGEST: usize = 4095;

/// About what is kept of a directory besides its path and its attributes.
const DIRECTORY: u64 = 128;

impl<'a> MemberFilter<'a> {
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
            kept: false,
            taken_off: 0,
            outside: 0,
            unjudged: 0,
            implied: 0,
            held: 0,
            seen: MemberIndex::new(),
            refused: HashSet::new(),
            absolute: Absolute::default(),
            checked: None,
        })
    }

    /// Judges the next member.
    pub(super) fn admit(&mut self, member: &Member) -> Result<Verdict> {
        let label = self.label;
        self.judged(member)
            .map_err(|refused| refusals(label, &[refused], 1))
    }

    /// As `admit`, with a refusal as a value. What is a link to a member that was refused is not
    /// refused again for that.
    pub(super) fn judged(&mut self, member: &Member) -> Result<Verdict, RefusedMember> {
        let refusal = match self.judge(member) {
            Ok(verdict) => return Ok(verdict),
            Err(refusal) => refusal,
        };
        if self.refused.len() < MOST
            && let Ok(Destination::At(path)) = self.locate(&member.name)
            && path.len() <= LONGEST
        {
            self.refused.insert(path);
        }
        Err(self.absolute.refused(&member.name, refusal))
    }

    /// What is to be said the same way of all that were refused.
    pub(super) fn settle(&self, refused: &mut [RefusedMember]) {
        self.absolute.settle(refused);
    }

    /// How many directories the names so far imply, beside those that are members.
    pub(super) fn implied(&self) -> u64 {
        self.implied
    }

    /// How many bytes are kept until the end for directories.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// How many members are outside of what is wanted, and are not just directories above it.
    pub(super) fn outside(&self) -> u64 {
        self.outside
    }

    /// How many members are let in here although their own machine may refuse them.
    pub(super) fn unjudged(&self) -> u64 {
        self.unjudged
    }

    /// Called after the last member: everything that was asked for must have been there.
    pub(super) fn finish(&self) -> Result<()> {
        let missing = |what: String| {
            Err(
                Error::new(ErrorKind::Verification, "archive.member_missing", what)
                    .because(MemberMissing)
                    .hint("look at the names that the archive has: `tar tf ARCHIVE`"),
            )
        };
        // Files at the top alone are no empty tree.
        let all_taken_off = !self.kept && self.taken_off > 0;
        if self.strip > 0 && (!self.prefix_met || all_taken_off) {
            let below = match self.prefix.is_empty() {
                true => String::new(),
                false => format!(" below {:?}", self.policy.prefix),
            };
            return missing(format!(
                "{} has nothing{below} once {} leading directories are taken off its names (`strip`)",
                self.label, self.strip
            ));
        }
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
        if let TarKind::Global(keys) = &member.what {
            return match keys.iter().find(|key| !is_harmless(key)) {
                None => Ok(Verdict::Nothing),
                Some(key) => Err(format!(
                    "it sets {:?} for all members after it",
                    shortened(key.as_bytes())
                )
                .into()),
            };
        }
        if member.what == TarKind::Label {
            return Ok(Verdict::Nothing);
        }
        // What is not written harms nobody: it is not judged.
        let directory = member.is_directory();
        let path = match self.locate(&member.name)? {
            Destination::At(path) => path,
            Destination::Outside => {
                let above = directory && self.is_above(&member.name);
                self.outside += u64::from(!above);
                return Ok(Verdict::LeftOut);
            }
            Destination::TakenOff => {
                self.take_off(directory);
                return Ok(Verdict::LeftOut);
            }
        };
        if path.is_empty() && !directory {
            return match (self.strip, self.prefix.is_empty()) {
                (0, true) => Err("it stands for the root, and is not a directory".into()),
                (0, false) => {
                    Err("the tree that is restored begins here, and it is not a directory".into())
                }
                _ => {
                    self.take_off(directory);
                    Ok(Verdict::LeftOut)
                }
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
        check_names(&path)?;
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
            self.implied += 1;
            self.hold(above, 0);
            implied.push(above.to_vec());
            above = parent(above);
        }
        if !path.is_empty() {
            self.seen.set(&path, kind);
            self.kept = true;
        }
        if directory {
            self.hold(&path, attributes(member));
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

    /// The path that a member of this name has below the target, if any.
    ///
    /// A leading slash means nothing where a prefix or `strip` says what is wanted.
    fn locate(&self, name: &[u8]) -> Result<Destination, &'static str> {
        if self.prefix.is_empty() && self.strip == 0 {
            return normal(name).map(Destination::At);
        }
        let mut parts = name
            .split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty() && *part != b".");
        for wanted in self.prefix.split(|byte| *byte == b'/') {
            if !wanted.is_empty() && parts.next() != Some(wanted) {
                return Ok(Destination::Outside);
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
                return Ok(Destination::TakenOff);
            };
            let end = path.iter().position(|byte| *byte == b'/');
            left = Some(end.and_then(|end| path.get(end + 1..)).unwrap_or_default());
        }
        Ok(left.map_or(Destination::TakenOff, |path| Destination::At(path.to_vec())))
    }

    /// The path of a member below the target, if it has one.
    fn path_of(&self, name: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
        Ok(match self.locate(name)? {
            Destination::At(path) => Some(path),
            Destination::Outside | Destination::TakenOff => None,
        })
    }

    /// Whether a directory of that name is one on the way to the prefix.
    fn is_above(&self, name: &[u8]) -> bool {
        let mut wanted = self.prefix.split(|byte| *byte == b'/');
        name.split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty() && *part != b".")
            .all(|part| wanted.next() == Some(part))
    }

    /// The path below the target of a member of this name that is selected, without noting that it was
    /// there.
    pub(super) fn path_in_tree(&self, name: &[u8]) -> Option<Vec<u8>> {
        let path = self.path_of(name).ok().flatten()?;
        let within = |above: &Vec<u8>| below(&path, above).is_some();
        let wanted = self.only.is_empty() || self.only.iter().any(|it| within(&it.path));
        (wanted && !self.except.iter().any(within)).then_some(path)
    }

    /// Notes that nothing is left of a member's name.
    fn take_off(&mut self, directory: bool) {
        self.taken_off += u64::from(!directory);
        self.outside += u64::from(!directory);
    }

    /// Notes that a directory is kept in mind until the end.
    fn hold(&mut self, path: &[u8], attributes: usize) {
        let bytes = path.len().saturating_add(attributes);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.held = self.held.saturating_add(bytes).saturating_add(DIRECTORY);
    }

    /// Notes what a member is that is not selected, for those below it and links to it.
    fn leave_out(&mut self, path: &[u8], member: &Member) {
        let kind = match &member.what {
            TarKind::Symlink(_) => Kind::LinkLeftOut,
            TarKind::Hardlink(target) => {
                let target = self.path_of(target).ok().flatten();
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
            self.implied += 1;
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
                    shortened(above),
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
}

/// Keys of a global header that change nothing about the members after it.
fn is_harmless(key: &str) -> bool {
    matches!(
        key,
        "comment" | "charset" | "hdrcharset" | "atime" | "ctime" | "GNU.volume.label"
    ) || (key.contains('.') && !key.starts_with("GNU.") && !key.starts_with("SCHILY."))
}
