//! A plan in words.

use std::fmt::{self, Write as _};

use super::{Phase, Plan, Step};
use crate::model::Severity;
use crate::model::text::bytes;

impl fmt::Display for Plan {
    /// What it would do, over several lines: components, steps, what was noticed, whether it is refused.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.in_words(&mut out)?;
        f.write_str(out.trim_end())
    }
}

impl Plan {
    fn in_words(&self, f: &mut String) -> fmt::Result {
        let what = match self.request.drill {
            true => "Drill: prove that backup",
            false => "Plan: restore backup",
        };
        let how = match self.request.drill {
            true => "restores into",
            false => "into",
        };
        writeln!(f, "{what} {} {how} {}", self.backup, self.site)?;
        writeln!(f, "From: {}", self.store)?;
        self.components_in_words(f)?;
        self.steps_in_words(f)?;
        if !self.findings.is_empty() {
            writeln!(f, "\nFindings:")?;
        }
        for finding in &self.findings {
            let severity = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Info => "info",
            };
            writeln!(f, "  {severity}: {}: {}", finding.subject, finding.message)?;
            if let Some(hint) = &finding.hint {
                writeln!(f, "    {hint}")?;
            }
        }
        match self.refusal() {
            Some(refusal) => writeln!(f, "\nREFUSED: {refusal}"),
            None => Ok(()),
        }
    }

    fn components_in_words(&self, f: &mut String) -> fmt::Result {
        writeln!(f, "\nComponents ({} to read):", bytes(self.read_bytes()))?;
        let rows = self.components.iter().map(|it| {
            let found = &it.inspection;
            let source = match found.artifacts.is_empty() {
                true => "see the findings".to_owned(),
                false => found.artifacts.join(", "),
            };
            let goal = match found.summary.is_empty() {
                true => String::new(),
                false => format!(" -> {}", found.summary),
            };
            (it.name.as_str(), bytes(found.read_bytes), source + &goal)
        });
        let rows: Vec<(&str, String, String)> = rows.collect();
        let names = rows
            .iter()
            .map(|it| it.0.chars().count())
            .max()
            .unwrap_or(0);
        let sizes = rows
            .iter()
            .map(|it| it.1.chars().count())
            .max()
            .unwrap_or(0);
        for (name, size, what) in &rows {
            writeln!(f, "  {name:<names$}  {size:>sizes$}  {what}")?;
        }
        let absent = self.components.iter().flat_map(|it| {
            let creates = it.inspection.creates.iter();
            creates.map(|what| (it.name.as_str(), what))
        });
        let absent: Vec<(&str, &String)> = absent.collect();
        if !absent.is_empty() {
            writeln!(
                f,
                "\nAbsent, and will be made (and removed again if the run is taken back):"
            )?;
        }
        for (name, what) in absent {
            writeln!(f, "  {name:<names$}  {what}")?;
        }
        Ok(())
    }

    fn steps_in_words(&self, f: &mut String) -> fmt::Result {
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
            (Phase::CutOver, "Downtime:"),
            (Phase::After, "Once users are let in again:"),
        ];
        let mut number = 0;
        for (phase, title) in titles {
            let mut steps = self
                .steps
                .iter()
                .filter(|it| self.phase(it) == phase)
                .peekable();
            if steps.peek().is_some() {
                writeln!(f, "\n{title}")?;
            }
            for step in steps {
                number += 1;
                write!(f, "  {number}. {}", step.describe())?;
                match (step, &self.safety) {
                    (Step::SafetyBackup, Some(safety)) => {
                        let size = bytes(safety.bytes);
                        writeln!(f, " to {} (about {size} to read)", safety.place)?;
                    }
                    _ => writeln!(f)?,
                }
            }
        }
        Ok(())
    }
}
