//! An nginx of its own with several sites, and who asks it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use restore_core::maintenance::{self, FILE_NAME, Maintenance};
use restore_core::platform::Platform;
use restore_core::run::RunId;
use restore_testing::local::{Ground, free_port, until};
use serde_json::{Value, json};

/// An nginx of its own on two ports, kept by the local platform.
pub(crate) struct Web {
    pub(crate) ground: Ground,
    pub(crate) a: u16,
    pub(crate) b: u16,
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) maintenance: Arc<dyn Maintenance>,
}

pub(crate) const TWO_SITES: &str = "
server { listen A default_server; server_name _; return 200 'app default'; }
server { listen A; listen 127.0.0.1:B; server_name www.example.org example.org; return 200 'app www'; }
server { listen A; server_name *.wild.example .both.example tail.*; return 200 'app wild'; }
server { listen A; server_name ~^(?<sub>.+)\\.regex\\.example$; return 200 'app regex'; }
";

const HOSTS: [&str; 10] = [
    "www.example.org",
    "WWW.Example.org",
    "example.org",
    "x.wild.example",
    "both.example",
    "y.both.example",
    "tail.example",
    "z.regex.example",
    "unheard.of",
    "",
];

impl Web {
    fn main(ground: &Ground, http: &str) {
        let text = "pid @/nginx.pid; error_log @/error.log; worker_processes 2;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path @/tmp; proxy_temp_path @/tmp; fastcgi_temp_path @/tmp;
  uwsgi_temp_path @/tmp; scgi_temp_path @/tmp;
  error_page 503 /no-such-page;
  HTTP
}"
        .replace("HTTP", http)
        .replace('@', ground.path().to_str().unwrap());
        ground.file("nginx.conf", &text);
    }

    pub(crate) async fn start(sites: &str) -> Self {
        Self::start_with("include conf.d/*.conf;", sites, json!({})).await
    }

    pub(crate) async fn start_with(http: &str, sites: &str, extra: Value) -> Self {
        let ground = Ground::new();
        let (a, b) = (free_port(), free_port());
        Self::main(&ground, http);
        let sites = sites
            .replace(" A", &format!(" {a}"))
            .replace(":B", &format!(":{b}"))
            .replace('@', ground.path().to_str().unwrap());
        ground.file("conf.d/sites.conf", &sites);
        let platform = ground.platform(
            r#"
[services.nginx]
command = ["nginx", "-c", "@/nginx.conf", "-g", "daemon off;"]
pid_file = "nginx.pid"
stop_signal = "SIGQUIT"
stop_timeout = "10s"
"#,
        );
        platform.scale("nginx", 1).await.unwrap();
        let web = Self {
            maintenance: Self::maintenance(&ground, &platform, extra).unwrap(),
            ground,
            a,
            b,
            platform,
        };
        web.is_up().await;
        web
    }

    pub(crate) async fn is_up(&self) {
        until("nginx is up", || {
            TcpStream::connect(("127.0.0.1", self.a)).is_ok()
        })
        .await;
    }

    pub(crate) fn maintenance(
        ground: &Ground,
        platform: &Arc<dyn Platform>,
        extra: Value,
    ) -> restore_core::Result<Arc<dyn Maintenance>> {
        let conf = ground.path().join("nginx.conf");
        let mut table = json!({
            "kind": "nginx", "service": "nginx", "conf_dir": "conf.d",
            "test": ["nginx", "-t", "-c", conf],
            "reload": ["nginx", "-c", conf, "-s", "reload"],
            "dump": ["nginx", "-T", "-c", conf],
        });
        let table = table.as_object_mut().unwrap();
        table.extend(extra.as_object().unwrap().clone());
        maintenance::make(table.clone(), platform, ground.path())
    }

    pub(crate) fn file(&self) -> std::path::PathBuf {
        self.ground.path().join("conf.d").join(FILE_NAME)
    }

    /// Every host on the first port.
    fn answers(&self) -> BTreeMap<&'static str, String> {
        HOSTS
            .iter()
            .map(|host| (*host, get(self.a, host)))
            .collect()
    }

    pub(crate) fn all_turned_away(&self, run: &RunId) {
        for (host, answer) in self.answers() {
            assert!(is_page(&answer, run), "{host}: {answer}");
        }
    }

    pub(crate) fn all_served(&self) {
        for (host, answer) in self.answers() {
            assert!(
                answer.starts_with("HTTP/1.1 200") && answer.contains("app "),
                "{host}: {answer}"
            );
        }
    }
}

/// The whole answer, or the error.
pub(crate) fn get(port: u16, host: &str) -> String {
    try_get(port, host).unwrap_or_else(|e| format!("error: {e}"))
}

fn try_get(port: u16, host: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let request = match host {
        "" => "GET /deep/path.css HTTP/1.0\r\n\r\n".to_owned(),
        host => {
            format!("GET /deep/path.css?q=1 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        }
    };
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

pub(crate) fn is_page(answer: &str, run: &RunId) -> bool {
    answer.starts_with("HTTP/1.1 503")
        && answer.contains(&format!("X-Restore-Run: {run}"))
        && answer.contains("Retry-After: ")
        && answer.contains("Cache-Control: no-store")
        && answer.contains("Content-Type: text/html")
        && answer.contains("<h1>")
}

/// Asks all the time from several threads, and keeps what was neither an answer of the
/// application nor the page.
pub(crate) struct Prober {
    stop: Arc<AtomicBool>,
    pub(crate) seen: Arc<Mutex<BTreeMap<String, usize>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Prober {
    pub(crate) fn start(port: u16, run: &RunId) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
        let threads = (0..3)
            .map(|thread| {
                let (stop, seen, run) = (stop.clone(), seen.clone(), run.clone());
                std::thread::spawn(move || {
                    let mut at = thread;
                    while !stop.load(Ordering::Relaxed) {
                        at = (at + 1) % HOSTS.len();
                        let answer = get(port, HOSTS[at]);
                        let what = if is_page(&answer, &run) {
                            "page".to_owned()
                        } else if answer.starts_with("HTTP/1.1 200") {
                            "app".to_owned()
                        } else {
                            answer
                        };
                        *seen.lock().unwrap().entry(what).or_default() += 1;
                    }
                })
            })
            .collect();
        Self {
            stop,
            seen,
            threads,
        }
    }

    pub(crate) fn end(self) -> BTreeMap<String, usize> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}
