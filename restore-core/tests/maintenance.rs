//! Maintenance mode with a real nginx.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use restore_core::maintenance::{self, FILE_NAME, Maintenance};
use restore_core::platform::Platform;
use restore_core::run::RunId;
use restore_core::{Severity, Timestamp, check};
use serde_json::{Value, json};

#[path = "support/local.rs"]
mod support;

use support::{Ground, free_port};

/// An nginx of its own on two ports, kept by the local platform.
struct Web {
    ground: Ground,
    a: u16,
    b: u16,
    platform: Arc<dyn Platform>,
    maintenance: Arc<dyn Maintenance>,
}

const TWO_SITES: &str = "
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

    async fn start(sites: &str) -> Self {
        Self::start_with("include conf.d/*.conf;", sites, json!({})).await
    }

    async fn start_with(http: &str, sites: &str, extra: Value) -> Self {
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
        support::until("nginx is up", || {
            TcpStream::connect(("127.0.0.1", a)).is_ok()
        })
        .await;
        web
    }

    fn maintenance(
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

    fn file(&self) -> std::path::PathBuf {
        self.ground.path().join("conf.d").join(FILE_NAME)
    }

    /// Every host on the first port.
    fn answers(&self) -> BTreeMap<&'static str, String> {
        HOSTS
            .iter()
            .map(|host| (*host, get(self.a, host)))
            .collect()
    }

    fn all_turned_away(&self, run: &RunId) {
        for (host, answer) in self.answers() {
            assert!(is_page(&answer, run), "{host}: {answer}");
        }
    }

    fn all_served(&self) {
        for (host, answer) in self.answers() {
            assert!(
                answer.starts_with("HTTP/1.1 200") && answer.contains("app "),
                "{host}: {answer}"
            );
        }
    }
}

/// The whole answer, or the error.
fn get(port: u16, host: &str) -> String {
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

fn is_page(answer: &str, run: &RunId) -> bool {
    answer.starts_with("HTTP/1.1 503")
        && answer.contains(&format!("X-Restore-Run: {run}"))
        && answer.contains("Retry-After: ")
        && answer.contains("Cache-Control: no-store")
        && answer.contains("Content-Type: text/html")
        && answer.contains("<h1>")
}

/// Asks all the time from several threads, and keeps what was neither an answer of the
/// application nor the page.
struct Prober {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<BTreeMap<String, usize>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Prober {
    fn start(port: u16, run: &RunId) -> Self {
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

    fn end(self) -> BTreeMap<String, usize> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// Trap 8: names have servers of their own, and there is a default server already. Trap 9: the moment
/// itself is shown.
#[tokio::test(flavor = "multi_thread")]
async fn every_name_on_every_port_is_turned_away_and_let_in_again() {
    let web = Web::start(TWO_SITES).await;
    let findings = web.maintenance.inspect().await.unwrap();
    assert_eq!(findings, []);
    web.all_served();
    let run = RunId::generate();
    let since = Timestamp::now();
    for _ in 0..2 {
        web.maintenance.on(&run, since).await.unwrap();
        web.all_turned_away(&run);
        for host in ["www.example.org", "other", ""] {
            assert!(is_page(&get(web.b, host), &run));
        }
    }
    // The moment itself, not the words for it.
    let moment = since.to_string();
    let shown = format!("{} {} UTC", &moment[..10], &moment[11..16]);
    assert!(get(web.a, "example.org").contains(&shown));
    for _ in 0..2 {
        web.maintenance.off(&run).await.unwrap();
        web.all_served();
        assert!(!web.file().exists());
    }
    let left: Vec<_> = std::fs::read_dir(web.ground.path().join("conf.d"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["sites.conf"]);
}

/// Trap 7.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_survives_a_restart_of_nginx() {
    let web = Web::start(TWO_SITES).await;
    let run = RunId::generate();
    web.maintenance.on(&run, Timestamp::now()).await.unwrap();
    web.platform.scale("nginx", 0).await.unwrap();
    web.platform.scale("nginx", 1).await.unwrap();
    support::until("nginx is up", || {
        TcpStream::connect(("127.0.0.1", web.a)).is_ok()
    })
    .await;
    web.all_turned_away(&run);
    // Another process lifts it.
    let other = Web::maintenance(&web.ground, &web.platform, json!({})).unwrap();
    other.off(&run).await.unwrap();
    web.all_served();
}

#[tokio::test(flavor = "multi_thread")]
async fn users_see_the_application_or_the_page_and_nothing_else() {
    let web = Web::start(TWO_SITES).await;
    let run = RunId::generate();
    let prober = Prober::start(web.a, &run);
    for _ in 0..3 {
        web.maintenance.on(&run, Timestamp::now()).await.unwrap();
        let before = prober.seen.lock().unwrap().get("app").copied();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let after = prober.seen.lock().unwrap().get("app").copied();
        // One answer per thread may have been on its way.
        assert!(
            after.unwrap_or(0) <= before.unwrap_or(0) + 3,
            "{before:?} {after:?}"
        );
        web.maintenance.off(&run).await.unwrap();
    }
    let seen = prober.end();
    let kinds: Vec<&str> = seen.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["app", "page"], "{seen:?}");
    let complaints = web.ground.read("error.log");
    assert!(!complaints.contains("[emerg]"), "{complaints}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_directory_is_no_obstacle_to_lifting_it() {
    let web = Web::start(TWO_SITES).await;
    let run = RunId::generate();
    web.maintenance.on(&run, Timestamp::now()).await.unwrap();
    // A restore swaps the whole directory, and other sites are in the new one.
    let dir = web.ground.path().join("conf.d");
    let sites = std::fs::read_to_string(dir.join("sites.conf")).unwrap();
    std::fs::rename(&dir, web.ground.path().join("old.d")).unwrap();
    web.ground.file(
        "conf.d/sites.conf",
        &sites.replace("app www", "app restored"),
    );
    web.all_turned_away(&run);
    web.maintenance.off(&run).await.unwrap();
    assert!(get(web.a, "example.org").contains("app restored"));
    web.all_served();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_configuration_is_refused_and_users_are_served_as_before() {
    let web = Web::start(TWO_SITES).await;
    let broken = web
        .ground
        .file("conf.d/broken.conf", "server { lissten 1; }\n");
    let run = RunId::generate();
    let error = web
        .maintenance
        .on(&run, Timestamp::now())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "maintenance.config_broken");
    assert!(
        error.message().contains("unknown directive \"lissten\""),
        "{error}"
    );
    let findings = web.maintenance.inspect().await.unwrap();
    assert!(
        findings
            .iter()
            .any(|f| f.severity == Severity::Error && f.message.contains("lissten"))
    );
    assert!(!web.file().exists());
    web.all_served();

    // The same when it is to be lifted: the page stays, in memory and on disk.
    std::fs::remove_file(&broken).unwrap();
    web.maintenance.on(&run, Timestamp::now()).await.unwrap();
    web.ground
        .file("conf.d/broken.conf", "server { lissten 1; }\n");
    let error = web.maintenance.off(&run).await.unwrap_err();
    assert!(error.message().contains("lissten"), "{error}");
    assert!(web.file().exists());
    web.all_turned_away(&run);
    std::fs::remove_file(&broken).unwrap();
    web.maintenance.off(&run).await.unwrap();
    web.all_served();
}

/// A page that is not there is not worth a configuration that nginx accepts; one that is still
/// shown, from memory, is.
#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_page_a_broken_configuration_is_no_obstacle() {
    let signs = tempfile::tempdir().unwrap();
    let broken = signs.path().join("broken");
    let test = json!({"test": ["test", "!", "-e", broken]});
    let web = Web::start_with("include conf.d/*.conf;", TWO_SITES, test).await;
    let run = RunId::generate();
    std::fs::write(&broken, "").unwrap();
    web.maintenance.off(&run).await.unwrap();
    web.all_served();

    std::fs::remove_file(&broken).unwrap();
    web.maintenance.on(&run, Timestamp::now()).await.unwrap();
    std::fs::remove_file(web.file()).unwrap();
    std::fs::write(&broken, "").unwrap();
    let error = web.maintenance.off(&run).await.unwrap_err();
    assert_eq!(error.code(), "maintenance.test_failed", "{error}");
    web.all_turned_away(&run);
    std::fs::remove_file(&broken).unwrap();
    web.maintenance.off(&run).await.unwrap();
    web.all_served();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_nginx_reads_first_is_found_and_nothing_is_left() {
    let first =
        "server { listen 127.0.0.1:PORT; server_name early.example; return 200 'app early'; }";
    let port = free_port();
    let http = format!(
        "{} include conf.d/*.conf;",
        first.replace("PORT", &port.to_string())
    );
    let web = Web::start_with(&http, TWO_SITES, json!({})).await;
    let findings = web.maintenance.inspect().await.unwrap();
    assert_eq!(findings[0].code, "maintenance.order", "{findings:?}");
    assert!(findings[0].message.contains("early.example"));
    let run = RunId::generate();
    let error = web
        .maintenance
        .on(&run, Timestamp::now())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "maintenance.order");
    assert!(error.hint_text().unwrap().contains("include"));
    assert!(!web.file().exists());
    web.all_served();
    assert!(get(port, "early.example").contains("app early"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_speaks_against_it_is_said_beforehand() {
    let web = Web::start_with(
        "include conf.d/*.conf;",
        TWO_SITES,
        json!({ "conf_dir": "elsewhere" }),
    )
    .await;
    let codes = async |maintenance: &Arc<dyn Maintenance>| -> Vec<String> {
        let findings = maintenance.inspect().await.unwrap();
        findings.into_iter().map(|f| f.code).collect()
    };
    assert_eq!(codes(&web.maintenance).await, ["maintenance.conf_dir"]);
    std::fs::create_dir(web.ground.path().join("elsewhere")).unwrap();
    assert_eq!(codes(&web.maintenance).await, ["maintenance.not_included"]);
    let right = Web::maintenance(&web.ground, &web.platform, json!({})).unwrap();
    web.ground.file(
        &format!("conf.d/{FILE_NAME}"),
        "# Written by restore, run 20240215-093000-7f3a, since x\nserver { listen 127.0.0.1:1; }\n",
    );
    let findings = right.inspect().await.unwrap();
    assert_eq!(findings[0].code, "maintenance.leftover");
    assert!(findings[0].message.contains("20240215-093000-7f3a"));
    // One that even breaks the configuration is replaced.
    web.ground
        .file(&format!("conf.d/{FILE_NAME}"), "nonsense;\n");
    let run = RunId::generate();
    right.on(&run, Timestamp::now()).await.unwrap();
    web.all_turned_away(&run);
    right.off(&run).await.unwrap();
    web.platform.scale("nginx", 0).await.unwrap();
    assert_eq!(codes(&right).await, ["maintenance.unreachable"]);
    let error = right.on(&run, Timestamp::now()).await.unwrap_err();
    assert!(error.message().contains("reload"), "{error}");
    assert!(!web.file().exists());
    right.off(&run).await.unwrap();
    web.platform.scale("nginx", 1).await.unwrap();
    let wrong = Web::maintenance(&web.ground, &web.platform, json!({ "probes": [] }));
    assert_eq!(
        wrong.err().unwrap().hint_text(),
        Some("did you mean `probe`?")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn https_keeps_each_names_certificate() {
    let sites = "
server { listen A ssl http2 default_server; server_name a.example; ssl_certificate @/a.pem; ssl_certificate_key @/a.key; return 200 'app a'; }
server { listen A ssl; server_name b.example; ssl_certificate @/b.pem; ssl_certificate_key @/b.key; ssl_verify_client optional_no_ca; return 200 'app b'; }
server { listen 127.0.0.1:B proxy_protocol; server_name p.example; return 200 'app p'; }
";
    let ground = Ground::new();
    for name in ["a", "b"] {
        let status = std::process::Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
            ])
            .args([
                "-nodes",
                "-days",
                "2",
                "-subj",
                &format!("/CN={name}.example"),
            ])
            .args(["-addext", &format!("subjectAltName=DNS:{name}.example")])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(ground.path().join(format!("{name}.key")))
            .arg("-out")
            .arg(ground.path().join(format!("{name}.pem")))
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }
    let sites = sites.replace('@', ground.path().to_str().unwrap());
    let web = Web::start(&sites).await;
    let verified = async |name: &str, status: u16, contains: &str| {
        let check = json!({
            "kind": "http", "url": format!("https://127.0.0.1:{}/x", web.a),
            "host": format!("{name}.example"), "ca_file": format!("{name}.pem"),
            "status": status, "contains": contains, "timeout": "2s",
        });
        let check = check::make(name, &check, &web.platform, ground.path()).unwrap();
        check
            .run(Timestamp::now(), restore_core::check::Tries::UntilDeadline)
            .await
    };
    for name in ["a", "b"] {
        let outcome = verified(name, 200, &format!("app {name}")).await;
        assert!(outcome.passed, "{outcome:?}");
    }
    assert_eq!(web.maintenance.inspect().await.unwrap(), []);
    let run = RunId::generate();
    web.maintenance.on(&run, Timestamp::now()).await.unwrap();
    for name in ["a", "b"] {
        let outcome = verified(name, 503, run.as_str()).await;
        assert!(outcome.passed, "{outcome:?}");
    }
    web.maintenance.off(&run).await.unwrap();
    let outcome = verified("b", 200, "app b").await;
    assert!(outcome.passed, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_own_words_are_shown_as_they_are() {
    let web = Web::start_with(
        "include conf.d/*.conf;",
        TWO_SITES,
        json!({ "title": "It's <b>closed</b>", "message": "Costs $5; \"back\" \\ soon}\nÜbermorgen" }),
    )
    .await;
    let run = RunId::generate();
    web.maintenance.on(&run, Timestamp::now()).await.unwrap();
    let page = get(web.a, "example.org");
    assert!(
        page.contains("It&#39;s &lt;b&gt;closed&lt;/b&gt;"),
        "{page}"
    );
    assert!(
        page.contains("Costs &#36;5; &quot;back&quot; &#92; soon}<br>Übermorgen"),
        "{page}"
    );
    web.maintenance.off(&run).await.unwrap();
}
