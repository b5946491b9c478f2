//! pg_restore and psql: which ones, and how they are run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::client::Login;
use super::names::conninfo_value;
use super::script::{Script, ScriptReader, major};
use crate::error::{Error, ErrorKind, Result};
use crate::platform::{Command, Exit, Platform, Process};

/// Where Debian and its kin put the programs of each major version.
pub(super) const VERSIONED: &str = "/usr/lib/postgresql";

/// The client programs of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tools {
    /// Their directory; `None`: wherever `PATH` leads.
    dir: Option<PathBuf>,
    /// Their major version.
    pub(super) major: u32,
    /// Their version in words.
    pub(super) version: String,
}

/// A file of the backup, and how the programs can read it.
#[derive(Clone, Debug)]
pub(super) struct Input {
    /// On this host.
    pub(super) path: PathBuf,
    /// As the programs see it; `None`: they get it through standard input.
    pub(super) seen: Option<PathBuf>,
}

/// Runs client programs in the context of the service.
pub(super) struct Runner<'a> {
    pub(super) platform: &'a dyn Platform,
    pub(super) login: &'a Login,
    pub(super) cancel: &'a CancellationToken,
}

impl Tools {
    /// The program `name` of this version.
    pub(super) fn program(&self, name: &str) -> String {
        match &self.dir {
            Some(dir) => dir.join(name).to_string_lossy().into_owned(),
            None => name.to_owned(),
        }
    }
}

impl Runner<'_> {
    /// The tools that can serve a server of this major version, best first: the server's own
    /// version, then newer ones. With `bin` only those there.
    pub(super) async fn find(&self, bin: Option<&Path>, server: u32) -> Result<Vec<Tools>> {
        let dirs: Vec<Option<PathBuf>> = match bin {
            Some(dir) => vec![Some(dir.to_owned())],
            None => {
                let mut versions = versions_on_host();
                // In a container the versions of this host say nothing about those there.
                versions.insert(server);
                let dirs = versions
                    .into_iter()
                    .map(|n| Some(Path::new(VERSIONED).join(n.to_string()).join("bin")));
                std::iter::once(None).chain(dirs).collect()
            }
        };
        let mut found: Vec<Tools> = Vec::new();
        let mut older = None;
        for dir in dirs {
            let mut tools = Tools {
                dir,
                major: 0,
                version: String::new(),
            };
            let Some(version) = self.version(&tools.program("pg_restore")).await else {
                continue;
            };
            tools.major = major(&version).unwrap_or(0);
            tools.version = version;
            if tools.major < server {
                older = Some(tools);
            } else if found.iter().all(|other| other.major != tools.major) {
                found.push(tools);
            }
        }
        found.sort_by_key(|tools| tools.major);
        if !found.is_empty() {
            return Ok(found);
        }
        let place = bin.map_or_else(
            || format!("PATH or {VERSIONED}/*/bin"),
            |dir| dir.display().to_string(),
        );
        Err(match older {
            None => Error::new(
                ErrorKind::Preflight,
                "postgres.no_tools",
                format!("there is no pg_restore in {place}"),
            ),
            Some(tools) => Error::new(
                ErrorKind::Preflight,
                "postgres.old_tools",
                format!(
                    "pg_restore in {place} is {}, older than the server ({server})",
                    tools.version
                ),
            ),
        }
        .hint(format!(
            "install postgresql-client-{server}, or name the directory of the programs with bin"
        )))
    }

    /// "15.4", or `None` where the program cannot be run.
    async fn version(&self, program: &str) -> Option<String> {
        let command = Command::new([program, "--version"]);
        let mut process = self
            .platform
            .exec(&self.login.service, command)
            .await
            .ok()?;
        drop(process.stdin());
        let mut stdout = process.stdout()?;
        let mut text = Vec::new();
        let (read, exit) = tokio::join!(stdout.read_to_end(&mut text), process.wait());
        if read.is_err() || !exit.ok()?.success() {
            return None;
        }
        // "pg_restore (PostgreSQL) 15.4 (Debian 15.4-1)"
        let text = String::from_utf8_lossy(&text);
        let (_, version) = text.split_once(") ")?;
        Some(version.split_whitespace().next()?.to_owned())
    }

    /// The SQL of a custom dump without its data. With `create`, the options of its
    /// `CREATE DATABASE` too.
    pub(super) async fn script(
        &self,
        tools: &Tools,
        input: &Input,
        create: bool,
    ) -> Result<Script> {
        let mut args = vec!["--schema-only", "--file=-"];
        if create {
            args.push("--create");
        }
        let mut reader = ScriptReader::default();
        let exit = self
            .run(tools, "pg_restore", &args, Some(input), |bytes| {
                reader.feed(bytes);
            })
            .await?;
        if exit.success() {
            Ok(reader.finish())
        } else {
            Err(tool_failed("pg_restore", &exit))
        }
    }

    /// The connection string for a program; everything but the password, which goes through the
    /// environment.
    pub(super) fn conninfo(&self, database: &str) -> String {
        let endpoint = &self.login.inside;
        format!(
            "host={} port={} user={} dbname={} connect_timeout=10 application_name=restore",
            conninfo_value(&endpoint.host),
            endpoint.port,
            conninfo_value(&self.login.user),
            conninfo_value(database),
        )
    }

    /// Runs a program to its end, or until cancelled; dropping the future kills it. `input` is
    /// given as the last argument, or through standard input.
    pub(super) async fn run(
        &self,
        tools: &Tools,
        program: &str,
        args: &[&str],
        input: Option<&Input>,
        mut output: impl FnMut(&[u8]),
    ) -> Result<Exit> {
        let mut process = self.start(tools, program, args, input).await?;
        let stdin = process.stdin();
        let stdout = process.stdout();
        let feeding = async move {
            let (Some(mut stdin), Some(input)) =
                (stdin, input.filter(|input| input.seen.is_none()))
            else {
                return Ok(());
            };
            let what = || format!("read {}", input.path.display());
            let mut file = tokio::fs::File::open(&input.path)
                .await
                .map_err(|e| Error::io(what(), e))?;
            let mut buffer = vec![0; 256 * 1024];
            loop {
                let count = file
                    .read(&mut buffer)
                    .await
                    .map_err(|e| Error::io(what(), e))?;
                let bytes = buffer.get(..count).unwrap_or_default();
                // A program that ends early does not read on; its exit code tells why.
                if bytes.is_empty() || stdin.write_all(bytes).await.is_err() {
                    break;
                }
            }
            let _ended = stdin.shutdown().await;
            Ok::<(), Error>(())
        };
        let reading = async {
            let Some(mut stdout) = stdout else {
                return Ok(());
            };
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let count = stdout
                    .read(&mut buffer)
                    .await
                    .map_err(|e| Error::io(format!("read what {program} prints"), e))?;
                if count == 0 {
                    return Ok(());
                }
                output(buffer.get(..count).unwrap_or_default());
            }
        };
        let all = async {
            let ended = async { tokio::try_join!(reading, process.wait()) };
            tokio::pin!(feeding, ended);
            tokio::select! {
                // One that has ended reads no more; a pipe through others may be slow to say so.
                done = &mut ended => done,
                fed = &mut feeding => match fed {
                    Ok(()) => ended.await,
                    Err(error) => Err(error),
                },
            }
        };
        tokio::select! {
            () = self.cancel.cancelled() => Err(Error::interrupted()),
            ended = all => ended.map(|((), exit)| exit),
        }
    }

    /// Starts a program; `input`, where the program sees the file, is its last argument.
    pub(super) async fn start(
        &self,
        tools: &Tools,
        program: &str,
        args: &[&str],
        input: Option<&Input>,
    ) -> Result<Box<dyn Process>> {
        let mut argv = vec![tools.program(program)];
        argv.extend(args.iter().map(|arg| (*arg).to_owned()));
        if let Some(seen) = input.and_then(|input| input.seen.as_deref()) {
            argv.push(seen.to_string_lossy().into_owned());
        }
        let mut command = Command::new(argv);
        command.env = self.environment();
        self.platform.exec(&self.login.service, command).await
    }

    fn environment(&self) -> BTreeMap<String, String> {
        let mut env = BTreeMap::from([
            (
                "PGOPTIONS".to_owned(),
                "-c default_transaction_read_only=off".to_owned(),
            ),
            // Messages are read by us, and by people of any language.
            ("LC_MESSAGES".to_owned(), "C".to_owned()),
        ]);
        if let Some(password) = &self.login.password {
            env.insert("PGPASSWORD".to_owned(), password.expose_secret().to_owned());
        }
        env
    }
}

/// Why a program failed, from the first error in what it wrote.
pub(super) fn tool_failed(program: &str, exit: &Exit) -> Error {
    let prefix = format!("{program}: error: ");
    let line = exit
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix(&prefix))
        .or_else(|| exit.stderr.lines().find(|line| line.contains("ERROR:")))
        .or_else(|| exit.stderr.lines().rfind(|line| !line.trim().is_empty()))
        .unwrap_or("without a word");
    let line: String = line.trim().chars().take(300).collect();
    let full = exit.stderr.contains("No space left on device");
    let error = Error::new(
        ErrorKind::Failed,
        if full {
            "postgres.disk_full"
        } else {
            "postgres.tool_failed"
        },
        format!("{program} failed (exit code {}): {line}", exit.code),
    );
    if full {
        error.hint("free some space where PostgreSQL keeps its data, and try again")
    } else if program == "pg_restore" && DAMAGED.iter().any(|words| line.contains(words)) {
        error
            .with_kind(ErrorKind::Verification)
            .hint("restore another backup: `restore list`, then `restore verify ID --deep`")
    } else {
        error.hint("the server's own log says more; live data is untouched")
    }
}

/// What pg_restore says of a dump that is not whole, whatever the server thinks of it.
const DAMAGED: &[&str] = &[
    "could not read from input file",
    "could not find block ID",
    "found unexpected block ID",
    "unexpected end of file",
    "unrecognized data block type",
    "could not uncompress data",
    "corrupt",
];

fn versions_on_host() -> std::collections::BTreeSet<u32> {
    let Ok(entries) = std::fs::read_dir(VERSIONED) else {
        return Default::default();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}
