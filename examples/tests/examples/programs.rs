//! The example programs, on the hosting platform with real servers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use restore_core::run::Outcome;
use restore_core::{RunOptions, Site};
use restore_testing::{Hosting, assert_same, run, text};

fn example(name: &str) -> Command {
    Command::new(restore_testing::example(name))
}

struct Platform {
    hosting: Hosting,
    at_backup: String,
    damaged: String,
    backup: String,
}

impl Platform {
    fn new() -> Self {
        let hosting = Hosting::new(100, 1);
        let at_backup = hosting.fingerprint();
        let backup = hosting.back_up();
        hosting.damage();
        Self {
            at_backup,
            damaged: hosting.fingerprint(),
            backup,
            hosting,
        }
    }

    async fn site(&self) -> Site {
        Site::open(&self.hosting.config()).await.unwrap()
    }

    /// Restored, and taken back for the next one.
    async fn is_restored(&self, what: &str) {
        assert_same(&self.at_backup, &self.hosting.fingerprint(), what);
        let site = self.site().await;
        let report = site.rollback(None, RunOptions::new()).await.unwrap();
        assert!(report.is_as_before(), "{}", report.to_text());
        site.confirm(None, RunOptions::new()).await.unwrap();
        self.is_damaged(what);
    }

    fn is_damaged(&self, what: &str) {
        assert_same(&self.damaged, &self.hosting.fingerprint(), what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_restores_the_platform() {
    let platform = Platform::new();
    let config = platform.hosting.config();

    run(example("smallest").arg(&config));
    platform.is_restored("smallest").await;
    terminated(&platform, &config).await;

    let said = text(&run(example("events").arg(&config)));
    for line in ["stage postgres", "users were away for", ": restored"] {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    platform.is_restored("events").await;

    announced(&platform, &config);
    platform.is_restored("announce").await;

    from_years(&platform, &config);
    platform.is_restored("own_store").await;

    with_an_index(&platform, &config).await;
    served(&platform, &config).await;
}

/// How many runs there were.
fn runs(platform: &Platform) -> usize {
    let journals = platform.hosting.root().join("state/runs");
    std::fs::read_dir(journals).map_or(0, |entries| entries.count())
}

/// `docker stop` and `systemctl stop` leave nobody on the page.
async fn terminated(platform: &Platform, config: &Path) {
    let before = runs(platform);
    let mut process = example("smallest")
        .arg(config)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while runs(platform) == before {
        assert!(Instant::now() < deadline, "it has begun no run");
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = process.id().to_string();
    run(Command::new("kill").args(["-TERM", &pid]));
    assert!(!process.wait().unwrap().success());
    let report = platform.site().await.report(None).await.unwrap();
    assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
    platform.is_damaged("smallest, ended");
}

fn announced(platform: &Platform, config: &Path) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let chat = std::thread::spawn(move || {
        let mut said = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).unwrap() > 2 {
                if let Some(text) = line.strip_prefix("Content-Length: ") {
                    length = text.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            said.push(body["text"].as_str().unwrap().to_owned());
            if said.last().unwrap().starts_with("run ") {
                return said;
            }
        }
        said
    });
    let page = platform.hosting.work().join("status.html");
    let webhook = format!("http://{address}/hook");
    run(example("announce").arg(config).arg(&page).arg(webhook));
    let said = chat.join().unwrap();
    let [safety, away, back, end] = &said[..] else {
        panic!("{said:?}");
    };
    // The damage took this tree, so the safety backup is without it.
    assert!(
        safety.contains("back-up:prometheus-config failed"),
        "{said:?}"
    );
    assert!(away.contains("turned away") && back.contains("users are back"));
    assert!(end.ends_with(": restored"), "{said:?}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<li>swap postgres …") && page.contains(": restored"));
}

fn from_years(platform: &Platform, config: &Path) {
    let year = platform
        .hosting
        .work()
        .join("archive")
        .join(&platform.backup[..4]);
    std::fs::create_dir_all(&year).unwrap();
    let folder = platform.hosting.backup_folder(&platform.backup);
    let filed = year.join(&platform.backup);
    std::fs::rename(&folder, &filed).unwrap();
    let said = text(&run(example("own_store")
        .arg(config)
        .arg(year.parent().unwrap())));
    assert!(said.contains("from years in"), "{said}");
    std::fs::rename(&filed, &folder).unwrap();
}

async fn with_an_index(platform: &Platform, config: &Path) {
    let root = platform.hosting.root();
    let index = root.join("opt/search.idx");
    std::fs::write(&index, "search-index 1\nold\n").unwrap();
    let folder = platform.hosting.backup_folder(&platform.backup);
    let script = r#"
        cd "$1" && mkdir search && printf 'search-index 1\none\ntwo\n' | gzip >"search/search-$2.idx.gz"
        sed -i "/^=== .*Summary/i search/search-$2.idx.gz|4.0K|$(sha256sum search/* | cut -d' ' -f1)" MANIFEST.txt
        sed -i '/^Total Files/d' MANIFEST.txt
    "#;
    run(Command::new("sh")
        .args(["-ec", script, "add"])
        .arg(&folder)
        .arg(&platform.backup));
    // The same site with one component more, which only this program knows.
    let with_index = root.join("with-index.toml");
    let section = "\n[components.search]\nkind = \"search-index\"\nfile = \"opt/search.idx\"\nstops = [\"app\"]\n";
    let text = std::fs::read_to_string(config).unwrap() + section;
    std::fs::write(&with_index, text).unwrap();
    let said = restore_testing::text(&run(example("search_index").arg(&with_index)));
    assert!(said.contains("2 documents"), "{said}");
    let restored = std::fs::read_to_string(&index).unwrap();
    assert_eq!(restored, "search-index 1\none\ntwo\n");
    // Taken back by the one who knows the component.
    let registry = restore_core::component::Registry::default().with(
        restore_examples::SearchIndex::KIND,
        std::sync::Arc::new(restore_examples::SearchIndex::from_table),
    );
    let site = Site::open_with(&with_index, &registry).unwrap();
    site.rollback(None, RunOptions::new()).await.unwrap();
    site.confirm(None, RunOptions::new()).await.unwrap();
    let back = std::fs::read_to_string(&index).unwrap();
    assert_eq!(back, "search-index 1\nold\n");
    std::fs::remove_file(&index).unwrap();
    std::fs::remove_file(&with_index).unwrap();
    platform.is_damaged("search_index");
}

struct Service {
    process: Child,
    address: String,
}

impl Service {
    fn start(config: &Path) -> Self {
        let mut process = example("service")
            .arg(config)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap();
        let address = address.strip_suffix("/restore").unwrap().to_owned();
        Self { process, address }
    }

    fn ask(&self, method: &str) -> String {
        self.ask_of(method, "/restore")
    }

    fn ask_of(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn until(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = self.ask("GET");
            if holds(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "never {what}: {answer}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Begun and stopped by request, begun and left to its end, and ended in the middle of a run.
async fn served(platform: &Platform, config: &Path) {
    let runs = || runs(platform);
    let mut service = Service::start(config);
    assert!(service.ask("GET").contains("404"));
    let before = runs();
    assert!(service.ask("POST").contains("202"));
    assert!(service.ask("POST").contains("409"));
    service.until("begun", |_| runs() > before);
    assert!(service.ask("DELETE").contains("202"));
    let ended = service.until("ended", |answer| !answer.contains("under way"));
    assert!(ended.contains("the platform is as it was"), "{ended}");
    platform.is_damaged("service, stopped");

    assert!(service.ask("POST").contains("202"));
    let ended = service.until("ended", |answer| !answer.contains("under way"));
    assert!(ended.contains("Restored and checked"), "{ended}");
    let events = service.ask_of("GET", "/restore/events");
    for told in ["run_started", "\"phase\":\"cut_over\"", "run_finished"] {
        assert!(events.contains(told), "{told} in {events}");
    }
    platform.is_restored("service").await;

    for signal in ["-INT", "-TERM"] {
        let before = runs();
        assert!(service.ask("POST").contains("202"));
        service.until("begun", |_| runs() > before);
        let pid = service.process.id().to_string();
        run(Command::new("kill").args([signal, &pid]));
        assert!(service.process.wait().unwrap().success());
        let report = platform.site().await.report(None).await.unwrap();
        assert_eq!(report.outcome, Outcome::Undone);
        platform.is_damaged("service, ended");
        service = Service::start(config);
    }
}
