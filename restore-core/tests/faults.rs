//! Killed at every boundary of a full run on real servers: afterwards the platform is exactly
//! the backup's state, or exactly the state before.

use std::path::PathBuf;
use std::process::Command;

use restore_core::run::RunOptions;
use restore_core::{Site, run::Outcome};
use restore_testing::{Hosting, assert_same, run, text};

/// The example `crash`, which cargo builds beside the tests.
fn crash() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let path = here
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/crash");
    assert!(
        path.exists(),
        "{} is not built: cargo test builds it",
        path.display()
    );
    path
}

struct Faults {
    hosting: Hosting,
    at_backup: String,
    damaged: String,
    boundaries: Vec<String>,
}

impl Faults {
    /// Runs without safety backups, whose boundaries have a test of their own: in the others they
    /// would only take time.
    fn new() -> Self {
        Self::with_safety_backups(false)
    }

    fn with_safety_backups(safety: bool) -> Self {
        let hosting = Hosting::new(40, 1);
        if !safety {
            hosting.configure("safety_backup = true", "safety_backup = false");
        }
        hosting.back_up();
        let at_backup = hosting.fingerprint();
        hosting.damage();
        let damaged = hosting.fingerprint();
        assert_ne!(at_backup, damaged);
        let mut faults = Self {
            hosting,
            at_backup,
            damaged,
            boundaries: Vec::new(),
        };
        let counted = faults.act("run", "never");
        assert!(counted.contains("outcome restored"), "{counted}");
        faults.boundaries = counted
            .lines()
            .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()))
            .map(str::to_owned)
            .collect();
        assert_same(
            &faults.at_backup,
            &faults.hosting.fingerprint(),
            "a run without faults",
        );
        faults.back_to_damaged("a run without faults");
        faults
    }

    /// Runs the example to its end; whether killed or not, what it printed.
    fn act(&self, action: &str, when: &str) -> String {
        let output = Command::new(crash())
            .arg(self.hosting.config())
            .args([action, when])
            .output()
            .unwrap();
        let killed = output.status.code().is_none();
        let meant_to_be = when.parse::<usize>().is_ok();
        assert_eq!(
            killed,
            meant_to_be,
            "{action} {when}: {}\n{}{}",
            output.status,
            text(&output),
            String::from_utf8_lossy(&output.stderr)
        );
        text(&output)
    }

    /// Rolls a restored run back and deletes what it had put aside.
    fn back_to_damaged(&self, what: &str) {
        let rolled = self.act("rollback", "never");
        assert!(rolled.contains("outcome rolled back"), "{what}: {rolled}");
        self.assert_damaged(what);
        self.confirm();
        self.assert_damaged(&format!("{what}, confirmed"));
    }

    fn assert_damaged(&self, what: &str) {
        assert_same(&self.damaged, &self.hosting.fingerprint(), what);
    }

    /// Deletes what the last run had put aside, if anything; nothing of any run may be left.
    fn confirm(&self) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let site = Site::open(&self.hosting.config()).await.unwrap();
            match site.confirm(None, RunOptions::new()).await {
                Ok(report) => assert!(report.confirmed),
                Err(error) => assert_eq!(error.code(), "run.none_to_confirm", "{error}"),
            }
        });
        self.assert_nothing_left();
    }

    fn assert_nothing_left(&self) {
        let root = self.hosting.root();
        let found =
            run(Command::new("find")
                .arg(root)
                .args(["-name", ".restore-*", "-prune", "-print"]));
        assert_eq!(text(&found), "", "hidden folders are left");
    }

    fn numbers(&self, part: usize) -> impl Iterator<Item = (usize, &String)> {
        // The last boundary is the run's end: nothing is left to do after it.
        let last = self.boundaries.len() - 1;
        self.boundaries
            .iter()
            .enumerate()
            .take(last)
            .filter(move |(at, _)| at % 2 == part)
    }
}

/// Two platforms share the work: even boundaries here, odd ones in the next test.
#[test]
fn killed_at_even_boundaries() {
    killed(0);
}

#[test]
fn killed_at_odd_boundaries() {
    killed(1);
}

fn killed(part: usize) {
    let faults = Faults::new();
    assert!(faults.boundaries.len() > 60, "{:?}", faults.boundaries);
    for (at, boundary) in faults.numbers(part) {
        // Killed, then resumed: the backup's state; and that can still be rolled back.
        faults.act("run", &at.to_string());
        let resumed = faults.act("resume", "never");
        assert!(
            resumed.contains("outcome restored"),
            "resume after {boundary}: {resumed}"
        );
        let what = format!("resumed after a kill at {boundary}");
        assert_same(&faults.at_backup, &faults.hosting.fingerprint(), &what);
        faults.back_to_damaged(&format!("rolled back after {what}"));

        // Killed, then rolled back: the state before.
        faults.act("run", &at.to_string());
        let rolled = faults.act("rollback", "never");
        assert!(
            rolled.contains("outcome rolled back"),
            "rollback after {boundary}: {rolled}"
        );
        faults.assert_damaged(&format!("rolled back after a kill at {boundary}"));
        faults.confirm();
    }
}

/// The safety backups, by their id, and whether each is finished.
fn safety_backups(hosting: &Hosting) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(hosting.root().join("backups")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("pre-restore-") {
            found.push((name, entry.path().join("MANIFEST.txt").exists()));
        }
    }
    found.sort();
    found
}

#[test]
fn killed_at_the_boundaries_of_the_safety_backup() {
    let faults = Faults::with_safety_backups(true);
    let of_backup: Vec<(usize, &String)> = faults
        .boundaries
        .iter()
        .enumerate()
        .filter(|(_, boundary)| boundary.contains("safety"))
        .collect();
    let names: Vec<&str> = of_backup
        .iter()
        .map(|(_, boundary)| boundary.split(['/', ' ']).nth(1).unwrap())
        .collect();
    assert_eq!(names, ["intent", "fact", "done"]);
    // And the first thing after it.
    let last = of_backup.last().unwrap().0;
    let ends = |at: usize| at >= last;
    for at in of_backup.iter().map(|(at, _)| *at).chain([last + 1]) {
        let boundary = &faults.boundaries[at];
        for action in ["resume", "rollback"] {
            let before = safety_backups(&faults.hosting);
            faults.act("run", &at.to_string());
            faults.assert_damaged(&format!("killed at {boundary}"));
            let ended = faults.act(action, "never");
            let new: Vec<bool> = safety_backups(&faults.hosting)
                .iter()
                .filter(|backup| !before.contains(backup))
                .map(|(_, finished)| *finished)
                .collect();
            let what = format!("{action} after a kill at {boundary}: {ended}");
            if action == "resume" {
                assert!(ended.contains("outcome restored"), "{what}");
                // One that is finished is not made again; none is taken for what it is not.
                assert_eq!(new, [true], "{what}");
                faults.back_to_damaged(&what);
            } else {
                assert!(ended.contains("outcome rolled back"), "{what}");
                assert_eq!(new, vec![true; usize::from(ends(at))], "{what}");
                faults.assert_damaged(&what);
                faults.confirm();
            }
        }
    }
}

#[test]
fn an_error_at_every_boundary_undoes_the_run() {
    let faults = Faults::new();
    for (at, boundary) in faults.boundaries.iter().enumerate() {
        // At the first two nothing has begun and at the last all is over: no failure of a step.
        if at < 2 || at == faults.boundaries.len() - 1 {
            continue;
        }
        let failed = faults.act("run", &format!("error:{at}"));
        assert!(
            failed.contains(&format!("outcome {}", Outcome::Undone)),
            "{boundary}: {failed}"
        );
        faults.assert_damaged(&format!("an error at {boundary}"));
        faults.confirm();
    }
}

#[test]
fn a_rollback_killed_at_every_boundary_is_finished_by_another() {
    let faults = Faults::new();
    faults.act("run", "never");
    let counted = faults.act("rollback", "never");
    faults.confirm();
    let last = counted
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()))
        .count();
    assert!(last > 20, "{counted}");
    // Every third: the steps are those of the undo in the tests above.
    for at in (0..last - 1).step_by(3) {
        faults.act("run", "never");
        faults.act("rollback", &at.to_string());
        let rolled = faults.act("rollback", "never");
        assert!(
            rolled.contains("outcome rolled back"),
            "boundary {at}: {rolled}"
        );
        faults.assert_damaged(&format!("a rollback killed at boundary {at}"));
        faults.confirm();
    }
}
