//! Places that are gone wholly are made for a restore that was told so, and removed again where it is
//! taken back.

use std::os::unix::fs::PermissionsExt;

use restore_testing::{Sample, Share};

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
    let typed = format!("`restore run {} --create`", whole.id);
    assert!(ran.out.contains(&typed), "{}", ran.out);
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
