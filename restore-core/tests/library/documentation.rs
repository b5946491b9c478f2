//! The documentation against the code that reads a `restore.toml`: every example of every page opens, and the
//! tables of `docs/configuration.md` name exactly the keys that are known.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use restore_core::component::Registry;
use restore_core::config::SiteConfig;
use restore_core::{Error, Site};
use serde_json::{Map, Value, json};

const DOCUMENT: &str = include_str!("../../../docs/configuration.md");

/// README.md, and the pages of `docs` and its folders: the name of each, and its text.
fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = vec![root.join("README.md")];
    for folder in ["docs", "docs/help", "docs/how-to"] {
        let listed = std::fs::read_dir(root.join(folder)).unwrap();
        files.extend(listed.map(|entry| entry.unwrap().path()));
    }
    files.retain(|file| file.extension().is_some_and(|end| end == "md"));
    files.sort();
    let read = |file: &std::path::PathBuf| {
        let text = std::fs::read_to_string(file).unwrap();
        (file.display().to_string(), text)
    };
    files.iter().map(read).collect()
}

/// The code blocks of all pages whose first line is so, each with the page that it is on.
fn blocks_of_pages(language: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (page, text) in pages() {
        let blocks = blocks_of(&text, language).into_iter();
        found.extend(blocks.map(|block| (page.clone(), block)));
    }
    found
}

/// The code blocks of the reference whose first line is so.
pub fn blocks(language: &str) -> Vec<String> {
    blocks_of(DOCUMENT, language)
}

fn blocks_of(page: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(words)) => open = Some((words == language, String::new())),
            (Some(_), Some(_)) => {
                found.extend(
                    open.take()
                        .and_then(|(wanted, text)| wanted.then_some(text)),
                );
            }
            (Some((_, text)), None) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a code block does not end");
    found
}

pub fn open(site: Value) -> Result<Site, Error> {
    let base = tempfile::tempdir().unwrap();
    Site::from_config(
        SiteConfig::from_value(site)?,
        base.path(),
        &Registry::default(),
    )
}

/// The least that opens, and the servers that the examples name.
pub fn least() -> Value {
    let service = json!({"command": ["true"], "endpoint": "127.0.0.1:1"});
    json!({
        "site": {"name": "x", "state": "state"},
        "stores": {"main": {"kind": "directory", "path": "backups"}},
        "services": {"postgres": service, "redis": service, "app": service, "nginx": service},
        "volumes": {"redis_data": {"path": "r"}, "grafana_data": {"path": "g"}, "postgres_data": {"path": "p"}},
        "components": {},
    })
}

/// The least that opens on a swarm: services and volumes need no keys there.
pub fn least_on_a_swarm() -> Value {
    let mut site = least();
    site["platform"] = json!({"kind": "swarm"});
    for service in ["postgres", "redis", "app", "nginx"] {
        site["services"][service] = json!({});
    }
    site["volumes"] = json!({});
    site
}

/// The least that opens on a Docker host with Compose: there services and volumes need no keys either.
pub fn least_with_compose() -> Value {
    let mut site = least_on_a_swarm();
    site["platform"] = json!({"kind": "compose", "project": "shop"});
    site
}

/// The sections of `more` put into `site`, table by table.
fn merge(site: &mut Value, more: Value) {
    match (site, more) {
        (Value::Object(site), Value::Object(more)) => {
            for (key, value) in more {
                match site.get_mut(&key) {
                    // Named things are replaced, whole sections are not.
                    Some(known)
                        if known
                            .as_object()
                            .is_some_and(|it| it.values().all(Value::is_object)) =>
                    {
                        merge(known, value);
                    }
                    _ => {
                        site.insert(key, value);
                    }
                }
            }
        }
        (site, more) => *site = more,
    }
}

#[test]
fn whole_files_open() {
    let files = blocks_of_pages("toml restore.toml");
    assert!(files.len() > 1, "{} files", files.len());
    for (page, text) in files {
        let site: Value = toml::from_str(&text).unwrap_or_else(|e| panic!("{page}: {e}\n{text}"));
        open(site).unwrap_or_else(|e| panic!("{page}: {e} {:?}\n{text}", e.hint_text()));
    }
}

#[test]
fn examples_of_sections_open() {
    let examples = blocks_of_pages("toml");
    assert!(examples.len() > 40, "{} examples", examples.len());
    for (page, text) in examples {
        let more: Value = toml::from_str(&text).unwrap_or_else(|e| panic!("{page}: {e}\n{text}"));
        let mut site = match more.pointer("/platform/kind").and_then(Value::as_str) {
            Some("swarm") => least_on_a_swarm(),
            Some("compose") => least_with_compose(),
            // Only a swarm reads these.
            None if more.get("nodes").is_some() => least_on_a_swarm(),
            _ => least(),
        };
        merge(&mut site, more);
        open(site).unwrap_or_else(|e| panic!("{page}: {e} {:?}\n{text}", e.hint_text()));
    }
}

/// No key is near to this one, so that the error lists all that are known.
const UNKNOWN: &str = "zzzzzzzz";

/// The words that a hint lists.
fn listed(error: &Error) -> BTreeSet<String> {
    let hint = error.hint_text().unwrap_or_default();
    let known = hint
        .strip_prefix("known are ")
        .unwrap_or_else(|| panic!("{error}: {hint}"));
    known.split(", ").map(str::to_owned).collect()
}

/// A site with this table as `group.name`, or as `group`.
pub fn with(mut site: Value, group: &str, name: Option<&str>, table: Value) -> Value {
    match name {
        Some(name) => site[group] = json!({ name: table }),
        None => site[group] = table,
    }
    site
}

fn refusal(site: Value) -> Error {
    match open(site) {
        Ok(_) => panic!("a site with an unknown key opens"),
        Err(error) => error,
    }
}

/// The keys of the table below a heading, each with its row.
pub fn documented(heading: &str) -> Vec<(String, String)> {
    let mut lines = DOCUMENT.lines().skip_while(|line| {
        line.trim_start_matches('#').trim() != heading || !line.starts_with('#')
    });
    assert!(lines.next().is_some(), "no section is headed {heading:?}");
    lines
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let key = line.strip_prefix("| `")?.split_once('`')?.0;
            Some((key.to_owned(), line.to_owned()))
        })
        .collect()
}

/// Whether the section headed so documents exactly the keys that its code knows.
fn compare(heading: &str, group: &str, name: Option<&str>, kind: Option<&str>) {
    compare_in(least(), heading, group, name, kind);
}

/// The same in another site.
fn compare_in(site: Value, heading: &str, group: &str, name: Option<&str>, kind: Option<&str>) {
    let mut table = Map::new();
    if let Some(kind) = kind {
        table.insert("kind".to_owned(), kind.into());
    }
    table.insert(UNKNOWN.to_owned(), 1.into());
    let known = listed(&refusal(with(
        site.clone(),
        group,
        name,
        table.clone().into(),
    )));
    let rows = documented(heading);
    let keys: BTreeSet<String> = rows
        .iter()
        .map(|(key, _)| key.clone())
        .filter(|key| key != "kind")
        .collect();
    let known: BTreeSet<String> = known.into_iter().filter(|key| key != "kind").collect();
    assert_eq!(keys, known, "{heading}: documented, known");

    // The first key that is missed must be marked as required.
    table.remove(UNKNOWN);
    if let Err(error) = open(with(site, group, name, table.into()))
        && error.code() == "config.missing_key"
    {
        let text = error.to_string();
        let missing = text.split('`').nth(1).unwrap_or("kind");
        let row = rows.iter().find(|(key, _)| key == missing);
        assert!(
            row.is_some_and(|(_, row)| row.contains("**required**")),
            "{heading}: {missing} is required: {row:?}"
        );
    }
}

/// The kinds that a section may have.
pub fn kinds(group: &str) -> BTreeSet<String> {
    listed(&refusal(with(
        least(),
        group,
        Some("x"),
        json!({ "kind": UNKNOWN }),
    )))
}

#[test]
fn every_key_is_documented_and_every_documented_key_exists() {
    compare("[site]", "site", None, None);
    compare("[platform]", "platform", None, None);
    compare("[services.NAME]", "services", Some("x"), None);
    compare("[volumes.NAME]", "volumes", Some("x"), None);
    let swarm = least_on_a_swarm;
    for (heading, group, name, kind) in [
        (
            "[platform] kind = \"swarm\"",
            "platform",
            None,
            Some("swarm"),
        ),
        ("[nodes.NAME]", "nodes", Some("x"), None),
        ("[services.NAME] on a swarm", "services", Some("x"), None),
        ("[volumes.NAME] on a swarm", "volumes", Some("x"), None),
    ] {
        compare_in(swarm(), heading, group, name, kind);
    }
    let compose = least_with_compose;
    for (heading, group, name, kind) in [
        (
            "[platform] kind = \"compose\"",
            "platform",
            None,
            Some("compose"),
        ),
        ("[services.NAME] with Compose", "services", Some("x"), None),
        ("[volumes.NAME] with Compose", "volumes", Some("x"), None),
    ] {
        compare_in(compose(), heading, group, name, kind);
    }
    compare("[maintenance]", "maintenance", None, Some("nginx"));
    let heading = "[maintenance] kind = \"command\"";
    compare(heading, "maintenance", None, Some("command"));
    for group in ["stores", "components", "checks", "hooks"] {
        for kind in kinds(group) {
            let heading = format!("[{group}.NAME] kind = \"{kind}\"");
            compare(&heading, group, Some("x"), Some(&kind));
        }
    }
}

/// The keys of each kind of section in a file, those that are commented out too.
fn keys_by_section(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut group, mut found) = (String::new(), BTreeSet::new());
    let mut end = |group: &str, found: &mut BTreeSet<String>| {
        let found = std::mem::take(found);
        keys.entry(group.to_owned()).or_default().extend(found);
    };
    for line in text.lines() {
        let line = line.trim_start_matches('#').trim();
        if let Some(name) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            end(&group, &mut found);
            group = name.split('.').next().unwrap_or(name).to_owned();
        } else if let Some((key, value)) = line.split_once(" = ") {
            if key == "kind" {
                group = format!("{group} {}", value.trim_matches('"'));
            }
            found.insert(key.to_owned());
        }
    }
    end(&group, &mut found);
    keys
}

/// The example of a swarm is where an operator learns what can be said: every key is there, at
/// work or commented out.
#[test]
fn the_example_of_a_swarm_has_every_key() {
    let example = include_str!("../../../examples/hosting-platform/restore.toml.in");
    let there = keys_by_section(example);
    let mut missing = Vec::new();
    let mut look = |heading: &str, section: &str| {
        let there = there.get(section).cloned().unwrap_or_default();
        let documented = documented(heading).into_iter().map(|(key, _)| key);
        let absent = documented.filter(|key| !there.contains(key));
        missing.extend(absent.map(|key| format!("[{section}] {key}")));
    };
    look("[site]", "site");
    look("[platform] kind = \"swarm\"", "platform swarm");
    look("[nodes.NAME]", "nodes");
    look("[services.NAME] on a swarm", "services");
    look("[volumes.NAME] on a swarm", "volumes");
    look("[maintenance]", "maintenance nginx");
    for group in ["components", "checks", "hooks"] {
        for kind in kinds(group) {
            look(
                &format!("[{group}.NAME] kind = \"{kind}\""),
                &format!("{group} {kind}"),
            );
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn kinds_and_sections_are_all_there() {
    assert_eq!(
        kinds("stores"),
        BTreeSet::from(["directory", "ssh", "s3", "azure", "gcs"].map(str::to_owned))
    );
    let mut site = least();
    site[UNKNOWN] = json!({});
    for section in listed(&refusal(site)) {
        assert!(
            DOCUMENT.contains(&format!("[{section}")),
            "no word about [{section}]"
        );
    }
}

/// A file with random bytes changed, cut out and doubled: an error of one line, or a site.
#[test]
fn no_file_makes_the_parser_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % limit as u64).unwrap()
    };
    let mut real = blocks("toml restore.toml");
    real.extend(blocks("toml"));
    let letters = b"[]{}=\"'\n.,#\\ \0-+eE90\xff\xc3\xa4";
    let base = tempfile::tempdir().unwrap();
    let (mut good, mut bad) = (0, 0);
    for _ in 0..3000 {
        let mut text = real[random(real.len())].clone().into_bytes();
        for _ in 0..=random(3) {
            let at = random(text.len() + 1);
            match random(5) {
                0 if at < text.len() => text[at] = letters[random(letters.len())],
                1 => text.truncate(at.max(1)),
                2 => text.insert(at, u8::try_from(random(256)).unwrap()),
                3 => {
                    let to = (at + random(40)).min(text.len());
                    drop(text.drain(at..to));
                }
                _ => text.insert(at, letters[random(letters.len())]),
            }
        }
        let text = String::from_utf8_lossy(&text);
        let opened = SiteConfig::from_toml(&text)
            .and_then(|config| Site::from_config(config, base.path(), &Registry::default()));
        match opened {
            Ok(_) => good += 1,
            Err(error) => {
                bad += 1;
                assert!(!error.message().contains('\n'), "{error}\n{text}");
                assert!(error.code().contains('.'), "{error}");
            }
        }
    }
    assert!(good > 0 && bad > 1000, "{good} {bad}");
}
