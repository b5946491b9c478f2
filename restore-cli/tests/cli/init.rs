//! `restore init`: a first configuration, which is never written over another.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
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

/// Whoever owns a folder may have put a link into it that leads root to another one.
#[test]
fn nothing_is_written_where_a_strangers_link_leads() {
    use std::os::unix::fs::{chown, symlink};
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let dir = dir.path().canonicalize().unwrap();
    for name in ["target", "theirs", "below"] {
        std::fs::create_dir(dir.join(name)).unwrap();
    }
    let (target, link) = (dir.join("target"), dir.join("theirs/link"));
    symlink(&target, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(65534), Some(65534)).unwrap();
    chown(dir.join("theirs"), Some(65534), Some(65534)).unwrap();
    let init = |output: &std::path::Path| {
        let below = dir.join("below");
        let output = output.to_str().unwrap();
        let words = [
            "init",
            "--below",
            below.to_str().unwrap(),
            "--output",
            output,
        ];
        Ran::of(command(&below, &words).output().unwrap())
    };
    let ran = init(&link.join("restore.toml")).exits(4);
    assert!(ran.err.contains("could lead"), "{}", ran.err);
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    // A link of root's own leads where root says.
    symlink(&target, dir.join("ours")).unwrap();
    init(&dir.join("ours/restore.toml")).exits(0);
    assert!(target.join("restore.toml").exists());
}

/// The configuration is there, and whole, where the schema beside it cannot be written.
#[test]
fn what_cannot_be_written_beside_the_file_is_left_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().canonicalize().unwrap().join("a b");
    std::fs::create_dir(&folder).unwrap();
    let here = folder.to_str().unwrap();
    let init = |limit: &str| {
        let words = command(&folder, &["init", "--below", here]);
        let mut limited = Command::new("sh");
        // Of the two files it is by far the longer one.
        limited.args(["-c", &format!("trap '' XFSZ; {limit}; exec \"$@\""), "sh"]);
        limited.arg(words.get_program()).args(words.get_args());
        Ran::of(limited.current_dir(&folder).output().unwrap()).exits(0)
    };
    let short = init("ulimit -f 96");
    let schema = folder.join("restore.schema.json");
    assert!(
        short
            .out
            .contains(&format!("`restore config schema > '{}'`", schema.display())),
        "{}",
        short.out
    );
    assert!(!schema.exists() && folder.join("restore.toml").exists());
    std::fs::remove_file(folder.join("restore.toml")).unwrap();
    let whole = init("true");
    let file = folder.join("restore.toml");
    let told = format!("Wrote {} and {}.\n", file.display(), schema.display());
    assert!(whole.out.starts_with(&told), "{}", whole.out);
    let next = format!("restore --config '{}' config check", file.display());
    assert!(whole.out.contains(&next), "{}", whole.out);
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
    let schema = init["init"]["schema"].as_str().unwrap();
    assert!(schema.ends_with("/restore.schema.json"), "{schema}");
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

/// A machine that has nothing but the backups and the program: three commands.
#[test]
fn on_a_new_machine_the_file_comes_out_of_a_backup() {
    let site = Site::new();
    site.write("pass", "secret\n");
    std::fs::set_permissions(site.path("pass"), PermissionsExt::from_mode(0o600)).unwrap();
    let toml = site.read("restore.toml");
    let signing = "\n[components.db]\nkind = 'postgres'\nservice = 'db'\ndatabase = 'd'\nuser = 'u'\npassword_file = 'pass'\n[components.more]\nkind = 'postgres'\nservice = 'db'\ndatabase = 'm'\nuser = 'u'\npassword_file = 'pass'\n[services.db]\ncommand = ['/bin/true']\nendpoint = '127.0.0.1:1'\n";
    let made = site.restore(&["backup", "--json"]).exits(0).json();
    let id = made["backup"]["id"].as_str().unwrap().to_owned();
    // What a site with a password carries.
    let carried = format!("{toml}{signing}");
    site.write(&format!("backups/{id}/restore.toml"), &carried);
    let shell = |script: &str| {
        let output = Command::new("bash")
            .args(["-euc", script])
            .current_dir(site.path(&format!("backups/{id}")))
            .env("GNUPGHOME", site.path("keys"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    shell(
        r#"sum=$(sha256sum restore.toml | cut -d' ' -f1); size=$(stat -c %s restore.toml)
           sed -i -E "s/^restore\.toml\|.*/restore.toml|$size|$sum/" MANIFEST.txt; grep -q "$sum" MANIFEST.txt"#,
    );
    let new = site.path("new");
    std::fs::create_dir(&new).unwrap();
    let backups = site.path("backups");
    let backups = backups.to_str().unwrap();
    let init = |args: &[&str]| {
        let mut all = vec!["init", "--from", backups];
        all.extend(args);
        Ran::of(command(&new, &all).output().unwrap())
    };
    let ran = init(&[&id]).exits(0);
    for part in [
        format!("it is that of backup {id}, which is not signed: whoever can write to"),
        format!(
            "make {}/pass: password_file of [components.db] and password_file of [components.more], readable by nobody else",
            new.display()
        ),
        format!(
            "relative paths in it meant places below {0}, and mean places below {1} now: write them in full, or have the file there (--output {0}/restore.toml): ",
            site.path("").canonicalize().unwrap().display(),
            new.display()
        ),
        "state = \"state\" of [site]".to_owned(),
        format!("these are in {backups}"),
        format!(
            "restore.toml plan {id} --create\nThe plan names the run to type next, or the two that Docker takes where nothing is left.\n"
        ),
    ] {
        assert!(ran.out.contains(&part), "{part}\n{}", ran.out);
    }
    // A run that is refused on an engine of which nothing is left is no next step.
    assert!(!ran.out.contains("restore.toml run "), "{}", ran.out);
    assert!(!ran.out.contains("redeploy"), "{}", ran.out);
    assert_eq!(ran.out.matches("/pass: ").count(), 1, "{}", ran.out);
    // Who looks for a configuration where backups are is told that they carry one.
    let found = Ran::of(
        command(
            &new,
            &["init", "--backups", backups, "--below", backups, "--print"],
        )
        .output()
        .unwrap(),
    );
    let found = found.exits(0).out;
    let words = found.replace("\n# ", " ");
    assert!(
        words.contains(&format!("`restore init --from {backups} {id}`")),
        "{found}"
    );
    let file = new.join("restore.toml");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), carried);
    std::fs::write(&file, "mine").unwrap();
    for id in [&id[..], "latest"] {
        let ran = init(&[id]).exits(2);
        assert!(ran.err.contains("is there already"), "{}", ran.err);
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");

    // Signed by a key that is asked for, by another one, by nobody.
    shell("mkdir -m 700 $GNUPGHOME");
    let key = |who: &str| {
        shell(&format!(
            "gpg --batch -q --passphrase '' --quick-gen-key {who}@example.org ed25519 sign never
             gpg --batch --with-colons --list-keys {who} | awk -F: '/^fpr/{{print $10; exit}}'"
        ))
    };
    let (right, other) = (key("right"), key("other"));
    let keys = site.path("keys");
    let signed_by = |key: &str| {
        let keys = keys.to_str().unwrap();
        init(&[&id, "--print", "--signed-by", key, "--gnupg-home", keys])
    };
    let ran = signed_by(&right).exits(3);
    assert!(
        ran.err.contains("its manifest is not signed"),
        "{}",
        ran.err
    );
    shell("gpg --batch -q --armor -u right@example.org --detach-sign MANIFEST.txt");
    let ran = signed_by(&other).exits(3);
    assert!(ran.err.contains("is signed by the key"), "{}", ran.err);
    assert_eq!(signed_by(&right).exits(0).out, carried);
    let told = init(&["latest", "-o", "unchecked.toml"]).exits(0);
    assert!(told.out.contains("was not checked"), "{}", told.out);
    let json = site
        .restore(&[
            "init",
            "--from",
            &id,
            "--backups",
            "backups",
            "-o",
            "signed.toml",
            "--signed-by",
            &right,
            "--gnupg-home",
            "keys",
            "--json",
        ])
        .exits(0)
        .json();
    let first = json["init"]["todo"][0].as_str().unwrap();
    assert_eq!(
        first,
        format!("it is that of backup {id}, signed by {right}")
    );

    // The manifest of another backup is not believed.
    shell(
        "rm MANIFEST.txt.asc; sed -i 's/^Backup ID: .*/Backup ID: 20200101-000000/' MANIFEST.txt",
    );
    let ran = init(&[&id, "--print"]).exits(3);
    assert!(
        ran.err.contains("is that of backup 20200101-000000"),
        "{}",
        ran.err
    );
}
