//! What stands in the way of turning it on or off, and what does not.

use std::sync::Arc;

use restore_core::maintenance::{self, FILE_NAME, Maintenance};
use restore_core::run::RunId;
use restore_core::{Severity, Timestamp};
use restore_testing::local::free_port;
use serde_json::json;

use super::web::{TWO_SITES, Web, get};

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_directory_is_no_obstacle_to_lifting_it() {
    let web = Web::start(TWO_SITES).await;
    let run = RunId::generate();
    web.maintenance.on(&run, Timestamp::now()).await.unwrap();
    // A restore swaps the whole directory, and other sites are in the new one.
    let dir = web.ground.path().join("conf.d");
    let sites = std::fs::read_to_string(dir.join("sites.conf")).unwrap();
    std::fs::rename(&dir, web.ground.path().join("old.d")).unwrap();
    web.ground.file(
        "conf.d/sites.conf",
        &sites.replace("app www", "app restored"),
    );
    web.all_turned_away(&run);
    web.maintenance.off(&run).await.unwrap();
    assert!(get(web.a, "example.org").contains("app restored"));
    web.all_served();
}

/// What a run keeps of the page is all that it takes to lift it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_of_it_lifts_it() {
    let web = Web::start(TWO_SITES).await;
    let run = RunId::generate();
    let section = web.maintenance.section().unwrap();
    web.maintenance.on(&run, Timestamp::now()).await.unwrap();
    web.all_turned_away(&run);
    let elsewhere = std::path::Path::new("/nonexistent");
    let again = maintenance::make(section.clone(), &web.platform, elsewhere).unwrap();
    assert_eq!(again.section(), Some(section));
    again.off(&run).await.unwrap();
    assert!(!web.file().exists());
    web.all_served();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_configuration_is_refused_and_users_are_served_as_before() {
    let web = Web::start(TWO_SITES).await;
    let broken = web
        .ground
        .file("conf.d/broken.conf", "server { lissten 1; }\n");
    let run = RunId::generate();
    let error = web
        .maintenance
        .on(&run, Timestamp::now())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "maintenance.config_broken");
    assert!(
        error.message().contains("unknown directive \"lissten\""),
        "{error}"
    );
    let findings = web.maintenance.inspect().await.unwrap();
    assert!(
        findings
            .iter()
            .any(|f| f.severity == Severity::Error && f.message.contains("lissten"))
    );
    assert!(!web.file().exists());
    web.all_served();

    // The same when it is to be lifted: the page stays, in memory and on disk.
    std::fs::remove_file(&broken).unwrap();
    web.maintenance.on(&run, Timestamp::now()).await.unwrap();
    web.ground
        .file("conf.d/broken.conf", "server { lissten 1; }\n");
    let error = web.maintenance.off(&run).await.unwrap_err();
    assert!(error.message().contains("lissten"), "{error}");
    assert!(web.file().exists());
    web.all_turned_away(&run);
    std::fs::remove_file(&broken).unwrap();
    web.maintenance.off(&run).await.unwrap();
    web.all_served();
}

/// A page that is not there is not worth a configuration that nginx accepts; one that is still
/// shown, from memory, is.
#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_page_a_broken_configuration_is_no_obstacle() {
    let signs = tempfile::tempdir().unwrap();
    let broken = signs.path().join("broken");
    let test = json!({"test": ["test", "!", "-e", broken]});
    let web = Web::start_with("include conf.d/*.conf;", TWO_SITES, test).await;
    let run = RunId::generate();
    std::fs::write(&broken, "").unwrap();
    web.maintenance.off(&run).await.unwrap();
    web.all_served();

    std::fs::remove_file(&broken).unwrap();
    web.maintenance.on(&run, Timestamp::now()).await.unwrap();
    std::fs::remove_file(web.file()).unwrap();
    std::fs::write(&broken, "").unwrap();
    let error = web.maintenance.off(&run).await.unwrap_err();
    assert_eq!(error.code(), "maintenance.test_failed", "{error}");
    web.all_turned_away(&run);
    std::fs::remove_file(&broken).unwrap();
    web.maintenance.off(&run).await.unwrap();
    web.all_served();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_nginx_reads_first_is_found_and_nothing_is_left() {
    let first =
        "server { listen 127.0.0.1:PORT; server_name early.example; return 200 'app early'; }";
    let port = free_port();
    let http = format!(
        "{} include conf.d/*.conf;",
        first.replace("PORT", &port.to_string())
    );
    let web = Web::start_with(&http, TWO_SITES, json!({})).await;
    let findings = web.maintenance.inspect().await.unwrap();
    assert_eq!(findings[0].code, "maintenance.order", "{findings:?}");
    assert!(findings[0].message.contains("early.example"));
    let run = RunId::generate();
    let error = web
        .maintenance
        .on(&run, Timestamp::now())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "maintenance.order");
    assert!(error.hint_text().unwrap().contains("include"));
    assert!(!web.file().exists());
    web.all_served();
    assert!(get(port, "early.example").contains("app early"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_speaks_against_it_is_said_beforehand() {
    let web = Web::start_with(
        "include conf.d/*.conf;",
        TWO_SITES,
        json!({ "conf_dir": "elsewhere" }),
    )
    .await;
    let codes = async |maintenance: &Arc<dyn Maintenance>| -> Vec<String> {
        let findings = maintenance.inspect().await.unwrap();
        findings.into_iter().map(|f| f.code).collect()
    };
    assert_eq!(codes(&web.maintenance).await, ["maintenance.conf_dir"]);
    std::fs::create_dir(web.ground.path().join("elsewhere")).unwrap();
    assert_eq!(codes(&web.maintenance).await, ["maintenance.not_included"]);
    let right = Web::maintenance(&web.ground, &web.platform, json!({})).unwrap();
    web.ground.file(
        &format!("conf.d/{FILE_NAME}"),
        "# Written by restore, run 20240215-093000-7f3a, since x\nserver { listen 127.0.0.1:1; }\n",
    );
    let findings = right.inspect().await.unwrap();
    assert_eq!(findings[0].code, "maintenance.leftover");
    assert!(findings[0].message.contains("20240215-093000-7f3a"));
    // One that even breaks the configuration is replaced.
    web.ground
        .file(&format!("conf.d/{FILE_NAME}"), "nonsense;\n");
    let run = RunId::generate();
    right.on(&run, Timestamp::now()).await.unwrap();
    web.all_turned_away(&run);
    right.off(&run).await.unwrap();
    web.platform.scale("nginx", 0).await.unwrap();
    assert_eq!(codes(&right).await, ["maintenance.unreachable"]);
    let error = right.on(&run, Timestamp::now()).await.unwrap_err();
    assert!(error.message().contains("reload"), "{error}");
    assert!(!web.file().exists());
    right.off(&run).await.unwrap();
    web.platform.scale("nginx", 1).await.unwrap();
    let wrong = Web::maintenance(&web.ground, &web.platform, json!({ "probes": [] }));
    assert_eq!(
        wrong.err().unwrap().hint_text(),
        Some("did you mean `probe`?")
    );
}
