//! Clusters of which nothing can be asked any more.

use restore_core::RecoveryPoint;
use restore_core::run::{Outcome, RunOptions};
use restore_testing::pitr::{Ground, to};

use super::codes;

/// What its programs print of a control file that is garbage is not believed.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_control_file_is_garbage_is_restored_over() {
    let ground = Ground::with("data", "").await;
    ground.write(1);
    ground.back_up().await;
    ground.write(2);
    ground.archive();
    let site = ground.site().await;
    site.platform().scale("postgres", 0).await.unwrap();
    let control = ground.path("volume/data/global/pg_control");
    let garbage = [0xa7; 8192];
    std::fs::write(&control, garbage).unwrap();

    let plan = ground.plan(to(RecoveryPoint::Latest)).await;
    assert_eq!(codes(&plan), Vec::<&str>::new(), "{:?}", plan.findings);
    let told = |code: &str| plan.findings.iter().any(|it| it.code == code);
    assert!(told("cluster.timeline_assumed") && told("cluster.down"));
    ground.carry_out(plan).await;
    assert_eq!(ground.rows(), ("1 2".to_owned(), "1 2".to_owned()));

    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    assert_eq!(std::fs::read(&control).unwrap(), garbage);
}

/// The log on another disk is a directory in what is recovered; the plan says so, and a rollback brings the link back.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_on_another_disk_is_told_and_comes_back() {
    let ground = Ground::with("data", "").await;
    ground.write(1);
    ground.back_up().await;
    ground.write(2);
    ground.archive();
    let site = ground.site().await;
    site.platform().scale("postgres", 0).await.unwrap();
    let (log, elsewhere) = (ground.path("volume/data/pg_wal"), ground.path("wal"));
    std::fs::rename(&log, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &log).unwrap();
    ground.start().await;

    let plan = ground.plan(to(RecoveryPoint::Latest)).await;
    let mut told = plan.findings.iter();
    let told = told.find(|it| it.code == "cluster.log_elsewhere");
    let told = told.unwrap_or_else(|| panic!("{:?}", plan.findings));
    let link = format!("is a link to {};", elsewhere.display());
    assert!(told.message.contains(&link), "{told:?}");
    ground.carry_out(plan).await;
    assert_eq!(ground.rows(), ("1 2".to_owned(), "1 2".to_owned()));
    assert!(!log.is_symlink() && log.is_dir());

    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    assert_eq!(std::fs::read_link(&log).unwrap(), elsewhere);
    assert_eq!(ground.rows(), ("1 2".to_owned(), "1 2".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_data_directory_is_gone_is_restored() {
    let ground = Ground::with("data", "").await;
    ground.write(1);
    ground.back_up().await;
    ground.write(2);
    ground.archive();
    let site = ground.site().await;
    site.platform().scale("postgres", 0).await.unwrap();
    std::fs::remove_dir_all(ground.path("volume/data")).unwrap();
    let plan = ground.plan(to(RecoveryPoint::Latest)).await;
    assert_eq!(codes(&plan), Vec::<&str>::new(), "{:?}", plan.findings);
    ground.carry_out(plan).await;
    assert_eq!(ground.rows(), ("1 2".to_owned(), "1 2".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_volume_is_gone_is_restored_where_that_may_be_made() {
    let ground = Ground::with("data", "").await;
    ground.write(1);
    ground.back_up().await;
    ground.write(2);
    ground.archive();
    let site = ground.site().await;
    site.platform().scale("postgres", 0).await.unwrap();
    let volume = ground.path("volume");
    std::fs::remove_dir_all(&volume).unwrap();
    let plan = ground.plan(to(RecoveryPoint::Latest)).await;
    let refused = plan.refusal().unwrap();
    assert!(
        refused.hint_text().unwrap().contains("--create"),
        "{refused}"
    );

    let request = to(RecoveryPoint::Latest).create(true);
    let plan = ground.plan(request).await;
    assert_eq!(codes(&plan), Vec::<&str>::new(), "{:?}", plan.findings);
    ground.carry_out(plan).await;
    assert_eq!(ground.rows(), ("1 2".to_owned(), "1 2".to_owned()));

    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    site.confirm(None, RunOptions::new()).await.unwrap();
    assert!(!volume.exists(), "what was made is removed");
}
