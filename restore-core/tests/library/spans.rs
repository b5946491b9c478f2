//! The spans of `tracing` that are opened while something runs, and the events in them.

use std::sync::{Arc, Mutex};

/// The names of the spans that were opened, with what they say; and each event, as `in SPAN: FIELDS`.
#[derive(Clone, Default)]
pub struct Opened(Arc<Mutex<Vec<String>>>);

impl Opened {
    /// Notes those of this thread until the guard is dropped.
    pub fn here(&self) -> tracing::subscriber::DefaultGuard {
        tracing::subscriber::set_default(self.clone())
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

struct Fields<'a>(&'a mut String);

impl tracing::field::Visit for Fields<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        *self.0 += &format!(" {field}={value:?}");
    }
}

impl tracing::Subscriber for Opened {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let mut said = span.metadata().name().to_owned();
        span.record(&mut Fields(&mut said));
        let mut all = self.0.lock().unwrap();
        all.push(said);
        tracing::span::Id::from_u64(all.len() as u64)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut said = String::new();
        event.record(&mut Fields(&mut said));
        let mut all = self.0.lock().unwrap();
        // A span's number is its place in the list.
        let at = event.parent().map_or(0, |id| id.into_u64() as usize);
        let span = at.checked_sub(1).and_then(|at| all.get(at).cloned());
        all.push(format!("in {}:{said}", span.unwrap_or_default()));
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
