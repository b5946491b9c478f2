//! How what a backup has differs from what is live.

use serde::{Deserialize, Serialize};

/// So many things, the first of them by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Changes {
    /// How many there are.
    pub count: u64,
    /// The first of them, in order.
    pub names: Vec<String>,
}

impl Changes {
    /// One more; kept by name while there are fewer than `most`.
    pub fn add(&mut self, name: impl Into<String>, most: usize) {
        self.count = self.count.saturating_add(1);
        if self.names.len() < most {
            self.names.push(name.into());
        }
    }
}

/// How what a backup has differs from what is live, of one kind of thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Difference {
    /// What is compared: `files`, `lines`, `tables`, `rows`, `settings`, `keys`.
    pub of: String,
    /// How many of them the backup has, where that is known.
    pub backup: Option<u64>,
    /// How many are live, where that is known.
    pub live: Option<u64>,
    /// Whether the live number is an estimate.
    pub estimated: bool,
    /// Whether they are only counted: what is added, changed or removed is not known.
    pub counted_only: bool,
    /// What a restore would bring that is not live.
    pub added: Changes,
    /// What would be another than it is.
    pub changed: Changes,
    /// What would be gone.
    pub removed: Changes,
}

impl Difference {
    /// Nothing found so far of what is called `of`.
    pub fn new(of: impl Into<String>) -> Self {
        Self {
            of: of.into(),
            ..Self::default()
        }
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.added.count + self.changed.count + self.removed.count == 0
    }
}
