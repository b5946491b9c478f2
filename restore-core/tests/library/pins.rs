//! What older versions left on disk in the middle of a run is finished by this one: their journals,
//! lists of swaps, staged and replaced data, as `testing/pins/make.sh` wrote them down.

use std::path::{Path, PathBuf};
use std::process::Command;

use restore_core::run::{Outcome, RunOptions};
use restore_core::{Report, Result, Site};
use tempfile::TempDir;

const VERSIONS: [&str; 1] = ["v0.1"];

/// A site as an old version left it.
struct Left {
    folder: TempDir,
}

impl Left {
    fn at(version: &str, moment: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let pins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testing/pins");
        let unpacked = Command::new("tar")
            .args(["--strip-components=1", "-xpzf"])
            .arg(pins.join(format!("{version}.tar.gz")))
            .arg("-C")
            .arg(folder.path())
            .arg(moment)
            .status();
        assert!(unpacked.unwrap().success());
        let said = Command::new("sh")
            .arg("-c")
            .arg("grep -rlI '@ROOT@' \"$0\" | xargs -r -d '\\n' sed -i \"s|@ROOT@|$0|g\"")
            .arg(folder.path())
            .status();
        assert!(said.unwrap().success());
        Self { folder }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    async fn site(&self) -> Site {
        Site::open(&self.path("restore.toml")).await.unwrap()
    }

    /// What is live, and whether the service runs.
    fn live(&self) -> String {
        let text = |path| match std::fs::read_to_string(self.path(path)) {
            Ok(text) => text.trim().replace("0 2 * * * ", ""),
            Err(_) => "-".to_owned(),
        };
        [
            "srv/data/rows",
            "host/etc/app/app.conf",
            "var/jobs",
            "var/up",
        ]
        .map(text)
        .join(" ")
    }

    /// What of runs still lies somewhere.
    fn left(&self) -> Vec<PathBuf> {
        let mut left = Vec::new();
        for place in ["srv/data", "host/etc/app", "state/work", "state/work/swaps"] {
            let Ok(entries) = std::fs::read_dir(self.path(place)) else {
                continue;
            };
            left.extend(entries.map(|entry| entry.unwrap().path()).filter(|path| {
                let name = path.file_name().unwrap().to_str().unwrap();
                name.starts_with(".restore-") || (name.starts_with('2') && !name.ends_with(".lock"))
            }));
        }
        left
    }

    /// The only run is confirmed, after which nothing of it is left.
    async fn confirmed(&self, what: &str) {
        let site = self.site().await;
        let run = site.history().await.unwrap()[0].run.clone();
        site.confirm(Some(run), RunOptions::new()).await.unwrap();
        assert_eq!(self.left(), Vec::<PathBuf>::new(), "{what}");
    }
}

/// The moments of unfinished runs, and what is live then.
const UNFINISHED: [(&str, &str); 7] = [
    ("staging", "old old old up"),
    ("stopped", "old old old -"),
    ("cutting", "old old old -"),
    ("one-swapped", "restored old old -"),
    ("two-swapped", "restored restored old -"),
    ("started", "restored restored restored up"),
    ("rolling-back", "restored restored old -"),
];

#[tokio::test]
async fn an_unfinished_run_of_an_older_version_is_resumed() {
    for version in VERSIONS {
        for (moment, live) in UNFINISHED {
            let what = format!("{version}, {moment}");
            let left = Left::at(version, moment);
            assert_eq!(left.live(), live, "{what}");
            let report = left.site().await.resume(None, RunOptions::new()).await;
            let (outcome, live) = match moment {
                "rolling-back" => (Outcome::RolledBack, "old old old up"),
                _ => (Outcome::Restored, "restored restored restored up"),
            };
            ended(report, outcome, &what);
            assert_eq!(left.live(), live, "{what}");
            left.confirmed(&what).await;
            assert_eq!(left.live(), live, "{what}");
        }
    }
}

#[tokio::test]
async fn a_run_of_an_older_version_is_taken_back() {
    for version in VERSIONS {
        let moments = UNFINISHED.map(|(moment, _)| moment);
        for moment in moments.into_iter().chain(["restored"]) {
            let what = format!("{version}, {moment}");
            let left = Left::at(version, moment);
            let report = left.site().await.rollback(None, RunOptions::new()).await;
            ended(report, Outcome::RolledBack, &what);
            assert_eq!(left.live(), "old old old up", "{what}");
            left.confirmed(&what).await;
            assert_eq!(left.live(), "old old old up", "{what}");
        }
    }
}

/// Nothing is moved, and a new run restores.
#[tokio::test]
async fn a_run_of_an_older_version_is_abandoned() {
    for version in VERSIONS {
        for (moment, live) in UNFINISHED {
            let what = format!("{version}, {moment}");
            let left = Left::at(version, moment);
            let report = left.site().await.abandon(None, RunOptions::new()).await;
            ended(report, Outcome::Abandoned, &what);
            assert_eq!(left.live(), live, "{what}");
        }
    }
}

#[tokio::test]
async fn a_finished_run_of_an_older_version_is_confirmed_and_reported() {
    for version in VERSIONS {
        for (moment, outcome, live) in [
            (
                "restored",
                Outcome::Restored,
                "restored restored restored up",
            ),
            ("rolled-back", Outcome::RolledBack, "old old old up"),
        ] {
            let left = Left::at(version, moment);
            let site = left.site().await;
            let report = site.history().await.unwrap().remove(0);
            assert_eq!(report.outcome, outcome);
            let text = site
                .report(Some(report.run.clone()))
                .await
                .unwrap()
                .to_text();
            assert!(text.contains(report.run.as_str()), "{text}");
            left.confirmed(&format!("{version}, {moment}")).await;
            assert_eq!(left.live(), live);
        }
    }
}

#[track_caller]
fn ended(report: Result<Report>, outcome: Outcome, what: &str) {
    match report {
        Ok(report) => assert_eq!(report.outcome, outcome, "{what}: {:?}", report.failure),
        Err(error) => panic!("{what}: {error}"),
    }
}

/// What was staged and is not there any more is missed before users are turned away, not after.
#[tokio::test]
async fn a_run_whose_staged_data_is_gone_does_not_go_on() {
    for gone in [
        "srv/data/.restore-*",
        "srv/data/.restore-*/staged/rows",
        "host/etc/app/.restore-*",
        "state/work/2*/cron.crontab.new",
    ] {
        let left = Left::at("v0.1", "stopped");
        let removed = Command::new("sh")
            .args(["-c", &format!("rm -r {gone}")])
            .current_dir(left.folder.path())
            .status();
        assert!(removed.unwrap().success());
        let site = left.site().await;
        let error = site.resume(None, RunOptions::new()).await.unwrap_err();
        assert_eq!(error.code(), "run.not_as_staged", "{gone}: {error}");
        let hint = error.hint_text().unwrap();
        assert!(hint.contains("restore rollback"), "{hint}");
        assert_eq!(left.live(), "old old old -", "{gone}");
        let report = site.rollback(None, RunOptions::new()).await;
        ended(report, Outcome::RolledBack, gone);
        assert_eq!(left.live(), "old old old up", "{gone}");
        // An empty folder could as well be one that has been swapped: it is told, and left.
        if !gone.ends_with("rows") {
            left.confirmed(gone).await;
        }
    }
}
