//! Events as bars, for terminals.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use restore_core::Event;

use super::lines;
use crate::paint::Look;

/// The bars of what is going on; what is over becomes a line above them.
pub(super) struct Bars {
    all: MultiProgress,
    steps: BTreeMap<String, (String, ProgressBar)>,
    work: BTreeMap<(String, String), ProgressBar>,
}

impl Bars {
    pub(super) fn new() -> Self {
        Self {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(
                Terminal::default(),
            ))),
            steps: BTreeMap::new(),
            work: BTreeMap::new(),
        }
    }

    /// Takes an event; gives the line to show above the bars, where it is worth one.
    pub(super) fn event(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::StepStarted { step, what } => {
                let bar = self.all.add(ProgressBar::new_spinner());
                bar.set_style(style("{spinner} {msg} ({elapsed})"));
                bar.set_message(Look::PLAIN.text(what));
                let old = self.steps.insert(step.clone(), (what.clone(), bar));
                if let Some((_, old)) = old {
                    self.remove(&old);
                }
                None
            }
            Event::StepFinished { step, .. } | Event::StepFailed { step, .. } => {
                let begun = self.steps.remove(step);
                if let Some((_, bar)) = &begun {
                    self.remove(bar);
                }
                self.forget(|subject| step.ends_with(&format!(":{subject}")));
                lines::told(event, begun.as_ref().map(|(what, _)| what.as_str()))
            }
            Event::Progress {
                subject,
                action,
                done,
                total,
            } => {
                self.progress(subject, action, *done, *total);
                None
            }
            Event::RunFinished { .. } => {
                self.clear();
                lines::told(event, None)
            }
            _ => lines::told(event, None),
        }
    }

    fn progress(&mut self, subject: &str, action: &str, done: u64, total: Option<u64>) {
        let key = (subject.to_owned(), action.to_owned());
        if total.is_some_and(|total| done >= total) {
            if let Some(bar) = self.work.remove(&key) {
                self.remove(&bar);
            }
            return;
        }
        let bar = self.work.entry(key).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::no_length());
            let prefix = Look::PLAIN.text(&format!("{subject}: {action}"));
            // Whole lines of less than 80 columns: one that wraps leaves traces when it is
            // redrawn. A long name takes the place of the bar itself.
            let long = prefix.chars().count() > 20;
            bar.set_prefix(prefix);
            bar.set_style(style(match (total, long) {
                (Some(_), false) => {
                    "  {prefix:20} [{bar:10}] {percent:>3}% of {total_bytes}, {binary_bytes_per_sec}, {eta} left"
                }
                (Some(_), true) => {
                    "  {prefix:33!} {percent:>3}% of {total_bytes}, {binary_bytes_per_sec}, {eta} left"
                }
                (None, _) => "  {prefix:33!} {bytes}, {binary_bytes_per_sec}",
            }));
            bar
        });
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
    }

    /// Lets time be seen to pass.
    pub(super) fn tick(&self) {
        self.steps.values().for_each(|(_, bar)| bar.tick());
        self.work.values().for_each(ProgressBar::tick);
    }

    /// Writes something else to the terminal, out of the bars' way.
    pub(super) fn beside(&self, write: impl FnOnce()) {
        self.all.suspend(write);
    }

    /// Takes all bars away.
    pub(super) fn clear(&mut self) {
        for (_, bar) in std::mem::take(&mut self.steps).into_values() {
            self.remove(&bar);
        }
        self.forget(|_| true);
        let _ = self.all.clear();
    }

    fn forget(&mut self, over: impl Fn(&str) -> bool) {
        let (gone, kept) = std::mem::take(&mut self.work)
            .into_iter()
            .partition(|((subject, _), _)| over(subject));
        self.work = kept;
        let gone: BTreeMap<_, ProgressBar> = gone;
        for bar in gone.into_values() {
            self.remove(&bar);
        }
    }

    fn remove(&self, bar: &ProgressBar) {
        bar.finish_and_clear();
        self.all.remove(bar);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
        .tick_chars("|/-\\ ")
}

/// The terminal at stderr. It may go away at any moment, which is no failure of what is shown on it:
/// no error of writing to it is told.
#[derive(Debug, Default)]
struct Terminal {
    /// What is to be written at once.
    frame: Mutex<String>,
}

impl Terminal {
    fn add(&self, text: &str) -> io::Result<()> {
        let mut frame = self.frame.lock().unwrap_or_else(PoisonError::into_inner);
        frame.push_str(text);
        Ok(())
    }

    /// Moves the cursor by `n` in the direction of this letter.
    fn go(&self, n: usize, direction: char) -> io::Result<()> {
        match n {
            0 => Ok(()),
            n => self.add(&format!("\x1b[{n}{direction}")),
        }
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        terminal_size::terminal_size_of(io::stderr()).map_or(80, |(width, _)| width.0)
    }

    fn height(&self) -> u16 {
        terminal_size::terminal_size_of(io::stderr()).map_or(24, |(_, height)| height.0)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.go(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.go(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.go(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.go(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.add(text)?;
        self.add("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.add(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.add("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let mut frame = self.frame.lock().unwrap_or_else(PoisonError::into_inner);
        let mut err = io::stderr().lock();
        let _ = err.write_all(frame.as_bytes());
        let _ = err.flush();
        frame.clear();
        Ok(())
    }
}
