//! Components whose services are gone, where another component of the site deploys them: what comes first.

use super::preflight::Preflight;
use super::{PlanRequest, PlannedComponent, node_options};
use crate::contract::{Needed, Prerequisite, SharedComponent};
use crate::model::{ErrorKind, Finding, Severity};

/// What components deploy that is not there, in words; empty where all of it is there.
pub(super) fn absent(components: &[PlannedComponent]) -> Vec<(&str, &str)> {
    let made = components.iter().filter_map(|it| {
        let what = it.inspection.makes_services.as_deref()?;
        Some((it.name.as_str(), what))
    });
    made.collect()
}

/// The services that are gone of what components deploy, of which the rest is there, in words.
fn gone_services(components: &[PlannedComponent]) -> Vec<(&str, String)> {
    let lacking = components.iter().filter_map(|it| {
        let services = &it.inspection.services_made;
        let what = format!("service {}", services.join(" and service "));
        (!services.is_empty()).then_some((it.name.as_str(), what))
    });
    lacking.collect()
}

impl Preflight<'_> {
    /// What speaks against deployments. What they need and do not find a component of the plan brings, or it is told.
    pub(super) async fn look_at_prerequisites(&mut self, components: &mut [PlannedComponent]) {
        let (mut all, mut found) = (Vec::new(), Vec::new());
        for planned in components.iter_mut() {
            all.append(&mut planned.inspection.prerequisites);
            found.append(&mut planned.inspection.deployment_findings);
        }
        // A drill deploys nothing, and neither does what is left beside the live data.
        if self.request.drill || self.request.is_beside() {
            return;
        }
        self.findings.append(&mut found);
        for Prerequisite {
            needs,
            mut otherwise,
        } in all
        {
            let mut lacking = Vec::new();
            for needed in needs {
                if !self.is_brought(components, &needed).await {
                    lacking.push(needed.to_string());
                }
            }
            if !lacking.is_empty() {
                otherwise.message = format!("{}: {}", otherwise.message, lacking.join(", "));
                self.findings.push(otherwise);
            }
        }
    }

    async fn is_brought(&self, components: &[PlannedComponent], needed: &Needed) -> bool {
        for planned in components {
            if let Some(component) = self.site.component(&planned.name)
                && component.brings(self.backup, &planned.paths, needed).await
            {
                return true;
            }
        }
        false
    }

    /// Where something is to be deployed first, what lies in its services cannot be looked at: said once, with
    /// the commands to type, instead of all that could not be found out.
    pub(super) fn look_at_deployments(&mut self, components: &mut [PlannedComponent]) {
        // A drill deploys nothing.
        if self.request.drill {
            return;
        }
        let mut absent: Vec<(String, String)> = absent(components)
            .into_iter()
            .map(|(name, what)| (name.to_owned(), what.to_owned()))
            .collect();
        // Some of its services may be all that is gone.
        let in_part = absent.is_empty();
        if in_part {
            let gone = gone_services(components).into_iter();
            absent = gone.map(|(name, what)| (name.to_owned(), what)).collect();
        }
        let Some((first, _)) = absent.first() else {
            return;
        };
        let what: Vec<&str> = absent.iter().map(|(_, what)| what.as_str()).collect();
        let what = what.join(" and ");
        let before = |it: &PlannedComponent| {
            let component = self.site.component(&it.name);
            component.is_some_and(|it: &SharedComponent| it.comes_before_services())
        };
        // Only what is not there is known once the rest runs again.
        let fails = |finding: &Finding| {
            let is_missing = finding.kind == Some(ErrorKind::NotFound);
            finding.severity == Severity::Error && (!in_part || is_missing)
        };
        let (early, late): (Vec<usize>, Vec<usize>) =
            (0..components.len()).partition(|at| components.get(*at).is_some_and(before));
        let names = |at: &[usize]| -> Vec<String> {
            let names = at.iter().filter_map(|at| components.get(*at));
            names.map(|it| it.name.clone()).collect()
        };
        let (early, late_names) = (names(&early), names(&late));
        let mut blocked = late.iter().filter_map(|at| components.get(*at));
        let blocked = blocked.any(|it| it.inspection.findings.iter().any(fails));
        if (self.request.create || in_part) && !blocked {
            return;
        }
        // What cannot be known without its services is no finding of its own.
        for at in late {
            if let Some(component) = components.get_mut(at) {
                let told = std::mem::take(&mut component.inspection.findings);
                let (errors, rest) = told.into_iter().partition(fails);
                component.inspection.findings = rest;
                let errors: Vec<Finding> = errors;
                self.findings.retain(|finding| !errors.contains(finding));
            }
        }
        let id = self.backup.id().as_str();
        let of_data = node_options(&self.configured_nodes());
        let commands = commands(&self.request, id, &early, (&late_names, &of_data));
        let finding = match self.request.create || in_part {
            true => Finding::error(
                "plan.deploy_first",
                first.as_str(),
                format!(
                    "{what} is not there, and {} can only be looked at once it is",
                    late_names.join(", ")
                ),
            )
            .hint(commands),
            false => Finding::error(
                "files.not_deployed",
                first.as_str(),
                format!("there is no {what}"),
            )
            .hint(format!(
                "is this the right engine? {commands}; redeploy = false restores the files alone"
            )),
        };
        self.findings.insert(0, finding);
    }
}

/// What to type.
fn commands(
    request: &PlanRequest,
    id: &str,
    early: &[String],
    (late, nodes_of_data): (&[String], &str),
) -> String {
    let all = request.only.is_empty() && request.paths.is_empty();
    // Without their values a stack is not made.
    let mut given = request.secrets.options();
    given += &node_options(&request.nodes);
    if late.is_empty() {
        let only = match all {
            true => String::new(),
            false => format!(" --only {}", early.join(",")),
        };
        return format!(
            "`restore run {id} --create{only}{given}` makes it from the restored compose files"
        );
    }
    format!(
        "`restore run {id} --create --only {}{given}` makes it from the restored compose files, then `restore run {id} --create --only {}{nodes_of_data}` restores the data",
        early.join(","),
        late.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::SecretFiles;

    #[test]
    fn the_command_that_makes_a_stack_has_its_secrets() {
        let names =
            |all: &[&str]| -> Vec<String> { all.iter().map(|it| (*it).to_owned()).collect() };
        let secrets = SecretFiles::default()
            .with("key", "/root/key")
            .in_directory(std::path::PathBuf::from("/root/its secrets"));
        let request = PlanRequest::all().secrets(secrets);
        let given = "--secret key=/root/key --secrets '/root/its secrets'`";
        let one = commands(&request, "ID", &names(&["stacks"]), (&[], ""));
        assert!(
            one.starts_with(&format!("`restore run ID --create {given}")),
            "{one}"
        );
        let data = names(&["pages"]);
        let two = commands(&request, "ID", &names(&["stacks"]), (&data, ""));
        assert!(
            two.starts_with(&format!("`restore run ID --create --only stacks {given}")),
            "{two}"
        );
        assert!(
            two.contains("`restore run ID --create --only pages`"),
            "{two}"
        );
        let none = commands(&PlanRequest::all(), "ID", &names(&["stacks"]), (&[], ""));
        assert!(none.starts_with("`restore run ID --create`"), "{none}");
        // A node of the configuration is taken for another one by both.
        let moved = PlanRequest::all().nodes([("old", "new"), ("was", "is")]);
        let two = commands(
            &moved,
            "ID",
            &names(&["stacks"]),
            (&data, " --node old=new"),
        );
        for command in [
            "`restore run ID --create --only stacks --node old=new --node was=is`",
            "`restore run ID --create --only pages --node old=new`",
        ] {
            assert!(two.contains(command), "{two}");
        }
    }
}
