//! The layers of the source: a module imports only from its own layer and from those above it.

use std::path::{Path, PathBuf};

/// From the top, as ARCHITECTURE.md explains them.
const LAYERS: [&str; 16] = [
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
    "hooks",
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

/// The lines of a source file that are neither comments nor for tests only. A line `#[cfg(test)]` takes away
/// the item after it, up to the line of the same depth that ends it, and nothing else of the file.
fn code(source: &str) -> Vec<&str> {
    let mut code = Vec::new();
    // How deep the item is that is left out, and whether a bracket of it is open.
    let mut left_out: Option<(usize, bool)> = None;
    for line in source.lines() {
        let text = line.trim();
        if text.is_empty() || text.starts_with("//") {
            continue;
        }
        let depth = line.len() - line.trim_start().len();
        match left_out {
            None if text == "#[cfg(test)]" => left_out = Some((depth, false)),
            None => code.push(line),
            // What is deeper is inside of it; of what is not, a text of many lines may have some too.
            Some((own, open)) => {
                let closes = text.starts_with(['}', ')', ']']);
                if depth != own || text.starts_with("#[") || (open && !closes) {
                    continue;
                }
                let opens = text.ends_with(['{', '(', '[']);
                let ends = !opens && text.ends_with(['}', ';', ',']);
                left_out = (!ends).then_some((own, opens));
            }
        }
    }
    code
}

/// The paths from the crate's root that the code of a module names; its tests do not count.
fn paths(module: &str, source: &str) -> Vec<String> {
    let code = code(source).join("\n");
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
    sources_but(directory, &["tests"], found);
}

fn sources_but(directory: &Path, passed_over: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let name = path.file_name().unwrap();
            if !passed_over.iter().any(|it| name == *it) {
                sources_but(&path, passed_over, found);
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
        // What comes after something for tests is code again.
        (
            "model::x",
            "#[cfg(test)]\nuse crate::model::X;\nuse crate::site::Site;",
        ),
        (
            "model::x",
            "#[cfg(test)]\nmod tests {\n    use crate::site::A;\n}\n\nuse crate::site::B;",
        ),
        (
            "model::x",
            "#[cfg(test)]\nfn f(\n    a: crate::site::A,\n) -> u8 {\n    1\n}\nuse crate::site::B;",
        ),
        (
            "model::x",
            "fn f() {\n    #[cfg(test)]\n    crate::site::a();\n    crate::site::b();\n}",
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
        (
            "sys::trust",
            "#[cfg(test)]\n#[path = \"x.rs\"]\nmod tests {\n    const A: &str = \"\na: b,\n\";\n    use crate::site::Site;\n}",
        ),
    ] {
        assert_eq!(wrong(module, source), [""; 0], "{module}: {source}");
    }
}

/// What a source file decides by a code, a kind of component or the text of a message, a line each.
/// What must be known of an error is its kind or its [reason](restore_core::Error::because), of a
/// finding or an inspection a value that it has.
fn decides_by_text(source: &str, engine: bool) -> Vec<String> {
    // Without line breaks, so that a call and what is done with it stand side by side.
    let mut code = String::new();
    for line in self::code(source).into_iter().map(str::trim) {
        if !line.starts_with('.') && !line.starts_with(')') {
            code.push(' ');
        }
        code.push_str(line);
    }
    let everywhere = [
        ".code() == \"",
        ".code() != \"",
        ".code == \"",
        ".code != \"",
        "error.code() { \"",
        " e.code() { \"",
        "matches!(error.code(),",
        "matches!( error.code(),",
        ".contains(&error.code())",
        ".contains(&e.code())",
        "error.code().starts_with(\"",
        ".message().starts_with(",
        ".message().split(",
    ];
    let in_engine = [
        ".code() ==",
        ".code() !=",
        ".code ==",
        ".code !=",
        ".code().starts_with(",
        ".code.starts_with(",
        ".message().contains(",
        ".message.contains(",
        ".message.starts_with(",
        ".kind == \"",
        ".kind() == \"",
        ".kind != \"",
        ".kind() != \"",
        ".kind().starts_with(",
        ".detail.starts_with(",
        ".detail.contains(",
        ".summary.contains(",
        ".to_string().contains(",
        "\"undo:\"",
        "\"undo:{",
    ];
    let more: &[&str] = if engine { &in_engine } else { &[] };
    everywhere
        .iter()
        .chain(more)
        .flat_map(|what| code.match_indices(what))
        .map(|(at, _)| {
            let from = code[..at].rfind(' ').map_or(0, |from| from + 1);
            code[from..].chars().take(80).collect()
        })
        .collect()
}

#[test]
fn nothing_is_decided_by_a_code_or_a_text() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut all = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap().to_str().unwrap();
        // It says of what is wrong in a file where in it that is, which it takes from the words.
        if name == "site/config_check/mod.rs" {
            continue;
        }
        let source = std::fs::read_to_string(&file).unwrap();
        let engine = name.starts_with("engine/");
        let found = decides_by_text(&source, engine).into_iter();
        all.extend(found.map(|what| format!("{name}: {what}")));
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn a_decision_by_a_code_or_a_text_is_found() {
    for source in [
        "if finding.code == \"run.lost\" {}",
        "Err(e) if e\n    .code() == \"x.y\" => {}",
        "let x = matches!(\n    error.code(),\n    \"x.y\" | \"x.z\"\n);",
        "map_err(|error| match error.code() {\n    \"x.y\" => a,",
        "if [\"x.y\"].contains(&error.code()) {}",
    ] {
        assert_eq!(decides_by_text(source, false).len(), 1, "{source}");
    }
    for source in [
        "if e.code() == NEVER {}",
        "if finding.message.contains(run) {}",
        "if component.kind() == \"postgres\" {}",
        "if state.detail.starts_with(\"killed\") {}",
        "let undone = format!(\"undo:{step}\");",
    ] {
        assert_eq!(decides_by_text(source, false).len(), 0, "{source}");
        assert_eq!(decides_by_text(source, true).len(), 1, "{source}");
    }
    for source in [
        "Finding::error(error.code(), run, error.message())",
        "if error.is(&Refused::NotFound) {}",
        "// if error.code() == \"x.y\" {}",
        "#[cfg(test)]\nmod tests { assert!(error.code() == \"x.y\"); }",
    ] {
        assert_eq!(decides_by_text(source, true), [""; 0], "{source}");
    }
}

#[test]
fn the_ways_through_the_source_lead_through_files_that_are_there() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(repository.join("ARCHITECTURE.md")).unwrap();
    let mut named = 0;
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let root = match line.contains("of `restore-cli/src`") {
            true => "restore-cli/src",
            false => "restore-core/src",
        };
        for name in line.split('`').skip(1).step_by(2) {
            if !name.ends_with(".rs") || name.contains("NAME") {
                continue;
            }
            named += 1;
            let places = [root, "restore-core/src", "."].map(|it| repository.join(it).join(name));
            let there = places.iter().any(|place| place.is_file());
            assert!(
                there,
                "ARCHITECTURE.md names {name}, which is not there: {line}"
            );
        }
    }
    assert!(named > 30, "{named} files");
}

/// Turned on for what it builds in, and named by no source: as the workspace's manifest says of it.
const NOT_NAMED: [(&str, &str); 1] = [("restore-core", "liblzma")];

#[test]
fn each_dependency_is_used() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let workspace: toml::Table = toml::from_str(&read(&repository.join("Cargo.toml"))).unwrap();
    let mut unused = Vec::new();
    for member in workspace["workspace"]["members"].as_array().unwrap() {
        let package = member.as_str().unwrap();
        let folder = repository.join(package);
        let manifest: toml::Table = toml::from_str(&read(&folder.join("Cargo.toml"))).unwrap();
        let mut files = Vec::new();
        for part in ["src", "tests", "examples"].map(|part| folder.join(part)) {
            if part.is_dir() {
                sources_but(&part, &[], &mut files);
            }
        }
        let code: String = files.iter().map(|file| read(file)).collect();
        for section in ["dependencies", "dev-dependencies"] {
            let Some(named) = manifest.get(section) else {
                continue;
            };
            for name in named.as_table().unwrap().keys() {
                let path = format!("{}::", name.replace('-', "_"));
                let is_used = code.match_indices(&path).any(|(at, _)| {
                    let before = code[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
                });
                if !is_used && !NOT_NAMED.contains(&(package, name.as_str())) {
                    unused.push(format!("{package} names {name} and does not use it"));
                }
            }
        }
    }
    assert!(unused.is_empty(), "{}", unused.join("\n"));
}
