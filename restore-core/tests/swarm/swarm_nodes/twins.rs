//! Volumes of several nodes, and what is kept of their files beside owners and modes.

use std::path::{Path, PathBuf};
use std::process::Command;

use restore_core::run::Outcome;
use restore_core::{BackupRequest, ErrorKind, PlanRequest, RunOptions, Site};
use restore_testing::{assert_same, run, text};

use super::ground::Ground;

/// What `docker` of a worker prints.
fn on_worker(ground: &Ground, number: u32, args: &[&str]) -> String {
    let socket = ground.swarm.worker_socket(number);
    let mut command = Command::new("docker");
    command
        .arg("--host")
        .arg(format!("unix://{}", socket.display()));
    text(&run(command.args(args)))
}

/// Where the files of a worker's volume are, as this host sees it.
fn files_of(ground: &Ground, number: u32, volume: &str) -> PathBuf {
    let folder = ground.swarm.worker_socket(number);
    folder.with_file_name(format!("data/volumes/{volume}/_data"))
}

/// Backs these components up and damages them by `damage`; restored and taken back, with what
/// `look` sees each time.
async fn there_and_back(
    site: &Site,
    ground: &Ground,
    names: &[&str],
    damage: impl FnOnce(),
    look: impl Fn() -> Vec<String>,
) {
    let good = look();
    let request = BackupRequest::all().only(names.iter().copied());
    let made = site.back_up(request, RunOptions::new()).await.unwrap();
    damage();
    let bad = look();
    assert_ne!(good, bad);
    let backup = site.backup(made.id.as_str()).await.unwrap();
    let request = PlanRequest::all()
        .only(names.iter().copied())
        .no_safety_backup(true);
    let plan = site
        .plan_with(&backup, request, &RunOptions::new())
        .await
        .unwrap();
    assert!(plan.refusal().is_none(), "{:#?}", plan.findings);
    let report = site.run(plan, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert_eq!(look(), good, "restored");
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    assert_eq!(look(), bad, "rolled back");
    ground.confirm(site).await;
    assert_eq!(look(), bad, "confirmed");
    std::fs::remove_dir_all(ground.swarm.backup_folder(made.id.as_str())).unwrap();
}

pub async fn volumes_of_the_same_name(ground: &Ground) {
    let files: Vec<PathBuf> = [1, 2]
        .into_iter()
        .map(|number| {
            on_worker(ground, number, &["volume", "create", "twin"]);
            let file = files_of(ground, number, "twin").join("file");
            std::fs::write(&file, format!("of worker{number}")).unwrap();
            file
        })
        .collect();
    // No service mounts it whose image a container beside it could be made from.
    let nodes = ground.nodes().replace(
        "[nodes.worker2]",
        "[nodes.worker2]\nimage = 'restore-example/redis:7.0'",
    );
    let component = "[components.twin]\nkind = 'volume'\nvolume = 'twin'\nstops = []\n\
        archive = ['volumes/twin-{id}.tar.gz']\n";

    let site = ground.site("twins", &nodes).await;
    let error = site.platform().volume("twin").await.err().unwrap();
    assert_eq!(error.code(), "swarm.volume_ambiguous", "{error}");
    assert_eq!(error.kind(), ErrorKind::Preflight);
    assert!(
        ["worker1", "worker2"]
            .iter()
            .all(|node| error.message().contains(node)),
        "{error}"
    );
    let hint = error.hint_text().unwrap();
    assert!(hint.contains("[volumes.twin]"), "{hint}");

    // Said which: that one, and only that one.
    let named = format!("{nodes}\n[volumes.twin]\nnode = 'worker2'\n{component}");
    let site = ground.site("twins", &named).await;
    let damage = || {
        for file in &files {
            std::fs::write(file, "damaged").unwrap();
        }
    };
    let look = || vec![std::fs::read_to_string(&files[1]).unwrap()];
    there_and_back(&site, ground, &["twin"], damage, look).await;
    assert_eq!(std::fs::read_to_string(&files[0]).unwrap(), "damaged");

    // A node that lacks it: looking makes none.
    let before = [1, 2].map(|number| on_worker(ground, number, &["volume", "ls", "-q"]));
    let absent = format!("{nodes}\n[volumes.absent]\nnode = 'worker1'\n");
    let site = ground.site("twins", &absent).await;
    let error = site.platform().volume("absent").await.err().unwrap();
    assert_eq!(error.code(), "platform.no_volume", "{error}");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("absent"), "{error}");
    let after = [1, 2].map(|number| on_worker(ground, number, &["volume", "ls", "-q"]));
    assert_eq!(before, after);

    ground.nothing_left().await;
    for number in [1, 2] {
        on_worker(ground, number, &["volume", "rm", "twin"]);
    }
}

/// Those of users of a file, by name.
fn attributes(file: &Path) -> String {
    let mut command = Command::new("getfattr");
    command.args(["--absolute-names", "--dump"]).arg(file);
    text(&run(&mut command))
}

fn set(file: &Path, value: &str) {
    let mut command = Command::new("setfattr");
    command.args(["-n", "user.note", "-v", value]).arg(file);
    run(&mut command);
}

/// Kept through a backup of our own, a restore and a rollback, on worker1 and on this host.
pub async fn extended_attributes(ground: &Ground) {
    let before = ground.swarm.fingerprint();
    let data = ground.swarm.docker(&[
        "volume",
        "inspect",
        "-f",
        "{{.Mountpoint}}",
        "prometheus_data",
    ]);
    let folders = [files_of(ground, 1, "grafana_data"), PathBuf::from(data)];
    let files = folders.map(|folder| {
        let entries = std::fs::read_dir(&folder).unwrap();
        let mut files: Vec<PathBuf> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "no file in {}", folder.display());
        files.swap_remove(0)
    });
    for file in &files {
        set(file, "good");
        assert!(attributes(file).contains("user.note=\"good\""));
    }
    let site = ground.site("attributes", &ground.nodes()).await;
    let damage = || {
        set(&files[0], "bad");
        let mut removed = Command::new("setfattr");
        run(removed.args(["-x", "user.note"]).arg(&files[1]));
    };
    let look = || files.iter().map(|file| attributes(file)).collect();
    there_and_back(&site, ground, &["grafana", "prometheus"], damage, look).await;
    let mut removed = Command::new("setfattr");
    run(removed.args(["-x", "user.note"]).arg(&files[0]));
    assert_same(&before, &ground.swarm.fingerprint(), "attributes");
    ground.nothing_left().await;
}
