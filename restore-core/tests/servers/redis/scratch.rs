//! The scratch server of a stage that is cancelled or killed: it ends, and leaves nothing.

use restore_core::ErrorKind;
use restore_core::platform::Discard;
use restore_testing::redis::{BACKUP, Case, Server, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_stage_ends_soon_and_leaves_nothing() {
    let case = Case::new(Server::new(&["appendonly yes"]), "");
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

/// A process that was killed while it staged may leave its scratch server running.
#[tokio::test(flavor = "multi_thread")]
async fn a_leftover_scratch_server_is_ended() {
    let case = Case::new(Server::new(&["appendonly yes"]), "");
    large(&case);
    case.server().start().unwrap();
    let cx = case.cx().await;
    let folder = case.server().data().join(case.run.folder());
    let component = case.component.clone();
    *case.platform.leave_scratch.lock().unwrap() = true;
    let staging = tokio::spawn(async move { component.stage(&cx).await });
    until("the scratch server listens", || {
        in_folder(&folder).iter().any(|pid| {
            std::path::Path::new(&format!("/proc/{pid}/cwd/.restore-scratch.sock")).exists()
        })
    });
    staging.abort();
    assert!(staging.await.unwrap_err().is_cancelled());
    assert_eq!(in_folder(&folder).len(), 1);
    let cx = case.cx().await;
    case.component.discard(&cx, Discard::Staged).await.unwrap();
    assert!(in_folder(&folder).is_empty());
    assert!(!folder.exists());
}

/// Writes an RDB that takes a while to load.
pub fn large(case: &Case) {
    let source = Server::new(&["save \"\"", "enable-debug-command yes"]);
    source.start().unwrap();
    source.run(0, &["DEBUG POPULATE 2000000", "SAVE"]);
    let rdb = format!("redis-{BACKUP}.rdb");
    std::fs::rename(source.data().join("dump.rdb"), case.artifact(&rdb))
        .or_else(|_| std::fs::copy(source.data().join("dump.rdb"), case.artifact(&rdb)).map(drop))
        .unwrap();
}

/// The processes at work below a folder.
pub fn in_folder(folder: &std::path::Path) -> Vec<u32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
        })
        .collect()
}
