//! Services that did not end when they were asked to.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Why services had to be killed, by the site's names.
#[derive(Debug, Default)]
pub(crate) struct KilledServices(Mutex<HashMap<String, String>>);

impl KilledServices {
    /// Notes that a service was killed, or that nothing of that kind is known of it any more.
    pub(crate) fn set(&self, service: &str, note: Option<String>) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match note {
            Some(note) => notes.insert(service.to_owned(), note),
            None => notes.remove(service),
        };
    }

    pub(crate) fn get(&self, service: &str) -> Option<String> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.get(service).cloned()
    }
}
