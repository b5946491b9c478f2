//! Append-only files of strangers: what a scratch server is told in them, and does not do.

use restore_core::ErrorKind;
use restore_testing::redis::{BACKUP, Case, Server};

fn command(words: &[&str]) -> String {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_only_file_loads_and_configures_nothing() {
    let case = Case::new(Server::new(&["appendonly yes"]), "");
    case.server().start().unwrap();
    let folder = case.backups.path().display().to_string();
    for words in [
        vec!["MODULE", "LOAD", "/nowhere/x.so"],
        vec!["config", "SET", "dir", &folder],
        vec!["DEBUG", "SLEEP", "0"],
        vec!["SLAVEOF", "127.0.0.1", "1"],
        vec!["REPLICAOF", "127.0.0.1", "1"],
        vec!["ACL", "SETUSER", "eve", "on"],
        vec!["CLUSTER", "RESET"],
        vec!["FAILOVER"],
        vec!["MIGRATE", "127.0.0.1", "1", "k", "0", "10"],
    ] {
        let set = command(&["SET", "k", "v"]);
        let text = format!("{}{set}{}", command(&["SELECT", "0"]), command(&words));
        std::fs::write(case.artifact(&format!("redis-{BACKUP}.aof")), text).unwrap();
        case.seal();
        let error = case.component.stage(&case.cx().await).await.unwrap_err();
        assert_eq!(
            (error.code(), error.kind()),
            ("redis.forbidden_command", ErrorKind::Verification),
            "{words:?}: {error}"
        );
        assert!(
            error.message().contains(&words[0].to_uppercase()),
            "{error}"
        );
    }
}

/// A few bytes that make a value of a hundred megabytes, again and again: a server obeys a thousand of
/// them before it answers anybody.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_only_file_that_grows_without_end_is_stopped() {
    let case = Case::new(Server::new(&["appendonly yes"]), "max_bytes = 50000000");
    case.server().start().unwrap();
    let mut text = command(&["SELECT", "0"]);
    for key in 0..500 {
        text += &command(&["SETRANGE", &format!("k{key}"), "100000000", "x"]);
    }
    std::fs::write(case.artifact(&format!("redis-{BACKUP}.aof")), text).unwrap();
    case.seal();
    let files = case.server().files();
    let error = case.component.stage(&case.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "archive.too_large", "{error}");
    assert!(
        error.message().contains(&format!("redis-{BACKUP}.aof")),
        "{error}"
    );
    let hint = error.hint_text().unwrap();
    assert!(hint.contains("`max_bytes` of [components.cache]"), "{hint}");
    assert!(case.server().files() == files, "something is left");
}
