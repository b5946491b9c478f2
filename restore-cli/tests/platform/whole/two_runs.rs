//! More runs than one: at the same time, and one over another.

use super::support::{Ran, Whole};

#[test]
fn one_at_a_time() {
    let whole = Whole::new();
    let damaged = whole.damaged();
    let mut first = whole.start(&["run", "latest", "--yes"]);
    first.until_step("stage:postgres");
    first.signal("STOP");
    for verb in ["run latest", "rollback", "resume"] {
        let mut args: Vec<&str> = verb.split(' ').collect();
        if verb != "resume" {
            args.push("--yes");
        }
        let ran = whole.restore(&args).exits(7).says(&["error: ", "hint: "]);
        assert!(ran.err.contains("process"), "who holds it? {}", ran.err);
    }
    // Looking is free.
    whole.restore(&["list"]).exits(0);
    whole.restore(&["history"]).exits(0);
    let plan = whole.restore(&["plan", "latest"]).exits(7);
    assert!(plan.err.contains("is under way"), "{}", plan.err);
    assert!(!plan.err.contains("restore resume"), "{}", plan.err);
    whole.is(&damaged, "while the first is held");
    first.signal("CONT");
    first.end().exits(0);
    whole.is(&whole.at_backup, "the first has ended");
}

#[test]
fn over_an_unconfirmed_one() {
    let whole = Whole::new();
    let first_damage = whole.damaged();
    let run_of = |ran: Ran| {
        ran.taken_back().json()["report"]["run"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let first = run_of(whole.restore(&["run", "latest", "--yes", "--json"]));
    let second_damage = whole.damaged();
    assert_ne!(first_damage, second_damage);

    let ran = whole.restore(&["run", "latest", "--yes"]).exits(4);
    ran.says(&[&first, "not confirmed", "--over-unconfirmed"]);
    whole.is(&second_damage, "refused");
    let ran = whole
        .restore(&["plan", "latest", "--over-unconfirmed"])
        .exits(0);
    for words in [
        first.as_str(),
        &whole.id,
        "not confirmed",
        "two rollbacks, of the new run",
    ] {
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }

    let args = ["run", "latest", "--yes", "--json", "--over-unconfirmed"];
    let second = run_of(whole.restore(&args));
    whole.is(&whole.at_backup, "restored over the first");
    let refused = whole.restore(&["rollback", &first, "--yes"]).exits(4);
    refused.says(&[&second, "hint: "]);
    whole.is(&whole.at_backup, "the older cannot be rolled back first");
    assert_eq!(
        run_of(whole.restore(&["rollback", "--yes", "--json"])),
        second
    );
    whole.is(&second_damage, "the newer rolled back");
    assert_eq!(
        run_of(whole.restore(&["rollback", "--yes", "--json"])),
        first
    );
    whole.is(&first_damage, "the older rolled back");
    whole.restore(&["confirm", &second, "--yes"]).exits(0);
    // The second damage took a tree with what the first run had put aside in it.
    let refused = whole.restore(&["confirm", "--yes"]).exits(4);
    refused.says(&[&first, "prometheus-config", "is its disk mounted?"]);
    whole.restore(&["confirm", &first, "--yes"]).exits(0);
    whole.nothing_left("both rolled back and confirmed");
    whole.is(&first_damage, "confirmed");
}
