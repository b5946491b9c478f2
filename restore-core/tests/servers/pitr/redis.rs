//! A cache that comes to the databases' moment along its live append-only file, and one that

//! cannot.

use std::process::Command;
use std::time::Duration;

use restore_core::{BackupRequest, RunOptions};
use restore_testing::pitr::{Ground, to_time};

use super::codes;

fn sections(timestamps: &str) -> String {
    format!(
        r#"
[services.redis]
command = ["redis-server", "@/redis.conf"]
endpoint = "@/redis:6379"
stop_signal = "SIGTERM"

[volumes.redis_data]
path = "redis"

[components.redis]
kind = "redis"
service = "redis"
volume = "redis_data"
#timestamps {timestamps}
"#
    )
}

async fn ground(timestamps: &str) -> Ground {
    let ground = Ground::with("", &sections(timestamps)).await;
    let root = ground.root().display().to_string();
    let config = std::fs::read_to_string(ground.config()).unwrap();
    std::fs::write(ground.config(), config.replace('@', &root)).unwrap();
    std::fs::create_dir(ground.path("redis")).unwrap();
    std::fs::write(
        ground.path("redis.conf"),
        format!(
            "port 0\nunixsocket {root}/redis/redis.sock\ndir {root}/redis\nappendonly yes\n\
             appendfsync always\nsave \"\"\naof-timestamp-enabled {timestamps}\n"
        ),
    )
    .unwrap();
    let site = ground.site().await;
    site.platform().scale("redis", 1).await.unwrap();
    ground
}

fn redis(ground: &Ground, words: &[&str]) -> String {
    let socket = ground.path("redis/redis.sock");
    for _ in 0..100 {
        let out = Command::new("redis-cli")
            .arg("-s")
            .arg(&socket)
            .args(words)
            .output()
            .unwrap();
        if out.status.success() && !out.stdout.starts_with(b"LOADING") {
            return String::from_utf8(out.stdout).unwrap().trim().to_owned();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{words:?}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_of_another_time_is_a_choice() {
    for timestamps in ["yes", "no"] {
        let ground = ground(timestamps).await;
        ground.write(1);
        redis(&ground, &["SET", "one", "1"]);
        let backup = ground
            .site()
            .await
            .back_up(BackupRequest::all().base(true), RunOptions::new())
            .await
            .unwrap();
        assert!(backup.missing.is_empty());
        std::thread::sleep(Duration::from_millis(2200));
        ground.write(2);
        redis(&ground, &["SET", "two", "2"]);
        std::thread::sleep(Duration::from_millis(1100));
        let here = ground.write(2);
        std::thread::sleep(Duration::from_millis(1100));
        ground.write(3);
        redis(&ground, &["FLUSHALL"]);
        ground.archive();

        let plan = ground.plan(to_time(&here.time)).await;
        let request = match timestamps {
            "yes" => {
                assert!(codes(&plan).is_empty(), "{:?}", plan.findings);
                to_time(&here.time)
            }
            _ => {
                assert_eq!(codes(&plan), ["plan.time_gap"], "{:?}", plan.findings);
                let message = &plan.errors().next().unwrap().message;
                assert!(message.contains(" s before the databases'"), "{message}");
                to_time(&here.time).allow_time_gap(true)
            }
        };
        ground.run(request).await;
        assert_eq!(ground.rows().0, "1 2 2");
        let keys = redis(&ground, &["DBSIZE"]);
        assert_eq!(
            keys,
            if timestamps == "yes" { "2" } else { "1" },
            "{timestamps}"
        );
        ground.back().await;
        assert_eq!(redis(&ground, &["DBSIZE"]), "0");
        if timestamps == "yes" {
            turned_off(&ground).await;
        } else {
            led_elsewhere(&ground).await;
        }
    }
}

/// What is backed up is where the site says, and not where somebody else leads who owns the directory above.
async fn led_elsewhere(ground: &Ground) {
    let theirs = ground.path("theirs");
    std::fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::symlink("../redis", theirs.join("redis")).unwrap();
    std::os::unix::fs::chown(&theirs, Some(65_533), Some(65_533)).unwrap();
    let config = std::fs::read_to_string(ground.config()).unwrap();
    let path = "path = \"redis\"";
    assert!(config.contains(path), "{config}");
    let config = config.replace(path, "path = \"theirs/redis\"");
    std::fs::write(ground.config(), config).unwrap();
    let request = BackupRequest::all().only(["redis"]);
    let site = ground.site().await;
    let made = site.back_up(request, RunOptions::new()).await;
    let error = made.err().unwrap();
    assert_eq!(error.code(), "path.untrusted", "{error}");
}

/// Timestamps that are not written any more are of another time than the commands behind them.
async fn turned_off(ground: &Ground) {
    let here = ground.write(4);
    ground.write(5);
    ground.archive();
    let refused = async || {
        let plan = ground.plan(to_time(&here.time)).await;
        codes(&plan).join(" ")
    };
    assert_eq!(refused().await, "");
    redis(ground, &["CONFIG", "SET", "aof-timestamp-enabled", "no"]);
    assert_eq!(refused().await, "plan.time_gap");
    // With the server down the file tells: written to after the moment without a timestamp of it.
    let site = ground.site().await;
    site.platform().scale("redis", 0).await.unwrap();
    let written = |ago: &str| {
        let script = r#"touch -d "$2" "$1"/redis/appendonlydir/*.incr.aof"#;
        let root = ground.root();
        let done = Command::new("sh")
            .args(["-ec", script, "x", root.to_str().unwrap(), ago])
            .status();
        assert!(done.unwrap().success());
    };
    written("1 minute");
    assert_eq!(refused().await, "plan.time_gap");
    written("1 minute ago");
    assert_eq!(refused().await, "");
}
