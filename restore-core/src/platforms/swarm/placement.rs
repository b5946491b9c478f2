//! Constraints of services on which node they run, where another node has taken that one's place.
//!
//! `docker stack deploy` appends the constraints of a second file to those of the first, so a file of our own
//! cannot change one: the text of a compose file is changed before it is deployed. A change that means anything
//! else than that is refused.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::model::{Error, ErrorKind, Finding, Result};
use crate::platforms::docker::yaml;

/// What constraints call a node by.
const KEYS: [&str; 2] = ["node.hostname", "node.id"];

/// A constraint on which node it is: how it compares, the node, and the rest of the text.
fn constraint(text: &str) -> Option<(&'static str, &str, &str)> {
    let rest = KEYS.iter().find_map(|key| text.strip_prefix(*key))?;
    let rest = rest.trim_start_matches([' ', '\t']);
    let mut compared = ["==", "!="].into_iter();
    let (compares, rest) = compared.find_map(|it| Some((it, rest.strip_prefix(it)?)))?;
    let rest = rest.trim_start_matches([' ', '\t']);
    let end = rest.find(|c: char| !is_of_name(c)).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    // The rest of a name that holds a variable only the deployment knows.
    let is_whole = !name.is_empty() && !rest.starts_with(['$', '{']);
    is_whole.then_some((compares, name, rest))
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || ['-', '_', '.'].contains(&c)
}

/// The node that a constraint is on, where it is a constraint on one.
fn node_of(text: &str) -> Option<&str> {
    match constraint(text.trim()) {
        Some((_, name, "")) => Some(name),
        _ => None,
    }
}

/// The node that has taken the place of this one; the swarm compares names so.
pub(super) fn successor<'a>(name: &str, nodes: &'a BTreeMap<String, String>) -> Option<&'a str> {
    let mut nodes = nodes.iter();
    let found = nodes.find(|(old, _)| old.eq_ignore_ascii_case(name));
    found.map(|(_, new)| new.as_str())
}

/// The text, with each constraint in it on a node that has a successor being one on that.
fn rewritten(text: &str, nodes: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut begins) = (text, true);
    while let Some(c) = rest.chars().next() {
        if begins
            && let Some((compares, name, after)) = constraint(rest)
            && let Some(new) = successor(name, nodes)
        {
            out += &format!("node.hostname {compares} {new}");
            (rest, begins) = (after, false);
            continue;
        }
        out.push(c);
        begins = !is_of_name(c);
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    out
}

/// One constraint, as it is deployed.
pub(super) fn moved(constraint: &str, nodes: &BTreeMap<String, String>) -> String {
    match node_of(constraint) {
        Some(_) => rewritten(constraint, nodes),
        None => constraint.to_owned(),
    }
}

/// The nodes that constraints are on, as they call them.
pub(super) fn named<'a>(constraints: impl Iterator<Item = &'a str>) -> Vec<String> {
    let names: BTreeSet<&str> = constraints.filter_map(node_of).collect();
    names.into_iter().map(str::to_owned).collect()
}

/// What a compose file means with the constraints as they are deployed.
fn meant(value: Value, nodes: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => Value::String(moved(&text, nodes)),
        Value::Array(all) => all.into_iter().map(|it| meant(it, nodes)).collect(),
        Value::Object(all) => {
            let all = all.into_iter();
            Value::Object(all.map(|(key, it)| (key, meant(it, nodes))).collect())
        }
        other => other,
    }
}

/// A compose file as it is deployed; see [`Stacks::placed`](crate::contract::Stacks::placed).
pub(super) fn placed(compose: &str, nodes: &BTreeMap<String, String>) -> Result<String> {
    let text = rewritten(compose, nodes);
    let wanted = yaml::document(compose).map(|it| meant(it, nodes));
    match (yaml::document(&text), wanted) {
        (Ok(is), Ok(wanted)) if is == wanted => Ok(text),
        _ => Err(Error::new(
            ErrorKind::Preflight,
            "swarm.placement_unchanged",
            "a compose file names a node in a way in which it cannot be replaced by another one",
        )
        .hint("write each constraint on one line, such as \"node.hostname == NAME\"; or restore the files alone with redeploy = false, correct `placement` in them, and deploy by hand (`docker stack deploy`)")),
    }
}

/// What is told of where the services of a stack may run: their names, with their constraints.
pub(super) fn shown<'a>(
    stack: &str,
    services: impl Iterator<Item = (&'a str, &'a [String])>,
    nodes: &BTreeMap<String, String>,
) -> Option<Finding> {
    let of_one = |constraint: &String| {
        let is = moved(constraint, nodes);
        match is == *constraint {
            true => is,
            false => format!("{constraint}, deployed as {is}"),
        }
    };
    let bound = services.filter(|(_, constraints)| !constraints.is_empty());
    let told: Vec<String> = bound
        .map(|(name, constraints)| {
            let all: Vec<String> = constraints.iter().map(of_one).collect();
            format!("{name} ({})", all.join("; "))
        })
        .collect();
    if told.is_empty() {
        return None;
    }
    let finding = Finding::info(
        "swarm.placement",
        stack,
        format!("its services run where nodes are so: {}", told.join(", ")),
    );
    Some(match nodes.is_empty() {
        true => finding,
        false => finding.hint("the restored files keep the names of before: write the new ones into them, and into `node` of restore.toml, before the next deployment and the next backup"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        let all = all.iter();
        all.map(|(old, new)| ((*old).to_owned(), (*new).to_owned()))
            .collect()
    }

    #[test]
    fn a_constraint_is_on_the_node_that_took_the_place() {
        // Each is replaced once: two may take each other's place.
        let nodes = nodes(&[("old", "new"), ("n1abc", "new"), ("a", "b"), ("b", "a")]);
        for (constraint, is) in [
            ("node.hostname == old", "node.hostname == new"),
            ("node.hostname==OLD", "node.hostname == new"),
            ("node.hostname != old", "node.hostname != new"),
            ("node.id==n1abc", "node.hostname == new"),
            ("node.hostname == a", "node.hostname == b"),
            ("node.hostname == b", "node.hostname == a"),
            ("node.hostname == older", "node.hostname == older"),
            (
                "node.hostname == old.example.org",
                "node.hostname == old.example.org",
            ),
            ("node.hostname == ${OLD}", "node.hostname == ${OLD}"),
            ("node.hostname == old${X}", "node.hostname == old${X}"),
            ("node.labels.host == old", "node.labels.host == old"),
            ("node.role == manager", "node.role == manager"),
        ] {
            assert_eq!(moved(constraint, &nodes), is, "{constraint}");
        }
        let all = ["node.id == x", "node.hostname != y", "node.role == worker"];
        assert_eq!(named(all.into_iter()), ["x", "y"]);
    }

    #[test]
    fn a_compose_file_is_deployed_with_its_constraints_alone_changed() {
        let nodes = nodes(&[("old", "new")]);
        let file = r#"# runs on node.hostname == old
x-where: &where {placement: {constraints: [node.hostname==old, "node.role == worker"]}}
services:
  db: {deploy: *where, hostname: old, environment: {WHERE: old}}
  web:
    deploy:
      placement:
        constraints:
          - node.hostname != old
          - 'node.id == old'   # the same
          - node.labels.old == old
"#;
        let is = placed(file, &nodes).unwrap();
        let wanted = file
            .replace("node.hostname==old", "node.hostname == new")
            .replace("node.hostname == old", "node.hostname == new")
            .replace("node.hostname != old", "node.hostname != new")
            .replace("node.id == old", "node.hostname == new");
        assert_eq!(is, wanted);
        assert_eq!(placed(file, &BTreeMap::new()).unwrap(), file);
        for odd in [
            // Words of something else, and a constraint of two lines.
            "services: {db: {command: 'run node.hostname == old'}}\n",
            "services:\n  db:\n    deploy: {placement: {constraints: [\"node.hostname ==\n      old\"]}}\n",
            "a: [",
        ] {
            let error = placed(odd, &nodes).unwrap_err();
            assert_eq!(error.code(), "swarm.placement_unchanged", "{odd}");
        }
    }

    #[test]
    fn where_services_may_run_is_told_with_what_is_deployed() {
        let constraints = ["node.hostname == old", "node.labels.db == yes"].map(str::to_owned);
        let none: [String; 0] = [];
        let services = || {
            let both = [
                ("shop_db", constraints.as_slice()),
                ("shop_web", none.as_slice()),
            ];
            both.into_iter()
        };
        let told = shown("shop", services(), &BTreeMap::new()).unwrap();
        assert!(
            told.message
                .ends_with(": shop_db (node.hostname == old; node.labels.db == yes)"),
            "{}",
            told.message
        );
        let told = shown("shop", services(), &nodes(&[("old", "new")])).unwrap();
        assert!(
            told.message
                .contains("(node.hostname == old, deployed as node.hostname == new; "),
            "{}",
            told.message
        );
        let free = [("shop_web", none.as_slice())].into_iter();
        assert_eq!(shown("shop", free, &BTreeMap::new()), None);
    }
}
