//! Servers and programs of several majors, in every combination that PostgreSQL allows.

use std::path::Path;
use std::process::Command;

use restore_core::platform::Discard;
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
                        // It says which version is needed.
                        let needed = format!("postgresql-client-{}", server.max(dumper));
                        let of_server = format!("postgresql-client-{server}");
                        let told = inspection.findings.iter().filter_map(|it| it.hint.as_ref());
                        let mut told = told.filter(|hint| {
                            hint.contains(&needed) || (client < server && hint.contains(&of_server))
                        });
                        assert!(told.next().is_some(), "{what}: {:?}", inspection.findings);
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

/// The everyday upgrade, and the way back: a dump of each server by its own programs goes into each other one. What
/// PostgreSQL does not allow is refused by the plan, which names the programs that it takes.
#[tokio::test]
async fn a_dump_of_every_major_goes_into_every_other() {
    let majors = majors();
    let content = "SELECT (SELECT string_agg(x, ',' ORDER BY id) FROM t), (SELECT n FROM v), \
        (SELECT max FROM m), f(), (SELECT major FROM origin)";
    let servers: Vec<(u32, &Path, Rig)> = majors
        .iter()
        .map(|(major, bin)| {
            let rig = Rig::new(Cluster::of_version("postgres", bin));
            rig.cluster.sql("template1", "CREATE DATABASE shop");
            let origin = format!("CREATE TABLE origin AS SELECT {major} AS major");
            rig.cluster.sql("shop", &format!("{SHOP}; {origin}"));
            (*major, bin.as_path(), rig)
        })
        .collect();
    let mut ways = 0;
    for (from, of_from, source) in &servers {
        let gold = source.cluster.sql("shop", content);
        for (to, of_to, rig) in servers.iter().filter(|(to, ..)| to != from) {
            for (format, file) in [("custom", rig.dump_file()), ("plain", rig.sql_file())] {
                let _ = std::fs::remove_file(rig.dump_file());
                let _ = std::fs::remove_file(rig.sql_file());
                let option = format!("--format={format}");
                source.cluster.dump("shop", &[option.as_str()], &file);
                rig.list();
                for (client, of_client) in [(from, of_from), (to, of_to)] {
                    let what = format!("{format} of {from} into {to}, with {client}");
                    let component =
                        rig.component(&format!("database = 'shop'\nbin = {of_client:?}"));
                    let cx = rig.cx().await;
                    let inspection = component.inspect(&cx).await.unwrap();
                    let found = codes(&inspection);
                    let hints: Vec<&str> = inspection
                        .findings
                        .iter()
                        .filter_map(|it| it.hint.as_deref())
                        .collect();
                    let refused = if client < to {
                        Some(("postgres.old_tools", to))
                    } else if format == "custom" && client < from {
                        Some(("postgres.dump_unreadable", from))
                    } else {
                        None
                    };
                    if let Some((code, needed)) = refused {
                        assert_eq!(found.get(code), Some(&"error"), "{what}: {found:?}");
                        let needed = format!("postgresql-client-{needed}");
                        assert!(
                            hints.iter().any(|it| it.contains(&needed)),
                            "{what}: {hints:?}"
                        );
                        let error = component.stage(&cx).await.unwrap_err();
                        assert_eq!(rig.cluster.databases(), ["shop"], "{what}: {error}");
                        continue;
                    }
                    assert!(
                        !found.values().any(|it| *it == "error"),
                        "{what}: {found:?}"
                    );
                    let is_newer = found.contains_key("postgres.newer_dump");
                    assert_eq!(is_newer, from > to, "{what}: {found:?}");
                    let newer_tools = found.contains_key("postgres.newer_tools");
                    assert_eq!(newer_tools, client > to, "{what}: {found:?}");
                    component
                        .stage(&cx)
                        .await
                        .unwrap_or_else(|e| panic!("{what}: {e}"));
                    assert_eq!(rig.cluster.sql(STAGED, content), gold, "{what}");
                    component.discard(&cx, Discard::Staged).await.unwrap();
                    ways += 1;
                }
            }
        }
    }
    // Of each two: up both formats with the newer programs; down both with those, and SQL with the older ones.
    let pairs = servers.len() * (servers.len() - 1) / 2;
    assert_eq!(ways, pairs * 5);
}
