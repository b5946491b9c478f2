//! `restore config check`: all that is wrong with a file at once, each with its line.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::site::Site;

/// Line, code, message of each finding.
fn findings(document: &Value) -> Vec<(u64, String, String)> {
    let found = document["config"]["findings"].as_array().unwrap().iter();
    found
        .map(|it| {
            let text = |key: &str| it[key].as_str().unwrap().to_owned();
            (
                it["line"].as_u64().unwrap_or(0),
                text("code"),
                text("message"),
            )
        })
        .collect()
}

#[test]
fn a_sound_file_is_told_so_without_a_backup() {
    let site = Site::new();
    let ran = site.restore(&["config", "check"]).exits(0);
    let file = site.path("restore.toml").canonicalize().unwrap();
    assert_eq!(ran.out, format!("{} is sound.\n", file.display()));
    assert_eq!(ran.err, "");
    let document = site.restore(&["config", "check", "--json"]).exits(0).json();
    assert_eq!(document["config"]["sound"], true);
    assert!(!site.path("state").exists(), "looking writes nothing");
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_its_line() {
    let site = Site::new();
    site.write("open.pass", "x");
    std::fs::set_permissions(
        site.path("open.pass"),
        std::fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    let text = "\
[site]
name = 'x'
state = 'state'
stopp = ['a']
stop = ['apq']
[store]
[stores.main]
kind = 'directory'
path = 'backups'
[stores.gone]
kind = 'directory'
path = 'gone'
[services.app]
start = ['/nowhere/app']
stop = ['true']
status = ['false']
comand = ['x']
[services.db]
command = ['x']
after = ['ap']
[components.tree]
kind = 'files'
archive = ['a-{id}.tar.gz']
rot = 'live/opt'
tree = 'app'
treee = 'x'
root = 'live/opt'
stops = ['wep']
[components.cache]
kind = 'redis'
service = 'app'
volume = 'no_such'
password_file = 'open.pass'
[components.odd]
kind = 'rediss'
[checks.up]
kind = 'process'
service = 'apps'
";
    site.write("restore.toml", text);
    let ran = site.restore(&["config", "check", "--json"]).exits(2);
    let document = ran.json();
    assert_eq!(document["error"]["code"], "config.check_failed");
    let found = findings(&document);
    for (line, code, part) in [
        (4, "config.unknown_key", "`stopp`"),
        (5, "config.unknown_reference", "\"apq\""),
        (6, "config.unknown_key", "`store`"),
        (10, "store", "gone"),
        (14, "program.missing", "/nowhere/app"),
        (17, "config.unknown_key", "`comand`"),
        (20, "config.service_order", "\"ap\""),
        (24, "config.unknown_key", "`rot`"),
        (26, "config.unknown_key", "`treee`"),
        (28, "config.unknown_reference", "\"wep\""),
        (32, "config.unknown_reference", "\"no_such\""),
        (33, "config.secret_open", "open.pass"),
        (35, "config.unknown_kind", "rediss"),
        (38, "config.unknown_reference", "\"apps\""),
    ] {
        assert!(
            found.iter().any(|(at, its, message)| {
                *at == line && its.starts_with(code) && message.contains(part)
            }),
            "line {line}: {code} {part}\n{found:#?}"
        );
    }
    let hints = document["config"]["findings"].to_string();
    assert!(hints.contains("did you mean `stop`?"), "{hints}");
    assert!(hints.contains("did you mean `tree`?"), "{hints}");
}

#[test]
fn what_is_no_toml_has_its_line_too() {
    let site = Site::new();
    site.write("restore.toml", "[site]\nname = \n");
    let ran = site.restore(&["config", "check"]).exits(2);
    assert!(
        ran.out
            .contains("restore.toml:2:\n  error: the file: not TOML"),
        "{}",
        ran.out
    );
    assert!(ran.err.contains("has one error"), "{}", ran.err);
}

#[test]
fn a_file_that_others_can_write_is_told_and_not_obeyed() {
    let site = Site::new();
    let path = site.path("restore.toml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let found = findings(&site.restore(&["config", "check", "--json"]).exits(2).json());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].1, "config.not_trusted");
}
