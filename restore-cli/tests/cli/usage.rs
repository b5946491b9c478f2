//! Arguments, configuration, where output goes: nothing here restores.

use std::process::Stdio;

use crate::site::{Ran, Site, command};

#[test]
fn help_is_data_and_tells_the_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let ran = Ran::of(command(dir.path(), &["--help"]).output().unwrap()).exits(0);
    assert!(ran.out.contains("130  interrupted; undone"), "{}", ran.out);
    assert_eq!(ran.err, "");
    let ran = Ran::of(command(dir.path(), &["--version"]).output().unwrap()).exits(0);
    assert_eq!(ran.out, format!("restore {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_makes_no_sense_is_usage() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &["frob"][..],
        &[],
        &["show"],
        &["list", "--frob"],
        &["run", "--yes"],
    ] {
        let ran = Ran::of(command(dir.path(), args).output().unwrap()).exits(2);
        assert_eq!(ran.out, "", "{args:?}");
        assert!(!ran.err.is_empty(), "{args:?}");
    }
}

#[test]
fn a_level_that_is_none_is_usage() {
    let site = Site::new();
    site.backup();
    let logging = |level: &str, args: &[&str]| {
        let mut command = site.command(args);
        Ran::of(command.env("RESTORE_LOG", level).output().unwrap())
    };
    let ran = logging("loud", &["list"]).exits(2);
    assert!(ran.err.contains("RESTORE_LOG is \"loud\""), "{ran:?}");
    // Nothing is logged then.
    logging("loud", &["--quiet", "list"]).exits(0);
    Ran::of(site.command(&["-q", "-v", "list"]).output().unwrap()).exits(2);
}

#[test]
fn with_json_a_usage_error_is_a_document_too() {
    let dir = tempfile::tempdir().unwrap();
    let ran = Ran::of(command(dir.path(), &["frob", "--json"]).output().unwrap()).exits(2);
    assert_eq!(ran.json()["error"]["code"], "cli.usage");
    assert_eq!(ran.json()["error"]["kind"], "config");
}

#[test]
fn without_a_configuration_the_places_are_named() {
    if std::path::Path::new("/etc/restore/restore.toml").exists() {
        // Then it is found, which is the next best proof of where is looked.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ran = Ran::of(command(dir.path(), &["list"]).output().unwrap()).exits(2);
    assert_eq!(ran.out, "");
    assert_eq!(
        ran.err,
        "error: no configuration: RESTORE_CONFIG is not set, and there is no ./restore.toml and \
         no /etc/restore/restore.toml\n\
         hint: name it with --config FILE or in RESTORE_CONFIG\n"
    );
}

#[test]
fn a_named_configuration_must_be_there() {
    let site = Site::new();
    let ran = site.restore(&["list", "--config", "other.toml"]).exits(2);
    assert!(ran.err.contains("other.toml"), "{}", ran.err);
    let mut command = site.command(&["list"]);
    command.env("RESTORE_CONFIG", "third.toml");
    let ran = Ran::of(command.output().unwrap()).exits(2);
    assert!(ran.err.contains("third.toml"), "{}", ran.err);
    let mut command = site.command(&["list", "--config", "restore.toml"]);
    command.env("RESTORE_CONFIG", "third.toml");
    Ran::of(command.output().unwrap()).exits(0);
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let site = Site::new();
    let text = site.read("restore.toml").replace("root =", "rot =");
    site.write("restore.toml", &text);
    let ran = site.restore(&["list"]).exits(2);
    assert!(
        ran.err
            .contains("[components.applications] unknown key `rot`"),
        "{}",
        ran.err
    );
    assert!(
        ran.err.contains("hint: did you mean `root`?"),
        "{}",
        ran.err
    );
    let ran = site.restore(&["--json", "list"]).exits(2);
    assert_eq!(ran.json()["error"]["hint"], "did you mean `root`?");
}

#[test]
fn shells_complete_ids_and_names_of_the_site() {
    let site = Site::new();
    site.backup();
    for shell in ["bash", "zsh", "fish"] {
        let script = site.restore(&["completions", shell]).exits(0);
        assert!(script.out.contains("RESTORE_COMPLETE"), "{}", script.out);
        assert!(
            !script.out.contains("\\u{"),
            "nothing is escaped: {}",
            script.out
        );
    }
    let complete = |words: &[&str]| {
        let mut command = site.command(&[]);
        command
            .env("RESTORE_COMPLETE", "bash")
            .env("_CLAP_IFS", "\n");
        command.env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
        command.arg("--").args(words);
        let ran = Ran::of(command.output().unwrap()).exits(0);
        ran.out
            .lines()
            .map(|line| line.trim().to_owned())
            .collect::<Vec<_>>()
    };
    let ids = complete(&["restore", "plan", ""]);
    assert!(
        ids.contains(&"20240215-020000".to_owned()) && ids.contains(&"latest".to_owned()),
        "{ids:?}"
    );
    assert_eq!(
        complete(&["restore", "plan", "latest", "--only", "app"]),
        ["applications"]
    );
    assert_eq!(complete(&["restore", "histo"]), ["history"]);
}

#[test]
fn what_does_not_exist_is_usage() {
    let site = Site::new();
    site.backup();
    for (args, word) in [
        (&["show", "20200101-000000"][..], "20200101-000000"),
        (&["show", "../etc"], "is not a backup id"),
        (&["report", "nope"], "is not a run id"),
        (&["report", "20240215-093000-7f3a"], "20240215-093000-7f3a"),
        (&["report"], "there is no run yet"),
        (&["rollback", "--yes"], "no run to roll back"),
        (&["confirm", "--yes"], "no run to confirm"),
        (&["resume"], "no unfinished run"),
    ] {
        let ran = site.restore(args).exits(2);
        assert!(ran.err.starts_with("error: "), "{args:?}: {}", ran.err);
        assert!(ran.err.contains(word), "{args:?}: {}", ran.err);
        assert_eq!(ran.out, "", "{args:?}");
    }
}

#[test]
fn without_a_terminal_yes_must_be_said() {
    let site = Site::new();
    site.backup();
    // That there is nothing to do takes no answer.
    for (args, says) in [
        (&["rollback"][..], "there is no run to roll back"),
        (&["confirm"], "there is no run to confirm"),
        (&["abandon"], "there is no run to abandon"),
    ] {
        let ran = site.restore(args).exits(2);
        assert!(ran.err.contains(says), "{args:?}: {}", ran.err);
    }
    site.restore(&["unlock"]).exits(0);
    let refused = |args: &[&str]| {
        let ran = site.restore(args).exits(2);
        assert_eq!(
            ran.err,
            "error: there is no terminal to ask on; nothing was done\n\
             hint: add --yes to go on without being asked\n",
            "{args:?}"
        );
    };
    refused(&["run", "latest"]);
    assert_eq!(site.read("live/opt/app/kept"), "live");
    site.restore(&["run", "latest", "--yes"]).exits(0);
    refused(&["rollback"]);
    refused(&["confirm"]);
    assert_eq!(site.read("live/opt/app/kept"), "backed up");
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let site = Site::new();
    site.backup();
    for args in [&["list"][..], &["--json", "show", "latest"], &["--help"]] {
        let mut child = site.command(args).spawn().unwrap();
        drop(child.stdout.take());
        let ran = Ran::of(child.wait_with_output().unwrap()).exits(0);
        assert_eq!(ran.err, "", "{args:?}");
    }
}

#[test]
fn a_full_disk_behind_stdout_is_an_error() {
    let site = Site::new();
    site.backup();
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = site.command(&["list"]);
    let ran = Ran::of(command.stdout(Stdio::from(full)).output().unwrap()).exits(1);
    assert!(
        ran.err
            .starts_with("error: cannot write to standard output"),
        "{}",
        ran.err
    );
}

/// A restore on another machine starts it and reads the answer: that it was heard, and what came of it.
#[test]
fn a_volume_agent_answers_one_request() {
    let dir = tempfile::tempdir().unwrap();
    let asked = |what: &str| {
        let version = env!("CARGO_PKG_VERSION");
        let request = format!("{{\"version\":\"{version}\",\"what\":{what}}}\n");
        std::fs::write(dir.path().join("request"), request).unwrap();
        let path = dir.path().to_str().unwrap();
        let mut command = command(dir.path(), &["volume-agent", path]);
        command.stdin(std::fs::File::open(dir.path().join("request")).unwrap());
        Ran::of(command.output().unwrap()).exits(0)
    };
    let ran = asked("{\"state\":{\"run\":\"20240216-093000-7f3a\"}}");
    assert_eq!(
        (ran.out.as_str(), ran.err.as_str()),
        ("\"heard\"\n{\"done\":\"nothing\"}\n", "")
    );
    let ran = asked("{\"frob\":{}}");
    assert_eq!(ran.json()["failed"]["code"], "agent.broken");
    assert_eq!(ran.err, "");
}
