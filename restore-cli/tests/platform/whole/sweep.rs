//! Whatever is at work is killed, at any moment of any verb: the program, a program that it has started, a server,
//! the whole host. Commands that are always there lead on, and the platform is one or the other, wholly.
//!
//! A few times, drawn by the seed; or for as many minutes as `RESTORE_SOAK_MINUTES` says.

use std::time::{Duration, Instant};

use restore_testing::{Random, Sample, soak_until};
use serde_json::Value;

use super::support::{Ran, Whole};

/// How many are tried where no time is given.
const TRIES: usize = 3;

/// What is typed, and after which part of a run's time at the latest something is killed.
const VERBS: [(&str, &[&str], u32); 6] = [
    ("run", &["run", "ID", "--yes"], 1),
    ("resume", &["resume"], 2),
    ("rollback", &["rollback", "--yes"], 2),
    ("confirm", &["confirm", "--yes"], 8),
    ("abandon", &["abandon", "--yes"], 8),
    ("backup", &["backup"], 2),
];

const VICTIMS: [&str; 6] = ["program", "child", "postgres", "redis", "nginx", "host"];

/// What leads on from where it stands, both at any time.
const WAYS: [&[&str]; 2] = [&["resume"], &["rollback", "--yes"]];

/// Where a run is killed that is gone on with, or given up.
const STEPS: [&str; 4] = ["stage:postgres", "stop:app", "cut-over:redis", "start:app"];

/// Kills what `$2` names, of the program `$1`; of its children the one with the number `$3`.
const KILL: &str = r#"
children() { grep -sl "^PPid:[[:space:]]*$1$" /proc/[0-9]*/status | cut -d/ -f3 || true; }
first() { head -n 1 "$1" 2>/dev/null || true; }
servers() {
  for link in /proc/[0-9]*/cwd; do
    case $(readlink "$link" 2>/dev/null || true) in
      "$root" | "$root"/*) pid=${link#/proc/}; echo "${pid%/cwd}" ;;
    esac
  done
}
case $2 in
  program) pids=$1 ;;
  child)
    pids=($(children "$1"))
    if [ ${#pids[@]} -gt 0 ]; then pids=${pids[$3 % ${#pids[@]}]}; else pids=$1; fi ;;
  postgres) pids=$(first "$root/postgres/data/postmaster.pid") ;;
  redis) pids=$(first "$root/run/redis/redis.pid") ;;
  nginx) pids=$(first "$root/run/nginx.pid"); [ -z "$pids" ] || pids="$pids $(children "$pids")" ;;
  host) pids="$1 $(children "$1") $(servers)" ;;
esac
kill -KILL $pids 2>/dev/null || true
"#;

/// As an init does; what it cannot start is not its affair.
const INIT: &str = r#"for try in 1 2; do "$here/platform" -d "$root" start >/dev/null 2>&1 && break; done || true"#;

struct Sweep {
    whole: Whole,
    random: Random,
    /// How long a run takes.
    duration: Duration,
    /// How many commands ended stuck.
    stuck: usize,
}

impl Sweep {
    fn draw<T: Copy>(&mut self, all: &[T]) -> T {
        let at = self.random.below(u64::try_from(all.len()).unwrap());
        all[usize::try_from(at).unwrap()]
    }

    /// Damages everything, saved to the last byte: what a server that is killed had not written would be missing
    /// without any restore.
    fn damages(&self) -> String {
        self.whole.hosting.damage();
        let save = r#"load_platform; . "$here/backup-parts.sh"; redis_save; psql_ -d postgres -c CHECKPOINT >/dev/null"#;
        self.whole.shell(save, &[]);
        let damaged = self.whole.hosting.fingerprint();
        assert_ne!(damaged, self.whole.at_backup);
        damaged
    }

    fn restore(&mut self, args: &[&str]) -> Ran {
        let ran = self.whole.restore(args);
        self.stuck += usize::from(ran.code == Some(6));
        ran
    }

    /// The runs with one of these outcomes, the newest first.
    fn runs(&self, outcomes: &[&str]) -> Vec<String> {
        let history = self.whole.restore(&["history", "--json"]).exits(0).json();
        let all = history["runs"].as_array().unwrap().iter().rev();
        let all = all.filter(|run| {
            run["outcome"]
                .as_str()
                .is_some_and(|it| outcomes.contains(&it))
        });
        let id = |run: &Value| run["run"].as_str().unwrap().to_owned();
        all.map(id).collect()
    }

    /// Brings it to where the verb can be typed.
    fn prepare(&mut self, verb: &str) {
        let id = self.whole.id.clone();
        let run = ["run", &id, "--yes"];
        match verb {
            "resume" | "abandon" => {
                let step = self.draw(&STEPS);
                let mut running = self.whole.start(&run);
                running.until_step(step);
                running.signal("KILL");
                running.end();
            }
            "rollback" | "confirm" => drop(self.whole.restore(&run).exits(0)),
            _ => {}
        }
    }

    /// Goes on with what is open until nothing is.
    fn goes_on(&mut self, victim: &str, what: &str) {
        for _ in 0..4 {
            // Nobody starts anything where only the program was killed.
            if victim != "program" {
                self.whole.shell(INIT, &[]);
            }
            if self.runs(&["unfinished", "stuck"]).is_empty() {
                return;
            }
            let way = self.draw(&WAYS);
            let ran = self.restore(way);
            println!("  {}: {:?}", ran.what, ran.code);
            assert_ne!(ran.code, Some(101), "{what}: {ran:#?}");
        }
        panic!("{what}: there is no end of it");
    }

    fn tries(&mut self, what: &str, verb: &str, args: &[&str], part: u32, victim: &str) {
        let damaged = self.damages();
        self.prepare(verb);
        let longest = self.duration / part;
        let after = longest * u32::try_from(self.random.below(1000)).unwrap() / 1000;
        let id = self.whole.id.clone();
        let filled = args.iter().map(|it| match *it {
            "ID" => id.as_str(),
            it => it,
        });
        let args: Vec<&str> = filled.collect();
        let running = self.whole.start(&args);
        std::thread::sleep(after);
        let (pid, number) = (
            running.pid().to_string(),
            self.random.below(1000).to_string(),
        );
        self.whole.shell(KILL, &[&pid, victim, &number]);
        let ran = running.end();
        let what = format!("{what}, after {after:?}: {ran:#?}");
        println!("  {:?} after {after:?}", ran.code);
        assert_ne!(ran.code, Some(101), "{what}");
        self.stuck += usize::from(ran.code == Some(6));
        self.goes_on(victim, &what);
        // Ended as the platform stood: that may be half of each, until it is taken back after all.
        for run in self.runs(&["abandoned"]) {
            let back = self.restore(&["rollback", &run, "--yes"]);
            assert!([Some(0), Some(8)].contains(&back.code), "{what}: {back:#?}");
        }
        if victim == "program" {
            self.whole.hosting.script("platform", &["status"]);
        } else {
            self.whole.hosting.script("platform", &["start"]);
        }
        let now = self.whole.hosting.fingerprint();
        if now != self.whole.at_backup {
            restore_testing::assert_same(&damaged, &now, &what);
        }
        // Until there is none to confirm.
        for _ in 0..4 {
            if self.restore(&["confirm", "--yes"]).code != Some(0) {
                break;
            }
        }
        assert_eq!(self.whole.hosting.fingerprint(), now, "{what}: confirmed");
        self.whole.nothing_left(&what);
    }
}

#[test]
fn whatever_is_killed_there_is_a_way_on() {
    let sample = Sample::of_this_run();
    let until = soak_until();
    let whole = Whole::new();
    let mut sweep = Sweep {
        random: sample.random(),
        duration: Duration::ZERO,
        stuck: 0,
        whole,
    };
    sweep.damages();
    let began = Instant::now();
    sweep.prepare("confirm");
    sweep.duration = began.elapsed();
    sweep.restore(&["confirm", "--yes"]).exits(0);
    let mut tried = 0;
    while until.map_or(tried < TRIES, |until| Instant::now() < until) {
        tried += 1;
        let ((verb, args, part), victim) = (sweep.draw(&VERBS), sweep.draw(&VICTIMS));
        let what = format!(
            "{}: try {tried}, {verb}, {victim} killed",
            sample.how_to_repeat()
        );
        println!("{what}");
        sweep.tries(&what, verb, args, part, victim);
    }
    // A server that is down may keep a run from either end; commands got on from there once it was up again.
    println!("{tried} tried, {} commands ended stuck", sweep.stuck);
}
