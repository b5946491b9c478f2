//! Places that are gone wholly are made for a restore that was told so, and removed again where it is
//! taken back.

use std::os::unix::fs::PermissionsExt;

use restore_testing::{Sample, Share, assert_same};

use super::support::Whole;

/// What is gone, below the platform's root.
const GONE: [&str; 5] = [
    "volumes/grafana_data",
    "volumes/prometheus_data",
    "volumes/redis_data",
    "opt",
    "crontab",
];

/// A platform with a backup, of which volumes, trees, the crontab and the database are gone.
fn ruins() -> Whole {
    // What a backup leaves out on purpose goes with the tree that it is in.
    let whole = Whole::with(|hosting| {
        let tree = hosting.root().join("opt/applications/hosting-app");
        for left_out in [".git", "node_modules"] {
            std::fs::remove_dir_all(tree.join(left_out)).unwrap();
        }
        std::fs::remove_file(tree.join("npm-debug.log")).unwrap();
    });
    for service in ["app", "redis"] {
        whole.hosting.service(service, "stop");
    }
    for path in GONE {
        let path = whole.hosting.root().join(path);
        match path.is_dir() {
            true => std::fs::remove_dir_all(path).unwrap(),
            false => std::fs::remove_file(path).unwrap(),
        }
    }
    whole.sql("postgres", "DROP DATABASE hosting_db WITH (FORCE)");
    whole
}

fn is_restored(whole: &Whole, what: &str) {
    // What it was open to is in no backup: the new one is its owner's alone.
    let open = PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(whole.hosting.root().join("crontab"), open).unwrap();
    whole.is(&whole.at_backup, what);
}

/// Nothing of what was made is left.
fn is_gone(whole: &Whole, what: &str) {
    for path in GONE {
        let there = whole.hosting.root().join(path).exists();
        assert!(!there, "{what}: {path} is left");
    }
    let found = "SELECT count(*) FROM pg_database WHERE datname ~ 'hosting_db'";
    assert_eq!(whole.sql("postgres", found), "0", "{what}");
    whole.nothing_left(what);
}

/// Deletes what an undo had put aside, where it had to.
fn confirm(whole: &Whole) {
    let ran = whole.restore(&["confirm", "--yes"]);
    assert!([Some(0), Some(2)].contains(&ran.code), "{ran:?}");
}

#[test]
fn what_is_gone_is_made_and_removed_again() {
    let whole = ruins();
    let ran = whole.restore(&["plan", "latest"]).exits(4);
    assert!(ran.out.contains("restore run ID --create"), "{}", ran.out);
    whole.restore(&["run", "latest", "--yes"]).exits(4);
    is_gone(&whole, "refused");

    let ran = whole.restore(&["plan", "latest", "--create"]).exits(0);
    assert!(ran.out.contains("Absent, and will be made"), "{}", ran.out);
    for what in ["volumes/redis_data", "opt/scripts", "database hosting_db"] {
        assert!(ran.out.contains(what), "{what}: {}", ran.out);
    }
    assert!(ran.out.contains("latest --create` does this") || ran.out.contains("--create` does"));
    is_gone(&whole, "planned");

    let ran = whole
        .restore(&["run", "latest", "--create", "--yes", "--json"])
        .exits(0);
    is_restored(&whole, "restored from nothing");
    let report = ran.json()["report"].clone();
    let made = report["made"].as_array().unwrap();
    assert!(made.len() > GONE.len(), "{made:?}");
    assert!(made.iter().all(|it| it["removed"] == false), "{made:?}");
    let missing = report["safety"]["missing"].as_array().unwrap();
    let told = |name: &str| missing.iter().any(|it| it["name"] == name);
    for name in ["grafana", "redis", "scripts", "postgres"] {
        assert!(told(name), "{name}: {missing:?}");
    }

    whole.restore(&["rollback", "--yes"]).taken_back();
    confirm(&whole);
    is_gone(&whole, "rolled back");
    let ran = whole.restore(&["report", "--json"]).exits(0).json();
    let made = ran["report"]["made"].as_array().unwrap();
    assert!(made.iter().all(|it| it["removed"] == true), "{made:?}");
}

#[test]
fn killed_while_it_begins_from_nothing() {
    let whole = ruins();
    let steps = [
        "create:redis",
        "create:applications",
        "stage:postgres",
        "stage:grafana",
        "cut-over:postgres",
        "cut-over:applications",
        "start:app",
        "check:inside",
    ];
    let cases = steps
        .iter()
        .flat_map(|step| ["resume", "rollback"].map(|then| (*step, then)));
    let cases = Sample::of_this_run().choose(
        cases,
        |(step, then)| format!("{then} after {step}"),
        |(step, _)| step.split(':').next().unwrap_or_default().to_owned(),
        0,
        Share::WHOLE,
    );
    for (step, then) in cases {
        let what = format!("killed at {step}, {then}");
        println!("{what}");
        let mut running = whole.start(&["run", "latest", "--create", "--yes"]);
        running.until_step(step);
        running.signal("KILL");
        running.end();
        match then {
            "resume" => {
                whole.restore(&["resume"]).exits(0);
                is_restored(&whole, &what);
                whole.restore(&["rollback", "--yes"]).taken_back();
            }
            _ => {
                whole.restore(&["rollback", "--yes"]).taken_back();
            }
        }
        confirm(&whole);
        is_gone(&whole, &what);
    }
}

/// A server needs a cluster to start at all, and none is made for it: that is said, with the commands that
/// make one, and after them the dumps restore all of it.
#[test]
fn a_server_whose_cluster_is_gone_or_garbage_is_restored_by_the_commands_that_the_plan_names() {
    for gone in [true, false] {
        let whole = Whole::new();
        whole.hosting.service("app", "stop");
        whole.hosting.service("postgres", "stop");
        let data = whole.hosting.root().join("postgres/data");
        match gone {
            true => std::fs::remove_dir_all(&data).unwrap(),
            false => std::fs::write(data.join("global/pg_control"), [7; 8192]).unwrap(),
        }
        let ran = whole
            .restore(&["plan", "latest", "--create", "--json"])
            .exits(4)
            .json();
        let findings = ran["plan"]["findings"].as_array().unwrap();
        let mut refused = findings
            .iter()
            .filter(|it| it["code"] == "postgres.no_cluster");
        let refused = refused.next().unwrap_or_else(|| panic!("{findings:?}"));
        let why = refused["message"].as_str().unwrap();
        let state = match gone {
            true => "is not there",
            false => "does not start on its data directory",
        };
        assert!(why.contains(state), "{why}");
        let hint = refused["hint"].as_str().unwrap();
        let mut commands = hint.split('`').filter(|part| part.contains("/initdb -D"));
        let command = commands.next().unwrap_or_else(|| panic!("{hint}"));
        let shell = std::process::Command::new("sh")
            .args(["-ec", command])
            .output();
        let shell = shell.unwrap();
        assert!(shell.status.success(), "{command}: {shell:?}");
        assert_eq!(data.with_extension("broken").exists(), !gone);
        assert!(!data.with_extension("password").exists());

        let ran = whole
            .restore(&["run", "latest", "--create", "--yes", "--json"])
            .exits(0);
        let report = ran.json()["report"].clone();
        let made = report["made"].as_array().unwrap();
        let made = |what: &str| made.iter().any(|it| it["what"] == what);
        assert!(made("database hosting_db"), "{report}");
        // Another database that was in the cluster is no part of the backup.
        whole.sql("postgres", "CREATE DATABASE metrics_db");
        let now = whole.hosting.fingerprint();
        // Nor is a role that nothing in the dump needs made, so that its setting cannot be had: that is told.
        let told = report["findings"].as_array().unwrap();
        let mut lost = told
            .iter()
            .filter(|it| it["code"] == "postgres.properties_lost");
        let lost = lost.next().unwrap_or_else(|| panic!("{told:#?}"));
        assert!(
            lost["message"].as_str().unwrap().contains("hosting_app"),
            "{lost}"
        );
        let restored = |text: &str| -> String {
            let lines = text
                .lines()
                .take_while(|line| !line.starts_with("=== untouched"));
            let known = |line: &&str| {
                !line.starts_with("=== postgres ")
                    && *line != "setting hosting_app search_path=public, billing"
            };
            lines
                .filter(known)
                .map(|line| format!("{line}\n"))
                .collect()
        };
        let (wanted, now) = (restored(&whole.at_backup), restored(&now));
        assert!(wanted.contains("=== crontab "), "{wanted}");
        assert_same(&wanted, &now, "restored into a new cluster");
        whole.restore(&["confirm", "--yes"]).exits(0);
    }
}
