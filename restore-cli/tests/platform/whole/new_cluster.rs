//! A server whose cluster is gone, and of which the backup has only dumps: a new one is made, and removed
//! again where the run is taken back. One that is garbage is put right by the commands that the plan names.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::time::Duration;

use restore_testing::{Sample, Share, assert_same, crash};

use super::support::Whole;

/// What becomes of the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// It is not there.
    Gone,
    /// Nor is the directory that it was in.
    AllGone,
    /// It is empty, as a new disk's.
    Empty,
    Garbage,
}

fn data(whole: &Whole) -> PathBuf {
    whole.hosting.root().join("postgres/data")
}

fn ruins(damage: Damage) -> Whole {
    let whole = Whole::new();
    whole.hosting.service("app", "stop");
    whole.hosting.service("postgres", "stop");
    ruin(&whole, damage);
    whole
}

fn ruin(whole: &Whole, damage: Damage) {
    let data = data(whole);
    let meta = std::fs::metadata(&data).unwrap();
    match damage {
        Damage::Garbage => std::fs::write(data.join("global/pg_control"), [7; 8192]).unwrap(),
        Damage::AllGone => std::fs::remove_dir_all(data.parent().unwrap()).unwrap(),
        Damage::Gone | Damage::Empty => std::fs::remove_dir_all(&data).unwrap(),
    }
    if damage == Damage::Empty {
        use std::os::unix::fs::MetadataExt;
        std::fs::create_dir(&data).unwrap();
        std::fs::set_permissions(&data, PermissionsExt::from_mode(0o700)).unwrap();
        chown(&data, Some(meta.uid()), Some(meta.gid())).unwrap();
    }
}

/// All of the backup is there again: also the roles that no object of the dump needs.
fn is_restored(whole: &Whole, what: &str) {
    // Another database that was in the cluster is no part of the backup.
    whole.sql("postgres", "CREATE DATABASE metrics_db");
    let now = whole.hosting.fingerprint();
    whole.sql("postgres", "DROP DATABASE metrics_db");
    let restored = |text: &str| -> String {
        let components = text
            .lines()
            .take_while(|line| !line.starts_with("=== untouched"));
        let roles = text.lines().filter(|line| line.starts_with("role "));
        let lines = components.chain(roles).map(|line| format!("{line}\n"));
        lines.collect()
    };
    let wanted = restored(&whole.at_backup);
    assert!(wanted.contains("=== crontab ") && wanted.contains("role hosting_app"));
    assert_same(&wanted, &restored(&now), what);
}

/// The cluster is as it was before the run: there is none, and no server runs.
fn is_gone(whole: &Whole, damage: Damage, what: &str) {
    let data = data(whole);
    match damage {
        Damage::Empty => {
            let left = std::fs::read_dir(&data).unwrap().count();
            assert_eq!(left, 0, "{what}: {} is not empty", data.display());
        }
        Damage::AllGone => assert!(!data.parent().unwrap().exists(), "{what}"),
        _ => assert!(!data.exists(), "{what}: {} is left", data.display()),
    }
    let root = whole.hosting.root().display();
    let code = format!("pgrep -f '{root}/[p]ostgres/data' || true");
    assert_eq!(whole.shell(&code, &[]), "", "{what}: a server is left");
    let found = "find \"$root\" -name '.restore-*'";
    assert_eq!(whole.shell(found, &[]), "", "{what}: files are left");
}

fn made(report: &serde_json::Value) -> Vec<(String, bool)> {
    let made = report["report"]["made"].as_array().unwrap().iter();
    let each = made.map(|it| {
        let what = it["what"].as_str().unwrap().to_owned();
        (what, it["removed"].as_bool().unwrap())
    });
    each.collect()
}

/// Deletes what an undo had put aside, where it had to.
fn confirm(whole: &Whole) {
    let ran = whole.restore(&["confirm", "--yes"]);
    assert!([Some(0), Some(2)].contains(&ran.code), "{ran:?}");
}

#[test]
fn a_cluster_that_is_gone_is_made_and_removed_again() {
    for damage in [Damage::Empty, Damage::AllGone] {
        let what = format!("{damage:?}");
        let whole = ruins(damage);
        let ran = whole.restore(&["plan", "latest"]).exits(4);
        let typed = format!("`restore run {} --create`", whole.id);
        assert!(ran.out.contains(&typed), "{}", ran.out);
        whole.restore(&["run", "latest", "--yes"]).exits(4);
        is_gone(&whole, damage, "refused");

        let ran = whole.restore(&["plan", "latest", "--create"]).exits(0);
        assert!(ran.out.contains("Absent, and will be made"), "{}", ran.out);
        let words = format!("cluster {}", data(&whole).display());
        for line in [words.as_str(), "database hosting_db", "role hosting_app"] {
            assert!(ran.out.contains(line), "{line}: {}", ran.out);
        }
        is_gone(&whole, damage, "planned");

        let ran = whole
            .restore(&["run", "latest", "--create", "--yes", "--json"])
            .exits(0);
        is_restored(&whole, &what);
        let all = made(&ran.json());
        assert!(all.contains(&(words.clone(), false)), "{all:?}");
        assert!(all.iter().all(|(_, removed)| !removed), "{all:?}");

        whole.restore(&["rollback", "--yes"]).taken_back();
        // What was restored is kept, in the cluster that was made for it.
        let kept = "SELECT count(*) FROM pg_database WHERE datname ~ '_restore_'";
        assert_eq!(whole.sql("postgres", kept), "1", "{what}");
        whole.restore(&["confirm", "--yes"]).exits(0);
        is_gone(&whole, damage, &what);
        let all = made(&whole.restore(&["report", "--json"]).exits(0).json());
        assert!(all.iter().all(|(_, removed)| *removed), "{all:?}");

        // And once more, for good.
        whole
            .restore(&["run", "latest", "--create", "--yes"])
            .exits(0);
        is_restored(&whole, &what);
        whole.restore(&["confirm", "--yes"]).exits(0);
        is_restored(&whole, &what);
        let marked = "SELECT count(*) FROM pg_roles WHERE shobj_description(oid, 'pg_authid') ~ 'restore run'";
        assert_eq!(whole.sql("postgres", marked), "0", "{what}");
    }
}

#[test]
fn killed_while_a_cluster_is_made() {
    let whole = ruins(Damage::Gone);
    // Within a step also: so many milliseconds after it began.
    let steps = [
        ("create:postgres", 0),
        ("create:postgres", 30),
        ("create:postgres", 150),
        ("create:postgres", 400),
        ("create:postgres", 1000),
        ("stage:postgres", 0),
        ("cut-over:postgres", 0),
        ("check:inside", 0),
    ];
    let cases = steps
        .iter()
        .flat_map(|step| ["resume", "rollback"].map(|then| (*step, then)));
    let cases = Sample::of_this_run().choose(
        cases,
        |((step, after), then)| format!("{then} {after} ms after {step}"),
        |((step, after), _)| format!("{step} {after}"),
        0,
        Share::WHOLE,
    );
    for ((step, after), then) in cases {
        let what = format!("killed {after} ms after {step}, {then}");
        println!("{what}");
        let mut running = whole.start(&["run", "latest", "--create", "--yes"]);
        running.until_step(step);
        std::thread::sleep(Duration::from_millis(after));
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
        is_gone(&whole, Damage::Gone, &what);
    }
}

/// Roles that reach beyond the database do not come with the new cluster, and nor does what the backup says
/// of its superuser besides: plan and report name them.
#[test]
fn what_a_new_cluster_does_not_get_is_told() {
    let whole = Whole::new();
    let (name, file) = whole.artifact("postgres/postgres-globals", ".sql");
    let roles = "\nCREATE ROLE exporter;\nALTER ROLE exporter WITH LOGIN;\nGRANT pg_monitor TO exporter;\n\
                 CREATE ROLE replicator;\nALTER ROLE replicator WITH LOGIN REPLICATION;\n\
                 ALTER ROLE hosting_user SET work_mem TO '64MB';";
    let mut text = std::fs::read_to_string(&file).unwrap();
    let user = text.find("ALTER ROLE hosting_user WITH").unwrap();
    let end = user + text[user..].find('\n').unwrap();
    text.insert_str(end, roles);
    std::fs::write(&file, text).unwrap();
    whole.list_in_manifest(&name);
    whole.hosting.service("app", "stop");
    whole.hosting.service("postgres", "stop");
    ruin(&whole, Damage::Gone);
    let told = |findings: &serde_json::Value, what: &str| {
        let findings = findings.to_string();
        for words in [
            "postgres.roles_left",
            "exporter",
            "replicator",
            "postgres.user_anew",
            "work_mem",
        ] {
            assert!(findings.contains(words), "{what}: {words}: {findings}");
        }
    };
    let plan = whole
        .restore(&["plan", "latest", "--create", "--json"])
        .exits(0);
    told(&plan.json(), "plan");
    let ran = whole
        .restore(&["run", "latest", "--create", "--yes", "--json"])
        .exits(0);
    told(&ran.json()["report"], "report");
    let made = "SELECT count(*) FROM pg_roles WHERE rolname IN ('exporter', 'replicator')";
    assert_eq!(whole.sql("postgres", made), "0");
}

/// Tables are left in a database that is there, and a new cluster would have none.
#[test]
fn no_cluster_is_made_for_tables() {
    let whole = ruins(Damage::Gone);
    let tables = ["--create", "--table", "public.orders", "--json"];
    let plan = [&["plan", "latest"][..], &tables].concat();
    let ran = whole.restore(&plan).exits(4);
    assert!(ran.out.contains("postgres.no_database"), "{}", ran.out);
    assert!(!ran.out.contains("postgres.cluster_anew"), "{}", ran.out);
    is_gone(&whole, Damage::Gone, "planned");
}

/// At each fact by which the journal knows of the cluster: before it is written down, nothing of what it
/// says is done.
#[test]
fn killed_at_each_fact_of_a_new_cluster() {
    let whole = ruins(Damage::Gone);
    let config = whole.hosting.config();
    for fact in ["directories", "new_cluster", "new_cluster_whole"] {
        for then in ["resume", "rollback"] {
            let what = format!("killed at {fact}, {then}");
            println!("{what}");
            let when = format!("fact postgres/{fact}");
            crash(&config, &["create", &when, "latest"]);
            if then == "resume" {
                whole.restore(&["resume"]).exits(0);
                is_restored(&whole, &what);
            }
            whole.restore(&["rollback", "--yes"]).taken_back();
            confirm(&whole);
            is_gone(&whole, Damage::Gone, &what);
        }
    }
    // Before anything is deleted of it.
    crash(
        &config,
        &["create", "fact postgres/new_cluster_whole", "latest"],
    );
    crash(
        &config,
        &["rollback", "fact postgres/new_cluster_removing", "latest"],
    );
    whole.restore(&["resume"]).taken_back();
    is_gone(&whole, Damage::Gone, "killed before its removal");
}

/// Killed in the undo, at whatever moment, it is finished by the next.
#[test]
fn killed_while_a_cluster_is_removed() {
    let whole = ruins(Damage::Empty);
    for after in [0, 40, 120, 300] {
        let what = format!("killed {after} ms after its removal began");
        println!("{what}");
        let mut running = whole.start(&["run", "latest", "--create", "--yes"]);
        running.until_step("stage:postgres");
        running.signal("TERM");
        running.until_step("remove:postgres");
        std::thread::sleep(Duration::from_millis(after));
        running.signal("KILL");
        running.end();
        let ran = whole.restore(&["resume"]);
        // Interrupted and undone; or it had come to its end.
        assert!([Some(130), Some(2)].contains(&ran.code), "{what}: {ran:?}");
        is_gone(&whole, Damage::Empty, &what);
        whole.nothing_unfinished(&what);
    }
}

/// Whatever fails once the cluster is made, nothing of it is left; also where the server does not start on
/// it.
#[test]
fn a_run_that_fails_removes_the_cluster_that_it_made() {
    let whole = ruins(Damage::Gone);
    // Somebody else has the server's port.
    let port = whole.shell("load_platform; echo \"$PG_PORT\"", &[]);
    let taken = std::net::TcpListener::bind(format!("127.0.0.1:{}", port.trim())).unwrap();
    let (given_back, wanted) = std::sync::mpsc::channel::<()>();
    let hangs_up = std::thread::spawn(move || {
        taken.set_nonblocking(true).unwrap();
        while wanted.try_recv().is_err() {
            let _ = taken.accept();
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    whole
        .restore(&["run", "latest", "--create", "--yes"])
        .exits(5);
    is_gone(&whole, Damage::Gone, "the port is taken");
    given_back.send(()).unwrap();
    hangs_up.join().unwrap();
    whole.configure(|toml| {
        toml.replace(
            "missing_roles = \"refuse\"",
            "missing_roles = \"refuse\"\nafter_load = [\"SELECT 1/0\"]",
        )
    });
    whole
        .restore(&["run", "latest", "--create", "--yes"])
        .exits(5);
    is_gone(&whole, Damage::Gone, "what is done after the load fails");
}

#[test]
fn a_cluster_that_somebody_uses_since_stays() {
    let whole = ruins(Damage::Gone);
    whole
        .restore(&["run", "latest", "--create", "--yes"])
        .exits(0);
    whole.sql("postgres", "CREATE DATABASE theirs");
    whole.restore(&["rollback", "--yes"]).taken_back();
    let ran = whole.restore(&["confirm", "--yes", "--json"]).exits(0);
    assert!(ran.out.contains("create.in_use"), "{}", ran.out);
    assert!(ran.out.contains("theirs"), "{}", ran.out);
    assert_eq!(whole.sql("theirs", "SELECT 1"), "1");
}

/// The removal was broken off before anything was deleted: whoever has used the cluster since keeps it.
#[test]
fn a_cluster_that_is_used_since_its_removal_was_broken_off_stays() {
    let whole = ruins(Damage::Gone);
    let config = whole.hosting.config();
    let made = "fact postgres/new_cluster_whole";
    crash(&config, &["create", made, "latest"]);
    let removing = "fact postgres/new_cluster_removing";
    crash(&config, &["rollback", removing, "latest"]);
    whole.hosting.service("postgres", "start");
    whole.sql("postgres", "CREATE DATABASE theirs");
    whole.restore(&["resume"]).taken_back();
    assert_eq!(whole.sql("theirs", "SELECT 1"), "1");
    confirm(&whole);

    // Nor is one deleted that the run has made, and had not come to writing down as made.
    whole.hosting.service("postgres", "stop");
    ruin(&whole, Damage::Gone);
    crash(&config, &["create", made, "latest"]);
    let journals = "find \"$root\" -name journal.jsonl | xargs grep -l '\"new_cluster_whole\"' | xargs ls -t | head -1";
    let journal = PathBuf::from(whole.shell(journals, &[]).trim());
    let text = std::fs::read_to_string(&journal).unwrap();
    let before = text
        .lines()
        .filter(|line| !line.contains(r#""new_cluster_whole""#));
    let before: String = before.map(|line| line.to_owned() + "\n").collect();
    assert_ne!(text, before);
    std::fs::write(&journal, before).unwrap();
    whole.hosting.service("postgres", "start");
    whole.sql("postgres", "CREATE DATABASE theirs");
    let ran = whole.restore(&["resume"]);
    assert_ne!(ran.code, Some(0), "{ran:?}");
    let said = format!("{}{}", ran.out, ran.err);
    assert!(said.contains("database theirs"), "{said}");
    assert_eq!(whole.sql("theirs", "SELECT 1"), "1");
}

/// What has the directory's place by now is not the run's, whatever its number: it may be another disk's.
#[test]
fn a_cluster_that_has_the_place_of_the_run_s_own_stays() {
    let whole = ruins(Damage::Gone);
    let config = whole.hosting.config();
    crash(&config, &["create", "fact postgres/new_cluster", "latest"]);
    let data = data(&whole);
    // When its directory was made; the id of its file system where that keeps no such times.
    let journals = "find \"$root\" -name journal.jsonl | xargs grep -l '\"new_cluster\"'";
    let journal = PathBuf::from(whole.shell(journals, &[]).trim());
    let text = std::fs::read_to_string(&journal).unwrap();
    let altered = |line: &str| {
        let keys = [r#""nanoseconds":"#, r#""system":"#];
        let key = keys.iter().find(|key| line.contains(**key)).unwrap();
        line.replacen(key, &format!("{key}1"), 1)
    };
    let lines = text
        .lines()
        .map(|line| match line.contains(r#""new_cluster""#) {
            true => altered(line) + "\n",
            false => line.to_owned() + "\n",
        });
    let other: String = lines.collect();
    assert_ne!(text, other);
    std::fs::write(&journal, other).unwrap();
    std::fs::write(data.join("theirs"), "x").unwrap();
    let ran = whole.restore(&["resume"]);
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert!(data.join("theirs").exists());
}

#[test]
fn abandoned_with_the_cluster_that_it_made() {
    let whole = ruins(Damage::Gone);
    let mut running = whole.start(&["run", "latest", "--create", "--yes"]);
    running.until_step("cut-over:postgres");
    running.signal("KILL");
    running.end();
    whole.restore(&["abandon", "--yes"]).exits(0);
    // It stays, with what is in it, and the next run restores into it.
    assert_eq!(whole.sql("postgres", "SELECT 1"), "1");
    whole
        .restore(&["run", "latest", "--create", "--yes"])
        .exits(0);
    is_restored(&whole, "restored after an abandoned run");
}

/// A directory that others may look into is not made a server's own, and nothing of it is altered.
#[test]
fn an_empty_directory_of_somebody_else_is_left_alone() {
    let whole = ruins(Damage::Empty);
    let data = data(&whole);
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o755)).unwrap();
    let ran = whole.restore(&["plan", "latest", "--create"]).exits(4);
    assert!(ran.out.contains("chmod 700"), "{}", ran.out);
    let mode = std::fs::metadata(&data).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

/// Nothing tells whether what is there is still wanted: it is moved aside by whoever decides that.
#[test]
fn a_server_whose_cluster_is_garbage_is_restored_by_the_commands_that_the_plan_names() {
    let whole = ruins(Damage::Garbage);
    let data = data(&whole);
    // Whether it starts only a run finds out: it tries that first.
    whole.restore(&["plan", "latest", "--create"]).exits(0);
    let ran = whole
        .restore(&["run", "latest", "--create", "--yes"])
        .exits(4);
    let said = ran.out.clone() + &ran.err;
    assert!(
        said.contains("does not start on its data directory"),
        "{said}"
    );
    let mut commands = said.split('`').filter(|part| part.contains("/initdb -D"));
    let command = commands.next().unwrap_or_else(|| panic!("{said}"));
    let shell = std::process::Command::new("sh")
        .args(["-ec", command])
        .output();
    let shell = shell.unwrap();
    assert!(shell.status.success(), "{command}: {shell:?}");
    assert!(data.with_extension("broken").exists());
    assert!(!data.with_extension("password").exists());

    let ran = whole
        .restore(&["run", "latest", "--create", "--yes", "--json"])
        .exits(0)
        .json();
    let all = made(&ran);
    assert!(
        all.contains(&("database hosting_db".to_owned(), false)),
        "{all:?}"
    );
    // With a database that is absent all roles of the backup are made, also those that nothing in the dump
    // needs: its settings of roles can be had then.
    let told = ran["report"]["findings"].as_array().unwrap();
    let lost = |it: &&serde_json::Value| it["code"] == "postgres.properties_lost";
    assert_eq!(told.iter().find(lost), None);
    let found = "SELECT count(*) FROM pg_roles WHERE rolname = 'hosting_app'";
    assert_eq!(whole.sql("hosting_db", found), "1");
    whole.restore(&["confirm", "--yes"]).exits(0);
}
