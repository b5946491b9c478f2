//! Plans.

use std::mem::discriminant;

use restore_core::Plan;
use restore_core::backup::Generation;
use restore_core::plan::{Phase, Step};

use super::findings;
use crate::human;

/// The plan: components, services, steps, what becomes of the replaced data, what was noticed.
/// `again`: the options to repeat in the command that executes it; `None` while one does.
pub(crate) fn plan(plan: &Plan, again: Option<&str>) -> String {
    plan_with(plan, again, "")
}

/// The same with what would change, as text, before what is to be decided by.
pub(crate) fn plan_with(plan: &Plan, again: Option<&str>, difference: &str) -> String {
    let mut out = match plan.request.drill {
        true => format!(
            "Drill: prove that backup {} restores into {}\n",
            plan.backup, plan.site
        ),
        false if plan.request.is_beside() => format!(
            "Plan: restore out of backup {} beside what is live of {}\n",
            plan.backup, plan.site
        ),
        false => format!("Plan: restore backup {} into {}\n", plan.backup, plan.site),
    };
    out += &format!("From: {}", plan.store);
    out += match plan.generation {
        Generation::A => "; each file is verified while it is read\n",
        Generation::B => "; WITHOUT checksums: nothing can be verified\n",
        _ => "; UNFINISHED backup\n",
    };
    if let Some(provenance) = &plan.provenance {
        out += &format!("Trust: {provenance}\n");
    }
    components(plan, &mut out);
    creates(plan, &mut out);
    steps(plan, &mut out);
    expected(plan, &mut out);
    afterwards(plan, &mut out);
    out += difference;
    out += &findings("Findings:", &plan.findings);
    match (plan.errors().count(), again) {
        (0, None) => {}
        (0, Some(again)) => {
            out += &format!(
                "
Nothing was touched. `restore run {}{again}` does this.
",
                plan.backup
            );
        }
        (errors, _) => {
            out += &format!(
                "
REFUSED: {}. Nothing was touched.
",
                human::count(errors, "error")
            );
        }
    }
    out
}

/// Why a plan is refused, and nothing else of it.
pub(crate) fn refused(plan: &Plan) -> String {
    let errors: Vec<_> = plan.errors().cloned().collect();
    findings("Refused:", &errors).trim_start().to_owned()
}

fn components(plan: &Plan, out: &mut String) {
    if plan.components.is_empty() {
        *out += "\nNo component is restored.\n";
        return;
    }
    let needs = plan.components.iter().flat_map(|it| &it.inspection.needs);
    let room = match needs.map(|need| need.bytes).sum() {
        0 => String::new(),
        room => format!(", about {} of room to stage in", human::bytes(room)),
    };
    *out += &format!(
        "\nComponents ({} to read{room}):\n",
        human::bytes(plan.read_bytes())
    );
    let rows: Vec<(String, String, Vec<String>)> = plan
        .components
        .iter()
        .map(|component| {
            let found = &component.inspection;
            let mut details = match found.artifacts.is_empty() {
                true => vec!["see the findings".to_owned()],
                false => found.artifacts.clone(),
            };
            if !found.summary.is_empty() {
                details.push(format!("-> {}", found.summary));
            }
            if !component.paths.is_empty() {
                details.push(format!("only {}", component.paths.join(", ")));
            }
            (
                component.name.clone(),
                human::bytes(found.read_bytes),
                details,
            )
        })
        .collect();
    let width = |of: fn(&(String, String, Vec<String>)) -> &String| {
        rows.iter()
            .map(|row| of(row).chars().count())
            .max()
            .unwrap_or(0)
    };
    let (names, sizes) = (width(|row| &row.0), width(|row| &row.1));
    for (name, size, details) in &rows {
        let mut first = Some((name.as_str(), size.as_str()));
        for detail in details {
            let (name, size) = first.take().unwrap_or_default();
            *out += &format!("  {name:<names$}  {size:>sizes$}  {detail}\n");
        }
    }
}

/// What is absent and will be made.
fn creates(plan: &Plan, out: &mut String) {
    let made = plan.components.iter().flat_map(|component| {
        let creates = component.inspection.creates.iter();
        creates.map(|what| (component.name.as_str(), what))
    });
    let made: Vec<(&str, &String)> = made.collect();
    let width = made.iter().map(|(name, _)| name.chars().count()).max();
    let Some(width) = width else { return };
    *out += "\nAbsent, and will be made (and removed again if the run is taken back):\n";
    for (name, what) in made {
        *out += &format!("  {name:<width$}  {what}\n");
    }
}

fn steps(plan: &Plan, out: &mut String) {
    let titles = [
        (
            Phase::Before,
            "Before anything is replaced, while the platform serves:",
        ),
        (
            Phase::Stage,
            "Beside the live data, while the platform serves:",
        ),
        (
            Phase::Background,
            "Of services that users do not see, while the platform serves:",
        ),
        (
            Phase::CutOver,
            if plan.request.is_beside() {
                "Then, without downtime:"
            } else if plan.maintenance || plan.services.iter().any(|it| !it.background) {
                "Downtime:"
            } else {
                "Swap, without downtime:"
            },
        ),
        (Phase::After, "Once users are let in again:"),
    ];
    let mut number = 0;
    for (phase, title) in titles {
        let steps: Vec<&Step> = plan
            .steps
            .iter()
            .filter(|step| plan.phase(step) == phase)
            .collect();
        if steps.is_empty() {
            continue;
        }
        *out += &format!("\n{title}\n");
        for alike in steps.chunk_by(|a, b| discriminant(*a) == discriminant(*b)) {
            number += 1;
            *out += &format!("  {number}. {}\n", in_words(plan, alike));
        }
    }
}

/// Steps of one kind in one line.
fn in_words(plan: &Plan, alike: &[&Step]) -> String {
    let components = |verb: &str, order: &str| {
        let names: Vec<&str> = alike
            .iter()
            .filter_map(|step| match step {
                Step::Create(name) | Step::Stage(name) | Step::CutOver(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        // Their names stand above, in the same order.
        match names.len() > 3 && names.len() == plan.components.len() {
            true => format!("{verb} all {} components{order}", names.len()),
            false => format!("{verb} {}", names.join(", ")),
        }
    };
    match alike {
        [Step::SafetyBackup] => match &plan.safety {
            Some(safety) => format!(
                "back up what is live now to {} (about {} to read)",
                safety.place,
                human::bytes(safety.bytes)
            ),
            None => Step::SafetyBackup.describe(),
        },
        [Step::Create(_), ..] => components("make what is absent of", ""),
        [Step::Stage(_), ..] => components("stage", ""),
        [Step::CutOver(name), ..] if plan.request.is_beside() => {
            let made = plan.component(name);
            let made = made.and_then(|it| it.inspection.beside.as_deref());
            format!("put {} in its place", made.unwrap_or(name))
        }
        [Step::CheckInside] if plan.request.is_beside() => "check what was restored".to_owned(),
        [Step::CutOver(_), ..] => components("swap", ", in this order"),
        [Step::Deploy(_), ..] => {
            let named = alike.iter().map(|step| match step {
                Step::Deploy(name) => plan
                    .component(name)
                    .and_then(|component| component.deploys.clone())
                    .unwrap_or_else(|| name.clone()),
                _ => step.describe(),
            });
            format!("deploy {}", named.collect::<Vec<_>>().join(", "))
        }
        [Step::Stop(_) | Step::Start(_), ..] => {
            let named: Vec<String> = alike.iter().map(|step| service(plan, step)).collect();
            match alike {
                [Step::Stop(_), ..] => format!("stop {}", named.join(", ")),
                _ => format!("start {}", named.join(", ")),
            }
        }
        _ => {
            let words: Vec<String> = alike.iter().map(|step| step.describe()).collect();
            words.join(", ")
        }
    }
}

/// The service that a step stops or starts, with what is not to be expected of it.
fn service(plan: &Plan, step: &Step) -> String {
    let (name, stop) = match step {
        Step::Stop(name) => (name, true),
        Step::Start(name) => (name, false),
        _ => return step.describe(),
    };
    let known = plan.services.iter().find(|service| service.name == *name);
    let Some(known) = known else {
        return name.clone();
    };
    match (stop, known.ran_before(), known.start) {
        (true, 0, _) => format!("{name} (does not run now)"),
        (false, 0, _) => format!("{name} (did not run before)"),
        (_, ran, _) if ran < known.replicas => {
            format!("{name} ({ran} of {} instances)", known.replicas)
        }
        (_, count, start) if count == start && count > 1 => format!("{name} ({count} instances)"),
        _ => name.clone(),
    }
}

/// How long it will take, and for how long users are turned away.
fn expected(plan: &Plan, out: &mut String) {
    let Some(expected) = &plan.expected else {
        return;
    };
    let downtime = match (plan.request.drill, expected.downtime_seconds) {
        (true, _) => String::new(),
        (false, None) => ", without downtime".to_owned(),
        (false, Some(seconds)) => format!(
            ", with users turned away for about {}",
            human::seconds(seconds)
        ),
    };
    let by = match &expected.as_run {
        Some(run) => format!("as run {run} took"),
        None => "a guess: no earlier run tells".to_owned(),
    };
    *out += &format!(
        "\nExpected: about {}{downtime} ({by})\n",
        human::seconds(expected.seconds)
    );
}

fn afterwards(plan: &Plan, out: &mut String) {
    if plan.request.drill {
        *out += "\nWhat was staged is deleted again. Nothing live is stopped or replaced.\n";
    } else if plan.request.is_beside() {
        *out += "\nNothing live is stopped or replaced. `restore rollback` takes away again what was\n\
                 restored, `restore confirm` keeps it. If anything fails, the run undoes itself.\n";
    } else if !plan.components.is_empty() {
        *out += "\nThe data that is replaced is kept beside the live data until `restore confirm`;\n\
                 `restore rollback` swaps it back. If anything fails, the run undoes itself.\n";
    }
    // Those that restored the same components are among the findings, with what follows.
    let others: Vec<_> = plan
        .earlier
        .iter()
        .filter(|earlier| earlier.shared.is_empty())
        .collect();
    if others.is_empty() {
        return;
    }
    *out += "\nEarlier runs of other components that are not confirmed:\n";
    for earlier in others {
        *out += &format!(
            "  {} of backup {}, ended {}\n",
            earlier.run,
            earlier.backup,
            human::moment(&earlier.ended.to_string())
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_whole_plan() {
        assert_eq!(
            plan(
                &samples::plan(|value| {
                    value["expected"] = serde_json::json!({
                        "seconds": 245.0, "downtime_seconds": 12.0,
                        "as_run": "20240214-093000-7f3a",
                    });
                }),
                Some(" --only postgres,crontab")
            ),
            "\
Plan: restore backup 20240215-020000 into demo
From: directory /mnt/backups; each file is verified while it is read

Components (1.2 GiB to read, about 3.0 GiB of room to stage in):
  postgres  1.2 GiB  postgres/postgres-20240215-020000.dump
                     -> database hosting_db
  crontab     120 B  configs/crontab-20240215-020000.txt

Before anything is replaced, while the platform serves:
  1. back up what is live now to directory /mnt/backups (about 2.0 GiB to read)

Beside the live data, while the platform serves:
  2. stage postgres, crontab

Downtime:
  3. show the maintenance page
  4. stop app (5 instances)
  5. swap postgres, crontab
  6. start app (5 instances)
  7. check the platform behind the page
  8. take the maintenance page down

Once users are let in again:
  9. check the platform as its users see it

Expected: about 4 min 5 s, with users turned away for about 12.0 s (as run 20240214-093000-7f3a took)

The data that is replaced is kept beside the live data until `restore confirm`;
`restore rollback` swaps it back. If anything fails, the run undoes itself.

Nothing was touched. `restore run 20240215-020000 --only postgres,crontab` does this.
"
        );
    }

    #[test]
    fn how_many_run_of_those_that_are_wanted_is_told() {
        let made = samples::plan(|value| {
            value["services"] = serde_json::json!([
                {"name": "app", "replicas": 5, "start": 5, "ran": 3},
                {"name": "worker", "replicas": 2, "start": 2, "ran": 0},
            ]);
        });
        for (step, text) in [
            (Step::Stop("app".into()), "app (3 of 5 instances)"),
            (Step::Start("app".into()), "app (3 of 5 instances)"),
            (Step::Stop("worker".into()), "worker (does not run now)"),
            (Step::Start("worker".into()), "worker (did not run before)"),
        ] {
            assert_eq!(service(&made, &step), text);
        }
    }

    #[test]
    fn what_users_do_not_see_stands_before_the_downtime() {
        let made = samples::plan(|value| {
            value["components"][1]["background"] = true.into();
            value["components"][0]["deploys"] = "the stack shop from stack.yml".into();
            value["services"] = serde_json::json!([
                {"name": "metrics", "replicas": 1, "start": 1, "background": true},
                {"name": "app", "replicas": 5, "start": 5},
            ]);
            value["steps"] = serde_json::json!([
                "stage:postgres",
                "stage:crontab",
                "stop:metrics",
                "cut-over:crontab",
                "start:metrics",
                "maintenance:on",
                "stop:app",
                "cut-over:postgres",
                "deploy:postgres",
                "start:app",
                "check:inside",
                "maintenance:off",
                "check:outside",
            ]);
        });
        let text = plan(&made, Some(""));
        let from = text.find("Beside").unwrap();
        let to = text.find("The data that is replaced").unwrap();
        assert_eq!(
            &text[from..to],
            "\
Beside the live data, while the platform serves:
  1. stage postgres, crontab

Of services that users do not see, while the platform serves:
  2. stop metrics
  3. swap crontab
  4. start metrics

Downtime:
  5. show the maintenance page
  6. stop app (5 instances)
  7. swap postgres
  8. deploy the stack shop from stack.yml
  9. start app (5 instances)
  10. check the platform behind the page
  11. take the maintenance page down

Once users are let in again:
  12. check the platform as its users see it

"
        );
    }

    #[test]
    fn a_refused_plan_says_why_at_its_end() {
        let refused = samples::plan(|value| {
            value["generation"] = "b".into();
            value["components"] = serde_json::json!([]);
            value["steps"] = serde_json::json!([]);
            value["services"] = serde_json::json!([]);
            value["earlier"] = serde_json::json!([{
                "run": "20240214-093000-7f3a", "backup": "20240213-020000",
                "ended": "2024-02-14T09:31:00Z", "shared": [],
            }]);
            value["findings"] = serde_json::json!([
                {"severity": "info", "code": "a.b", "subject": "redis", "message": "7.0"},
                {"severity": "error", "code": "c.d", "subject": "redis", "message": "no room",
                 "hint": "make some"},
            ]);
        });
        assert_eq!(
            plan(&refused, Some("")),
            "\
Plan: restore backup 20240215-020000 into demo
From: directory /mnt/backups; WITHOUT checksums: nothing can be verified

No component is restored.

Earlier runs of other components that are not confirmed:
  20240214-093000-7f3a of backup 20240213-020000, ended 2024-02-14 09:31:00

Findings:
  error: redis: no room
    hint: make some
  note: redis: 7.0

REFUSED: 1 error. Nothing was touched.
"
        );
    }
}
