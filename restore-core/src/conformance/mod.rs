//! Whether a store, a component, a volume or a platform of one's own keeps its trait's contract.
//!
//! The traits say what the engine relies on: that a method may be called twice, that a new process
//! finishes what a killed one began, that nothing live changes before the cut-over. The suites here
//! try it, from a test of the embedder's, on whatever the embedder makes:
//!
//! | for | suite | what it is given |
//! |---|---|---|
//! | [`BackupStore`](crate::store::BackupStore) | [`store`] | [`StoreUnderTest`] |
//! | [`Component`](crate::component::Component) | [`component`] | [`ComponentUnderTest`] |
//! | [`Volume`](crate::platform::Volume) | [`volume`] | [`VolumeUnderTest`] |
//! | [`Platform`](crate::platform::Platform) | [`platform`] | [`PlatformUnderTest`] |
//!
//! Each is an async function that ends with the first [`Broken`] clause. The library's own stores,
//! components and platforms run the same suites. A suite makes what it tests anew for each clause,
//! as a new process would. A crash is a future that is dropped in its middle, at each of its steps,
//! in a runtime of its own whose threads end with it.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use restore_core::conformance::{self, ComponentUnderTest};
//! # async fn with(mine: impl ComponentUnderTest + 'static) {
//! // In a test, `mine` being a type that knows how to make the component and to look at its data:
//! conformance::component(Arc::new(mine)).await.unwrap();
//! # }
//! ```

use std::fmt;

mod component;
mod crash;
mod platform;
mod store;
mod tar;
mod volume;

pub use component::{ComponentUnderTest, component};
pub use platform::{PlatformUnderTest, platform};
pub use store::{StoreUnderTest, store};
pub use volume::{Files, VolumeUnderTest, volume};

/// The clause of a contract that does not hold, and what was seen instead.
#[derive(Clone, PartialEq, Eq)]
pub struct Broken {
    clause: String,
    seen: String,
}

impl Broken {
    /// The clause, in the words of the trait's documentation.
    pub fn clause(&self) -> &str {
        &self.clause
    }

    /// What was seen instead.
    pub fn seen(&self) -> &str {
        &self.seen
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not kept: {}; seen: {}", self.clause, self.seen)
    }
}

/// The same line: it is what `unwrap` shows.
impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Broken {}

/// The outcome of a suite.
pub type Kept<T = ()> = Result<T, Broken>;

/// The clause holds, or not and this was seen.
fn holds(clause: &str, kept: bool, seen: impl fmt::Display) -> Kept {
    if kept {
        return Ok(());
    }
    Err(broken(clause, seen))
}

fn broken(clause: &str, seen: impl fmt::Display) -> Broken {
    Broken {
        clause: clause.to_owned(),
        seen: seen.to_string(),
    }
}

/// An error of a call that the clause says must succeed.
fn must<T>(clause: &str, result: crate::Result<T>) -> Kept<T> {
    result.map_err(|error| broken(clause, format!("an error ({}): {error}", error.code())))
}

/// What went wrong in what the suite was given, not in what it tests.
fn given<T>(what: &str, result: crate::Result<T>) -> Kept<T> {
    must(&format!("what the suite is given works: {what}"), result)
}
