//! Base backups that recoveries need are not pruned.

use std::time::Duration;

use restore_core::backup::PruneRequest;
use restore_core::{BackupRequest, RecoveryPoint, RunOptions};
use restore_testing::pitr::{Ground, to, to_time};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_archive_leads_on_from_stays() {
    let ground = Ground::with("pg/data", "").await;
    let mut bases = Vec::new();
    for n in 1..=3 {
        ground.write(n);
        bases.push(ground.back_up().await);
    }
    let here = ground.write(4);
    ground.write(5);
    ground.archive();
    let plain = ground.site().await;
    let plain = plain
        .back_up(BackupRequest::all(), RunOptions::new())
        .await
        .unwrap()
        .id
        .to_string();
    let pruned = async |request: PruneRequest| {
        let site = ground.site().await;
        let plan = site.plan_prune(&request).await.unwrap();
        let deleted: Vec<String> = plan.delete.iter().map(|it| it.id.to_string()).collect();
        let why = |id: &String| -> String {
            let kept = plan.keep.iter().find(|it| it.id.as_str() == id);
            kept.map(|it| it.why.clone()).unwrap_or_default()
        };
        let why: Vec<String> = bases.iter().map(why).collect();
        (deleted, why)
    };
    let one = || PruneRequest::keep(1);
    // Everything that the archive has is reached from the first, and the last is the last.
    let (deleted, why) = pruned(one()).await;
    assert_eq!(deleted, [bases[1].clone()], "{why:?}");
    assert!(why[0].contains("only from it"), "{why:?}");
    assert!(why[2].contains("newest base backup"), "{why:?}");
    // A hole behind the first: what comes behind it is reached from the second.
    let archive = ground.path("archive");
    let backups = |id: &String| ground.path("backups").join(id).join("restore.json");
    let stop = |id: &String| -> String {
        let text = std::fs::read_to_string(backups(id)).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let facts = &value.pointer("/components/0/facts").unwrap();
        let lsn = facts["stop_lsn"].as_str().unwrap().to_owned();
        ground.sql("postgres", &format!("SELECT pg_walfile_name('{lsn}')"))
    };
    let (first, second) = (stop(&bases[0]), stop(&bases[1]));
    let mut segments: Vec<String> = std::fs::read_dir(&archive)
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.len() == 24)
        .collect();
    segments.sort();
    let hole = segments
        .iter()
        .find(|name| **name > first && **name < second)
        .expect("a segment between two base backups");
    std::fs::rename(archive.join(hole), ground.path("aside")).unwrap();
    let (deleted, why) = pruned(one()).await;
    assert!(why[1].contains("only from it"), "{deleted:?} {why:?}");
    std::fs::rename(ground.path("aside"), archive.join(hole)).unwrap();
    // The log of the time before the second was cleaned up: the first leads nowhere.
    for name in segments.iter().filter(|name| **name < second) {
        std::fs::remove_file(archive.join(name)).unwrap();
    }
    let (deleted, why) = pruned(one()).await;
    assert_eq!(deleted, [bases[0].clone()], "{why:?}");
    assert!(why[1].contains("only from it"), "{why:?}");
    // An archive that is not mounted makes nothing needless.
    std::fs::rename(&archive, ground.path("unmounted")).unwrap();
    let (deleted, why) = pruned(one()).await;
    assert!(
        deleted.is_empty() && why[0].contains("cannot be listed"),
        "{why:?}"
    );
    std::fs::rename(ground.path("unmounted"), &archive).unwrap();

    let site = ground.site().await;
    let request = PruneRequest::older_than(Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let plan = site.plan_prune(&request).await.unwrap();
    let gone = site
        .prune(&request, &plan, RunOptions::new())
        .await
        .unwrap();
    let gone: Vec<String> = gone.iter().map(|it| it.id.to_string()).collect();
    assert_eq!(gone, [bases[0].clone()]);
    assert_ne!(plain, bases[2]);
    let plan = ground.plan(to_time(&here.time)).await;
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    let plan = ground.plan_of(&bases[1], to(RecoveryPoint::Latest)).await;
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
}
