//! Backing up: a fresh RDB, awaited by its own end.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;

use super::Redis;
use super::client::{Client, Info};
use super::data::{HEADER, Header, Kind};
use crate::contract::{BackedUp, BackupWriter, Volume};
use crate::model::{Error, ErrorKind, Finding, Result};
use crate::sys::process::command::{Command, Process};

/// How long a server may be busy with a save or a rewrite of its own before ours begins.
const BUSY: Duration = Duration::from_secs(30 * 60);

impl Redis {
    /// About as much as the data set takes up in memory.
    pub(super) async fn weigh(&self) -> Result<u64> {
        let info = self.client().await?.info().await?;
        Ok(info.number("used_memory_dataset").unwrap_or(0))
    }

    /// Has the server write an RDB, and copies it. Whatever else it keeps, the RDB is what it is
    /// restored from: a server with `appendonly yes` gets it as the base of its append-only file.
    pub(super) async fn write_out(&self, writer: &BackupWriter) -> Result<BackedUp> {
        let path = writer.name(&self.section.rdb)?;
        let client = self.client().await?;
        let volume = self.volume().await?;
        if volume.path().is_some() {
            // What is read here is where the site says, and not where somebody else leads.
            volume.free_space().await?;
        }
        let (live, _) = self.ask_server().await?;
        // Where the files are not here the server's own program reads its own directory.
        if volume.path().is_some()
            && let Some(other) = self.directory(&live, volume.as_ref()).await?
        {
            return Err(
                Error::new(ErrorKind::Preflight, "redis.other_directory", other.message)
                    .hint(other.hint.unwrap_or_default()),
            );
        }
        let mut done = BackedUp::default();
        if let Some(info) = &live.info {
            done.findings.extend(self.follows(info)?);
        }
        let (name, dir) = (live.layout.dbfilename.as_str(), live.dir.as_deref());
        let old = self.identity(name, dir, volume.as_ref()).await?;
        let before = self.save(&client, writer.cancelled()).await?;
        let new = self.identity(name, dir, volume.as_ref()).await?;
        if new == old && (new.is_some() || live.dir.is_none()) {
            return Err(self.stale(name, new.is_some()));
        }
        let mut rdb = self.open_rdb(name, dir, volume.as_ref()).await?;
        let mut head = [0; HEADER];
        rdb.reader
            .read_exact(&mut head)
            .await
            .map_err(|e| Error::io(format!("read {}", rdb.place), e))?;
        Header::of(&head).expect(Kind::Rdb, &rdb.place)?;
        let progress = writer.progress("copy", rdb.size);
        let artifact = writer.artifact(&path).await?.put(head.to_vec()).await?;
        let artifact = artifact.fill(&mut rdb.reader, &progress).await?;
        if let Some(mut process) = rdb.process {
            let exit = process.wait().await?;
            if !exit.success() {
                return Err(Error::new(
                    ErrorKind::Failed,
                    "redis.unreadable_rdb",
                    format!("cannot read {}: {}", rdb.place, exit.stderr.trim()),
                )
                .hint("see whether that file is there and may be read, then try again"));
            }
        }
        progress.finish();
        artifact.finish().await?;
        writer
            .text(&beside(&path, "info", "txt"), before.text)
            .await?;
        done.facts = facts(&before.info);
        Ok(done)
    }

    /// What is to be said of a replica: it has what its master has, for as long as it is told.
    fn follows(&self, info: &Info) -> Result<Option<Finding>> {
        if info.text("role") != Some("slave") {
            return Ok(None);
        }
        let master = info.text("master_host").unwrap_or("?");
        if info.text("master_link_status") == Some("up") {
            return Ok(Some(Finding::info(
                "redis.of_replica",
                &self.name,
                format!("the backup is of a replica, which follows its master {master}"),
            )));
        }
        let since = match info.number("master_link_down_since_seconds") {
            Some(seconds) => format!(" for {seconds} s"),
            None => String::new(),
        };
        Err(Error::new(
            ErrorKind::Failed,
            "redis.stale_replica",
            format!(
                "{} is a replica of {master} and has been cut off from it{since}: it lacks what was written since",
                self.section.service
            ),
        )
        .hint("see its log for why the link is down, and back up once it is up (`master_link_status` in INFO replication); or back up the master"))
    }

    /// Waits until nothing else is saved, has the server save in the background, and waits for
    /// the end of exactly that.
    pub(super) async fn save(&self, client: &Client, cancel: &CancellationToken) -> Result<Saved> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(10);
        let mut before = None;
        loop {
            if cancel.is_cancelled() {
                return Err(Error::interrupted());
            }
            let (text, info) = client.info_text().await?;
            let saving = info.number("rdb_bgsave_in_progress") == Some(1);
            let idle = !saving && info.number("aof_rewrite_in_progress") != Some(1);
            match (&before, idle) {
                // Whether another save ended since is told by the server's own count (Redis 7), or
                // by the time of its last save.
                (Some(Saved { info: then, .. }), true) => {
                    if info.text("rdb_last_bgsave_status") != Some("ok") {
                        return Err(self.not_saved());
                    }
                    if newer_save(then, &info) {
                        break;
                    }
                }
                (None, true) => {
                    if client.bgsave().await? {
                        before = Some(Saved { text, info });
                        pause = Duration::from_millis(10);
                    }
                }
                (_, false) => {}
            }
            if began.elapsed() > BUSY {
                return Err(Error::new(
                    ErrorKind::Failed,
                    "redis.save_timeout",
                    format!(
                        "{} has not written its RDB within {} min",
                        client.what(),
                        BUSY.as_secs() / 60
                    ),
                )
                .hint("see its log for what keeps it busy"));
            }
            tokio::select! {
                () = cancel.cancelled() => return Err(Error::interrupted()),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(Duration::from_millis(250));
        }
        before.ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "redis.save",
                "a save ended that was not begun",
            )
        })
    }

    fn not_saved(&self) -> Error {
        Error::new(
            ErrorKind::Failed,
            "redis.not_saved",
            format!(
                "{} could not write its RDB (rdb_last_bgsave_status is not ok)",
                self.section.service
            ),
        )
        .hint("its log says why: no room or no right to write in its directory, or no memory to fork (vm.overcommit_memory)")
    }

    /// What makes one saved file another than the one before: a save writes a new file and renames
    /// it. `None` where there is none, or nobody can say.
    pub(super) async fn identity(
        &self,
        name: &str,
        dir: Option<&str>,
        volume: &dyn Volume,
    ) -> Result<Option<String>> {
        use std::os::unix::fs::MetadataExt;
        if let Some(root) = volume.path() {
            let Ok(meta) = tokio::fs::symlink_metadata(root.join(name)).await else {
                return Ok(None);
            };
            let changed = (meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec());
            return Ok(Some(format!("{changed:?}")));
        }
        let place = format!("{}/{name}", dir.unwrap_or("/data"));
        let command = Command::new(["stat", "-c", "%i %s %Z", "--", &place]);
        let mut process = self.platform.exec(&self.section.service, command).await?;
        drop(process.stdin());
        let mut said = String::new();
        if let Some(stdout) = process.stdout() {
            // More than a line it does not say.
            let read = stdout.take(200).read_to_string(&mut said).await;
            read.map_err(|e| Error::io(format!("look at {place}"), e))?;
        }
        Ok(process.wait().await?.success().then_some(said))
    }

    /// What the server has saved is not where it is looked for.
    pub(super) fn stale(&self, name: &str, there: bool) -> Error {
        let what = match there {
            true => "is not what the server has just saved: it has not changed",
            false => "is not there after the server has saved",
        };
        Error::new(
            ErrorKind::Failed,
            "redis.stale_rdb",
            format!("{name} in the directory of {} {what}", self.section.service),
        )
        .hint("the server calls its RDB otherwise, or writes it elsewhere: let the user call CONFIG GET, which tells (dir, dbfilename), and see whether the component's volume is the server's directory")
    }

    async fn open_rdb(
        &self,
        name: &str,
        dir: Option<&str>,
        volume: &dyn Volume,
    ) -> Result<OpenRdb> {
        if let Some(root) = volume.path() {
            let place = root.join(name);
            let (live, name) = (root, name.to_owned());
            // A save that comes meanwhile replaces the file; what is open stays what it is.
            let opened = super::blocking(move || {
                let failed = |e| Error::io(format!("read {}", live.join(&name).display()), e);
                let root = crate::sys::open_directory(&live, true)?;
                let root = root.map_err(|e| failed(e.into()))?;
                let file = crate::sys::open_file(root.as_fd(), Path::new(&name)).map_err(failed)?;
                let size = file.metadata().map_err(failed)?.len();
                Ok((file, size))
            });
            let (file, size) = opened.await?;
            return Ok(OpenRdb {
                reader: Box::new(tokio::fs::File::from_std(file)),
                place: place.display().to_string(),
                size: Some(size),
                process: None,
            });
        }
        let place = format!("{}/{name}", dir.unwrap_or("/data"));
        let command = Command::new(["cat", "--", &place]);
        let mut process = self.platform.exec(&self.section.service, command).await?;
        drop(process.stdin());
        let reader = process.stdout().ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "redis.no_output",
                "a program without an output",
            )
        })?;
        Ok(OpenRdb {
            reader,
            place,
            size: None,
            process: Some(process),
        })
    }
}

/// What the server said right before it began to save.
pub(super) struct Saved {
    text: String,
    info: Info,
}

struct OpenRdb {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    place: String,
    size: Option<u64>,
    process: Option<Box<dyn Process>>,
}

/// Whether a save ended between the two.
fn newer_save(before: &Info, now: &Info) -> bool {
    let grew = |key: &str| Some(now.number(key)? > before.number(key)?);
    grew("rdb_saves").unwrap_or_else(|| {
        // In whole seconds: one that ended in the second of an earlier one is awaited again by
        // nobody, as its content is as new.
        now.number("rdb_last_save_time") >= before.number("rdb_last_save_time")
    })
}

/// `redis/redis-info-ID.txt` beside `redis/redis-ID.rdb`.
fn beside(path: &str, what: &str, ending: &str) -> String {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let (name, id) = stem.split_once('-').unwrap_or((stem, ""));
    let id = if id.is_empty() {
        String::new()
    } else {
        format!("-{id}")
    };
    let slash = if folder.is_empty() { "" } else { "/" };
    format!("{folder}{slash}{name}-{what}{id}.{ending}")
}

fn facts(info: &Info) -> serde_json::Map<String, Value> {
    let keys = info.keyspace();
    let total: u64 = keys
        .values()
        .fold(0_u64, |sum, keys| sum.saturating_add(keys.keys));
    let of =
        |(database, keys): (&u32, &super::client::Keys)| (database.to_string(), json!(keys.keys));
    [
        ("server", json!(info.text("redis_version"))),
        ("total", json!(total)),
        ("keys", Value::Object(keys.iter().map(of).collect())),
        (
            "appendonly",
            json!(info.number("aof_enabled").map(|on| on == 1)),
        ),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_stands_beside_the_rdb() {
        let info = |path| beside(path, "info", "txt");
        assert_eq!(
            info("redis/redis-20240215-020000.rdb"),
            "redis/redis-info-20240215-020000.txt"
        );
        assert_eq!(info("dump.rdb"), "dump-info.txt");
    }

    #[test]
    fn a_save_that_ended_is_seen() {
        let info =
            |saves: &str, time: u64| Info::parse(&format!("{saves}rdb_last_save_time:{time}\r\n"));
        let seven = |saves: u32, time| info(&format!("rdb_saves:{saves}\r\n"), time);
        assert!(newer_save(&seven(1, 5), &seven(2, 5)));
        assert!(!newer_save(&seven(1, 5), &seven(1, 9)));
        assert!(newer_save(&info("", 5), &info("", 6)));
    }
}
