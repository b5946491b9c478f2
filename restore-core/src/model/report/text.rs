//! A report in words: all of it, and the ten lines for whoever has waited for its end.

use std::fmt::Write as _;

use serde_json::Value;

use crate::model::text::{bytes, shown_in};
use crate::model::{
    CheckOutcome, Failure, Finding, Kept, Outcome, Report, Severity, StepTime, Timestamp,
};

impl Report {
    /// What a confirmation left alone, as the end of a sentence.
    fn but_for(&self) -> String {
        let left = self.components.iter().filter(|it| it.left_alone);
        let left: Vec<&str> = left.map(|it| it.name.as_str()).collect();
        match left.as_slice() {
            [] => String::new(),
            left => format!(", but for {}, which was left alone", left.join(", ")),
        }
    }

    /// The report as text, in the spirit of the runbook's log entry: what a person reads, and
    /// what is appended to the site's log.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let clean = self.shown();
        // Writing to a String cannot fail.
        let _ = clean.as_ref().unwrap_or(self).write_text(&mut out);
        out
    }

    /// The report in ten lines at most: what somebody needs to know who has waited for its end, and
    /// what to type next. [`to_text`](Self::to_text) has all of it.
    pub fn to_summary(&self) -> String {
        let clean = self.shown();
        let mut lines = clean.as_ref().unwrap_or(self).summary();
        // The least important ones go first, and of these the last.
        while lines.len() > SUMMARY
            && let Some(least) = lines.iter().map(|(rank, _)| *rank).max()
            && let Some(at) = lines.iter().rposition(|(rank, _)| *rank == least)
        {
            lines.remove(at);
        }
        lines.into_iter().fold(String::new(), |mut out, (_, line)| {
            out.push_str(&line);
            out.push('\n');
            out
        })
    }

    /// What is to be said of the safety backup of a run that has come to nothing.
    fn idle_safety(&self) -> &'static str {
        match self.outcome {
            Outcome::Undone => ", which nothing needs now: `restore prune` deletes it in its time",
            _ => "",
        }
    }

    /// The lines of the summary in their order, each with its rank: 0 is needed most.
    fn summary(&self) -> Vec<(u8, String)> {
        let mut lines = vec![(0, self.headline())];
        let count = match self.components.len() {
            1 => "1 component".to_owned(),
            many => format!("{many} components"),
        };
        let took = self.ended.map_or_else(String::new, |ended| {
            format!(", {}", seconds(ended.since(self.started).as_secs_f64()))
        });
        let downtime = match (self.down_since, self.downtime_seconds) {
            (Some(since), _) => format!("USERS ARE TURNED AWAY since {}", moment(since)),
            (None, Some(s)) => format!("downtime {}", seconds(s)),
            (None, None) => "no downtime".to_owned(),
        };
        let (run, backup) = (&self.run, &self.backup);
        lines.push((
            1,
            format!("Run {run} of backup {backup}: {count}{took}, {downtime}"),
        ));
        if self.confirmed {
            let what = match self.is_as_before() {
                true => "what it had restored",
                false => "what it replaced",
            };
            lines.push((1, format!("Confirmed: {what} is deleted{}", self.but_for())));
        }
        let mut cause = |what: &str, failure: &Failure, rank: u8| {
            let Failure { step, message, .. } = failure;
            lines.push((rank, format!("{what} {step}: {message}")));
            if let Some(hint) = &failure.hint {
                lines.push((rank + 1, format!("  {hint}")));
            }
        };
        if let Some(failure) = &self.failure {
            cause("Cause, at", failure, 3);
        }
        if let Some(stuck) = &self.stuck {
            cause("In the way, at", stuck, 2);
        }
        // A drill goes on after the first.
        for finding in &self.findings {
            if finding.severity == Severity::Error {
                let Finding {
                    subject, message, ..
                } = finding;
                lines.push((4, format!("Also, at {subject}: {message}")));
            }
        }
        if !self.services_down.is_empty() {
            let down = self.services_down.iter().map(|it| it.name.as_str());
            let down = down.collect::<Vec<_>>().join(", ");
            lines.push((4, format!("Down: {down}")));
        }
        let failing: Vec<String> = self
            .failing_checks()
            .map(|(check, before)| {
                let before = if before { " (as before)" } else { "" };
                format!("{}{before}: {}", check.name, check.detail)
            })
            .collect();
        if let [first, others @ ..] = failing.as_slice() {
            let more = match others.len() {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            lines.push((4, format!("Failing: {first}{more}")));
        }
        if let Some(safety) = &self.safety {
            let missing: Vec<&str> = safety.missing.iter().map(|it| it.name.as_str()).collect();
            let without = match missing.is_empty() {
                true => String::new(),
                false => format!(", without {}", missing.join(", ")),
            };
            let idle = self.idle_safety();
            lines.push((7, format!("Safety backup: {}{without}{idle}", safety.id)));
        }
        for (removed, words) in [(false, "Made, as it was absent"), (true, "Removed again")] {
            let mut made = self.made.iter().filter(|it| it.removed == removed);
            if let Some(first) = made.next() {
                let more = match made.count() {
                    0 => String::new(),
                    more => format!(", and {more} more"),
                };
                lines.push((6, format!("{words}: {}{more}", first.what)));
            }
        }
        for kept in [Kept::Replaced, Kept::Restored, Kept::Staged] {
            let of = self.components.iter().filter(|it| it.kept == Some(kept));
            let of: Vec<&str> = of.map(|it| it.name.as_str()).collect();
            if !of.is_empty() {
                let words = kept.words();
                lines.push((6, format!("Kept: the {words} of {}", of.join(", "))));
            }
        }
        let warnings = self.findings.iter();
        let warnings = warnings.filter(|it| it.severity >= Severity::Warning);
        lines.push((
            6,
            match warnings.count() {
                0 => format!("Details: restore report {run}"),
                1 => format!("1 warning, and details: restore report {run}"),
                many => format!("{many} warnings, and details: restore report {run}"),
            },
        ));
        for (at, next) in self.next.iter().enumerate() {
            lines.push((if at == 0 { 1 } else { 5 }, next.clone()));
        }
        lines
    }

    /// The same with all names and words of others on one line each: a journal of an earlier
    /// version, or an agent, may hold them as they are.
    fn shown(&self) -> Option<Self> {
        let mut value = serde_json::to_value(self).ok()?;
        shown_in(&mut value);
        serde_json::from_value(value).ok()
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let rule = "=".repeat(64);
        writeln!(out, "{rule}")?;
        writeln!(out, "{}", self.headline())?;
        writeln!(out, "{rule}")?;
        writeln!(out, "Site:          {}", self.site)?;
        writeln!(out, "Run:           {}", self.run)?;
        writeln!(
            out,
            "{:<14} backup {} in {}",
            if self.drill {
                "Drilled:"
            } else {
                "Restored from:"
            },
            self.backup,
            self.store
        )?;
        writeln!(out, "Started:       {}", moment(self.started))?;
        match self.ended {
            Some(ended) => writeln!(
                out,
                "Ended:         {} ({})",
                moment(ended),
                seconds(ended.since(self.started).as_secs_f64())
            )?,
            None => match &self.under_way {
                Some(who) => writeln!(out, "Ended:         not yet, under way: {who}")?,
                None => writeln!(out, "Ended:         not yet, and nobody is at work on it")?,
            },
        }
        match (self.down_since, self.downtime_seconds) {
            (Some(since), _) => writeln!(
                out,
                "Downtime:      users are turned away, since {}",
                moment(since)
            )?,
            (None, Some(s)) => writeln!(out, "Downtime:      {}", seconds(s))?,
            (None, None) => writeln!(out, "Downtime:      none")?,
        }
        if let Some(safety) = &self.safety {
            let idle = self.idle_safety();
            writeln!(
                out,
                "Safety backup: {} in {}{idle}",
                safety.id, safety.place
            )?;
            for missing in &safety.missing {
                writeln!(out, "               without {}", missing.name)?;
            }
        }
        if self.confirming && !self.confirmed {
            writeln!(
                out,
                "Confirmed:     begun and not finished: there is no way back"
            )?;
        }
        if let Some(damaged) = &self.damaged {
            writeln!(
                out,
                "Damaged:       {damaged}; this is what can be read of it"
            )?;
        }
        if self.confirmed {
            let what = if self.is_as_before() {
                "had restored"
            } else {
                "replaced"
            };
            let except = self.but_for();
            writeln!(out, "Confirmed:     yes; what it {what} is deleted{except}")?;
        }
        if let Some(failure) = &self.failure {
            writeln!(out, "\nWhat went wrong, at {}:", failure.step)?;
            writeln!(out, "  {}", failure.message)?;
            if let Some(hint) = &failure.hint {
                writeln!(out, "  {hint}")?;
            }
        }
        if let Some(stuck) = &self.stuck {
            writeln!(
                out,
                "\nWhat stands in the way of undoing it, at {}:",
                stuck.step
            )?;
            writeln!(out, "  {}", stuck.message)?;
            if let Some(hint) = &stuck.hint {
                writeln!(out, "  {hint}")?;
            }
        }
        writeln!(out, "\nComponents:")?;
        for component in &self.components {
            let mark = if self.outcome == Outcome::Drilled {
                "restores"
            } else if component.restored {
                "restored"
            } else {
                "as before"
            };
            writeln!(
                out,
                "  {:<20} {mark:<10} {}",
                component.name,
                component.artifacts.join(", ")
            )?;
            let facts: Vec<String> = component
                .facts
                .iter()
                .filter(|(_, value)| !component.artifacts.iter().any(|path| *value == path))
                .filter_map(|(key, value)| fact(key, value))
                .collect();
            if !facts.is_empty() {
                writeln!(out, "  {:<20} {}", "", facts.join(", "))?;
            }
            if let Some(kept) = &component.kept_at {
                let which = match (component.kept, component.restored) {
                    (Some(which), _) => which,
                    (None, true) => Kept::Replaced,
                    (None, false) => Kept::Restored,
                };
                writeln!(out, "  {:<20} {} kept in {kept}", "", which.words())?;
            }
        }
        let started = self
            .services
            .iter()
            .filter(|(name, _)| self.restarted(name));
        let started: Vec<String> = started
            .map(|(name, replicas)| format!("{name} ({replicas})"))
            .collect();
        if !started.is_empty() {
            writeln!(
                out,
                "\nServices stopped and started: {}",
                started.join(", ")
            )?;
        }
        self.write_made(out)?;
        self.write_services_down(out)?;
        self.write_checks(out)?;
        self.write_steps(out)?;
        let noticed = self.noticed();
        if !noticed.is_empty() {
            writeln!(out, "\nNoticed:")?;
        }
        for finding in noticed {
            writeln!(out, "  {}: {}", finding.subject, finding.message)?;
            if let Some(hint) = &finding.hint {
                writeln!(out, "    {hint}")?;
            }
        }
        if !self.next.is_empty() {
            writeln!(out, "\nNext:")?;
        }
        for line in &self.next {
            writeln!(out, "  {line}")?;
        }
        Ok(())
    }

    /// What was absent and was made, and what has become of it.
    fn write_made(&self, out: &mut String) -> std::fmt::Result {
        if self.made.is_empty() {
            return Ok(());
        }
        writeln!(out, "\nWas absent and was made:")?;
        for made in &self.made {
            let removed = match made.removed {
                true => " (removed again)",
                false => "",
            };
            writeln!(out, "  {:<20} {}{removed}", made.component, made.what)?;
        }
        Ok(())
    }

    /// Whether a service was stopped, and the last thing that happened to it is that it started.
    fn restarted(&self, name: &str) -> bool {
        let (stop, start) = (format!("stop:{name}"), format!("start:{name}"));
        let steps = self.steps.iter().map(|time| {
            let step = time.step.strip_prefix("undo:").unwrap_or(&time.step);
            (step, time.seconds.is_some())
        });
        let (stopped, up) = steps.fold((false, true), |(stopped, up), (step, ended)| {
            if step == stop {
                (true, false)
            } else if step == start {
                (stopped, ended)
            } else {
                (stopped, up)
            }
        });
        stopped && up
    }

    fn write_services_down(&self, out: &mut String) -> std::fmt::Result {
        if !self.services_down.is_empty() {
            writeln!(out, "\nServices that are down:")?;
        }
        for service in &self.services_down {
            let before = match service.ran_before {
                true => "it ran before the run",
                false => "it did not run before the run either",
            };
            writeln!(out, "  {:<20} {} ({before})", service.name, service.error)?;
            if let Some(hint) = &service.hint {
                writeln!(out, "  {:<20} {hint}", "")?;
            }
        }
        Ok(())
    }

    /// Each check once: as it was at last, with a word where it failed before the run.
    fn write_checks(&self, out: &mut String) -> std::fmt::Result {
        let of = |checks: &[CheckOutcome], name: &str, passed: bool| {
            checks
                .iter()
                .any(|check| check.name == name && check.passed == passed)
        };
        let line = |out: &mut String, check: &CheckOutcome, before: &str| {
            let mark = if check.passed { "ok    " } else { "FAILED" };
            writeln!(out, "  {mark} {:<24} {}{before}", check.name, check.detail)
        };
        if !self.checks_after.is_empty() {
            writeln!(out, "\nChecks:")?;
        }
        for check in &self.checks_after {
            let before = match of(&self.checks_before, &check.name, false) {
                true if check.passed => " (failed before the run)",
                true => " (as before the run)",
                false => "",
            };
            line(out, check, before)?;
        }
        let only_before: Vec<&CheckOutcome> = self
            .checks_before
            .iter()
            .filter(|check| {
                !self
                    .checks_after
                    .iter()
                    .any(|after| after.name == check.name)
            })
            .collect();
        if !only_before.is_empty() {
            writeln!(out, "\nChecks made before the run only:")?;
        }
        for check in only_before {
            line(out, check, "")?;
        }
        Ok(())
    }

    /// The steps that a person asks about: those that took time, and those that failed. All of
    /// them are in the report as a value.
    fn write_steps(&self, out: &mut String) -> std::fmt::Result {
        let told = |step: &&StepTime| step.seconds.is_none_or(|seconds| seconds >= LONG);
        let quick = self.steps.iter().filter(|step| !told(step)).count();
        writeln!(out, "\nSteps:")?;
        for step in self.steps.iter().filter(told) {
            let took = step.seconds.map_or_else(|| "failed".to_owned(), seconds);
            writeln!(out, "  {} {:<32} {took}", clock(step.started), step.step)?;
        }
        match (quick, quick == self.steps.len()) {
            (0, _) => Ok(()),
            (_, true) => writeln!(out, "  {quick}, each in less than {LONG:.0} s"),
            (_, false) => writeln!(out, "  {quick} more, each in less than {LONG:.0} s"),
        }
    }
}

/// So many lines has a summary at most.
const SUMMARY: usize = 10;

/// Steps that took less are not listed one by one, in seconds.
const LONG: f64 = 1.0;

/// `2024-02-15 09:30:00 UTC`.
fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    match (text.get(..10), text.get(11..19)) {
        (Some(date), Some(time)) => format!("{date} {time} UTC"),
        _ => text,
    }
}

/// `09:30:00`.
fn clock(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(11..19).unwrap_or(&text).to_owned()
}

/// A fact in words: `6 tables`, `4.2 MiB`, `proven with 7.0.15`; what there is none of is not
/// worth a word.
fn fact(key: &str, value: &Value) -> Option<String> {
    let words = key.replace('_', " ");
    match value {
        Value::String(text) => Some(format!("{words} {text}")),
        Value::Number(number) => match (number.as_u64()?, key) {
            (0, _) => None,
            (count, "bytes") => Some(bytes(count)),
            // No count but a number of its own: `timeline 2`.
            (number, key) if !key.ends_with('s') && key != "left_out" => {
                Some(format!("{words} {number}"))
            }
            (1, _) => {
                let one = match (words.strip_suffix("ies"), words.strip_suffix('s')) {
                    (Some(stem), _) => format!("{stem}y"),
                    // Of `indexes`.
                    (None, Some(stem)) if stem.ends_with("xe") => {
                        stem.trim_end_matches('e').to_owned()
                    }
                    (None, Some(stem)) => stem.to_owned(),
                    (None, None) => words,
                };
                Some(format!("1 {one}"))
            }
            (count, _) => Some(format!("{count} {words}")),
        },
        _ => None,
    }
}

fn seconds(s: f64) -> String {
    if s < 60.0 {
        format!("{s:.1} s")
    } else {
        format!("{} min {:.0} s", (s / 60.0).floor(), s % 60.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn facts_are_words() {
        let words = |key, value| fact(key, &value);
        assert_eq!(words("tables", json!(6)).as_deref(), Some("6 tables"));
        assert_eq!(
            words("total_rows", json!(1)).as_deref(),
            Some("1 total row")
        );
        assert_eq!(
            words("directories", json!(1)).as_deref(),
            Some("1 directory")
        );
        assert_eq!(words("bytes", json!(4_400_917)).as_deref(), Some("4.2 MiB"));
        assert_eq!(words("left_out", json!(0)), None);
        assert_eq!(words("left_out", json!(3)).as_deref(), Some("3 left out"));
        assert_eq!(words("timeline", json!(2)).as_deref(), Some("timeline 2"));
        assert_eq!(
            words("proven_with", json!("7.0.15")).as_deref(),
            Some("proven with 7.0.15")
        );
        assert_eq!(words("whole", json!([1])), None);
    }
}
