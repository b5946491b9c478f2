//! Each part of the platform, damaged in each way: the run restores it, or refuses in the plan with
//! a next step that works. No run ends in a state from which the program cannot go on.
//!
//! Parts alone, and two of them at once. What became of each is written into `target/damage`, of which
//! `scripts/damage-table.py` makes one table.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use restore_testing::{Sample, Share, run};

use super::support::{Ran, Whole};

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

impl Then {
    /// The sections of the fingerprint that are not as at the backup then.
    fn but(self) -> &'static [&'static str] {
        match self {
            Restored(but) => but,
            With(..) => &["crontab", "postgres", "untouched"],
            // A password that was set again has another hash.
            Mended(..) => &["untouched"],
            Without(..) => &[],
        }
    }

    /// The options of the run.
    fn with(self) -> &'static [&'static str] {
        match self {
            With(_, with) | Mended(_, _, with) => with,
            Restored(_) | Without(..) => &[],
        }
    }
}

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

/// What is typed first.
const RUN: &[&str] = &["run", "latest", "--yes"];
const PLAIN: Then = Restored(&[]);
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
        // With that, `new_cluster` has all of it.
        Without("postgres", "--create"),
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
        Without("postgres", "--create"),
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
    cell("nginx", "data garbage", "", "garbage $nginx", PLAIN),
    cell(
        "nginx",
        "configuration broken",
        "running",
        "echo 'server { nonsense' >>$nginx/conf.d/app.conf",
        PLAIN,
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
        PLAIN,
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
        LEFT_OUT,
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
        let gone = match unasked {
            true => PLAIN,
            false => With("--create", CREATE),
        };
        let kinds = [
            ("data gone", "emptied @", PLAIN),
            ("data garbage", "garbage @", PLAIN),
            (
                "configuration broken",
                "rm -r @; echo x >@",
                Mended("move away", "rm @", CREATE),
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

/// Parts of which one is in the other, or which one service needs: damage of one may be that of the other.
fn together(part: &str) -> &str {
    match part {
        "hosting_db" | "roles" => "postgres",
        "nginx-logs" | "nginx-cache" => "nginx",
        part => part,
    }
}

/// All pairs of parts that are damaged each in its own way.
fn pairs(cases: &[Case]) -> Vec<(&Case, &Case)> {
    let single = cases.iter().filter(|case| case.part != "pairs");
    let single: Vec<&Case> = single.collect();
    let mut pairs = Vec::new();
    for (at, one) in single.iter().enumerate() {
        let others = single.iter().skip(at + 1);
        let others = others.filter(|other| together(&one.part) != together(&other.part));
        pairs.extend(others.map(|other| (*one, *other)));
    }
    pairs
}

#[test]
fn every_damage_1_of_2() {
    walk(1);
}

#[test]
fn every_damage_2_of_2() {
    walk(2);
}

fn walk(number: usize) {
    let ground = Ground::new();
    let chosen = Sample::of_this_run().one_kind_of(2).choose(
        cases(),
        |case| case.name.clone(),
        |case| case.kind.to_owned(),
        2,
        Share::new(number, 2),
    );
    let mut table = Table::new(&format!("{number}-of-2"));
    for case in &chosen {
        table.tries(&case.part, case.kind, &case.name, || ground.try_out(case));
    }
    table.ends();
}

/// Two parts at once, drawn anew by each seed: all of them would take hours.
#[test]
fn two_damages_at_once() {
    let ground = Ground::new();
    let cases = cases();
    let name = |(one, other): &(&Case, &Case)| format!("{}, and {}", one.name, other.name);
    let kinds = |(one, other): &(&Case, &Case)| {
        let kinds = BTreeSet::from([one.kind, other.kind]);
        kinds.into_iter().collect::<Vec<_>>().join(" and ")
    };
    let sample = Sample::of_this_run();
    let chosen = match sample.is_exhaustive() {
        // One of each two kinds.
        true => sample
            .of_each_kind()
            .choose(pairs(&cases), name, kinds, 0, Share::WHOLE),
        false => sample.choose(pairs(&cases), name, |_| String::new(), 1, Share::WHOLE),
    };
    let mut table = Table::new("pairs");
    for pair in chosen {
        let (one, other) = pair;
        table.tries("two at once", &kinds(&pair), &name(&pair), || {
            ground.try_both(one, other)
        });
    }
    table.ends();
}

/// What became of damages, a line each: the part, the kind, the name, and that.
struct Table {
    file: File,
    failed: Vec<String>,
}

impl Table {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("damage");
        std::fs::create_dir_all(&folder).unwrap();
        Self {
            file: File::create(folder.join(format!("{name}.tsv"))).unwrap(),
            failed: Vec::new(),
        }
    }

    /// One that fails does not keep the others from being tried, so that the table is whole.
    fn tries(&mut self, part: &str, kind: &str, name: &str, work: impl FnOnce() -> String) {
        println!("{name}");
        let ended = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
            self.failed.push(name.to_owned());
            "FAILED".to_owned()
        });
        println!("{name}: {ended}");
        writeln!(self.file, "{part}\t{kind}\t{name}\t{ended}").unwrap();
    }

    fn ends(self) {
        assert!(self.failed.is_empty(), "{:#?}", self.failed);
    }
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
        let name = case.name.as_str();
        let restores = |with: &[&str]| self.restores(name, &[RUN, with].concat(), case.then.but());
        let refused = |says: &str| self.is_refused(self.whole.restore(RUN), says, name);
        match case.then {
            Restored(_) => {
                restores(&[]);
                "restored".to_owned()
            }
            With(says, with) => {
                let code = refused(says);
                restores(with);
                format!("refused ({code}), restored with {}", with.join(" "))
            }
            Mended(says, code, with) => {
                let refusal = refused(says);
                self.shell(code);
                restores(with);
                format!("refused ({refusal}), restored once that was put right")
            }
            Without(component, says) => {
                let code = refused(says);
                self.restores_others(component, &[]);
                format!("refused ({code}), the others restored")
            }
        }
    }

    /// The same of two at once: what is done about each of them alone is done about both.
    fn try_both(&self, one: &Case, other: &Case) -> String {
        self.begin_again();
        self.shell(&one.damage);
        self.shell(&other.damage);
        let name = format!("{}, and {}", one.name, other.name);
        let both = [one.then, other.then];
        let but: Vec<&str> = both.iter().flat_map(|then| then.but()).copied().collect();
        if both.iter().all(|then| matches!(then, Restored(_))) {
            self.restores(&name, RUN, &but);
            return "restored".to_owned();
        }
        let ran = self.whole.restore(RUN);
        if ran.code == Some(0) {
            self.takes_back();
            self.restores(&name, RUN, &but);
            return "restored".to_owned();
        }
        let code = self.is_refused(ran, "", &name);
        for then in both {
            if let Mended(_, mend, _) = then {
                self.shell(mend);
            }
        }
        let with: BTreeSet<&str> = both.iter().flat_map(|then| then.with()).copied().collect();
        let with: Vec<&str> = with.into_iter().collect();
        let without = both.iter().find_map(|then| match then {
            Without(component, _) => Some(*component),
            _ => None,
        });
        match without {
            Some(component) => {
                self.restores_others(component, &with);
                format!("refused ({code}), the others restored")
            }
            None => {
                self.restores(&name, &[RUN, &with].concat(), &but);
                format!("refused ({code}), restored by what was said")
            }
        }
    }

    /// Restores all but one component, with these options.
    #[track_caller]
    fn restores_others(&self, component: &str, with: &[&str]) {
        let whole = &self.whole;
        let plan = whole.restore(&[&["plan", "latest"], with].concat());
        let others = others(&plan.out, component);
        let args = [RUN, with, &["--only", &others]].concat();
        whole.restore(&args).restored();
        self.takes_back();
    }

    #[track_caller]
    fn takes_back(&self) {
        let whole = &self.whole;
        whole.restore(&["rollback", "--yes"]).taken_back();
        whole.restore(&["confirm", "--yes"]).exits(0);
    }

    /// Nothing was begun, and the hint says what to do; the code of the first error.
    #[track_caller]
    fn is_refused(&self, ran: Ran, says: &str, name: &str) -> String {
        let ran = ran.exits(4);
        let all = format!("{}{}", ran.out, ran.err);
        assert!(all.contains(says), "{name}: no {says:?}: {all}");
        assert!(ran.err.contains("hint: "), "{name}: {all}");
        let plan = self.whole.restore(&["plan", "latest", "--json"]).exits(4);
        let findings = plan.json();
        let findings = findings["plan"]["findings"].as_array().unwrap();
        let error = findings.iter().find(|it| it["severity"] == "error");
        error.unwrap()["code"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn restores(&self, name: &str, args: &[&str], but: &[&str]) {
        let whole = &self.whole;
        let like = |what: &str| {
            let now = whole.hosting.fingerprint();
            let (wanted, found) = (without(&whole.at_backup, but), without(&now, but));
            restore_testing::assert_same(&wanted, &found, &format!("{name}, {what}"));
            self.script("status");
        };
        whole.restore(args).exits(0);
        like("restored");
        self.takes_back();
        whole.restore(args).exits(0);
        like("restored again");
        whole.restore(&["confirm", "--yes"]).exits(0);
        whole.nothing_left(name);
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
