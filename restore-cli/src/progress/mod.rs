//! What stderr shows: messages, errors and the events of the work, in the order they came.

use std::collections::HashSet;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use restore_core::{Error, Event, EventSink};
use serde_json::json;

use crate::args::ProgressMode;
use crate::paint::Look;
use crate::printer::error_value;

mod bars;
mod lines;

use bars::Bars;
use lines::Lines;
pub(crate) use lines::finding_line;

/// So many unshown events, and progress (there is always newer) is dropped.
const BACKLOG: usize = 1000;
/// How often bars move on by themselves.
const TICK: Duration = Duration::from_millis(125);

/// The only way to stderr. One thread writes, so that whoever speaks is never held up by a slow
/// terminal and nothing is written into the middle of a bar.
#[derive(Clone)]
pub(crate) struct Stderr {
    sender: Sender<Message>,
    waiting: Arc<AtomicUsize>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
    quiet: bool,
}

enum Message {
    Event(Box<Event>),
    /// Whole lines.
    Say(String),
    /// A line of the log.
    Log(String),
    /// A question, to be answered on the same line.
    Ask(String),
    Error(String, serde_json::Value),
    /// Everything before it is out when the sender behind it is dropped.
    Flush(Sender<()>),
    /// Nothing comes any more.
    End,
}

impl Stderr {
    /// Begins to write, in the way asked for.
    pub(crate) fn start(mode: ProgressMode) -> Self {
        let (sender, receiver) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&waiting);
        let writer = std::thread::Builder::new()
            .name("stderr".to_owned())
            .spawn(move || Writer::new(mode).work(&receiver, &count));
        Self {
            sender,
            waiting,
            writer: Arc::new(Mutex::new(writer.ok())),
            quiet: false,
        }
    }

    /// The same; shows nothing but questions and errors where that is asked for.
    pub(crate) fn quiet(mut self, quiet: bool) -> Self {
        self.quiet = quiet;
        self
    }

    /// Shows lines of text, which may be kept quiet about.
    pub(crate) fn say(&self, text: impl Into<String>) {
        if !self.quiet {
            self.tell(text);
        }
    }

    /// Shows lines of text that somebody must see.
    pub(crate) fn tell(&self, text: impl Into<String>) {
        self.send(Message::Say(text.into()));
    }

    /// Shows a line of the log, which was asked for.
    pub(crate) fn log(&self, line: impl Into<String>) {
        self.send(Message::Log(line.into()));
    }

    /// Shows a question, to be answered on the same line, and waits until it is to be seen.
    pub(crate) fn ask(&self, text: impl Into<String>) {
        self.send(Message::Ask(text.into()));
        self.flush(Duration::from_secs(5));
    }

    /// Shows an error and its hint.
    pub(crate) fn error(&self, error: &Error) {
        let mut text = format!("error: {error}\n");
        if let Some(hint) = error.hint_text() {
            text += &format!("hint: {hint}\n");
        }
        self.send(Message::Error(text, error_value(error)));
    }

    /// Waits until everything so far is written, no longer than `patience`.
    pub(crate) fn flush(&self, patience: Duration) {
        let (sender, receiver) = channel();
        self.send(Message::Flush(sender));
        let _ = receiver.recv_timeout(patience);
    }

    /// Writes what is left and ends.
    pub(crate) fn end(&self) {
        self.send(Message::End);
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }

    fn send(&self, message: Message) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Without a writer there is nobody to tell.
        let _ = self.sender.send(message);
    }
}

impl EventSink for Stderr {
    fn emit(&self, event: &Event) {
        if self.quiet {
            return;
        }
        let late = self.waiting.load(Ordering::Relaxed) > BACKLOG;
        if late && matches!(event, Event::Progress { .. }) {
            return;
        }
        self.send(Message::Event(Box::new(event.clone())));
    }
}

/// How events are shown.
enum Style {
    Bars(Bars),
    Lines(Lines),
    Json,
    Off,
}

struct Writer {
    style: Style,
    /// The checks of which a finding has told that they fail.
    told: HashSet<String>,
}

impl Writer {
    fn new(mode: ProgressMode) -> Self {
        let terminal = io::stderr().is_terminal();
        let style = match mode {
            ProgressMode::Auto if terminal => Style::Bars(Bars::new()),
            ProgressMode::Auto | ProgressMode::Plain => Style::Lines(Lines::default()),
            ProgressMode::Json => Style::Json,
            ProgressMode::Off => Style::Off,
        };
        Self {
            style,
            told: HashSet::new(),
        }
    }

    /// Whether an event says again of a check what a finding has said, and more of it.
    fn is_said(&mut self, event: &Event) -> bool {
        match event {
            Event::RunStarted { .. } => self.told.clear(),
            Event::Finding { finding } if finding.tells_of_a_check() => {
                self.told.insert(finding.subject.clone());
            }
            Event::Check { name, passed, .. } => return !passed && self.told.contains(name),
            _ => {}
        }
        false
    }

    fn work(mut self, receiver: &Receiver<Message>, waiting: &AtomicUsize) {
        loop {
            let message = match receiver.recv_timeout(TICK) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => {
                    if let Style::Bars(bars) = &self.style {
                        bars.tick();
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            waiting.fetch_sub(1, Ordering::Relaxed);
            match message {
                Message::Event(event) => self.event(&event),
                Message::Say(text) => self.say(&text),
                Message::Log(line) => self.show("log", &line),
                Message::Ask(text) => match self.style {
                    Style::Json => self.say(&text),
                    _ => self.write(&Look::stderr().text(&text)),
                },
                Message::Error(_, value) if matches!(self.style, Style::Json) => {
                    self.write(&format!("{}\n", json!({ "error": value })));
                }
                Message::Error(text, _) => self.say(&text),
                Message::Flush(done) => drop(done),
                Message::End => break,
            }
        }
        if let Style::Bars(bars) = &mut self.style {
            bars.clear();
        }
    }

    fn event(&mut self, event: &Event) {
        if self.is_said(event) && !matches!(self.style, Style::Json) {
            return;
        }
        let text = match &mut self.style {
            Style::Bars(bars) => bars.event(event),
            Style::Lines(lines) => lines.event(event, Instant::now()),
            Style::Json => serde_json::to_string(event).ok(),
            Style::Off => None,
        };
        match text {
            Some(text) if matches!(self.style, Style::Json) => self.write(&format!("{text}\n")),
            Some(text) => self.say(&text),
            None => {}
        }
    }

    fn say(&self, text: &str) {
        self.show("message", text);
    }

    /// Writes lines of text; for programs as an event of this name.
    fn show(&self, event: &str, text: &str) {
        if let Style::Json = self.style {
            let text = text.trim_end();
            self.write(&format!("{}\n", json!({ "event": event, "text": text })));
            return;
        }
        let end = if text.ends_with('\n') { "" } else { "\n" };
        self.write(&format!("{}{end}", Look::stderr().text(text)));
    }

    /// Where stderr is closed there is nowhere left to complain.
    fn write(&self, text: &str) {
        let write = || {
            let mut err = io::stderr().lock();
            let _ = err.write_all(text.as_bytes());
            let _ = err.flush();
        };
        match &self.style {
            Style::Bars(bars) => bars.beside(write),
            _ => write(),
        }
    }
}
