//! What a site knows of a store besides how to read it.

use super::Unlock;

/// What a site knows of a store besides how to read it.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreKeys {
    /// How what is fetched from it is unlocked, and what is written to it signed.
    pub(crate) unlock: Unlock,
    /// Whether what was encrypted may lie in it in plain.
    pub(crate) unlocked: bool,
}
