//! What the example programs show, in pieces that can be taken over: a component, a store, and
//! events made into a web page and chat messages. Each is tried in `tests/`, the component and the
//! store with the library's own conformance suites.

mod announce;
mod filed_by_year;
mod search_index;

pub use announce::Announce;
pub use filed_by_year::FiledByYear;
pub use search_index::SearchIndex;
