//! Users of this machine, by name.

use std::ffi::CString;
use std::path::PathBuf;

use crate::model::{Error, ErrorKind, Result};

/// A user to run programs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: PathBuf,
    /// Whether it belongs to more groups than its first.
    pub(crate) more_groups: bool,
}

impl Account {
    /// The user `name`, wanted by the section `path` of the configuration.
    pub(crate) fn find(path: &str, name: &str) -> Result<Self> {
        let user = nix::unistd::User::from_name(name)
            .map_err(|e| Error::io(format!("look up the user {name:?}"), e.into()))?
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Config,
                    "local.unknown_user",
                    format!("[{path}] names the user {name:?}, whom this machine does not have"),
                )
                .hint("correct `user`, or install the package that makes this user")
            })?;
        let more_groups = CString::new(name)
            .ok()
            .and_then(|name| nix::unistd::getgrouplist(&name, user.gid).ok())
            .is_some_and(|groups| groups.iter().any(|group| *group != user.gid));
        Ok(Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            home: user.dir,
            more_groups,
        })
    }

    /// The user and group of these numbers, which this machine need not have a name for.
    pub(crate) fn of(uid: u32, gid: u32) -> Self {
        let known = nix::unistd::User::from_uid(uid.into()).ok().flatten();
        let (name, home) = match known {
            Some(user) => (user.name, user.dir),
            None => (uid.to_string(), PathBuf::from("/")),
        };
        Self {
            name,
            uid,
            gid,
            home,
            more_groups: false,
        }
    }

    /// Whether this process already is that user.
    pub(crate) fn is_ours(&self) -> bool {
        rustix::process::geteuid().as_raw() == self.uid
    }
}

/// What this machine calls a user; the number where it has no name.
pub(crate) fn name(uid: u32) -> String {
    let known = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    known.map_or_else(|| uid.to_string(), |user| user.name)
}

/// The groups of a user who is started with this first one.
pub(crate) fn groups(uid: u32, gid: u32) -> Vec<u32> {
    let known = CString::new(name(uid)).ok();
    let all = known
        .and_then(|name| nix::unistd::getgrouplist(&name, nix::unistd::Gid::from_raw(gid)).ok());
    match all {
        Some(groups) => groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
        None => vec![gid],
    }
}
