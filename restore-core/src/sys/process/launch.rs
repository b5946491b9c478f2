//! How programs are started here: as whom, and bound to what.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::account::Account;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::child;

/// What a program is bound to, and kept from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    /// The kernel kills it when the thread that spawns it ends, where this machine's `setpriv` can arrange
    /// that.
    pub(crate) dies_with_us: bool,
    /// It is in a network of its own with nothing in it, where this process may make one. What it reads may be
    /// a program of strangers. Sockets that have a path in a file system are reached as before.
    pub(crate) no_network: bool,
}

/// A command for `argv`, as `account` where one is given, in a session of its own and with a short
/// environment: see [`child`].
pub(crate) fn command(
    argv: &[String],
    account: Option<&Account>,
    bounds: Bounds,
) -> Result<Command> {
    let bound = bounds.dies_with_us;
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
    // As long as it is root's.
    if bounds.no_network
        && set_here.is_none()
        && let Some(unshare) = unshare()
    {
        words.push(unshare.into());
        words.extend(["-n", "--"].map(OsString::from));
    }
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

/// The program that makes a network with nothing in it, and then becomes another one. `None` where there is
/// none, or none can be made: it takes root, and more than the root of a usual container has.
fn unshare() -> Option<PathBuf> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let unshare = child::find("unshare")?;
        let mut tried = Command::new(&unshare);
        child::environment(&mut tried, None);
        let tried = tried
            .args(["-n", "--", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        tried
            .is_ok_and(|status| status.success())
            .then_some(unshare)
    });
    found.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_no_network() {
        // It takes root, which tests that start servers have.
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
        let argv = ["readlink", "/proc/self/ns/net"].map(str::to_owned);
        let stranger = Account::of(65_533, 65_533);
        for (account, dies_with_us) in [(None, false), (Some(&stranger), true)] {
            for no_network in [false, true] {
                let bounds = Bounds {
                    dies_with_us,
                    no_network,
                };
                let output = command(&argv, account, bounds).unwrap().output().unwrap();
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(said.starts_with("net:["), "{output:?}");
                assert_eq!(Path::new(said.trim()) == ours, !no_network, "{said}");
            }
        }
    }

    #[test]
    fn a_missing_program_is_named() {
        for name in ["no-such-program-at-all", "/no/such/program"] {
            let error = command(&[name.to_owned()], None, Bounds::default()).unwrap_err();
            assert_eq!(error.code(), "local.no_program");
            assert!(error.message().contains(name));
        }
        assert_eq!(
            command(&[], None, Bounds::default()).unwrap_err().code(),
            "local.empty_command"
        );
    }
}
