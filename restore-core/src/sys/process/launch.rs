//! How programs are started here: as whom, and bound to what.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::account::Account;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::child;

/// A command for `argv`, as `account` where one is given, in a session of its own and with a short
/// environment: see [`child`]. With `bound`, the kernel kills it when the thread that spawns it
/// ends, where this machine's `setpriv` can arrange that.
pub(crate) fn command(argv: &[String], account: Option<&Account>, bound: bool) -> Result<Command> {
    let (name, arguments) = argv.split_first().ok_or_else(|| {
        Error::new(
            ErrorKind::Config,
            "local.empty_command",
            "a command without a program",
        )
    })?;
    let program = resolve(name)?;
    let account = account.filter(|account| !account.is_ours());
    if let Some(account) = account
        && !rustix::process::geteuid().is_root()
    {
        return Err(Error::new(
            ErrorKind::Failed,
            "local.needs_root",
            format!(
                "cannot run {name} as the user {}: that takes root",
                account.name
            ),
        )
        .hint(format!(
            "run this as root, or as {} itself (sudo -u {0} …)",
            account.name
        )));
    }
    let mut words: Vec<OsString> = Vec::new();
    let session = child::setsid();
    let in_session = session.is_some();
    match session {
        Some(setsid) => words.push(setsid.into()),
        None if account.is_some() && child::has_terminal() => {
            return Err(Error::new(
                ErrorKind::Failed,
                "local.no_setsid",
                format!(
                    "cannot run {name} as another user without giving it this terminal: there is no setsid"
                ),
            )
            .hint("install util-linux, or run this without a terminal (from cron, or by systemd-run)"));
        }
        None => {}
    }
    let groups = account.is_some_and(|account| account.more_groups);
    // It changes the user last: a directory to start in may be closed to that one from above.
    let setpriv = setpriv().filter(|_| bound || account.is_some());
    let set_here = account.filter(|_| setpriv.is_none());
    if let Some(setpriv) = setpriv {
        words.push(setpriv.into());
        if let Some(account) = account {
            words.push(format!("--reuid={}", account.uid).into());
            words.push(format!("--regid={}", account.gid).into());
            // Only a user whom this machine has a name for can have more than one.
            words.push(match groups {
                true => "--init-groups".into(),
                false => "--clear-groups".into(),
            });
        }
        if bound {
            // Were we killed before the kernel was told, nobody would ever end it.
            let check = "[ \"$PPID\" = \"$0\" ] && exec \"$@\"";
            let own = std::process::id().to_string();
            words.extend(
                ["--pdeathsig=KILL", "--", "/bin/sh", "-c", check, &own].map(OsString::from),
            );
        } else {
            words.push("--".into());
        }
    }
    words.push(program.into());
    words.extend(arguments.iter().map(OsString::from));
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    if let Some(account) = set_here {
        // Setting the user as root also drops root's further groups.
        command.uid(account.uid).gid(account.gid);
    }
    if !in_session {
        command.process_group(0);
    }
    let identity = account.map(|account| child::Identity {
        name: &account.name,
        home: &account.home,
    });
    child::environment(&mut command, identity);
    Ok(command)
}

/// The reason of an error: a program is not there.
#[derive(Debug, PartialEq)]
pub(crate) struct NoProgram;

/// The file that a program's name stands for.
fn resolve(name: &str) -> Result<PathBuf> {
    child::find(name).ok_or_else(|| {
        Error::new(
            ErrorKind::Failed,
            "local.no_program",
            format!("the program {name} is not there"),
        )
        .because(NoProgram)
        .hint("install it, or name it with its full path")
    })
}

/// util-linux's setpriv: the way to a user's further groups and to a child that dies with us,
/// without code between fork and exec. Busybox has one of the same name that can neither.
fn setpriv() -> Option<PathBuf> {
    child::find("setpriv").filter(|path| {
        path.canonicalize()
            .is_ok_and(|real| !real.ends_with(Path::new("busybox")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named() {
        for name in ["no-such-program-at-all", "/no/such/program"] {
            let error = command(&[name.to_owned()], None, false).unwrap_err();
            assert_eq!(error.code(), "local.no_program");
            assert!(error.message().contains(name));
        }
        assert_eq!(
            command(&[], None, false).unwrap_err().code(),
            "local.empty_command"
        );
    }
}
