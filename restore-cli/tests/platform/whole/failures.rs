//! Servers, disks and checks that fail in the middle: exit 5, and everything is as before.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use restore_testing::{Hosting, run};

use super::support::{PATIENCE, Ran, Whole, bulk_table, prepare_database};

/// A small file system over a volume, with what was in it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn over(hosting: &Hosting, volume: &str) -> Self {
        let path = hosting.root().join("volumes").join(volume);
        let kept = hosting.work().join(volume);
        run(Command::new("cp").arg("-a").arg(&path).arg(&kept));
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m,mode=755", "tmpfs"])
            .arg(&path));
        let disk = Self(path);
        // With the owner and mode of the folder itself.
        run(Command::new("cp").args(["-aT"]).arg(&kept).arg(&disk.0));
        disk
    }

    /// Writes a file that leaves no room, and gives its path.
    fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let mut dd = Command::new("dd");
        dd.args(["if=/dev/zero", "bs=4096"])
            .arg(format!("of={}", filler.display()));
        let written = dd.output().unwrap();
        assert!(!written.status.success(), "the disk has no end");
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// It failed, says so with these words and what to do next, and the platform is as before.
#[track_caller]
fn undone(whole: &Whole, ran: Ran, before: &str, words: &[&str]) -> Ran {
    let ran = ran.exits(5).says(words);
    assert!(ran.err.contains("error"), "{}", ran.err);
    whole.is(before, &format!("failed with {words:?}"));
    let report = whole.restore(&["report", "--json"]).exits(0).json()["report"].clone();
    assert_eq!(report["outcome"], "undone");
    assert!(
        report["failure"]["hint"].is_string(),
        "{}",
        report["failure"]
    );
    ran
}

#[test]
fn a_full_disk() {
    let mut disk = None;
    let whole = Whole::with(|hosting| disk = Some(SmallDisk::over(hosting, "prometheus_data")));
    // Dropped before the platform is.
    let disk = disk.unwrap();
    let damaged = whole.damaged();

    let filler = disk.fill();
    let ran = whole.restore(&["run", "latest", "--yes"]).exits(4);
    ran.says(&["prometheus", " needs ", ", has ", "hint: "]);
    std::fs::remove_file(&filler).unwrap();
    whole.is(&damaged, "refused for want of room");

    // Full only once it is under way: it is held while the room goes.
    let mut running = whole.start(&["run", "latest", "--yes"]);
    running.until("run_started", "event", "run_started");
    running.signal("STOP");
    disk.fill();
    running.signal("CONT");
    let ran = running.end();
    std::fs::remove_file(&filler).unwrap();
    undone(&whole, ran, &damaged, &["prometheus", "No space left"]);
    whole.nothing_left("a full disk");
    whole.restore(&["run", "latest", "--yes"]).exits(0);
    whole.is(&whole.at_backup, "with room again");
    drop(disk);
}

#[test]
fn postgres_dies_while_a_dump_is_loaded() {
    let whole = Whole::with(|hosting| bulk_table(hosting, 300_000));
    let damaged = whole.damaged();
    // A server that crashes may skip numbers of the sequences used since the last checkpoint.
    whole.sql("postgres", "CHECKPOINT");
    let running = whole.start(&["run", "latest", "--yes"]);
    // Until it loads.
    let loads =
        "SELECT count(*) FROM pg_stat_activity WHERE datname ~ '_restore_' AND query ~ '^COPY'";
    let deadline = Instant::now() + PATIENCE;
    while whole.sql("postgres", loads) == "0" {
        assert!(Instant::now() < deadline, "nothing is loaded");
    }
    let pid_file = whole.hosting.root().join("postgres/data/postmaster.pid");
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    run(Command::new("kill").args(["-QUIT", pid.lines().next().unwrap()]));
    let ran = running.end();
    whole.hosting.service("postgres", "start");
    let ran = undone(&whole, ran, &damaged, &["postgres"]);

    // What could not be deleted while it was down is told, and goes with the run.
    if !whole
        .sql(
            "postgres",
            "SELECT datname FROM pg_database WHERE datname ~ '_restore_'",
        )
        .is_empty()
    {
        assert!(ran.err.contains("run.leftover"), "{}", ran.err);
        whole.restore(&["confirm", "--yes"]).exits(0);
    }
    whole.nothing_left("PostgreSQL died");
    whole.is(&damaged, "PostgreSQL died, tidied up");
    whole.restore(&["run", "latest", "--yes"]).exits(0);
    whole.is(&whole.at_backup, "with PostgreSQL up again");
}

/// What a program said of one component reaches other programs as it is: its code, and whose it was.
#[test]
fn a_dump_that_pg_restore_cannot_load() {
    // The check finds its table only by a path that pg_restore does not set.
    let whole = Whole::with(|hosting| {
        prepare_database(
            hosting,
            "CREATE TABLE known (id int); INSERT INTO known VALUES (1); \
             CREATE FUNCTION is_known(int) RETURNS bool LANGUAGE sql \
             AS 'SELECT EXISTS (SELECT FROM known WHERE id = $1)'; \
             CREATE TABLE checked (id int CHECK (is_known(id))); INSERT INTO checked VALUES (1)",
        );
    });
    let damaged = whole.damaged();
    let ran = whole.restore(&["run", "latest", "--yes", "--json"]);
    let ran = undone(&whole, ran, &damaged, &["pg_restore failed", "known"]);
    let document = ran.json();
    let error = &document["error"];
    assert_eq!(error["code"], "postgres.needs_search_path", "{error}");
    assert_eq!(error["component"], "postgres", "{error}");
    assert_eq!(error["kind"], "failed", "{error}");
    let failure = &document["report"]["failure"];
    assert_eq!(failure["code"], error["code"], "{failure}");
    assert_eq!(failure["component"], error["component"], "{failure}");
    assert_eq!(failure["step"], "stage:postgres", "{failure}");
    whole.nothing_left("a dump that pg_restore cannot load");
}

fn executable(path: &Path, script: &str) {
    std::fs::write(path, script).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn redis_refuses_the_restored_data() {
    let whole = Whole::new();
    whole.hosting.damage();
    // So that its file is another one than the backup's.
    whole.shell(
        "load_platform; . \"$here/backup-parts.sh\"; redis_save",
        &[],
    );
    let damaged = whole.hosting.fingerprint();
    let root = whole.hosting.root();
    let restored = whole.artifact("redis/redis", ".rdb").1;
    let wrapper = whole.hosting.work().join("redis-server");
    executable(
        &wrapper,
        &format!(
            "#!/bin/sh\nif cmp -s {}/volumes/redis_data/dump.rdb {}; then\n  echo 'this data is not for me'\n  \
             exit 1\nfi\nexec /usr/bin/redis-server \"$@\"\n",
            root.display(),
            restored.display()
        ),
    );
    // Its user may look at the backup.
    run(Command::new("chmod")
        .args(["-R", "a+rX"])
        .arg(root.join("backups")));
    whole.configure(|text| {
        let from = "command = [\"/usr/bin/redis-server\"";
        text.replace(from, &format!("command = [\"{}\"", wrapper.display()))
    });
    let ran = whole.restore(&["run", "latest", "--yes"]);
    undone(&whole, ran, &damaged, &["redis", "this data is not for me"]);
    whole.nothing_left("Redis refused");
}

/// It has taken the restored data, and ends before it is asked for it: nobody waits for it to load that.
#[test]
fn redis_dies_once_it_was_started() {
    let whole = Whole::new();
    let damaged = whole.damaged();
    let mut running = whole.start(&["run", "latest", "--yes"]);
    running.until("step_finished", "step", "start:redis");
    let pid_file = whole.hosting.root().join("run/redis/redis.pid");
    let pid = std::fs::read_to_string(pid_file).unwrap();
    run(Command::new("kill").args(["-KILL", pid.lines().next().unwrap()]));
    let died = Instant::now();
    let ran = running.end();
    assert!(died.elapsed().as_secs() < 60, "{:?}", died.elapsed());
    // The page, too, is what is compared.
    undone(&whole, ran, &damaged, &["redis"]);
    whole.nothing_left("Redis died");
    whole.restore(&["run", "latest", "--yes"]).exits(0);
    whole.is(&whole.at_backup, "with a Redis that lives");
}

/// Checks come before users, and their failure is no success.
#[test]
fn a_check_fails_after_the_swap() {
    let whole = Whole::new();
    let damaged = whole.damaged();
    let config = std::fs::read_to_string(whole.hosting.config()).unwrap();

    // Before users are let in.
    whole.configure(|text| {
        text + r#"
[checks.no-orders]
kind = "sql"
service = "postgres"
database = "hosting_db"
user = "hosting_user"
password_file = "secrets/postgres.pass"
query = "SELECT to_regclass('orders') IS NULL"
expect = "t"
timeout = "1s"
"#
    });
    let ran = whole.restore(&["run", "latest", "--yes"]);
    undone(
        &whole,
        ran,
        &damaged,
        &["no-orders", "failed after the swap"],
    );
    whole.nothing_left("a check behind the page failed");

    // And after: what they wrote since is kept until it is confirmed.
    std::fs::write(whole.hosting.config(), &config).unwrap();
    whole.configure(|text| {
        let url = text.lines().find(|line| line.ends_with("/health\"")).unwrap();
        let check = format!(
            "\n[checks.ill]\nkind = \"http\"\n{url}\nhost = \"www.example.test\"\nstatus = 503\ntimeout = \"1s\"\n"
        );
        text + &check
    });
    let ran = whole.restore(&["run", "latest", "--yes"]);
    undone(&whole, ran, &damaged, &["ill", "failed after the swap"]);
    let kept = whole.sql(
        "postgres",
        "SELECT count(*) FROM pg_database WHERE datname ~ '_restore_'",
    );
    assert_eq!(kept, "1");
    whole.restore(&["confirm", "--yes"]).exits(0);
    whole.nothing_left("a check of users' failed");
    whole.is(&damaged, "confirmed");

    // One that failed before is no reason.
    std::fs::write(whole.hosting.config(), &config).unwrap();
    whole.configure(|text| {
        text + "\n[checks.never]\nkind = \"redis\"\nservice = \"redis\"\npassword_file = \"secrets/redis.pass\"\nmin_keys = 100000\ntimeout = \"60s\"\n"
    });
    let ran = whole.restore(&["run", "latest", "--yes"]).exits(8);
    assert!(ran.out.contains("as before the run"), "{}", ran.out);
    ran.says(&["never", "as it did before the restore"]);
    // And it is not waited for while users are turned away.
    let report = whole.restore(&["report", "--json"]).exits(0).json()["report"].clone();
    let down = report["downtime_seconds"].as_f64().unwrap();
    assert!(down < 40.0, "{down}");
    whole.is(
        &whole.at_backup,
        "restored beside a check that always fails",
    );
}
