//! What a run would refuse or meet in its downtime is said before it begins.

use crate::site::{ID, Site};

/// A site whose backup has three members that it does not let in.
fn strange() -> Site {
    let site = Site::new();
    site.write("made/app/bin", "x");
    site.shell(
        "ln -s /srv/releases/12 made/app/current; ln -s /etc/ssl/ca.pem made/app/ca.pem
         chmod 4755 made/app/bin",
    );
    site.backup();
    // The store is a stranger's.
    let text = site.read("restore.toml");
    site.write("restore.toml", &(text + "links = \"inside\"\n"));
    site
}

#[test]
fn deep_verification_finds_all_that_a_run_would_refuse() {
    let site = strange();
    site.restore(&["verify", ID]).exits(0);
    let ran = site.restore(&["verify", ID, "--deep"]).exits(3);
    let all = ["/srv/releases/12", "/etc/ssl/ca.pem", "set-uid"];
    for word in all {
        assert!(ran.out.contains(word), "{word}: {}", ran.out);
    }
    assert!(ran.out.contains("refused"), "{}", ran.out);
    let ran = site.restore(&["run", ID, "--yes"]).exits(3);
    for word in all {
        assert!(ran.err.contains(word), "{word}: {}", ran.err);
    }
    // What the site allows is no finding, and the run does it.
    let text = site.read("restore.toml");
    site.write(
        "restore.toml",
        &(text + "allow_links = [\"/srv\", \"/etc/ssl\"]\nallow_setuid = true\n"),
    );
    site.restore(&["verify", ID, "--deep"]).exits(0);
    site.restore(&["run", ID, "--yes"]).exits(0);
}

/// Only root can make files immutable, and only some file systems have them.
#[test]
fn what_cannot_be_moved_is_said_by_the_plan() {
    let site = Site::new();
    site.backup();
    let file = site.path("live/opt/app/kept");
    let chattr = |flag: &str| {
        let done = std::process::Command::new("chattr")
            .arg(flag)
            .arg(&file)
            .output();
        done.is_ok_and(|done| done.status.success())
    };
    if !chattr("+i") {
        // Here nothing can be immutable, so that the plan must have nothing to say.
        let ran = site.restore(&["plan", ID]).exits(0);
        assert!(!ran.out.contains("immutable"), "{}", ran.out);
        return;
    }
    let ran = site.restore(&["plan", ID]);
    let run = site.restore(&["run", ID, "--yes"]);
    assert!(chattr("-i"));
    let ran = ran.exits(4);
    assert!(ran.out.contains("immutable"), "{}", ran.out);
    assert!(ran.out.contains("chattr -i -a"), "{}", ran.out);
    run.exits(4);
    site.restore(&["run", ID, "--yes"]).exits(0);
}

#[test]
fn programs_that_are_not_there_are_said_by_the_plan() {
    let site = Site::new();
    site.backup();
    let text = site.read("restore.toml");
    let of = |start: &str, reload: &str, check: &str| {
        format!(
            "{text}reload = [\"{reload}\"]\nstops = [\"app\"]\n\
             [services.app]\nstart = [\"{start}\"]\nstop = [\"true\"]\nstatus = [\"true\"]\n\
             [checks.works]\nkind = \"command\"\ncommand = [\"{check}\"]\n"
        )
    };
    site.write(
        "restore.toml",
        &of("/no/such/start", "no-such-reload", "no-such-check"),
    );
    let ran = site.restore(&["plan", ID]).exits(4);
    for word in [
        "start of [services.app]: names /no/such/start",
        "reload of [components.applications]: names no-such-reload",
        "warning: command of [checks.works]: names no-such-check",
    ] {
        assert!(ran.out.contains(word), "{word}: {}", ran.out);
    }
    // What the run itself brings may be missing now.
    let own = site.path("live/opt/app/start");
    let own = own.display().to_string();
    site.write("restore.toml", &of(&own, "true", "true"));
    site.restore(&["plan", ID]).exits(0);
}

/// Room is told of the place that people know, in their units.
#[test]
fn a_plan_says_how_long_it_will_take() {
    let site = Site::new();
    site.backup();
    let ran = site.restore(&["plan", ID]).exits(0);
    assert!(
        ran.out.contains("Expected: about ") && ran.out.contains("a guess"),
        "{}",
        ran.out
    );
    site.restore(&["run", ID, "--yes"]).exits(0);
    let run = site.restore(&["report", "--json"]).exits(0).json()["report"]["run"].clone();
    site.restore(&["confirm", "--yes"]).exits(0);
    let ran = site.restore(&["plan", ID]).exits(0);
    let run = run.as_str().unwrap();
    assert!(
        ran.out.contains(&format!("as run {run} took")),
        "{}",
        ran.out
    );
}

/// Ten lines at the end, the headline first; all else is in the report.
#[test]
fn a_run_ends_in_ten_lines() {
    let site = Site::new();
    site.backup();
    let text = site.read("restore.toml");
    let broken: String = (0..12)
        .map(|n| {
            format!(
                "[checks.c{n}]\nkind = \"command\"\ncommand = [\"false\"]\ntimeout = \"10ms\"\n"
            )
        })
        .collect();
    site.write("restore.toml", &(text + &broken));
    let ran = site.restore(&["run", ID, "--yes", "--quiet"]).exits(8);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines.len() <= 10, "{}", ran.out);
    assert!(
        lines[0].starts_with("Restored, but 12 checks fail, as before the run"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("Failing: c0 (as before)"), "{}", ran.out);
    assert!(ran.out.contains("restore report "), "{}", ran.out);
    assert!(ran.out.contains("restore confirm "), "{}", ran.out);
    assert_eq!(ran.err, "", "nothing is said of the work");
    let report = site.restore(&["report"]).exits(0).out;
    assert_eq!(report.matches(" c7 ").count(), 1, "{report}");
    // Each failing check is one line of the work.
    let ran = site.restore(&["rollback", "--yes"]).exits(8);
    assert_eq!(ran.err.matches("warning: c7: ").count(), 1, "{}", ran.err);
}

/// What would be deleted is named, with how much it is; what is kept after a rollback, too.
#[test]
fn a_confirmation_names_what_it_deletes() {
    let site = Site::new();
    site.backup();
    site.shell("head -c 3000000 /dev/zero > live/opt/app/large");
    site.restore(&["run", ID, "--yes"]).exits(0);
    let ran = site.restore(&["rollback", "--yes"]).exits(0);
    assert!(
        ran.err.contains("applications  files  replaced data  ") && ran.err.contains("2.9 MiB"),
        "{}",
        ran.err
    );
    assert!(
        ran.out.contains("Kept: the restored data of applications"),
        "{}",
        ran.out
    );
    let report = site.restore(&["report"]).exits(0).out;
    assert!(report.contains("restored data kept in "), "{report}");
    let history = site.restore(&["history"]).exits(0).out;
    assert!(
        history.contains("rolled back, the restored data is kept"),
        "{history}"
    );
    let ran = site.restore(&["confirm", "--yes"]).exits(0);
    assert!(
        ran.err.contains("applications  files  restored data  "),
        "{}",
        ran.err
    );
    assert!(!ran.err.contains("Nothing is left"), "{}", ran.err);
    assert!(
        ran.out
            .contains("Confirmed: what it had restored is deleted"),
        "{}",
        ran.out
    );
    assert!(
        site.restore(&["history"])
            .exits(0)
            .out
            .contains("rolled back, confirmed")
    );
}

/// Drills are told from runs, and a run whose process is gone from one that is at work.
#[test]
fn a_report_lists_no_service_that_was_not_stopped() {
    let site = strange();
    let text = site.read("restore.toml");
    site.write(
        "restore.toml",
        &(text
            + "stops = [\"app\"]\n[services.app]\nstart = [\"true\"]\nstop = [\"true\"]\nstatus = [\"true\"]\n"),
    );
    site.restore(&["run", ID, "--yes"]).exits(3);
    let report = site.restore(&["report"]).exits(0).out;
    assert!(!report.contains("Services stopped"), "{report}");
    site.restore(&["drill", ID]).exits(3);
    let history = site.restore(&["history"]).exits(0).out;
    let kinds: Vec<&str> = history
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(2))
        .collect();
    assert_eq!(kinds, ["restore", "drill"], "{history}");
}

/// A mount in what would be moved, in a mount name space of its own.
#[test]
fn what_is_mounted_in_a_target_is_said_by_the_plan() {
    let site = Site::new();
    site.backup();
    std::fs::create_dir(site.path("live/opt/app/mnt")).unwrap();
    let mut plan = std::process::Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        plan.arg("--map-root-user");
    }
    let command = site.command(&["plan", ID]);
    let script = "mount -t tmpfs none live/opt/app/mnt && exec \"$@\"";
    plan.args(["--mount", "sh", "-ec", script, "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(site.path(""));
    let ran = crate::site::Ran::of(plan.output().unwrap()).exits(4);
    assert!(
        ran.out.contains("another file system is mounted at"),
        "{}",
        ran.out
    );
    site.restore(&["plan", ID]).exits(0);
}
