//! History that a recovery or a rollback left behind comes back only where somebody says so.

use std::path::Path;

use restore_core::{Plan, RecoveryPoint, RecoveryTarget, RunOptions};
use restore_testing::pitr::{Ground, to, to_time};

use super::codes;

fn both(rows: &str) -> (String, String) {
    (rows.to_owned(), rows.to_owned())
}

fn latest() -> restore_core::PlanRequest {
    to(RecoveryPoint::Latest)
}

fn along(timeline: u32) -> restore_core::PlanRequest {
    let target = RecoveryTarget::new(RecoveryPoint::Latest).timeline(timeline);
    restore_core::PlanRequest::all().to(target)
}

fn followed(plan: &Plan) -> u64 {
    let facts = &plan.components[0].inspection.facts;
    facts["follows_timeline"].as_u64().unwrap()
}

/// A finding's message.
fn said<'a>(plan: &'a Plan, code: &str) -> &'a str {
    let found = plan.findings.iter().find(|it| it.code == code);
    let found = found.unwrap_or_else(|| panic!("no {code}: {:?}", plan.findings));
    &found.message
}

fn subject(plan: &Plan, code: &str) -> String {
    let found = plan.findings.iter().find(|it| it.code == code);
    found.map(|it| it.subject.clone()).unwrap_or_default()
}

async fn timeline_of(ground: &Ground) -> u32 {
    let name = ground.sql(
        "postgres",
        "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)",
    );
    u32::from_str_radix(&name, 16).unwrap()
}

/// A recovery that was confirmed, and after it one that was taken back: each leaves history behind.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_behind_is_not_brought_back_unasked() {
    let ground = Ground::with("pg/data", "").await;
    ground.write(1);
    let first = ground.back_up().await;
    let here = ground.write(2);
    ground.write(3);
    ground.archive();
    let early = ground.plan(latest()).await;
    assert_eq!(followed(&early), 1);
    ground.run(to_time(&here.time)).await;
    ground.confirm().await;
    assert_eq!(ground.rows(), both("1 2"));
    assert_eq!(timeline_of(&ground).await, 2);

    ground.write(4);
    ground.archive();

    // Whoever has approved the old one has not approved the new one.
    let site = ground.site().await;
    let stale = site.run(early, RunOptions::new()).await.unwrap_err();
    assert_eq!(stale.code(), "plan.stale", "{stale}");
    assert!(stale.message().contains("timeline"), "{stale}");

    // As long as the archive has nothing of the new timeline, what goes on in the segment in which
    // it began is what was left behind.
    let (archive, aside) = (ground.path("archive"), ground.path("aside"));
    std::fs::create_dir(&aside).unwrap();
    let carry = |from: &Path, to: &Path| {
        for entry in std::fs::read_dir(from).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with("00000002") && name.len() == 24 {
                std::fs::rename(entry.path(), to.join(name)).unwrap();
            }
        }
    };
    carry(&archive, &aside);
    let plan = ground.plan(latest()).await;
    assert_eq!(codes(&plan), ["wal.hole"], "{:?}", plan.findings);
    let branch = &plan.errors().next().unwrap().message;
    assert!(branch.contains("lacks 00000002"), "{branch}");
    carry(&aside, &archive);
    std::fs::remove_dir(&aside).unwrap();

    // `latest` is the live cluster's, from before the branch and from behind it.
    let plan = ground.plan(latest()).await;
    assert_eq!(
        (plan.backup.to_string(), followed(&plan)),
        (first.clone(), 2)
    );
    assert!(said(&plan, "cluster.timelines").contains("(also: 1)"));
    let report = ground.carry_out(plan).await;
    assert!(
        report
            .to_text()
            .contains("the end of the archive, timeline 2")
    );
    assert_eq!(ground.rows(), both("1 2 4"));
    ground.back().await;
    let second = ground.back_up().await;
    ground.write(5);
    ground.archive();
    let plan = ground.plan(latest()).await;
    assert_eq!(
        (plan.backup.to_string(), followed(&plan)),
        (second.clone(), 2)
    );

    // What was left behind, by its timeline: from a base backup that leads there.
    let plan = ground.plan(along(1)).await;
    assert_eq!(
        (plan.backup.to_string(), followed(&plan)),
        (first.clone(), 1)
    );
    assert_eq!(
        subject(&plan, "plan.base_left_behind"),
        format!("{second} (timeline 2)")
    );
    ground.carry_out(plan).await;
    assert_eq!(ground.rows(), both("1 2 3"));
    ground.back().await;
    assert_eq!(ground.rows(), both("1 2 4 5"));

    // A recovery whose server lives on for a while, is backed up, and is taken back.
    ground.run(to_time(&here.time)).await;
    let left = timeline_of(&ground).await;
    assert!(left > 2, "{left}");
    ground.write(6);
    ground.archive();
    let third = ground.back_up().await;
    ground.write(7);
    ground.archive();
    assert_eq!(ground.rows(), both("1 2 6 7"));
    ground.back().await;
    assert_eq!(ground.rows(), both("1 2 4 5"));

    let plan = ground.plan(latest()).await;
    assert_eq!(
        (plan.backup.to_string(), followed(&plan)),
        (second.clone(), 2)
    );
    assert_eq!(
        subject(&plan, "plan.base_left_behind"),
        format!("{third} (timeline {left})")
    );
    // By its name it is refused, and shown for what it is.
    let plan = ground.plan_of(&third, latest()).await;
    assert_eq!(codes(&plan), ["cluster.abandoned"], "{:?}", plan.findings);
    let hint = plan.errors().next().unwrap().hint.clone().unwrap();
    assert!(hint.contains(&format!("--timeline {left} ")), "{hint}");
    let site = ground.site().await;
    let (ranges, findings) = site.recoverable(&site.backup(&third).await.unwrap()).await;
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(ranges[0].timeline, left);
    assert!(ranges[0].needs_timeline.is_some(), "{ranges:?}");

    // Where it is the only one there is no choice that could be made without a word.
    for id in [&first, &second] {
        std::fs::rename(ground.path("backups").join(id), ground.path(id)).unwrap();
    }
    let none = ground.try_plan(latest()).await.unwrap_err();
    assert_eq!(none.code(), "target.no_base", "{none}");
    let text = none.to_string();
    assert!(
        text.contains(&format!("{third} (timeline {left})")),
        "{text}"
    );
    let hint = none.hint_text().unwrap();
    assert!(hint.contains(&format!("--timeline {left} ")), "{hint}");
    let plan = ground.plan(along(left)).await;
    assert_eq!(plan.backup.to_string(), third);
    for id in [&first, &second] {
        std::fs::rename(ground.path(id), ground.path("backups").join(id)).unwrap();
    }

    // The server down: its files tell; those gone too: somebody must.
    let site = ground.site().await;
    site.platform().scale("postgres", 0).await.unwrap();
    let plan = ground.plan(latest()).await;
    assert!(codes(&plan).is_empty(), "{:?}", plan.findings);
    assert_eq!(
        (plan.backup.to_string(), followed(&plan)),
        (second.clone(), 2)
    );
    assert!(said(&plan, "cluster.timeline_of_files").contains("on 2,"));
    let data = ground.path("volume/pg/data");
    std::fs::rename(&data, &aside).unwrap();
    let plan = ground.plan(latest()).await;
    assert_eq!(codes(&plan), ["cluster.timeline_unknown"]);
    let hint = plan.errors().next().unwrap().hint.clone().unwrap();
    assert!(
        hint.contains("--timeline N") && hint.contains("1, 2, "),
        "{hint}"
    );
    let plan = ground.plan(along(2)).await;
    assert!(codes(&plan).is_empty(), "{:?}", plan.findings);
    std::fs::rename(&aside, &data).unwrap();
    ground.start().await;

    ground.carry_out(ground.plan(latest()).await).await;
    assert_eq!(ground.rows(), both("1 2 4 5"));
    ground.back().await;
    ground
        .carry_out(ground.plan_of(&third, along(left)).await)
        .await;
    assert_eq!(ground.rows(), both("1 2 6 7"));
    ground.confirm().await;
}

/// With nothing but one timeline there is nothing to choose, whatever has become of the server.
#[tokio::test(flavor = "multi_thread")]
async fn one_timeline_is_no_choice() {
    let ground = Ground::with("pg/data", "").await;
    ground.write(1);
    ground.back_up().await;
    ground.write(2);
    ground.archive();
    let site = ground.site().await;
    site.platform().scale("postgres", 0).await.unwrap();
    std::fs::remove_dir_all(ground.path("volume/pg/data")).unwrap();
    let plan = ground.plan(latest()).await;
    assert!(codes(&plan).is_empty(), "{:?}", plan.findings);
    assert!(said(&plan, "cluster.timeline_assumed").contains("1 is followed"));
    // Whoever has lost all of it begins with a directory of that name.
    ground.carry_out(plan).await;
    assert_eq!(ground.rows(), both("1 2"));
}
