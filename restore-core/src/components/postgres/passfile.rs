//! A password for a client program, by a file without a name.
//!
//! In the environment of a program a password could be read by whatever runs as the same user, and
//! would be inherited by all that the program starts. So a shell reads it from standard input,
//! writes it to a file that only it can read, deletes that file and leaves the open descriptor to
//! the program, as its password file. What follows on standard input is the program's.
//!
//! The certificates and the key of a connection with TLS go the same way: the program's user may
//! read none of our files.

use std::fmt::Write;
use std::path::Path;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::client::Login;
use crate::contract::Platform;
use crate::model::{Endpoint, Error, ErrorKind, Result};
use crate::sys::connect::Mode;
use crate::sys::process::command::{Command, Exit, Process};
use crate::sys::trust;
use crate::sys::trust::Trust;

/// Reads a password line and three texts, each after a line with the number of its lines. In
/// memory where there is such a place, and without a name before the program begins.
const SCRIPT: &str = r#"umask 077
read_file() {
  IFS= read -r count || exit 125
  file=$(mktemp -p /dev/shm 2>/dev/null || mktemp) || exit 125
  while [ "$count" -gt 0 ]; do
    IFS= read -r line || { rm -f "$file"; exit 125; }
    printf '%s\n' "$line" || { rm -f "$file"; exit 125; }
    count=$((count - 1))
  done >"$file"
}
read_file; exec 3<"$file"; rm -f "$file"
read_file; exec 5<"$file"; rm -f "$file"
read_file; exec 6<"$file"; rm -f "$file"
read_file; exec 7<"$file"; rm -f "$file"
unset line file count
exec "$@""#;

/// The names of its descriptors: password, authority, certificate, key. The fourth is another's.
const FILES: [&str; 4] = [
    "/proc/self/fd/3",
    "/proc/self/fd/5",
    "/proc/self/fd/6",
    "/proc/self/fd/7",
];

/// Where this machine's own authorities are, for programs that know no "system".
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Starts a client program in the context of a service; it signs in as `login` says.
pub(super) async fn exec(
    platform: &dyn Platform,
    login: &Login,
    mut command: Command,
) -> Result<Box<dyn Process>> {
    let service = &login.service;
    let given = Given::new(login).await?;
    command.env.extend(given.env);
    if given.files.iter().all(Option::is_none) {
        return platform.exec(service, command).await;
    }
    let shell = ["sh", "-c", SCRIPT, "restore"].map(str::to_owned);
    command.argv.splice(0..0, shell);
    let mut process = platform.exec(service, command).await?;
    let mut stdin = process.stdin();
    if let Some(stdin) = &mut stdin {
        let text = input(&given.files);
        let sent = async {
            stdin.write_all(text.expose_secret().as_bytes()).await?;
            stdin.flush().await
        };
        // A program that has ended already says why by its exit code.
        let _ = sent.await;
    }
    Ok(Box::new(Signed {
        inner: process,
        stdin,
    }))
}

/// What the script reads.
fn input(files: &[Option<SecretString>; 4]) -> SecretString {
    let mut text = String::new();
    for file in files {
        let lines = file.as_ref().map_or("", |file| file.expose_secret());
        let _ = writeln!(text, "{}", lines.lines().count());
        for line in lines.lines() {
            let _ = writeln!(text, "{line}");
        }
    }
    SecretString::from(text)
}

/// What a program is given to sign in with.
struct Given {
    /// None of them secret.
    env: Vec<(String, String)>,
    /// Password, authority, certificate, key.
    files: [Option<SecretString>; 4],
}

impl Given {
    /// As the program reaches the server: one beside it needs no TLS.
    async fn new(login: &Login) -> Result<Self> {
        let mut env = Vec::new();
        let mut set = |name: &str, value: &str| env.push((name.to_owned(), value.to_owned()));
        let mut files = [const { None }; 4];
        if let Some(password) = &login.password {
            files[0] = Some(line(password.expose_secret())?);
            set("PGPASSFILE", FILES[0]);
        }
        let tls = &login.tls;
        let local = is_local(&login.inside);
        let mode = match (local, tls.mode) {
            (_, Some(Mode::Disable)) => "disable",
            // In its own container a server has another name than the one that is certified.
            (true, Some(_)) if login.inside != login.endpoint => "prefer",
            (_, Some(Mode::VerifyFull)) => "verify-full",
            (_, Some(Mode::Require)) => "require",
            (_, None | Some(Mode::Prefer)) => "prefer",
        };
        set("PGSSLMODE", mode);
        // Programs of 16 and later heed it. That a server asks in no other way was seen when we
        // signed in ourselves.
        if !local && matches!(mode, "prefer") {
            set("PGREQUIREAUTH", "!password,!md5");
        }
        if mode == "disable" {
            return Ok(Self { env, files });
        }
        if mode == "verify-full" {
            let ca = tls.ca.as_deref();
            match ca {
                Some(path) => {
                    files[1] = Some(read(path, "the certificate authority", Trust::Obeyed).await?);
                    set("PGSSLROOTCERT", FILES[1]);
                }
                None => set("PGSSLROOTCERT", SYSTEM),
            }
        } else {
            // Or one in the user's own folder would make it another mode.
            set("PGSSLROOTCERT", "/nonexistent");
        }
        if let Some((cert, key)) = &tls.own {
            files[2] = Some(read(cert, "the certificate", Trust::Obeyed).await?);
            files[3] = Some(read(key, "the key", Trust::Secret).await?);
            set("PGSSLCERT", FILES[2]);
            set("PGSSLKEY", FILES[3]);
        }
        Ok(Self { env, files })
    }
}

/// Whether what a program sends there stays on its machine.
fn is_local(endpoint: &Endpoint) -> bool {
    let host = endpoint.host.as_str();
    let loopback = host
        .parse::<std::net::IpAddr>()
        .is_ok_and(|address| address.to_canonical().is_loopback());
    endpoint.on_this_host || host.starts_with('/') || host == "localhost" || loopback
}

async fn read(path: &Path, what: &'static str, trust: Trust) -> Result<SecretString> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let text = trust::read(&path, what, trust)?.map_err(|e| {
            Error::new(
                ErrorKind::Config,
                "tls.bad_file",
                format!("cannot read {}: {e}", path.display()),
            )
            .hint("ca_file, cert_file and key_file are files in PEM form")
        })?;
        Ok(SecretString::from(text))
    })
    .await
    .map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "postgres.task",
            format!("reading a file ended unexpectedly: {e}"),
        )
    })?
}

/// The line of a password file that is for every server.
fn line(password: &str) -> Result<SecretString> {
    if password.contains(['\n', '\r', '\0']) {
        return Err(Error::new(
            ErrorKind::Config,
            "postgres.bad_password",
            "the password holds a line end: the client programs cannot take it from a file",
        )
        .hint("give the role another password"));
    }
    let password = password.replace('\\', r"\\").replace(':', r"\:");
    Ok(SecretString::from(format!("*:*:*:*:{password}\n")))
}

/// A program whose standard input goes on behind the password.
struct Signed {
    inner: Box<dyn Process>,
    stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
}

#[async_trait]
impl Process for Signed {
    fn stdin(&mut self) -> Option<Box<dyn AsyncWrite + Send + Unpin>> {
        self.stdin.take()
    }

    fn stdout(&mut self) -> Option<Box<dyn AsyncRead + Send + Unpin>> {
        self.inner.stdout()
    }

    async fn wait(&mut self) -> Result<Exit> {
        drop(self.stdin.take());
        self.inner.wait().await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::sys::process::programs::plain_process;

    /// What a program sees of the files, their modes, its environment and the rest of its input.
    #[tokio::test]
    async fn the_program_has_its_secrets_in_files_without_a_name_and_nowhere_else() {
        let password = r"a:b\c $(id) 'x' %s";
        let script = r#"stat -Lc '%a %h' /proc/self/fd/3; for fd in 3 5 6 7; do cat /proc/self/fd/$fd; done; env; cat /proc/$$/cmdline | tr '\0' ' '; cat"#;
        let mut command = Command::new(["sh", "-c", script]);
        let shell = ["sh", "-c", SCRIPT, "restore"].map(str::to_owned);
        command.argv.splice(0..0, shell);
        let mut process = plain_process(&command).unwrap();
        let mut stdin = process.stdin().unwrap();
        let text = |text: &str| Some(SecretString::from(text));
        let files = [
            Some(line(password).unwrap()),
            text("authority\n\n$(id)\n"),
            None,
            text("key\nwithout an end"),
        ];
        stdin
            .write_all(input(&files).expose_secret().as_bytes())
            .await
            .unwrap();
        stdin.write_all(b"the rest\n").await.unwrap();
        drop(stdin);
        let mut said = String::new();
        let mut stdout = process.stdout().unwrap();
        stdout.read_to_string(&mut said).await.unwrap();
        assert!(process.wait().await.unwrap().success());
        let entry = r"*:*:*:*:a\:b\\c $(id) 'x' %s";
        let all = format!("600 0\n{entry}\nauthority\n\n$(id)\nkey\nwithout an end\n");
        assert!(said.starts_with(&all), "{said}");
        assert_eq!(said.matches("$(id)").count(), 2, "{said}");
        assert_eq!(said.matches("without an end").count(), 1, "{said}");
        assert!(said.ends_with("the rest\n"), "{said}");
    }

    #[test]
    fn a_password_of_two_lines_is_refused() {
        assert_eq!(line("a\nb").unwrap_err().code(), "postgres.bad_password");
    }
}
