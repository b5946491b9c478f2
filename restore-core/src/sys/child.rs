//! How every program is started: with a short environment and without our terminal.
//!
//! The environment of whoever runs this may hold passphrases and keys; what runs as a service's
//! user, and what a configuration starts, gets none of it but what says who and where it is. It is
//! in a session of its own: without a controlling terminal nothing can type into our shell, and a
//! Ctrl-C that is meant for us does not reach it.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// As much of a script's first line as the kernel reads.
const LINE: u64 = 256;

/// What every program gets of our environment, besides `LC_*`.
const KEPT: [&str; 5] = ["LANG", "LANGUAGE", "TZ", "HOME", "USER"];

/// What a program gets besides that runs as the same user as we: where that user's agents,
/// engines and settings are. None of these holds a secret.
const OWN: [&str; 16] = [
    "LOGNAME",
    "SHELL",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "KRB5CCNAME",
    "GNUPGHOME",
    "GPG_AGENT_INFO",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
];

/// Where servers and tools are that are not on everyone's path.
const USUAL: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// A program of this machine, as ourselves. One that is not there shows when it is spawned.
pub(crate) fn command(program: &str) -> Command {
    let mut command = match (find(program), find("setsid")) {
        (Some(path), Some(setsid)) => {
            let mut command = Command::new(setsid);
            command.arg(path);
            command
        }
        (Some(path), None) => grouped(path),
        (None, _) => grouped(program),
    };
    environment(&mut command, None);
    command
}

/// As [`command`], for programs of tokio's.
pub(crate) fn tokio_command(program: &str) -> tokio::process::Command {
    command(program).into()
}

/// A command in a process group of its own: the next best to a session.
fn grouped(program: impl AsRef<OsStr>) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    command.process_group(0);
    command
}

/// Another user than ourselves, whose program is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) name: &'a str,
    pub(crate) home: &'a Path,
}

/// Leaves of the environment only what a program needs, of its user's.
pub(crate) fn environment(command: &mut Command, user: Option<Identity<'_>>) {
    command.env_clear().env("PATH", path());
    for (key, value) in std::env::vars_os() {
        let name = key.to_string_lossy();
        let own = user.is_none() && OWN.contains(&&*name);
        if own || name.starts_with("LC_") || KEPT.contains(&&*name) {
            command.env(key, value);
        }
    }
    if let Some(user) = user {
        command
            .env("HOME", user.home)
            .env("USER", user.name)
            .env("LOGNAME", user.name);
    }
}

/// The program of util-linux that makes a session without code between fork and exec.
pub(crate) fn setsid() -> Option<PathBuf> {
    find("setsid")
}

/// Whether there is a terminal that a program of ours would inherit.
pub(crate) fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// The file that a program's name stands for.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    folders()
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// What the first line of a script names to run it.
pub(crate) fn interpreter(script: &Path) -> Option<PathBuf> {
    let mut head = Vec::new();
    let file = super::open_to_read(script).ok()?;
    file.take(LINE).read_to_end(&mut head).ok()?;
    let line = head
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let word = std::str::from_utf8(line).ok()?.split_whitespace().next()?;
    word.starts_with('/').then(|| PathBuf::from(word))
}

/// Whether what `PATH` has by this name is Debian's launcher for the programs of PostgreSQL. It looks
/// for a cluster of this machine and starts the program of its version: four times as slow as the
/// program itself, which is the same one.
pub(crate) fn is_postgres_launcher(name: &str) -> bool {
    find(name)
        .and_then(|path| path.canonicalize().ok())
        .is_some_and(|path| path.file_name().is_some_and(|name| name == "pg_wrapper"))
}

/// Our own path without folders that depend on where we stand, and the usual ones behind it.
fn folders() -> impl Iterator<Item = PathBuf> {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let own: Vec<PathBuf> = std::env::split_paths(&own)
        .filter(|dir| dir.is_absolute())
        .collect();
    own.into_iter().chain(USUAL.map(PathBuf::from))
}

fn path() -> OsString {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let own: Vec<PathBuf> = std::env::split_paths(&own)
        .filter(|dir| dir.is_absolute())
        .collect();
    match own.is_empty() {
        true => USUAL.join(":").into(),
        // What was split at colons holds none.
        false => std::env::join_paths(own).unwrap_or_else(|_| USUAL.join(":").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(mut command: Command, arguments: &[&str]) -> String {
        let output = command.args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn nothing_of_our_environment_but_what_is_needed() {
        // `cargo test` has set many of its own.
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some() || std::env::vars_os().count() > 0);
        for line in says(command("env"), &[]).lines() {
            let name = line.split('=').next().unwrap_or_default();
            assert!(
                name == "PATH"
                    || KEPT.contains(&name)
                    || OWN.contains(&name)
                    || name.starts_with("LC_"),
                "{line}"
            );
        }
        let mut other = Command::new("env");
        let home = Path::new("/nowhere");
        let user = Identity {
            name: "somebody",
            home,
        };
        environment(&mut other, Some(user));
        let said = says(other, &[]);
        assert!(said.contains("HOME=/nowhere\n") && said.contains("USER=somebody\n"));
        assert!(!said.contains("SHELL=") && !said.contains("SSH_AUTH_SOCK="));
    }

    #[test]
    fn a_program_leads_a_session_of_its_own() {
        let said = says(command("sh"), &["-c", "cut -d' ' -f1,6 /proc/$$/stat"]);
        let numbers: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(numbers.first(), numbers.get(1), "{said}");
        let open = "(exec 3<>/dev/tty) 2>/dev/null && echo open || echo none";
        assert_eq!(says(command("sh"), &["-c", open]), "none\n");
    }

    #[test]
    fn a_program_that_is_not_there_shows_when_it_is_spawned() {
        let error = command("no-such-program-at-all").spawn().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
}
