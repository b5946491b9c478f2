//! What only the running server holds, made durable before it is stopped.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use super::Redis;
use super::client::{Client, Info, Refusal};
use super::configuration::{Configuration, Directive, INCLUDE, is_yes};
use super::data::DataLayout;
use super::remote_task::{LiveFiles, Order};
use crate::contract::{RunContext, Volume};
use crate::model::{Error, ErrorKind, Result};
use crate::sys::retry::Retry;

/// How long it may take from when all is written to when the server is stopped.
pub(super) const STOPS: Duration = Duration::from_secs(60);

/// How long a server may take to say that it takes writes again.
pub(super) const SOON: Duration = Duration::from_secs(5);

/// How often a server that saves is asked again.
const AGAIN: Duration = Duration::from_millis(50);

impl Redis {
    /// Has a running server write its RDB, unless all that it holds is on disk and will be loaded
    /// again. A server without save points throws its data away when it stops, one that is killed while it saves as well,
    /// and one whose append-only file was turned on with CONFIG SET does not look at it when it starts.
    pub(super) async fn make_durable(&self, cx: &RunContext) -> Result<()> {
        if self.platform.service(&self.section.service).await?.running == 0 {
            return Ok(());
        }
        let client = self.client().await?;
        let info = client.info().await.map_err(|e| self.stop_anyway(e))?;
        // What it loads is on disk.
        if info.is_loading() {
            return Ok(());
        }
        // Whatever is written between this and the stop is in no file. A server that cannot keep it back (an older
        // one, a user who may not ask for it) is stopped all the same.
        let longest = self.section.load_timeout.0.saturating_add(STOPS);
        let _ = client.pause_writes(longest).await;
        let made = self.write_down(&client, cx).await;
        if made.is_err() {
            self.resume_writes().await;
        }
        made
    }

    fn stop_anyway(&self, error: Error) -> Error {
        let hint = format!(
            "its data may be in its memory only. Mend that, or, if that data may be lost, stop the service {} yourself; then plan again",
            self.section.service
        );
        Error::new(
            ErrorKind::Failed,
            "redis.not_durable",
            format!("it cannot be made to write its data before it is stopped: {error}"),
        )
        .hint(hint)
        .source(error)
    }

    /// Lets a server that is not stopped after all be written into again.
    pub(super) async fn resume_writes(&self) {
        // One that is down keeps nothing back.
        if let Ok(client) = self.patient_client(SOON).await {
            let _ = client.resume_writes().await;
        }
    }

    /// As `make_durable`, of a server that changes no more.
    async fn write_down(&self, client: &Client, cx: &RunContext) -> Result<()> {
        let info = client.info().await.map_err(|e| self.stop_anyway(e))?;
        let volume = self.volume().await?;
        self.ensure_loads_what_it_writes(client, &info).await?;
        let files = AofFiles::In(self, volume.as_ref());
        if files.are_lost(client, &info).await {
            cx.check_cancelled()?;
            let patience = self.section.load_timeout.0;
            let rewriting = files.rewrite(client, &self.section.service, patience);
            tokio::select! {
                biased;
                () = cx.cancelled().cancelled() => return Err(Error::interrupted()),
                done = rewriting => done.map_err(|e| self.stop_anyway(e))?,
            }
        }
        if self.is_durable(client, &info, volume.as_ref()).await {
            return Ok(());
        }
        cx.check_cancelled()?;
        let saving = self.save_to_its_file(client, &info, volume.as_ref(), cx);
        tokio::select! {
            biased;
            () = cx.cancelled().cancelled() => Err(Error::interrupted()),
            saved = saving => saved.map_err(|e| self.stop_anyway(e)),
        }
    }

    /// Whether everything is on disk, in a file that the server loads when it starts. Of an RDB nobody can say
    /// that: one that was put there since the last save looks the same.
    async fn is_durable(&self, client: &Client, info: &Info, volume: &dyn Volume) -> bool {
        if info.number("aof_enabled") == Some(1) {
            let stays = match self.section.appendonly {
                Some(on) => on,
                None => self.starts_with_aof(info, volume).await == Some(true),
            };
            return stays && info.text("aof_last_write_status") == Some("ok");
        }
        if !is_empty(info) {
            return false;
        }
        // What it would load instead of nothing.
        match (volume.path(), client.setting("dbfilename").await) {
            (Some(root), Ok(Some(name))) => {
                let there = tokio::fs::symlink_metadata(root.join(name)).await;
                there.is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
            }
            (Some(_), _) => false,
            (None, _) => info.number("rdb_saves").is_none_or(|saves| saves == 0),
        }
    }

    /// Has the RDB written, and sees to it that the file that the server loads is the one that it wrote.
    async fn save_to_its_file(
        &self,
        client: &Client,
        info: &Info,
        volume: &dyn Volume,
        cx: &RunContext,
    ) -> Result<()> {
        // Where it does not say what it calls its file, what is there proves nothing.
        let named = client.setting("dbfilename").await.ok().flatten();
        let dir = client.setting("dir").await.ok().flatten();
        let name = named.as_deref().unwrap_or("dump.rdb");
        let dir = dir.as_deref();
        let before = self.identity(name, dir, volume).await.unwrap_or_default();
        match self.save_now(client, cx).await {
            Ok(()) => {}
            Err(e) if e.is(&Refusal::Permission) || e.is(&Refusal::UnknownCommand) => {
                return match seems_saved(info, name, volume).await {
                    true => Ok(()),
                    false => Err(e),
                };
            }
            Err(e) => return Err(e),
        }
        let now = self.identity(name, dir, volume).await.unwrap_or_default();
        // Elsewhere there may be no program to look with.
        let seen = volume.path().is_some() || now.is_some();
        match named.is_some() && seen && now == before {
            true => Err(self.stale(name, now.is_some())),
            false => Ok(()),
        }
    }

    /// SAVE, after whatever else the server saves; in the background where only that is allowed.
    async fn save_now(&self, client: &Client, cx: &RunContext) -> Result<()> {
        let patient = self.patient_client(self.section.load_timeout.0).await?;
        let retry = Retry::within(self.section.load_timeout.0, AGAIN);
        loop {
            match patient.save().await {
                Ok(()) => return Ok(()),
                Err(e) if e.is(&Refusal::Busy) => {
                    if retry.is_over() {
                        return Err(e);
                    }
                    retry.pause().await;
                }
                Err(e) if e.is(&Refusal::Permission) || e.is(&Refusal::UnknownCommand) => {
                    return self.save(client, cx.cancelled()).await.map(drop);
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// What the server's own configuration file says of `appendonly`: what it starts with, whatever CONFIG SET has
    /// changed since. `None` where the file cannot be read, or one that it includes, or there is none.
    pub(super) async fn starts_with_aof(&self, info: &Info, volume: &dyn Volume) -> Option<bool> {
        // Elsewhere the name means another file.
        volume.path()?;
        let file = info.text("config_file").filter(|it| it.starts_with('/'))?;
        let all = Configuration::read(file).await?.directives;
        let last = |(name, _): &&Directive| name == "appendonly" || name == INCLUDE;
        match all.iter().rfind(last) {
            Some((name, _)) if name == INCLUDE => None,
            Some((_, value)) => Some(is_yes(value)),
            None => (!all.is_empty()).then_some(false),
        }
    }
}

/// Where the files lie of a server that writes an append-only file.
pub(super) enum AofFiles<'a> {
    /// In a component's volume.
    In(&'a Redis, &'a dyn Volume),
    /// In this directory of this host.
    Here(PathBuf),
}

impl AofFiles<'_> {
    async fn look(&self, layout: DataLayout) -> Result<LiveFiles> {
        match self {
            Self::In(redis, volume) => redis.ask(*volume, Order::Look { layout }).await,
            Self::Here(root) => {
                let root = root.clone();
                super::blocking(move || Ok(LiveFiles::below(&root, &layout))).await
            }
        }
    }

    /// Whether the server has lost them: deleted or overwritten beneath it, they do not hold what it has written,
    /// and what it holds is in its memory only.
    pub(super) async fn are_lost(&self, client: &Client, info: &Info) -> bool {
        if info.number("aof_enabled") != Some(1) {
            return false;
        }
        let Ok(layout) = named_files(client).await else {
            return false;
        };
        // What cannot be looked at is taken for what it should be.
        let Ok(seen) = self.look(layout).await else {
            return false;
        };
        seen.lost(info, client.info().await.ok().as_ref())
    }

    /// Has them written anew by the server of `service`, and waits until they are there.
    pub(super) async fn rewrite(
        &self,
        client: &Client,
        service: &str,
        patience: Duration,
    ) -> Result<()> {
        let retry = Retry::within(patience, AGAIN);
        let mut asked = false;
        loop {
            if !asked {
                match client.rewrite().await {
                    Ok(()) => asked = true,
                    Err(e) if e.is(&Refusal::Busy) => {}
                    Err(e) => return Err(e),
                }
            }
            let info = client.info().await?;
            let busy = ["aof_rewrite_in_progress", "aof_rewrite_scheduled"];
            let busy = busy.iter().any(|key| info.number(key) == Some(1));
            if asked && !busy {
                let lost = self.are_lost(client, &info).await;
                if info.text("aof_last_bgrewrite_status") == Some("ok") && !lost {
                    return Ok(());
                }
                return Err(Error::new(
                    ErrorKind::Failed,
                    "redis.not_saved",
                    format!("{service} could not write its append-only file anew"),
                ));
            }
            if retry.is_over() {
                return Err(Error::new(
                    ErrorKind::Failed,
                    "redis.not_saved",
                    format!("{service} still writes its append-only file"),
                ));
            }
            retry.pause().await;
        }
    }
}

/// The names that the server has for its files.
async fn named_files(client: &Client) -> Result<DataLayout> {
    let mut layout = DataLayout::default();
    for (name, slot) in [
        ("appendfilename", &mut layout.appendfilename),
        ("appenddirname", &mut layout.appenddirname),
    ] {
        if let Some(value) = client.setting(name).await? {
            *slot = value;
        }
    }
    layout.checked()
}

/// Whether the server holds nothing, and has written that it does not.
fn is_empty(info: &Info) -> bool {
    info.number("rdb_changes_since_last_save") == Some(0)
        && info.number("number_of_libraries").is_none_or(|it| it == 0)
        && info.keyspace().values().all(|keys| keys.keys == 0)
}

/// Whether a server that we may not have saved has saved everything, as far as its file tells: it is of the time of
/// the last save, or as old as the server.
async fn seems_saved(info: &Info, name: &str, volume: &dyn Volume) -> bool {
    /// Between the end of a save and when the server notes it, in seconds.
    const NOTED: i64 = 2;
    if info.number("rdb_changes_since_last_save") != Some(0) {
        return false;
    }
    if is_empty(info) {
        return true;
    }
    let saves = info.number("rdb_saves");
    let Some(root) = volume.path() else {
        return saves.is_some_and(|saves| saves > 0);
    };
    let saved = info.number("rdb_last_save_time");
    let Some(saved) = saved.and_then(|it| i64::try_from(it).ok()) else {
        return false;
    };
    let Ok(meta) = tokio::fs::symlink_metadata(root.join(name)).await else {
        return false;
    };
    // Without a save of its own it is the time of its start.
    let of_then = saves == Some(0) || saved.saturating_sub(meta.ctime()) <= NOTED;
    meta.ctime() <= saved && of_then
}

impl LiveFiles {
    /// Whether they are not what the server has written so far, as it said `before` they were looked at and
    /// `after` that.
    fn lost(self, before: &Info, after: Option<&Info>) -> bool {
        let written = |info: &Info| info.number("aof_current_size");
        let busy = |info: &Info| info.number("aof_rewrite_in_progress") == Some(1);
        let most = match after {
            // It shrinks when that ends.
            Some(after) if !busy(before) && !busy(after) => written(after),
            _ => None,
        };
        let range = written(before).unwrap_or(0)..=most.unwrap_or(u64::MAX);
        let differ = match (self.loaded, self.bytes) {
            // The base that a server has made when it first started is not counted by it.
            (Some(all), _) => {
                let grown = all.saturating_sub(self.base.unwrap_or(0));
                !range.contains(&all) && !range.contains(&grown)
            }
            (None, Some(bytes)) => bytes < *range.start(),
            (None, None) => false,
        };
        let missing = !(self.manifest || self.single);
        self.directory && (differ || missing || self.held == Some(false))
    }
}

#[cfg(test)]
mod tests {
    use super::{Info, LiveFiles};

    #[test]
    fn files_that_the_server_has_not_written_are_lost() {
        let info = |size: u64| Info::parse(&format!("aof_current_size:{size}\r\n"));
        let files = LiveFiles {
            directory: true,
            manifest: true,
            bytes: Some(9),
            ..LiveFiles::default()
        };
        let lost = |files: LiveFiles, before, after| files.lost(&info(before), Some(&info(after)));
        // Of an older agent.
        assert!(!lost(files, 5, 5));
        assert!(lost(files, 10, 10));
        let of = |loaded, held| LiveFiles {
            loaded: Some(loaded),
            held,
            ..files
        };
        assert!(!lost(of(5, None), 5, 5));
        assert!(!lost(of(6, Some(true)), 5, 7));
        assert!(lost(of(6, Some(true)), 5, 5));
        assert!(lost(of(4, Some(true)), 5, 5));
        assert!(lost(of(5, Some(false)), 5, 5));
        // Right after its first start the base does not count.
        let fresh = LiveFiles {
            base: Some(4),
            ..of(9, Some(true))
        };
        assert!(!lost(fresh, 5, 5));
        assert!(lost(fresh, 6, 6));
        // While it is written anew, its size shrinks.
        let busy = Info::parse("aof_current_size:5\r\naof_rewrite_in_progress:1\r\n");
        assert!(!of(6, None).lost(&busy, Some(&info(5))));
    }
}
