//! A database restored beside the live one, under a name of its own.

use serde_json::Value;

use super::support::Whole;

fn report(whole: &Whole) -> Value {
    whole.restore(&["report", "--json"]).exits(0).json()["report"].clone()
}

fn databases(whole: &Whole) -> String {
    let named = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname ~ '^hosting|^monday'";
    whole.sql("postgres", named)
}

const COUNT: &str = "SELECT count(*) FROM users";

#[test]
fn a_database_of_another_day_stands_beside_the_live_one() {
    let whole = Whole::new();
    let users = whole.sql("hosting_db", COUNT);
    let live = whole.damaged();
    let pids = || {
        let files = r#"find "$root" -name '*.pid' -exec head -n 1 {} + | sort"#;
        whole.shell(files, &[])
    };
    let before = pids();
    // The only component that can be restored so is the one that is meant.
    let words = ["latest", "--as", "monday"];
    let plan = whole
        .restore(&["plan", words[0], words[1], words[2]])
        .exits(0)
        .out;
    for part in [
        "-> database monday, beside database hosting_db, which is not touched",
        "put database monday in its place",
        "Nothing live is stopped or replaced",
        "--as 'monday'` does this",
    ] {
        assert!(plan.contains(part), "no {part:?} in {plan}");
    }
    for part in ["Downtime", "maintenance page", "stop app", "back up what"] {
        assert!(!plan.contains(part), "{part:?} in {plan}");
    }
    let run = [
        "run", "latest", "--only", "postgres", "--as", "monday", "--yes",
    ];
    let ran = whole.restore(&run).exits(0);
    assert!(
        ran.out
            .contains("database monday; nothing live was touched"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("no downtime"), "{}", ran.out);
    assert_eq!(whole.sql("monday", COUNT), users);
    assert_eq!(databases(&whole), "hosting_db monday");
    assert_eq!(before, pids(), "something was restarted");
    whole.is(&live, "restored beside");
    let history = whole.restore(&["history"]).exits(0).out;
    assert!(
        history.contains("beside") && history.contains("not confirmed"),
        "{history}"
    );
    let text = whole.restore(&["report"]).exits(0).out;
    assert!(
        text.contains("as database monday, beside what is live"),
        "{text}"
    );
    assert!(text.contains("keeps it for good"), "{text}");

    // What has that name is not replaced, and a restore is not held up by it.
    whole
        .restore(&run)
        .exits(4)
        .says(&["there is a database monday"]);
    whole.restore(&["run", "latest", "--yes"]).restored();
    whole.is(&whole.at_backup, "restored as always");
    let beside = &whole.restore(&["history", "--json"]).exits(0).json()["runs"][0]["run"];
    let beside = beside.as_str().unwrap().to_owned();
    let ran = whole.restore(&["rollback", &beside, "--yes"]).exits(0);
    assert!(
        ran.err.contains("Taken away for good: database monday") || ran.out.contains("Rolled back"),
        "{ran:?}"
    );
    assert_eq!(databases(&whole).matches("monday").count(), 0);
    whole.is(&whole.at_backup, "what is live stays");
    whole.restore(&["rollback", "--yes"]).taken_back();
    whole.is(&live, "and goes back as always");
    whole.restore(&["confirm", "--yes"]).exits(0);

    // Accepted, it stays.
    whole.restore(&run).exits(0);
    let ran = whole.restore(&["confirm", "--yes"]).exits(0);
    assert!(
        ran.out.contains("Confirmed: database monday stays"),
        "{}",
        ran.out
    );
    assert_eq!(databases(&whole), "hosting_db monday");
    whole.restore(&["rollback", "--yes"]).exits(2);
    whole.restore(&["confirm", "--yes"]).exits(2);
    whole.nothing_left("accepted");
}

#[test]
fn killed_it_is_finished_taken_back_or_left() {
    let whole = Whole::new();
    let live = whole.hosting.fingerprint();
    for (step, verb, wanted, there) in [
        ("stage:postgres", vec!["resume"], "restored", true),
        (
            "stage:postgres",
            vec!["rollback", "--yes"],
            "rolled_back",
            false,
        ),
        ("cut-over:postgres", vec!["resume"], "restored", true),
        (
            "cut-over:postgres",
            vec!["rollback", "--yes"],
            "rolled_back",
            false,
        ),
        ("check:inside", vec!["resume"], "restored", true),
        (
            "check:inside",
            vec!["rollback", "--yes"],
            "rolled_back",
            false,
        ),
        ("check:inside", vec!["abandon", "--yes"], "abandoned", true),
    ] {
        let what = format!("killed at {step}, then {verb:?}");
        let mut running = whole.start(&["run", "latest", "--as", "monday", "--yes"]);
        running.until_step(step);
        running.signal("KILL");
        running.end();
        assert_eq!(report(&whole)["outcome"], "unfinished", "{what}");
        whole.restore(&verb).exits(0);
        assert_eq!(report(&whole)["outcome"], wanted, "{what}");
        whole.is(&live, &what);
        let names = databases(&whole);
        assert_eq!(names.contains("monday"), there, "{what}: {names}");
        if there {
            let run = report(&whole)["run"].as_str().unwrap().to_owned();
            whole.restore(&["rollback", &run, "--yes"]).exits(0);
            assert_eq!(databases(&whole), "hosting_db", "{what}, taken back");
        }
        whole.nothing_left(&what);
    }
    // Stopped by hand it is undone.
    let mut running = whole.start(&["run", "latest", "--as", "monday", "--yes"]);
    running.until_step("cut-over:postgres");
    running.signal("INT");
    running.end().exits(130);
    assert_eq!(databases(&whole), "hosting_db");
    whole.is(&live, "stopped");
    whole.nothing_left("stopped");
}

#[test]
fn tables_of_another_day_stand_beside_the_live_ones() {
    let whole = Whole::new();
    let users = whole.sql("hosting_db", COUNT);
    let live = whole.damaged();
    let tables = "SELECT count(*) FROM pg_namespace WHERE nspname ~ '_restored_'";
    let run = ["run", "latest", "--table", "public.users", "--yes"];
    let plan = whole
        .restore(&["plan", "latest", "--table", "users"])
        .exits(0)
        .out;
    for part in [
        "table public_restored_RUN.users of database hosting_db, beside the live ones",
        "--table 'users'` does this",
    ] {
        assert!(plan.contains(part), "no {part:?} in {plan}");
    }
    whole
        .restore(&["run", "latest", "--table", "public.nothing", "--yes"])
        .exits(4)
        .says(&[
            "has no table public.nothing",
            &format!("restore show {} --files", whole.id),
        ]);

    let ran = whole.restore(&run).exits(0);
    let id = report(&whole)["run"].as_str().unwrap().replace('-', "_");
    let table = format!("public_restored_{id}.users");
    assert!(
        ran.out
            .contains(&format!("table {table}; nothing live was touched")),
        "{}",
        ran.out
    );
    assert_eq!(
        whole.sql("hosting_db", &format!("SELECT count(*) FROM {table}")),
        users
    );
    whole.restore(&["rollback", "--yes"]).exits(0);
    assert_eq!(whole.sql("hosting_db", tables), "0");
    whole.is(&live, "taken back");
    whole.nothing_left("taken back");

    for (step, verb, there) in [
        ("stage:postgres", vec!["rollback", "--yes"], "0"),
        ("cut-over:postgres", vec!["resume"], "1"),
        ("cut-over:postgres", vec!["rollback", "--yes"], "0"),
        ("check:inside", vec!["resume"], "1"),
    ] {
        let what = format!("killed at {step}, then {verb:?}");
        let mut running = whole.start(&run);
        running.until_step(step);
        running.signal("KILL");
        running.end();
        whole.restore(&verb).exits(0);
        assert_eq!(whole.sql("hosting_db", tables), there, "{what}");
        if there == "1" {
            let run = report(&whole)["run"].as_str().unwrap().to_owned();
            whole.restore(&["rollback", &run, "--yes"]).exits(0);
        }
        whole.is(&live, &what);
        whole.nothing_left(&what);
    }
    // Accepted, they stay.
    whole.restore(&run).exits(0);
    whole.restore(&["confirm", "--yes"]).exits(0);
    assert_eq!(whole.sql("hosting_db", tables), "1");
    whole.nothing_left("accepted");
}

#[test]
fn only_one_database_has_another_name() {
    let whole = Whole::new();
    let refused = |words: &[&str], says: &str| {
        let mut all = vec!["run", "latest", "--as", "monday", "--yes"];
        all.extend(words);
        whole.restore(&all).exits(2).says(&[says]);
    };
    refused(&["--only", "grafana"], "restore get");
    refused(&["--only", "postgres,redis"], "one component at a time");
    refused(&["--only", "nothing"], "it has");
    refused(&["--path", "etc/x"], "cannot be used with");
    whole
        .restore(&["run", "latest", "--as", "", "--yes"])
        .exits(4)
        .says(&["1 to 63 bytes"]);
    whole.nothing_left("refused");
}
