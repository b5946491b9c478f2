//! Append-only files of strangers: what a scratch server is told in them, and does not do.

use restore_core::ErrorKind;
use restore_testing::redis::{BACKUP, Case, Form, Server, back_up};

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
        vec!["SHUTDOWN", "NOSAVE"],
        vec!["PSYNC", "?", "-1"],
        vec!["SYNC"],
        vec!["MONITOR"],
        // Only what scripts have done is written since 7.0, which the servers of these tests are.
        vec!["EVAL", "return 1", "0"],
        vec!["EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0"],
        vec!["EVAL_RO", "return 1", "0"],
        vec!["SCRIPT", "LOAD", "return 1"],
        vec!["FCALL", "f", "0"],
        vec!["FCALL_RO", "f", "0"],
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

/// A module that writes down who has loaded it.
const MODULE: &str = r#"
#include <stdio.h>
__attribute__((constructor)) static void loaded(void) {
  FILE *out = fopen(LOADED, "a");
  if (out) { fputs("loaded\n", out); fclose(out); }
}
int RedisModule_OnLoad(void *cx, void **args, int count) {
  int (*get)(const char *, void **) = ((void **)cx)[0];
  void (*set)(void *, const char *, int, int);
  get("RedisModule_SetModuleAttribs", (void **)&set);
  set(cx, "m", 1, 1);
  return 0;
}
"#;

/// Whoever answers at the endpoint says which modules there are: any user of the host may, who has the port.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_others_could_have_put_there_is_not_loaded() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::write(at("m.c"), MODULE).unwrap();
    std::fs::write(at("loaded"), "").unwrap();
    mode(&at("loaded"), 0o666);
    let built = std::process::Command::new("cc")
        .args(["-shared", "-fPIC", "-w", "-o"])
        .args([at("m.so"), at("m.c")])
        .arg(format!("-DLOADED=\"{}\"", at("loaded").display()))
        .status();
    assert!(built.unwrap().success());
    mode(&at("m.so"), 0o755);
    let module = at("m.so").display().to_string();
    let loads = format!("loadmodule {module}");
    // Whether others can write there, whether the site names it, and whether it is loaded.
    for (folder, named, loaded) in [
        (0o777, false, false),
        (0o777, true, true),
        (0o755, false, true),
    ] {
        mode(dir.path(), folder);
        let section = match named {
            true => format!("modules = ['{module}']"),
            false => String::new(),
        };
        let case = Case::new(Server::new(&["appendonly no", &loads]), &section);
        back_up(&case, Form::Rdb);
        case.seal();
        case.server().start().unwrap();
        std::fs::write(at("loaded"), "").unwrap();
        let staged = case.stage().await;
        let told = staged
            .findings
            .iter()
            .find(|it| it.code == "redis.modules_untrusted");
        assert_eq!(told.is_none(), loaded, "{folder:o} {:?}", staged.findings);
        if let Some(hint) = told.and_then(|it| it.hint.as_ref()) {
            assert!(hint.contains(&format!("modules = [{module:?}]")), "{hint}");
        }
        let said = std::fs::read_to_string(at("loaded")).unwrap();
        assert_eq!(!said.is_empty(), loaded, "{folder:o} {named}");
    }
}
