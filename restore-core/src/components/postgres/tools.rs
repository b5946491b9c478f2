//! pg_restore and psql: which ones, and how they are run.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::client::Login;
use super::content::Pieces;
use super::listing::{Listing, ListingReader};
use super::names::conninfo_value;
use super::passfile;
use super::script::{Script, ScriptReader, Skip, major};
use super::sql_dump::refuse_odd;
use crate::contract::Platform;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::child;
use crate::sys::process::command::{Command, Exit, Process};

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
    /// Where the programs are started, where that matters.
    pub(super) dir: Option<PathBuf>,
    /// It is compressed: programs get what it is decompressed to.
    pub(super) packed: bool,
    /// The numbers of the entries of an archive that are read; `None`: all.
    pub(super) only: Option<Arc<[u32]>>,
    /// How what goes through standard input differs from the file.
    pub(super) edit: Edit,
    /// The file itself, where its name may be another file's by now.
    pub(super) held: Option<Arc<std::fs::File>>,
}

/// What a program is given instead of some parts of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Edit {
    /// Before everything else.
    pub(super) first: Vec<u8>,
    /// Bytes that are left out, in their order.
    pub(super) without: Vec<Range<u64>>,
    /// Without a line's return before each line end.
    pub(super) returns: bool,
}

/// Opens a file as descriptor 4 of the program that is started.
const OPEN: &str = "exec 4<\"$0\" && exec \"$@\"";

/// The name of that descriptor.
const OPENED: &str = "/proc/self/fd/4";

/// Reads a line of numbers, and leaves them to the program that is started as the lines of a file
/// without a name, which is its descriptor 8.
const LIST: &str = r#"umask 077
IFS= read -r list || exit 125
file=$(mktemp -p /dev/shm 2>/dev/null || mktemp) || exit 125
printf '%s\n' $list >"$file" || { rm -f "$file"; exit 125; }
exec 8<"$file"; rm -f "$file"
unset list file
exec "$@""#;

/// The name of that descriptor.
const LISTED: &str = "/proc/self/fd/8";

impl Edit {
    /// The parts of `bytes`, which begin at `at`, that are not left out.
    fn parts<'a>(&self, at: u64, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut parts = Vec::new();
        let mut at = at;
        // Those before are behind us.
        let passed = self.without.partition_point(|out| out.end <= at);
        for out in self.without.get(passed..).unwrap_or_default() {
            if out.start >= at + bytes.len() as u64 {
                break;
            }
            let until = |position: u64, bytes: &[u8]| {
                usize::try_from(position.saturating_sub(at))
                    .unwrap_or(usize::MAX)
                    .min(bytes.len())
            };
            let (before, rest) = bytes.split_at(until(out.start, bytes));
            let skipped = until(out.end, bytes).saturating_sub(before.len());
            let (cut, rest) = rest.split_at(skipped);
            parts.push(before);
            at += (before.len() + cut.len()) as u64;
            bytes = rest;
        }
        parts.push(bytes);
        parts.retain(|part| !part.is_empty());
        parts
    }
}

/// What was read of a file, as a program is given it.
struct Editor<'a> {
    edit: &'a Edit,
    at: u64,
    /// A line's return was read, and not what follows it.
    pending: bool,
    out: Vec<u8>,
}

impl<'a> Editor<'a> {
    fn new(edit: &'a Edit) -> Self {
        Self {
            edit,
            at: 0,
            pending: false,
            out: Vec::new(),
        }
    }

    /// Takes the next bytes; what is left of them.
    fn feed<'b>(&'b mut self, bytes: &'b [u8]) -> Vec<&'b [u8]> {
        let parts = self.edit.parts(self.at, bytes);
        self.at += bytes.len() as u64;
        if !self.edit.returns {
            return parts;
        }
        self.out.clear();
        for byte in parts.into_iter().flatten() {
            if std::mem::replace(&mut self.pending, *byte == b'\r') && *byte != b'\n' {
                self.out.push(b'\r');
            }
            if !self.pending {
                self.out.push(*byte);
            }
        }
        vec![&self.out]
    }
}

impl Input {
    pub(super) fn new(path: &Path, seen: Option<PathBuf>) -> Self {
        Self {
            path: path.to_owned(),
            seen,
            dir: None,
            packed: false,
            only: None,
            edit: Edit::default(),
            held: None,
        }
    }

    /// The same archive, of which only these entries are read.
    pub(super) fn only(self, only: Option<Vec<u32>>) -> Self {
        Self {
            only: only.map(Arc::from),
            ..self
        }
    }

    /// This archive, said to be compressed or not: programs read only from a pipe what must be decompressed.
    pub(super) fn packed(self, packed: bool) -> Self {
        Self {
            seen: self.seen.filter(|_| !packed),
            packed,
            ..self
        }
    }

    /// Its content, decompressed, from its start.
    pub(super) fn pieces(&self) -> Result<Pieces> {
        let shown = self.path.display().to_string();
        let file = self
            .open()
            .map_err(|e| Error::io(format!("read {shown}"), e))?;
        Pieces::begin(file, &shown, self.packed)
    }

    /// The same file, whatever has its name.
    pub(super) fn held(self, file: std::fs::File) -> Self {
        Self {
            held: Some(Arc::new(file)),
            ..self
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Opens it for reading, from its start.
    pub(super) fn open(&self) -> std::io::Result<std::fs::File> {
        match &self.held {
            // A description of its own: others may read it at the same time.
            Some(file) => std::fs::File::open(format!("/proc/self/fd/{}", file.as_raw_fd())),
            None => crate::sys::open_to_read(&self.path),
        }
    }
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
                let mut dirs: Vec<_> = versions
                    .into_iter()
                    .map(|n| Some(Path::new(VERSIONED).join(n.to_string()).join("bin")))
                    .collect();
                let at = if child::is_postgres_launcher("pg_restore") {
                    dirs.len()
                } else {
                    0
                };
                dirs.insert(at, None);
                dirs
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
        self.printed(tools, input, &args).await
    }

    /// What these entries of an archive say of privileges on large objects: the SQL without its data does
    /// not have them.
    pub(super) async fn grants(&self, tools: &Tools, entries: &Input) -> Result<Script> {
        self.printed(tools, entries, &["--file=-"]).await
    }

    /// The SQL that pg_restore prints.
    async fn printed(&self, tools: &Tools, input: &Input, args: &[&str]) -> Result<Script> {
        let mut reader = ScriptReader::default();
        let exit = self
            .run(tools, "pg_restore", args, Some(input), |bytes| {
                reader.feed(bytes);
            })
            .await?;
        if exit.success() {
            refuse_odd(&reader, "the dump")?;
            Ok(reader.finish())
        } else {
            Err(tool_failed("pg_restore", &exit))
        }
    }

    /// The table of contents of an archive, and what of it is loaded. With `create` also what is about
    /// the database itself: its comment and privileges are among the entries only then.
    pub(super) async fn listing(
        &self,
        tools: &Tools,
        input: &Input,
        (create, skip): (bool, &Skip),
    ) -> Result<Listing> {
        let mut list = ListingReader::new(skip.clone());
        let args: &[&str] = match create {
            true => &["--list", "--create"],
            false => &["--list"],
        };
        let exit = self
            .run(tools, "pg_restore", args, Some(input), |bytes| {
                list.feed(bytes);
            })
            .await?;
        match exit.success() {
            true => Ok(list.finish()),
            false => Err(tool_failed("pg_restore", &exit)),
        }
    }

    /// The connection string for a program; everything but the password, which it has from a
    /// [file](super::passfile).
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
        let feeding = feed(stdin, input);
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
        let listed = input.is_some_and(|input| input.only.is_some());
        if listed {
            argv.push(format!("--use-list={LISTED}"));
        }
        match input.and_then(|input| Some((input, input.seen.as_deref()?))) {
            // In a folder whose parents are closed to the program's user: opened by where it
            // stands, as the program may change its directory first.
            Some((input, seen)) if input.dir.is_some() => {
                let seen = seen.to_string_lossy().into_owned();
                let open = ["sh", "-c", OPEN, &seen].map(str::to_owned);
                argv.splice(0..0, open);
                argv.push(OPENED.to_owned());
            }
            Some((_, seen)) => argv.push(seen.to_string_lossy().into_owned()),
            None => {}
        }
        if listed {
            argv.splice(0..0, ["sh", "-c", LIST, "restore"].map(str::to_owned));
        }
        let mut command = Command::new(argv);
        command.env = environment();
        command.dir = input.and_then(|input| input.dir.clone());
        // A script is a program, and an archive says which files are read: whatever these two could still be
        // made to do, they do as nobody.
        command.unprivileged = matches!(program, "psql" | "pg_restore");
        passfile::exec(self.platform, self.login, command).await
    }

    /// The first of the tools whose psql can be kept from obeying the script.
    pub(super) async fn restrictable<'t>(&self, tools: &'t [Tools]) -> Result<&'t Tools> {
        let mut last = None;
        for tools in tools {
            match self.version(&tools.program("psql")).await {
                Some(version) if knows_restrict(&version) => return Ok(tools),
                Some(version) => last = Some(version),
                None => {}
            }
        }
        Err(match last {
            Some(version) => Error::new(
                ErrorKind::Preflight,
                "postgres.psql_too_old",
                format!(
                    "psql is {version}, which obeys commands that a SQL dump holds: it knows no \\restrict yet"
                ),
            ),
            None => Error::new(
                ErrorKind::Preflight,
                "postgres.no_psql",
                "there is no psql to run a SQL dump with",
            ),
        }
        .hint("install psql 13.22, 14.19, 15.14, 16.10, 17.6 or later in its series, or restore a custom dump (pg_dump -Fc)"))
    }
}

/// Gives a program what it reads from standard input: which entries of an archive, and the file where
/// it does not see that itself.
pub(super) async fn feed(
    stdin: Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>>,
    input: Option<&Input>,
) -> Result<()> {
    let (Some(mut stdin), Some(input)) = (stdin, input) else {
        return Ok(());
    };
    // A program that ends early does not read on; its exit code tells why.
    let mut goes_on = true;
    if let Some(only) = &input.only {
        let ids: Vec<String> = only.iter().map(u32::to_string).collect();
        let line = format!("{}\n", ids.join(" "));
        goes_on = stdin.write_all(line.as_bytes()).await.is_ok();
    }
    if input.seen.is_some() {
        let _ended = stdin.shutdown().await;
        return Ok(());
    }
    let mut pieces = input.pieces()?;
    let mut editor = Editor::new(&input.edit);
    goes_on = goes_on && stdin.write_all(&input.edit.first).await.is_ok();
    while goes_on && let Some(bytes) = pieces.next().await? {
        for part in editor.feed(bytes) {
            goes_on = goes_on && stdin.write_all(part).await.is_ok();
        }
    }
    let _ended = stdin.shutdown().await;
    Ok(())
}

/// Since when psql has `\restrict`: in each series with the fix of CVE-2025-8714.
fn knows_restrict(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| {
        let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().unwrap_or(0)
    });
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match major {
        0..=12 => false,
        13 => minor >= 22,
        14 => minor >= 19,
        15 => minor >= 14,
        16 => minor >= 10,
        17 => minor >= 6,
        _ => true,
    }
}

fn environment() -> BTreeMap<String, String> {
    BTreeMap::from([
        (
            "PGOPTIONS".to_owned(),
            "-c default_transaction_read_only=off".to_owned(),
        ),
        // Messages are read by us, and by people of any language.
        ("LC_MESSAGES".to_owned(), "C".to_owned()),
    ])
}

/// The reason of an error: a program did not do what it was to, room aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ToolFailed;

/// Why a program failed, from the first error in what it wrote.
pub(super) fn tool_failed(program: &str, exit: &Exit) -> Error {
    let prefix = format!("{program}: error: ");
    let line = exit
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix(&prefix))
        .or_else(|| exit.stderr.lines().find(|line| line.contains("ERROR:")))
        .or_else(|| exit.stderr.lines().rfind(|line| !line.trim().is_empty()))
        .unwrap_or("it printed nothing");
    let line: String = line.trim().chars().take(300).collect();
    if program == "pg_dump"
        && let Some(said) = exit.stderr.lines().find(|it| it.contains(ROW_SECURITY))
    {
        let said = said.split_once("ERROR:").map_or(said, |(_, said)| said);
        let said: String = said.trim().chars().take(300).collect();
        return Error::new(
            ErrorKind::Failed,
            "postgres.row_security",
            format!(
                "pg_dump may not read all rows of a table, and makes no dump without some: {said}"
            ),
        )
        .because(ToolFailed)
        .hint(ROW_SECURITY_HINT);
    }
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
    let error = match full {
        true => error,
        false => error.because(ToolFailed),
    };
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

/// What the server says of rows that a policy would hide.
const ROW_SECURITY: &str = "row-level security";

/// Who may dump them.
pub(super) const ROW_SECURITY_HINT: &str = "back up as a superuser, or let a superuser give the component's user the right: ALTER ROLE … BYPASSRLS; with FORCE ROW LEVEL SECURITY the policies hold for the table's owner as well";

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_may_not_be_dumped_are_told_with_who_may() {
        let stderr = "pg_dump: error: Dumping the contents of table \"t\" failed: PQgetResult() failed.\n\
            pg_dump: detail: Error message from server: ERROR:  query would be affected by row-level security policy for table \"t\"\n\
            pg_dump: detail: Command was: COPY public.t (x) TO stdout;\n";
        let error = tool_failed("pg_dump", &Exit::new(1, stderr));
        assert_eq!(error.code(), "postgres.row_security");
        assert!(
            error.message().ends_with("policy for table \"t\""),
            "{error}"
        );
        assert!(error.hint_text().is_some_and(|it| it.contains("BYPASSRLS")));
        assert_eq!(
            tool_failed("psql", &Exit::new(1, stderr)).code(),
            "postgres.tool_failed"
        );
    }

    #[test]
    fn versions_that_know_restrict() {
        for (version, knows) in [
            ("15.18", true),
            ("15.14", true),
            ("15.13", false),
            ("12.22", false),
            ("13.22", true),
            ("17.5", false),
            ("17.10", true),
            ("18beta1", true),
            ("9.6.24", false),
        ] {
            assert_eq!(knows_restrict(version), knows, "{version}");
        }
    }

    #[test]
    fn parts_are_left_out_wherever_the_pieces_end() {
        let text = b"0123456789abcdef";
        let edit = Edit {
            without: vec![2..5, 9..10, 14..16],
            ..Edit::default()
        };
        for size in 1..=text.len() {
            let mut out = Vec::new();
            let mut at = 0;
            for piece in text.chunks(size) {
                out.extend(edit.parts(at, piece).concat());
                at += piece.len() as u64;
            }
            assert_eq!(out, b"015678abcd", "{size}");
        }
    }

    #[test]
    fn line_ends_of_a_terminal_are_undone_wherever_the_pieces_end() {
        let text = b"\xef\xbb\xbf--\r\na \r b\r\r\nc\r\n\r";
        let edit = Edit {
            without: std::iter::once(0..3).collect(),
            returns: true,
            ..Edit::default()
        };
        for size in 1..=text.len() {
            let mut editor = Editor::new(&edit);
            let mut out = Vec::new();
            for piece in text.chunks(size) {
                out.extend(editor.feed(piece).concat());
            }
            assert_eq!(out, b"--\na \r b\r\nc\n", "{size}");
        }
    }
}
