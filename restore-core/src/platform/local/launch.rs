//! How programs are started here: as whom, and bound to what.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::account::Account;
use crate::error::{Error, ErrorKind, Result};

/// A command for `argv`, as `account` where one is given, in a process group of its own: a
/// Ctrl-C meant for us does not reach it. With `bound`, the kernel kills it when the thread that
/// spawns it ends, where this machine's `setpriv` can arrange that.
pub(super) fn command(argv: &[String], account: Option<&Account>, bound: bool) -> Result<Command> {
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
    let groups = account.is_some_and(|account| account.more_groups);
    let mut command = match setpriv().filter(|_| bound || groups) {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            if let Some(account) = account {
                command.args([
                    format!("--reuid={}", account.uid),
                    format!("--regid={}", account.gid),
                    // Only a user whom this machine has a name for can have more than one.
                    match groups {
                        true => "--init-groups".to_owned(),
                        false => "--clear-groups".to_owned(),
                    },
                ]);
            }
            if bound {
                // Were we killed before the kernel was told, nobody would ever end it.
                let check = "[ \"$PPID\" = \"$0\" ] && exec \"$@\"";
                let own = std::process::id().to_string();
                command.args(["--pdeathsig=KILL", "--", "/bin/sh", "-c", check, &own]);
            } else {
                command.arg("--");
            }
            command.arg(&program);
            command
        }
        None => {
            let mut command = Command::new(&program);
            if let Some(account) = account {
                // Setting the user as root also drops root's further groups.
                command.uid(account.uid).gid(account.gid);
            }
            command
        }
    };
    command.args(arguments).process_group(0);
    if let Some(account) = account {
        command
            .env("HOME", &account.home)
            .env("USER", &account.name)
            .env("LOGNAME", &account.name);
    }
    Ok(command)
}

/// The file that a program's name stands for.
fn resolve(name: &str) -> Result<PathBuf> {
    let found = if name.contains('/') {
        Some(PathBuf::from(name)).filter(|path| path.is_file())
    } else {
        search(name)
    };
    found.ok_or_else(|| {
        Error::new(
            ErrorKind::Failed,
            "local.no_program",
            format!("the program {name} is not there"),
        )
        .hint("install it, or name it with its full path")
    })
}

fn search(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers live in sbin, which is not on everyone's path.
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// util-linux's setpriv: the way to a user's further groups and to a child that dies with us,
/// without code between fork and exec. Busybox has one of the same name that can neither.
fn setpriv() -> Option<PathBuf> {
    search("setpriv").filter(|path| {
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
