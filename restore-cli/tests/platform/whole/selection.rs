//! Parts of a backup.

use std::process::Command;
use std::time::{Duration, Instant};

use super::support::{PATIENCE, Whole};

/// The pids that the platform's own pid files name: a service that was stopped has another.
fn pids(whole: &Whole) -> Vec<String> {
    let read = |name: &str| {
        let path = whole.hosting.root().join(name);
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().next().unwrap().to_owned()
    };
    [
        "postgres/data/postmaster.pid",
        "run/redis/redis.pid",
        "run/nginx.pid",
        "run/app.pid",
    ]
    .map(read)
    .to_vec()
}

fn section<'a>(fingerprint: &'a str, name: &str) -> &'a str {
    let start = fingerprint.find(&format!("=== {name} ")).unwrap();
    let rest = fingerprint.get(start..).unwrap();
    let end = rest
        .get(4..)
        .unwrap()
        .find("\n=== ")
        .map_or(rest.len(), |at| at + 5);
    rest.get(..end).unwrap()
}

/// nginx's children.
fn workers(pids: &[String]) -> String {
    let found = Command::new("pgrep")
        .args(["-P", &pids[2]])
        .output()
        .unwrap();
    restore_testing::text(&found)
}

#[test]
fn only_what_was_asked_for() {
    let whole = Whole::new();
    let damaged = whole.damaged();
    let before = pids(&whole);

    // Words that name nothing.
    whole
        .restore(&["run", "latest", "--yes", "--only", "postgres,rediss"])
        .exits(2)
        .says(&["\"rediss\"", "hint: it has postgres, redis"]);
    whole
        .restore(&[
            "run",
            "latest",
            "--yes",
            "--path",
            "mnt/nfs/ngix/conf.d/app.conf",
        ])
        .exits(2)
        .says(&["mnt/nfs/ngix/conf.d/app.conf", "mnt/nfs/nginx"]);
    let typo = "mnt/nfs/nginx/conf.d/ap.conf";
    whole
        .restore(&["run", "latest", "--yes", "--path", typo])
        .exits(4)
        .says(&[
            "ap.conf",
            &format!("nginx-config-{}.tar.gz", whole.id),
            "hint: ",
        ]);
    whole.is(&damaged, "refused");
    whole.nothing_left("refused");

    let old_workers = workers(&before);

    // One file: nothing is stopped, nginx works by it.
    let root = whole.hosting.root();
    let app_conf = root.join("mnt/nfs/nginx/conf.d/app.conf");
    let lost = std::fs::read_to_string(&app_conf).unwrap();
    assert!(!lost.contains("location /static"));
    let path = "mnt/nfs/nginx/conf.d/app.conf";
    let ran = whole.restore(&["run", "latest", "--yes", "--path", path, "--json"]);
    let report = ran.exits(8).json()["report"].clone();
    assert_eq!(report["services"].as_object().unwrap().len(), 0);
    assert!(report["downtime_seconds"].is_null(), "{report}");
    assert_eq!(pids(&whole), before, "something was stopped");
    let archive = whole.artifact("configs/nginx-config", ".tar.gz").1;
    let mut tar = Command::new("tar");
    let wanted = restore_testing::run(tar.arg("xzfO").arg(archive).arg(path));
    assert_eq!(std::fs::read(&app_conf).unwrap(), wanted.stdout);
    let other = root.join("mnt/nfs/nginx/conf.d/limits.conf");
    assert!(!other.exists(), "another file was restored");
    // nginx reads its configuration anew with new workers, a moment after it was told to.
    let deadline = Instant::now() + PATIENCE;
    while workers(&before) == old_workers {
        assert!(Instant::now() < deadline, "nginx was not reloaded");
        std::thread::sleep(Duration::from_millis(10));
    }
    whole.restore(&["rollback", "--yes"]).taken_back();
    whole.is(&damaged, "one file rolled back");
    whole.restore(&["confirm", "--yes"]).exits(0);
    whole.nothing_left("one file");

    // Two components.
    let ran = whole.restore(&["run", "latest", "--yes", "--only", "postgres,redis"]);
    ran.exits(0);
    let now = whole.hosting.fingerprint();
    for name in now.lines().filter_map(|line| line.strip_prefix("=== ")) {
        let name = name.split(' ').next().unwrap();
        let wanted = match name {
            "postgres" | "redis" => &whole.at_backup,
            _ => &damaged,
        };
        assert_eq!(section(&now, name), section(wanted, name), "{name}");
    }
    let after = pids(&whole);
    assert_eq!(after[0], before[0], "PostgreSQL was stopped");
    assert_eq!(after[2], before[2], "nginx was stopped");
    assert_ne!(after[1], before[1], "Redis was not stopped");
    assert_ne!(after[3], before[3], "the application was not stopped");
    whole.restore(&["confirm", "--yes"]).exits(0);
    whole.nothing_left("two components");
}

/// What is empty takes the place of live data only where somebody says so.
#[test]
fn an_empty_archive_needs_a_word() {
    let whole = Whole::new();
    let live = whole.hosting.fingerprint();
    let (name, path) = whole.artifact("volumes/grafana", ".tar.gz");
    whole.shell(
        r#"mkdir "$root/nothing" && tar -C "$root/nothing" -czf "$1" . && rmdir "$root/nothing""#,
        &[path.to_str().unwrap()],
    );
    whole.list_in_manifest(&name);
    let run = ["run", "latest", "--only", "grafana", "--yes"];
    let ran = whole.restore(&run).exits(4);
    assert!(
        format!("{}{}", ran.out, ran.err).contains("--allow-empty grafana"),
        "{ran:?}"
    );
    whole.is(&live, "refused by the plan");
    let said = [&run[..], &["--allow-empty", "grafana"]].concat();
    whole.restore(&said).restored();
    let files = whole.shell(
        r#"find "$root/volumes/grafana_data" -mindepth 1 ! -path '*/.restore-*' | wc -l"#,
        &[],
    );
    assert_eq!(files.trim(), "0");
    whole.restore(&["rollback", "--yes"]).taken_back();
    whole.is(&live, "rolled back");
    whole.restore(&["confirm", "--yes"]).exits(0);
    whole.nothing_left("in the end");
}
