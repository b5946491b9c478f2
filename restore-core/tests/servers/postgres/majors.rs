//! Servers and programs of several majors, in every combination that PostgreSQL allows.

use std::process::Command;

use restore_testing::pg::{Cluster, Rig, majors};

use super::codes;

const STAGED: &str = "shop_restore_20240216_093000_7f3a";

const SHOP: &str = "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, x text NOT NULL); \
    INSERT INTO t (x) SELECT 'row ' || i FROM generate_series(1, 100) i; \
    CREATE INDEX ON t (x); CREATE VIEW v AS SELECT count(*) AS n FROM t; \
    CREATE MATERIALIZED VIEW m AS SELECT max(id) FROM t; \
    CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 7; END";

#[tokio::test]
async fn every_major_restores_what_every_other_may() {
    let majors = majors();
    assert!(majors.len() >= 3, "{majors:?}");
    for (server, of_server) in &majors {
        let rig = Rig::new(Cluster::of_version("postgres", of_server));
        rig.cluster.sql("template1", "CREATE DATABASE shop");
        rig.cluster.sql("shop", SHOP);
        let content = "SELECT (SELECT string_agg(x, ',' ORDER BY id) FROM t), (SELECT n FROM v), (SELECT max FROM m), f()";
        let live = rig.cluster.sql("shop", content);
        let endpoint = rig.cluster.endpoint();
        for (dumper, of_dumper) in &majors {
            if dumper < server {
                continue;
            }
            for (format, to) in [("custom", rig.dump_file()), ("plain", rig.sql_file())] {
                let _ = std::fs::remove_file(rig.dump_file());
                let _ = std::fs::remove_file(rig.sql_file());
                let dumped = Command::new(of_dumper.join("pg_dump"))
                    .args(["-U", "postgres", "-h", &endpoint.host, "-F", format, "-f"])
                    .arg(&to)
                    .arg("shop")
                    .output()
                    .unwrap();
                assert!(dumped.status.success(), "{dumped:?}");
                rig.list();
                for (client, of_client) in &majors {
                    let what = format!("{format} by {dumper} of {server}, with {client}");
                    let component = rig.component(&format!(
                        "database = 'shop'\nbin = {:?}",
                        of_client.to_str().unwrap()
                    ));
                    let inspection = component.inspect(&rig.cx().await).await.unwrap();
                    let refused = codes(&inspection).values().any(|it| *it == "error");
                    // Older than the server, or an archive of another format than it knows.
                    let cannot = client < server || (format == "custom" && client < dumper);
                    assert_eq!(refused, cannot, "{what}: {:?}", inspection.findings);
                    if refused {
                        assert!(component.stage(&rig.cx().await).await.is_err(), "{what}");
                        continue;
                    }
                    component
                        .stage(&rig.cx().await)
                        .await
                        .unwrap_or_else(|e| panic!("{what}: {e}"));
                    assert_eq!(rig.cluster.sql(STAGED, content), live, "{what}");
                }
            }
        }
    }
}
