//! Checks against real servers.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use restore_core::check::{self, Check, RetryMode, When};
use restore_core::component::CheckOutcome;
use restore_core::platform::Platform;
use restore_core::{Error, Timestamp};
use restore_testing::local::{Ground, free_port, until};
use serde_json::{Value, json};

fn make(
    ground: &Ground,
    platform: &Arc<dyn Platform>,
    table: &Value,
) -> Result<Arc<dyn Check>, Error> {
    check::make("it", table, platform, ground.path())
}

async fn run(ground: &Ground, platform: &Arc<dyn Platform>, table: Value) -> CheckOutcome {
    let outcome = make(ground, platform, &table)
        .unwrap()
        .run(Timestamp::now(), RetryMode::UntilDeadline)
        .await;
    assert_eq!(outcome.name, "it");
    assert!(!outcome.detail.contains('\n'), "{outcome:?}");
    outcome
}

/// Answers each connection with `answer`, in which HOST is the request's own.
fn serve(listener: TcpListener, answer: &'static str) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..read]).to_lowercase();
            let host = request
                .lines()
                .find_map(|line| line.strip_prefix("host: "))
                .unwrap_or("none");
            let _ = stream.write_all(answer.replace("HOST", host).as_bytes());
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn http_looks_at_status_host_and_body() {
    let ground = Ground::new();
    let platform = ground.platform("");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/health", listener.local_addr().unwrap());
    serve(
        listener,
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello HOST",
    );
    let outcome = run(
        &ground,
        &platform,
        json!({"kind": "http", "url": url, "host": "www.example.org", "contains": "hello www.example.org"}),
    )
    .await;
    assert!(outcome.passed, "{outcome:?}");
    let outcome = run(
        &ground,
        &platform,
        json!({"kind": "http", "url": url, "contains": "goodbye", "timeout": "300ms"}),
    )
    .await;
    assert!(!outcome.passed);
    assert!(
        outcome.detail.contains("do not contain \"goodbye\""),
        "{outcome:?}"
    );

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    serve(
        listener,
        "HTTP/1.1 301 Moved\r\nLocation: https://else.where/\r\nContent-Length: 0\r\n\r\n",
    );
    let outcome = run(
        &ground,
        &platform,
        json!({"kind": "http", "url": url, "timeout": "300ms"}),
    )
    .await;
    assert!(!outcome.passed);
    assert!(
        outcome
            .detail
            .contains("answered 301 to https://else.where/ instead of 200"),
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn http_waits_for_a_late_server_and_not_for_a_dead_one() {
    let ground = Ground::new();
    let platform = ground.platform("");
    let port = free_port();
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        serve(
            TcpListener::bind(("127.0.0.1", port)).unwrap(),
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        );
    });
    let url = format!("http://127.0.0.1:{port}/");
    let outcome = run(&ground, &platform, json!({"kind": "http", "url": url})).await;
    assert!(outcome.passed, "{outcome:?}");
    late.join().unwrap();

    let url = format!("http://127.0.0.1:{}/", free_port());
    let outcome = run(
        &ground,
        &platform,
        json!({"kind": "http", "url": url, "timeout": "400ms"}),
    )
    .await;
    assert!(
        !outcome.passed && outcome.detail.contains("refused"),
        "{outcome:?}"
    );

    // Accepts and never says a word.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", deaf.local_addr().unwrap());
    let begun = Instant::now();
    let outcome = run(
        &ground,
        &platform,
        json!({"kind": "http", "url": url, "timeout": "400ms"}),
    )
    .await;
    assert!(
        !outcome.passed && outcome.detail.contains("no answer"),
        "{outcome:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn what_is_not_understood_is_refused() {
    let ground = Ground::new();
    let platform = ground.platform("");
    for (table, says) in [
        (json!({"kind": "htp", "url": "http://x"}), "unknown kind"),
        (
            json!({"kind": "sql", "service": "db", "user": "u", "database": "d", "query": "SELECT 1",
                   "password_file": "a", "password_env": "B"}),
            "names a secret twice",
        ),
        (
            json!({"kind": "http", "url": "ftp://x/"}),
            "neither http nor",
        ),
        (json!({"kind": "http", "url": "http://u:p@x/"}), "password"),
        (
            json!({"kind": "http", "url": "http://x/", "contain": "y"}),
            "`contain`",
        ),
        (
            json!({"kind": "log", "service": "x", "forbid": [""]}),
            "`forbid`",
        ),
        (json!({"kind": "sql", "service": "x"}), "`database`"),
    ] {
        let error = make(&ground, &platform, &table).err().unwrap();
        assert!(error.message().contains(says), "{error}");
    }
    let at = |table: Value| make(&ground, &platform, &table).unwrap().when();
    assert_eq!(
        at(json!({"kind": "http", "url": "http://x/"})),
        When::AfterTraffic
    );
    assert_eq!(
        at(json!({"kind": "process", "service": "x"})),
        When::BeforeTraffic
    );
    assert_eq!(
        at(json!({"kind": "http", "url": "http://x/", "when": "before-traffic"})),
        When::BeforeTraffic
    );
    let outcome = run(
        &ground,
        &platform,
        json!({"kind": "process", "service": "nobody"}),
    )
    .await;
    assert!(
        !outcome.passed && outcome.detail.contains("nobody"),
        "{outcome:?}"
    );
}

/// A file that only we can read.
fn secret(ground: &Ground, name: &str, content: &str) {
    let path = ground.file(name, content);
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, closed).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_compares_the_first_value() {
    let ground = Ground::new();
    let port = free_port();
    let bin = "/usr/lib/postgresql/15/bin";
    let dir = ground.path().display().to_string();
    secret(&ground, "password", "pa ss'word\n");
    ground.file("for-initdb", "pa ss'word\n");
    let init = format!(
        "mkdir {dir}/pg && chown postgres {dir}/pg && runuser -u postgres -- {bin}/initdb -D {dir}/pg \
         -U owner --pwfile={dir}/for-initdb -A scram-sha-256 --no-sync"
    );
    let made = std::process::Command::new("sh")
        .args(["-ec", &init])
        .current_dir("/")
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    let platform = ground.platform(&format!(
        r#"
[services.pg]
command = ["{bin}/postgres", "-D", "@/pg", "-p", "{port}", "-k", "@/pg"]
user = "postgres"
endpoint = "@/pg:{port}"
stop_signal = "SIGINT"
"#
    ));
    let sql = |query: &str, expect: Option<&str>| {
        let mut table = json!({
            "kind": "sql", "service": "pg", "database": "postgres", "user": "owner",
            "password_file": "password", "query": query, "timeout": "10s",
        });
        if let Some(expect) = expect {
            table["expect"] = expect.into();
        }
        table
    };
    // It starts while the check is under way already.
    let starting = platform.clone();
    let start = tokio::spawn(async move { starting.scale("pg", 1).await });
    let outcome = run(
        &ground,
        &platform,
        sql("SELECT count(*) > 0 FROM pg_class", Some("t")),
    )
    .await;
    assert!(outcome.passed, "{outcome:?}");
    start.await.unwrap().unwrap();

    let begun = Instant::now();
    let outcome = run(&ground, &platform, sql("SELECT 1, 2", Some("2"))).await;
    assert!(!outcome.passed);
    assert_eq!(outcome.detail, "the query gave \"1\" instead of \"2\"");
    let outcome = run(&ground, &platform, sql("SELECT 1 WHERE false", None)).await;
    assert_eq!(
        (outcome.passed, &*outcome.detail),
        (false, "the query gave no row")
    );
    let outcome = run(&ground, &platform, sql("SELECT null", None)).await;
    assert_eq!(
        (outcome.passed, &*outcome.detail),
        (false, "the query gave null")
    );
    let outcome = run(&ground, &platform, sql("SELECT x FROM no_such_table", None)).await;
    assert!(
        outcome.detail.contains("\"no_such_table\" does not exist"),
        "{outcome:?}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "answers are final"
    );

    let mut wrong = sql("SELECT 1", None);
    secret(&ground, "wrong", "hunter2");
    wrong["password_file"] = "wrong".into();
    wrong["timeout"] = "2s".into();
    let outcome = run(&ground, &platform, wrong).await;
    assert!(
        outcome.detail.contains("password authentication failed"),
        "{outcome:?}"
    );
    assert!(!outcome.detail.contains("hunter2"));
    platform.scale("pg", 0).await.unwrap();
    let mut gone = sql("SELECT 1", None);
    gone["timeout"] = "300ms".into();
    let outcome = run(&ground, &platform, gone).await;
    assert!(
        !outcome.passed && outcome.detail.contains("cannot connect"),
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_answers_and_holds_keys() {
    let ground = Ground::new();
    let port = free_port();
    secret(&ground, "password", "sesame\n");
    ground.file(
        "redis.conf",
        &format!(
            "port {port}\nbind 127.0.0.1\nrequirepass sesame\ndir {}\nsave \"\"\n",
            ground.path().display()
        ),
    );
    let platform = ground.platform(&format!(
        r#"
[services.redis]
command = ["redis-server", "@/redis.conf"]
endpoint = "127.0.0.1:{port}"
ready = "tcp"
"#
    ));
    platform.scale("redis", 1).await.unwrap();
    let filled = std::process::Command::new("redis-cli")
        .args(["-p", &port.to_string()])
        .env("REDISCLI_AUTH", "sesame")
        .args(["mset", "a", "1", "b", "2"])
        .output()
        .unwrap();
    assert!(filled.status.success());
    let redis = |extra: Value| {
        let mut table = json!({"kind": "redis", "service": "redis", "password_file": "password", "timeout": "2s"});
        table
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        table
    };
    let outcome = run(
        &ground,
        &platform,
        redis(json!({"min_keys": 2, "key": "b"})),
    )
    .await;
    assert_eq!(
        (outcome.passed, &*outcome.detail),
        (true, "redis answers and holds 2 keys")
    );
    let outcome = run(&ground, &platform, redis(json!({"min_keys": 3}))).await;
    assert_eq!(
        (outcome.passed, &*outcome.detail),
        (false, "redis holds 2 keys, fewer than 3")
    );
    let outcome = run(&ground, &platform, redis(json!({"key": "c"}))).await;
    assert!(
        !outcome.passed && outcome.detail.contains("\"c\""),
        "{outcome:?}"
    );
    let open = json!({"kind": "redis", "service": "redis", "timeout": "1s"});
    let outcome = run(&ground, &platform, open).await;
    assert!(
        !outcome.passed && outcome.detail.contains("NOAUTH"),
        "{outcome:?}"
    );
    platform.scale("redis", 0).await.unwrap();
    let outcome = run(&ground, &platform, redis(json!({"timeout": "300ms"}))).await;
    assert!(
        !outcome.passed && outcome.detail.contains("refused"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_process_must_run_and_its_log_be_clean() {
    let ground = Ground::new();
    ground.file("state/services/app.log", "ERROR of yesterday\n");
    let platform = ground.platform(
        r#"
[services.app]
command = ["sh", "-c", "echo fine; echo ERROR at start; while :; do sleep 0.02; done # @"]
"#,
    );
    let process = json!({"kind": "process", "service": "app", "timeout": "1s"});
    let outcome = run(&ground, &platform, process.clone()).await;
    assert!(!outcome.passed);
    assert!(outcome.detail.starts_with("app: 0 of 1 run"), "{outcome:?}");
    let log = json!({"kind": "log", "service": "app", "forbid": ["ERROR", "FATAL"]});
    let since = Timestamp::now();
    let before = make(&ground, &platform, &log)
        .unwrap()
        .run(since, RetryMode::UntilDeadline)
        .await;
    assert!(before.passed, "{before:?}");

    platform.scale("app", 1).await.unwrap();
    until("it has spoken", || {
        ground.read("state/services/app.log").contains("at start")
    })
    .await;
    let outcome = run(&ground, &platform, process).await;
    assert!(outcome.passed, "{outcome:?}");
    let after = make(&ground, &platform, &log)
        .unwrap()
        .run(since, RetryMode::UntilDeadline)
        .await;
    assert_eq!(
        (after.passed, &*after.detail),
        (
            false,
            "1 of 2 lines of app complain, at most 0 may; the last: ERROR at start"
        )
    );
    let mut lenient = log;
    lenient["max"] = 1.into();
    let after = make(&ground, &platform, &lenient)
        .unwrap()
        .run(since, RetryMode::UntilDeadline)
        .await;
    assert!(after.passed, "{after:?}");
    platform.scale("app", 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_says_that_it_works() {
    let ground = Ground::new();
    let platform =
        ground.platform("[services.app]\nstart = ['true']\nstop = ['true']\nstatus = ['true']\n");
    let command =
        |script: &str| json!({"kind": "command", "command": ["sh", "-c", script], "timeout": "1s"});
    let outcome = run(&ground, &platform, command("exit 0")).await;
    assert_eq!(
        (outcome.passed, &*outcome.detail),
        (true, "sh ended with exit code 0")
    );
    let outcome = run(&ground, &platform, command("echo no way >&2; exit 3")).await;
    assert!(!outcome.passed);
    assert!(
        outcome.detail.contains("exit code 3: no way"),
        "{outcome:?}"
    );
    let mut asked = command("echo PONG; head -c 3000000 /dev/zero");
    asked["contains"] = "PONG".into();
    asked["service"] = "app".into();
    let outcome = run(&ground, &platform, asked.clone()).await;
    assert_eq!(
        (outcome.passed, &*outcome.detail),
        (true, "sh says \"PONG\"")
    );
    asked["contains"] = "PING".into();
    assert!(!run(&ground, &platform, asked).await.passed);

    // Tried until it works, and never longer than its deadline.
    let flag = ground.path().join("flag");
    let begun = Instant::now();
    let slow = format!("test -e {0} || {{ touch {0}; exit 1; }}", flag.display());
    assert!(run(&ground, &platform, command(&slow)).await.passed);
    let outcome = run(&ground, &platform, command("sleep 60")).await;
    assert!(
        !outcome.passed && begun.elapsed() < Duration::from_secs(20),
        "{outcome:?}"
    );
    let error = make(
        &ground,
        &platform,
        &json!({"kind": "command", "command": []}),
    );
    assert!(error.err().unwrap().message().contains("`command`"));
}
