//! A report in words: all of it, and the ten lines for whoever has waited for its end.

use std::fmt::Write as _;

use serde_json::Value;

use crate::model::step_id::either_way;
use crate::model::text::{bytes, shown_in};
use crate::model::{
    CheckOutcome, Failure, Finding, Kept, Outcome, Report, RunId, Severity, StepTime, Timestamp,
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

    /// What has become of what a confirmed run kept.
    fn confirmed_as(&self) -> String {
        match (self.is_as_before(), self.beside()) {
            (true, _) => format!("what it had restored is deleted{}", self.but_for()),
            (false, Some(what)) => format!("{what} stays"),
            (false, None) if self.replaced_nothing => {
                "it had replaced nothing, and nothing was deleted".to_owned()
            }
            (false, None) => format!("what it replaced is deleted{}", self.but_for()),
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

    /// The report in ten lines at most, which fit on a screen of 80 columns and 24 lines: what somebody needs to know
    /// who has waited for its end, and what to type next. [`to_text`](Self::to_text) has all of it.
    pub fn to_summary(&self) -> String {
        let clean = self.shown();
        let mut lines = clean.as_ref().unwrap_or(self).summary();
        while lines.len() > SUMMARY && drop_least(&mut lines) {}
        if rows_of(&lines) > ROWS {
            for (rank, line) in &mut lines {
                if let Some(longest) = longest(*rank) {
                    clip(line, longest, &self.run);
                }
            }
        }
        while rows_of(&lines) > ROWS && drop_least(&mut lines) {}
        lines.into_iter().fold(String::new(), |mut out, (_, line)| {
            out.push_str(&line);
            out.push('\n');
            out
        })
    }

    /// What is to be said of the safety backup of a run that has come to nothing.
    fn idle_safety(&self) -> &'static str {
        let killed = self.findings.iter().any(Finding::tells_of_a_kill);
        match self.outcome {
            Outcome::Undone if !self.is_failing() && !killed => {
                ", which nothing needs now: `restore prune --keep N` deletes it in its time"
            }
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
            lines.push((1, format!("Confirmed: {}", self.confirmed_as())));
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
                lines.push((4, format!("Also, at {}", finding.line())));
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

    /// The report with all names and words of others on one line each: a journal of an earlier
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
            writeln!(out, "Confirmed:     yes; {}", self.confirmed_as())?;
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
            } else if component.restored && self.is_open() {
                "swapped in"
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
            if let Some(what) = component.beside.as_ref().filter(|_| component.restored) {
                writeln!(out, "  {:<20} as {what}, beside what is live", "")?;
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
            writeln!(out, "  {}", finding.line())?;
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
            let step = either_way(&time.step);
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

    /// What became of a step that did not end well.
    fn not_done(&self, step: &StepTime) -> &'static str {
        let mut later = self.steps.iter().filter(|it| it.started > step.started);
        let again = later.any(|it| it.step == step.step);
        let failed = self.failure.iter().chain(&self.stuck);
        match failed.map(|it| &it.step).any(|failed| *failed == step.step) {
            _ if again => "not finished; begun again below",
            true => "failed",
            false if self.under_way.is_some() => "under way",
            false if self.is_open() && self.stuck.is_none() => "not finished",
            false if step.failed => "failed",
            false => "not ended",
        }
    }

    /// Whether it has not ended, or is stuck.
    fn is_open(&self) -> bool {
        matches!(self.outcome, Outcome::Unfinished | Outcome::Stuck)
    }

    /// The steps that a person asks about: those that took time, and those that failed. All of
    /// them are in the report as a value.
    fn write_steps(&self, out: &mut String) -> std::fmt::Result {
        let told = |step: &&StepTime| step.seconds.is_none_or(|seconds| seconds >= LONG);
        let quick = self.steps.iter().filter(|step| !told(step)).count();
        writeln!(out, "\nSteps:")?;
        for step in self.steps.iter().filter(told) {
            let took = step
                .seconds
                .map_or_else(|| self.not_done(step).to_owned(), seconds);
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
/// So many rows of a terminal it takes at most, so that what was typed before it is seen above it.
const ROWS: usize = 20;
/// So many columns a terminal has at least.
const COLUMNS: usize = 80;
/// How far the rows after the first of a line are set in.
const INDENT: usize = 6;

/// Takes away the least important line, and of these the last; `false` where each is needed.
fn drop_least(lines: &mut Vec<(u8, String)>) -> bool {
    let least = lines.iter().map(|(rank, _)| *rank).max();
    let Some(least) = least.filter(|rank| *rank > 1) else {
        return false;
    };
    if let Some(at) = lines.iter().rposition(|(rank, _)| *rank == least) {
        lines.remove(at);
    }
    true
}

/// How long a line of this rank may be where there is no room for all of them; `None`: it is not cut off.
fn longest(rank: u8) -> Option<usize> {
    match rank {
        0 | 1 => None,
        // What stands in the way.
        2 => Some(480),
        _ => Some(240),
    }
}

/// Cuts a long line off, with where the rest of it is.
fn clip(line: &mut String, longest: usize, run: &RunId) {
    if let Some((at, _)) = line.char_indices().nth(longest) {
        line.truncate(at);
        let _ = write!(line, "… (restore report {run})");
    }
}

fn rows_of(lines: &[(u8, String)]) -> usize {
    lines.iter().map(|(_, line)| rows(line)).sum()
}

/// How many rows a line takes: broken between words, or by the terminal wherever it ends.
fn rows(line: &str) -> usize {
    let (mut broken, mut column) = (1, 0);
    for word in line.split(' ') {
        let length = word.chars().count();
        if column > INDENT && column + 1 + length > COLUMNS {
            broken += 1;
            column = INDENT;
        } else if column > 0 {
            column += 1;
        }
        column += length;
        broken += column.saturating_sub(1) / COLUMNS;
        column = column.saturating_sub(1) % COLUMNS + 1;
    }
    broken.max(line.chars().count().div_ceil(COLUMNS))
}

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
    fn rows_of_a_terminal_are_counted() {
        let of = |words: &[usize]| {
            let words: Vec<String> = words.iter().map(|length| "x".repeat(*length)).collect();
            rows(&words.join(" "))
        };
        assert_eq!(rows(""), 1);
        assert_eq!(of(&[80]), 1);
        assert_eq!(of(&[81]), 2);
        assert_eq!(of(&[40, 39]), 1);
        assert_eq!(of(&[40, 40]), 2);
        // The second row begins further in.
        assert_eq!(of(&[40, 50, 23]), 2);
        assert_eq!(of(&[40, 50, 24]), 3);
        assert_eq!(of(&[10, 200]), 4);
    }

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
