//! What only the running server holds, made durable before it is stopped.

use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::client::{Client, Info};
use super::data::Layout;
use super::remote_task::{LiveFiles, Order};
use super::{Redis, blocking};
use crate::contract::{RunContext, Volume};
use crate::model::{Error, ErrorKind, Result};

/// How much of a configuration file is read.
const CONFIG: u64 = 1 << 20;

impl Redis {
    /// Has a running server write its RDB, unless all that it holds is on disk and will be loaded
    /// again. A server without save points throws its data away when it stops, one that is killed while it saves as well,
    /// and one whose append-only file was turned on with CONFIG SET does not look at it when it starts.
    pub(super) async fn make_durable(&self, cx: &RunContext) -> Result<()> {
        if self.platform.service(&self.section.service).await?.running == 0 {
            return Ok(());
        }
        let stop_anyway = |error: Error| {
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
        };
        let client = self.client().await?;
        let info = client.info().await.map_err(stop_anyway)?;
        let volume = self.volume().await?;
        // What it loads is on disk.
        if info.is_loading() {
            return Ok(());
        }
        if self.lost_its_files(&client, &info, volume.as_ref()).await {
            cx.check_cancelled()?;
            let rewriting = self.rewrite_now(&client, volume.as_ref());
            tokio::select! {
                biased;
                () = cx.cancelled().cancelled() => return Err(Error::interrupted()),
                done = rewriting => done.map_err(stop_anyway)?,
            }
        }
        if self.is_durable(&client, &info, volume.as_ref()).await {
            return Ok(());
        }
        cx.check_cancelled()?;
        let saving = self.save_now(&client, cx);
        tokio::select! {
            biased;
            () = cx.cancelled().cancelled() => Err(Error::interrupted()),
            saved = saving => saved.map_err(stop_anyway),
        }
    }

    /// Whether everything is on disk, in a file that the server loads when it starts.
    async fn is_durable(&self, client: &Client, info: &Info, volume: &dyn Volume) -> bool {
        if info.number("aof_enabled") == Some(1) {
            let stays = match self.section.appendonly {
                Some(on) => on,
                None => self.starts_with_aof(info, volume).await == Some(true),
            };
            return stays && info.text("aof_last_write_status") == Some("ok");
        }
        if info.number("rdb_changes_since_last_save") != Some(0) {
            return false;
        }
        if info.keyspace().values().all(|keys| keys.keys == 0) {
            return true;
        }
        let Ok(Some(name)) = client.setting("dbfilename").await else {
            return false;
        };
        match volume.path() {
            Some(root) => tokio::fs::metadata(root.join(name)).await.is_ok(),
            None => info.number("rdb_saves").is_some_and(|saves| saves > 0),
        }
    }

    /// Whether a server that writes an append-only file has lost it: deleted or overwritten beneath it,
    /// it holds less than the server has written, and what the server holds is in its memory only.
    async fn lost_its_files(&self, client: &Client, info: &Info, volume: &dyn Volume) -> bool {
        if info.number("aof_enabled") != Some(1) {
            return false;
        }
        let Ok(layout) = named_files(client).await else {
            return false;
        };
        // What cannot be looked at is taken for what it should be.
        let seen = self.ask::<LiveFiles>(volume, Order::Look { layout }).await;
        seen.is_ok_and(|seen| seen.lost(info))
    }

    /// Has the append-only file written anew, and waits until it is there.
    async fn rewrite_now(&self, client: &Client, volume: &dyn Volume) -> Result<()> {
        let began = Instant::now();
        let mut asked = false;
        loop {
            if !asked {
                match client.rewrite().await {
                    Ok(()) => asked = true,
                    Err(e) if e.message().contains("in progress") => {}
                    Err(e) => return Err(e),
                }
            }
            let info = client.info().await?;
            let busy = ["aof_rewrite_in_progress", "aof_rewrite_scheduled"];
            let busy = busy.iter().any(|key| info.number(key) == Some(1));
            if asked && !busy {
                let lost = self.lost_its_files(client, &info, volume).await;
                if info.text("aof_last_bgrewrite_status") == Some("ok") && !lost {
                    return Ok(());
                }
                return Err(Error::new(
                    ErrorKind::Failed,
                    "redis.not_saved",
                    format!(
                        "{} could not write its append-only file anew",
                        self.section.service
                    ),
                ));
            }
            if began.elapsed() > self.section.load_timeout.0 {
                return Err(Error::new(
                    ErrorKind::Failed,
                    "redis.not_saved",
                    format!("{} still writes its append-only file", self.section.service),
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// SAVE, after whatever else the server saves; in the background where only that is allowed.
    async fn save_now(&self, client: &Client, cx: &RunContext) -> Result<()> {
        let patient = self.patient_client(self.section.load_timeout.0).await?;
        let began = Instant::now();
        loop {
            match patient.save().await {
                Ok(()) => return Ok(()),
                Err(e) if e.message().contains("in progress") => {
                    if began.elapsed() > self.section.load_timeout.0 {
                        return Err(e);
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(e)
                    if e.code() == "redis.permission"
                        || e.message().contains("unknown command") =>
                {
                    return self.save(client, cx.cancelled()).await.map(drop);
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// What the server's own configuration file says of `appendonly`: what it starts with, whatever CONFIG SET has
    /// changed since. `None` where the file cannot be read, includes others, or there is none.
    pub(super) async fn starts_with_aof(&self, info: &Info, volume: &dyn Volume) -> Option<bool> {
        // Elsewhere the name means another file.
        volume.path()?;
        let file = info.text("config_file").filter(|it| it.starts_with('/'))?;
        let file = PathBuf::from(file);
        let text = blocking(move || {
            let failed = |e| Error::io(format!("read {}", file.display()), e);
            let mut text = Vec::new();
            // Whose file it is, the server says: a pipe there would hold us for ever.
            let opened = crate::sys::open_to_read(&file).map_err(failed)?;
            opened.take(CONFIG).read_to_end(&mut text).map_err(failed)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        });
        appendonly_of(&text.await.ok()?)
    }
}

/// The names that the server has for its files.
async fn named_files(client: &Client) -> Result<Layout> {
    let mut layout = Layout::default();
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

impl LiveFiles {
    /// Whether they are not what the server has written so far.
    fn lost(self, info: &Info) -> bool {
        let written = info.number("aof_current_size");
        let less = self
            .bytes
            .zip(written)
            .is_some_and(|(there, written)| there < written);
        self.directory && (less || !(self.manifest || self.single))
    }
}

/// What the text of a configuration file says of `appendonly`.
fn appendonly_of(text: &str) -> Option<bool> {
    let mut on = false;
    let mut lines = 0;
    for line in text.lines().map(str::trim) {
        let mut words = line.split_whitespace();
        let word = words.next().unwrap_or_default().to_ascii_lowercase();
        if word.is_empty() || word.starts_with('#') {
            continue;
        }
        lines += 1;
        match word.as_str() {
            "include" => return None,
            "appendonly" => {
                let value = words.next().unwrap_or_default().trim_matches(['"', '\'']);
                on = value.eq_ignore_ascii_case("yes");
            }
            _ => {}
        }
    }
    (lines > 0).then_some(on)
}

#[cfg(test)]
mod tests {
    use super::appendonly_of;

    #[test]
    fn a_configuration_tells_how_the_server_starts() {
        assert_eq!(appendonly_of("port 1\nappendonly yes\n"), Some(true));
        assert_eq!(appendonly_of("APPENDONLY \"no\"\n"), Some(false));
        assert_eq!(appendonly_of("appendonly no\nappendonly yes"), Some(true));
        assert_eq!(appendonly_of("#appendonly yes\nport 1"), Some(false));
        assert_eq!(appendonly_of("appendonly yes\ninclude /x"), None);
        assert_eq!(appendonly_of(""), None);
    }
}
