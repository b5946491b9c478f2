//! A server whose files are another machine's: an agent beside them works on them.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use restore_core::platform::Discard;
use restore_core::{ErrorKind, RecoveryPoint, RecoveryTarget, Timestamp};
use restore_testing::redis::{BACKUP, Case, Form, Server, back_up, until};

use super::scratch::{in_folder, large};
use super::{assert_same, ends_as_the_backup};

#[tokio::test(flavor = "multi_thread")]
async fn it_is_restored_and_taken_back_there() {
    for form in [Form::Rdb, Form::Aof, Form::AofDir] {
        for appendonly in ["appendonly yes", "appendonly no"] {
            let case = Case::elsewhere(Server::new(&[appendonly]), "");
            let content = back_up(&case, form);
            case.server().start().unwrap();
            case.server().fill("old", 50);
            let old = case.server().content();
            case.restore().await;
            let kept = case.component.replaced_at(&case.cx().await).await.unwrap();
            assert!(kept.unwrap().contains("of node worker"), "{form:?}");
            ends_as_the_backup(&case, &content).await;
            case.undo().await;
            assert_same(&case.server().content(), &old);
        }
    }
}

/// Who owns the volume is whom it is staged for, also where this machine has no name for them.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_staged_there_is_the_servers_own() {
    let (uid, gid) = (54_321, 54_322);
    let server = Server::new(&["appendonly yes"]).with_user(uid, gid);
    let case = Case::elsewhere(server, "");
    let content = back_up(&case, Form::AofDir);
    case.server().start().unwrap();
    case.stage().await;
    let staged = case.server().data().join(case.run.folder()).join("staged");
    for name in ["", "dump.rdb", "appendonlydir"] {
        let meta = staged.join(name).metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid()), (uid, gid), "{name:?}");
    }
    case.cut_over().await;
    ends_as_the_backup(&case, &content).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_refused_there() {
    let case = Case::elsewhere(Server::new(&["appendonly yes", "save \"\""]), "");
    back_up(&case, Form::Rdb);
    let rdb = case.artifact(&format!("redis-{BACKUP}.rdb"));
    let good = std::fs::read(&rdb).unwrap();
    case.server().start().unwrap();
    case.server().fill("old", 5);
    let files = case.server().files();
    let (mut changed, mut newer) = (good.clone(), good.clone());
    changed[1500] ^= 1;
    newer[5..9].copy_from_slice(b"0099");
    let refused = async |bytes: &[u8], code| {
        std::fs::write(&rdb, bytes).unwrap();
        let error = case.component.stage(&case.cx().await).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(error.kind(), ErrorKind::Verification);
        assert!(error.hint_text().is_some());
        assert!(case.server().files() == files, "something is left");
    };
    refused(&changed, "redis.damaged").await;
    refused(&newer, "redis.newer_rdb").await;
    refused(b"", "redis.not_redis_data").await;
    std::fs::write(&rdb, &good).unwrap();
    case.seal();
    refused(&changed, "hash.mismatch").await;
    refused(&good[..good.len() / 2], "hash.mismatch").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_there_that_is_cancelled_leaves_nothing() {
    let case = Case::elsewhere(Server::new(&["appendonly yes"]), "");
    large(&case);
    case.server().start().unwrap();
    let files = case.server().files();
    let cx = case.cx().await;
    let component = case.component.clone();
    let staging = tokio::spawn(async move { component.stage(&cx).await });
    let folder = case.server().data().join(case.run.folder());
    until("the scratch server loads", || in_folder(&folder).len() == 1);
    case.cancel.cancel();
    let error = staging.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    until("the scratch server is gone", || {
        in_folder(&folder).is_empty()
    });
    assert!(case.server().files() == files, "something is left");
}

/// Whoever asked was killed; the agent goes on until somebody asks again.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_stage_left_there_is_ended() {
    let case = Case::elsewhere(Server::new(&["appendonly yes"]), "");
    large(&case);
    case.server().start().unwrap();
    let cx = case.cx().await;
    let folder = case.server().data().join(case.run.folder());
    let component = case.component.clone();
    let staging = tokio::spawn(async move { component.stage(&cx).await });
    until("the scratch server listens", || {
        in_folder(&folder).iter().any(|pid| {
            std::path::Path::new(&format!("/proc/{pid}/cwd/.restore-scratch.sock")).exists()
        })
    });
    staging.abort();
    assert!(staging.await.unwrap_err().is_cancelled());
    let cx = case.cx().await;
    case.component.discard(&cx, Discard::Staged).await.unwrap();
    assert!(in_folder(&folder).is_empty());
    assert!(!folder.exists());
    // And may be done again.
    case.stage().await;
}

/// Along the live append-only file, which is there.
#[tokio::test(flavor = "multi_thread")]
async fn it_goes_back_to_a_moment_there() {
    let server = Server::new(&[
        "appendonly yes",
        "aof-timestamp-enabled yes",
        "appendfsync always",
        "save \"\"",
    ]);
    let case = Case::elsewhere(server, "");
    back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    case.server().run(0, &["SET one 1"]);
    let wanted = case.server().content();
    std::thread::sleep(Duration::from_millis(1100));
    let moment = Timestamp::now();
    std::thread::sleep(Duration::from_millis(2100));
    case.server().run(0, &["SET two 2"]);
    let target = RecoveryTarget::new(RecoveryPoint::Time(moment));
    let cx = case.cx().await.with_target(Some(target));
    let inspection = case.component.inspect(&cx).await.unwrap();
    let codes: Vec<_> = inspection.findings.iter().map(|it| &it.code).collect();
    assert_eq!(codes, ["redis.rewound"], "{:?}", inspection.findings);
    case.component.stage(&cx).await.unwrap();
    case.cut_over().await;
    assert_same(&case.server().content(), &wanted);
    case.undo().await;
    assert_eq!(case.server().content().len(), wanted.len() + 1);
}

/// The volume that the component names is not where the server keeps its data.
#[tokio::test(flavor = "multi_thread")]
async fn another_directory_there_is_told() {
    let server = Server::new(&["appendonly no", "enable-protected-configs yes"]);
    let case = Case::elsewhere(server, "");
    back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let set = format!("CONFIG SET dir {}", elsewhere.path().display());
    case.server().run(0, &[&set]);
    let inspection = case.component.inspect(&case.cx().await).await.unwrap();
    let codes: Vec<_> = inspection.findings.iter().map(|it| &it.code).collect();
    assert_eq!(codes, ["redis.other_directory"], "{inspection:?}");
}
