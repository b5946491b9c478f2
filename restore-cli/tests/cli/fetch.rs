//! `restore fetch`, and how `list` and `run` deal with what is not here.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::site::{ID, Ran, Site};
use restore_testing::sshd::Sshd;

/// A site whose one backup is on another host.
fn elsewhere() -> (Site, Sshd) {
    let site = Site::new();
    site.backup();
    std::fs::rename(site.path("backups"), site.path("there")).unwrap();
    std::fs::create_dir(site.path("backups")).unwrap();
    let sshd = Sshd::start();
    let config = sshd.good_client(sshd.port);
    let text = site.read("restore.toml");
    site.write(
        "restore.toml",
        &format!(
            "{text}\n[stores.nas]\nkind = \"ssh\"\nhost = \"nas\"\nconfig = \"{}\"\npath = \"{}\"\n",
            config.display(),
            site.path("there").display()
        ),
    );
    (site, sshd)
}

#[test]
fn a_run_fetches_what_is_not_here_and_a_plan_does_not() {
    let (site, _sshd) = elsewhere();
    let listed = site.restore(&["list"]);
    assert_eq!(listed.code, Some(0), "{}", listed.err);
    assert!(listed.out.contains("nas"), "{}", listed.out);
    let plan = site.restore(&["plan", ID]);
    assert_eq!(plan.code, Some(4), "{}", plan.err);
    assert!(plan.err.contains("restore fetch"), "{}", plan.err);
    let verified = site.restore(&["verify", ID]);
    assert_eq!(verified.code, Some(0), "{}", verified.err);
    assert!(verified.out.contains("VERIFIED"), "{}", verified.out);

    let done = site.restore(&["run", ID, "--yes"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.err.contains("fetched from nas"), "{}", done.err);
    assert_ne!(site.read("live/opt/app/kept"), "live");
    assert!(site.path(&format!("backups/{ID}/MANIFEST.txt")).exists());
    let again = site.restore(&["fetch", ID, "--json"]);
    assert_eq!(again.code, Some(0), "{}", again.err);
    let value: serde_json::Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!(value["fetched"]["already_there"], true);
}

/// A new machine that reaches the backups by ssh alone.
#[test]
fn a_configuration_comes_out_of_a_backup_of_another_host() {
    let site = Site::new();
    let made = site.restore(&["backup", "--json"]).exits(0).json();
    let id = made["backup"]["id"].as_str().unwrap();
    std::fs::rename(site.path("backups"), site.path("there")).unwrap();
    let sshd = Sshd::start();
    let config = sshd.good_client(sshd.port);
    let store = format!(
        "[stores.nas]\nkind = \"ssh\"\nhost = \"nas\"\nconfig = \"{}\"\npath = \"{}\"\n",
        config.display(),
        site.path("there").display()
    );
    site.write("nas.toml", &store);
    let init = |from: &[&str], more: &[&str]| {
        let mut all = vec!["init", "--from"];
        all.extend(from);
        all.extend(more);
        site.restore(&all)
    };
    let printed = init(&[id], &["--store", "nas.toml", "--print"]).exits(0);
    assert_eq!(printed.out, site.read("restore.toml"));
    let ran = init(&["latest"], &["--store", "nas.toml", "-o", "new.toml"]).exits(0);
    assert_eq!(site.read("new.toml"), site.read("restore.toml"));
    let elsewhere = "none of its stores is where it came from (";
    assert!(ran.out.contains(elsewhere), "{}", ran.out);
    // The keys that the store asks for count here as well.
    site.write("signed.toml", &format!("{store}require_signature = true\n"));
    let unsigned = init(&[id], &["--store", "signed.toml", "--print"]).exits(3);
    assert!(unsigned.err.contains("signature"), "{}", unsigned.err);
    let two = init(&["there", id], &["--store", "nas.toml", "--print"]).exits(2);
    assert!(two.err.contains("names one as well"), "{}", two.err);
    let other = init(&["ftp://nas/there", id], &["--print"]).exits(2);
    assert!(other.err.contains("is no store"), "{}", other.err);
}

#[test]
fn a_store_that_cannot_be_asked_hides_nothing_that_is_here() {
    let (site, sshd) = elsewhere();
    assert_eq!(site.restore(&["fetch", ID]).code, Some(0));
    drop(sshd);
    let listed = site.restore(&["list"]);
    assert!(listed.out.contains(ID), "{}", listed.out);
    assert!(listed.err.contains("the store nas"), "{}", listed.err);
    assert_ne!(listed.code, Some(0));
    let plan = site.restore(&["plan", ID]);
    assert_eq!(plan.code, Some(0), "{}", plan.err);
    let unknown = site.restore(&["fetch", ID, "--from", "nowhere"]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.err);
}

#[test]
fn killed_in_the_middle_it_goes_on() {
    let (site, _sshd) = elsewhere();
    site.shell(&format!(
        "cd there/{ID} && head -c 300000000 /dev/urandom > app/big && \
         sed -i \"/=== Summary/i app/big|1|$(sha256sum app/big | cut -d' ' -f1)\" MANIFEST.txt && \
         sed -i 's/Total Files: 1/Total Files: 2/' MANIFEST.txt"
    ));
    let mut child = Command::new(env!("CARGO_BIN_EXE_restore"))
        .arg("--config")
        .arg(site.path("restore.toml"))
        .args(["fetch", ID])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let ledger = site.path(&format!("backups/.fetching-{ID}/ledger"));
    let deadline = Instant::now() + Duration::from_secs(60);
    // Notes are made each 64 MiB.
    while !std::fs::read_to_string(&ledger).is_ok_and(|text| text.contains("app/big")) {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!site.path(&format!("backups/{ID}")).exists());
    let listed = site.restore(&["list", "--json"]).exits(0).json();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 1);
    let done = site.restore(&["fetch", ID]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.contains("of it kept from before"), "{}", done.out);
    assert!(done.out.contains("VERIFIED"));
    site.shell(&format!("diff -r there/{ID} backups/{ID}"));
}

#[test]
fn a_passphrase_of_the_environment_shows_up_nowhere() {
    const SECRET: &str = "tr0ub4dor&3 of the environment";
    let site = Site::new();
    site.backup();
    site.shell(&format!(
        "mkdir -m 700 gnupg plain; printf '%s' '{SECRET}' | gpg --homedir gnupg --batch --quiet \
         --pinentry-mode loopback --passphrase-fd 0 -c -o there.gpg {}; \
         tar -C backups -czf b.tgz {ID}; printf '%s' '{SECRET}' | gpg --homedir gnupg --batch \
         --pinentry-mode loopback --passphrase-fd 0 -o backups/backup-{ID}.tar.gz.gpg -c b.tgz; \
         rm -r backups/{ID}; gpgconf --homedir gnupg --kill all",
        "restore.toml"
    ));
    let text = site.read("restore.toml").replace(
        "[stores.main]\n",
        "[stores.plain]\nkind = \"directory\"\npath = \"plain\"\nunlocked = true\n[stores.main]\n\
         gnupg_home = \"gnupg\"\npassphrase_env = \"BACKUP_PASS\"\n",
    );
    site.write("restore.toml", &text);
    let listed = site.restore(&["list"]).exits(0);
    assert!(listed.out.contains("encrypted"), "{}", listed.out);
    let run = |secret: &str| {
        let args = ["run", ID, "--yes", "-vv", "--progress", "json", "--json"];
        let mut command = site.command(&args);
        Ran::of(command.env("BACKUP_PASS", secret).output().unwrap())
    };
    let wrong = run("tr0ub4dor&3 is wrong").exits(3);
    assert!(wrong.err.contains("unlock.wrong_passphrase"), "{wrong:#?}");
    let done = run(SECRET).exits(0);
    for words in [
        [r#"program{name=\"gpg\" "#, "ended code=0 ms="],
        [r#"step{step=\"stage:applications\" "#, "done ms="],
    ] {
        let mut lines = done.err.lines();
        let logged = lines.any(|line| words.iter().all(|word| line.contains(word)));
        assert!(logged, "{words:?} in {}", done.err);
    }
    assert_ne!(site.read("live/opt/app/kept"), "live");
    site.shell("gpgconf --homedir gnupg --kill all; ! grep -r tr0ub4dor . --exclude-dir=live");
    for ran in [wrong, done] {
        assert!(
            !ran.out.contains("tr0ub4dor") && !ran.err.contains("tr0ub4dor"),
            "{ran:#?}"
        );
    }
}
