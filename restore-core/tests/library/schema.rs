//! `docs/restore.schema.json`: which keys a `restore.toml` has and what they hold, asked of the code
//! that reads one, with the words of `docs/configuration.md`.

use std::collections::BTreeSet;

use restore_core::Error;
use serde_json::{Map, Value, json};

use super::documentation::{
    blocks, documented, kinds, least, least_on_a_swarm, least_with_compose, open, with,
};

const WRITTEN: &str = include_str!("../../../docs/restore.schema.json");

/// A section of the file: where it stands, and what it is called in the documentation.
struct Section {
    site: Value,
    heading: String,
    group: &'static str,
    named: bool,
    kind: Option<String>,
}

impl Section {
    fn new(site: Value, heading: &str, group: &'static str) -> Self {
        Self {
            site,
            heading: heading.to_owned(),
            group,
            named: heading.contains(".NAME]"),
            kind: None,
        }
    }

    fn of_kind(mut self, kind: &str) -> Self {
        self.kind = Some(kind.to_owned());
        self
    }

    /// What is said of a section in which a key has this value.
    fn error(&self, key: &str, value: Value) -> Option<Error> {
        let mut table = match (self.named, &self.kind) {
            // What it has in the least that opens is right.
            (false, None) => self.site[self.group]
                .as_object()
                .cloned()
                .unwrap_or_default(),
            (true, None) => {
                let known = self.site[self.group].as_object();
                let first = known.and_then(|known| known.values().next());
                first
                    .and_then(Value::as_object)
                    .cloned()
                    .unwrap_or_default()
            }
            _ => Map::new(),
        };
        if let Some(kind) = &self.kind {
            table.insert("kind".to_owned(), kind.as_str().into());
        }
        table.insert(key.to_owned(), value);
        let name = self.named.then_some("x");
        open(with(self.site.clone(), self.group, name, table.into())).err()
    }

    /// Whether the key may hold a value of this type; what it may be instead, where that is said.
    fn takes(&self, key: &str, value: Value) -> Result<(), Vec<String>> {
        let Some(error) = self.error(key, value) else {
            return Ok(());
        };
        let text = error.to_string();
        let quoted = |text: &str| -> Vec<String> {
            let words = text.split('`').skip(1).step_by(2);
            words.map(str::to_owned).collect()
        };
        if let Some((_, expected)) = text.split_once("expected ")
            && text.contains("unknown value")
        {
            return Err(quoted(expected));
        }
        let of_type = [
            "expected ",
            "is not a duration",
            "is neither true nor false",
            "did not match any variant",
        ];
        match error.code() == "config.bad_value" && of_type.iter().any(|it| text.contains(it)) {
            true => Err(Vec::new()),
            false => Ok(()),
        }
    }

    /// The type of one key.
    fn schema_of(&self, key: &str) -> Value {
        let mut any = Vec::new();
        match self.takes(key, "zzzzzzzz".into()) {
            Ok(()) => any.push(json!({ "type": "string" })),
            Err(words) if !words.is_empty() => any.push(json!({ "enum": words })),
            Err(_) if self.takes(key, "30s".into()).is_ok() => any.push(json!({
                "type": "string",
                "pattern": "^[+0-9Pp]",
            })),
            Err(_) => {}
        }
        match self.takes(key, json!([])) {
            Err(_) => {}
            Ok(()) => match self.takes(key, json!(["zzzzzzzz"])) {
                Ok(()) => any.push(json!({ "type": "array", "items": { "type": "string" } })),
                Err(words) if !words.is_empty() => {
                    any.push(json!({ "type": "array", "items": { "enum": words } }));
                }
                Err(_) => any.push(json!({ "type": "array" })),
            },
        }
        if self.takes(key, true.into()).is_ok() {
            any.push(json!({ "type": "boolean" }));
        }
        if self.takes(key, 1.into()).is_ok() {
            any.push(json!({ "type": "integer" }));
        }
        if self.takes(key, json!({ "file": "zzzzzzzz" })).is_ok()
            || self.takes(key, json!({})).is_ok()
        {
            any.push(json!({ "type": "object" }));
        }
        assert!(
            (1..4).contains(&any.len()),
            "{} {key}: {any:?} {:?}",
            self.heading,
            self.error(key, json!({})).map(|error| error.to_string())
        );
        match any.len() {
            1 => any.remove(0),
            _ => json!({ "anyOf": any }),
        }
    }

    fn schema(&self) -> Value {
        let mut properties = Map::new();
        let mut required = BTreeSet::new();
        if let Some(kind) = &self.kind {
            properties.insert("kind".to_owned(), json!({ "const": kind }));
            required.insert("kind".to_owned());
        }
        for (key, row) in documented(&self.heading) {
            if key == "kind" {
                continue;
            }
            let mut schema = match row.contains("| path or table |") {
                // Read late, where what else is missing is told first.
                true => json!({ "anyOf": [{ "type": "string" }, { "type": "object" }] }),
                false => self.schema_of(&key),
            };
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            let (default, words) = match cells.as_slice() {
                [_, _, default, words @ ..] => (*default, words.join(" | ")),
                _ => panic!("{}: {row}", self.heading),
            };
            let words = plain(&words);
            schema["description"] = match default {
                "**required**" | "none" => words,
                default => format!("{words} Default: {}.", plain(default)),
            }
            .into();
            if default == "**required**" {
                required.insert(key.clone());
            }
            properties.insert(key, schema);
        }
        if self.group == "components" {
            let words = "A backup may be without it. Default: false.";
            let optional = json!({ "type": "boolean", "description": words });
            properties.insert("optional".to_owned(), optional);
        }
        let mut schema = json!({
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        });
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        schema
    }
}

/// The words of a cell without its marks; code stays as it is.
fn plain(words: &str) -> String {
    let mut text = String::new();
    let mut rest = words;
    while let Some(at) = rest.find(['`', '[', '*', '|']) {
        text += &rest[..at];
        let mark = &rest[at..=at];
        rest = &rest[at + 1..];
        if mark == "`" {
            let (code, after) = rest.split_once('`').unwrap_or((rest, ""));
            text += code;
            rest = after;
        } else if mark == "[" {
            match link(rest) {
                Some((label, after)) => {
                    text += &plain(label);
                    rest = after;
                }
                None => text.push('['),
            }
        }
    }
    text += rest;
    text.trim().to_owned()
}

/// The words of a link `[words](where)`, and what follows it, of a text that begins after the bracket.
fn link(rest: &str) -> Option<(&str, &str)> {
    let mut in_code = false;
    let mut chars = rest.char_indices();
    let end = chars.find(|(_, c)| {
        in_code ^= *c == '`';
        *c == ']' && !in_code
    });
    let (label, after) = rest.split_at(end?.0);
    let (_, after) = after.strip_prefix("](")?.split_once(')')?;
    Some((label, after))
}

#[test]
fn marks_are_taken_off_and_code_stays() {
    for (words, wanted) in [
        (
            "where `variables` of `[platform]` names them; see [From **nothing**](runs.md#a): all",
            "where variables of [platform] names them; see From nothing: all",
        ),
        (
            "`KIND NAME`; `*` stands for anything",
            "KIND NAME; * stands for anything",
        ),
        ("of [`[site]`](#site), `[]`", "of [site], []"),
        ("a [ b", "a [ b"),
    ] {
        assert_eq!(plain(words), wanted);
    }
}

fn of_kinds(group: &'static str) -> Value {
    let schemas = kinds(group).into_iter().map(|kind| {
        let heading = format!("[{group}.NAME] kind = \"{kind}\"");
        Section::new(least(), &heading, group)
            .of_kind(&kind)
            .schema()
    });
    json!({
        "type": "object",
        "additionalProperties": { "oneOf": schemas.collect::<Vec<_>>() },
    })
}

fn generated() -> Value {
    let (local, swarm, compose) = (least, least_on_a_swarm, least_with_compose);
    let platforms = |group: &'static str| {
        let (here, on_a_swarm, with_compose) = (
            format!("[{group}.NAME]"),
            format!("[{group}.NAME] on a swarm"),
            format!("[{group}.NAME] with Compose"),
        );
        json!({
            "type": "object",
            "additionalProperties": { "anyOf": [
                Section::new(local(), &here, group).schema(),
                Section::new(swarm(), &on_a_swarm, group).schema(),
                Section::new(compose(), &with_compose, group).schema(),
            ]},
        })
    };
    let mut here = Section::new(local(), "[platform]", "platform").schema();
    here["properties"]["kind"] = json!({ "const": "local" });
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "restore.toml",
        "description": "One site: what it is made of, and how it is restored.",
        "type": "object",
        "required": ["site", "stores", "components"],
        "additionalProperties": false,
        "properties": {
            "site": Section::new(local(), "[site]", "site").schema(),
            "stores": of_kinds("stores"),
            "platform": { "oneOf": [
                here,
                Section::new(swarm(), "[platform] kind = \"swarm\"", "platform").of_kind("swarm").schema(),
                Section::new(compose(), "[platform] kind = \"compose\"", "platform").of_kind("compose").schema(),
            ]},
            "nodes": {
                "type": "object",
                "additionalProperties": Section::new(swarm(), "[nodes.NAME]", "nodes").schema(),
            },
            "services": platforms("services"),
            "volumes": platforms("volumes"),
            "components": of_kinds("components"),
            "checks": of_kinds("checks"),
            "hooks": of_kinds("hooks"),
            "maintenance": { "oneOf": [
                Section::new(local(), "[maintenance]", "maintenance").of_kind("nginx").schema(),
                Section::new(local(), "[maintenance] kind = \"command\"", "maintenance").of_kind("command").schema(),
            ]},
        },
    })
}

#[test]
fn the_schema_is_what_the_code_reads() {
    let text = format!("{:#}\n", generated());
    if std::env::var_os("RESTORE_UPDATE_SCHEMA").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/restore.schema.json");
        std::fs::write(path, text).unwrap();
        return;
    }
    assert!(
        text == WRITTEN,
        "docs/restore.schema.json is not what the code reads; RESTORE_UPDATE_SCHEMA=1 writes it anew"
    );
}

/// Why a value is none of a schema; as much of JSON Schema as the file has.
fn against(schema: &Value, value: &Value) -> Result<(), String> {
    let known = [
        "$schema",
        "title",
        "description",
        "type",
        "required",
        "properties",
        "additionalProperties",
        "items",
        "anyOf",
        "oneOf",
        "const",
        "enum",
        "pattern",
    ];
    for keyword in schema.as_object().unwrap().keys() {
        assert!(
            known.contains(&keyword.as_str()),
            "{keyword} is not looked at"
        );
    }
    if let Some(wanted) = schema["type"].as_str() {
        let is = match value {
            Value::String(_) => "string",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
            Value::Null => "null",
        };
        if is != wanted {
            return Err(format!("{value} is no {wanted}"));
        }
    }
    if let Some(wanted) = schema.get("const").filter(|wanted| *wanted != value) {
        return Err(format!("{value} is not {wanted}"));
    }
    if let Some(words) = schema["enum"].as_array().filter(|it| !it.contains(value)) {
        return Err(format!("{value} is none of {words:?}"));
    }
    if let (Some(_), Some(text)) = (schema.get("pattern"), value.as_str())
        && !text.starts_with(|it| "+0123456789Pp".contains(it))
    {
        return Err(format!("{text:?} is no duration"));
    }
    for (keyword, most) in [("anyOf", usize::MAX), ("oneOf", 1)] {
        if let Some(schemas) = schema[keyword].as_array() {
            let tried: Vec<_> = schemas.iter().map(|it| against(it, value)).collect();
            let fit = tried.iter().filter(|it| it.is_ok()).count();
            if fit == 0 || fit > most {
                return Err(format!("{fit} of {keyword} fit {value}: {tried:?}"));
            }
        }
    }
    if let Some(items) = value.as_array().filter(|_| schema.get("items").is_some()) {
        items
            .iter()
            .try_for_each(|it| against(&schema["items"], it))?;
    }
    let Some(table) = value.as_object() else {
        return Ok(());
    };
    for key in schema["required"].as_array().into_iter().flatten() {
        if !table.contains_key(key.as_str().unwrap()) {
            return Err(format!("{key} is missing in {value}"));
        }
    }
    for (key, value) in table {
        match (
            schema["properties"].get(key),
            &schema["additionalProperties"],
        ) {
            (Some(schema), _) => against(schema, value).map_err(|e| format!("{key}: {e}"))?,
            (None, Value::Bool(false)) => return Err(format!("unknown key {key}")),
            (None, Value::Object(_)) => against(&schema["additionalProperties"], value)
                .map_err(|e| format!("{key}: {e}"))?,
            (None, _) => {}
        }
    }
    Ok(())
}

#[test]
fn every_example_is_right_by_the_schema() {
    let schema: Value = serde_json::from_str(WRITTEN).unwrap();
    let examples = [
        include_str!("../../../examples/local-platform/restore.toml.in"),
        include_str!("../../../examples/hosting-platform/restore.toml.in"),
        include_str!("../../../examples/compose-platform/restore.toml.in"),
    ];
    let whole = blocks("toml restore.toml");
    for text in examples.into_iter().chain(whole.iter().map(String::as_str)) {
        let value: Value = toml::from_str(text).unwrap();
        against(&schema, &value).unwrap_or_else(|e| panic!("{e}\n{text}"));
    }
    for text in blocks("toml") {
        let value: Value = toml::from_str(&text).unwrap();
        for (key, value) in value.as_object().unwrap() {
            let schema = &schema["properties"][key];
            // Some examples show a part of a section.
            let Err(error) = against(schema, value) else {
                continue;
            };
            assert!(error.contains("is missing in"), "{key}: {error}\n{text}");
        }
    }
}

#[test]
fn what_the_code_refuses_is_wrong_by_the_schema_too() {
    let schema: Value = serde_json::from_str(WRITTEN).unwrap();
    let site = |more: &str| -> Value {
        let least = "[site]\nname = 'x'\nstate = 's'\n[stores.a]\nkind = 'directory'\npath = 'p'\n[components]\n";
        toml::from_str(&format!("{least}{more}")).unwrap()
    };
    against(&schema, &site("")).unwrap();
    for more in [
        "[sites]\n",
        "[components.x]\nkind = 'volume'\nvolum = 'x'\n",
        "[components.x]\nkind = 'volume'\n",
        "[components.x]\nkind = 'redis'\nvolume = 3\nservice = 'x'\n",
        "[components.x]\nkind = 'redsi'\nvolume = 'x'\nservice = 'x'\n",
        "[hooks.x]\nkind = 'command'\ncommand = ['x']\nwhen = ['before_stop']\n",
        "[hooks.x]\nkind = 'command'\ncommand = ['x']\nwhen = ['after-swap']\ntimeout = 'soon'\n",
        "[services.x]\ncommand = 'x'\n",
        "[nodes.x]\nendpoint = true\n",
    ] {
        let value = site(more);
        assert!(against(&schema, &value).is_err(), "{more}");
        assert!(open(value).is_err(), "{more}");
    }
}
