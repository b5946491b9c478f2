//! What an inspection finds, and what is wrong with a section.

use restore_testing::redis::{BACKUP, Case, Form, Server, back_up};
use serde_json::json;

use super::{assert_same, codes};

/// Trap 30: an RDB of a newer Redis is told by its first bytes.
#[tokio::test(flavor = "multi_thread")]
async fn an_inspection_sees_what_the_first_bytes_tell() {
    let case = Case::new(Server::new(&[]), "");
    case.server().start().unwrap();
    let rdb = format!("redis-{BACKUP}.rdb");
    for (bytes, code) in [
        (&b"REDIS0099"[..], "redis.newer_rdb"),
        (b"", "redis.not_redis_data"),
        (b"REDIS0010\xff", ""),
    ] {
        std::fs::write(case.artifact(&rdb), bytes).unwrap();
        let inspection = case.component.inspect(&case.cx().await).await.unwrap();
        let codes: Vec<&str> = inspection
            .findings
            .iter()
            .map(|f| f.code.as_str())
            .collect();
        assert_eq!(codes.first().copied().unwrap_or_default(), code);
        assert_eq!(inspection.artifacts, [format!("redis/{rdb}")]);
        assert_eq!(inspection.facts["appendonly"], json!(false));
    }
    std::fs::remove_file(case.artifact(&rdb)).unwrap();
    let inspection = case.component.inspect(&case.cx().await).await.unwrap();
    assert_eq!(inspection.findings[0].code, "redis.no_artifact");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inspection_refuses_another_directory_and_replicas() {
    let case = Case::new(Server::new(&["enable-protected-configs yes"]), "");
    back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    case.server().run(
        0,
        &[&format!("CONFIG SET dir {}", elsewhere.path().display())],
    );
    case.server().run(0, &["REPLICAOF 127.0.0.1 1"]);
    assert_eq!(
        codes(&case).await,
        ["redis.replica", "redis.other_directory"]
    );
}

/// `CONFIG SET appendonly no` leaves the files of the mode that a restart comes back to.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_speaks_against_appendonly_no() {
    let case = Case::new(Server::new(&["appendonly yes"]), "");
    back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    assert_eq!(codes(&case).await, [""; 0]);
    case.server().run(0, &["CONFIG SET appendonly no"]);
    assert_eq!(codes(&case).await, ["redis.appendonly_differs"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_settings_are_a_finding() {
    let case = Case::new(
        Server::new(&["appendonly yes", "rename-command CONFIG \"\""]),
        "",
    );
    let content = back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    let inspection = case.component.inspect(&case.cx().await).await.unwrap();
    assert_eq!(inspection.findings[0].code, "redis.settings_refused");
    // INFO still tells this.
    assert_eq!(inspection.facts["appendonly"], json!(true));
    case.restore().await;
    assert_same(&case.server().content(), &content);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_section_is_checked() {
    let server = Server::new(&[]);
    let case = Case::new(server, "stops = ['app', 'redis']");
    assert_eq!(case.component.stops(), ["app", "redis"]);
    let case = Case::new(Server::new(&[]), "stops = ['app']");
    assert_eq!(case.component.stops(), ["app", "redis"]);
    let parts = restore_core::component::ComponentDeps::new(case.platform.clone(), "/", "/");
    let make = |text: &str| {
        let table = toml::from_str(text).unwrap();
        let made = restore_core::component::Registry::default().make("cache", table, &parts);
        made.err().unwrap().to_string()
    };
    let wrong = make("kind = 'redis'\nservice = 'a'\nvolum = 'b'");
    assert_eq!(wrong, "[components.cache] unknown key `volum`");
    let both =
        "kind = 'redis'\nservice = 'a'\nvolume = 'b'\npassword_file = 'c'\npassword_env = 'd'";
    assert!(make(both).contains("names a secret twice"));
}
