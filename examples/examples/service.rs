//! A service that restores on request and can be told to stop: `service [restore.toml]`.
//!
//! Prints the address that it listens on. `POST /restore` begins a run, `GET /restore` says what
//! became of it, `DELETE /restore` stops it: it undoes itself. A service that ends in the middle of
//! a run does the same first: it never leaves one behind.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use restore_core::{PlanRequest, Report, RunOptions, Site};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The run under way or the last one.
#[derive(Default)]
struct Run {
    cancel: CancellationToken,
    task: Option<JoinHandle<()>>,
    ended: Arc<Mutex<Option<restore_core::Result<Report>>>>,
}

struct Service {
    site: Arc<Site>,
    run: Mutex<Run>,
}

impl Service {
    /// Begins a run, unless one is under way here.
    fn begin(&self) -> &'static str {
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if run.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return "409 Conflict\nunder way already";
        }
        *run = Run::default();
        let options = RunOptions::new().cancelled_by(run.cancel.clone());
        let (site, ended) = (self.site.clone(), run.ended.clone());
        // A task of its own: that a client goes away does not drop the run in its middle.
        run.task = Some(tokio::spawn(async move {
            let report = restore(&site, options).await;
            *ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
        }));
        "202 Accepted\nbegun"
    }

    fn stop(&self) -> &'static str {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        run.cancel.cancel();
        "202 Accepted\nstopping; it undoes itself"
    }

    fn tell(&self) -> String {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = run.ended.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*ended, &run.task) {
            (Some(Ok(report)), _) => format!("200 OK\n{}", report.to_text()),
            (Some(Err(error)), _) => match error.report() {
                Some(report) => format!("200 OK\n{}", report.to_text()),
                None => format!("200 OK\nnothing was touched: {error}"),
            },
            (None, Some(_)) => "200 OK\nunder way".to_owned(),
            (None, None) => "404 Not Found\nthere was none".to_owned(),
        }
    }

    async fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let request: Vec<&str> = line.split(' ').take(2).collect();
        let mut header = String::new();
        while stream.read_line(&mut header).await? > 2 {
            header.clear();
        }
        let answer = match request[..] {
            ["POST", "/restore"] => self.begin().to_owned(),
            ["DELETE", "/restore"] => self.stop().to_owned(),
            ["GET", "/restore"] => self.tell(),
            _ => "404 Not Found\nPOST, GET or DELETE /restore".to_owned(),
        };
        let (status, body) = answer.split_once('\n').unwrap_or((&answer, ""));
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n{body}\n");
        stream.get_mut().write_all(head.as_bytes()).await?;
        stream.get_mut().shutdown().await
    }
}

async fn restore(site: &Site, options: RunOptions) -> restore_core::Result<Report> {
    let backup = site.backup("latest").await?;
    let plan = site.plan(&backup, PlanRequest::all(), &options).await?;
    site.run(plan, options).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = std::env::args().nth(1);
    let config = config.unwrap_or_else(|| "restore.toml".to_owned());
    let service = Arc::new(Service {
        site: Arc::new(Site::open(Path::new(&config)).await?),
        run: Mutex::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    // Ctrl-C, `systemctl stop`, `docker stop`.
    let stop = restore_core::stop_on_signals()?;
    println!("http://{}/restore", listener.local_addr()?);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let service = service.clone();
                tokio::spawn(async move { service.answer(stream).await });
            }
            () = stop.cancelled() => break,
        }
    }
    let under_way = {
        let mut run = service.run.lock().unwrap_or_else(PoisonError::into_inner);
        run.cancel.cancel();
        run.task.take()
    };
    if let Some(task) = under_way {
        task.await?;
    }
    Ok(())
}
