//! Runs that are meant to fail.

use restore_core::{Report, Result};

/// What a run came to where that may be anything.
pub trait Ended {
    /// The report, however the run ended; the error where none was begun.
    fn ended(self) -> Result<Report>;
}

impl Ended for Result<Report> {
    fn ended(self) -> Result<Report> {
        Report::however_ended(self)
    }
}
