//! Each part of the platform, damaged in each way: the run restores it, or refuses in the plan with
//! a next step that works. No run ends in a state from which the program cannot go on.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use restore_testing::{Sample, Share, run};

use super::support::{Ran, Whole};

/// The kinds of damage.
const KINDS: [&str; 6] = [
    "stopped",
    "data gone",
    "data garbage",
    "configuration broken",
    "name gone",
    "access lost",
];

/// What shell code can call, besides the platform's library.
const HELP: &str = r#"
svc() { "$here/platform" -d "$root" service "$1" "$2" >/dev/null; }
sql() { psql_ -d "$1" -c "$2" >/dev/null; }
noise() { head -c 2000 /dev/urandom >"$1"; }
emptied() { find "$1" -mindepth 1 -delete; }
garbage() { find "$1" -type f | while IFS= read -r file; do noise "$file"; done; }
closed() { chown -R root:root "$1"; chmod -R 000 "$1"; }
data=$root/postgres/data redis=$root/volumes/redis_data nginx=$root/mnt/nfs/nginx
app=$root/opt/applications/hosting-app
"#;

/// What becomes of it.
#[derive(Clone, Copy)]
enum Then {
    /// Plain `run` restores it; to the backup's state but for these sections.
    Restored(&'static [&'static str]),
    /// Refused in the plan with these words in a hint; with these options it is restored.
    With(&'static str, &'static [&'static str]),
    /// The same; once this is done, plain `run` restores it, with these options.
    Mended(&'static str, &'static str, &'static [&'static str]),
    /// Refused in the plan with these words, by this component; all others are restored.
    Without(&'static str, &'static str),
}

use Then::{Mended, Restored, With, Without};

struct Cell {
    part: &'static str,
    kind: &'static str,
    /// Where a part is damaged in one way twice: how.
    how: &'static str,
    damage: &'static str,
    then: Then,
}

const fn cell(
    part: &'static str,
    kind: &'static str,
    how: &'static str,
    damage: &'static str,
    then: Then,
) -> Cell {
    Cell {
        part,
        kind,
        how,
        damage,
        then,
    }
}

const PLAIN: Then = Restored(&[]);
const NO_PAGE: &[&str] = &["--no-maintenance"];
const CREATE: &[&str] = &["--create"];
/// What no backup has of the application goes with its folder.
const LEFT_OUT: Then = Restored(&["untouched"]);

/// Services, the database and its roles. Volumes and trees are in [`PLACES`].
const CELLS: &[Cell] = &[
    cell("postgres", "stopped", "", "svc postgres stop", PLAIN),
    cell(
        "postgres",
        "data gone",
        "",
        "svc postgres stop; emptied $data",
        Without("postgres", "does not start"),
    ),
    cell(
        "postgres",
        "data garbage",
        "",
        "svc postgres stop; noise $data/global/pg_control",
        Without("postgres", "does not start"),
    ),
    cell(
        "postgres",
        "configuration broken",
        "down",
        "svc postgres stop; echo 'nonsense = = 1' >>$data/postgresql.conf",
        Mended("does not start", "sed -i '$d' $data/postgresql.conf", &[]),
    ),
    cell(
        "postgres",
        "configuration broken",
        "running",
        "echo 'nonsense = = 1' >>$data/postgresql.conf; sql postgres 'SELECT pg_reload_conf()'",
        PLAIN,
    ),
    cell(
        "postgres",
        "configuration broken",
        "pg_hba.conf",
        "cp $data/pg_hba.conf $root/hba; echo 'host all all 127.0.0.1/32 reject' >$data/pg_hba.conf; \
         sql postgres 'SELECT pg_reload_conf()'",
        Mended(
            "pg_hba.conf",
            "cat $root/hba >$data/pg_hba.conf; kill -HUP $(head -n 1 $data/postmaster.pid); wait_for 10 sql postgres 'SELECT 1'",
            &[],
        ),
    ),
    cell(
        "postgres",
        "name gone",
        "",
        "svc postgres stop; mv $data $data.away",
        Without("postgres", "does not start"),
    ),
    cell(
        "postgres",
        "access lost",
        "modes",
        "svc postgres stop; chown root:root $data; chmod 000 $data",
        Mended(
            "does not start",
            "chown postgres:postgres $data; chmod 700 $data",
            &[],
        ),
    ),
    cell(
        "postgres",
        "access lost",
        "password",
        "sql postgres \"ALTER ROLE hosting_user PASSWORD 'other'\"",
        Mended(
            "password_file",
            "export PGPASSWORD=other; sql postgres \"ALTER ROLE hosting_user PASSWORD '$(cat $root/secrets/postgres.pass)'\"",
            &[],
        ),
    ),
    cell(
        "hosting_db",
        "data gone",
        "",
        "sql hosting_db 'SET client_min_messages = error; DROP SCHEMA public, billing CASCADE'",
        PLAIN,
    ),
    cell(
        "hosting_db",
        "data garbage",
        "",
        "file=$(psql_ -d hosting_db -At -c \"SELECT pg_relation_filepath('pg_class')\"); sql hosting_db CHECKPOINT; \
         svc postgres stop; dd if=/dev/urandom of=$data/$file bs=8192 count=4 conv=notrunc 2>/dev/null; svc postgres start",
        PLAIN,
    ),
    cell(
        "hosting_db",
        "configuration broken",
        "",
        "sql postgres \"ALTER DATABASE hosting_db SET session_preload_libraries = 'nonsense'\"",
        PLAIN,
    ),
    cell(
        "hosting_db",
        "name gone",
        "dropped",
        "sql postgres 'DROP DATABASE hosting_db WITH (FORCE)'",
        PLAIN,
    ),
    cell(
        "hosting_db",
        "name gone",
        "renamed",
        "svc app stop; sql postgres 'ALTER DATABASE hosting_db RENAME TO hosting_old'",
        PLAIN,
    ),
    cell(
        "hosting_db",
        "access lost",
        "",
        "sql postgres 'ALTER DATABASE hosting_db ALLOW_CONNECTIONS false'",
        PLAIN,
    ),
    cell(
        "roles",
        "name gone",
        "",
        "svc app stop; for db in hosting_db metrics_db; do sql $db 'DROP OWNED BY app_readonly'; done; sql postgres 'DROP ROLE app_readonly'",
        With("--create", CREATE),
    ),
    cell(
        "roles",
        "access lost",
        "",
        "sql postgres 'ALTER ROLE hosting_user NOLOGIN'",
        Mended(
            "pg_hba.conf",
            // As an operator would: single-user mode asks nobody.
            "svc postgres stop; echo 'ALTER ROLE hosting_user LOGIN;' | as_user postgres $pg_bin/postgres --single -D $data postgres >/dev/null 2>&1",
            &[],
        ),
    ),
    cell("redis", "stopped", "", "svc redis stop", PLAIN),
    cell(
        "redis",
        "data gone",
        "down",
        "svc redis stop; emptied $redis",
        PLAIN,
    ),
    cell("redis", "data gone", "running", "emptied $redis", PLAIN),
    cell(
        "redis",
        "data garbage",
        "down",
        "svc redis stop; garbage $redis",
        PLAIN,
    ),
    cell("redis", "data garbage", "running", "garbage $redis", PLAIN),
    cell(
        "redis",
        "configuration broken",
        "down",
        "svc redis stop; echo 'nonsense here' >>$root/etc/redis.conf",
        Mended("correct that file", "sed -i '$d' $root/etc/redis.conf", &[]),
    ),
    cell(
        "redis",
        "configuration broken",
        "running",
        "echo 'nonsense here' >>$root/etc/redis.conf",
        Mended("correct that file", "sed -i '$d' $root/etc/redis.conf", &[]),
    ),
    cell(
        "redis",
        "name gone",
        "down",
        "svc redis stop; mv $redis $redis.away",
        With("--create", CREATE),
    ),
    cell(
        "redis",
        "name gone",
        "running",
        "mv $redis $redis.away",
        Mended("--create", "svc redis stop", CREATE),
    ),
    cell(
        "redis",
        "access lost",
        "modes",
        "svc redis stop; closed $redis",
        Mended(
            "chown -R",
            "chown -R redis:redis $redis; chmod 750 $redis",
            &[],
        ),
    ),
    cell(
        "redis",
        "access lost",
        "password",
        "redis_ CONFIG SET requirepass other >/dev/null",
        Mended(
            "password_file",
            "REDISCLI_AUTH=other redis_ CONFIG SET requirepass \"$(cat $root/secrets/redis.pass)\" >/dev/null",
            &[],
        ),
    ),
    cell("nginx", "stopped", "", "svc nginx stop", PLAIN),
    cell(
        "nginx",
        "data gone",
        "",
        "svc nginx stop; rm -r $root/volumes/nginx_logs $root/volumes/nginx_cache",
        With("--create", CREATE),
    ),
    cell(
        "nginx",
        "data garbage",
        "",
        "garbage $nginx",
        With("--no-maintenance", NO_PAGE),
    ),
    cell(
        "nginx",
        "configuration broken",
        "running",
        "echo 'server { nonsense' >>$nginx/conf.d/app.conf",
        With("--no-maintenance", NO_PAGE),
    ),
    cell(
        "nginx",
        "configuration broken",
        "down",
        "svc nginx stop; echo 'server { nonsense' >>$nginx/conf.d/app.conf",
        PLAIN,
    ),
    cell(
        "nginx",
        "name gone",
        "",
        "mv $nginx $root/nginx.away",
        With("--no-maintenance", NO_PAGE),
    ),
    cell("nginx", "access lost", "", "closed $nginx", PLAIN),
    cell("app", "stopped", "", "svc app stop", PLAIN),
    cell(
        "app",
        "data gone",
        "",
        "svc app stop; emptied $app",
        LEFT_OUT,
    ),
    cell(
        "app",
        "data garbage",
        "",
        "svc app stop; noise $app/app.py",
        PLAIN,
    ),
    cell(
        "app",
        "configuration broken",
        "",
        "echo 'nonsense (' >>$app/lib/databases.py",
        PLAIN,
    ),
    cell(
        "app",
        "name gone",
        "",
        "svc app stop; mv $app $app.away",
        LEFT_OUT,
    ),
    cell("app", "access lost", "", "closed $app", LEFT_OUT),
    cell("crontab", "data gone", "", ": >$root/crontab", PLAIN),
    cell("crontab", "data garbage", "", "noise $root/crontab", PLAIN),
    cell(
        "crontab",
        "name gone",
        "",
        "rm $root/crontab",
        Restored(&["crontab"]),
    ),
    cell(
        "crontab",
        "access lost",
        "",
        "chmod 000 $root/crontab",
        Restored(&["crontab"]),
    ),
    // Two at once.
    cell(
        "pairs",
        "stopped",
        "PostgreSQL stopped, its database dropped",
        "sql postgres 'DROP DATABASE hosting_db WITH (FORCE)'; svc postgres stop",
        PLAIN,
    ),
    cell(
        "pairs",
        "configuration broken",
        "nginx's, and the application gone",
        "svc app stop; rm -r $app; echo 'server { nonsense' >>$nginx/conf.d/app.conf",
        With("--no-maintenance", NO_PAGE),
    ),
    cell(
        "pairs",
        "data garbage",
        "that of Redis, and a volume gone",
        "svc redis stop; garbage $redis; rm -r $root/volumes/grafana_data",
        With("--create", CREATE),
    ),
    cell(
        "pairs",
        "access lost",
        "the database closed, Redis down without data",
        "sql postgres 'ALTER DATABASE hosting_db ALLOW_CONNECTIONS false'; svc redis stop; emptied $redis",
        PLAIN,
    ),
];

/// Volumes and trees: where they are, and whether they are made unasked where only they are gone.
const PLACES: [(&str, &str, bool); 7] = [
    ("prometheus", "volumes/prometheus_data", false),
    ("grafana", "volumes/grafana_data", false),
    ("nginx-logs", "volumes/nginx_logs", false),
    ("nginx-cache", "volumes/nginx_cache", false),
    ("docker-compose", "opt/docker-compose", true),
    ("prometheus-config", "mnt/nfs/monitoring", true),
    ("scripts", "opt/scripts", true),
];

/// A cell with what is done in it.
struct Case {
    name: String,
    part: String,
    kind: &'static str,
    damage: String,
    then: Then,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for cell in CELLS {
        let how = match cell.how {
            "" => String::new(),
            how => format!(" ({how})"),
        };
        cases.push(Case {
            name: format!("{}: {}{how}", cell.part, cell.kind),
            part: cell.part.to_owned(),
            kind: cell.kind,
            damage: cell.damage.to_owned(),
            then: cell.then,
        });
    }
    for (part, place, unasked) in PLACES {
        // nginx does not take a configuration whose cache and logs it cannot make.
        let page: &[&str] = match part {
            "nginx-cache" | "nginx-logs" => &["--create", "--no-maintenance"],
            _ => CREATE,
        };
        let gone = match unasked {
            true => PLAIN,
            false => With("--create", page),
        };
        let kinds = [
            ("data gone", "emptied @", PLAIN),
            ("data garbage", "garbage @", PLAIN),
            (
                "configuration broken",
                "rm -r @; echo x >@",
                Mended("move away", "rm @", page),
            ),
            ("name gone", "mv @ @.away", gone),
            ("access lost", "closed @", PLAIN),
        ];
        for (kind, damage, then) in kinds {
            let at = |code: &str| code.replace('@', &format!("$root/{place}"));
            let then = match then {
                Mended(says, code, with) => Mended(says, at(code).leak(), with),
                then => then,
            };
            cases.push(Case {
                name: format!("{part}: {kind}"),
                part: part.to_owned(),
                kind,
                damage: at(damage),
                then,
            });
        }
    }
    cases
}

#[test]
fn every_damage_1_of_3() {
    walk(Share::new(1, 3));
}

#[test]
fn every_damage_2_of_3() {
    walk(Share::new(2, 3));
}

#[test]
fn every_damage_3_of_3() {
    walk(Share::new(3, 3));
}

fn walk(share: Share) {
    let ground = Ground::new();
    let chosen = Sample::of_this_run().choose(
        cases(),
        |case| case.name.clone(),
        |case| case.kind.to_owned(),
        2,
        share,
    );
    let mut failed = Vec::new();
    let mut table: BTreeMap<(String, &str), Vec<String>> = BTreeMap::new();
    for case in &chosen {
        println!("{}", case.name);
        // The others are tried all the same, so that the table is whole.
        let tried = catch_unwind(AssertUnwindSafe(|| ground.try_out(case)));
        let ended = tried.unwrap_or_else(|_| {
            failed.push(case.name.as_str());
            "FAILED".to_owned()
        });
        println!("{}: {ended}", case.name);
        let cell = table.entry((case.part.clone(), case.kind)).or_default();
        cell.push(ended);
    }
    println!("| part | {} |", KINDS.join(" | "));
    println!("|---|{}", "---|".repeat(KINDS.len()));
    let mut parts: Vec<&str> = chosen.iter().map(|case| case.part.as_str()).collect();
    parts.dedup();
    for part in parts {
        let cells = KINDS.map(|kind| {
            let cell = table.get(&(part.to_owned(), kind));
            cell.map_or_else(|| "–".to_owned(), |all| all.join("; "))
        });
        println!("| {part} | {} |", cells.join(" | "));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// A platform with a backup, and a copy of it to begin from again.
struct Ground {
    whole: Whole,
}

impl Ground {
    fn new() -> Self {
        let whole = Whole::new();
        let ground = Self { whole };
        ground.script("stop");
        ground.copy("platform", "pristine");
        ground.script("start");
        ground
    }

    fn script(&self, action: &str) {
        self.whole.hosting.script("platform", &[action]);
    }

    fn copy(&self, from: &str, to: &str) {
        let work = self.whole.hosting.work();
        let mut copy = Command::new("cp");
        run(copy.arg("-a").arg(work.join(from)).arg(work.join(to)));
    }

    /// The platform as it was made, whatever runs or is left of it.
    fn begin_again(&self) {
        // Its own scripts find what runs by its files, and these may be gone.
        let kill = r#"for i in 1 2 3; do for link in /proc/[0-9]*/cwd; do
            case $(readlink "$link" 2>/dev/null) in "$0"|"$0"/*) pid=${link#/proc/}; kill -9 "${pid%/cwd}" 2>/dev/null ;; esac
            done; sleep 0.1; done; rm -rf "$0""#;
        let mut shell = Command::new("bash");
        run(shell.args(["-c", kill]).arg(self.whole.hosting.root()));
        self.copy("pristine", "platform");
        self.script("start");
    }

    fn shell(&self, code: &str) {
        let code = format!("load_platform; {HELP} {code}");
        self.whole.shell(&code, &[]);
    }

    /// Damages, plans, restores, rolls back, and restores again; what became of it in a word.
    fn try_out(&self, case: &Case) -> String {
        self.begin_again();
        self.shell(&case.damage);
        let whole = &self.whole;
        let plain: &[&str] = &["run", "latest", "--yes"];
        let refused = |says: &str, with: &[&str]| {
            let args = [plain, with].concat();
            let ran = whole.restore(&args);
            self.is_refused(ran, says, case)
        };
        match case.then {
            Restored(but) => {
                self.restores(case, plain, but);
                "restored".to_owned()
            }
            With(says, with) => {
                let code = refused(says, &[]);
                self.restores(
                    case,
                    &[plain, with].concat(),
                    &["crontab", "postgres", "untouched"],
                );
                format!("refused ({code}), restored with {}", with.join(" "))
            }
            Mended(says, code, with) => {
                let refusal = refused(says, &[]);
                self.shell(code);
                // A password that was set again has another hash.
                self.restores(case, &[plain, with].concat(), &["untouched"]);
                format!("refused ({refusal}), restored once that was put right")
            }
            Without(component, says) => {
                let code = refused(says, &[]);
                let ran = whole.restore(&["plan", "latest"]);
                let others = others(&ran.out, component);
                let args = [plain, &["--only", &others]].concat();
                whole.restore(&args).restored();
                whole.restore(&["rollback", "--yes"]).taken_back();
                whole.restore(&["confirm", "--yes"]).exits(0);
                format!("refused ({code}), the others restored")
            }
        }
    }

    /// Nothing was begun, and the hint says what to do; the code of the first error.
    #[track_caller]
    fn is_refused(&self, ran: Ran, says: &str, case: &Case) -> String {
        let ran = ran.exits(4);
        let all = format!("{}{}", ran.out, ran.err);
        assert!(all.contains(says), "{}: no {says:?}: {all}", case.name);
        assert!(ran.err.contains("hint: "), "{}: {all}", case.name);
        let plan = self.whole.restore(&["plan", "latest", "--json"]).exits(4);
        let findings = plan.json();
        let findings = findings["plan"]["findings"].as_array().unwrap();
        let error = findings.iter().find(|it| it["severity"] == "error");
        error.unwrap()["code"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn restores(&self, case: &Case, args: &[&str], but: &[&str]) {
        let whole = &self.whole;
        let like = |what: &str| {
            let now = whole.hosting.fingerprint();
            let (wanted, found) = (without(&whole.at_backup, but), without(&now, but));
            restore_testing::assert_same(&wanted, &found, &format!("{}, {what}", case.name));
            self.script("status");
        };
        whole.restore(args).exits(0);
        like("restored");
        whole.restore(&["rollback", "--yes"]).taken_back();
        whole.restore(&["confirm", "--yes"]).exits(0);
        whole.restore(args).exits(0);
        like("restored again");
        whole.restore(&["confirm", "--yes"]).exits(0);
        whole.nothing_left(&case.name);
    }
}

/// A fingerprint without these sections.
fn without(fingerprint: &str, but: &[&str]) -> String {
    let mut kept = String::new();
    let mut keep = true;
    for line in fingerprint.lines() {
        if let Some(name) = line.strip_prefix("=== ") {
            let name = name.split(' ').next().unwrap_or_default();
            keep = !but.contains(&name);
        }
        if keep {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// The components of a plan but this one.
fn others(plan: &str, component: &str) -> String {
    let names = plan
        .lines()
        .skip_while(|line| !line.starts_with("Components"));
    let names = names.skip(1).take_while(|line| !line.is_empty());
    let names = names.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<&str> = names
        .filter(|name| !name.is_empty() && *name != component)
        .collect();
    names.join(",")
}
