//! Among people who are not trusted: whose configuration is obeyed, what children are given, who can
//! read what is kept, and what names of others come to.
//!
//! It takes root, as the program does.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ID: &str = "20240215-020000";
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests are those of root: run them through scripts/test-runner"
    );
    true
}

/// A site with one volume that belongs to nobody, and a backup of it.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new(further: &str) -> Self {
        let site = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        mode(site.dir.path(), 0o755);
        for folder in ["volume", "state", "seen", "made"] {
            std::fs::create_dir(site.path(folder)).unwrap();
        }
        site.write("volume/file", "live");
        site.write("made/file", "restored");
        mode(&site.path("seen"), 0o777);
        if is_root() {
            for path in ["volume", "volume/file", "made", "made/file"] {
                chown(site.path(path), Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        site.write(
            "restore.toml",
            &format!(
                r#"
[site]
name = "s"
state = "state"
log = "site.log"
[stores.main]
kind = "directory"
path = "backups"
[volumes.data]
path = "volume"
[components.data]
kind = "volume"
volume = "data"
archive = ["volumes/data-{{id}}.tar.gz"]
stops = []
{further}
"#
            ),
        );
        site.shell(&format!(
            "mkdir -p backups/{ID}/volumes && tar -C made -czf backups/{ID}/volumes/data-{ID}.tar.gz ."
        ));
        site.list();
        site
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    fn write(&self, relative: &str, content: &str) {
        std::fs::write(self.path(relative), content).unwrap();
    }

    fn read(&self, relative: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path(relative)).unwrap()).into_owned()
    }

    fn list(&self) {
        self.shell(&format!(
            r#"cd backups/{ID} && {{ echo "Backup ID: {ID}"; echo "Size Unit: bytes"; find . -type f ! -name 'MANIFEST.txt*' -printf '%P\n' | sort |
               while read -r f; do echo "$f|$(stat -c %s "$f")|$(sha256sum "$f" | cut -d' ' -f1)"; done; echo "End: yes"; }} > ../m && mv ../m MANIFEST.txt"#
        ));
    }

    fn shell(&self, script: &str) -> String {
        let output = Command::new("bash")
            .args(["-ec", script])
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_restore"));
        command
            .arg("--config")
            .arg(self.path("restore.toml"))
            .args(["--progress", "plain"])
            .args(arguments);
        command
    }

    fn run(&self) -> Output {
        self.command(&["run", ID, "--yes"]).output().unwrap()
    }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn done(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

/// Everything below a folder that others can read or write.
fn open_to_others(folder: &Path) -> Vec<PathBuf> {
    let mut open = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        if meta.permissions().mode() & 0o077 != 0 && !meta.is_symlink() {
            open.push(path.clone());
        }
        if meta.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            todo.extend(entries.map(|entry| entry.unwrap().path()));
        }
    }
    open
}

#[test]
fn a_configuration_that_others_can_write_is_refused_with_the_command_that_mends_it() {
    let site = Site::new("[checks.x]\nkind = \"command\"\ncommand = [\"touch\", \"seen/obeyed\"]");
    let toml = site.path("restore.toml");
    mode(&toml, 0o666);
    for verb in ["list", "check"] {
        let output = site.command(&[verb]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        let said = said(&output);
        assert!(
            said.contains("restore.toml") && said.contains("0666"),
            "{said}"
        );
        assert!(
            said.contains(&format!("chmod go-w {}", toml.display())),
            "{said}"
        );
    }
    site.shell("chmod go-w restore.toml");
    done(&site.command(&["list"]).output().unwrap());
    // Nor is one taken out of a folder where others can put their own.
    mode(site.dir.path(), 0o777);
    assert_eq!(
        site.command(&["list"]).output().unwrap().status.code(),
        Some(2)
    );
    assert!(!site.path("seen/obeyed").exists());
}

#[test]
fn root_does_not_obey_the_configuration_of_the_folder_it_stands_in() {
    if !is_root() {
        return;
    }
    let site = Site::new("");
    for path in ["restore.toml", "."] {
        chown(site.path(path), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_restore"))
        .arg("list")
        .current_dir(site.dir.path())
        .env_remove("RESTORE_CONFIG")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output);
    assert!(
        said.contains("belongs to nobody") && said.contains("chown 0 "),
        "{said}"
    );
}

/// What a hook of a service finds in its environment, and whether it has a terminal.
#[test]
fn children_have_a_clean_environment_and_no_terminal() {
    let user = if is_root() { "user = \"nobody\"" } else { "" };
    let site = Site::new(&format!(
        r#"service = "app"
reload = ["sh", "-c", "env > seen/hook; cut -d' ' -f5-7 /proc/$$/stat > seen/hook-session; echo $$ >> seen/hook-session"]
[services.app]
start = ["sh", "-c", "env > seen/start"]
stop = ["sh", "-c", "env > seen/stop"]
status = ["true"]
{user}
[checks.x]
kind = "command"
command = ["sh", "-c", "env > seen/check; cat /proc/$$/cmdline"]"#
    ));
    let seen = site.path("seen");
    site.shell(&format!(
        "sed -i 's|seen/|{}/|g' restore.toml",
        seen.display()
    ));
    site.shell(
        r#"sed -i 's|^path = "backups"|&\npassphrase_env = "BACKUP_PASSPHRASE"|' restore.toml"#,
    );
    let mut command = site.command(&["run", ID, "--yes"]);
    command
        .env("BACKUP_PASSPHRASE", "canary-1")
        .env("AWS_SECRET_ACCESS_KEY", "canary-2")
        .env("PGPASSWORD", "canary-3");
    done(&command.output().unwrap());
    for name in ["hook", "check"] {
        let env = site.read(&format!("seen/{name}"));
        assert!(
            !env.contains("canary") && env.contains("PATH="),
            "{name}: {env}"
        );
    }
    if is_root() {
        assert!(site.read("seen/hook").contains("USER=nobody\n"));
    }
    // Process group, session, terminal; and its own number.
    let stat = site.read("seen/hook-session");
    let numbers: Vec<i64> = stat
        .split_whitespace()
        .map(|it| it.parse().unwrap())
        .collect();
    let [_, session, terminal, own] = numbers[..] else {
        panic!("{stat}")
    };
    assert_eq!((session, terminal), (own, 0), "{stat}");
}

#[test]
fn what_is_kept_is_for_its_owner_alone_whatever_the_umask() {
    let site = Site::new("");
    mode(&site.path("volume"), 0o700);
    let status = Command::new("sh")
        .args(["-c", "umask 000; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_restore"))
        .arg("--config")
        .arg(site.path("restore.toml"))
        .args(["--progress", "off", "run", ID, "--yes"])
        .output()
        .unwrap();
    done(&status);
    let safety = site.shell("ls -d backups/pre-restore-*");
    for folder in [safety.trim(), "state/runs"] {
        assert_eq!(
            open_to_others(&site.path(folder)),
            [""; 0].map(PathBuf::from),
            "{folder}"
        );
    }
    for file in ["site.log", "state/lock"] {
        let mode = std::fs::metadata(site.path(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    // A group that the store names reads all of a backup.
    let group = site.shell("id -gn");
    site.shell(&format!(
        "sed -i 's|^path = \"backups\"|&\\ngroup = \"{}\"|' restore.toml",
        group.trim()
    ));
    done(&site.command(&["backup"]).output().unwrap());
    let made = site.shell("ls -td backups/2* | head -1");
    let modes = site.shell(&format!(
        "stat -c %a {0} {0}/volumes {0}/volumes/* {0}/MANIFEST.txt",
        made.trim()
    ));
    assert_eq!(modes, "750\n750\n640\n640\n");
}

#[test]
fn a_file_name_forges_no_line_and_speaks_to_no_terminal() {
    let site = Site::new("");
    site.shell(
        r#"perl -e 'use Socket; chdir shift; socket(S,PF_UNIX,SOCK_STREAM,0); bind(S,sockaddr_un("s\e]0;owned\a\n  ok  all is well"));' volume"#,
    );
    let output = site.run();
    done(&output);
    let report = site.shell("cat state/runs/*/report.txt site.log");
    for text in [said(&output), report] {
        assert!(text.contains("owned"), "{text}");
        assert!(
            !text
                .lines()
                .any(|line| line.starts_with("  ok  all is well")),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}

#[test]
fn an_archive_that_takes_all_room_leaves_some_to_the_services() {
    if !is_root() {
        return;
    }
    let site = Site::new("");
    std::fs::create_dir(site.path("small")).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64m,mode=755", "none"])
        .arg(site.path("small"))
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        return;
    }
    site.shell(&format!(
        "mkdir small/v; sed -i 's|path = \"volume\"|path = \"small/v\"|' restore.toml; \
         head -c 300M /dev/zero > made/big; \
         (tar -C made -cf - . | head -c 310000000 | gzip -1; tar -C made -cf - . | tail -c +310000001 | gzip -1) \
           > backups/{ID}/volumes/data-{ID}.tar.gz; rm made/big"
    ));
    site.list();
    let watched = site.path("small");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let watching = std::thread::spawn(move || {
        let mut least = u64::MAX;
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            let room = rustix::fs::statvfs(&watched).unwrap();
            least = least.min(room.f_bavail * room.f_frsize);
        }
        least
    });
    let output = site.run();
    stop.send(()).unwrap();
    let least = watching.join().unwrap();
    site.shell("umount small");
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(
        said(&output).contains("takes more room"),
        "{}",
        said(&output)
    );
    assert!(least > 8 << 20, "{least} bytes were left");
}

#[test]
fn a_name_longer_than_a_path_is_refused_in_little_memory() {
    let site = Site::new("");
    site.shell(&format!(
        r#"python3 - backups/{ID}/volumes/data-{ID}.tar.gz <<'E'
import tarfile,io,sys
t=tarfile.open(sys.argv[1],'w:gz',format=tarfile.PAX_FORMAT); i=tarfile.TarInfo('a/'*20000+'f'); i.size=3
t.addfile(i,io.BytesIO(b'abc')); t.close()
E"#
    ));
    site.list();
    let output = site.run();
    assert!(
        matches!(output.status.code(), Some(3 | 5)),
        "{}",
        said(&output)
    );
    let said = said(&output);
    assert!(
        said.contains("more than a path may have") && said.len() < 10_000,
        "{said}"
    );
}

/// A backup of our own says how large its archives are: another one in its place may be no larger, whatever
/// room there is.
#[test]
fn an_archive_that_becomes_larger_than_its_backup_says_is_stopped() {
    let site = Site::new("");
    done(&site.command(&["backup"]).output().unwrap());
    let made = site.shell("basename $(ls -td backups/2* | grep -v 20240215 | head -1)");
    let id = made.trim();
    site.shell(&format!(
        r#"cd backups/{id}; test -s restore.json; archive=$(ls volumes/*); old=$(sha256sum $archive | cut -d' ' -f1)
           head -c 100M /dev/zero > ../../made/big; (tar -C ../../made -cf - . | case $archive in *.zst) zstd -qc;; *) gzip -1;; esac) > new; mv new $archive
           rm ../../made/big; size=$(stat -c %s $archive)
           sed -i "s|^\($archive\)\|[^|]*|\1\|$size|; s/$old/$(sha256sum $archive | cut -d' ' -f1)/" MANIFEST.txt"#
    ));
    let output = site.command(&["run", id, "--yes"]).output().unwrap();
    let said = said(&output);
    assert_ne!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("becomes too large"), "{said}");
    assert!(said.contains("`max_bytes` of [components.data]"), "{said}");
    assert_eq!(site.read("volume/file"), "live");
    // Whoever means it says so.
    site.shell(r#"sed -i 's|^kind = "volume"|&\nmax_bytes = 200000000|' restore.toml"#);
    done(&site.command(&["run", id, "--yes"]).output().unwrap());
    assert_eq!(site.read("volume/file"), "restored");
}

/// Who only looks at runs believes what lies in the state directory as well, and changes nothing wherever somebody
/// else leads.
#[test]
fn nothing_is_read_or_closed_in_a_state_directory_that_others_can_replace() {
    if !is_root() {
        return;
    }
    let site = Site::new("");
    done(&site.run());
    site.shell("mkdir theirs victim; mv state theirs/; sed -i 's|\"state\"|\"theirs/state\"|' restore.toml");
    chown(site.path("theirs"), Some(NOBODY), Some(NOBODY)).unwrap();
    mode(&site.path("victim"), 0o755);
    site.shell(
        r#"cd theirs/state; mkdir -p work; rm -rf work/swaps; ln -s "$OLDPWD/victim" work/swaps"#,
    );
    for pipe in [false, true] {
        if pipe {
            site.shell("rm theirs/state/lock; mkfifo theirs/state/lock");
        }
        for verb in [
            &["status"][..],
            &["plan", ID],
            &["history"],
            &["report"],
            &["drill", ID],
        ] {
            let output = Command::new("timeout")
                .args(["10", env!("CARGO_BIN_EXE_restore"), "--config"])
                .arg(site.path("restore.toml"))
                .args(verb)
                .arg("--json")
                .output()
                .unwrap();
            let said = said(&output);
            assert!(
                !matches!(output.status.code(), Some(0 | 124) | None),
                "{verb:?}: {said}"
            );
            assert!(said.contains("config.not_trusted"), "{verb:?}: {said}");
            let victim = std::fs::metadata(site.path("victim")).unwrap();
            assert_eq!(victim.permissions().mode() & 0o777, 0o755, "{verb:?}");
        }
    }
}

/// A backup goes, and is taken from, where the site says and not where the owner of a directory above leads.
#[test]
fn no_store_is_used_that_somebody_else_could_put_elsewhere() {
    if !is_root() {
        return;
    }
    let site = Site::new("");
    site.shell(
        "mkdir theirs victim; mv backups theirs/; sed -i 's|\"backups\"|\"theirs/backups\"|' restore.toml",
    );
    chown(site.path("theirs"), Some(NOBODY), Some(NOBODY)).unwrap();
    for verb in [
        &["backup"][..],
        &["run", ID, "--yes"],
        &["run", ID, "--yes", "--no-safety-backup"],
    ] {
        let output = site.command(verb).arg("--json").output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(4), "{verb:?}: {said}");
        assert!(said.contains("path.untrusted"), "{verb:?}: {said}");
        assert!(said.contains("follow = true"), "{verb:?}: {said}");
    }
    assert_eq!(site.read("volume/file"), "live");
    assert_eq!(site.shell("ls theirs/backups"), format!("{ID}\n"));
    let said = said(
        &site
            .command(&["config", "check", "--json"])
            .output()
            .unwrap(),
    );
    assert!(said.contains("path.untrusted"), "{said}");
    // Where that user is trusted like root.
    site.shell(r#"sed -i 's|^path = "theirs/backups"|&\nfollow = true|' restore.toml"#);
    done(&site.command(&["backup"]).output().unwrap());
    done(&site.run());
    assert_eq!(site.read("volume/file"), "restored");
}

/// Whoever can replace a program that root runs becomes root: that is said before it is run.
#[test]
fn programs_that_others_can_replace_and_root_runs_are_told() {
    if !is_root() {
        return;
    }
    let theirs = |line: &str| {
        let site = Site::new(&format!(
            "[services.app]\ncommand = [\"sleep\", \"100\"]\nuser = \"nobody\"\n[checks.x]\nkind = \"command\"\n{line}\n"
        ));
        site.shell("mkdir theirs; printf '#!/bin/sh\n' > theirs/health; chmod 755 theirs/health");
        chown(site.path("theirs"), Some(NOBODY), Some(NOBODY)).unwrap();
        let here = site.dir.path().display().to_string();
        site.write(
            "restore.toml",
            &site.read("restore.toml").replace('@', &here),
        );
        site
    };
    for (line, told) in [
        (r#"command = ["@/theirs/health"]"#, true),
        (r#"command = ["sh", "-e", "@/theirs/health"]"#, true),
        (r#"command = ["cat", "@/theirs/health"]"#, false),
        ("command = [\"@/theirs/health\"]\nservice = \"app\"", false),
    ] {
        let site = theirs(line);
        for verb in [&["plan", ID][..], &["config", "check"]] {
            let output = site.command(verb).arg("--json").output().unwrap();
            let said = said(&output);
            assert_eq!(said.contains("program.untrusted"), told, "{line}: {said}");
            let owner = format!(
                "the folder {} on the way to the program",
                site.path("theirs").display()
            );
            assert_eq!(said.contains(&owner), told, "{line}: {said}");
        }
    }
}

/// A tree is the one that the site means, and not where somebody else leads who owns the directory above.
#[test]
fn no_tree_is_swapped_or_packed_that_somebody_else_leads_to() {
    if !is_root() {
        return;
    }
    let site = Site::new(
        "[components.tree]\nkind = \"files\"\narchive = [\"configs/tree-{id}.tar.gz\"]\nroot = \"theirs\"\ntree = \"tree\"",
    );
    site.shell(&format!(
        "mkdir theirs theirs/tree victim; echo restored > theirs/tree/file; echo mine > victim/file
         mkdir -p backups/{ID}/configs; tar -C theirs -czf backups/{ID}/configs/tree-{ID}.tar.gz tree
         rm -r theirs/tree; ln -s ../victim theirs/tree"
    ));
    site.list();
    chown(site.path("theirs"), Some(NOBODY), Some(NOBODY)).unwrap();
    let before = site.shell("ls -laRn --time-style=full-iso victim");
    for verb in [
        &["plan", ID, "--only", "tree"][..],
        &["run", ID, "--only", "tree", "--yes"],
        &["backup", "--only", "tree"],
    ] {
        let output = site.command(verb).arg("--json").output().unwrap();
        let said = said(&output);
        assert!(!output.status.success(), "{verb:?}: {said}");
        assert!(said.contains("path.untrusted"), "{verb:?}: {said}");
        let after = site.shell("ls -laRn --time-style=full-iso victim");
        assert_eq!(after, before, "{verb:?}");
    }
}
