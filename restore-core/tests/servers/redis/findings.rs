//! What an inspection finds, and what is wrong with a section.

use restore_testing::redis::{BACKUP, Case, Form, Server, back_up};
use serde_json::json;

use super::{assert_same, codes};

/// An RDB of a newer Redis is told by its first bytes.
#[tokio::test(flavor = "multi_thread")]
async fn an_inspection_sees_what_the_first_bytes_tell() {
    let case = Case::new(Server::new(&[]), "");
    case.server().start().unwrap();
    let rdb = format!("redis-{BACKUP}.rdb");
    for (bytes, code) in [
        (&b"REDIS0099"[..], "redis.newer_rdb"),
        (b"REDIS0012\xfa", "redis.newer_rdb"),
        (b"VALKEY080\xfa", "redis.foreign_rdb"),
        (b"REDIS0001\xff", ""),
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
    std::fs::write(case.artifact(&rdb), b"REDIS0012\xfa").unwrap();
    let inspection = case.component.inspect(&case.cx().await).await.unwrap();
    let message = &inspection.findings[0].message;
    assert!(message.contains("needs Redis 7.4 or later"), "{message}");
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

/// A restore of what lies around it must not move it away.
#[tokio::test(flavor = "multi_thread")]
async fn the_socket_that_it_listens_at_is_told() {
    let case = Case::new(Server::new(&[]), "");
    assert!(case.component.lives_in().await.is_err(), "it is down");
    case.server().start().unwrap();
    let socket = std::path::PathBuf::from(case.server().endpoint().host);
    let told = case.component.lives_in().await.unwrap();
    assert_eq!(told, [("redis".to_owned(), socket)]);
    let case = Case::new(Server::new(&[]).with_password("secret"), "");
    case.server().start().unwrap();
    assert!(case.component.lives_in().await.unwrap().is_empty());
}

/// Which of two is the server's, nobody knows: the first by name may be another one's.
#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_that_fits_several_files_restores_none() {
    let keys = "rdb = ['redis/*.rdb']\naof = ['redis/*.aof']\naof_dir = ['redis/*.tar.gz']";
    let case = Case::new(Server::new(&[]), keys);
    case.server().start().unwrap();
    for (key, end) in [("rdb", "rdb"), ("aof", "aof"), ("aof_dir", "tar.gz")] {
        let names = ["cache", "sessions"].map(|name| format!("{name}.{end}"));
        for name in &names {
            std::fs::write(case.artifact(name), b"REDIS0010\xff").unwrap();
        }
        let inspection = case.component.inspect(&case.cx().await).await.unwrap();
        let mut told = inspection.findings.iter();
        let finding = told.find(|it| it.code == "redis.several_files").unwrap();
        for words in [&names[0], &names[1], &format!("`{key}` fits")] {
            assert!(finding.message.contains(words.as_str()), "{finding:?}");
        }
        let error = case.component.stage(&case.cx().await).await.unwrap_err();
        assert_eq!(error.code(), "redis.several_files", "{key}");
        let compared = case.component.contents().unwrap();
        let error = compared.compare(&case.cx().await, 1).await.unwrap_err();
        assert_eq!(error.code(), "redis.several_files", "{key}");
        let cx = case.cx().await;
        let paths = case.component.artifacts(cx.backup());
        assert_eq!(paths, names.each_ref().map(|name| format!("redis/{name}")));
        for name in &names {
            std::fs::remove_file(case.artifact(name)).unwrap();
        }
    }
}
