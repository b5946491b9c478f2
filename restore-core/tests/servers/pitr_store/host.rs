//! An archive on another host.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use restore_core::Event;
use restore_core::run::Outcome;
use restore_core::{RecoveryPoint, Site};
use restore_testing::Ended as _;
use restore_testing::pitr::{to, to_time};

use super::place::{Place, fetching};
use super::{both, codes};

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_on_a_host() {
    let place = Place::on_a_host().await;
    super::there_and_back(&place).await;
}

/// Packed segments are fetched as they are; one database alone; and all that a server must see.
#[tokio::test(flavor = "multi_thread")]
async fn a_packed_archive_on_a_host() {
    let place = Place::on_a_host().await;
    let ground = &place.ground;
    ground.write(1);
    ground.back_up().await;
    let here = ground.write(2);
    // Segments without the end of a transaction: a server goes on reading until it sees one that is
    // behind the target, and to the end of the record that begins at a place in the log.
    ground.sql(
        "shop",
        "SELECT pg_logical_emit_message(false, 'x', repeat('x', 36000000))",
    );
    ground.write(3);
    ground.archive();
    ground.write(4);
    ground.archive();
    ground.pack_archive();
    ground.run(to_time(&here.time).only(["shop"])).await;
    assert_eq!(ground.rows(), ("1 2".to_owned(), "1 2 3 4".to_owned()));
    place.nothing_kept();
    ground.back().await;
    assert_eq!(ground.rows(), both("1 2 3 4"));
    ground
        .run(to(RecoveryPoint::Lsn(here.lsn.parse().unwrap())))
        .await;
    assert_eq!(ground.rows(), both("1 2"));
    place.nothing_kept();
}

/// A connection that is cut is made again and goes on; one that stays away ends the run, which
/// leaves everything as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_in_the_middle() {
    let place = Arc::new(Place::on_a_host().await);
    let ground = &place.ground;
    ground.write(1);
    let id = ground.back_up().await;
    for n in 2..6 {
        ground.write(n);
        ground.archive();
    }
    let live = ground.rows();
    let (again, cut) = (Arc::new(Mutex::new(Vec::new())), AtomicU32::new(0));
    let (seen, shared) = (again.clone(), place.clone());
    let report = place.watched(to(RecoveryPoint::Latest), move |event| {
        if let Some((done, total)) = fetching(event)
            && done < total
            && cut.fetch_add(1, Ordering::Relaxed) == 0
        {
            shared.wire.cut_after(100_000, false);
        }
        if let Event::Finding { finding } = event
            && finding.code == "fetch.again"
        {
            seen.lock().unwrap().push(finding.message.clone());
        }
    });
    let report = report.await;
    assert!(report.failure.is_none(), "{}", report.to_text());
    assert_eq!(ground.rows(), live);
    let again = again.lock().unwrap().clone();
    assert_eq!(again.len(), 1, "{again:?}");
    assert!(again[0].contains(&place.described), "{again:?}");
    ground.back().await;

    // Gone for good while the base backup is unpacked.
    let shared = place.clone();
    let report = place.watched(to(RecoveryPoint::Latest), move |event| {
        if matches!(event, Event::Progress { action, .. } if action == "unpack") {
            shared.wire.cut_after(0, true);
        }
    });
    let report = report.await;
    assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
    let failure = report.failure.clone().unwrap();
    assert!(failure.message.contains(&place.described), "{failure:?}");
    assert!(failure.code.starts_with("ssh."), "{failure:?}");
    assert_eq!(ground.rows(), live);
    ground.nothing_left();
    place.nothing_kept();

    // Before anything begins it is a refusal, and `show` says so.
    let backup = ground.site().await.backup(&id).await.unwrap();
    let (_, findings) = ground.site().await.recoverable(&backup).await;
    assert!(
        findings[0].message.contains(&place.described),
        "{findings:?}"
    );
    assert!(findings[0].hint.is_some());
    let plan = ground.plan(to(RecoveryPoint::Latest)).await;
    assert!(codes(&plan)[0].starts_with("ssh."), "{:?}", plan.findings);
    place.wire.mend();

    // A folder that is not there is an archive that is not mounted.
    let aside = ground.path("aside");
    std::fs::rename(ground.path("archive"), &aside).unwrap();
    let plan = ground.plan(to(RecoveryPoint::Latest)).await;
    assert_eq!(codes(&plan), ["wal.no_archive"], "{:?}", plan.findings);
    std::fs::rename(&aside, ground.path("archive")).unwrap();
}

/// The live data on a small file system of its own, until it is dropped.
struct Small(std::path::PathBuf);

impl Small {
    async fn volume_of(place: &Place) -> Self {
        let ground = &place.ground;
        let (volume, aside) = (ground.path("volume"), ground.path("live"));
        let platform = ground.site().await.platform().clone();
        platform.scale("postgres", 0).await.unwrap();
        let script = "set -e; mv \"$1\" \"$2\"; mkdir \"$1\"; mount -t tmpfs -o size=2g none \"$1\"
            chown --reference \"$2\" \"$1\"; chmod --reference \"$2\" \"$1\"; cp -a \"$2\"/. \"$1\"";
        run(script, [&volume, &aside]);
        let this = Self(volume);
        platform.scale("postgres", 1).await.unwrap();
        while ground.try_sql("postgres", "SELECT 1").is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        }
        this
    }

    /// So many KiB are free from now on.
    fn leave(volume: &Path, kib: u64) {
        let script = "used=$(df -k --output=used \"$1\" | tail -1)
            mount -o remount,size=$((used + $2))k \"$1\"";
        run(script, [volume, Path::new(&kib.to_string())]);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn run(script: &str, args: [&Path; 2]) {
    let mut command = Command::new("sh");
    let output = command.args(["-c", script, "x"]).args(args).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// A disk that fills up, and somebody who stops it, while the log comes.
#[tokio::test(flavor = "multi_thread")]
async fn no_room_and_a_stop_in_the_middle() {
    let place = Arc::new(Place::on_a_host().await);
    let ground = &place.ground;
    ground.write(1);
    ground.back_up().await;
    for n in 2..5 {
        ground.write(n);
        ground.archive();
    }
    let small = Small::volume_of(&place).await;
    let live = ground.rows();
    let (volume, left) = (small.0.clone(), AtomicU32::new(0));
    let report = place.watched(to(RecoveryPoint::Latest), move |event| {
        if fetching(event).is_some() && left.fetch_add(1, Ordering::Relaxed) == 0 {
            Small::leave(&volume, 4 * 1024);
        }
    });
    let report = report.await;
    Small::leave(&small.0, 1 << 20);
    assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
    let failure = report.failure.clone().unwrap();
    assert_eq!(failure.code, "wal.no_room", "{failure:?}");
    assert!(failure.message.contains(&place.described), "{failure:?}");
    assert_eq!(ground.rows(), live);
    ground.nothing_left();
    place.nothing_kept();

    let stop = restore_core::CancellationToken::new();
    let told = stop.clone();
    let watch = move |event: &Event| {
        if fetching(event).is_some() {
            told.cancel();
        }
    };
    let plan = ground.plan(to(RecoveryPoint::Latest)).await;
    let options = restore_core::RunOptions::new()
        .events(Arc::new(watch))
        .cancelled_by(stop);
    let report = ground
        .site()
        .await
        .run(plan, options)
        .await
        .ended()
        .unwrap();
    assert_eq!(report.outcome, Outcome::Undone, "{}", report.to_text());
    assert_eq!(ground.rows(), live);
    ground.nothing_left();
    place.nothing_kept();
}

/// The table is refused where it cannot be meant, by the place where it stands.
#[test]
fn what_cannot_be_meant() {
    let open = |archive: serde_json::Value| {
        let site = serde_json::json!({
            "site": {"name": "x", "state": "state"},
            "stores": {"main": {"kind": "directory", "path": "backups"}},
            "services": {"postgres": {"command": ["true"], "endpoint": "127.0.0.1:1"}},
            "volumes": {"pg": {"path": "pg"}},
            "components": {"cluster": {
                "kind": "postgres_cluster", "service": "postgres", "volume": "pg", "user": "boss",
                "wal_archive": archive,
            }},
        });
        let base = tempfile::tempdir().unwrap();
        let config = restore_core::config::SiteConfig::from_value(site).unwrap();
        let registry = restore_core::component::Registry::default();
        Site::from_config(config, base.path(), &registry).map(drop)
    };
    let ssh = |more: serde_json::Value| {
        let mut table = serde_json::json!({"kind": "ssh", "host": "nas", "path": "/wal"});
        let more = more.as_object().unwrap().clone();
        table.as_object_mut().unwrap().extend(more);
        table
    };
    open(serde_json::json!("wal")).unwrap();
    open(serde_json::json!({"kind": "directory", "path": "wal"})).unwrap();
    open(ssh(serde_json::json!({}))).unwrap();
    for (archive, code) in [
        (serde_json::json!(7), "config.bad_value"),
        (
            ssh(serde_json::json!({"passphrase_file": "x"})),
            "config.bad_value",
        ),
        (ssh(serde_json::json!({"pth": "x"})), "config.unknown_key"),
        (
            serde_json::json!({"kind": "ssh", "host": "nas"}),
            "config.missing_key",
        ),
        (serde_json::json!({"kind": "tape"}), "config.unknown_kind"),
        (
            serde_json::json!({"kind": "s3", "bucket": "b"}),
            "config.no_credentials",
        ),
    ] {
        let error = open(archive.clone()).unwrap_err();
        assert_eq!(error.code(), code, "{archive}: {error}");
        assert!(error.message().contains("components.cluster"), "{error}");
        assert!(error.message().contains("wal_archive"), "{error}");
    }
}
