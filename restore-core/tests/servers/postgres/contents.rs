//! What is in a dump, and how that differs from what is live.

use std::collections::BTreeMap;

use restore_testing::pg::Cluster;
use tokio_util::sync::CancellationToken;

use super::formats::make;
use super::rig;

#[tokio::test]
async fn dumps_of_every_format_tell_their_tables() {
    let rig = rig(Cluster::start("postgres"), "shop");
    let component = rig.component("database = 'shop'\ndumped_as = 'gold'");
    let contents = component.contents().unwrap();
    let rows = BTreeMap::from([
        (r#"Odd; Schema.we "ird; Type: table"#, Some(3)),
        ("public.log", None),
        ("public.log_2024", Some(301)),
        ("public.orders", Some(3000)),
        ("public.users", Some(500)),
    ]);
    for (script, counted) in [
        ("pg_dump gold >$SQL", true),
        ("pg_dump gold | gzip >$SQL.gz", true),
        ("pg_dump gold | zstd -q >$SQL", true),
        ("pg_dump --create gold >$SQL", true),
        // Of several databases the one that is restored.
        ("pg_dumpall | gzip >$SQL.gz", true),
        ("pg_dump -Fc gold >$DUMP", false),
        ("pg_dump -Fc gold | gzip >$DUMP", false),
        ("pg_dump -Ft gold >$DUMP", false),
    ] {
        make(&rig, script);
        let cx = rig.cx().await;
        let artifact = component.artifacts(cx.backup()).remove(0);
        let stop = CancellationToken::new();
        let tables = contents.tables(cx.backup(), &artifact, &stop).await;
        let tables = tables.unwrap_or_else(|e| panic!("{script}: {e}")).unwrap();
        let told: BTreeMap<String, Option<u64>> = tables
            .into_iter()
            .map(|it| (format!("{}.{}", it.schema, it.name), it.rows))
            .collect();
        let expected: BTreeMap<String, Option<u64>> = rows
            .iter()
            .map(|(name, rows)| ((*name).to_owned(), rows.filter(|_| counted)))
            .collect();
        assert_eq!(told, expected, "{script}");
        // What is no dump of it is left to others.
        let other = contents.tables(cx.backup(), "MANIFEST.txt", &stop).await;
        assert_eq!(other.unwrap(), None);
    }
}

#[tokio::test]
async fn tables_and_rows_of_a_dump_are_compared_with_live_ones() {
    let rig = rig(Cluster::start("postgres"), "shop");
    make(&rig, "pg_dump gold >$SQL");
    rig.cluster.sql("shop", "ANALYZE");
    rig.cluster.sql("gold", "ANALYZE");
    let cx = rig.cx().await;
    let same = rig.component("database = 'gold'");
    let found = same.contents().unwrap().compare(&cx, 10).await.unwrap();
    assert!(found.iter().all(|it| it.is_empty()), "{found:?}");
    assert_eq!((found[0].backup, found[0].live), (Some(5), Some(5)));

    let before = rig.cluster.content("shop");
    let other = rig.component("database = 'shop'\ndumped_as = 'gold'");
    let found = other.contents().unwrap().compare(&cx, 2).await.unwrap();
    let [tables, rows] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!((tables.of.as_str(), rows.of.as_str()), ("tables", "rows"));
    assert_eq!((tables.added.count, tables.added.names.len()), (4, 2));
    assert_eq!(tables.removed.names, ["public.only_live"]);
    assert_eq!(rows.changed.names, ["public.users: 500, live about 2"]);
    assert_eq!((rows.backup, rows.estimated), (Some(3804), true));
    assert_eq!(rig.cluster.content("shop"), before);

    // Where there is no database all of it would come.
    let absent = rig.component("database = 'none'\ndumped_as = 'gold'");
    let found = absent.contents().unwrap().compare(&cx, 2).await.unwrap();
    assert_eq!((found[0].added.count, found[0].live), (5, Some(0)));
}

/// A live database keeps its settings, and one that does not exist gets those of the dump.
#[tokio::test]
async fn settings_of_a_dump_are_named_and_their_values_are_not() {
    let rig = rig(Cluster::start("postgres"), "shop");
    rig.cluster.sql(
        "template1",
        "ALTER DATABASE gold SET app.key = 's3cret'; \
         ALTER ROLE reader IN DATABASE gold SET lock_timeout = '1s'",
    );
    for script in [
        "pg_dump -Fc gold >$DUMP",
        "pg_dump --create gold >$SQL",
        "pg_dumpall >$SQL",
    ] {
        make(&rig, script);
        let cx = rig.cx().await;
        let other = rig.component("database = 'shop'\ndumped_as = 'gold'");
        let found = other.contents().unwrap().compare(&cx, 10).await.unwrap();
        assert_eq!(found.len(), 3, "{script}");
        assert_eq!(found[2].of, "settings", "{script}");
        assert_eq!((found[2].backup, found[2].live), (Some(2), Some(4)));
        assert!(found[2].is_empty(), "{script}: {:?}", found[2]);

        let absent = rig.component("database = 'none'\ndumped_as = 'gold'");
        let found = absent.contents().unwrap().compare(&cx, 10).await.unwrap();
        assert!(!format!("{found:?}").contains("s3cret"), "{script}");
        let names = ["app.key", "lock_timeout of role reader"];
        assert_eq!(found[2].added.names, names, "{script}");
        assert_eq!(found[2].live, Some(0), "{script}");
    }
    // What says nothing of them is not compared.
    make(&rig, "pg_dump gold >$SQL");
    let cx = rig.cx().await;
    let same = rig.component("database = 'gold'");
    let found = same.contents().unwrap().compare(&cx, 10).await.unwrap();
    assert_eq!(found.len(), 2);
}
