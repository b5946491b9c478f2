//! Hooks of a real platform: what a command sees of it, and what a webhook hears.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::support::Whole;

/// What was posted to a server that lives as long as this process.
fn listen() -> (u16, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard: Arc<Mutex<Vec<Value>>> = Arc::default();
    let posted = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut text, mut chunk) = (Vec::new(), [0; 8192]);
            let body = loop {
                let read = stream.read(&mut chunk).unwrap();
                text.extend_from_slice(&chunk[..read]);
                let shown = String::from_utf8_lossy(&text);
                let body = shown.split_once("\r\n\r\n").map(|(_, body)| body);
                if let Some(Ok(body)) = body.map(serde_json::from_str) {
                    break body;
                }
                assert!(read > 0, "no document: {shown}");
            };
            posted.lock().unwrap().push(body);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        }
    });
    (port, heard)
}

#[test]
fn they_turn_a_run_back_unnoticed_and_tell_what_became_of_it() {
    let whole = Whole::new();
    let (port, heard) = listen();
    let root = whole.hosting.root().display().to_string();
    whole.configure(|text| {
        format!(
            r#"{text}
[hooks.gate]
kind = "command"
when = ["before-stop"]
command = ["/bin/sh", "-c", "test -e {root}/gate-open || {{ echo 'the gate is shut' >&2; exit 1; }}"]
[hooks.swapped]
kind = "command"
when = ["after-swap", "after-start"]
command = ["/bin/sh", "-c", "cat >{root}/hook-$RESTORE_WHEN.json"]
[hooks.tell]
kind = "webhook"
when = ["on-success", "on-failure"]
url = "http://127.0.0.1:{port}/told"
"#
        )
    });
    whole.restore(&["config", "check"]).exits(0);
    let live = whole.damaged();
    let plan = whole.restore(&["plan", &whole.id]).taken_back().out;
    assert!(plan.contains("call the hook gate (before-stop)"), "{plan}");

    let ran = whole.restore(&["run", &whole.id, "--yes"]).exits(5);
    let ran = ran.says(&["the gate is shut", "[hooks.gate]"]);
    assert!(!ran.out.contains("stop app"), "{}", ran.out);
    let report = whole.restore(&["report", "--json"]).exits(0).json()["report"].clone();
    assert!(report["downtime_seconds"].is_null(), "{report}");
    whole.is(&live, "kept out by a hook");
    whole.nothing_left("kept out by a hook");
    let told = heard.lock().unwrap().pop().unwrap();
    assert_eq!(told["when"], "on-failure");
    assert_eq!(told["report"]["failure"]["step"], "hook:before-stop:gate");

    std::fs::write(whole.hosting.root().join("gate-open"), "").unwrap();
    whole.restore(&["run", &whole.id, "--yes"]).exits(0);
    let told = heard.lock().unwrap().pop().unwrap();
    assert_eq!(
        (&told["when"], &told["subject"]),
        (&"on-success".into(), &"run".into())
    );
    assert_eq!(told["report"]["outcome"], "restored");
    for when in ["after-swap", "after-start"] {
        let path = whole.hosting.root().join(format!("hook-{when}.json"));
        let told: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(told["when"], when);
        std::fs::remove_file(path).unwrap();
    }

    whole.restore(&["drill", &whole.id]).exits(0);
    whole.restore(&["backup"]).exits(0);
    let told: Vec<Value> = heard.lock().unwrap().drain(..).collect();
    let subjects: Vec<&str> = told
        .iter()
        .map(|it| it["subject"].as_str().unwrap())
        .collect();
    assert_eq!(subjects, ["drill", "backup"]);
    assert_eq!(told[0]["report"]["outcome"], "drilled");
    assert!(
        told[1]["backup"]["files"].as_u64() > Some(10),
        "{}",
        told[1]
    );
    // No password of the platform is in what was told.
    for told in &told {
        let text = told.to_string();
        for secret in ["postgres.pass", "redis.pass"] {
            let path = whole.hosting.root().join("secrets").join(secret);
            let secret = std::fs::read_to_string(path).unwrap();
            assert!(!text.contains(secret.trim()), "{text}");
        }
    }

    // One that nobody made: the timer's mail is not all that tells.
    std::fs::remove_file(whole.artifact("postgres/postgres", ".dump").1).unwrap();
    whole.restore(&["drill", &whole.id]).exits(3);
    let told = heard.lock().unwrap().pop().unwrap();
    assert_eq!(
        (&told["when"], &told["subject"]),
        (&"on-failure".into(), &"drill".into())
    );
    assert!(told["error"]["message"].is_string(), "{told}");
}
