//! Making backups in a bucket, restoring from it, and deleting there.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use restore_core::backup::{PruneRequest, Verdict, VerifyOptions};
use restore_core::{
    BackupRequest, CancellationToken, ErrorKind, Event, FetchOptions, NoEvents, Outcome,
    PlanRequest, RunOptions, Site,
};
use restore_testing::remote::*;
use serde_json::{Value, json};

use super::ground::*;

/// Two trees: one of several parts, one of a few bytes.
fn components(ground: &Ground) -> Value {
    for (path, size) in [
        ("large/a", 13_000_000),
        ("large/b", 2_000_000),
        ("small/x", 10),
    ] {
        let path = ground.path("live").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, noise(size, 5)).unwrap();
    }
    let tree = |name: &str| {
        json!({"kind": "files", "archive": [format!("app/{name}-{{id}}.tar.gz")],
            "root": "live", "tree": name})
    };
    json!({"components": {"large": tree("large"), "small": tree("small")}})
}

fn site(ground: &Ground) -> Site {
    let components = components(ground);
    ground
        .site_with(&json!({}), &ground.here(""), components)
        .unwrap()
}

fn to_cloud() -> BackupRequest {
    BackupRequest::all().to("cloud")
}

#[tokio::test(flavor = "multi_thread")]
async fn there_and_back() {
    let ground = Ground::new();
    let site = site(&ground);
    let made = site.back_up(to_cloud(), RunOptions::new()).await.unwrap();
    assert_eq!(made.store, "cloud");
    let id = made.id.as_str();
    // The marker is gone, no upload is left, and the bytes are the manifest's.
    let keys = server().keys_below(&ground.key(&format!("{id}/")));
    assert!(
        keys.contains(&"MANIFEST.txt".to_owned()) && keys.len() == 4,
        "{keys:?}"
    );
    assert_eq!(server().uploads_below(&ground.prefix), [""; 0]);
    let backup = site.backup("latest").await.unwrap();
    assert_eq!(backup.id().as_str(), id);
    let verified = backup
        .verify(
            VerifyOptions::default(),
            Arc::new(NoEvents),
            CancellationToken::new(),
        )
        .await
        .unwrap();
    assert_eq!(verified.verdict(), Verdict::Verified, "{verified:?}");

    // Damaged, and restored by what a run fetches by itself.
    let before = tree(&ground.path("live"));
    std::fs::write(ground.path("live/large/a"), "damaged").unwrap();
    std::fs::remove_file(ground.path("live/small/x")).unwrap();
    let (backup, fetched) = site.bring("latest", FetchOptions::new()).await.unwrap();
    assert_eq!(fetched.unwrap().verdict, Some(Verdict::Verified));
    let request = PlanRequest::all().no_safety_backup(true);
    let options = RunOptions::new();
    let plan = site.plan_with(&backup, request, &options).await.unwrap();
    let report = site.run(plan, options).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    site.confirm(Some(report.run), RunOptions::new())
        .await
        .unwrap();
    assert!(tree(&ground.path("live")) == before);

    // And by an operator's own commands, from what was fetched.
    let unpacked = ground.path("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let archive = ground.here(id).join(format!("app/large-{id}.tar.gz"));
    let done = Command::new("tar")
        .arg("-C")
        .arg(&unpacked)
        .arg("-xzf")
        .arg(archive)
        .status()
        .unwrap();
    assert!(done.success());
    assert_same(&ground.path("live/large"), &unpacked.join("large"));
}

async fn state(site: &Site) -> (usize, bool) {
    let store = &site.stores()[1].1;
    let listed = store.list().await.unwrap().len();
    let latest = restore_core::store::latest(store.as_ref()).await.unwrap();
    (listed, latest.is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_off_it_is_seen_to_be_unfinished_and_leaves_no_upload() {
    for how in ["cancelled", "cut", "dropped"] {
        let ground = Ground::new();
        let site = Arc::new(site(&ground));
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let packed = Arc::new(AtomicBool::new(false));
        let started = packed.clone();
        let sink = move |event: &Event| {
            if let Event::Progress { subject, done, .. } = event
                && subject == "large"
                && *done > 7_000_000
                && !started.swap(true, Ordering::SeqCst)
                && how == "cancelled"
            {
                stop.cancel();
            }
        };
        let options = RunOptions::new()
            .events(Arc::new(sink))
            .cancelled_by(cancel);
        match how {
            "dropped" => {
                let there = site.clone();
                let making = tokio::spawn(async move { there.back_up(to_cloud(), options).await });
                until("a part is on its way", || packed.load(Ordering::SeqCst)).await;
                making.abort();
                assert!(making.await.unwrap_err().is_cancelled());
            }
            "cut" => {
                // After the begin; what the server answers to a part does not come through.
                let there = site.clone();
                let making = tokio::spawn(async move { there.back_up(to_cloud(), options).await });
                until("the upload was begun", || {
                    !server().uploads_below(&ground.prefix).is_empty()
                })
                .await;
                ground.wire.cut_after(0, true);
                let error = making.await.unwrap().unwrap_err();
                assert!(error.code().starts_with("object."), "{error}");
                assert!(
                    error.hint_text().unwrap().contains("unfinished"),
                    "{error:?}"
                );
                ground.wire.mend();
            }
            _ => {
                let error = site.back_up(to_cloud(), options).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
            }
        }
        assert_eq!(state(&site).await, (1, false), "{how}");
        if how != "cut" {
            // Whoever cut the wire took the way to say so, too.
            until("nothing is left of the uploads", || {
                server().uploads_below(&ground.prefix).is_empty()
            })
            .await;
        }
        let id = site.stores()[1].1.list().await.unwrap().remove(0);
        let error = site
            .fetch(id.as_str(), FetchOptions::new())
            .await
            .unwrap_err();
        assert_eq!(error.code(), "verify.unfinished", "{how}: {error}");
        let error = site.stores()[1].1.begin(&id).await.err().unwrap();
        assert_eq!(error.code(), "backup.exists");

        // The next one is made all the same, and prune clears the other away.
        let made = site.back_up(to_cloud(), RunOptions::new()).await.unwrap();
        assert_eq!(state(&site).await, (2, true), "{how}");
        let mut request = PruneRequest::keep(1);
        request.store = Some("cloud".to_owned());
        let plan = site.plan_prune(&request).await.unwrap();
        let pruned = site
            .prune(&request, &plan, RunOptions::new())
            .await
            .unwrap();
        assert_eq!(pruned.len(), 1);
        assert_eq!(server().keys_below(&ground.key(id.as_str())), [""; 0]);
        assert_eq!(site.backup("latest").await.unwrap().id(), &made.id);
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_safety_backup_may_be_there_too() {
    let ground = Ground::new();
    let mut rest = components(&ground);
    rest["site"] = json!({"name": "x", "state": "state", "safety_store": "cloud"});
    let site = ground
        .site_with(&json!({}), &ground.here(""), rest)
        .unwrap();
    site.back_up(BackupRequest::all(), RunOptions::new())
        .await
        .unwrap();
    std::fs::write(ground.path("live/small/x"), "before the run").unwrap();
    let backup = site.backup("latest").await.unwrap();
    let request = || PlanRequest::all().only(["small"]);
    let plan = site
        .plan_with(&backup, request(), &RunOptions::new())
        .await
        .unwrap();
    let report = site.run(plan, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    site.confirm(Some(report.run), RunOptions::new())
        .await
        .unwrap();
    let safety = site.stores()[1].1.list().await.unwrap().remove(0);
    assert!(safety.is_safety());
    let (backup, _) = site
        .bring(safety.as_str(), FetchOptions::new())
        .await
        .unwrap();
    let options = RunOptions::new();
    let request = request().no_safety_backup(true);
    let plan = site.plan_with(&backup, request, &options).await.unwrap();
    let report = site.run(plan, options).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    let text = std::fs::read_to_string(ground.path("live/small/x")).unwrap();
    assert_eq!(text, "before the run");
}
