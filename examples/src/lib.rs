//! What the example programs show, in pieces that can be taken over: a component, a store, a check, a
//! hook, a maintenance mode, the lock of a platform, and events made into a web page and chat messages. Each is
//! tried in `tests/`, the component and the store with the library's own conformance suites.

mod announce;
mod diary;
mod filed_by_year;
mod flag;
mod fresh_file;
mod search_index;
mod shared_lock;

pub use announce::Announce;
pub use diary::Diary;
pub use filed_by_year::FiledByYear;
pub use flag::Flag;
pub use fresh_file::FreshFile;
pub use search_index::SearchIndex;
pub use shared_lock::SharedLock;
