//! What a member is to become, and whether it may.

use super::super::links::{LinkPlaces, parent};
use super::super::member::{CAPABILITIES, Member, TarKind};
use super::super::member_index::Kind;
use super::super::refusal::{ALLOW_LINKS, ALLOW_SETUID, IMPOSSIBLE, Refusal, shortened};
use super::{LONGEST, MemberFilter};

/// What is to be done where the first name of a file is outside of what is restored: its content came with
/// that name.
const WIDER_PREFIX: &str = "its content is under that name: take a `prefix` that has both, or none, or make the archive with `tar --hard-dereference`";

/// The kernel's NAME_MAX.
const NAME: usize = 255;

/// What attributes of one member may hold, names included: as much as Linux gives one of them.
const ATTRIBUTES: usize = 64 * 1024;

impl MemberFilter<'_> {
    /// What the path stands for from now on; of a hard link also the path that it is another name
    /// of.
    pub(super) fn kind(
        &mut self,
        member: &Member,
        owner: (u32, u32),
        path: &[u8],
    ) -> Result<(Kind, Option<Vec<u8>>), Refusal> {
        let kind = match &member.what {
            TarKind::File(_) => {
                self.check_powers(member, owner)?;
                Kind::File
            }
            TarKind::Directory => Kind::Directory,
            TarKind::Dumpdir { absent: 0 } => Kind::Directory,
            TarKind::Dumpdir { absent } => {
                return Err(Refusal {
                    reason: format!(
                        "the archive is an increment: {absent} entries of this directory are not in it"
                    ),
                    hint: Some(
                        "unpack the full backup and then this one with `tar --listed-incremental=/dev/null -x`, and make one archive of the result",
                    ),
                });
            }
            TarKind::Fifo => Kind::Fifo,
            TarKind::Symlink(target) => {
                check_target(target)?;
                match self.policy.any_links {
                    true => Kind::Link,
                    false => self.link(parent(path), target)?,
                }
            }
            TarKind::Hardlink(target) => return self.hard_link(target, path),
            TarKind::CharacterDevice => return Err("it is a character device".into()),
            TarKind::BlockDevice => return Err("it is a block device".into()),
            TarKind::Continued => {
                return Err(Refusal {
                    reason: "it is the rest of a file that another volume of the archive begins"
                        .to_owned(),
                    hint: Some(
                        "join the volumes into one archive: unpack them with `tar -M` and pack the result again",
                    ),
                });
            }
            TarKind::Label | TarKind::Global(_) => return Err("it describes other members".into()),
            TarKind::Unknown(byte) => {
                return Err(format!(
                    "it is of a type that is not known here ({:?})",
                    char::from(*byte)
                )
                .into());
            }
        };
        Ok((kind, None))
    }

    /// What a symbolic link in the directory `place` is, where not all may lead anywhere.
    fn link(&mut self, place: &[u8], target: &[u8]) -> Result<Kind, Refusal> {
        let places = LinkPlaces {
            live_root: &self.policy.live_root,
            links_to: &self.policy.links_to,
        };
        let refused = |reason| Refusal {
            reason,
            hint: Some(ALLOW_LINKS),
        };
        match places.check(place, target) {
            Ok(true) => Ok(Kind::Link),
            Ok(false) => Ok(Kind::LinkFixed),
            // Where the live tree is, and so what is inside of it, its machine knows.
            Err(_)
                if self.policy.elsewhere
                    && self.policy.live_root.as_os_str().is_empty()
                    && LinkPlaces::steps(target).is_ok() =>
            {
                self.unjudged += 1;
                Ok(Kind::Link)
            }
            Err(reason) => Err(refused(reason)),
        }
    }

    fn hard_link(&self, target: &[u8], path: &[u8]) -> Result<(Kind, Option<Vec<u8>>), Refusal> {
        let shown = shortened(target);
        let not_selected = || Refusal {
            reason: format!("it is a hard link to {shown:?}, which is not selected"),
            // Paths are selected one by one; what else leaves it out is the component's `prefix`.
            hint: Some(match self.policy.only.is_empty() {
                true => WIDER_PREFIX,
                false => "select the file that it is a link to as well",
            }),
        };
        let outside = || {
            Refusal::from(format!(
                "it is a hard link to {shown:?}, which lies outside the archive"
            ))
        };
        // No selection has what leads out of the archive.
        let leads_out = target.split(|byte| *byte == b'/').any(|part| part == b"..");
        let target = self.path_of(target).map_err(|_| outside())?;
        let target = target.ok_or_else(|| match leads_out {
            true => outside(),
            false => not_selected(),
        })?;
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
    fn check_powers(&mut self, member: &Member, becomes: (u32, u32)) -> Result<(), Refusal> {
        if self.policy.set_uid || self.policy.drop_powers {
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
        // Who owns the live tree, and what names stand for, the tree's own machine knows.
        let unknown = self.policy.elsewhere && owner.is_none();
        let becomes = match unknown {
            true => self.ownership.all.unwrap_or((member.uid, member.gid)),
            false => becomes,
        };
        let other = |ids: [u32; 2], owner: Option<u32>| {
            let mut others = ids.into_iter().filter(|id| owner != Some(*id));
            match unknown {
                true => others.find(|id| *id == 0),
                false => others.next(),
            }
        };
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
        self.unjudged += u64::from(unknown && member.mode & 0o6000 != 0);
        Ok(())
    }
}

/// A name that no file can have.
pub(super) fn too_long(name: &[u8]) -> Refusal {
    Refusal {
        reason: format!(
            "its name has {} bytes, more than a path may have ({LONGEST})",
            name.len()
        ),
        hint: Some(IMPOSSIBLE),
    }
}

/// Refuses what no directory can hold.
pub(super) fn check_names(path: &[u8]) -> Result<(), Refusal> {
    let mut parts = path.split(|byte| *byte == b'/');
    match path.len() > NAME && parts.any(|part| part.len() > NAME) {
        false => Ok(()),
        true => Err(Refusal {
            reason: format!("a part of its name has more than {NAME} bytes"),
            hint: Some(IMPOSSIBLE),
        }),
    }
}

/// Refuses a link that cannot be made.
fn check_target(target: &[u8]) -> Result<(), Refusal> {
    if target.is_empty() {
        return Err("it is a link to nowhere".into());
    }
    if target.contains(&0) {
        return Err("its link target has a zero byte".into());
    }
    match target.len() > LONGEST {
        false => Ok(()),
        true => Err(Refusal {
            reason: format!("its link target has more than {LONGEST} bytes"),
            hint: Some(IMPOSSIBLE),
        }),
    }
}

/// What the attributes of a member hold, in bytes.
pub(super) fn attributes(member: &Member) -> usize {
    member.xattrs.iter().fold(0_usize, |sum, (key, value)| {
        sum.saturating_add(key.len()).saturating_add(value.len())
    })
}

pub(super) fn check_attributes(member: &Member) -> Result<(), Refusal> {
    let bytes = attributes(member);
    if bytes > ATTRIBUTES {
        return Err(Refusal {
            reason: format!("its extended attributes hold {bytes} bytes, more than {ATTRIBUTES}"),
            hint: Some(
                "no program here needs that: find out where the archive comes from, or restore another backup",
            ),
        });
    }
    let possible = |key: &str| key.len() <= NAME && !key.contains('\0') && key != "user.";
    match member.xattrs.iter().find(|(key, _)| !possible(key)) {
        None => Ok(()),
        Some((key, _)) => Err(Refusal {
            reason: format!(
                "it has an extended attribute that no file can have, {:?}",
                shortened(key.as_bytes())
            ),
            hint: Some(IMPOSSIBLE),
        }),
    }
}
