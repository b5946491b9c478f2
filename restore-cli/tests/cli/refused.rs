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
    let own = |name: &str| site.path("live/opt/app").join(name).display().to_string();
    site.write("restore.toml", &of(&own("more"), "true", "true"));
    site.restore(&["plan", ID]).exits(0);
}

/// A program that lies in what is replaced is the backup's from then on.
#[test]
fn a_program_that_the_run_would_take_away_is_said_by_the_plan() {
    let site = Site::new();
    site.backup();
    let app = site.path("live/opt/app").display().to_string();
    site.write(
        "live/opt/app/ctl",
        "#!/bin/sh\ncd \"$(dirname \"$0\")/../../..\"\ncase $1 in start) echo up >up ;; stop) rm -f up ;; status) test -e up ;; esac\n",
    );
    site.shell("chmod 755 live/opt/app/ctl; live/opt/app/ctl start");
    let text = site.read("restore.toml");
    let service = format!(
        "stops = [\"app\"]\n[services.app]\nstart = [\"{app}/ctl\", \"start\"]\n\
         stop = [\"{app}/ctl\", \"stop\"]\nstatus = [\"{app}/ctl\", \"status\"]\n"
    );
    site.write("restore.toml", &format!("{text}{service}"));
    let ran = site.restore(&["plan", ID]).exits(4);
    assert!(
        ran.out.contains("the backup does not have it") && ran.out.contains("exclude"),
        "{}",
        ran.out
    );
    // That is known once the archive is read, which would make of each look a long one.
    site.restore(&["status"]).exits(0);
    site.write(
        "restore.toml",
        &format!("{text}exclude = [\"ctl\"]\n{service}"),
    );
    site.restore(&["run", ID, "--yes"]).exits(0);
    site.restore(&["rollback", "--yes"]).exits(0);
    assert!(site.path("up").exists());
}

/// So is one that a check runs, which passes now and would fail on the restored tree; a hook at the end takes nothing back.
#[test]
fn a_check_that_the_run_would_take_away_is_said_by_the_plan() {
    let site = Site::new();
    site.backup();
    for name in ["check", "tell"] {
        site.write(&format!("live/opt/app/{name}"), "#!/bin/sh\nexit 0\n");
    }
    site.shell("chmod 755 live/opt/app/check live/opt/app/tell");
    let text = site.read("restore.toml");
    let app = site.path("live/opt/app").display().to_string();
    let check = format!(
        "[checks.works]\nkind = \"command\"\ncommand = [\"{app}/check\"]\ntimeout = \"1s\"\n"
    );
    site.write("restore.toml", &format!("{text}{check}"));
    for command in [&["plan", ID][..], &["run", ID, "--yes"]] {
        let ran = site.restore(command).exits(4);
        for words in [
            format!(
                "error: command of [checks.works]: names {app}/check, which lies in what is replaced"
            ),
            "a check that passes now would fail after the swap".to_owned(),
        ] {
            assert!(ran.out.contains(&words), "{words}: {}", ran.out);
        }
    }
    assert_eq!(site.read("live/opt/app/kept"), "live");

    let hook = format!(
        "exclude = [\"check\"]\n{check}[hooks.told]\nkind = \"command\"\nwhen = [\"on-success\"]\ncommand = [\"{app}/tell\"]\n"
    );
    site.write("restore.toml", &format!("{text}{hook}"));
    let ran = site.restore(&["plan", ID]).exits(0);
    let words = format!("warning: command of [hooks.told]: names {app}/tell, which lies in");
    assert!(ran.out.contains(&words), "{words}: {}", ran.out);
    site.write(
        "restore.toml",
        &format!("{text}exclude = [\"check\"]\n{check}"),
    );
    site.restore(&["run", ID, "--yes"]).exits(0);

    // One that is not there fails now, and takes no run back.
    site.restore(&["confirm", "--yes"]).exits(0);
    site.shell("rm live/opt/app/check");
    site.write("restore.toml", &format!("{text}{check}"));
    let ran = site.restore(&["plan", ID]).exits(0);
    assert!(
        ran.out
            .contains("warning: command of [checks.works]: names "),
        "{}",
        ran.out
    );
}

/// A crontab's file in a tree that is replaced could not be undone without that.
#[test]
fn a_crontab_in_a_tree_that_is_replaced_is_said_by_the_plan() {
    let site = Site::new();
    site.write("live/opt/app/jobs", "0 3 * * * root true\n");
    site.write("made/app/crontab", "0 4 * * * root true\n");
    site.backup();
    let text = site.read("restore.toml");
    let crontab =
        "[components.jobs]\nkind = \"crontab\"\nfile = \"live/opt/app/jobs\"\noptional = true\n";
    site.write("restore.toml", &format!("{text}{crontab}"));
    let ran = site.restore(&["plan", ID]).exits(4);
    assert!(
        ran.out.contains("which the component jobs restores"),
        "{}",
        ran.out
    );
    let kept = format!("{text}exclude = [\"jobs\"]\n{crontab}");
    site.write("restore.toml", &kept);
    site.restore(&["plan", ID]).exits(0);
}

#[test]
fn a_path_that_the_archive_does_not_have_is_refused_by_the_plan() {
    let site = Site::new();
    site.backup();
    for command in [&["plan", ID][..], &["run", ID, "--yes"]] {
        let mut args = command.to_vec();
        args.extend(["--path", "applications/mor"]);
        let ran = site.restore(&args).exits(4);
        assert!(
            ran.out.contains("has no mor; it has applications/more"),
            "{}",
            ran.out
        );
        let hint = format!("`restore show {ID} --files --only applications`");
        assert!(ran.out.contains(&hint), "{}", ran.out);
    }
    let shown = site.restore(&["show", ID, "--files", "--only", "applications"]);
    assert!(shown.exits(0).out.contains("applications/more"));
    assert!(!site.path("state/runs").exists(), "no run was begun");
    site.restore(&["plan", ID, "--path", "applications/more"])
        .exits(0);
    site.restore(&["plan", ID, "--path", "app/kept"]).exits(0);
}

#[test]
fn an_endpoint_that_does_not_answer_is_said_by_the_plan_and_the_check() {
    let site = Site::new();
    site.backup();
    let text = site.read("restore.toml");
    // A port that nobody listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    site.write(
        "restore.toml",
        &format!(
            "{text}stops = [\"app\"]\n\
             [services.app]\nstart = [\"true\"]\nstop = [\"true\"]\nstatus = [\"true\"]\n\
             ready = \"tcp\"\nendpoint = \"127.0.0.1:{port}\"\n"
        ),
    );
    let plan = site.restore(&["plan", ID]).exits(0);
    assert!(!plan.out.contains("takes no connections"), "{}", plan.out);
    drop(free);
    // It may be what the restore mends: it is no reason to refuse one.
    let said = format!("takes no connections (127.0.0.1:{port}: ");
    let plan = site.restore(&["plan", ID]).exits(0);
    assert!(plan.out.contains(&said), "{}", plan.out);
    assert!(
        plan.out.contains("`endpoint` of [services.app]"),
        "{}",
        plan.out
    );
    let check = site.restore(&["config", "check"]).exits(0);
    assert!(check.out.contains(&said), "{}", check.out);
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

/// Runs the program in a mount name space of its own, with these mounts, which needs root there alone. Nothing
/// may be put beside the live data.
fn with_mounts(site: &Site, mounts: &str, args: &[&str]) -> crate::site::Ran {
    let mut unshare = std::process::Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    let command = site.command(args);
    let script = format!(
        "{mounts}\ncode=0; \"$@\" || code=$?\n[ -z \"$(find live -name '.restore-*')\" ]\nexit $code"
    );
    unshare
        .args(["--mount", "sh", "-ec", script.as_str(), "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .env_remove("RESTORE_CONFIG")
        .stdin(std::process::Stdio::null())
        .current_dir(site.path(""));
    crate::site::Ran::of(unshare.output().unwrap())
}

/// Both the plan and the run refuse with this code, these words and this hint; nothing is touched.
fn refuses_with(mounts: &str, code: &str, words: &str, hint: &str) {
    let site = Site::new();
    site.backup();
    let json = with_mounts(&site, mounts, &["plan", ID, "--json"])
        .exits(4)
        .json();
    let findings = json["plan"]["findings"].as_array().unwrap();
    let found = findings.iter().find(|it| it["code"] == code);
    let found = found.unwrap_or_else(|| panic!("no {code}: {findings:#?}"));
    assert_eq!(found["severity"], "error", "{found}");
    for args in [&["plan", ID][..], &["run", ID, "--yes"]] {
        let ran = with_mounts(&site, mounts, args).exits(4);
        for said in [words, hint] {
            assert!(ran.out.contains(said), "{said}: {}", ran.out);
        }
    }
    assert_eq!(site.read("live/opt/app/kept"), "live");
    site.restore(&["plan", ID]).exits(0);
}

#[test]
fn a_read_only_file_system_is_said_by_the_plan() {
    refuses_with(
        "mount --bind live/opt live/opt; mount -o remount,bind,ro live/opt",
        "space.read_only",
        "its file system is read-only here",
        "mount it for writing",
    );
}

#[test]
fn a_file_system_that_takes_no_more_files_is_said_by_the_plan() {
    refuses_with(
        "mount -t tmpfs -o nr_inodes=20,mode=755 none live/opt; mkdir live/opt/app
         n=0; while touch live/opt/app/$n 2>/dev/null; do n=$((n + 1)); done",
        "space.inodes",
        "live/opt (tmpfs) needs room for 4 more files, has it for 0",
        "delete files there",
    );
}

/// Without a journal no run is begun.
#[test]
fn a_state_directory_without_room_is_said_by_the_plan() {
    refuses_with(
        "mkdir -p state; mount -t tmpfs -o size=300k,mode=700 none state",
        "state.no_room",
        "state (tmpfs) needs 1.0 MiB for a journal, has ",
        "name another as `state` in [site]",
    );
}

/// A mount in what would be moved, in a mount name space of its own.
#[test]
fn what_is_mounted_in_a_target_is_said_by_the_plan() {
    let site = Site::new();
    site.backup();
    std::fs::create_dir(site.path("live/opt/app/mnt")).unwrap();
    let mounts = "mount -t tmpfs none live/opt/app/mnt";
    let ran = with_mounts(&site, mounts, &["plan", ID]).exits(4);
    assert!(
        ran.out.contains("another file system is mounted at"),
        "{}",
        ran.out
    );
    site.restore(&["plan", ID]).exits(0);
}

/// What a plan refuses because of what is in a file, and what the site allows less of than an archive has, is no
/// file that verification calls sound, nor one that cannot be read.
#[test]
fn deep_verification_and_a_plan_give_one_verdict() {
    let site = Site::new();
    let folder = site.backup();
    let jobs = format!("configs/crontab-{ID}.txt");
    site.write(
        &format!("backups/{ID}/{jobs}"),
        "garbage line without fields\n",
    );
    site.write("cron", "");
    site.shell(&format!(
        "cd backups/{ID} && sed -i 's/^Total Files: 1/Total Files: 2/' MANIFEST.txt && \
         sed -i \"/^=== Summary/i {jobs}|1K|$(sha256sum {jobs} | cut -d' ' -f1)\" MANIFEST.txt"
    ));
    let toml = site.read("restore.toml");
    let cron = "[components.cron]\nkind = 'crontab'\nfile = 'cron'\n";
    site.write("restore.toml", &format!("{toml}{cron}"));
    for args in [&["verify", ID, "--deep"][..], &["plan", ID]] {
        let ran = site.restore(args).exits(3);
        let told = format!("line 1 of {jobs} is no crontab line");
        let said = ran.out.clone() + &ran.err;
        assert!(said.contains(&told), "{args:?} {said}");
    }
    site.restore(&["verify", ID]).exits(0);

    // An archive with more than the site lets in, and with nothing of its tree.
    for (keys, told, hint) in [
        (
            "max_members = 1\n",
            "holds more than 1 members",
            "raise `max_members`",
        ),
        (
            "max_bytes = 3\n",
            "holds more than 3 bytes",
            "raise `max_bytes`",
        ),
        (
            "prefix = 'other'\n",
            "has nothing below \"other\"",
            "look at the names",
        ),
    ] {
        site.write("restore.toml", &format!("{toml}{keys}"));
        let ran = site.restore(&["verify", ID, "--deep"]).exits(3);
        assert!(
            ran.out.contains(told) && ran.out.contains(hint),
            "{}",
            ran.out
        );
        assert!(!ran.out.contains("cannot be read"), "{}", ran.out);
        assert!(ran.out.contains("refused  app/applications"), "{}", ran.out);
    }
    assert!(folder.exists());
}

/// What lies there is not said to be missing.
#[test]
fn a_manifest_that_is_not_whole_is_told_from_one_that_is_not_there() {
    let site = Site::new();
    let manifest = site.backup().join("MANIFEST.txt");
    for text in ["", "\n\n", format!("Backup ID: {ID}\n").as_str()] {
        std::fs::write(&manifest, text).unwrap();
        let ran = site.restore(&["run", ID, "--yes"]).exits(3);
        assert!(!ran.err.contains("has no MANIFEST.txt"), "{}", ran.err);
        assert!(ran.err.contains("is not a whole one"), "{}", ran.err);
    }
    std::fs::remove_file(&manifest).unwrap();
    let ran = site.restore(&["run", ID, "--yes"]).exits(3);
    assert!(ran.err.contains("has no MANIFEST.txt"), "{}", ran.err);
}
