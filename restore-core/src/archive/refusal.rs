//! Why a member is not let in, in words, and what can be done about it.

use super::RefusedMember;
use super::links::{ABSOLUTE, common, parent};
use crate::model::{Error, ErrorKind};

/// A reason to refuse, with the key that would allow it.
pub(super) struct Refusal {
    pub(super) reason: String,
    pub(super) hint: Option<&'static str>,
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

/// As much of a name as a message shows, in characters.
const SHOWN: usize = 300;

/// What is to be done about a member that no honest archive has.
const STRANGER: &str = "whoever made this archive could overwrite other files with it: find out \
                        where it comes from, or restore another backup";

pub(super) const ALLOW_LINKS: &str = "if links may lead there, add the place to the component's `allow_links` in restore.toml, or take out `links = \"inside\"`";
pub(super) const ALLOW_SETUID: &str = "if the archive is trusted with this, set `allow_setuid = true` for the component in restore.toml";
/// What is to be done about what no file system takes.
pub(super) const IMPOSSIBLE: &str =
    "no file can have that: find out where the archive comes from, or restore another backup";

/// Makes one list of what was refused: names that are absolute share their hint, which gives the
/// directory that they have in common.
#[derive(Default)]
pub(super) struct Absolute {
    top: Option<Vec<u8>>,
}

impl Absolute {
    /// The member of that name is refused.
    pub(super) fn refused(&mut self, name: &[u8], refusal: Refusal) -> RefusedMember {
        if refusal.reason == ABSOLUTE {
            let directory = parent(name);
            match &mut self.top {
                Some(top) => top.truncate(common(top, directory).len()),
                None => self.top = Some(directory.to_vec()),
            }
        }
        let hint = match refusal.hint {
            Some(hint) => hint.to_owned(),
            None if refusal.reason == ABSOLUTE => self.hint(),
            None => STRANGER.to_owned(),
        };
        RefusedMember {
            member: shortened(name),
            reason: refusal.reason,
            hint,
        }
    }

    /// Gives all of them the hint that the last of them had.
    pub(super) fn settle(&self, refused: &mut [RefusedMember]) {
        let hint = self.hint();
        for it in refused.iter_mut().filter(|it| it.reason == ABSOLUTE) {
            it.hint.clone_from(&hint);
        }
    }

    fn hint(&self) -> String {
        let top = shortened(self.top.as_deref().unwrap_or_default());
        let such = match top.trim_start_matches('/') {
            "" => String::new(),
            top => format!(", such as prefix = {top:?}"),
        };
        format!(
            "its maker kept leading slashes (`tar -P`): say which directory of the archive is restored with the component's `prefix`{such}"
        )
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

/// A name for a message.
pub(super) fn shortened(name: &[u8]) -> String {
    // Four bytes a character at most.
    let start = name.get(..(SHOWN + 1) * 4).unwrap_or(name);
    let text = String::from_utf8_lossy(start);
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.into_owned(),
    }
}
