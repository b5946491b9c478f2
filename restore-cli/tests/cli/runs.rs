//! A whole run, its way back and its end through the program, on a file tree.

use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::site::{ID, Ran, Site};

#[test]
fn there_and_back() {
    let site = Site::new();
    site.backup();
    let ran = site.restore(&["run", "latest", "--yes"]).exits(0);
    // The report is the data; the plan and what went on are not.
    assert!(ran.out.contains("Restored and checked\n"), "{}", ran.out);
    assert!(ran.out.contains("\nrestore confirm "), "{}", ran.out);
    assert!(ran.err.starts_with("Plan: "), "{}", ran.err);
    assert!(
        ran.err.contains("ok     swap applications ("),
        "{}",
        ran.err
    );
    assert!(ran.out.contains(" of backup "), "{}", ran.out);
    assert_eq!(site.read("live/opt/app/kept"), "backed up");
    assert_eq!(site.read("live/opt/app/more"), "more");
    assert!(!site.path("live/opt/app/own").exists());

    let history = site.restore(&["history", "--json"]).exits(0).json();
    let run = history["runs"][0]["run"].as_str().unwrap().to_owned();
    let ran = site.restore(&["history"]).exits(0);
    assert!(ran.out.contains(&format!("{run}  {ID}  ")), "{}", ran.out);
    assert!(ran.out.contains("restored, not confirmed"), "{}", ran.out);
    let report = site.restore(&["report", &run]).exits(0);
    assert!(
        report.out.contains("Restored and checked\n"),
        "{}",
        report.out
    );

    let ran = site.restore(&["rollback", "--yes", "--json"]).exits(0);
    assert_eq!(ran.json()["report"]["outcome"], "rolled_back");
    assert!(
        ran.err
            .starts_with(&format!("Rollback of run {run} (backup {ID}, restored")),
        "{}",
        ran.err
    );
    assert_eq!(site.read("live/opt/app/kept"), "live");
    assert_eq!(site.read("live/opt/app/own"), "only live");

    let ran = site.restore(&["rollback", &run, "--yes"]).exits(4);
    assert!(ran.err.contains(&run), "{}", ran.err);
    let ran = site.restore(&["confirm", "--yes"]).exits(0);
    assert!(
        ran.err.starts_with(&format!("Confirmation of run {run}")),
        "{}",
        ran.err
    );
    site.restore(&["confirm", "--yes"]).exits(2);
}

/// A run that is left alone by the process that was asked for it; another follows it to its end.
#[test]
fn a_run_goes_on_without_its_terminal_and_is_watched() {
    let site = Site::new();
    site.backup();
    let config = site.read("restore.toml");
    site.write(
        "restore.toml",
        &format!("{config}test = [\"sleep\", \"2\"]\n"),
    );
    let ran = site
        .restore(&["run", "latest", "--yes", "--detach", "--json"])
        .exits(0);
    let run = ran.json()["detached"]["run"].as_str().unwrap().to_owned();
    assert!(ran.err.starts_with("Plan: "), "{}", ran.err);
    // Not before it has ended: the lock is another process's.
    site.restore(&["run", "latest", "--yes"]).exits(7);
    let watched = site.restore(&["watch", &run]).exits(0);
    assert!(
        watched.out.contains("Restored and checked\n"),
        "{}",
        watched.out
    );
    assert!(
        watched.err.contains("swap applications ("),
        "{}",
        watched.err
    );
    assert_eq!(site.read("live/opt/app/kept"), "backed up");
    // One that has ended is told from its beginning.
    let again = site.restore(&["watch", "--json"]).exits(0).json();
    assert_eq!(again["report"]["run"], run.as_str());
    site.restore(&["watch", "20200101-000000-aaaa"]).exits(2);
}

#[test]
fn a_detached_run_that_does_not_begin_says_why() {
    let site = Site::new();
    // Nothing comes on stdin.
    let ran = site.restore(&["detached", "--yes"]).exits(2);
    assert!(ran.err.contains("is no plan"), "{}", ran.err);
}

#[test]
fn with_progress_json_every_line_of_stderr_is_json() {
    let site = Site::new();
    site.backup();
    let ran = site
        .restore(&["run", "latest", "--yes", "--json", "--progress", "json"])
        .exits(0);
    assert_eq!(ran.json()["report"]["outcome"], "restored");
    let events: Vec<String> = ran
        .err
        .lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            value["event"].as_str().unwrap().to_owned()
        })
        .collect();
    for event in [
        "message",
        "run_started",
        "step_started",
        "step_finished",
        "run_finished",
    ] {
        assert!(
            events.iter().any(|seen| seen == event),
            "{event}: {events:?}"
        );
    }
    let ran = site
        .restore(&["rollback", "--yes", "-v", "--progress", "json"])
        .exits(0);
    let logged = ran.err.lines().any(|line| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["event"] == "log" && value["text"].as_str().unwrap().contains("step{")
    });
    assert!(logged, "{}", ran.err);
    let ran = site
        .restore(&["report", "nope", "--progress", "json"])
        .exits(2);
    let value: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(value["error"]["code"], "run.bad_id");
}

#[test]
fn progress_off_leaves_the_messages() {
    let site = Site::new();
    site.backup();
    let ran = site
        .restore(&["run", "latest", "--yes", "--progress", "off"])
        .exits(0);
    assert!(
        !ran.err
            .contains("stage applications beside the live data ("),
        "{}",
        ran.err
    );
    assert!(ran.out.contains(" of backup "), "{}", ran.out);
}

/// Has the site's component make a test of the files that a run has swapped, which does `wait`; gives the
/// file that is there from its begin on.
fn swapping(site: &Site, wait: &str) -> PathBuf {
    site.backup();
    let (live, begun) = (site.path("live/opt/app/more"), site.path("begun"));
    let (live, begun_name) = (live.display(), begun.display());
    // The live files are tested too, before the run: that must not count.
    let script = format!("test -e {live} || exit 0; touch {begun_name}; {wait}");
    let text = format!(
        "{}test = [\"/bin/sh\", \"-c\", \"{script}\"]\n",
        site.read("restore.toml")
    );
    site.write("restore.toml", &text);
    begun
}

/// Begins a run and gives it back once its data is swapped, in the middle of that test.
fn swapped(site: &Site, wait: &str) -> Child {
    let begun = swapping(site, wait);
    let child = site.command(&["run", "latest", "--yes"]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !begun.exists() {
        assert!(Instant::now() < deadline, "the run never came to its test");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn stopped(site: &Site, signal: &str, times: usize) -> Ran {
    let child = swapped(site, "sleep 1");
    for _ in 0..times {
        let kill = std::process::Command::new("kill")
            .args([format!("-{signal}"), child.id().to_string()])
            .status()
            .unwrap();
        assert!(kill.success());
        // Two signals of a kind that are not taken yet are one.
        std::thread::sleep(Duration::from_millis(50));
    }
    Ran::of(child.wait_with_output().unwrap())
}

fn is_as_before(site: &Site) {
    assert_eq!(site.read("live/opt/app/kept"), "live");
    assert_eq!(site.read("live/opt/app/own"), "only live");
    assert!(!site.path("live/opt/app/more").exists());
}

#[test]
fn a_run_that_is_asked_to_stop_is_undone() {
    for (signal, times) in [("INT", 1), ("TERM", 2), ("HUP", 4), ("QUIT", 1)] {
        let site = Site::new();
        let ran = stopped(&site, signal, times).exits(130);
        assert!(
            ran.err.contains("stopping: undoing what was begun"),
            "{}",
            ran.err
        );
        assert_eq!(
            ran.err.contains("still undoing"),
            signal == "TERM",
            "{}",
            ran.err
        );
        assert!(ran.out.contains("the platform is as it was"), "{}", ran.out);
        is_as_before(&site);
    }
}

#[test]
fn one_that_is_left_in_the_middle_says_how_to_finish() {
    let site = Site::new();
    let ran = stopped(&site, "INT", 3).exits(6);
    assert!(ran.err.contains("left in the middle"), "{}", ran.err);
    assert!(ran.err.contains("restore resume"), "{}", ran.err);
    assert!(
        site.restore(&["history"])
            .exits(0)
            .out
            .contains("unfinished, its process is gone")
    );
    // It was to be undone: what takes it up does not restore.
    let ran = site.restore(&["resume"]).exits(130);
    assert!(
        ran.out
            .contains("Restore interrupted; the platform is as it was"),
        "{}",
        ran.out
    );
    is_as_before(&site);
}

/// Does this on a terminal that goes away once a file is there that fits the pattern, or anything is said (`-`); what it
/// prints is the exit code.
fn without_terminal(site: &Site, gone: &str, args: &[&str]) -> Ran {
    let script = r#"
import glob, os, pty, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
deadline = time.time() + 30
os.set_blocking(terminal, False)
said = b""
while not (said if sys.argv[1] == "-" else glob.glob(sys.argv[1])):
    try:
        said += os.read(terminal, 65536)
    except BlockingIOError:
        time.sleep(0.005)
    if time.time() > deadline:
        sys.exit("it never came so far: %r" % said)
os.close(terminal)
while True:
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        break
    if time.time() > deadline:
        sys.exit("it does not end")
    time.sleep(0.01)
print(os.waitstatus_to_exitcode(status))
"#;
    let command = site.command(args);
    let mut python = std::process::Command::new("python3");
    python.arg("-c").arg(script).arg(gone);
    python.arg(command.get_program()).args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        python.current_dir(directory);
    }
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => python.env(key, value),
            None => python.env_remove(key),
        };
    }
    Ran::of(python.output().unwrap())
}

/// The terminal is gone in the middle: what is shown fails, and the run undoes itself all the same, begun or resumed.
#[test]
fn a_run_whose_terminal_is_gone_is_undone() {
    for args in [&["run", "latest", "--yes"][..], &["resume"]] {
        let site = Site::new();
        let begun = match args {
            ["resume"] => {
                let mut child = swapped(&site, "sleep 1");
                child.kill().unwrap();
                child.wait().unwrap();
                std::fs::remove_file(site.path("begun")).unwrap();
                site.path("begun")
            }
            _ => swapping(&site, "sleep 1"),
        };
        let ran = without_terminal(&site, begun.to_str().unwrap(), args);
        assert_eq!(ran.out.trim(), "130", "{args:?}: {}", ran.err);
        is_as_before(&site);
        let report = site.restore(&["report", "--json"]).exits(0).json();
        assert_eq!(report["report"]["outcome"], "undone");
        assert_eq!(report["report"]["failure"]["kind"], "interrupted");
    }
}

/// A way back that nobody watches any more goes on to its end; so does a confirmation, or it is confirmed again.
#[test]
fn a_rollback_and_a_confirmation_outlive_their_terminal() {
    let site = Site::new();
    site.backup();
    let at = |name: &str| site.path(name).display().to_string();
    let (up, armed, begun) = (at("up"), at("armed"), at("begun"));
    site.write("up", "");
    let stop = format!("rm -f {up}; test -e {armed} || exit 0; touch {begun}; sleep 0.5");
    let text = site.read("restore.toml")
        + &format!(
            "stops = [\"app\"]\n[services.app]\nstart = [\"touch\", \"{up}\"]\n\
             stop = [\"sh\", \"-c\", \"{stop}\"]\nstatus = [\"test\", \"-e\", \"{up}\"]\n"
        );
    site.write("restore.toml", &text);
    site.restore(&["run", "latest", "--yes"]).exits(0);
    site.write("armed", "");
    let ran = without_terminal(&site, &begun, &["rollback", "--yes"]);
    // All that went wrong is that nothing could be said.
    assert_eq!(ran.out.trim(), "1", "{}", ran.err);
    is_as_before(&site);
    assert!(site.path("up").exists());
    let report = site.restore(&["report", "--json"]).exits(0).json();
    assert_eq!(report["report"]["outcome"], "rolled_back");

    let ran = without_terminal(&site, "-", &["confirm", "--yes"]);
    assert!(["1", "130"].contains(&ran.out.trim()), "{}", ran.out);
    let report = site.restore(&["report", "--json"]).exits(0).json();
    if report["report"]["confirmed"] != true {
        site.restore(&["confirm", "--yes"]).exits(0);
    }
    let history = site.restore(&["history"]).exits(0);
    assert!(
        history.out.contains("rolled back, confirmed"),
        "{}",
        history.out
    );
    is_as_before(&site);
}

/// It stays unfinished, which is never restored.
#[test]
fn a_backup_whose_terminal_is_gone_is_unfinished() {
    let site = Site::new();
    site.shell("truncate -s 400M live/opt/app/large");
    let folder = site.path("backups").join("2*");
    let ran = without_terminal(&site, folder.to_str().unwrap(), &["backup"]);
    assert_eq!(ran.out.trim(), "130", "{}", ran.err);
    let ran = site.restore(&["list"]).exits(0);
    assert!(ran.out.contains("unfinished"), "{}", ran.out);
    let ran = site.restore(&["verify", "latest"]).exits(2);
    assert!(
        ran.err.contains("there is no finished backup"),
        "{}",
        ran.err
    );
}

#[test]
fn a_second_run_is_kept_out() {
    let site = Site::new();
    let end = site.path("end");
    let wait = format!("until test -e {}; do sleep 0.05; done", end.display());
    let first = swapped(&site, &wait);
    let another = site.restore(&["run", "latest", "--yes"]);
    let second = site.restore(&["rollback", "--yes"]);
    let third = site.restore(&["resume"]);
    site.write("end", "");
    another.exits(7);
    let second = second.exits(7);
    assert!(second.err.contains("a run is under way"), "{}", second.err);
    third.exits(7);
    Ran::of(first.wait_with_output().unwrap()).exits(0);
    assert_eq!(site.read("live/opt/app/kept"), "backed up");
}

/// Nobody can stop it before, as what stops it is moved back with the rest.
#[test]
fn a_service_whose_program_is_lost_is_stopped_once_that_is_back() {
    let site = Site::new();
    let ctl = "#!/bin/sh\ncd \"$(dirname \"$0\")/../../..\"\ncase $1 in start) echo up >up ;; \
               stop) rm -f up ;; status) test -e up ;; esac\n";
    site.write("live/opt/app/ctl", ctl);
    site.write("made/app/ctl", ctl);
    site.shell("chmod 755 live/opt/app/ctl made/app/ctl; live/opt/app/ctl start");
    site.backup();
    let app = site.path("live/opt/app").display().to_string();
    let text = site.read("restore.toml");
    let more = format!(
        "stops = [\"app\"]\n[services.app]\nstart = [\"{app}/ctl\", \"start\"]\n\
         stop = [\"{app}/ctl\", \"stop\"]\nstatus = [\"{app}/ctl\", \"status\"]\n\
         [hooks.lose]\nkind = \"command\"\nwhen = [\"after-swap\"]\n\
         command = [\"/bin/sh\", \"-c\", \"rm {app}/ctl; exit 3\"]\n"
    );
    site.write("restore.toml", &format!("{text}{more}"));
    let ran = site.restore(&["run", ID, "--yes"]).exits(5);
    assert!(ran.err.contains("its own program is gone"), "{}", ran.err);
    assert_eq!(site.read("live/opt/app/kept"), "live");
    assert!(site.path("up").exists(), "{}", ran.err);
}

/// Nobody watches those that a timer makes.
#[test]
fn a_drill_that_finds_no_backup_is_told() {
    let site = Site::new();
    let told = site.path("told");
    let text = site.read("restore.toml");
    let hook = format!(
        "[hooks.alarm]\nkind = \"command\"\nwhen = [\"on-failure\"]\nfor = [\"drill\"]\n\
         command = [\"/bin/sh\", \"-c\", \"echo $RESTORE_SUBJECT >>{}\"]\n",
        told.display()
    );
    site.write("restore.toml", &format!("{text}{hook}"));
    site.restore(&["drill", "latest"]).exits(2);
    assert_eq!(site.read("told"), "drill\n");
    std::fs::remove_dir(site.path("backups")).unwrap();
    site.restore(&["drill", "latest"]).exits(2);
    assert_eq!(site.read("told"), "drill\ndrill\n");
}
