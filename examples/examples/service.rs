//! A service that restores on request and can be told to stop: `service [restore.toml]`.
//!
//! Prints the address that it listens on. `POST /restore` begins a run, `GET /restore` says what became of
//! it, `GET /restore/events` streams its events, from the first on and for as many as ask, and
//! `DELETE /restore` stops it: it undoes itself. A service that ends in the middle of a run does the same
//! first: it never leaves one behind.

use std::sync::{Arc, Mutex, PoisonError};

use restore_core::run::CallState;
use restore_core::{Run, Site};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

struct Service {
    site: Site,
    /// The run under way or the last one.
    run: Mutex<Option<Run>>,
    ended: Mutex<String>,
}

impl Service {
    /// Begins a run, unless one is under way here. It goes on whether or not a client stays.
    fn begin(self: &Arc<Self>) -> restore_core::Result<&'static str> {
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        let state = run.as_ref().map(Run::state);
        if matches!(state, Some(CallState::UnderWay | CallState::Stopping)) {
            return Ok("409 Conflict\nunder way already");
        }
        let new = self.site.plan("latest").run();
        new.start()?;
        *run = Some(new.clone());
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        let service = self.clone();
        tokio::spawn(async move {
            let text = match new.await {
                Ok(report) => report.to_text(),
                Err(error) => match error.report() {
                    Some(report) => report.to_text(),
                    None => format!("nothing was touched: {error:#}"),
                },
            };
            *service.ended.lock().unwrap_or_else(PoisonError::into_inner) = text;
        });
        Ok("202 Accepted\nbegun")
    }

    fn current(&self) -> Option<Run> {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        run.clone()
    }

    fn stop(&self) -> &'static str {
        if let Some(run) = self.current() {
            run.cancel();
        }
        "202 Accepted\nstopping; it undoes itself"
    }

    fn tell(&self) -> String {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        match self.current().map(|run| run.state()) {
            None => "404 Not Found\nthere was none".to_owned(),
            Some(CallState::Done | CallState::Failed) if !ended.is_empty() => {
                format!("200 OK\n{ended}")
            }
            Some(_) => "200 OK\nunder way".to_owned(),
        }
    }

    async fn answer(self: Arc<Self>, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let request: Vec<&str> = line.split(' ').take(2).collect();
        let mut header = String::new();
        while stream.read_line(&mut header).await? > 2 {
            header.clear();
        }
        let mut follow = None;
        let answer = match request[..] {
            ["POST", "/restore"] => match self.begin() {
                Ok(answer) => answer.to_owned(),
                Err(error) => format!("500 Internal Server Error\n{error:#}"),
            },
            ["DELETE", "/restore"] => self.stop().to_owned(),
            ["GET", "/restore"] => self.tell(),
            ["GET", "/restore/events"] => {
                follow = self.current().map(|run| run.events());
                "200 OK\nevents:".to_owned()
            }
            _ => "404 Not Found\nPOST, GET or DELETE /restore".to_owned(),
        };
        let (status, body) = answer.split_once('\n').unwrap_or((&answer, ""));
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n{body}\n");
        stream.get_mut().write_all(head.as_bytes()).await?;
        if let Some(mut events) = follow {
            while let Some(event) = events.next().await {
                let line = serde_json::to_string(&*event)? + "\n";
                stream.get_mut().write_all(line.as_bytes()).await?;
            }
        }
        stream.get_mut().shutdown().await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = std::env::args().nth(1);
    let service = Arc::new(Service {
        site: Site::open(config.unwrap_or_else(|| "restore.toml".to_owned())).await?,
        run: Mutex::default(),
        ended: Mutex::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    // Ctrl-C, `systemctl stop`, `docker stop`.
    let stop = restore_core::stop_on_signals()?;
    println!("http://{}/restore", listener.local_addr()?);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                tokio::spawn(service.clone().answer(stream));
            }
            () = stop.cancelled() => break,
        }
    }
    if let Some(run) = service.current() {
        run.cancel();
        let mut events = run.events();
        while events.next().await.is_some() {}
    }
    Ok(())
}
