//! The layers of the source: a module imports only from its own layer and from those above it.

use std::path::{Path, PathBuf};

/// From the top, as ARCHITECTURE.md explains them.
const LAYERS: [&str; 15] = [
    "model",
    "sys",
    "archive",
    "swap",
    "contract",
    "backup",
    "engine",
    "stores",
    "components",
    "platforms",
    "checks",
    "maintenance",
    "site",
    "conformance",
    "fuzzing",
];

/// Folders that know nothing of their neighbours of the same layer.
const APART: [(&str, &str); 5] = [
    ("platforms::docker", "platforms::swarm"),
    ("platforms::docker", "platforms::compose"),
    ("platforms::compose", "platforms::swarm"),
    ("platforms::swarm", "platforms::compose"),
    ("platforms::docker", "platforms::local"),
];

/// What a module imports although it must not, a line each.
fn wrong(module: &str, source: &str) -> Vec<String> {
    let own = module.split("::").next().unwrap_or_default();
    let rank = |layer: &str| LAYERS.iter().position(|it| *it == layer);
    let Some(own_rank) = rank(own) else {
        return vec![format!("{module} is in no layer")];
    };
    let mut wrong = Vec::new();
    for path in paths(module, source) {
        let layer = path.split("::").next().unwrap_or_default();
        match rank(layer) {
            None => wrong.push(format!(
                "{module} uses crate::{path}: inside of the library name the layer, not what embedders see"
            )),
            Some(rank) if rank > own_rank => {
                wrong.push(format!("{module} uses crate::{path}, which lies below it"));
            }
            Some(_) => {}
        }
        let apart = |(from, to): &&(&str, &str)| {
            module.starts_with(from) && (path == *to || path.starts_with(&format!("{to}::")))
        };
        if let Some((from, to)) = APART.iter().find(apart) {
            wrong.push(format!(
                "{module} uses crate::{path}: {from} is apart from {to}"
            ));
        }
    }
    wrong
}

/// The paths from the crate's root that the code of a module names; its tests do not count.
fn paths(module: &str, source: &str) -> Vec<String> {
    let code: String = source
        .lines()
        .take_while(|line| line.trim_end() != "#[cfg(test)]" || line.starts_with(' '))
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut found = Vec::new();
    let mut rest = code.as_str();
    while let Some(at) = rest.find("crate::") {
        let before = rest[..at].chars().next_back();
        rest = &rest[at + "crate::".len()..];
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        found.extend(expanded(rest));
    }
    // As many steps up as the module is deep lead to the crate's root.
    let up = "super::".repeat(module.split("::").count());
    found.extend(code.matches(&up).map(|_| "super".to_owned()));
    found
}

/// `a::{b, c::d}` as `a::b`, `a::c`: the first two names of each path.
fn expanded(text: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
        text[..end.unwrap_or(text.len())].to_owned()
    };
    let members = |text: &str| -> Vec<String> {
        let (mut depth, mut start, mut members) = (0, 0, Vec::new());
        for (at, c) in text.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    members.push(text[start..at].trim().to_owned());
                    break;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    members.push(text[start..at].trim().to_owned());
                    start = at + 1;
                }
                _ => {}
            }
        }
        members.retain(|member| !member.is_empty());
        members
    };
    if let Some(group) = text.strip_prefix('{') {
        return members(group).iter().flat_map(|it| expanded(it)).collect();
    }
    let first = name(text);
    match text[first.len()..].strip_prefix("::") {
        None => vec![first],
        Some(rest) => match rest.strip_prefix('{') {
            Some(group) => members(group)
                .iter()
                .map(|member| format!("{first}::{}", name(member)))
                .collect(),
            None => vec![format!("{first}::{}", name(rest))],
        },
    }
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "tests") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_module_imports_from_a_layer_below_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 200, "{} files of {root:?}", files.len());
    let mut all = Vec::new();
    for file in files {
        let module = file.strip_prefix(&root).unwrap().with_extension("");
        let module = module.to_str().unwrap().replace('/', "::");
        let module = module.strip_suffix("::mod").unwrap_or(&module);
        // It lists the layers, and names for embedders what is public of them.
        if module != "lib" {
            all.extend(wrong(module, &std::fs::read_to_string(&file).unwrap()));
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn an_import_against_the_direction_is_found() {
    for (module, source) in [
        ("model::error", "use crate::sys::space::Space;"),
        ("sys::trust", "use crate::{model::Error, engine::run};"),
        (
            "contract::component",
            "fn f() -> crate::components::redis::Redis",
        ),
        ("engine::run::undo", "use crate::site::Site;"),
        ("components::redis", "use crate::platforms::local;"),
        ("stores::ssh", "use crate::component::Component;"),
        ("model::time", "use super::super::sys::child;"),
        (
            "platforms::docker::exec",
            "use crate::platforms::swarm::view::View;",
        ),
        (
            "platforms::compose::stop",
            "use crate::platforms::swarm::scale::desired;",
        ),
        ("elsewhere", ""),
    ] {
        assert_eq!(wrong(module, source).len(), 1, "{module}: {source}");
    }
    for (module, source) in [
        (
            "engine::run",
            "use crate::model::{Error, Result};\nuse super::plan::Plan;",
        ),
        (
            "platforms::swarm::view",
            "use crate::platforms::docker::engine::Engine;",
        ),
        (
            "sys::trust",
            "/// See crate::engine.\n#[cfg(test)]\nmod tests { use crate::site::Site; }",
        ),
    ] {
        assert_eq!(wrong(module, source), [""; 0], "{module}: {source}");
    }
}
