//! Events made into a status page and chat messages.

use std::path::{Path, PathBuf};

use restore_core::{Error, Event, EventSink, Result};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// Writes what happens into an HTML page, and sends a line to a chat's webhook when users are
/// turned away, when they are let in again, and when the run has ended.
///
/// A sink must return at once, so it only puts events into a channel; a task does the slow things,
/// and whatever goes wrong with them is nothing to the run.
pub struct Announce(UnboundedSender<Event>);

impl Announce {
    /// The sink, and the task that ends once the sink is gone and everything is told.
    pub fn new(
        page: impl Into<PathBuf>,
        webhook: Option<String>,
    ) -> (Self, JoinHandle<Result<()>>) {
        let (sender, events) = unbounded_channel();
        let task = tokio::spawn(announce(events, page.into(), webhook));
        (Self(sender), task)
    }
}

impl EventSink for Announce {
    fn emit(&self, event: &Event) {
        // Nobody listens any more: no reason to stop.
        let _ = self.0.send(event.clone());
    }
}

async fn announce(
    mut events: UnboundedReceiver<Event>,
    page: PathBuf,
    webhook: Option<String>,
) -> Result<()> {
    let mut lines: Vec<String> = Vec::new();
    while let Some(event) = events.recv().await {
        let (line, to_chat) = match &event {
            Event::StepStarted { what, .. } => (format!("{what} …"), false),
            Event::StepFailed { step, error } => (format!("{step} failed: {error}"), true),
            Event::DowntimeStarted { at } => (format!("users are turned away since {at}"), true),
            Event::DowntimeEnded { seconds, .. } => {
                (format!("users are back after {seconds:.1} s"), true)
            }
            Event::RunFinished { run, outcome, .. } => (format!("run {run}: {outcome}"), true),
            // Progress comes often, and new kinds of events may come with any version.
            _ => continue,
        };
        if to_chat && let Some(webhook) = &webhook {
            // A chat that does not answer delays nobody but this task.
            let _ = post(webhook, &line).await;
        }
        lines.push(line);
        write(&page, &lines).await?;
    }
    Ok(())
}

/// Replaces the page as a whole: whoever reads it gets the old one or the new one.
async fn write(page: &Path, lines: &[String]) -> Result<()> {
    let items: String = lines
        .iter()
        .map(|line| format!("<li>{}\n", escaped(line)))
        .collect();
    let text = format!(
        "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=2>\n\
         <title>Restore</title><ol>\n{items}</ol>\n"
    );
    let failed = |e| Error::io(format!("write {}", page.display()), e);
    let new = page.with_extension("new");
    tokio::fs::write(&new, text).await.map_err(failed)?;
    tokio::fs::rename(&new, page).await.map_err(failed)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Sends `{"text": …}`, which most chats take, to `http://HOST:PORT/PATH`. A service that is really
/// used would bring its own HTTP client, and TLS with it.
async fn post(webhook: &str, text: &str) -> std::io::Result<()> {
    let rest = webhook.strip_prefix("http://").unwrap_or(webhook);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let body = json!({ "text": text }).to_string();
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(host).await?;
    stream.write_all(request.as_bytes()).await?;
    stream.read_to_end(&mut Vec::new()).await.map(drop)
}
