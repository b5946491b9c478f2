//! Backups that the program makes: they bring everything back, by the program and by plain

//! commands, and one that was not finished is never taken for one that was.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use restore_testing::{assert_same, run, text};
use serde_json::Value;

use super::support::{PATIENCE, Whole, bulk_table, contents};

/// Makes a backup; its report.
#[track_caller]
fn back_up(whole: &Whole, args: &[&str]) -> Value {
    let args: Vec<&str> = ["backup", "--json"].iter().chain(args).copied().collect();
    whole.restore(&args).exits(0).json()["backup"].clone()
}

fn id(report: &Value) -> String {
    report["id"].as_str().unwrap().to_owned()
}

/// The list's rows: id and whether it is finished.
fn listed(whole: &Whole) -> Vec<(String, bool)> {
    let list = whole.restore(&["list", "--json"]).exits(0).json();
    let rows = list["backups"].as_array().unwrap();
    rows.iter()
        .map(|row| {
            let unfinished = row["summary"]["generation"] == "unfinished";
            (row["id"].as_str().unwrap().to_owned(), !unfinished)
        })
        .collect()
}

/// The manifest's lines against the files, by the shell's own tools; the paths.
fn check_manifest(folder: &Path) -> BTreeSet<String> {
    let script = "cd \"$1\"
        sed -nE 's/^([^|]+)\\|[^|]+\\|([0-9a-f]{64})$/\\2  \\1/p' MANIFEST.txt | sha256sum --check --strict --quiet
        sed -nE 's/^([^|]+)\\|([0-9]+)\\|.*/\\2 \\1/p' MANIFEST.txt | sort >/dev/stdout";
    let ran = run(Command::new("bash")
        .args(["-euo", "pipefail", "-c", script, "bash"])
        .arg(folder));
    let mut paths = BTreeSet::new();
    for line in text(&ran).lines() {
        let (size, path) = line.split_once(' ').unwrap();
        let meta = std::fs::metadata(folder.join(path)).unwrap();
        assert_eq!(meta.len().to_string(), size, "{path}");
        paths.insert(path.to_owned());
    }
    paths
}

#[test]
fn ours_bring_everything_back() {
    let whole = Whole::new();
    let first = back_up(&whole, &[]);
    let second = back_up(&whole, &["--compression", "zstd", "--level", "9"]);
    let before = whole.at_backup.clone();
    whole.is(&before, "backed up: nothing is changed by that");
    for (report, ending) in [(&first, ".tar.gz"), (&second, ".tar.zst")] {
        let folder = whole.hosting.backup_folder(&id(report));
        let paths = check_manifest(&folder);
        assert_eq!(report["files"], paths.len());
        assert!(paths.contains("restore.json"));
        assert!(!paths.contains("MANIFEST.txt"));
        let archives = paths.iter().filter(|path| path.ends_with(ending));
        assert_eq!(archives.count(), 9, "{paths:?}");
        // The names are those of the operators' own script, but for what only text is.
        let theirs: BTreeSet<String> = contents(&whole.backup())
            .into_iter()
            .map(|(path, _)| {
                path.strip_prefix(whole.backup())
                    .unwrap()
                    .display()
                    .to_string()
            })
            .map(|path| {
                path.replace(&whole.id, &id(report))
                    .replace(".tar.gz", ending)
            })
            .collect();
        let new: Vec<&String> = paths.difference(&theirs).collect();
        assert_eq!(new, ["restore.json", "restore.toml"]);
        whole.restore(&["verify", &id(report), "--deep"]).exits(0);
        let about: Value =
            serde_json::from_slice(&std::fs::read(folder.join("restore.json")).unwrap()).unwrap();
        assert_eq!(about["components"][0]["facts"]["rows"]["public.users"], 40);
        assert!(about["components"][1]["facts"]["total"].as_u64().unwrap() > 10);
        assert_eq!(about["services"][0]["name"], "postgres");
        assert_eq!(about["services"][0]["running"], 1);

        whole.damaged();
        let ran = whole.restore(&["run", &id(report), "--yes"]).exits(0);
        whole.is(
            &before,
            &format!("restored from ours, {ending}: {}", ran.err),
        );
        whole.restore(&["confirm", "--yes"]).exits(0);
    }
    assert_eq!(
        whole.restore(&["show", "latest", "--json"]).json()["backup"]["summary"]["id"],
        second["id"]
    );
}

/// By hand, as one who has neither the program nor its author.
const BY_HAND: &str = r#"
load_platform
id=$1
cd "$root/backups/$id"
service() { "$here/platform" -d "$root" service "$@"; }
service app stop
psql_ -d postgres -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '$PG_DATABASE'" >/dev/null
psql_ -d postgres -c "DROP DATABASE $PG_DATABASE"
"$pg_bin/pg_restore" -d postgres --create --exit-on-error "postgres/postgres-$id.dump"
service redis stop
data=$root/volumes/redis_data
rm -rf "$data/appendonlydir" "$data/dump.rdb"
mkdir "$data/appendonlydir"
cp "redis/redis-$id.rdb" "$data/appendonlydir/appendonly.aof.1.base.rdb"
echo 'file appendonly.aof.1.base.rdb seq 1 type b' >"$data/appendonlydir/appendonly.aof.manifest"
chown -R redis: "$data/appendonlydir"
service redis start
for volume in prometheus_data grafana_data nginx_logs nginx_cache; do
  name=${volume%_data}
  find "$root/volumes/$volume" -mindepth 1 -delete
  tar xpzf "volumes/${name//_/-}-$id.tar.gz" -C "$root/volumes/$volume"
done
rm -rf "$root"/{opt/docker-compose,mnt/nfs/nginx,mnt/nfs/monitoring,opt/scripts}
for tree in docker-compose nginx-config prometheus-config scripts; do
  tar xpzf "configs/$tree-$id.tar.gz" -C "$root"
done
find "$root/opt/applications/hosting-app" -mindepth 1 -maxdepth 1 \
  ! -name node_modules ! -name .git ! -name npm-debug.log -exec rm -rf {} +
tar xpzf "app/applications-$id.tar.gz" -C "$root/opt/applications"
cat "configs/crontab-$id.txt" >"$root/crontab"
/usr/sbin/nginx -p "$root/" -c mnt/nfs/nginx/nginx.conf -s reload 2>/dev/null
service app start
"#;

#[test]
fn plain_commands_restore_ours_too() {
    let whole = Whole::new();
    let report = back_up(&whole, &[]);
    whole.damaged();
    whole.shell(BY_HAND, &[&id(&report)]);
    // What no dump of a database holds, and shell commands therefore lose.
    let comparable = |fingerprint: &str| {
        let lost = ["setting ", "database ", "comment of database"];
        let lines = fingerprint
            .lines()
            .filter(|line| !lost.iter().any(|word| line.starts_with(word)));
        let mut kept = String::new();
        for line in lines {
            // A section's digest is of all its lines.
            let line = match line.strip_prefix("=== ") {
                Some(rest) => rest.split(' ').next().unwrap(),
                None => line,
            };
            kept += line;
            kept += "\n";
        }
        kept
    };
    assert_same(
        &comparable(&whole.at_backup),
        &comparable(&whole.hosting.fingerprint()),
        "restored by hand",
    );
}

/// Shell code that writes until it is dropped.
struct Writer(Child);

impl Writer {
    fn start(whole: &Whole, code: &str) -> Self {
        let library = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../examples/local-platform/lib.sh"
        );
        let code = format!(". {library}; root=$1; load_platform; {code}");
        // In a group of its own, so that all of a pipe goes with it.
        let child = Command::new("bash")
            .args(["-c", &code, "bash"])
            .process_group(0)
            .arg(whole.hosting.root())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.0.wait();
    }
}

fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_backup_under_full_load_is_of_one_moment() {
    let whole = Whole::with(|hosting| bulk_table(hosting, 100_000));
    whole.sql(
        "hosting_db",
        "CREATE TABLE parent (id bigserial PRIMARY KEY); \
         CREATE TABLE child (id bigint PRIMARY KEY REFERENCES parent, n int); \
         CREATE PROCEDURE write_on() LANGUAGE plpgsql AS $$ DECLARE p bigint; BEGIN LOOP \
           INSERT INTO parent DEFAULT VALUES RETURNING id INTO p; \
           INSERT INTO child VALUES (p, 1); COMMIT; END LOOP; END $$;",
    );
    let pairs = || -> i64 {
        whole
            .sql("hosting_db", "SELECT count(*) FROM child")
            .parse()
            .unwrap()
    };
    let writers = [
        Writer::start(
            &whole,
            "exec \"$pg_bin/psql\" -d hosting_db -c 'CALL write_on()'",
        ),
        Writer::start(
            &whole,
            "exec \"$pg_bin/psql\" -d hosting_db -c 'CALL write_on()'",
        ),
        Writer::start(
            &whole,
            "while :; do printf 'MULTI\\nINCR a:count\\nINCR b:count\\nRPUSH c:list x\\nEXEC\\n%.0s' {1..200}; done | redis_",
        ),
        Writer::start(
            &whole,
            "while :; do echo line >>\"$root/volumes/grafana_data/busy.log\"; done",
        ),
    ];
    wait_for("nothing is written", || {
        pairs() > 100
            && whole
                .shell("load_platform; redis_ LLEN c:list", &[])
                .trim()
                .parse::<u64>()
                .is_ok_and(|length| length > 100)
    });
    let report = back_up(&whole, &[]);
    let after = pairs();
    wait_for("nothing is written any more", || pairs() > after);
    drop(writers);
    whole.sql(
        "postgres",
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'CALL write_on%'",
    );
    let folder = whole.hosting.backup_folder(&id(&report));
    check_manifest(&folder);
    let rows = &report["components"][0]["facts"]["rows"];
    let counted = rows["public.parent"].as_i64().unwrap();
    assert_eq!(rows["public.child"], counted);
    assert!(
        counted > 100 && counted < after,
        "{counted}, {after} in the end"
    );

    // Both dumps are of that moment.
    let sql =
        std::fs::read_to_string(folder.join(format!("postgres/postgres-{}.sql", id(&report))))
            .unwrap();
    let copied = |table: &str| {
        let start = format!("COPY public.{table} ");
        let lines = sql.lines().skip_while(|line| !line.starts_with(&start));
        lines.skip(1).take_while(|line| *line != "\\.").count()
    };
    assert_eq!(copied("parent"), usize::try_from(counted).unwrap());
    assert_eq!(copied("child"), usize::try_from(counted).unwrap());

    let ran = whole
        .restore(&["run", &id(&report), "--yes", "--json"])
        .exits(0);
    let staged = &ran.json()["report"]["components"][0]["facts"]["rows"];
    assert_eq!(staged["public.parent"], counted);
    assert_eq!(staged["public.child"], counted);
    let orphans = whole.sql(
        "hosting_db",
        "SELECT count(*) FROM parent FULL JOIN child USING (id) WHERE n IS NULL",
    );
    assert_eq!(orphans, "0");
    let keys = whole.shell(
        "load_platform; redis_ GET a:count; redis_ GET b:count; redis_ LLEN c:list",
        &[],
    );
    let counts: BTreeSet<&str> = keys.lines().collect();
    assert_eq!(counts.len(), 1, "a transaction was torn: {keys}");
    whole.restore(&["check"]).exits(0);
}

#[test]
fn a_killed_backup_is_seen_and_never_restored() {
    let whole = Whole::new();
    for (signal, code) in [("KILL", None), ("INT", Some(130)), ("TERM", Some(130))] {
        let mut running = whole.start(&["backup"]);
        running.until_step("back-up:grafana");
        running.signal(signal);
        let ran = running.end();
        // Where it had just ended before the signal came, there is nothing to see.
        if ran.code == Some(0) {
            continue;
        }
        assert_eq!(ran.code, code, "{ran:?}");
    }
    let unfinished: Vec<String> = listed(&whole)
        .into_iter()
        .filter_map(|(id, finished)| (!finished).then_some(id))
        .collect();
    assert!(!unfinished.is_empty(), "none was caught at work");
    let list = whole.restore(&["list"]).exits(0).out;
    assert!(list.contains("unfinished"), "{list}");
    let latest = whole.restore(&["show", "latest", "--json"]).exits(0).json();
    let latest = latest["backup"]["summary"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(!unfinished.contains(&latest));
    for id in &unfinished {
        whole
            .restore(&["run", id, "--yes"])
            .exits(3)
            .says(&["never finished"]);
        whole.restore(&["verify", id]).exits(3);
    }
    whole.is(&whole.at_backup, "nothing was restored");
    // It is in nobody's way.
    let next = back_up(&whole, &[]);
    assert!(listed(&whole).contains(&(id(&next), true)));
}

/// A small file system where backups are.
struct SmallStore(PathBuf);

impl SmallStore {
    fn over(whole: &Whole) -> Self {
        let path = whole.hosting.root().join("backups");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=600k,mode=755", "tmpfs"])
            .arg(&path));
        Self(path)
    }
}

impl Drop for SmallStore {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_store_and_a_server_that_is_down() {
    let whole = Whole::new();
    let store = SmallStore::over(&whole);
    whole
        .restore(&["backup"])
        .exits(1)
        .says(&["No space left", "restore prune", "unfinished"]);
    let rows = listed(&whole);
    assert!(rows.len() == 1 && !rows[0].1, "{rows:?}");
    drop(store);

    whole.hosting.service("redis", "stop");
    whole
        .restore(&["backup"])
        .exits(1)
        .says(&["redis: cannot reach", "unfinished"]);
    // Without it: a partial one.
    let others = "postgres,grafana,crontab";
    let report = back_up(&whole, &["--only", others]);
    assert_eq!(report["kind"], "partial");
    assert_eq!(report["components"].as_array().unwrap().len(), 3);
    whole
        .restore(&["backup", "--only", "grafanas"])
        .exits(2)
        .says(&["grafana"]);
    whole
        .restore(&["backup", "--to", "moon"])
        .exits(2)
        .says(&["main"]);
    whole.restore(&["backup", "--level", "10"]).exits(2);
    whole.hosting.service("redis", "start");
}

#[test]
fn no_password_is_to_be_seen_while_a_backup_is_made() {
    let whole = Whole::with(|hosting| bulk_table(hosting, 300_000));
    let secrets: Vec<String> = contents(&whole.hosting.root().join("secrets"))
        .into_iter()
        .map(|(_, secret)| secret.trim().to_owned())
        .collect();
    assert_eq!(secrets.len(), 2);
    let watch = Arc::new(AtomicBool::new(true));
    let watching = {
        let (watch, secrets) = (watch.clone(), secrets.clone());
        std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while watch.load(Ordering::Relaxed) {
                for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                    let Ok(line) = std::fs::read(entry.path().join("cmdline")) else {
                        continue;
                    };
                    let line = String::from_utf8_lossy(&line).replace('\0', " ");
                    if line.contains("pg_dump") {
                        seen.insert(line.split(' ').next().unwrap().to_owned());
                    }
                    for secret in &secrets {
                        assert!(!line.contains(secret), "a password in {line}");
                    }
                }
            }
            seen
        })
    };
    let ran = whole
        .restore(&["backup", "--json", "--progress", "json"])
        .exits(0);
    watch.store(false, Ordering::Relaxed);
    let seen = watching.join().unwrap();
    assert!(!seen.is_empty(), "the watcher saw no pg_dump at work");
    let folder = whole.hosting.backup_folder(&id(&ran.json()["backup"]));
    let mut places = contents(&whole.hosting.root().join("state"));
    places.extend(contents(&whole.hosting.root().join("log")));
    places.extend(contents(&folder));
    places.push((PathBuf::from("stdout"), ran.out.clone()));
    places.push((PathBuf::from("stderr"), ran.err.clone()));
    for (path, content) in &places {
        for secret in &secrets {
            assert!(
                !content.contains(secret),
                "{} has a password",
                path.display()
            );
        }
    }
    // Hashes of passwords, and whatever a crontab holds, are for the owner alone.
    let private = run(Command::new("find")
        .arg(&folder)
        .args(["-type", "f", "-perm", "600"]));
    let private = text(&private);
    assert!(private.contains("postgres-globals-"), "{private}");
    assert!(private.contains("crontab-"), "{private}");
}
