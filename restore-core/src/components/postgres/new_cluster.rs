//! A cluster for a server that has none, made by its own `initdb` before anything is staged, and removed
//! again where the run is taken back.
//!
//! What is in the data directory belongs to the run from the moment that its journal names the directory,
//! which was empty then: until the cluster is whole all of it is made again, or deleted, as it is, unless
//! somebody has started a server on it. From then on it is deleted only while nothing is in it that the run
//! has not put there.

use std::path::Path;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncWriteExt;

use super::Postgres;
use super::anew::ClusterPlace;
use super::client::{Session, column};
use super::cluster::major_of;
use super::cluster_directory::{
    Content, NewDataDirectory, entries, failed, gone_since, keep, open_data, recalled, taken,
};
use super::tools::tool_failed;
use crate::components::place;
use crate::contract::{Create, RunContext};
use crate::model::{Endpoint, Error, ErrorKind, Finding, Result};
use crate::sys::absent::AbsentDirectory;
use crate::sys::blocking::blocking;
use crate::sys::connect::Mode as TlsMode;
use crate::sys::process::command::{Command, Exit, printed};

/// The fact which directory the run makes a cluster in.
const CLUSTER: &str = "new_cluster";
/// The fact what is in it once it is whole.
const WHOLE: &str = "new_cluster_whole";
/// The fact that it is being removed: its server is stopped, and nothing but the run's was in it.
const REMOVING: &str = "new_cluster_removing";

/// Reads a password and leaves it, in a file without a name, to the program as its descriptor 3.
const GIVEN: &str = r#"umask 077
file=$(mktemp -p /dev/shm 2>/dev/null || mktemp) || exit 125
cat >"$file" || { rm -f "$file"; exit 125; }
exec 3<"$file"; rm -f "$file"
unset file
exec "$@" </dev/null"#;
/// The name of that descriptor.
const PASSWORD: &str = "/proc/self/fd/3";

/// Appends what it reads.
const APPEND: &str = r#"cat >>"$1""#;

/// What a server makes in its data directory while it runs.
const OF_SERVER: [&str; 5] = [
    "postmaster.pid",
    "postmaster.opts",
    "current_logfiles",
    "log",
    "pg_log",
];

/// The first number of what is not a server's own.
const FIRST_NORMAL: &str = "16384";

/// Where a cluster would be made.
pub(super) enum Site {
    /// In a directory that is made first.
    Absent(AbsentDirectory),
    /// In one that is there, and empty.
    Empty,
}

/// A cluster that could be made.
pub(super) struct NewCluster<'a> {
    pg: &'a Postgres,
    pub(super) place: ClusterPlace,
    pub(super) site: Site,
    owner: (u32, u32),
}

/// In the words of plans and reports.
pub(super) fn words(data: &Path) -> String {
    format!("cluster {}", data.display())
}

/// Whether the run has made the component's cluster, or was about to.
pub(super) fn was_made(cx: &RunContext) -> bool {
    cx.recall(CLUSTER).is_some()
}

/// Whether the cluster that the run had made is gone, or going, with all that was in it.
pub(super) fn is_removed(cx: &RunContext) -> bool {
    cx.recall(REMOVING).is_some()
}

impl<'a> NewCluster<'a> {
    /// The cluster that a run may make for the component's server, which is down. `None` where nothing
    /// tells where it would be, or there is something; the inner error is why none is made there.
    pub(super) async fn planned(
        pg: &'a Postgres,
        cx: &RunContext,
    ) -> Result<Option<std::result::Result<Self, String>>> {
        let service = &pg.config.service;
        let Some(place) = ClusterPlace::of(&pg.platform.start_command(service)) else {
            return Ok(None);
        };
        if !pg.platform.runs_here(service) || !place.data.is_absolute() {
            return Ok(None);
        }
        let no = |why: String| Ok(Some(Err(why)));
        let owner = pg.platform.owner(service).await?;
        let Some(owner) = owner.filter(|(uid, _)| *uid != 0) else {
            return no(format!(
                "no server runs as root, and [services.{service}] names no `user`"
            ));
        };
        // Of a directory that the run has made itself nothing is asked.
        let ours = place::was_made(cx);
        let site = match Self::site(&place, owner.0, ours).await {
            Ok(Some(site)) => site,
            Ok(None) => return Ok(None),
            Err(error) => return no(error.message().to_owned()),
        };
        if let Some(file) = place.missing_configuration() {
            return no(format!(
                "the server does not start without {}",
                file.display()
            ));
        }
        if !pg.config.password.is_named() {
            return no(format!(
                "[components.{}] names no password, without which anybody could sign in to it",
                pg.name
            ));
        }
        if matches!(
            pg.config.tls.mode,
            Some(TlsMode::VerifyFull | TlsMode::Require)
        ) {
            return no(format!(
                "[components.{}] wants TLS, which a new cluster has no certificate for",
                pg.name
            ));
        }
        if pg.is_plain_user(cx).await? {
            return no(format!(
                "{} is no superuser in the backup, and would be that of the new cluster",
                pg.config.user
            ));
        }
        Ok(Some(Ok(Self {
            pg,
            place,
            site,
            owner,
        })))
    }

    /// Whether there is room for a cluster: nothing, or an empty directory that the server can use.
    async fn site(cluster: &ClusterPlace, user: u32, ours: bool) -> Result<Option<Site>> {
        if let Some(at) = absent(cluster, user).await? {
            return Ok(Some(Site::Absent(at)));
        }
        let path = cluster.data.clone();
        blocking(move || {
            let data = open_data(&path, user)?;
            if !entries(&data, &path)?.is_empty() {
                return Ok(None);
            }
            let stat = rustix::fs::fstat(&data).map_err(|e| failed("look at", &path, e))?;
            if !ours && (stat.st_uid != user || stat.st_mode & 0o027 != 0) {
                return Err(Error::new(
                    ErrorKind::Preflight,
                    "postgres.directory_open",
                    format!(
                        "{} is empty and not the server's user's alone, as it must be (chown it and chmod 700, or delete it)",
                        path.display()
                    ),
                ));
            }
            Ok(Some(Site::Empty))
        })
        .await
    }

    /// The major version of the server, as its `initdb` says.
    ///
    /// # Errors
    ///
    /// `postgres.no_initdb`.
    pub(super) async fn major(&self) -> Result<u32> {
        let initdb = self.place.initdb();
        let said = self
            .pg
            .output(Command::new([initdb.as_str(), "--version"]), None);
        let why = match said.await {
            Ok((text, exit)) if exit.success() => {
                // "initdb (PostgreSQL) 15.4 (Debian 15.4-1)"
                let version = text.split_once(") ").map(|(_, rest)| rest.trim());
                match version.and_then(major_of) {
                    Some(major) => return Ok(major),
                    None => format!("it says {:?}", text.trim()),
                }
            }
            Ok((_, exit)) => exit.stderr,
            Err(error) => error.message().to_owned(),
        };
        Err(Error::new(
            ErrorKind::Preflight,
            "postgres.no_initdb",
            format!(
                "{} has no cluster, and {initdb}, which would make one, does not run: {}",
                self.pg.config.service,
                why.trim()
            ),
        )
        .hint("install the server of the version that the service starts, then plan again"))
    }

    /// Makes the cluster, or what an earlier attempt has left to do.
    async fn make(&self, cx: &RunContext) -> Result<()> {
        match &self.site {
            // `initdb` closes it to all but its owner.
            Site::Absent(at) => place::make(cx, at, Some(self.owner)).await?,
            Site::Empty => place::ensure_ours(cx).await?,
        }
        let data = self.place.data.clone();
        let (user, words) = (self.owner.0, words(&data));
        let known: Option<NewDataDirectory> = recalled(cx, CLUSTER)?;
        if known.is_none() {
            if !cx.was_absent(&words) {
                return Err(gone_since(&data));
            }
            let path = data.clone();
            let record = blocking(move || {
                let held = open_data(&path, user)?;
                match entries(&held, &path)?.is_empty() {
                    true => NewDataDirectory::of(&held, &path, user),
                    false => Err(taken(&path)),
                }
            })
            .await?;
            keep(cx, CLUSTER, &record).await?;
        }
        // An earlier attempt may have been killed just before this.
        cx.record_made(&words).await?;
        let record: NewDataDirectory = recalled(cx, CLUSTER)?.ok_or_else(|| taken(&data))?;
        record.empty().await?;
        cx.check_cancelled()?;
        self.initdb().await?;
        let endpoint = self.pg.platform.endpoint(&self.pg.config.service).await?;
        self.configure(&endpoint).await?;
        let content = record.content(true).await?;
        keep(cx, WHOLE, &content).await
    }

    async fn initdb(&self) -> Result<()> {
        let (initdb, data) = (self.place.initdb(), self.place.data.display().to_string());
        let user = format!("--username={}", self.pg.config.user);
        let password = self.pg.config.password.read()?.ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "postgres.no_password",
                "a new cluster needs a password, and none is named",
            )
        })?;
        if password.expose_secret().contains(['\n', '\r', '\0']) {
            return Err(Error::new(
                ErrorKind::Config,
                "postgres.bad_password",
                "the password holds a line end: initdb cannot take it from a file",
            )
            .hint("give the role another password"));
        }
        let file = format!("--pwfile={PASSWORD}");
        let mut words = vec![
            "sh", "-c", GIVEN, "restore", &initdb, "--pgdata", &data, &user,
        ];
        // The database itself has the encoding and the locale of its dump.
        words.extend([
            "--auth=scram-sha-256",
            &file,
            "--encoding=UTF8",
            "--locale=C",
        ]);
        let command = Command::new(words).env("LC_ALL", "C").env("TZ", "UTC");
        let (_, exit) = self.pg.output(command, Some(password)).await?;
        match exit.success() {
            true => Ok(()),
            false => Err(tool_failed("initdb", &exit)),
        }
    }

    /// Lets the server listen where it did, and lets in who connects there from this machine.
    async fn configure(&self, endpoint: &Endpoint) -> Result<()> {
        let lines = self.place.settings(Some(endpoint));
        if !lines.is_empty() {
            self.append("postgresql.conf", &lines.join("\n")).await?;
        }
        match self.place.access(Some(endpoint)) {
            Some(line) => self.append("pg_hba.conf", line).await,
            None => Ok(()),
        }
    }

    /// Adds lines to a file of the new cluster, as the server's user.
    async fn append(&self, name: &str, lines: &str) -> Result<()> {
        let file = self.place.data.join(name).display().to_string();
        let text = format!("\n# By restore: where clients connect.\n{lines}\n");
        let command = Command::new(["sh", "-c", APPEND, "sh", &file]);
        let (_, exit) = self
            .pg
            .output(command, Some(SecretString::from(text)))
            .await?;
        match exit.success() {
            true => Ok(()),
            false => Err(tool_failed("sh", &exit)),
        }
    }
}

impl Postgres {
    /// Runs a program in the context of the service with this as its input; what it prints.
    async fn output(
        &self,
        command: Command,
        input: Option<SecretString>,
    ) -> Result<(String, Exit)> {
        let name = command.argv.first().cloned().unwrap_or_default();
        let mut process = self.platform.exec(&self.config.service, command).await?;
        if let (Some(mut stdin), Some(input)) = (process.stdin(), input) {
            // A program that has ended already says why by its exit code.
            let _ = stdin.write_all(input.expose_secret().as_bytes()).await;
            let _ = stdin.shutdown().await;
        }
        printed(process, &name).await
    }

    /// Whether the server runs.
    async fn runs(&self) -> Result<bool> {
        let state = self.platform.service(&self.config.service).await?;
        Ok(state.running > 0)
    }
}

#[async_trait]
impl Create for Postgres {
    async fn create(&self, cx: &RunContext) -> Result<()> {
        let work = async {
            let known = recalled::<NewDataDirectory>(cx, CLUSTER)?;
            if let (Some(record), true) = (&known, cx.recall(WHOLE).is_some())
                && !record.is_there().await?
            {
                // No server is started on what has its place.
                place::ensure_reachable(cx).await?;
                return Err(taken(&record.path));
            }
            let whole = cx.recall(WHOLE).is_some();
            let runs = !whole && self.runs().await?;
            if let (Some(record), false) = (&known, whole) {
                let found = match runs {
                    true => self.adopt(cx, record).await?,
                    false => was_started(record).await?,
                };
                if let Some(found) = found {
                    return Err(used(&record.path, &found));
                }
            }
            if !whole && !runs {
                let cluster = match known {
                    Some(record) => Some(Ok(self.again(&record).await?)),
                    None => NewCluster::planned(self, cx).await?,
                };
                match cluster {
                    Some(Ok(cluster)) => cluster.make(cx).await?,
                    Some(Err(why)) => {
                        return Err(Error::new(
                            ErrorKind::Failed,
                            "postgres.no_cluster",
                            format!("no cluster can be made for {}: {why}", self.config.service),
                        )
                        .hint("plan again"));
                    }
                    // Another component of the run has made it.
                    None => {}
                }
            }
            cx.check_cancelled()?;
            self.platform.scale(&self.config.service, 1).await?;
            self.working(cx).await?.close().await;
            Ok(())
        };
        self.named(work.await)
    }

    async fn remove_created(&self, cx: &RunContext) -> Result<()> {
        let Some(record) = recalled::<NewDataDirectory>(cx, CLUSTER)? else {
            // It may have come to making the directory.
            return self.named(self.remove_directories(cx).await);
        };
        let remove = async {
            let runs = self.runs().await?;
            if let Some(why) = self.in_use(cx, &record, runs).await? {
                cx.notice(self.stays(&record, &why));
                return Ok(());
            }
            // Its disk may not be mounted.
            place::ensure_reachable(cx).await?;
            if record.is_taken().await? {
                // Whatever server works there is not the run's.
                cx.notice(Finding::warning(
                    "create.not_ours",
                    &self.name,
                    format!(
                        "{} is not what the run made there any more, and is left alone",
                        record.path.display()
                    ),
                ));
                cx.record_removed(&words(&record.path)).await;
                return self.remove_directories(cx).await;
            }
            self.platform.scale(&self.config.service, 0).await?;
            // Nobody can put anything into it any more: what came since it was asked is in it now.
            if let Some(why) = self.in_use(cx, &record, false).await? {
                cx.notice(self.stays(&record, &why));
                return match runs {
                    true => self.platform.scale(&self.config.service, 1).await,
                    false => Ok(()),
                };
            }
            cx.record(REMOVING, true).await?;
            // Else it is gone with all of its directory, as an earlier attempt has left it.
            if record.is_there().await? {
                record.empty().await?;
            }
            cx.record_removed(&words(&record.path)).await;
            self.remove_directories(cx).await
        };
        self.named(remove.await)
    }
}

impl Postgres {
    /// What an earlier attempt has begun to make.
    async fn again(&self, record: &NewDataDirectory) -> Result<NewCluster<'_>> {
        let service = &self.config.service;
        let place = ClusterPlace::of(&self.platform.start_command(service));
        let place = place
            .filter(|place| place.data == record.path)
            .ok_or_else(|| taken(&record.path))?;
        let owner = self
            .platform
            .owner(service)
            .await?
            .unwrap_or((record.user, record.user));
        let site = match absent(&place, owner.0).await? {
            Some(at) => Site::Absent(at),
            None => Site::Empty,
        };
        Ok(NewCluster {
            pg: self,
            place,
            site,
            owner,
        })
    }

    /// Removes the directories that were made for the cluster, once nothing is in them.
    async fn remove_directories(&self, cx: &RunContext) -> Result<()> {
        let service = &self.config.service;
        let place = ClusterPlace::of(&self.platform.start_command(service));
        let owner = self.platform.owner(service).await?;
        let at =
            place.map(|place| AbsentDirectory::new(place.data).within(owner.map(|(uid, _)| uid)));
        let absent = match at {
            Some(at) => place::missing(&at).await?.is_some().then_some(at),
            None => None,
        };
        place::remove(cx, absent).await
    }

    fn stays(&self, record: &NewDataDirectory, why: &str) -> Finding {
        Finding::warning(
            "create.in_use",
            &self.name,
            format!(
                "the cluster in {}, which was absent before the run, stays: {why}",
                record.path.display()
            ),
        )
        .hint("look at what that is; stop the server and delete the directory by hand if nothing needs it")
    }

    /// Takes a cluster as whole that an earlier attempt had not come to writing down as that, and whose server
    /// somebody has started since; or what is in it that the run has not put there, in words.
    async fn adopt(&self, cx: &RunContext, record: &NewDataDirectory) -> Result<Option<String>> {
        if !record.is_there().await? {
            place::ensure_reachable(cx).await?;
            return Err(taken(&record.path));
        }
        let found = self.foreign(cx).await?;
        if found.is_none() {
            keep(cx, WHOLE, &record.content(true).await?).await?;
        }
        Ok(found)
    }

    /// Databases, roles and tables that the run has not made, in words.
    async fn foreign(&self, cx: &RunContext) -> Result<Option<String>> {
        let session = self.working(cx).await?;
        let found = foreign(&session, cx).await;
        session.close().await;
        found
    }

    /// What is in the cluster that the run has not put there, in words; `runs`: its server is asked too.
    async fn in_use(
        &self,
        cx: &RunContext,
        record: &NewDataDirectory,
        runs: bool,
    ) -> Result<Option<String>> {
        if !record.is_there().await? {
            return Ok(None);
        }
        // An earlier attempt may have deleted part of it, and nobody can have used the rest. One that has
        // come to nothing has left it as it was, and it may have been used since.
        if is_removed(cx) && !record.is_startable().await? {
            return Ok(None);
        }
        let Some(whole) = recalled::<Content>(cx, WHOLE)? else {
            if !runs {
                return was_started(record).await;
            }
            // The run has not started it.
            return Ok(self.adopt(cx, record).await.unwrap_or_else(|error| {
                Some(format!(
                    "its server runs, and does not say what it holds: {error}"
                ))
            }));
        };
        if runs && let Some(found) = self.foreign(cx).await? {
            return Ok(Some(found));
        }
        let now = record.content(false).await?;
        let known =
            |name: &&String| whole.entries.contains(*name) || OF_SERVER.contains(&name.as_str());
        if let Some(name) = now.entries.iter().find(|name| !known(name)) {
            return Ok(Some(format!("{name} is in it by now")));
        }
        let others = now.databases.difference(&whole.databases).count();
        Ok((others > 0).then(|| "databases are in it by now".to_owned()))
    }
}

/// The directory of a cluster where it is absent, and may be made there.
///
/// # Errors
///
/// As [`place::missing`] has them, and `postgres.directory_named`.
async fn absent(cluster: &ClusterPlace, user: u32) -> Result<Option<AbsentDirectory>> {
    let at = AbsentDirectory::new(&cluster.data).within(Some(user));
    let Some(missing) = place::missing(&at).await? else {
        return Ok(None);
    };
    cluster.ensure_named(&missing.above, user)?;
    Ok(Some(at))
}

/// That a server was started on a cluster which the run has not come to the end of, in words: what was done with
/// that is not known.
async fn was_started(record: &NewDataDirectory) -> Result<Option<String>> {
    let started = record.was_started().await?;
    Ok(started.then(|| "a server was started on it".to_owned()))
}

fn used(path: &Path, why: &str) -> Error {
    Error::new(
        ErrorKind::Failed,
        "postgres.cluster_used",
        format!(
            "somebody has used the cluster in {} before the run was done with making it: {why}",
            path.display()
        ),
    )
    .hint("the run leaves it alone: plan again, with its server running; or delete the directory first, if nothing needs it")
}

/// Databases, roles and tables that the run has not made.
async fn foreign(session: &Session, cx: &RunContext) -> Result<Option<String>> {
    let mark = super::globals::mark(cx.run());
    let rows = session
        .rows(
            &format!(
                "SELECT 'database ' || datname::text FROM pg_database WHERE oid >= {FIRST_NORMAL} \
                 UNION ALL SELECT 'role ' || rolname::text FROM pg_roles WHERE oid >= {FIRST_NORMAL} \
                   AND strpos(coalesce(shobj_description(oid, 'pg_authid'), ''), $1) = 0 \
                 UNION ALL SELECT 'relation ' || oid::regclass::text FROM pg_class WHERE oid >= {FIRST_NORMAL} \
                 ORDER BY 1 LIMIT 5"
            ),
            &[&mark],
        )
        .await?;
    let found: Vec<String> = rows
        .iter()
        .map(|row| column(row, 0))
        .collect::<Result<_>>()?;
    Ok((!found.is_empty()).then(|| format!("it holds {} by now", found.join(", "))))
}
