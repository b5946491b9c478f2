//! Nodes that have taken the place of others.

use std::collections::{BTreeMap, BTreeSet};

use super::PlannedComponent;
use super::preflight::Preflight;
use crate::model::Finding;
use crate::model::text::shell_word;

/// Nodes as options of the command line, each with a blank before it.
pub(crate) fn node_options(nodes: &BTreeMap<String, String>) -> String {
    let nodes = nodes.iter();
    nodes
        .map(|(old, new)| format!(" --node {}", shell_word(&format!("{old}={new}"))))
        .collect()
}

impl Preflight<'_> {
    /// Has the platform take nodes for others, before anything is looked at.
    pub(super) fn substitute_nodes(&self) {
        if let Some(nodes) = self.site.platform().nodes() {
            nodes.substitute(&self.request.nodes);
        }
    }

    /// Refuses nodes that nothing is bound to, and those that there are not.
    pub(super) async fn look_at_nodes(&mut self, components: &[PlannedComponent]) {
        if self.request.nodes.is_empty() {
            return;
        }
        let platform = self.site.platform();
        let Some(nodes) = platform.nodes() else {
            let finding = Finding::error(
                "plan.no_nodes",
                platform.describe(),
                "--node names nodes, and only a swarm has them",
            )
            .hint("leave --node away");
            self.findings.push(finding);
            return;
        };
        let bound = match self.request.create {
            false if is_unread(components) => None,
            _ => Some(bound(components, nodes.configured())),
        };
        let found = match nodes.names().await {
            Ok(there) => findings(&self.request.nodes, bound.as_ref(), &there),
            Err(error) => vec![Finding::from_error("--node", &error)],
        };
        self.findings.extend(found);
    }

    /// Those of the request's nodes that the configuration names.
    pub(super) fn configured_nodes(&self) -> BTreeMap<String, String> {
        let configured = self.site.platform().nodes();
        let configured = configured.map(|it| it.configured()).unwrap_or_default();
        of_configured(self.request.nodes.clone(), &configured)
    }
}

/// Those that take the place of nodes that the configuration names, in whichever case.
fn of_configured(
    mut nodes: BTreeMap<String, String>,
    configured: &[String],
) -> BTreeMap<String, String> {
    nodes.retain(|old, _| configured.iter().any(|it| it.eq_ignore_ascii_case(old)));
    nodes
}

/// Whether something would be made whose nodes are known only to a plan that may make it.
fn is_unread(components: &[PlannedComponent]) -> bool {
    let mut components = components.iter();
    components.any(|it| it.inspection.makes_services.is_some())
}

/// The nodes that something of the plan is bound to.
fn bound(components: &[PlannedComponent], configured: Vec<String>) -> BTreeSet<String> {
    let deployed = components.iter().flat_map(|it| &it.inspection.bound_to);
    deployed.cloned().chain(configured).collect()
}

/// What speaks against taking nodes for others; `bound` are those that something is bound to, where that is known.
fn findings(
    nodes: &BTreeMap<String, String>,
    bound: Option<&BTreeSet<String>>,
    there: &[String],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (old, new) in nodes {
        if let Some(bound) = bound
            && !bound.iter().any(|it| it.eq_ignore_ascii_case(old))
        {
            findings.push(
                Finding::error(
                    "plan.node_unknown",
                    old,
                    format!(
                        "nothing of this plan is bound to a node of this name; it has: {}",
                        listed(bound.iter())
                    ),
                )
                .hint("correct the name before the = of --node, or leave it away"),
            );
        }
        match there.iter().filter(|it| *it == new).count() {
            1 => {}
            0 => findings.push(
                Finding::error(
                    "plan.node_absent",
                    new,
                    format!(
                        "there is no node of this name to take the place of {old}; there are: {}",
                        listed(there.iter())
                    ),
                )
                .hint("name one of them behind the = of --node, or let the node join (`docker swarm join-token worker`) and plan again"),
            ),
            count => findings.push(
                Finding::error(
                    "plan.node_ambiguous",
                    new,
                    format!("{count} nodes are called so, and which one is to take the place of {old} is not known"),
                )
                .hint("give one of them another host name, and plan again"),
            ),
        }
    }
    findings
}

fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Inspection;

    #[test]
    fn both_nodes_of_a_pair_must_be_known() {
        let there = ["one", "two", "twin", "twin"].map(str::to_owned);
        let told = |old: &str, new: &str, bound: &str| -> Vec<(String, String)> {
            let nodes = BTreeMap::from([(old.to_owned(), new.to_owned())]);
            let bound: BTreeSet<String> = bound.split_whitespace().map(str::to_owned).collect();
            let found = findings(&nodes, Some(&bound), &there);
            let found = found.iter();
            found.map(|it| (it.code.clone(), it.line())).collect()
        };
        assert!(told("db1", "two", "db1").is_empty());
        assert!(told("DB1", "two", "db1").is_empty());
        for (old, new, bound, code, says) in [
            (
                "db2",
                "two",
                "db1 web",
                "plan.node_unknown",
                "it has: db1, web",
            ),
            ("db2", "two", "", "plan.node_unknown", "it has: none"),
            (
                "db1",
                "three",
                "db1",
                "plan.node_absent",
                "there are: one, two, twin, twin",
            ),
            (
                "db1",
                "twin",
                "db1",
                "plan.node_ambiguous",
                "2 nodes are called so",
            ),
        ] {
            let found = told(old, new, bound);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].0, code, "{found:?}");
            assert!(found[0].1.contains(says), "{found:?}");
        }
    }

    #[test]
    fn nothing_is_known_of_the_nodes_of_a_stack_that_is_not_to_be_made() {
        let mut component = PlannedComponent {
            name: "stacks".to_owned(),
            kind: "files".to_owned(),
            paths: Vec::new(),
            stops: Vec::new(),
            background: false,
            deploys: None,
            inspection: Inspection::default(),
        };
        assert!(!is_unread(std::slice::from_ref(&component)));
        component.inspection.makes_services = Some("stack shop".to_owned());
        assert!(is_unread(&[component]));

        let there = ["one".to_owned()];
        let nodes = BTreeMap::from([("gone".to_owned(), "one".to_owned())]);
        assert!(findings(&nodes, None, &there).is_empty());
        // Whether there is a NEW is known in any case.
        let nodes = BTreeMap::from([("gone".to_owned(), "two".to_owned())]);
        let found = findings(&nodes, None, &there);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].code, "plan.node_absent");
    }

    #[test]
    fn nodes_of_the_configuration_are_those_in_any_case() {
        let nodes = ["DB1", "web"].map(|old| (old.to_owned(), "new".to_owned()));
        let configured = ["db1".to_owned()];
        let left = of_configured(BTreeMap::from(nodes), &configured);
        assert!(left.keys().eq(["DB1"]), "{left:?}");
    }

    #[test]
    fn nodes_are_options_again() {
        let nodes = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        assert_eq!(node_options(&nodes), " --node a=b");
        assert_eq!(node_options(&BTreeMap::new()), "");
    }
}
