//! Killed, or failing, at the boundaries of a full run on real servers: afterwards the platform is
//! exactly the backup's state, or exactly the state before.
//!
//! Each kind of boundary once and some of the rest; all of them, in both ways, with
//! `RESTORE_TEST_EXHAUSTIVE=1`. The tests of a kind share its cases, each with a platform of its own.

use std::process::Command;

use restore_core::run::RunOptions;
use restore_core::{Site, run::Outcome};
use restore_testing::{At, Hosting, Sample, Share, assert_same, boundaries, crash, run, text};

struct Faults {
    hosting: Hosting,
    at_backup: String,
    damaged: String,
    boundaries: Vec<At>,
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
        faults.boundaries = boundaries(&counted, &faults.hosting.config());
        assert!(faults.boundaries.len() > 60, "{counted}");
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
        crash(&self.hosting.config(), &[action, when])
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
}

/// What comes after a kill.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// Resumed: the backup's state; and that can still be rolled back.
    Resume,
    /// Rolled back: the state before.
    RollBack,
}

#[test]
fn killed_at_boundaries_1_of_2() {
    killed(Share::new(1, 2));
}

#[test]
fn killed_at_boundaries_2_of_2() {
    killed(Share::new(2, 2));
}

fn killed(share: Share) {
    let faults = Faults::new();
    // The last boundary is the run's end: nothing is left to do after it.
    let (_, all) = faults.boundaries.split_last().unwrap();
    let cases = all
        .iter()
        .flat_map(|at| [Then::Resume, Then::RollBack].map(|then| (at, then)));
    let cases = Sample::of_this_run().one_kind_of(3).choose(
        cases,
        |(at, then)| format!("{then:?} after {}", at.record),
        |(at, _)| at.kind.clone(),
        4,
        share,
    );
    for (at, then) in cases {
        let what = format!("{then:?} after a kill at {}", at.record);
        println!("{what}");
        faults.act("run", &at.record);
        match then {
            Then::Resume => {
                let resumed = faults.act("resume", "never");
                assert!(resumed.contains("outcome restored"), "{what}: {resumed}");
                assert_same(&faults.at_backup, &faults.hosting.fingerprint(), &what);
                faults.back_to_damaged(&format!("rolled back, {what}"));
            }
            Then::RollBack => {
                let rolled = faults.act("rollback", "never");
                assert!(rolled.contains("outcome rolled back"), "{what}: {rolled}");
                faults.assert_damaged(&what);
                faults.confirm();
            }
        }
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
    let of_backup = faults.boundaries.iter();
    let of_backup: Vec<&At> = of_backup
        .filter(|at| at.record.contains("safety"))
        .collect();
    let names = of_backup
        .iter()
        .map(|at| at.record.split([' ', '/']).next());
    let names: Vec<&str> = names.flatten().collect();
    assert_eq!(names, ["intent", "fact", "done"]);
    // And the first thing after it.
    let last = of_backup.last().unwrap().index;
    let ends = |at: usize| at >= last;
    let kills = of_backup.iter().map(|at| at.index).chain([last + 1]);
    let kills = kills.flat_map(|at| ["resume", "rollback"].map(|action| (at, action)));
    let kills = Sample::of_this_run().one_kind_of(2).choose(
        kills,
        |(at, action)| format!("{action} after {at}"),
        |(at, action)| format!("{action} after {at}"),
        0,
        Share::WHOLE,
    );
    for (at, action) in kills {
        let boundary = &faults.boundaries[at].record;
        let before = safety_backups(&faults.hosting);
        faults.act("run", boundary);
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

#[test]
fn an_error_at_boundaries_1_of_2_undoes_the_run() {
    an_error(Share::new(1, 2));
}

#[test]
fn an_error_at_boundaries_2_of_2_undoes_the_run() {
    an_error(Share::new(2, 2));
}

fn an_error(share: Share) {
    let faults = Faults::new();
    // At the first two nothing has begun and at the last all is over: no failure of a step. That the page
    // is down is true whether it could be noted or not.
    let last = faults.boundaries.len() - 1;
    let page_is_down = |at: &&At| at.record.starts_with("fact [") && at.record.ends_with(":down");
    let cases = Sample::of_this_run().one_kind_of(3).choose(
        faults.boundaries[2..last]
            .iter()
            .filter(|at| !page_is_down(at)),
        |at| format!("an error at {}", at.record),
        // How far a way back has to go is tried by the kills.
        |at| {
            let step = at.record.split(':').next().unwrap();
            let kind = if step.starts_with("fact ") {
                "fact"
            } else {
                step
            };
            kind.to_owned()
        },
        4,
        share,
    );
    for at in cases {
        let what = format!("an error at {}", at.record);
        println!("{what}");
        let failed = faults.act("run", &format!("error:{}", at.record));
        let undone = format!("outcome {}", Outcome::Undone);
        assert!(failed.contains(&undone), "{what}: {failed}");
        faults.assert_damaged(&what);
        faults.confirm();
    }
}

#[test]
fn a_rollback_killed_at_boundaries_1_of_2_is_finished_by_another() {
    a_rollback_killed(Share::new(1, 2));
}

#[test]
fn a_rollback_killed_at_boundaries_2_of_2_is_finished_by_another() {
    a_rollback_killed(Share::new(2, 2));
}

fn a_rollback_killed(share: Share) {
    let faults = Faults::new();
    faults.act("run", "never");
    let counted = faults.act("rollback", "never");
    faults.confirm();
    let all = boundaries(&counted, &faults.hosting.config());
    assert!(all.len() > 20, "{counted}");
    let (_, all) = all.split_last().unwrap();
    let cases = Sample::of_this_run().one_kind_of(3).choose(
        all,
        |at| format!("a rollback killed at {}", at.record),
        // Between the end of a step and the beginning of the next nothing happens.
        |at| {
            let kind = at.kind.trim_start_matches("intent ");
            kind.trim_start_matches("done ").to_owned()
        },
        4,
        share,
    );
    for at in cases {
        let what = format!("a rollback killed at {}", at.record);
        println!("{what}");
        faults.act("run", "never");
        faults.act("rollback", &at.record);
        let rolled = faults.act("rollback", "never");
        assert!(rolled.contains("outcome rolled back"), "{what}: {rolled}");
        faults.assert_damaged(&what);
        faults.confirm();
    }
}
