//! Recovery to a point in time, on a real server that archives its log.

mod contract;
mod drills;
mod faults;
mod prepared;
mod prune;
mod redis;
mod room;
mod ruins;
mod short;
mod timelines;

use restore_core::{PlanRequest, RecoveryPoint, RecoveryTarget, Timestamp};
use restore_testing::Ended as _;
use restore_testing::pitr::{Ground, to, to_time};
use sha2::{Digest as _, Sha256};

fn codes(plan: &restore_core::Plan) -> Vec<&str> {
    plan.errors().map(|finding| finding.code.as_str()).collect()
}

/// Rows with known times: a recovery to between two of them brings exactly the earlier ones, by
/// whichever name the moment is called; and each is undone by renames.
#[tokio::test(flavor = "multi_thread")]
async fn to_every_kind_of_moment_and_back() {
    let ground = Ground::new().await;
    ground.write(1);
    let id = ground.back_up().await;
    ground.write(2);
    let here = ground.write(3);
    ground.sql(
        "postgres",
        "SELECT pg_create_restore_point('before the mistake')",
    );
    ground.write(4);
    ground.write(5);
    ground.archive();
    ground.sql("shop", "INSERT INTO t VALUES (6)");
    let live = ground.rows();
    let both = |rows: &str| (rows.to_owned(), rows.to_owned());

    let site = ground.site().await;
    let backup = site.backup(&id).await.unwrap();
    let (ranges, findings) = site.recoverable(&backup).await;
    assert!(findings.is_empty(), "{findings:?}");
    let [range] = ranges.as_slice() else {
        panic!("{ranges:?}")
    };
    let moment = Timestamp::parse(&here.time).unwrap();
    assert!(
        range.from < moment && range.until.unwrap() > moment,
        "{range:?}"
    );
    assert_eq!((range.timeline, range.holes.len()), (1, 0));

    let request = to_time(&here.time);
    let aim = request.target.clone().unwrap().to_string();
    let plan = ground.plan(request).await;
    assert_eq!(plan.components.len(), 1, "its databases come with it");
    let summary = &plan.components[0].inspection.summary;
    assert!(summary.contains(&aim), "{summary}");
    assert!(summary.contains("WAL segments"), "{summary}");
    let chosen = plan.findings.iter().find(|f| f.code == "plan.base_chosen");
    assert!(chosen.is_some(), "{:?}", plan.findings);

    for (request, rows) in [
        (to_time(&here.time), "1 2 3"),
        (to(RecoveryPoint::Lsn(here.lsn.parse().unwrap())), "1 2 3"),
        (to(RecoveryPoint::Xid(here.xid)), "1 2 3"),
        (
            to(RecoveryPoint::Name("before the mistake".to_owned())),
            "1 2 3",
        ),
        (to(RecoveryPoint::Latest), ""),
    ] {
        let what = request.target.clone().unwrap().to_string();
        let report = ground.run(request).await;
        // A server that is stopped archives what it has begun: nothing is lost to `latest`.
        let wanted = match rows {
            "" => live.clone(),
            rows => both(rows),
        };
        assert_eq!(ground.rows(), wanted, "{what}");
        let reached = report.to_text();
        assert!(reached.contains("recovered to"), "{reached}");
        // It is a server like any other: it takes writes, and archives its new timeline.
        ground.sql("shop", "INSERT INTO t VALUES (99)");
        ground.archive();
        ground.back().await;
        assert_eq!(ground.rows(), live, "{what}, rolled back");
    }

    // A transaction by its id, exclusive: without it. Both rows of a pair are transactions.
    let target = RecoveryTarget::new(RecoveryPoint::Xid(here.xid)).exclusive(true);
    ground.run(PlanRequest::all().to(target)).await;
    assert_eq!(ground.rows(), ("1 2".to_owned(), "1 2 3".to_owned()));
    ground.confirm().await;
    assert_eq!(ground.mode(&ground.path("volume")), 0o700);

    // From the new timeline to a later moment of itself, over the branch.
    let later = ground.write(7);
    ground.write(8);
    ground.archive();
    ground.run(to_time(&later.time)).await;
    assert_eq!(ground.rows(), ("1 2 7".to_owned(), "1 2 3 7".to_owned()));
    ground.confirm().await;
    // And to what was left behind when it branched off.
    let target: RecoveryTarget = "latest".parse().unwrap();
    ground.run(PlanRequest::all().to(target.timeline(1))).await;
    assert!(
        ground.rows().0.starts_with("1 2 3 4 5"),
        "{:?}",
        ground.rows()
    );
}

/// One database goes back, the others keep their present.
#[tokio::test(flavor = "multi_thread")]
async fn one_database_alone() {
    let ground = Ground::with("pg/data", "").await;
    let here = ground.past().await;
    let only = |request: PlanRequest| request.only(["shop"]);
    ground.run(only(to_time(&here.time))).await;
    assert_eq!(ground.rows(), ("1 2".to_owned(), "1 2 3".to_owned()));
    ground.write(4);
    ground.back().await;
    assert_eq!(ground.rows(), ("1 2 3".to_owned(), "1 2 3 4".to_owned()));

    // The swap is of the whole folder: nothing else may be in it.
    let other = ground.path("volume").join("pg/other");
    std::fs::create_dir(&other).unwrap();
    let beside = ground.plan(to_time(&here.time)).await;
    // Whoever signed the base backup has not signed that.
    let trust = beside.provenance.clone().unwrap_or_default();
    assert!(
        trust.contains("under nobody's signature: the log in"),
        "{trust}"
    );
    assert_eq!(codes(&beside), ["cluster.not_alone"]);
    std::fs::remove_dir(&other).unwrap();

    let both = ground
        .try_plan(to_time(&here.time).only(["shop", "cluster"]))
        .await
        .unwrap_err();
    assert_eq!(both.code(), "plan.cluster_and_part");

    // The archive packed, as many keep it; and the data directory a folder of the volume.
    ground.pack_archive();
    ground.run(to_time(&here.time)).await;
    assert_eq!(ground.rows(), ("1 2".to_owned(), "1 2".to_owned()));
    ground.back().await;
    assert_eq!(ground.rows(), ("1 2 3".to_owned(), "1 2 3 4".to_owned()));
    // Without a target: where the base backup ended.
    ground.run(PlanRequest::all().only(["cluster"])).await;
    assert_eq!(ground.rows(), ("1".to_owned(), "1".to_owned()));
    ground.back().await;
}

/// A backup without a base leads to no moment, whatever may be missing: the one that does is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_a_base_names_the_one_that_leads_there() {
    let ground = Ground::quick().await;
    ground.write(1);
    let base = ground.back_up().await;
    ground.write(2);
    ground.archive();
    let request = restore_core::BackupRequest::all();
    let options = restore_core::RunOptions::new();
    let made = ground.site().await.back_up(request, options).await;
    let without = made.unwrap().id.to_string();
    let before = ground.rows();
    let latest = || to(RecoveryPoint::Latest);
    for request in [latest(), latest().allow_missing(["cluster"])] {
        let plan = ground.plan_of(&without, request).await;
        assert_eq!(
            codes(&plan),
            ["plan.nothing_to_restore", "plan.empty"],
            "{:?}",
            plan.findings
        );
        let finding = plan.errors().next().unwrap();
        assert_eq!(finding.subject, "cluster");
        assert!(
            finding.message.starts_with(
                "the backup has no base backup of it: nothing of it can be recovered to "
            ),
            "{finding:?}"
        );
        let hint = format!("the newest backup that leads there is {base}");
        assert_eq!(finding.hint.as_deref(), Some(hint.as_str()));
        let refused = ground
            .site()
            .await
            .run(plan, restore_core::RunOptions::new())
            .await;
        assert_eq!(refused.unwrap_err().code(), "plan.refused");
        assert_eq!(ground.rows(), before);
    }
}

/// Each before anything is touched, with its own code and the nearest moment that can be reached.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_refused() {
    let ground = Ground::new().await;
    let early = ground.write(1);
    let none = ground.try_plan(to_time(&early.time)).await.unwrap_err();
    assert_eq!(none.code(), "target.no_base");
    assert!(none.hint_text().unwrap().contains("restore backup --base"));
    let id = ground.back_up().await;
    let here = ground.write(2);
    ground.archive();
    ground.write(3);
    ground.archive();
    let before = ground.rows();

    let error = ground.try_plan(to_time(&early.time)).await.unwrap_err();
    assert_eq!(error.code(), "target.no_base");
    assert!(
        error.hint_text().unwrap().contains("earliest time"),
        "{error:?}"
    );
    let site = ground.site().await;
    let backup = site.backup(&id).await.unwrap();
    let plan = async |request: PlanRequest| {
        let options = restore_core::RunOptions::new();
        ground
            .site()
            .await
            .plan_with(&backup, request, &options)
            .await
            .unwrap()
    };
    for (request, code) in [
        (to_time(&early.time), "target.before_base"),
        (to_time("2100-01-01 00:00:00 UTC"), "target.after_end"),
        (
            to(RecoveryPoint::Lsn("FF/0".parse().unwrap())),
            "target.after_end",
        ),
        (
            to(RecoveryPoint::Lsn("0/1000000".parse().unwrap())),
            "target.before_base",
        ),
        (to(RecoveryPoint::Xid(4_000_000)), "target.no_xid"),
        (
            to(RecoveryPoint::Name("never".to_owned())),
            "target.no_name",
        ),
        (
            PlanRequest::all().to(RecoveryTarget::new(RecoveryPoint::Latest).timeline(7)),
            "wal.no_timeline",
        ),
    ] {
        let plan = plan(request).await;
        assert_eq!(codes(&plan), [code], "{:?}", plan.findings);
        let finding = plan.errors().next().unwrap();
        let hint = finding.hint.clone().unwrap();
        assert!(
            code.starts_with("wal") || hint.contains("UTC"),
            "{code}: the nearest time: {hint}"
        );
        let refused = ground
            .site()
            .await
            .run(plan, restore_core::RunOptions::new())
            .await;
        assert_eq!(refused.unwrap_err().code(), "plan.refused");
    }

    // A hole: what comes before it can be reached, what comes after it cannot.
    let segment = ground.sql(
        "postgres",
        &format!("SELECT pg_walfile_name('{}')", here.lsn),
    );
    let number = u64::from_str_radix(&segment[16..], 16).unwrap() + 1;
    let next = ground
        .path("archive")
        .join(format!("{}{number:08X}", &segment[..16]));
    ground.write(4);
    ground.archive();
    let aside = ground.path("aside");
    std::fs::rename(&next, &aside).unwrap();
    let refused = plan(to(RecoveryPoint::Latest)).await;
    assert_eq!(codes(&refused), ["wal.hole"], "{:?}", refused.findings);
    let (ranges, _) = ground.site().await.recoverable(&backup).await;
    assert_eq!(ranges[0].holes.len(), 1, "{ranges:?}");
    assert!(next.ends_with(&ranges[0].holes[0].first), "{ranges:?}");
    // One that was cut while it was copied is as good as none.
    std::fs::write(&next, b"short").unwrap();
    assert_eq!(codes(&plan(to(RecoveryPoint::Latest)).await), ["wal.hole"]);
    std::fs::rename(&aside, &next).unwrap();
    assert!(codes(&plan(to(RecoveryPoint::Latest)).await).is_empty());

    // An archive whose disk is not mounted is no end of the log.
    let archive = ground.path("archive");
    std::fs::rename(&archive, &aside).unwrap();
    std::fs::create_dir(&archive).unwrap();
    let refused = plan(to(RecoveryPoint::Latest)).await;
    assert_eq!(codes(&refused), ["wal.empty"], "{:?}", refused.findings);
    std::fs::remove_dir_all(&archive).unwrap();
    std::fs::rename(&aside, &archive).unwrap();

    // A damaged segment in the middle is where a server without a target takes the end to be.
    let whole = std::fs::read(&next).unwrap();
    let mut damaged = whole.clone();
    damaged[40..8192].fill(0);
    std::fs::write(&next, damaged).unwrap();
    let report = ground
        .site()
        .await
        .run(
            ground.plan(to(RecoveryPoint::Latest)).await,
            restore_core::RunOptions::new(),
        )
        .await
        .ended()
        .unwrap();
    let failure = report.failure.clone().unwrap();
    assert_eq!(failure.code, "cluster.stopped_short", "{failure:?}");
    assert!(
        failure.message.contains("its log ends with:"),
        "{failure:?}"
    );
    std::fs::write(&next, whole).unwrap();

    // A timeline that branched off before the base backup ended.
    let history = ground.path("archive").join("00000009.history");
    std::fs::write(&history, "1\t0/1000000\tearly\n").unwrap();
    let target = RecoveryTarget::new(RecoveryPoint::Latest).timeline(9);
    let refused = plan(PlanRequest::all().to(target)).await;
    assert_eq!(codes(&refused), ["wal.timeline_unfit"]);
    std::fs::write(&history, "nonsense\n").unwrap();
    assert_eq!(
        codes(&plan(to(RecoveryPoint::Latest)).await),
        ["wal.bad_history"]
    );
    std::fs::remove_file(&history).unwrap();

    // Another cluster, another version, as the backup's description has them.
    let description = ground.path("backups").join(&id).join("restore.json");
    let told = std::fs::read_to_string(&description).unwrap();
    let describe = |text: &str| {
        std::fs::write(&description, text).unwrap();
        // With another hash than the manifest's it is not read at all.
        let manifest = description.with_file_name("MANIFEST.txt");
        let listed = std::fs::read_to_string(&manifest).unwrap();
        let lines = listed
            .lines()
            .map(|line| match line.starts_with("restore.json|") {
                true => {
                    let digest = Sha256::digest(text);
                    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                    format!("restore.json|{}|{hash}\n", text.len())
                }
                false => format!("{line}\n"),
            });
        std::fs::write(&manifest, lines.collect::<String>()).unwrap();
    };
    let mut value: serde_json::Value = serde_json::from_str(&told).unwrap();
    for (key, other, code) in [
        (
            "system_identifier",
            serde_json::json!("1"),
            "cluster.other_system",
        ),
        ("major", serde_json::json!(14), "cluster.wrong_version"),
    ] {
        let facts = value.pointer_mut("/components/0/facts").unwrap();
        let was = facts[key].clone();
        facts[key] = other;
        describe(&value.to_string());
        // A backup that is open already has the manifest of before.
        let refused = ground.plan_of(&id, to(RecoveryPoint::Latest)).await;
        assert_eq!(codes(&refused), [code]);
        value.pointer_mut("/components/0/facts").unwrap()[key] = was;
    }
    describe(&told);
    assert_eq!(ground.rows().0, format!("{} 4", before.0));
    ground.nothing_left();
}

/// A base backup that is not what its own manifest says is found before it is recovered, also
/// where nobody had a checksum of the whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_backup_with_a_changed_file_is_found() {
    let ground = Ground::new().await;
    ground.write(1);
    let id = ground.back_up().await;
    ground.write(2);
    ground.archive();
    let before = ground.rows();
    let folder = ground.path("backups").join(&id);
    let script = r#"set -e; cd "$1"; mkdir x; tar xzf postgres/base-*.tar.gz -C x
        printf x >> x/base/1/PG_VERSION; rm postgres/base-*.tar.gz
        (cd x; tar czf ../postgres/base-$2.tar.gz *); rm -r x
        line="postgres/base-$2.tar.gz|$(stat -c %s postgres/base-*)|$(sha256sum < postgres/base-$2.tar.gz | cut -d' ' -f1)"
        sed -i "s#^postgres/base.*#$line#" MANIFEST.txt"#;
    let done = std::process::Command::new("sh")
        .args(["-c", script, "x", folder.to_str().unwrap(), &id])
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let plan = ground.plan(to(RecoveryPoint::Latest)).await;
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    let report = ground
        .site()
        .await
        .run(plan, restore_core::RunOptions::new())
        .await
        .ended()
        .unwrap();
    let failure = report.failure.clone().unwrap();
    assert!(failure.message.contains("manifest"), "{failure:?}");
    assert_eq!(ground.rows(), before);
    ground.nothing_left();
}
