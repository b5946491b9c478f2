//! `restore init`: a first configuration, which is never written over another.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::site::{ID, Ran, Site, command};

#[test]
fn a_file_that_is_there_is_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("restore.toml");
    std::fs::write(&file, "mine").unwrap();
    let here = dir.path().to_str().unwrap();
    let ran = Ran::of(
        command(dir.path(), &["init", "--below", here])
            .output()
            .unwrap(),
    )
    .exits(2);
    assert!(
        ran.err.contains("is there already: nothing was written"),
        "{}",
        ran.err
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    let ran = Ran::of(
        command(dir.path(), &["init", "--below", here, "--print"])
            .output()
            .unwrap(),
    )
    .exits(0);
    assert!(
        ran.out.contains("[site]") && ran.out.contains("TO DO: "),
        "{}",
        ran.out
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

/// A server that this test starts is found with its file, its port, and its backups' trees, and the file passes the check.
#[test]
fn what_runs_is_found_and_the_file_passes_the_check() {
    let site = Site::new();
    site.backup();
    std::fs::remove_file(site.path("restore.toml")).unwrap();
    site.write(
        "live/opt/app/serve.py",
        "import socket, time\ns = socket.create_server(('127.0.0.1', 0))\nprint(s.getsockname()[1], flush=True)\ntime.sleep(600)\n",
    );
    let mut server = Command::new("/usr/bin/python3")
        .arg(site.path("live/opt/app/serve.py"))
        .current_dir(site.path("live"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut port)
        .unwrap();
    std::fs::create_dir(site.path("live/run")).unwrap();
    site.write("live/run/serve.pid", &format!("{}\n", server.id()));
    let here = site.path("").canonicalize().unwrap();
    let here = here.to_str().unwrap();
    let ran = site.restore(&["init", "--below", here, "--backups", "backups", "--json"]);
    let checked = site.restore(&["config", "check"]);
    server.kill().unwrap();
    server.wait().unwrap();
    let init = ran.exits(0).json();
    let text = site.read("restore.toml");
    assert_eq!(init["init"]["text"], text);
    for part in [
        "[services.serve]".to_owned(),
        format!("endpoint = \"127.0.0.1:{}\"", port.trim()),
        format!("pid_file = \"{here}/live/run/serve.pid\""),
        "[components.applications]".to_owned(),
        format!("root = \"{here}/live/opt\""),
        "tree = \"app\"".to_owned(),
        "stops = [\"serve\"]".to_owned(),
        format!("path = \"{here}/backups\""),
    ] {
        assert!(text.contains(&part), "{part}\n{text}");
    }
    let mode = site
        .path("restore.toml")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let checked = checked.exits(0);
    assert!(checked.out.contains("is sound"), "{}", checked.out);
}

#[test]
fn a_backup_carries_its_configuration() {
    let site = Site::new();
    site.backup();
    let ran = site
        .restore(&[
            "init",
            "--from",
            ID,
            "--backups",
            "backups",
            "-o",
            "new.toml",
        ])
        .exits(2);
    assert!(
        ran.err
            .contains(&format!("backup {ID} carries no restore.toml")),
        "{}",
        ran.err
    );
    let made = site.restore(&["backup", "--json"]).exits(0).json();
    let id = made["backup"]["id"].as_str().unwrap();
    for id in ["latest", id] {
        let ran = site
            .restore(&["init", "--from", id, "--backups", "backups", "--print"])
            .exits(0);
        assert_eq!(ran.out, site.read("restore.toml"));
    }
    site.restore(&[
        "init",
        "--from",
        "latest",
        "--backups",
        "backups",
        "-o",
        "new.toml",
    ])
    .exits(0);
    assert_eq!(site.read("new.toml"), site.read("restore.toml"));
    site.write(
        &format!("backups/{id}/restore.toml"),
        "[site]\nname = 'evil'\n",
    );
    let ran = site
        .restore(&["init", "--from", id, "--backups", "backups", "--print"])
        .exits(3);
    assert!(
        ran.err.contains("is not what its manifest says"),
        "{}",
        ran.err
    );
}
