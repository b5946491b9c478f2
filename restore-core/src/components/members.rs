//! The keys of a component about the members of its archive.

use std::path::PathBuf;

use serde::Deserialize;

use crate::archive::{Owners, UnpackPolicy};
use crate::model::{Error, ErrorKind, Result};

/// Where symbolic links of an archive may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Links {
    /// Anywhere: they are data, made as they are and never followed.
    Any,
    /// Into the tree, and to what `allow_links` names: for stores of strangers.
    Inside,
}

/// What a volume's and a tree's sections have in common.
pub(super) struct MemberKeys<'a> {
    /// The directory of the archive that is restored; the component's own where it says nothing.
    pub(super) prefix: Option<&'a str>,
    /// So many leading directories are taken off.
    pub(super) strip: u32,
    pub(super) owners: Owners,
    /// Whose all becomes, by numbers.
    pub(super) user: Option<u32>,
    pub(super) group: Option<u32>,
    pub(super) links: Option<Links>,
    pub(super) allow_links: &'a [PathBuf],
    pub(super) allow_setuid: bool,
    pub(super) max_members: u64,
    pub(super) max_bytes: u64,
}

/// More directories no archive has above what matters.
const DEEPEST: u32 = 100;

impl MemberKeys<'_> {
    /// Refuses what means nothing; `place` is the section.
    pub(super) fn check(&self, place: &str) -> Result<()> {
        let bad = |what: String| {
            Error::new(
                ErrorKind::Config,
                "config.bad_value",
                format!("[{place}] {what}"),
            )
        };
        if let Some(prefix) = self.prefix
            && prefix.split('/').any(|part| part == "..")
        {
            return Err(bad(format!("prefix = {prefix:?} leads upwards")).hint(
                "name the directory as the archive has it (`tar tf ARCHIVE` shows its names)",
            ));
        }
        if self.strip > DEEPEST {
            return Err(bad(format!(
                "strip = {} is more than {DEEPEST}",
                self.strip
            )));
        }
        if self.group.is_some() && self.user.is_none() {
            return Err(bad("`group` needs `user`".to_owned())
                .hint("give both numbers: user = 999 and group = 999"));
        }
        if self.user.is_some() && self.owners != Owners::Numbers {
            return Err(bad("`user` and `owners` contradict each other".to_owned())
                .hint("take one of them out"));
        }
        Ok(())
    }

    /// Which members are let in of an archive whose members lie below `own` where no key says
    /// otherwise.
    pub(super) fn policy(&self, own: &str) -> UnpackPolicy {
        UnpackPolicy {
            prefix: self.below(own).to_owned(),
            strip: self.strip,
            any_links: self.any_links(),
            links_to: self.allow_links.to_vec(),
            set_uid: self.allow_setuid,
            max_members: self.max_members,
            max_bytes: self.max_bytes,
            chown: self.user.map(|user| (user, self.group.unwrap_or(user))),
            owners: self.owners,
            ..UnpackPolicy::default()
        }
    }

    /// What our own archives name their members below, so that the same keys restore them.
    /// `component` stands for directories that are taken off.
    pub(super) fn name_below(&self, own: &str, component: &str) -> String {
        let above = self.below(own).split('/');
        let off = std::iter::repeat_n(component, usize::try_from(self.strip).unwrap_or(0));
        let parts = above.filter(|part| !matches!(*part, "" | "."));
        let name = parts.chain(off).collect::<Vec<_>>().join("/");
        match name.is_empty() {
            true => ".".to_owned(),
            false => name,
        }
    }

    fn below<'b>(&'b self, own: &'b str) -> &'b str {
        match (self.prefix, self.strip) {
            (Some(prefix), _) => prefix,
            (None, 0) => own,
            (None, _) => "",
        }
    }

    /// Whoever names places that links may lead to means that they may lead nowhere else.
    fn any_links(&self) -> bool {
        match self.links {
            Some(links) => links == Links::Any,
            None => self.allow_links.is_empty(),
        }
    }
}
