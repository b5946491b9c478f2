//! Drills of a cluster and of one database of it; and two databases of it at once.

use restore_core::run::Outcome;
use restore_core::{PlanRequest, RunOptions};
use restore_testing::pitr::{Ground, to_time};

use super::codes;

const OTHER: &str = r#"
[components.other]
kind = "postgres"
service = "postgres"
database = "other"
user = "boss"
cluster = "cluster"
dump = ["postgres/other-{id}.dump"]
sql = ["postgres/other-{id}.sql"]
stops = []
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_is_drilled_beside_the_live_cluster() {
    let ground = Ground::with("", OTHER).await;
    let here = ground.past().await;
    let live = ground.rows();
    let started = "SELECT pg_postmaster_start_time()";
    let since = ground.sql("postgres", started);

    // They would be recovered in the same place.
    let two = ground
        .plan(to_time(&here.time).only(["shop", "other"]))
        .await;
    assert_eq!(
        codes(&two),
        ["plan.two_of_one_cluster"],
        "{:?}",
        two.findings
    );
    let refusal = two.errors().next().unwrap();
    assert!(refusal.hint.as_ref().unwrap().contains("--only cluster"));
    let refused = ground.site().await.run(two, RunOptions::new()).await;
    assert_eq!(refused.unwrap_err().code(), "plan.refused");

    for (request, what) in [
        (to_time(&here.time), "cluster"),
        (to_time(&here.time).only(["shop"]), "shop"),
        (PlanRequest::all().only(["cluster"]), "cluster"),
    ] {
        let plan = ground.plan(request.drill(true)).await;
        assert!(plan.refusal().is_none(), "{:?}", plan.findings);
        let site = ground.site().await;
        let report = site.run(plan, RunOptions::new()).await.unwrap();
        assert_eq!(report.outcome, Outcome::Drilled, "{}", report.to_text());
        assert_eq!(report.components[0].name, what);
        assert_eq!(ground.rows(), live);
        assert_eq!(
            ground.sql("postgres", started),
            since,
            "nothing was stopped"
        );
        let left = "SELECT count(*) FROM pg_database WHERE NOT datistemplate";
        assert_eq!(ground.sql("postgres", left), "3");
        ground.nothing_left();
    }
}
