//! Single artifacts that are encrypted.

use restore_core::backup::{Verdict, VerifyOptions};
use restore_core::{FetchOptions, NoEvents};
use restore_testing::locked::*;
use restore_testing::remote::*;
use serde_json::json;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use crate::spans::Opened;

/// Encrypts two of the files, lists them as they are then, and moves the folder into `main`.
fn encrypt_two(locked: &Locked) {
    locked.shell(
        "cp -a work/$ID plain-copy; cd work/$ID
         for f in postgres/postgres-$ID.dump redis/redis-$ID.rdb; do
             (cd ../..; gpg -c -o work/$ID/$f.gpg work/$ID/$f); rm $f
         done
         grep -v -E '\\.dump|\\.rdb|Total' MANIFEST.txt > m
         for f in postgres/*.gpg redis/*.gpg; do
             sed -i \"/=== Summary/i $f|$(stat -c %s $f)|$(sha256sum $f | cut -d' ' -f1)\" m
         done
         echo 'Total Files: 7' >> m; mv m MANIFEST.txt; cd ..; mv $ID ../main/",
    );
}

#[tokio::test]
async fn they_are_unlocked_into_a_store_that_may_hold_them() {
    let locked = Locked::new();
    encrypt_two(&locked);
    let site = locked.with_passphrase();
    assert_eq!(site.backup(ID).await.unwrap().locked().len(), 2);
    let report = site.fetch(ID, FetchOptions::new()).await.unwrap();
    assert_eq!(report.verdict, Some(Verdict::Verified));
    assert_eq!(
        (report.from.as_deref(), report.to.as_str()),
        (Some("main"), "plain")
    );
    let here = locked.path("plain").join(ID);
    let (mut plain, mut found) = (tree(&locked.path("plain-copy")), tree(&here));
    assert_eq!(
        found.remove("MANIFEST.original.txt"),
        tree(&locked.path("main").join(ID)).remove("MANIFEST.txt")
    );
    for tree in [&mut plain, &mut found] {
        tree.remove("MANIFEST.txt");
    }
    assert!(plain == found, "{:?}", found.keys());
    // A backup like any other now, that is verified like any other.
    let backup = site.backup(ID).await.unwrap();
    assert!(
        backup.locked().is_empty()
            && backup
                .local_path("x")
                .unwrap()
                .starts_with(locked.path("plain"))
    );
    let verification = backup
        .verify(
            VerifyOptions::default(),
            Arc::new(NoEvents),
            CancellationToken::new(),
        )
        .await
        .unwrap();
    assert_eq!(verification.verdict(), Verdict::Verified);
    assert_eq!(verification.findings(), []);
    // And known as the same when it is asked for again.
    assert!(
        site.fetch(ID, FetchOptions::new())
            .await
            .unwrap()
            .already_there
    );
}

#[tokio::test]
async fn with_a_wrong_passphrase_nothing_is_unlocked_and_what_came_is_kept() {
    let locked = Locked::new();
    encrypt_two(&locked);
    let site = locked.site(json!({"passphrase_file": "wrong"}));
    let error = site.fetch(ID, FetchOptions::new()).await.unwrap_err();
    assert_eq!(error.code(), "unlock.wrong_passphrase", "{error}");
    locked.assert_nothing();
    let report = locked
        .with_passphrase()
        .fetch(ID, FetchOptions::new())
        .await
        .unwrap();
    assert_eq!(report.received, 0);
    assert_eq!(report.verdict, Some(Verdict::Verified));
}

#[tokio::test]
async fn each_gpg_is_a_span() {
    let locked = Locked::new();
    encrypt_two(&locked);
    let opened = Opened::default();
    let _guard = opened.here();
    let site = locked.with_passphrase();
    site.fetch(ID, FetchOptions::new()).await.unwrap();
    let spans = opened.all();
    let run = spans
        .iter()
        .filter(|it| it.starts_with("program name=\"gpg\" pid="));
    assert!(run.count() >= 2, "{spans:?}");
}
