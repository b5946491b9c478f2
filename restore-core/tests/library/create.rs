//! From nothing: places that are absent are made for a restore that was told so, and removed again where
//! it is taken back.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use restore_core::plan::Step;
use restore_core::run::{Boundary, Outcome, RunOptions};
use restore_core::{Plan, PlanRequest, Report, Result, Site};
use restore_testing::Ended as _;
use restore_testing::archives::{ID, Site as Folder, put};
use restore_testing::trees::fingerprint;
use restore_testing::{Sample, Share};

const CONFIG: &str = "
    [site]
    name = 'ruins'
    state = '@/state'
    safety_backup = true
    [stores.main]
    kind = 'directory'
    path = '@/backups'
    [volumes.one]
    path = '@/srv/volumes/one'
    [volumes.two]
    path = '@/srv/volumes/two'
    [components.one]
    kind = 'volume'
    volume = 'one'
    stops = []
    [components.two]
    kind = 'volume'
    volume = 'two'
    stops = []
    [components.conf]
    kind = 'files'
    root = '@/host'
    tree = 'etc/app'
    [components.cron]
    kind = 'crontab'
    file = '@/var/cron/jobs'
";

const TOPS: [&str; 3] = ["srv", "host", "var"];

type Trees = BTreeMap<String, BTreeMap<String, String>>;

/// A site of which there is a backup.
struct Ruins {
    folder: Folder,
    whole: Trees,
}

impl Ruins {
    /// All of it is there.
    fn whole() -> Self {
        let folder = Folder::new();
        let [one, two] = ["one", "two"].map(|it| folder.path("srv/volumes").join(it));
        put(one.join("data"), "of one");
        put(one.join("deep/er"), "of one");
        put(two.join("data"), "of two");
        put(folder.path("host/etc/app/app.conf"), "good");
        put(folder.path("var/cron/jobs"), "0 2 * * * true\n");
        chown(&one, Some(472), Some(473)).unwrap();
        std::fs::set_permissions(&one, PermissionsExt::from_mode(0o2770)).unwrap();
        let private = PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(folder.path("var/cron/jobs"), private).unwrap();
        folder.pack(&format!("volumes/one-{ID}.tar.gz"), &one, &["."]);
        // Its root is no member: what it is like is not known.
        folder.pack(&format!("volumes/two-{ID}.tar.gz"), &two, &["data"]);
        let host = folder.path("host");
        folder.pack(&format!("configs/conf-{ID}.tar.gz"), &host, &["etc/app"]);
        let table = folder.artifact(&format!("configs/crontab-{ID}.txt"));
        std::fs::copy(folder.path("var/cron/jobs"), table).unwrap();
        folder.list();
        folder.configure(CONFIG);
        let mut ruins = Self {
            folder,
            whole: Trees::new(),
        };
        ruins.whole = ruins.now();
        ruins
    }

    /// These are gone.
    fn without(gone: &[&str]) -> Self {
        let ruins = Self::whole();
        for path in gone {
            let path = ruins.folder.path(path);
            match path.is_dir() {
                true => std::fs::remove_dir_all(path).unwrap(),
                false => std::fs::remove_file(path).unwrap(),
            }
        }
        ruins
    }

    /// Nothing is there.
    fn nothing() -> Self {
        Self::without(&TOPS)
    }

    /// The same; a run makes no safety backup.
    fn unsaved() -> Self {
        let ruins = Self::nothing();
        let file = ruins.path("restore.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let saved = "safety_backup = true";
        put(&file, &text.replace(saved, "safety_backup = false"));
        ruins
    }

    async fn site(&self) -> Site {
        self.folder.open().await
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path(path)
    }

    /// What is there, without the times of directories.
    fn now(&self) -> Trees {
        let there = TOPS.iter().filter(|top| self.path(top).exists());
        there
            .map(|top| ((*top).to_owned(), fingerprint(&self.path(top))))
            .collect()
    }

    async fn plan(&self, create: bool) -> Plan {
        let site = self.site().await;
        let backup = site.backup(ID).await.unwrap();
        let request = PlanRequest::all().create(create);
        site.plan_with(&backup, request, &RunOptions::new())
            .await
            .unwrap()
    }

    async fn run(&self, options: RunOptions) -> Result<Report> {
        let plan = self.plan(true).await;
        assert!(plan.refusal().is_none(), "{:?}", plan.findings);
        self.site().await.run(plan, options).await.ended()
    }

    /// Every file is as in the backup; of directories that are in no archive nobody knows the times.
    fn assert_whole(&self, what: &str) {
        let files = |trees: &Trees| -> Vec<(String, String)> {
            let all = trees.values().flatten();
            let files = all.filter(|(path, _)| {
                let known = ["data", "er", "app.conf"];
                known.iter().any(|name| path.ends_with(name)) && !path.contains(".restore-")
            });
            files.map(|(path, is)| (path.clone(), is.clone())).collect()
        };
        assert_eq!(files(&self.now()), files(&self.whole), "{what}");
        let jobs = std::fs::read_to_string(self.path("var/cron/jobs"));
        assert_eq!(jobs.unwrap(), "0 2 * * * true\n", "{what}");
    }

    async fn confirm(&self) {
        match self.site().await.confirm(None, RunOptions::new()).await {
            Ok(report) => assert!(report.confirmed),
            Err(error) => assert_eq!(error.code(), "run.none_to_confirm", "{error}"),
        }
    }
}

fn creates(plan: &Plan) -> Vec<String> {
    let components = plan.components.iter();
    components
        .flat_map(|it| it.inspection.creates.clone())
        .collect()
}

fn dying_at(at: usize) -> RunOptions {
    RunOptions::new().boundary(Arc::new(move |boundary: &Boundary| {
        assert!(boundary.index != at, "died at {}", boundary.record);
        Ok(())
    }))
}

/// Options that note each boundary.
fn noting() -> (RunOptions, Arc<Mutex<String>>) {
    let seen = Arc::new(Mutex::new(String::new()));
    let noted = seen.clone();
    let options = RunOptions::new().boundary(Arc::new(move |boundary: &Boundary| {
        let mut noted = noted.lock().unwrap();
        *noted += &format!("{} {}\n", boundary.index, boundary.record);
        Ok(())
    }));
    (options, seen)
}

/// Of these boundaries one of each kind, and what the sample of this commit adds.
fn chosen(ruins: &Ruins, seen: &Mutex<String>, way: &str) -> Vec<usize> {
    let printed = seen.lock().unwrap();
    let all = restore_testing::boundaries(&printed, &ruins.path("restore.toml"));
    let chosen = Sample::of_this_run().choose(
        all,
        |at| format!("{way} {}", at.record),
        |at| at.kind.clone(),
        2,
        Share::WHOLE,
    );
    chosen.into_iter().map(|at| at.index).collect()
}

/// Some boundaries of a whole run.
async fn boundaries(way: &str) -> Vec<usize> {
    let (options, seen) = noting();
    let ruins = Ruins::unsaved();
    assert_eq!(ruins.run(options).await.unwrap().outcome, Outcome::Restored);
    assert!(seen.lock().unwrap().contains("fact one/directories\n"));
    chosen(&ruins, &seen, way)
}

#[tokio::test]
async fn what_is_absent_is_refused_and_the_way_is_named() {
    for (gone, subject) in [
        ("srv/volumes/one", "one"),
        ("srv", "two"),
        ("host/etc", "conf"),
        ("var/cron", "cron"),
    ] {
        let ruins = Ruins::without(&[gone]);
        let plan = ruins.plan(false).await;
        let errors: Vec<_> = plan.errors().filter(|it| it.subject == subject).collect();
        assert_eq!(errors.len(), 1, "{gone}: {:?}", plan.findings);
        let hint = errors[0].hint.as_ref().unwrap();
        assert!(hint.contains("--create"), "{gone}: {hint}");
        assert!(plan.refusal().is_some());
        assert!(!ruins.path(gone).exists(), "looking makes nothing");
    }
    // What a restore makes by itself, it still does.
    let ruins = Ruins::without(&["host/etc/app", "var/cron/jobs"]);
    let plan = ruins.plan(false).await;
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    let tree = format!("directory {}", ruins.path("host/etc/app").display());
    assert!(creates(&plan).contains(&tree), "{:?}", creates(&plan));
    let report = ruins.site().await.run(plan, RunOptions::new()).await;
    assert_eq!(report.unwrap().made.len(), 2);
    ruins.assert_whole("without being told to");
}

#[tokio::test]
async fn each_alone_and_all_at_once_are_restored_and_taken_back() {
    for gone in [
        &["srv/volumes/one"][..],
        &["srv/volumes/two"],
        &["srv"],
        &["host/etc/app"],
        &["host"],
        &["var/cron/jobs"],
        &["var"],
        &TOPS,
    ] {
        let ruins = Ruins::without(gone);
        let before = ruins.now();
        let plan = ruins.plan(true).await;
        let planned = creates(&plan);
        assert!(!planned.is_empty(), "{gone:?}");
        assert_eq!(ruins.now(), before, "{gone:?}: a plan makes nothing");
        let report = ruins.run(RunOptions::new()).await.unwrap();
        assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
        ruins.assert_whole(&format!("{gone:?}"));
        let mut made: Vec<String> = report.made.iter().map(|it| it.what.clone()).collect();
        let mut wanted = planned.clone();
        made.sort();
        wanted.sort();
        assert_eq!(made, wanted, "{gone:?}");
        assert!(report.to_text().contains("Was absent and was made:"));
        // What was absent is in no safety backup, and that is said.
        let missing = report.safety.as_ref().map(|it| it.missing.len());
        if gone.iter().any(|it| it.starts_with("srv/volumes")) {
            assert!(missing.is_some_and(|count| count >= 1), "{gone:?}");
        }

        let site = ruins.site().await;
        let report = site.rollback(None, RunOptions::new()).await.unwrap();
        assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
        ruins.confirm().await;
        for path in gone {
            let there = ruins.path(path).exists();
            assert!(!there, "{gone:?}: {path} is left");
        }
        let report = site.report(None).await.unwrap();
        let left: Vec<_> = report.made.iter().filter(|it| !it.removed).collect();
        assert!(left.is_empty(), "{gone:?}: {left:?}");
    }
}

#[tokio::test]
async fn owner_and_mode_are_the_archive_s_or_the_directory_s_above() {
    let ruins = Ruins::without(&["srv"]);
    ruins.run(RunOptions::new()).await.unwrap();
    let meta = |path: &str| std::fs::metadata(ruins.path(path)).unwrap();
    let one = meta("srv/volumes/one");
    assert_eq!(
        (one.uid(), one.gid(), one.mode() & 0o7777),
        (472, 473, 0o2770)
    );
    for path in ["srv", "srv/volumes", "srv/volumes/two"] {
        let (made, above) = (meta(path), meta(""));
        assert_eq!(
            (made.uid(), made.gid()),
            (above.uid(), above.gid()),
            "{path}"
        );
        assert_eq!(made.mode() & 0o7777, 0o755, "{path}");
    }
}

#[tokio::test]
async fn nothing_that_exists_is_altered() {
    let ruins = Ruins::whole();
    let open = PermissionsExt::from_mode(0o751);
    std::fs::set_permissions(ruins.path("srv"), open).unwrap();
    let plan = ruins.plan(true).await;
    assert_eq!(creates(&plan), Vec::<String>::new());
    assert!(!plan.steps.iter().any(|it| matches!(it, Step::Create(_))));
    ruins.run(RunOptions::new()).await.unwrap();
    let mode = std::fs::metadata(ruins.path("srv")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o751);
}

#[tokio::test]
async fn what_others_put_there_stays_and_is_told() {
    let ruins = Ruins::nothing();
    ruins.run(RunOptions::new()).await.unwrap();
    put(ruins.path("srv/theirs"), "not the run's");
    let site = ruins.site().await;
    site.rollback(None, RunOptions::new()).await.unwrap();
    ruins.confirm().await;
    assert!(ruins.path("srv/theirs").exists());
    assert!(!ruins.path("srv/volumes").exists());
    assert!(!ruins.path("host").exists() && !ruins.path("var").exists());
    let report = site.report(None).await.unwrap();
    let told = report.findings.iter().find(|it| it.code == "create.in_use");
    assert!(told.unwrap().message.contains("/srv, which was absent"));
    let left: Vec<_> = report.made.iter().filter(|it| !it.removed).collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn a_run_that_fails_removes_what_it_made() {
    let ruins = Ruins::nothing();
    let archive = ruins.folder.artifact(&format!("volumes/two-{ID}.tar.gz"));
    let bytes = std::fs::read(&archive).unwrap();
    let mut other = bytes.clone();
    let last = other.len() - 9;
    other[last] ^= 1;
    let plan = ruins.plan(true).await;
    std::fs::write(&archive, other).unwrap();
    let report = ruins.site().await.run(plan, RunOptions::new()).await;
    let report = report.ended().unwrap();
    assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
    assert!(report.made.iter().all(|it| it.removed), "{:?}", report.made);
    assert_eq!(ruins.now(), Trees::new());
    assert!(report.to_text().contains("(removed again)"));
    std::fs::write(&archive, bytes).unwrap();
    let report = ruins.run(RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored);
}

#[tokio::test]
async fn a_drill_makes_nothing_that_stays() {
    let ruins = Ruins::nothing();
    let site = ruins.site().await;
    let backup = site.backup(ID).await.unwrap();
    let request = PlanRequest::all().create(true).drill(true);
    let plan = site.plan_with(&backup, request, &RunOptions::new()).await;
    let report = site.run(plan.unwrap(), RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Drilled, "{}", report.to_text());
    assert_eq!(ruins.now(), Trees::new());
}

/// Whatever a run comes to that died there.
async fn mended(at: usize, way: &str) {
    let what = format!("{way} after boundary {at}");
    let ruins = Ruins::unsaved();
    let died = AssertUnwindSafe(ruins.run(dying_at(at))).catch_unwind();
    assert!(died.await.is_err(), "{what}: not reached");
    let site = ruins.site().await;
    let open = site.report(None).await.unwrap().outcome == Outcome::Unfinished;
    match way {
        "resume" if open => {
            let report = site.resume(None, RunOptions::new()).await.unwrap();
            assert_eq!(report.outcome, Outcome::Restored, "{what}");
            ruins.assert_whole(&what);
            return;
        }
        "abandon" if open => {
            let report = site.abandon(None, RunOptions::new()).await.unwrap();
            assert_eq!(report.outcome, Outcome::Abandoned, "{what}");
            site.rollback(Some(report.run), RunOptions::new())
                .await
                .unwrap_or_else(|e| panic!("{what}: {e}"));
        }
        _ => {
            let back = site.rollback(None, RunOptions::new()).await;
            let report = back.unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(report.outcome, Outcome::RolledBack, "{what}");
        }
    }
    ruins.confirm().await;
    assert_eq!(ruins.now(), Trees::new(), "{what}");
}

#[tokio::test]
async fn death_at_boundaries_is_mended_by_resume() {
    for at in boundaries("resume").await {
        mended(at, "resume").await;
    }
}

#[tokio::test]
async fn death_at_boundaries_is_mended_by_rollback() {
    for at in boundaries("rollback").await {
        mended(at, "rollback").await;
    }
}

#[tokio::test]
async fn a_run_that_died_at_boundaries_can_be_abandoned() {
    for at in boundaries("abandon").await {
        mended(at, "abandon").await;
    }
}

#[tokio::test]
async fn death_at_boundaries_of_a_rollback_is_mended_by_another() {
    let (options, seen) = noting();
    let ruins = Ruins::unsaved();
    ruins.run(RunOptions::new()).await.unwrap();
    let report = ruins.site().await.rollback(None, options).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack);
    for at in chosen(&ruins, &seen, "rollback") {
        let ruins = Ruins::unsaved();
        ruins.run(RunOptions::new()).await.unwrap();
        let site = ruins.site().await;
        let died = AssertUnwindSafe(site.rollback(None, dying_at(at))).catch_unwind();
        assert!(died.await.is_err(), "boundary {at} was not reached");
        if let Err(error) = site.rollback(None, RunOptions::new()).await {
            assert_eq!(error.code(), "run.none_to_roll_back", "boundary {at}");
        }
        // So is that of the confirmation.
        let died = AssertUnwindSafe(site.confirm(None, dying_at(at))).catch_unwind();
        let _ = died.await;
        ruins.confirm().await;
        assert_eq!(ruins.now(), Trees::new(), "boundary {at}");
    }
}

fn dying_after(record: &'static str) -> RunOptions {
    RunOptions::new().boundary(Arc::new(move |boundary: &Boundary| {
        assert!(boundary.record != record, "died");
        Ok(())
    }))
}

/// A file system that is mounted until this is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn at(path: PathBuf) -> Self {
        let program = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "none"])
            .arg(&path)
            .status();
        assert!(program.unwrap().success());
        Self(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let program = std::process::Command::new("umount").arg(&self.0).status();
        assert!(program.unwrap().success());
    }
}

/// What was staged lies in what was made: as long as it cannot be deleted, both stay, and a confirmation
/// removes both.
#[tokio::test]
async fn what_could_not_be_removed_is_by_a_confirmation() {
    for (name, record) in [("one", "done stage:one"), ("two", "done stage:two")] {
        let ruins = Ruins::unsaved();
        let died = AssertUnwindSafe(ruins.run(dying_after(record))).catch_unwind();
        assert!(died.await.is_err());
        let site = ruins.site().await;
        let run = site.report(None).await.unwrap().run;
        let folder = ruins.path("srv/volumes").join(name);
        let folder = folder.join(format!(".restore-{run}"));
        let mut busy = Mounted::at(folder.join("staged"));
        let report = site.rollback(None, RunOptions::new()).await.unwrap();
        assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
        assert!(report.findings.iter().any(|it| it.code == "run.leftover"));
        assert!(!ruins.path("host").exists(), "what can be removed is");
        // It went along with its directory.
        busy.0 = PathBuf::from(format!("{}.trash/staged", folder.display()));
        let plan = ruins.plan(true).await;
        let told = plan.findings.iter().find(|it| it.code == "run.leftovers");
        assert!(told.is_some(), "{:?}", plan.findings);
        drop(busy);
        let report = site.confirm(None, RunOptions::new()).await.unwrap();
        assert!(report.confirmed, "{name}");
        let left: Vec<_> = report.made.iter().filter(|it| !it.removed).collect();
        assert!(left.is_empty(), "{name}: {left:?}");
        assert_eq!(ruins.now(), Trees::new(), "{name}");
    }
}

/// What somebody has put in the place of what a run made is theirs: nothing is staged into it.
#[tokio::test]
async fn what_others_put_there_is_not_taken_for_what_was_made() {
    for (component, place) in [("one", "srv/volumes/one"), ("conf", "host/etc/app")] {
        let record: &'static str = match component {
            "one" => "done create:one",
            _ => "done create:conf",
        };
        let ruins = Ruins::unsaved();
        let died = AssertUnwindSafe(ruins.run(dying_after(record))).catch_unwind();
        assert!(died.await.is_err());
        std::fs::rename(ruins.path(place), ruins.path("away")).unwrap();
        put(ruins.path(place).join("data"), "theirs");
        let site = ruins.site().await;
        let report = site.resume(None, RunOptions::new()).await.ended().unwrap();
        assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
        let failure = report.failure.unwrap();
        assert!(failure.message.contains("since"), "{failure:?}");
        let theirs = std::fs::read_to_string(ruins.path(place).join("data"));
        assert_eq!(theirs.unwrap(), "theirs");
        let there = std::fs::read_dir(ruins.path(place)).unwrap().count();
        assert_eq!(there, 1, "{place}");
    }
}

/// What is mounted over what was made hides it, and is not what was before.
#[tokio::test]
async fn what_is_mounted_over_what_was_made_is_not_taken_for_it() {
    for (record, place) in [
        ("done create:one", "srv/volumes/one"),
        ("done create:conf", "host/etc/app"),
    ] {
        let ruins = Ruins::unsaved();
        let died = AssertUnwindSafe(ruins.run(dying_after(record))).catch_unwind();
        assert!(died.await.is_err());
        let site = ruins.site().await;
        let mounted = Mounted::at(ruins.path(place));
        let report = site.resume(None, RunOptions::new()).await.ended().unwrap();
        assert_ne!(report.outcome, Outcome::Restored, "{place}");
        let failure = report.failure.unwrap();
        assert!(failure.message.contains("mounted"), "{failure:?}");
        let there = std::fs::read_dir(ruins.path(place)).unwrap().count();
        assert_eq!(there, 0, "{place}");
        drop(mounted);
        ruins.confirm().await;
        assert_eq!(ruins.now(), Trees::new(), "{place}");
    }
    let ruins = Ruins::unsaved();
    ruins.run(RunOptions::new()).await.unwrap();
    let site = ruins.site().await;
    for place in ["srv/volumes/one", "host/etc/app"] {
        let _mounted = Mounted::at(ruins.path(place));
        let refused = site.rollback(None, RunOptions::new()).await.unwrap_err();
        assert_eq!(refused.code(), "run.no_way_back", "{refused}");
        assert!(refused.message().contains("mounted"), "{refused}");
    }
    site.rollback(None, RunOptions::new()).await.unwrap();
    ruins.confirm().await;
    assert_eq!(ruins.now(), Trees::new());
}

/// Nothing is said to be deleted, or swapped back, of what never was.
#[tokio::test]
async fn a_run_that_replaced_nothing_says_so() {
    let ruins = Ruins::nothing();
    let report = ruins.run(RunOptions::new()).await.unwrap();
    assert!(report.components.iter().all(|it| it.kept_at.is_none()));
    let said = report.to_summary();
    assert!(said.contains("nothing was replaced"), "{said}");
    assert!(!said.contains("replaced data"), "{said}");
    let site = ruins.site().await;
    let report = site.confirm(None, RunOptions::new()).await.unwrap();
    assert!(report.confirmed && report.replaced_nothing);
    assert!(report.to_text().contains("it had replaced nothing"));
    ruins.assert_whole("confirmed");

    let ruins = Ruins::without(&["srv/volumes/one"]);
    let report = ruins.run(RunOptions::new()).await.unwrap();
    let one = &report.components[0];
    assert_eq!((one.name.as_str(), &one.kept_at), ("one", &None));
    let said = report.to_summary();
    assert!(said.contains("deletes the replaced data"), "{said}");
    let site = ruins.site().await;
    let report = site.confirm(None, RunOptions::new()).await.unwrap();
    assert!(report.confirmed && !report.replaced_nothing);
}
