//! Killed, or failing, at the boundaries of a run over a service of three containers, of which one was
//! down before: resumed or rolled back, the project is one or the other, wholly.
//!
//! Each kind of boundary once and some of the rest; all of them with `RESTORE_TEST_EXHAUSTIVE=1`.

use std::path::PathBuf;
use std::time::Instant;

use restore_core::{BackupRequest, RunOptions, Site};
use restore_testing::{At, Sample, Share, boundaries};
use serde_json::Value;

use super::project::{OBEYS, Project};
use crate::swarm::engine::Engine;

/// A project whose volume holds one page, and a backup in which that is "one".
struct Paper<'a> {
    project: Project<'a>,
    config: PathBuf,
    page: PathBuf,
    backup: String,
    containers: [String; 3],
    described: Vec<Value>,
}

impl<'a> Paper<'a> {
    async fn new(engine: &'a Engine, name: &'a str) -> Self {
        let project = Project::new(engine, name);
        let page = project.volume("data").join("page");
        let root = engine.folder(name);
        let config = root.join("restore.toml");
        std::fs::create_dir_all(root.join("backups")).unwrap();
        let text = format!(
            "[site]\nname = '{name}'\nstate = 'state'\nsafety_backup = false\n[stores.main]\nkind = 'directory'\npath = 'backups'\n\
             [platform]\nkind = 'compose'\nproject = '{name}'\nsocket = '{}'\n[services.web]\n\
             [components.data]\nkind = 'volume'\nvolume = 'data'\narchive = ['volumes/data-{{id}}.tar.gz']\nstops = ['web']\n",
            engine.socket().display()
        );
        std::fs::write(&config, text).unwrap();
        let volume = format!("{name}_data:/data");
        let options = ["-v", &volume, "--restart", "always"];
        let containers = [1, 2, 3].map(|number| project.run("web", number, &options, OBEYS));
        engine.docker(&["stop", "-t", "5", &containers[1]]);
        let described = containers.iter().map(|id| project.described(id)).collect();
        std::fs::write(&page, "one").unwrap();
        let site = Site::open(&config).await.unwrap();
        let made = site.back_up(BackupRequest::all(), RunOptions::new()).await;
        let paper = Self {
            backup: made.unwrap().id.to_string(),
            project,
            config,
            page,
            containers,
            described,
        };
        paper.become_two();
        paper
    }

    fn become_two(&self) {
        std::fs::write(&self.page, "two").unwrap();
    }

    #[track_caller]
    fn crash(&self, action: &str, when: &str) -> String {
        let backup = if action == "run" {
            &self.backup
        } else {
            "latest"
        };
        restore_testing::crash(&self.config, &[action, when, backup])
    }

    /// Its page is this, what ran runs, and everything is described as it was.
    #[track_caller]
    fn is(&self, page: &str, what: &str) {
        assert_eq!(std::fs::read_to_string(&self.page).unwrap(), page, "{what}");
        let [first, _, third] = &self.containers;
        let running = self.project.running();
        assert_eq!(running, [first.clone(), third.clone()], "{what}");
        let described = self.containers.iter().map(|id| self.project.described(id));
        assert_eq!(described.collect::<Vec<_>>(), self.described, "{what}");
        // It is made when something is first stopped.
        let kept = std::fs::read_dir(self.config.with_file_name("state/services"));
        assert_eq!(kept.map_or(0, Iterator::count), 0, "{what}");
    }

    async fn confirm(&self, what: &str) {
        let site = Site::open(&self.config).await.unwrap();
        match site.confirm(None, RunOptions::new()).await {
            Ok(report) => assert!(report.confirmed, "{what}"),
            Err(error) => assert_eq!(error.code(), "run.none_to_confirm", "{what}: {error}"),
        }
    }

    fn run_through(&self) -> Vec<At> {
        let counted = self.crash("run", "never");
        assert!(counted.contains("outcome restored"), "{counted}");
        self.is("one", "without faults");
        boundaries(&counted, &self.config)
    }
}

/// Resumed from the beginning of every step, and rolled back from the end of every one; both for each
/// fact, which lies inside an effect.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_boundaries_it_is_finished_or_taken_back() {
    let engine = Engine::without_swarm();
    let paper = Paper::new(&engine, "killed").await;
    let all = paper.run_through();
    paper.confirm("without faults").await;
    for kind in [
        "intent stop:web",
        "intent cut-over:data",
        "intent start:web",
    ] {
        assert!(all.iter().any(|at| at.record == kind), "{kind}: {all:?}");
    }
    let kills = all.iter().flat_map(|at| {
        let actions: &[&str] = match at.record.split_once(' ') {
            // What is stopped is noted, and given back, in the middle of these.
            Some((_, step)) if step.starts_with("st") && step.ends_with(":web") => {
                &["resume", "rollback"]
            }
            Some(("intent", _)) => &["resume"],
            Some(("done", _)) => &["rollback"],
            Some(("fact", _)) => &["resume", "rollback"],
            _ => &[],
        };
        actions.iter().map(move |action| (at, *action))
    });
    let kills = Sample::of_this_run().one_kind_of(3).choose(
        kills,
        |(at, action)| format!("{action} after {}", at.record),
        |(at, action)| format!("{action} {}", at.kind),
        0,
        Share::WHOLE,
    );
    assert!(kills.len() > 2, "{} kills of {all:?}", kills.len());
    for (at, action) in kills {
        let began = Instant::now();
        let what = format!("{action} after a kill at {}", at.record);
        paper.become_two();
        paper.crash("run", &at.record);
        let done = paper.crash(action, "never");
        let (outcome, page) = match action {
            "resume" => ("outcome restored", "one"),
            _ => ("outcome rolled back", "two"),
        };
        assert!(done.contains(outcome), "{what}: {done}");
        paper.is(page, &what);
        paper.confirm(&what).await;
        println!("{what}: {:.1} s", began.elapsed().as_secs_f64());
    }
}

/// A failure before every effect, and inside of each: nothing of the run is left.
#[tokio::test(flavor = "multi_thread")]
async fn failing_at_boundaries_it_is_taken_back() {
    let engine = Engine::without_swarm();
    let paper = Paper::new(&engine, "failing").await;
    let mut all = paper.run_through();
    paper.confirm("without faults").await;
    all.retain(|at| at.record.starts_with("intent ") || at.record.starts_with("fact "));
    let chosen = Sample::of_this_run().one_kind_of(3).choose(
        all,
        |at| format!("a failure at {}", at.record),
        |at| at.kind.clone(),
        0,
        Share::WHOLE,
    );
    for At { record, .. } in chosen {
        let what = format!("a failure at {record}");
        paper.become_two();
        let failed = paper.crash("run", &format!("error:{record}"));
        assert!(failed.contains("outcome undone"), "{what}: {failed}");
        assert!(failed.contains("an injected failure"), "{what}: {failed}");
        paper.is("two", &what);
        paper.confirm(&what).await;
    }
}

/// The way back of a restored run, killed on its way and gone to its end.
#[tokio::test(flavor = "multi_thread")]
async fn killed_on_the_way_back_it_is_taken_back_all_the_same() {
    let engine = Engine::without_swarm();
    let paper = Paper::new(&engine, "back").await;
    paper.run_through();
    let counted = paper.crash("rollback", "never");
    assert!(counted.contains("outcome rolled back"), "{counted}");
    paper.is("two", "rolled back");
    paper.confirm("rolled back").await;
    let all = boundaries(&counted, &paper.config);
    let (_, all) = all.split_last().unwrap();
    let kills = Sample::of_this_run().one_kind_of(3).choose(
        all.iter().skip(2),
        |at| format!("a way back killed at {}", at.record),
        |at| at.kind.clone(),
        0,
        Share::WHOLE,
    );
    for At { record, .. } in kills {
        let what = format!("rolled back again after a kill at {record}");
        let restored = paper.crash("run", "never");
        assert!(restored.contains("outcome restored"), "{restored}");
        paper.crash("rollback", record);
        let rolled = paper.crash("rollback", "never");
        assert!(rolled.contains("outcome rolled back"), "{what}: {rolled}");
        paper.is("two", &what);
        paper.confirm(&what).await;
    }
}
