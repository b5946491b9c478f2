//! The copy of what is live that each run makes first, and the deletion of old copies.

use serde_json::Value;

use super::support::{Ran, Whole};

fn report(ran: &Ran) -> Value {
    ran.json()["report"].clone()
}

/// The ids of safety backups, with whether each is finished.
fn safety_backups(whole: &Whole) -> Vec<(String, bool)> {
    let list = whole.restore(&["list", "--json"]).exits(0).json();
    let rows = list["backups"].as_array().unwrap().clone();
    rows.iter()
        .filter(|row| row["summary"]["safety"] == true)
        .map(|row| {
            let unfinished = row["summary"]["generation"] == "unfinished";
            (row["id"].as_str().unwrap().to_owned(), !unfinished)
        })
        .collect()
}

/// The safety backup exists and restores.
#[test]
fn a_run_puts_a_copy_aside_that_restores() {
    let whole = Whole::new();
    // Another state than the backup's, but one in which the platform works.
    whole.sql(
        "hosting_db",
        "UPDATE users SET name = 'changed ' || id; CREATE TABLE since (n int); INSERT INTO since VALUES (1);",
    );
    whole.shell(
        "load_platform; redis_ SET only:now 1; rm -rf \"$root/mnt/nfs/monitoring\"
         echo since >\"$root/volumes/grafana_data/since\"; echo '# since' >>\"$root/crontab\"
         echo '# since' >>\"$root/mnt/nfs/nginx/conf.d/app.conf\"
         install -m 4755 /bin/true \"$root/volumes/prometheus_data/new-program\"",
        &[],
    );
    // A program of root's powers, which a restore lets in only where the site allows it: said in time.
    let ran = whole.restore(&["backup", "--only", "prometheus"]).exits(0);
    assert!(
        ran.out.contains("a restore would refuse") && ran.out.contains("allow_setuid"),
        "{}",
        ran.out
    );
    let program = "volumes/prometheus_data/new-program";
    std::fs::remove_file(whole.hosting.root().join(program)).unwrap();
    let before_run = whole.hosting.fingerprint();
    let ran = whole
        .restore(&["run", &whole.id, "--yes", "--json"])
        .exits(0);
    let made = report(&ran)["safety"].clone();
    let id = made["id"].as_str().unwrap();
    // What the damage has taken away wholly cannot be in a copy; it does not hold the restore.
    let missing: Vec<&str> = made["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(missing, ["prometheus-config"], "{made}");
    assert!(ran.err.contains("not in the safety backup"), "{}", ran.err);
    assert_eq!(safety_backups(&whole), [(id.to_owned(), true)]);
    whole.restore(&["verify", id, "--deep"]).exits(0);
    // Its archives are compressed for speed, and whatever reads backups finds them by these names too.
    let shown = whole.restore(&["show", id]).exits(0).out;
    for (name, there) in [
        (format!("volumes/grafana-{id}.tar.zst"), true),
        (format!("postgres/postgres-{id}.dump"), true),
        (format!("postgres/postgres-{id}.sql"), false),
        (format!("volumes/grafana-{id}.tar.gz"), false),
    ] {
        assert_eq!(shown.contains(&name), there, "{name}: {shown}");
    }
    let files = whole.restore(&["show", id, "--files", "--only", "grafana"]);
    let files = files.exits(0).out;
    assert!(files.contains("grafana/since"), "{files}");
    let out = whole.hosting.work().join("gotten");
    let to = out.to_str().unwrap();
    whole
        .restore(&["get", id, "grafana/since", "--to", to])
        .exits(0);
    assert_eq!(
        std::fs::read_to_string(out.join("grafana/since")).unwrap(),
        "since\n"
    );
    let list = whole.restore(&["list"]).exits(0).out;
    let row = list.lines().find(|line| line.starts_with(id)).unwrap();
    assert!(row.contains("safety") && row.ends_with("yes"), "{row}");
    let text = whole.restore(&["report"]).exits(0).out;
    assert!(text.contains(&format!("Safety backup: {id} in ")), "{text}");
    assert!(text.contains("without prometheus-config"), "{text}");

    // Accepted, and then regretted: the copy is the way back that is left.
    whole.restore(&["confirm", "--yes"]).exits(0);
    let plan = ["plan", id, "--diff", "--only", "grafana"];
    let plan = whole.restore(&plan).exits(0).out;
    assert!(
        plan.contains("What would change") && plan.contains("since"),
        "{plan}"
    );
    whole
        .restore(&["run", id, "--yes"])
        .exits(4)
        .says(&["--allow-missing prometheus-config"]);
    let without = ["--allow-missing", "prometheus-config"];
    whole
        .restore(&["run", id, "--yes", without[0], without[1]])
        .restored();
    let now = whole.hosting.fingerprint();
    for section in before_run.split("=== ").filter(|it| !it.is_empty()) {
        if !section.starts_with("prometheus-config ") {
            assert!(now.contains(section), "not as before the run: {section}");
        }
    }
    whole.restore(&["confirm", "--yes"]).exits(0);

    // Without one where nobody wants it, which says what that means.
    let before = safety_backups(&whole).len();
    let plan = whole.restore(&["plan", &whole.id]).exits(0).out;
    assert!(plan.contains("1. back up what is live now"), "{plan}");
    let plan = whole
        .restore(&["plan", &whole.id, "--no-safety-backup"])
        .exits(0)
        .out;
    assert!(!plan.contains("back up what is live now"), "{plan}");
    assert!(plan.contains("the only copy of the present data"), "{plan}");
    assert!(plan.contains("restore run 2"), "{plan}");
    assert!(plan.contains(" --no-safety-backup` does this"), "{plan}");
    whole
        .restore(&["run", &whole.id, "--yes", "--no-safety-backup"])
        .exits(0);
    whole.is(&whole.at_backup, "restored without a copy");
    assert_eq!(safety_backups(&whole).len(), before);
    whole.restore(&["rollback", "--yes"]).taken_back();
    whole.restore(&["confirm", "--yes"]).exits(0);
    whole.nothing_left("in the end");
}

#[test]
fn a_server_that_is_down_does_not_hold_the_restore() {
    let whole = Whole::new();
    whole.damaged();
    whole.hosting.service("redis", "stop");
    let ran = whole
        .restore(&["run", "latest", "--yes", "--json"])
        .exits(0);
    let missing = report(&ran)["safety"]["missing"].to_string();
    assert!(missing.contains("\"redis\""), "{missing}");
    whole.is(&whole.at_backup, "restored with Redis down");
}

#[test]
fn killed_while_the_copy_is_made() {
    let whole = Whole::new();
    let damaged = whole.damaged();
    for (verb, signal) in [("resume", "KILL"), ("rollback", "KILL"), ("", "TERM")] {
        let what = format!("{signal} while the copy is made, then {verb:?}");
        let before = safety_backups(&whole);
        let mut running = whole.start(&["run", "latest", "--yes"]);
        running.until_step("back-up:redis");
        running.signal(signal);
        let ran = running.end();
        let after = safety_backups(&whole);
        // Who is asked to stop deletes what it has begun; who is killed cannot.
        let left = usize::from(signal == "KILL");
        assert_eq!(after.len(), before.len() + left, "{what}");
        let unfinished = after.iter().filter(|it| !it.1).count();
        assert_eq!(unfinished, left, "{what}");
        whole.is(&damaged, &what);
        match verb {
            "resume" => {
                let ran = whole.restore(&["resume", "--json"]).exits(0);
                let made = report(&ran)["safety"]["id"].as_str().unwrap().to_owned();
                // Made anew, and not what was begun: that one is gone, whose name it may have within a second.
                assert!(safety_backups(&whole).contains(&(made, true)), "{what}");
                whole.is(&whole.at_backup, &what);
                whole.restore(&["rollback", "--yes"]).taken_back();
                whole.restore(&["confirm", "--yes"]).exits(0);
            }
            "rollback" => {
                whole.restore(&["rollback", "--yes"]).taken_back();
            }
            _ => {
                ran.exits(130);
            }
        }
        whole.is(&damaged, &format!("{what}, in the end"));
        let all_finished = safety_backups(&whole).iter().all(|it| it.1);
        assert!(all_finished, "{what}: what was begun is still there");
        whole.nothing_left(&what);
    }
}

/// Only who asks for it deletes backups, and never one that a run needs.
#[test]
fn old_backups_go_and_needed_ones_stay() {
    let whole = Whole::new();
    let old = [
        "20230101-020000",
        "20230102-020000",
        "pre-restore-20230103-020000",
    ];
    for id in old {
        // A finished backup of another day, its names not needed here.
        let from = whole.backup();
        let to = whole.hosting.backup_folder(id);
        restore_testing::run(std::process::Command::new("cp").arg("-a").arg(from).arg(to));
    }
    let half = whole.hosting.backup_folder("20230104-020000");
    std::fs::create_dir_all(half.join("postgres")).unwrap();
    std::fs::write(half.join("postgres/x.dump"), "half").unwrap();
    let ids = || -> Vec<String> {
        let list = whole.restore(&["list", "--json"]).exits(0).json();
        let rows = list["backups"].as_array().unwrap().clone();
        let id = |row: &Value| row["id"].as_str().unwrap().to_owned();
        rows.iter().map(id).collect()
    };
    assert_eq!(ids().len(), 5);
    whole.restore(&["prune"]).exits(2);
    whole
        .restore(&["prune", "--keep", "1"])
        .exits(2)
        .says(&["--yes"]);
    assert_eq!(ids().len(), 5, "nothing goes without a word");

    // What an unconfirmed run restored, and what it made first, stay.
    let latest = whole.id.clone();
    whole.hosting.damage();
    whole
        .restore(&["run", &latest, "--only", "crontab,scripts", "--yes"])
        .exits(8);
    let kept = ids().len();
    let ran = whole
        .restore(&["prune", "--keep", "1", "--yes", "--json"])
        .exits(0);
    let plan = &ran.json()["prune"]["plan"];
    assert_eq!(plan["delete"].as_array().unwrap().len(), 4, "{plan}");
    let left = ids();
    assert_eq!(left.len(), kept - 4);
    assert!(left.contains(&latest), "{left:?}");
    assert!(
        left.iter().any(|id| id.starts_with("pre-restore-2")),
        "{left:?}"
    );

    // Confirmed, the copy may go, and the last good backup stays however old.
    whole.restore(&["confirm", "--yes"]).exits(0);
    let ran = whole
        .restore(&["prune", "--older-than", "1h", "--yes"])
        .exits(0);
    assert!(ran.out.contains("Nothing is to be deleted"), "{}", ran.out);
    whole.restore(&["run", &latest, "--yes"]).exits(0);
    whole.is(&whole.at_backup, "the backup that is left restores");
}
