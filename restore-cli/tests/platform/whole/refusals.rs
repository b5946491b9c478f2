//! Backups that are not what they should be: refused by name, and nothing was touched.

use std::path::{Path, PathBuf};
use std::process::Command;

use restore_testing::run;
use serde_json::{Value, json};

use super::support::{Ran, Whole, bulk_table};

/// A damaged platform and a backup that is spoilt and mended again.
struct Refusals {
    whole: Whole,
    damaged: String,
    kept: PathBuf,
}

impl Refusals {
    fn new() -> Self {
        let whole = Whole::with(|hosting| bulk_table(hosting, 5000));
        let damaged = whole.damaged();
        let kept = whole.hosting.work().join("kept");
        run(Command::new("cp").arg("-a").arg(whole.backup()).arg(&kept));
        Self {
            whole,
            damaged,
            kept,
        }
    }

    /// The run is refused for what is wrong with the backup: a message with all these words and a
    /// hint stand last, and everything is as before. The backup is mended then.
    #[track_caller]
    fn refused(&self, args: &[&str], words: &[&str]) {
        self.refused_with(3, args, words);
    }

    #[track_caller]
    fn refused_with(&self, code: i32, args: &[&str], words: &[&str]) {
        let args = [&["run", "latest", "--yes"], args].concat();
        let ran = self.whole.restore(&args).exits(code);
        let (error, hint) = last_words(&ran);
        for word in words {
            assert!(error.contains(word), "no {word:?} in {error:?}");
        }
        assert!(hint.len() > 10, "{error}: {hint:?}");
        let what = format!("refused for {words:?}");
        self.whole.is(&self.damaged, &what);
        self.whole.nothing_left(&what);
        self.mend();
    }

    fn mend(&self) {
        let backup = self.whole.backup();
        run(Command::new("rm").arg("-r").arg(&backup));
        run(Command::new("cp").arg("-a").arg(&self.kept).arg(&backup));
    }

    /// Puts an archive with these members in the place of the backup's, hash and all, and has it
    /// refused for its member of that name.
    #[track_caller]
    fn archive(&self, component: &str, archive: &str, members: &Value, refused: &str, why: &str) {
        let (name, path) = self.whole.artifact(archive, ".tar.gz");
        write_archive(&path, members);
        self.whole.list_in_manifest(&name);
        // Reading it without restoring it finds the same.
        let ran = self.whole.restore(&["verify", "latest", "--deep"]).exits(3);
        assert!(
            ran.out.contains(&name) && ran.out.contains(why),
            "{}",
            ran.out
        );
        self.refused(&["--only", component], &[&name, refused, why]);
    }
}

/// The error and its hint, the last two lines that are shown.
#[track_caller]
fn last_words(ran: &Ran) -> (String, String) {
    let mut lines = ran.err.lines().rev();
    let hint = lines.next().and_then(|line| line.strip_prefix("hint: "));
    let error = lines.next().and_then(|line| line.strip_prefix("error: "));
    match (error, hint) {
        (Some(error), Some(hint)) => (error.to_owned(), hint.to_owned()),
        _ => panic!("{}: no error and hint at the end:\n{}", ran.what, ran.err),
    }
}

fn write_archive(path: &Path, members: &Value) {
    let script = r#"
import io, json, sys, tarfile
TYPES = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE,
         "hard": tarfile.LNKTYPE, "chr": tarfile.CHRTYPE, "blk": tarfile.BLKTYPE}
with tarfile.open(sys.argv[1], "w:gz") as tar:
    for kind, name, more in json.loads(sys.argv[2]):
        info = tarfile.TarInfo(name)
        info.type = TYPES[kind]
        info.mode = more.get("mode", 0o755)
        info.uid = info.gid = more.get("uid", 0)
        info.linkname = more.get("to", "")
        info.devmajor, info.devminor = 1, 3
        data = b"evil\n" if kind == "file" else b""
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
"#;
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(path);
    run(python.arg(members.to_string()));
}

fn cut(path: &Path, percent: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length * percent / 100).unwrap();
}

fn change_byte(path: &Path, at: usize) {
    let mut content = std::fs::read(path).unwrap();
    let byte = content.get_mut(at).unwrap();
    *byte = !*byte;
    std::fs::write(path, content).unwrap();
}

#[test]
fn files_that_are_not_what_they_were() {
    let on = Refusals::new();
    let whole = &on.whole;

    // The manifest knows.
    let (dump, dump_path) = whole.artifact("postgres/postgres", ".dump");
    cut(&dump_path, 60);
    on.refused(&[], &[&dump]);
    change_byte(&dump_path, 9000);
    on.refused(&[], &[&dump, "manifest"]);
    let (rdb, path) = whole.artifact("redis/redis", ".rdb");
    change_byte(&path, 1000);
    on.refused(&["--only", "redis"], &[&rdb, "its hash is"]);
    // The time in a gzip header: the archive reads as before.
    let (archive, path) = whole.artifact("volumes/prometheus", ".tar.gz");
    change_byte(&path, 5);
    on.refused(&[], &[&archive, "its hash is"]);
    let (crontab, path) = whole.artifact("configs/crontab", ".txt");
    change_byte(&path, 5);
    on.refused(&["--only", "crontab"], &[&crontab, "manifest"]);
    for (prefix, ending) in [("volumes/grafana", ".tar.gz"), ("redis/redis", ".rdb")] {
        let (name, path) = whole.artifact(prefix, ending);
        std::fs::remove_file(path).unwrap();
        on.refused(&[], &[&name, "is not there"]);
    }

    // Broken before the manifest was made: its hashes hold.
    let (archive, path) = whole.artifact("volumes/prometheus", ".tar.gz");
    cut(&path, 60);
    whole.list_in_manifest(&archive);
    on.refused(&["--only", "prometheus"], &[&archive]);
    let (rdb, path) = whole.artifact("redis/redis", ".rdb");
    cut(&path, 60);
    whole.list_in_manifest(&rdb);
    on.refused(&["--only", "redis"], &[&rdb]);
    // Of the dump first its table of contents, then its data.
    let (sql, sql_path) = whole.artifact("postgres/postgres", ".sql");
    for (percent, code) in [(1, 4), (60, 3)] {
        cut(&dump_path, percent);
        std::fs::remove_file(&sql_path).unwrap();
        whole.list_in_manifest(&dump);
        whole.list_in_manifest(&sql);
        whole.restore(&["verify", "latest"]).exits(0);
        let ran = whole.restore(&["verify", "latest", "--deep"]).exits(3);
        assert!(ran.out.contains(&dump), "{}", ran.out);
        on.refused_with(code, &[], &[&dump, "pg_restore"]);
    }

    // With the SQL dump at hand that is no reason to refuse, and is told.
    cut(&dump_path, 60);
    whole.list_in_manifest(&dump);
    let ran = whole
        .restore(&["run", "latest", "--yes", "--json"])
        .exits(0);
    let report = ran.json()["report"].clone();
    let findings = report["findings"].as_array().unwrap();
    let told = findings.iter().find(|f| f["code"] == "postgres.fallback");
    let told = told.unwrap()["message"].as_str().unwrap();
    assert!(told.contains(&sql) && told.contains(&dump), "{told}");
    whole.is(&whole.at_backup, "restored from the SQL dump");
}

#[test]
fn archives_that_reach_out_of_their_place() {
    let on = Refusals::new();
    let work = on.whole.hosting.work().to_owned();
    let outside = work.join("outside");
    std::fs::create_dir(&outside).unwrap();
    let scripts = |members: &[Value], refused: &str, why: &str| {
        let mut all = vec![json!(["dir", "opt/scripts", {}])];
        all.push(json!(["file", "opt/scripts/harmless.sh", {}]));
        all.extend(members.iter().cloned());
        on.archive("scripts", "configs/scripts", &json!(all), refused, why);
    };

    let name = "opt/scripts/../../../outside/x";
    scripts(&[json!(["file", name, {}])], name, "..");
    // With a leading slash as without. (What is outside of the tree by its name is left out.)
    let name = "/opt/scripts/../../../outside/x";
    scripts(&[json!(["file", name, {}])], name, "..");
    let link = json!(["link", "opt/scripts/out", {"to": outside}]);
    let through = json!(["file", "opt/scripts/out/x", {}]);
    scripts(&[link, through.clone()], "opt/scripts/out", "link");
    // Led out in two steps, each harmless by itself.
    let link = json!(["link", "opt/scripts/out", {"to": "../../../outside"}]);
    scripts(&[link, through.clone()], "opt/scripts/out", "link");
    let inside = json!(["link", "opt/scripts/out", {"to": "."}]);
    scripts(&[inside, through], "opt/scripts/out/x", "lies below");
    let passwd = json!(["hard", "opt/scripts/hard", {"to": "/etc/passwd"}]);
    scripts(&[passwd], "opt/scripts/hard", "hard link");
    let null = json!(["chr", "opt/scripts/null", {}]);
    scripts(&[null], "opt/scripts/null", "character device");
    let disk = json!(["blk", "opt/scripts/disk", {}]);
    scripts(&[disk], "opt/scripts/disk", "block device");
    let set_uid = json!(["file", "opt/scripts/su", {"mode": 0o4755, "uid": 1234}]);
    scripts(&[set_uid], "opt/scripts/su", "set-uid");

    // Of root, in a volume that is somebody else's.
    let members = json!([["dir", "./", {}], ["file", "./shell", {"mode": 0o4755, "uid": 0}]]);
    on.archive("grafana", "volumes/grafana", &members, "./shell", "set-uid");

    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    for place in [work.join("x"), on.whole.hosting.root().join("x")] {
        assert!(!place.exists(), "{}", place.display());
    }
}
