//! Disks that are not mounted at the moment: what lies on them is not taken for deleted, and what is gone
//! with them is not made on another one.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt;
use restore_core::run::{Boundary, Outcome, RunOptions};
use restore_core::{PlanRequest, Report, Result, Site};
use restore_testing::Ended as _;
use restore_testing::archives::{ID, Site as Folder, put};
use restore_testing::trees::fingerprint;

const CONFIG: &str = "
[site]
name = 'disks'
state = '@/state'
safety_backup = false
[stores.main]
kind = 'directory'
path = '@/backups'
[volumes.one]
path = '@/disk1/one'
[volumes.two]
path = '@/disk2/two'
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
root = '@/disk3'
tree = 'app'
";

/// A site of two volumes and a tree, each on a disk of its own.
struct Disks {
    folder: Folder,
}

impl Disks {
    fn new() -> Self {
        let folder = Folder::new();
        for (name, tree) in [("one", "disk1/one"), ("two", "disk2/two")] {
            let tree = folder.path(tree);
            put(tree.join("data"), "restored");
            folder.pack(&format!("volumes/{name}-{ID}.tar.gz"), &tree, &["."]);
            put(tree.join("data"), "old");
        }
        put(folder.path("disk3/app/conf"), "restored");
        let host = folder.path("disk3");
        folder.pack(&format!("configs/conf-{ID}.tar.gz"), &host, &["app"]);
        put(folder.path("disk3/app/conf"), "old");
        folder.configure(CONFIG);
        Self { folder }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path(path)
    }

    async fn site(&self) -> Site {
        self.folder.open().await
    }

    async fn run(&self, options: RunOptions, create: bool) -> Result<Report> {
        let site = self.site().await;
        let backup = site.backup(ID).await.unwrap();
        let request = PlanRequest::all().create(create);
        let plan = site.plan_with(&backup, request, &RunOptions::new()).await?;
        assert!(plan.refusal().is_none(), "{:?}", plan.findings);
        site.run(plan, options).await
    }

    /// A run that dies once this is in its journal.
    async fn dies(&self, record: &'static str, create: bool) {
        let options = RunOptions::new().boundary(Arc::new(move |boundary: &Boundary| {
            assert!(!boundary.record.starts_with(record), "died");
            Ok(())
        }));
        let died = AssertUnwindSafe(self.run(options, create)).catch_unwind();
        assert!(died.await.is_err(), "{record} was not reached");
    }

    /// Takes a disk away, whose mount point stays, and is empty or has these directories.
    fn unmount(&self, disk: &str, below: &[&str]) -> Unmounted {
        let (at, away) = (self.path(disk), self.path(&format!("{disk}.away")));
        std::fs::rename(&at, &away).unwrap();
        std::fs::create_dir(&at).unwrap();
        for path in below {
            std::fs::create_dir_all(at.join(path)).unwrap();
        }
        Unmounted { at, away }
    }
}

struct Unmounted {
    at: PathBuf,
    away: PathBuf,
}

impl Unmounted {
    fn is_untouched(&self, below: usize) {
        let there = std::fs::read_dir(&self.at).unwrap().count();
        assert_eq!(there, below, "something was made in {}", self.at.display());
        for entry in std::fs::read_dir(&self.at).unwrap() {
            let inside = std::fs::read_dir(entry.unwrap().path()).unwrap();
            assert_eq!(inside.count(), 0);
        }
    }

    fn mount(self) {
        std::fs::remove_dir_all(&self.at).unwrap();
        std::fs::rename(&self.away, &self.at).unwrap();
    }
}

fn options() -> RunOptions {
    RunOptions::new()
}

fn content(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn what_a_rolled_back_run_keeps_is_not_deleted_on_a_disk_that_is_not_mounted() {
    for (disk, below, at, component) in [
        ("disk1", &["one"][..], "disk1/one", 0),
        ("disk1", &[], "disk1/one", 0),
        ("disk3", &["app"], "disk3/app", 2),
        ("disk3", &[], "disk3/app", 2),
    ] {
        let disks = Disks::new();
        let site = disks.site().await;
        let id = disks.run(options(), false).await.unwrap().run;
        let report = site.rollback(None, options()).await.unwrap();
        assert_eq!(report.outcome, Outcome::RolledBack);
        let kept = disks.path(at).join(format!(".restore-{id}"));
        let before = fingerprint(&kept);
        let away = disks.unmount(disk, below);

        for refused in [
            site.preview_confirm(None).await.unwrap_err(),
            site.confirm(None, options()).await.unwrap_err(),
        ] {
            assert_eq!(refused.code(), "run.not_as_left", "{refused}");
            let why = ["mounted", "is not there"].map(|it| refused.message().contains(it));
            assert!(why.contains(&true), "{refused}");
            assert!(refused.hint_text().unwrap().contains("restore confirm"));
        }
        let other = disks.path("disk2/two").join(format!(".restore-{id}"));
        assert!(other.exists(), "nothing is deleted of any component");

        // It is really gone, says who names the run: the rest is deleted.
        let report = site.confirm(Some(id.clone()), options()).await.unwrap();
        assert!(report.confirmed && report.components[component].left_alone);
        assert!(!other.exists());
        away.is_untouched(below.len());
        // It was not, after all.
        away.mount();
        assert_eq!(fingerprint(&kept), before);
        let report = site.confirm(Some(id.clone()), options()).await.unwrap();
        assert!(!report.components[component].left_alone, "{report:?}");
        assert!(!kept.exists());
    }
}

#[tokio::test]
async fn what_was_staged_on_a_disk_that_is_not_mounted_is_deleted_later() {
    let disks = Disks::new();
    disks.dies("done stage:conf", false).await;
    let site = disks.site().await;
    // Staged one after the other or at once: each may have come to its end.
    let staged = |name: &str| {
        let entries = std::fs::read_dir(disks.path(name)).unwrap();
        let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
        names.filter(|it| it.starts_with(".restore-")).count()
    };
    assert_eq!(staged("disk3/app"), 1);
    let away = disks.unmount("disk3", &["app"]);
    let report = site.rollback(None, options()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack);
    let told = report.findings.iter().find(|it| it.code == "run.leftover");
    assert!(told.unwrap().message.contains("mounted"), "{told:?}");
    let refused = site.confirm(None, options()).await.unwrap_err();
    assert_eq!(refused.code(), "run.not_as_left", "{refused}");
    away.mount();
    site.confirm(None, options()).await.unwrap();
    assert_eq!(staged("disk3/app"), 0);
    let none = site.confirm(None, options()).await.unwrap_err();
    assert_eq!(none.code(), "run.none_to_confirm");
}

/// Broken off while it deletes, a confirmation takes what is gone for what it has deleted.
#[tokio::test]
async fn a_confirmation_that_dies_finds_its_way_on() {
    let disks = Disks::new();
    let site = disks.site().await;
    disks.run(options(), false).await.unwrap();
    site.rollback(None, options()).await.unwrap();
    let dying = options().boundary(Arc::new(|boundary: &Boundary| {
        assert!(boundary.record != "done discard:two", "died");
        Ok(())
    }));
    let died = AssertUnwindSafe(site.confirm(None, dying)).catch_unwind();
    assert!(died.await.is_err());
    let report = site.confirm(None, options()).await.unwrap();
    assert!(report.confirmed);
    assert!(report.components.iter().all(|it| !it.left_alone));
}

#[tokio::test]
async fn a_tree_that_is_gone_since_the_plan_is_not_made_on_another_disk() {
    let disks = Disks::new();
    disks.dies("intent stage:conf", false).await;
    let site = disks.site().await;
    let away = disks.unmount("disk3", &[]);
    let report = site.resume(None, options()).await.ended().unwrap();
    assert_ne!(report.outcome, Outcome::Restored, "{}", report.to_text());
    let failure = report.failure.unwrap();
    assert!(failure.message.contains("is gone"), "{failure:?}");
    away.is_untouched(0);
    away.mount();
    assert_eq!(content(disks.path("disk3/app/conf")), "old");
}

/// A directory that the plan was to make is made where it was absent then, and nowhere else.
#[tokio::test]
async fn a_volume_is_not_made_on_another_disk_than_the_plan_saw() {
    let disks = Disks::new();
    std::fs::rename(disks.path("disk1/one"), disks.path("aside")).unwrap();
    std::fs::create_dir(disks.path("disk1/deep")).unwrap();
    let toml = disks.path("restore.toml");
    put(
        &toml,
        &content(&toml).replace("disk1/one", "disk1/deep/one"),
    );
    disks.dies("intent create:one", true).await;
    let site = disks.site().await;
    let away = disks.unmount("disk1", &[]);
    let report = site.resume(None, options()).await.ended().unwrap();
    assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
    let failure = report.failure.unwrap();
    assert!(failure.message.contains("disk1/deep"), "{failure:?}");
    away.is_untouched(0);
    away.mount();
    let report = disks.run(options(), true).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored);
}
