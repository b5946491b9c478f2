//! A throwaway Redis, a platform of nothing but that one service, and backups of it.

mod backup;
mod case;
mod content;
mod platform;
mod server;

use std::time::{Duration, Instant};

pub use backup::{Form, back_up};
pub use case::Case;
pub use server::Server;

pub const BACKUP: &str = "20240215-020000";

const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a condition, or panics with its name.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
