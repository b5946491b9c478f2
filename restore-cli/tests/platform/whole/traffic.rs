//! What users see of a restore.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::support::{PATIENCE, Whole};

/// One request: when, and what came of it.
struct Asked {
    began: Instant,
    ended: Instant,
    /// The status, whether the page came with it, or what went wrong.
    answer: Result<(u16, bool), String>,
}

/// Asks like a user, every 50 ms, until told to stop.
struct User {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<Asked>>,
}

impl User {
    fn start(address: String, path: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicUsize::new(0));
        let (told, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let thread = std::thread::spawn(move || {
            let mut all = Vec::new();
            while !told.load(Ordering::Relaxed) {
                let began = Instant::now();
                let answer = ask(&address, path);
                let ended = Instant::now();
                all.push(Asked {
                    began,
                    ended,
                    answer,
                });
                counted.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(50));
            }
            all
        });
        Self {
            stop,
            count,
            thread,
        }
    }

    /// Waits until it was answered some more times.
    fn more(&self) {
        let wanted = self.count.load(Ordering::Relaxed) + 5;
        let deadline = Instant::now() + PATIENCE;
        while self.count.load(Ordering::Relaxed) < wanted {
            assert!(Instant::now() < deadline, "no answer comes any more");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn end(self) -> Vec<Asked> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn ask(address: &str, path: &str) -> Result<(u16, bool), String> {
    let words = |e: std::io::Error| e.to_string();
    let mut stream = TcpStream::connect(address).map_err(words)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .map_err(words)?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: www.example.test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(words)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(words)?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| format!("no answer: {answer:?}"))?;
    Ok((status, answer.contains("Back soon")))
}

#[test]
fn users_meet_the_page_or_the_platform() {
    let whole = Whole::new();
    let port = whole.shell(r#"load_platform; echo "$HTTP_PORT""#, &[]);
    let address = format!("127.0.0.1:{}", port.trim());
    for args in [&["run", "latest", "--yes"][..], &["rollback", "--yes"]] {
        let users = ["/health", "/api/version"].map(|path| User::start(address.clone(), path));
        users.iter().for_each(User::more);
        let mut running = whole.start(args);
        running.until("downtime_started", "event", "downtime_started");
        let started = Instant::now();
        running.until("downtime_ended", "event", "downtime_ended");
        let over = Instant::now();
        running.end().exits(0);
        users.iter().for_each(User::more);
        for asked in users.map(User::end) {
            let mut seen = [0, 0, 0];
            for one in &asked {
                let (status, page) = one
                    .answer
                    .clone()
                    .unwrap_or_else(|e| panic!("{args:?}: {e}"));
                if one.ended < started || one.began > over {
                    assert_eq!(status, 200, "{args:?}: outside of the downtime");
                    seen[usize::from(one.began > over)] += 1;
                    continue;
                }
                match status {
                    200 => assert!(!page),
                    503 => {
                        assert!(page, "{args:?}: 503 without the page");
                        seen[2] += 1;
                    }
                    other => panic!(
                        "{args:?}: {other}, asked {:?} and answered {:?} after the downtime began: {:?}",
                        one.began - started,
                        one.ended - started,
                        asked.iter().map(|one| &one.answer).collect::<Vec<_>>()
                    ),
                }
            }
            assert!(seen.iter().all(|count| *count > 2), "{args:?}: {seen:?}");
        }
    }
    whole.is(&whole.at_backup, "there and back");
}
