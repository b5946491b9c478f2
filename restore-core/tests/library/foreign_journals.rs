//! Journals of another's making, and those with bytes that nobody has written: nothing outside of what
//! the site names changes by them.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use restore_core::run::RunOptions;
use restore_core::{PlanRequest, Site};
use restore_testing::archives::{ID, Site as Folder, put};
use restore_testing::trees::fingerprint;

const CONFIG: &str = "
[site]
name = 'journals'
state = '@/state'
safety_backup = false
[stores.main]
kind = 'directory'
path = '@/backups'
[volumes.data]
path = '@/srv/data'
[components.data]
kind = 'volume'
volume = 'data'
stops = []
[components.conf]
kind = 'files'
root = '@/host'
tree = 'etc/app'
";

const STRANGER: u32 = 65_534;

/// A site of which a backup was restored, and a folder that is none of its business.
struct Restored {
    folder: Folder,
    run: String,
}

impl Restored {
    async fn new() -> Self {
        let folder = Folder::new();
        put(folder.path("srv/data/file"), "good");
        put(folder.path("host/etc/app/app.conf"), "good");
        put(folder.path("victim/inner/precious"), "root's alone");
        let data = folder.path("srv/data");
        folder.pack(&format!("volumes/data-{ID}.tar.gz"), &data, &["."]);
        let host = folder.path("host");
        folder.pack(&format!("configs/conf-{ID}.tar.gz"), &host, &["etc/app"]);
        put(folder.path("srv/data/file"), "live");
        let here = folder.path("").display().to_string();
        let config = CONFIG.replace('@', here.trim_end_matches('/'));
        put(folder.path("restore.toml"), &config);
        let site = Site::open(&folder.path("restore.toml")).await.unwrap();
        let backup = site.backup(ID).await.unwrap();
        let plan = site
            .plan_with(&backup, PlanRequest::all(), &RunOptions::new())
            .await
            .unwrap();
        let report = site.run(plan, RunOptions::new()).await.unwrap();
        Self {
            folder,
            run: report.run.to_string(),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path(path)
    }

    fn journal(&self) -> PathBuf {
        self.path("state/runs")
            .join(&self.run)
            .join("journal.jsonl")
    }

    /// All ways on, one after the other; their codes.
    async fn all(&self) -> Vec<String> {
        let site = Site::open(&self.path("restore.toml")).await.unwrap();
        let run = || Some(self.run.parse().unwrap());
        let mut codes = Vec::new();
        let mut note = |done: restore_core::Result<_>| {
            codes.push(match done {
                Ok(_) => String::new(),
                Err(error) => error.code().to_owned(),
            });
        };
        note(site.resume(run(), RunOptions::new()).await.map(drop));
        note(site.rollback(run(), RunOptions::new()).await.map(drop));
        note(site.confirm(run(), RunOptions::new()).await.map(drop));
        note(site.abandon(run(), RunOptions::new()).await.map(drop));
        codes
    }
}

/// A copy of a folder as it is, to go back to.
fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let status = std::process::Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status();
    assert!(status.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_somebody_else_wrote_or_could_write_is_refused() {
    type Way = fn(&Restored);
    let ways: [(&str, Way); 4] = [
        ("another's", |it| {
            chown(it.journal(), Some(STRANGER), None).unwrap();
        }),
        ("open", |it| {
            let open = PermissionsExt::from_mode(0o666);
            std::fs::set_permissions(it.journal(), open).unwrap();
        }),
        ("in another's folder", |it| {
            chown(it.journal().parent().unwrap(), Some(STRANGER), None).unwrap();
        }),
        ("a link", |it| {
            let elsewhere = it.path("elsewhere");
            std::fs::rename(it.journal(), &elsewhere).unwrap();
            symlink(elsewhere, it.journal()).unwrap();
        }),
    ];
    for (what, way) in ways {
        let it = Restored::new().await;
        way(&it);
        let trees = || ["srv", "host"].map(|top| fingerprint(&it.path(top)));
        let before = trees();
        let codes = it.all().await;
        assert!(
            codes.iter().all(|code| !code.is_empty()),
            "{what}: {codes:?}"
        );
        if what != "a link" {
            assert!(
                codes.iter().any(|code| code == "state.not_private"),
                "{what}: {codes:?}"
            );
        }
        assert_eq!(trees(), before, "{what}");
    }
}

/// Whatever the bytes are: a verb ends, and what the site does not name stays as it is.
#[tokio::test(flavor = "multi_thread")]
async fn any_bytes_as_a_journal_change_nothing_outside() {
    let it = Restored::new().await;
    let genuine = std::fs::read(it.journal()).unwrap();
    let victim = it.path("victim");
    let outside = fingerprint(&victim);
    let kept = tempfile::tempdir().unwrap();
    for top in ["srv", "host", "state"] {
        copy(&it.path(top), &kept.path().join(top));
    }
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(limit).unwrap()).unwrap()
    };
    let name = victim.display().to_string();
    let words = [
        name.as_str(),
        "../victim/inner",
        "..",
        "/",
        "\n",
        "\"",
        "{",
        "null",
        "\0",
        "-1",
    ];
    for round in 0..60 {
        for top in ["srv", "host", "state"] {
            copy(&kept.path().join(top), &it.path(top));
        }
        let mut bytes = match random(5) {
            0 => (0..random(300))
                .map(|_| u8::try_from(random(256)).unwrap())
                .collect(),
            // A path of the site's is one outside of it.
            1 => {
                let text = String::from_utf8_lossy(&genuine).into_owned();
                text.replace(&it.path("srv/data").display().to_string(), &name)
                    .into_bytes()
            }
            _ => genuine.clone(),
        };
        for _ in 0..1 + random(4) {
            let at = random(bytes.len() + 1);
            match random(4) {
                0 if at < bytes.len() => bytes[at] ^= 1 << random(8),
                1 => bytes.truncate(at),
                _ => {
                    bytes.splice(at..at, words[random(words.len())].bytes());
                }
            }
        }
        std::fs::write(it.journal(), &bytes).unwrap();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(60), it.all()).await;
        assert!(ended.is_ok(), "round {round} does not end");
        assert_eq!(fingerprint(&victim), outside, "round {round}");
    }
}
