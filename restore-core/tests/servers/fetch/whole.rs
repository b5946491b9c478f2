//! Fetches that end well, and those that must not begin.

use restore_core::backup::{Generation, Verdict};
use restore_core::{ErrorKind, FetchOptions, PlanRequest, RunOptions};
use restore_testing::remote::*;

#[tokio::test]
async fn a_backup_comes_whole_and_verified_and_for_our_eyes_alone() {
    let fixture = Fixture::new();
    make_backup(&fixture.there(""), FILES);
    let site = fixture.site();
    let report = site.fetch("latest", FetchOptions::new()).await.unwrap();
    assert_eq!(report.verdict, Some(Verdict::Verified));
    assert_eq!(
        (report.from.as_deref(), report.to.as_str()),
        (Some("nas"), "main")
    );
    assert_eq!(report.files, FILES.len() as u64 + 1);
    assert_eq!((report.received, report.kept), (report.bytes, 0));
    assert_same(&fixture.there(""), &fixture.here(ID));
    assert_eq!(names(&fixture.here("")), [ID]);
    assert_eq!(mode(&report.path), 0o700);
    assert_eq!(mode(&report.path.join(FILES[0].0)), 0o600);
    assert_eq!(report.findings, []);

    // Again: nothing is to be done, and what is here is taken for restoring.
    let again = site.fetch(ID, FetchOptions::new()).await.unwrap();
    assert!(again.already_there && again.received == 0);
    let (backup, fetched) = site.bring(ID, FetchOptions::new()).await.unwrap();
    assert!(fetched.is_none() && backup.store().directory().is_some());

    // What is here needs no other host.
    fixture.wire.cut_after(0, true);
    let again = site.fetch(ID, FetchOptions::new()).await.unwrap();
    assert!(again.already_there && again.from.is_none());
    assert!(site.backup(ID).await.is_ok());
    let error = site.backup("latest").await.unwrap_err();
    assert!(error.to_string().contains("the store nas"), "{error}");
}

#[tokio::test]
async fn without_checksums_it_is_fetched_and_not_called_verified() {
    let fixture = Fixture::new();
    make_backup_b(&fixture.there(""), &FILES[..4]);
    let site = fixture.site();
    let (backup, report) = site.bring(ID, FetchOptions::new()).await.unwrap();
    let report = report.unwrap();
    assert_eq!(report.verdict, Some(Verdict::Unverifiable));
    assert_eq!(backup.generation(), Generation::B);
    assert_eq!(report.findings.len(), 1);
    assert_same(&fixture.there(""), &fixture.here(ID));
}

#[tokio::test]
async fn a_plan_does_not_fetch_and_says_who_does() {
    let fixture = Fixture::new();
    make_backup(&fixture.there(""), &FILES[3..]);
    let site = fixture.site();
    let backup = site.backup(ID).await.unwrap();
    let error = site
        .plan_with(&backup, PlanRequest::all(), &RunOptions::new())
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        ("backup.not_local", ErrorKind::Preflight)
    );
    assert!(error.hint_text().unwrap().contains("restore fetch"));
    assert_eq!(names(&fixture.here("")), [""; 0]);
}

#[tokio::test]
async fn half_a_copy_made_by_hand_is_not_taken_for_the_backup() {
    let fixture = Fixture::new();
    make_backup(&fixture.there(""), &FILES[3..]);
    // As an interrupted rsync leaves it, the manifest being in the first folder.
    std::fs::create_dir(fixture.here(ID)).unwrap();
    std::fs::copy(
        fixture.there("MANIFEST.txt"),
        fixture.here(ID).join("MANIFEST.txt"),
    )
    .unwrap();
    let site = fixture.site();
    let error = site.fetch(ID, FetchOptions::new()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        ("fetch.differs", ErrorKind::Preflight),
        "{error}"
    );
    assert_eq!(tree(&fixture.here(ID)).len(), 1);
}

#[tokio::test]
async fn what_is_not_whole_there_is_not_fetched() {
    for (damage, code) in [
        ("unfinished", "verify.unfinished"),
        ("missing", "fetch.source_incomplete"),
        ("short", "fetch.source_incomplete"),
        ("cut manifest", "verify.manifest_cut"),
        ("changed", "fetch.mismatch"),
    ] {
        let fixture = Fixture::new();
        make_backup(&fixture.there(""), &FILES[3..]);
        let (rdb, manifest) = (fixture.there(FILES[3].0), fixture.there("MANIFEST.txt"));
        match damage {
            "unfinished" => std::fs::remove_file(manifest).unwrap(),
            "missing" => std::fs::remove_file(rdb).unwrap(),
            "short" => std::fs::write(rdb, "short").unwrap(),
            "cut manifest" => {
                let text = std::fs::read_to_string(&manifest).unwrap();
                std::fs::write(&manifest, &text[..text.len() - 4]).unwrap();
            }
            _ => std::fs::write(rdb, noise(FILES[3].1, 99)).unwrap(),
        }
        let site = fixture.site();
        let error = site.fetch(ID, FetchOptions::new()).await.unwrap_err();
        assert_eq!(
            (error.code(), error.kind()),
            (code, ErrorKind::Verification),
            "{error}"
        );
        assert!(!fixture.here(ID).exists());
    }
}
