//! Whether every program is there that a run needs once users are turned away.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::inside::moves;
use super::preflight::Preflight;
use super::{PlannedComponent, PlannedService};
use crate::contract::{HookMoment, HookSubject, Program};
use crate::engine::operations::MembersRequest;
use crate::model::{Finding, Severity};
use crate::swap::scope::SwapScope;
use crate::sys::child;

/// A program that a run needs, what it comes to where the run takes it away, and why.
struct Use<'a> {
    program: &'a Program,
    severity: Severity,
    then: &'static str,
}

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
        let mut checks: Vec<Program> = self
            .site
            .checks()
            .iter()
            .flat_map(|check| check.programs())
            .collect();
        let (mut steps, mut ends): (Vec<Program>, Vec<Program>) = Default::default();
        for hook in self.site.hooks() {
            let is_step = |when: &HookMoment| hook.is_called(*when, HookSubject::Run);
            let when = [
                HookMoment::BeforeStop,
                HookMoment::AfterSwap,
                HookMoment::AfterStart,
            ];
            match when.iter().any(is_step) {
                true => steps.extend(hook.programs()),
                false => ends.extend(hook.programs()),
            }
        }
        needed.extend(steps);
        let mut used: Vec<Use<'_>> = needed
            .iter()
            .map(|program| Use {
                program,
                severity: Severity::Error,
                then: "a run would meet this once users are turned away",
            })
            .collect();
        used.extend(checks.iter().map(|program| {
            // What fails already takes no run back.
            let (severity, then) = match is_there(&program.program) {
                true => (
                    Severity::Error,
                    "a check that passes now would fail after the swap, and the run be taken back",
                ),
                false => (Severity::Warning, "the check would fail as it does now"),
            };
            Use {
                program,
                severity,
                then,
            }
        }));
        used.extend(ends.iter().map(|program| Use {
            program,
            severity: Severity::Warning,
            then: "the hook would fail",
        }));
        let mut findings = self.replaced_programs(components, &used).await;
        checks.extend(ends);
        for program in needed.iter().chain(&checks) {
            let untrusted = program.untrusted(platform.as_ref()).await;
            let new = untrusted.filter(|it| !findings.contains(it));
            findings.extend(new);
        }
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

    /// Programs, and files that they are called with, which lie in what is replaced, so that the ones of
    /// the backup are used from then on: those that it does not have. Their archives are read for that.
    async fn replaced_programs(
        &self,
        components: &[PlannedComponent],
        needed: &[Use<'_>],
    ) -> Vec<Finding> {
        let mut findings: Vec<Finding> = Vec::new();
        for planned in components.iter().filter(|_| self.reads) {
            let Some(component) = self.site.component(&planned.name) else {
                continue;
            };
            let Some(contents) = component.contents() else {
                continue;
            };
            let targets = component.targets(&planned.paths).await.unwrap_or_default();
            let mut used: Vec<(&Use<'_>, PathBuf, String)> = Vec::new();
            for it in needed {
                for (at, word) in it.program.words().enumerate() {
                    let path = Path::new(word);
                    let replaced = targets.iter().any(|target| {
                        path.strip_prefix(&target.path)
                            .is_ok_and(|inside| moves(&target.scope, inside))
                    });
                    // What a program is called with may be what it is to make.
                    if !replaced || (at > 0 && !path.is_file()) {
                        continue;
                    }
                    if let Some(inside) = contents.inside(word).await {
                        used.push((it, path.to_owned(), format!("{}/{inside}", planned.name)));
                    }
                }
            }
            if used.is_empty() {
                continue;
            }
            let wanted: BTreeSet<&Path> = used.iter().map(|it| Path::new(&it.2)).collect();
            let names = wanted.iter().map(|it| it.display().to_string()).collect();
            let all = (self.backup.id().clone(), planned.name.clone(), names);
            if self.site.has_paths(&all) {
                continue;
            }
            let mut found: BTreeSet<PathBuf> = BTreeSet::new();
            let request = MembersRequest::all().only([planned.name.clone()]);
            // Nothing more is read once all are found.
            let enough = self.cancel().child_token();
            let options = self.options.clone().cancelled_by(enough.clone());
            let read = self
                .site
                .members(self.backup, &request, &options, |member| {
                    let Some(path) = member.path.as_deref().map(Path::new) else {
                        return;
                    };
                    // Behind a link it lies under another name.
                    let link = member.target.is_some();
                    let named = |it: &&&Path| **it == path || (link && it.starts_with(path));
                    found.extend(wanted.iter().filter(named).map(|it| it.to_path_buf()));
                    if found.len() == wanted.len() {
                        enough.cancel();
                    }
                })
                .await;
            if found.len() == wanted.len() {
                self.site.note_paths(all);
                continue;
            }
            // What cannot be read is told by what reads it to restore it.
            if !read.is_ok_and(|read| read.refusal().is_none()) {
                continue;
            }
            for (it, path, member) in &used {
                if found.contains(Path::new(member)) {
                    continue;
                }
                let Use {
                    program,
                    severity,
                    then,
                } = it;
                let is_program = Path::new(&program.program) == path.as_path();
                let mut finding = Finding::error(
                    "program.replaced",
                    program.named_by.as_str(),
                    format!(
                        "names {}, which lies in what is replaced for {}, and the backup does not have it",
                        path.display(),
                        planned.name
                    ),
                )
                .hint(format!(
                    "add it to `exclude` of [components.{}], or move it elsewhere: {then}",
                    planned.name
                ));
                // What it is called with may be a file that it makes anew.
                finding.severity = match is_program {
                    true => *severity,
                    false => Severity::Warning,
                };
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
        findings
    }
}

fn finding(program: &Program) -> Finding {
    let name = &program.program;
    let what = match name.contains('/') {
        true => {
            "there is no such program, it cannot be run, or what its first line names is not there"
        }
        false => "no folder of the search path has such a program",
    };
    Finding::error(
        "program.missing",
        program.named_by.as_str(),
        format!("names {name}: {what}"),
    )
    .hint("install it, or correct its name in restore.toml: a run would meet this once users are turned away")
}

/// Whether a program of this host can be run; of a script, what runs it as well.
fn is_there(name: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let found = child::find(name).filter(|path| {
        path.metadata()
            .is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0)
    });
    found.is_some_and(|path| child::interpreter(&path).is_none_or(|it| it.is_file()))
}
