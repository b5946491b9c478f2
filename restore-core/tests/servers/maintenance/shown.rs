//! What users see while it is on: the page on every name, and nothing but it.

use std::time::Duration;

use restore_core::run::RunId;
use restore_core::{Timestamp, check};
use restore_testing::local::Ground;
use serde_json::json;

use super::web::{Prober, TWO_SITES, Web, get, is_page};

/// Names have servers of their own, and there is a default server already. The moment
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

#[tokio::test(flavor = "multi_thread")]
async fn the_page_survives_a_restart_of_nginx() {
    let web = Web::start(TWO_SITES).await;
    let run = RunId::generate();
    web.maintenance.on(&run, Timestamp::now()).await.unwrap();
    web.platform.scale("nginx", 0).await.unwrap();
    web.platform.scale("nginx", 1).await.unwrap();
    web.is_up().await;
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
async fn https_keeps_each_names_certificate() {
    let sites = "
server { listen A ssl http2 default_server reuseport backlog=512; server_name a.example; ssl_certificate @/a.pem; ssl_certificate_key @/a.key; return 200 'app a'; }
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
            .run(Timestamp::now(), check::RetryMode::UntilDeadline)
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
