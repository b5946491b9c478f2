//! Runs that die, or fail, at a boundary: the example `crash`, and what it prints.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::hosting::text;
use crate::programs::example;

/// Runs the example `crash` with these arguments after the configuration: the action, and the boundary
/// that kills it, by its number or its record, `error:BOUNDARY` or `never`. What it printed.
///
/// # Panics
///
/// Where it was killed and should not have been, or the other way round.
#[track_caller]
pub fn crash(config: &Path, args: &[&str]) -> String {
    let (killed, printed) = crash_if_reached(config, args);
    let meant_to_be = args
        .get(1)
        .is_some_and(|when| *when != "never" && !when.starts_with("error:"));
    assert_eq!(killed, meant_to_be, "{args:?}: {printed}");
    printed
}

/// The same where the run may end before that boundary: whether it was killed, and what it printed.
pub fn crash_if_reached(config: &Path, args: &[&str]) -> (bool, String) {
    let output = Command::new(example("crash"))
        .arg(config)
        .args(args)
        .output()
        .expect("the example runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    (output.status.code().is_none(), text(&output) + &errors)
}

/// One boundary of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// Its number, from 0.
    pub index: usize,
    /// What was about to be, or had just been, written down there: `intent stop:app`.
    pub record: String,
    /// The same without what is special about one component or service of its kind:
    /// `intent stop:*`, `fact volume/staged`.
    pub kind: String,
}

/// The boundaries of a run of the example `crash`, from what it printed; `config` says of which kind
/// the components are.
///
/// # Panics
///
/// Where the configuration cannot be read.
pub fn boundaries(printed: &str, config: &Path) -> Vec<At> {
    let config = std::fs::read_to_string(config).expect("the configuration");
    let kinds = component_kinds(&config);
    printed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(index, record)| {
            Some(At {
                index: index.parse().ok()?,
                record: record.to_owned(),
                kind: kind_of(record, &kinds),
            })
        })
        .collect()
}

/// Of which kind each component is.
fn component_kinds(config: &str) -> BTreeMap<&str, &str> {
    let mut kinds = BTreeMap::new();
    let mut component = None;
    for line in config.lines() {
        if let Some(table) = line.strip_prefix('[') {
            let name = table.split(']').next().unwrap_or_default();
            component = name.strip_prefix("components.");
        }
        let value = line.strip_prefix("kind").map(str::trim_start);
        let value = value.and_then(|rest| rest.strip_prefix('='));
        if let (Some(name), Some(value)) = (component, value) {
            let quoted = value.split(['"', '\'']).nth(1);
            kinds.insert(name, quoted.unwrap_or_default());
        }
    }
    kinds
}

fn kind_of(record: &str, kinds: &BTreeMap<&str, &str>) -> String {
    let of = |name: &str| kinds.get(name).copied().unwrap_or("*").to_owned();
    match record.split_once(' ') {
        Some(("fact", rest)) => match rest.split_once('/') {
            Some((name, key)) => {
                format!("fact {}/{}", of(name), key.split(':').next().unwrap_or(key))
            }
            None => record.to_owned(),
        },
        Some((word, step)) => match step.rsplit_once(':') {
            // There is only one of these each.
            Some((what, _)) if what.ends_with("maintenance") || what.ends_with("check") => {
                record.to_owned()
            }
            Some((what, name)) => format!("{word} {what}:{}", of(name)),
            None => record.to_owned(),
        },
        None => record.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_a_record_without_its_names() {
        let config = "[site]\nname = 'x'\n[components.shop]\nkind = \"postgres\"\n\
            [components.grafana]\nvolume = 'g'\nkind   = 'volume'\n[services.app]\nkind = 'none'\n";
        let kinds = component_kinds(config);
        for (record, kind) in [
            ("run", "run"),
            ("intent stage:shop", "intent stage:postgres"),
            ("done undo:cut-over:grafana", "done undo:cut-over:volume"),
            ("intent stop:app", "intent stop:*"),
            ("done maintenance:on", "done maintenance:on"),
            ("intent check:inside", "intent check:inside"),
            ("fact grafana/staged", "fact volume/staged"),
        ] {
            assert_eq!(kind_of(record, &kinds), kind);
        }
    }
}
