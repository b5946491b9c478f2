//! Whether every program is there that a run needs once users are turned away.

use std::path::PathBuf;

use super::preflight::Preflight;
use super::{PlannedComponent, PlannedService};
use crate::contract::Program;
use crate::model::{Finding, Severity};
use crate::swap::scope::SwapScope;
use crate::sys::child;

impl Preflight<'_> {
    /// Looks for the programs that start, stop and ask after services, that test and reload what was
    /// swapped, that show the page and that check the platform.
    pub(super) async fn look_at_programs(
        &mut self,
        components: &[PlannedComponent],
        services: &[PlannedService],
        maintenance: bool,
    ) {
        let platform = self.site.platform();
        let planned = || {
            let names = components.iter().map(|it| it.name.as_str());
            names.filter_map(|name| self.site.component(name))
        };
        let mut needed: Vec<Program> = Vec::new();
        for service in services {
            needed.extend(platform.programs(&service.name));
        }
        needed.extend(planned().flat_map(|component| component.programs()));
        if let Some(page) = self.site.maintenance().filter(|_| maintenance) {
            needed.extend(page.programs());
        }
        let checks: Vec<Program> = self
            .site
            .checks()
            .iter()
            .flat_map(|check| check.programs())
            .collect();
        // What the run restores may be missing now.
        let mut restored: Vec<PathBuf> = Vec::new();
        for component in planned() {
            for target in component.targets(&[]).await.unwrap_or_default() {
                match &target.scope {
                    SwapScope::Entries(names) => {
                        restored.extend(names.iter().map(|name| target.path.join(name)));
                    }
                    _ => restored.push(target.path),
                }
            }
        }
        let missing = |program: &&Program| {
            let here = program
                .service
                .as_ref()
                .is_none_or(|service| platform.runs_here(service));
            here && !restored
                .iter()
                .any(|place| std::path::Path::new(&program.program).starts_with(place))
                && !is_there(&program.program)
        };
        let mut findings: Vec<Finding> = Vec::new();
        for (programs, severity) in [(needed, Severity::Error), (checks, Severity::Warning)] {
            for program in programs.iter().filter(missing) {
                let mut finding = finding(program);
                finding.severity = severity;
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
        self.findings.extend(findings);
    }
}

fn finding(program: &Program) -> Finding {
    let name = &program.program;
    let what = match name.contains('/') {
        true => "there is no such program, or it cannot be run",
        false => "no folder of the search path has such a program",
    };
    Finding::error(
        "program.missing",
        program.named_by.as_str(),
        format!("names {name}: {what}"),
    )
    .hint("install it, or correct its name in restore.toml: a run would meet this once users are turned away")
}

/// Whether a program of this host can be run.
fn is_there(name: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    child::find(name).is_some_and(|path| {
        path.metadata()
            .is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0)
    })
}
