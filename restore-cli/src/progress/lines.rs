//! Events as lines, for logs and pipes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use restore_core::{Event, Finding, Severity};

use crate::human;

/// How often one piece of work says how far it is.
const EVERY: Duration = Duration::from_secs(5);

/// Remembers what the next line needs: the words of steps and the pace of work.
#[derive(Default)]
pub(super) struct Lines {
    steps: HashMap<String, String>,
    work: HashMap<(String, String), Pace>,
}

struct Pace {
    began: Instant,
    /// What had been done when it was first heard of.
    done_at_first: u64,
    said: Instant,
}

impl Lines {
    /// The line for an event, where it is worth one.
    pub(super) fn event(&mut self, event: &Event, now: Instant) -> Option<String> {
        match event {
            Event::StepStarted { step, what } => {
                self.steps.insert(step.clone(), what.clone());
                Some(format!("begin: {what}"))
            }
            Event::Progress {
                subject,
                action,
                done,
                total,
            } => self.progress(subject, action, *done, *total, now),
            Event::StepFinished { step, .. } | Event::StepFailed { step, .. } => {
                let what = self.steps.remove(step);
                // What the step worked on is over with it.
                self.work
                    .retain(|(subject, _), _| !step.ends_with(&format!(":{subject}")));
                told(event, what.as_deref())
            }
            _ => told(event, None),
        }
    }

    fn progress(
        &mut self,
        subject: &str,
        action: &str,
        done: u64,
        total: Option<u64>,
        now: Instant,
    ) -> Option<String> {
        let key = (subject.to_owned(), action.to_owned());
        let pace = self.work.entry(key).or_insert(Pace {
            began: now,
            done_at_first: done,
            said: now,
        });
        if now.duration_since(pace.said) < EVERY {
            return None;
        }
        pace.said = now;
        let seconds = now.duration_since(pace.began).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate is rounded anyway")]
        let rate = done.saturating_sub(pace.done_at_first) as f64 / seconds;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and a float saturates"
        )]
        let shown = human::bytes(rate as u64);
        let Some(total) = total.filter(|total| *total >= done && *total > 0) else {
            return Some(format!(
                "  {subject}: {action} {}, {shown}/s",
                human::bytes(done)
            ));
        };
        #[expect(clippy::cast_precision_loss, reason = "seconds are rounded anyway")]
        let left = (total - done) as f64 / rate;
        Some(format!(
            "  {subject}: {action} {} of {} ({} %), {shown}/s, {} left",
            human::bytes(done),
            human::bytes(total),
            u128::from(done) * 100 / u128::from(total),
            human::seconds(left)
        ))
    }
}

/// The line for an event that both the lines and the bars give; `what` is its step in words.
pub(super) fn told(event: &Event, what: Option<&str>) -> Option<String> {
    Some(match event {
        Event::RunStarted {
            run,
            backup,
            action,
            ..
        } => match action.as_str() {
            "run" => format!("run {run}: restoring backup {backup}"),
            "drill" => format!("run {run}: drilling with backup {backup}"),
            "resume" => format!("run {run}: resuming (backup {backup})"),
            "rollback" => format!("run {run}: rolling back (backup {backup})"),
            "confirm" => format!("run {run}: confirming (backup {backup})"),
            other => format!("run {run}: {other} (backup {backup})"),
        },
        Event::BackupStarted { backup, place, .. } => format!("backup {backup}: writing {place}"),
        Event::BackupFinished {
            backup, outcome, ..
        } => format!("backup {backup}: {outcome}"),
        Event::StepFinished { step, seconds } => {
            let what = what.unwrap_or(step);
            format!("ok     {what} ({})", human::seconds(*seconds))
        }
        Event::StepFailed { step, error } => {
            format!("FAILED {}: {error}", what.unwrap_or(step))
        }
        Event::DowntimeStarted { .. } => "Users are turned away from here on.".to_owned(),
        Event::DowntimeEnded { seconds, .. } => {
            format!(
                "Users are let in again, after {}.",
                human::seconds(*seconds)
            )
        }
        Event::Finding { finding } => finding_line(finding),
        Event::Check {
            name,
            passed,
            detail,
        } => {
            format!(
                "{} check {name}: {detail}",
                if *passed { "ok    " } else { "FAILED" }
            )
        }
        Event::RunFinished { run, outcome, .. } => {
            format!("run {run}: {}", outcome.replace('_', " "))
        }
        _ => return None,
    })
}

/// A finding in one line, or two with its hint.
pub(crate) fn finding_line(finding: &Finding) -> String {
    let mark = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        _ => "note",
    };
    let mut text = format!("{mark}: {}", finding.line());
    if let Some(hint) = &finding.hint {
        text += &format!("\n  hint: {hint}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(done: u64, total: Option<u64>) -> Event {
        Event::Progress {
            subject: "redis".into(),
            action: "unpack".into(),
            done,
            total,
        }
    }

    #[test]
    fn a_step_is_two_lines_in_words() {
        let mut lines = Lines::default();
        let now = Instant::now();
        let begun = Event::StepStarted {
            step: "stop:app".into(),
            what: "stop app".into(),
        };
        assert_eq!(lines.event(&begun, now).unwrap(), "begin: stop app");
        let done = Event::StepFinished {
            step: "stop:app".into(),
            seconds: 1.25,
        };
        assert_eq!(lines.event(&done, now).unwrap(), "ok     stop app (1.2 s)");
        let failed = Event::StepFailed {
            step: "start:app".into(),
            error: "no".into(),
        };
        assert_eq!(lines.event(&failed, now).unwrap(), "FAILED start:app: no");
    }

    #[test]
    fn long_work_speaks_every_five_seconds() {
        let mut lines = Lines::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mib = 1024 * 1024;
        assert_eq!(lines.event(&progress(0, Some(100 * mib)), at(0)), None);
        assert_eq!(
            lines.event(&progress(20 * mib, Some(100 * mib)), at(4)),
            None
        );
        assert_eq!(
            lines
                .event(&progress(50 * mib, Some(100 * mib)), at(5))
                .unwrap(),
            "  redis: unpack 50.0 MiB of 100.0 MiB (50 %), 10.0 MiB/s, 5.0 s left"
        );
        assert_eq!(
            lines.event(&progress(60 * mib, Some(100 * mib)), at(9)),
            None
        );
        assert_eq!(
            lines.event(&progress(60 * mib, None), at(10)).unwrap(),
            "  redis: unpack 60.0 MiB, 6.0 MiB/s"
        );
    }

    #[test]
    fn work_that_stands_still_has_no_end_in_sight() {
        let mut lines = Lines::default();
        let start = Instant::now();
        assert_eq!(lines.event(&progress(7, Some(9)), start), None);
        assert_eq!(
            lines.event(&progress(7, Some(9)), start + EVERY).unwrap(),
            "  redis: unpack 7 B of 9 B (77 %), 0 B/s, ? left"
        );
    }
}
