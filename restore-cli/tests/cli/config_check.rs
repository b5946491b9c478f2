//! `restore config check`: all that is wrong with a file at once, each with its line.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::site::{Ran, Site, command};

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
[hooks.page]
kind = 'webhook'
when = ['on-failure']
url_file = 'open.pass'
tokn_file = 'x'
[hooks.drain]
kind = 'command'
when = ['before-stop']
command = ['/nowhere/drain']
[hooks.warm]
kind = 'command'
when = ['after-strat']
command = ['true']
[hooks.flush]
kind = 'command'
when = ['after-start']
service = 'appps'
command = ['true']
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
        (42, "config.secret_open", "open.pass"),
        (43, "config.unknown_key", "`tokn_file`"),
        (47, "program.missing", "/nowhere/drain"),
        (50, "config.bad_value", "after-strat"),
        (55, "config.unknown_reference", "\"appps\""),
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
fn one_mistake_is_one_finding() {
    let sound = "\
[site]
name = 'x'
state = 'state'
[stores.main]
kind = 'directory'
path = 'backups'
[services.app]
start = ['true']
stop = ['true']
status = ['true']
[components.tree]
kind = 'files'
archive = ['a-{id}.tar.gz']
root = 'live/opt'
tree = 'app'
stops = ['app']
[components.more]
kind = 'files'
archive = ['b-{id}.tar.gz']
root = 'live'
tree = 'more'
stops = ['app']
[checks.up]
kind = 'process'
service = 'app'
";
    let site = Site::new();
    site.write("live/more/x", "x");
    site.write("restore.toml", sound);
    site.restore(&["config", "check"]).exits(0);
    for (right, wrong) in [
        ("name = 'x'", "nam = 'x'"),
        ("state = ", "stat = "),
        ("start = ", "strt = "),
        ("status = ", "statsu = "),
        ("tree = 'app'", "tre = 'app'"),
        ("archive = ['a", "archiv = ['a"),
        ("path = ", "pth = "),
        ("kind = 'process'", "kind = 'proces'"),
        ("[services.app]", "[services.ap]"),
        ("[stores.main]", "[store.main]"),
    ] {
        assert!(sound.contains(right), "{right}");
        site.write("restore.toml", &sound.replacen(right, wrong, 1));
        let document = site.restore(&["config", "check", "--json"]).exits(2).json();
        let found = findings(&document);
        assert_eq!(found.len(), 1, "{wrong}: {found:#?}");
    }
}

#[test]
fn places_that_are_not_there_or_hold_what_the_tool_needs_are_told() {
    let site = Site::new();
    let text = site.read("restore.toml");
    site.write(
        "restore.toml",
        &format!(
            "{}[components.jobs]\nkind = 'crontab'\nfile = 'nowhere/jobs'\n",
            text.replace("state = \"state\"", "state = \"live/opt/app/state\"")
        ),
    );
    let document = site.restore(&["config", "check", "--json"]).exits(2).json();
    let found = findings(&document);
    let about = |code: &str| -> Vec<&(u64, String, String)> {
        found.iter().filter(|it| it.1 == code).collect()
    };
    let inside = about("plan.own_inside");
    assert_eq!(inside.len(), 1, "{found:?}");
    assert!(
        inside[0].2.starts_with("the state directory ("),
        "{found:?}"
    );
    let absent = about("component.absent");
    assert_eq!(absent.len(), 1, "{found:?}");
    assert!(absent[0].2.ends_with("/nowhere is not there"), "{found:?}");
}

/// On a new machine nothing is there yet: that is no mistake of the file.
#[test]
fn what_a_restore_brings_is_no_error() {
    let site = Site::new();
    let text = site.read("restore.toml");
    let page = "[maintenance]\nkind = 'nginx'\nconf_dir = 'live/opt/app/conf.d'\n\
                test = ['true']\nreload = ['true']\ndump = ['true']\n";
    site.write("restore.toml", &format!("{text}{page}"));
    std::fs::remove_dir_all(site.path("live")).unwrap();
    let document = site.restore(&["config", "check", "--json"]).exits(0).json();
    let found = findings(&document);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0].1, "component.absent", "{found:?}");
    assert!(found[1].1.starts_with("maintenance."), "{found:?}");
    // What no component brings is a mistake.
    site.write("live/opt/app/kept", "live");
    let document = site.restore(&["config", "check", "--json"]).exits(2).json();
    let found = findings(&document);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].1.starts_with("maintenance."), "{found:?}");
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

/// Editors complete a file by it.
#[test]
fn the_schema_is_printed_and_init_writes_it_beside_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let ran = Ran::of(command(dir.path(), &["config", "schema"]).output().unwrap()).exits(0);
    let schema: Value = serde_json::from_str(&ran.out).unwrap();
    assert!(schema["properties"]["components"].is_object());
    let here = dir.path().to_str().unwrap();
    let init = ["init", "--below", here];
    Ran::of(command(dir.path(), &init).output().unwrap()).exits(0);
    let text = std::fs::read_to_string(dir.path().join("restore.toml")).unwrap();
    assert!(
        text.starts_with("#:schema ./restore.schema.json\n"),
        "{text}"
    );
    let beside = dir.path().join("restore.schema.json");
    assert_eq!(std::fs::read_to_string(&beside).unwrap(), ran.out);
    // Somebody else's is left alone.
    std::fs::write(&beside, "mine").unwrap();
    std::fs::remove_file(dir.path().join("restore.toml")).unwrap();
    Ran::of(command(dir.path(), &init).output().unwrap()).exits(0);
    assert_eq!(std::fs::read_to_string(&beside).unwrap(), "mine");
}

/// A file that is not there is an error of the key that names it, and not another one of its section.
#[test]
fn what_is_missing_is_told_once() {
    let site = Site::new();
    let text = site.read("restore.toml");
    let more = "[services.db]\ncommand = ['sleep', '1']\nendpoint = '127.0.0.1:1'\n\
                [components.db]\nkind = 'postgres'\nservice = 'db'\ndatabase = 'd'\nuser = 'u'\n\
                password_file = 'absent'\n";
    site.write("restore.toml", &(text + more));
    let ran = site.restore(&["config", "check", "--json"]).exits(2);
    let found = findings(&ran.json());
    let line = site.read("restore.toml").lines().count() as u64;
    let secrets: Vec<u64> = found
        .iter()
        .filter(|it| it.1 == "config.secret_unreadable")
        .map(|it| it.0)
        .collect();
    assert_eq!(secrets, [line], "{found:?}");
}
