//! Programs of this host that run outside of any service.

use std::sync::OnceLock;

use super::account::Account;
use super::command::{Command, Process, Scratch};
use super::{exec, procs, scratch};
use crate::model::Result;

/// Starts a program as ourselves, in the context of no service.
pub(crate) fn plain_process(command: &Command) -> Result<Box<dyn Process>> {
    Ok(Box::new(exec::spawn(command, None)?))
}

/// Starts a program as ourselves that is killed by the kernel when this process ends, however it ends.
pub(crate) fn bound_process(command: &Command) -> Result<Box<dyn Process>> {
    Ok(Box::new(exec::spawn_bound(command)?))
}

/// Starts a program as the user and group of these numbers, in the context of no service.
pub(crate) fn process_as(command: &Command, (uid, gid): (u32, u32)) -> Result<Box<dyn Process>> {
    let account = Account::of(uid, gid);
    Ok(Box::new(exec::spawn(command, Some(&account))?))
}

/// Starts a throwaway server as the user and group of these numbers, or as ourselves.
pub(crate) async fn scratch_as(
    command: Command,
    owner: Option<(u32, u32)>,
) -> Result<Box<dyn Scratch>> {
    let account = owner.map(|(uid, gid)| Account::of(uid, gid));
    Ok(Box::new(scratch::spawn(command, account).await?))
}

/// The number of a user and a group that own nothing and that nobody runs programs as: what runs as
/// one user can look into all that does. The user nobody is many services'. The same one as long as
/// this process lives.
pub(crate) fn stranger() -> u32 {
    static CHOSEN: OnceLock<u32> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let used = procs::users();
        let free = |uid: &u32| {
            !used.contains(uid) && matches!(nix::unistd::User::from_uid((*uid).into()), Ok(None))
        };
        // Where systemd takes users from that last as long as a service runs.
        let (first, last) = (61_184, 65_519);
        let start = first + std::process::id() % (last - first);
        (start..=last)
            .chain(first..start)
            .find(free)
            .unwrap_or(65_534)
    })
}
