//! Unlocking what is encrypted, signing, and checking who signed: by the operator's own `gpg`.
//!
//! The passphrase goes through a pipe, never into an argument; what `gpg` decrypts comes through
//! a pipe too. What it gave counts only once it has said that all of it is right.

use std::path::PathBuf;

use crate::contract::SecretSource;

mod framing;
mod gpg;
mod reader;
mod sign;
mod signature;
mod status;
mod store_keys;

pub(crate) use gpg::Decryption;
pub(crate) use reader::ChannelReader;
pub(crate) use sign::sign;
pub(crate) use signature::check_signature;
pub(crate) use store_keys::StoreKeys;

/// How the backups of a store are unlocked, and whose signature they must bear.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unlock {
    /// The passphrase of symmetric encryption, or of the secret key.
    pub(crate) passphrase: SecretSource,
    /// Where `gpg` keeps its keys; `None`: where it always does.
    pub(crate) home: Option<PathBuf>,
    /// Fingerprints of the keys of which one must have signed the manifest; empty: no signature
    /// is needed, and none is looked at.
    pub(crate) signed_by: Vec<String>,
    /// Nothing is restored from it that none of them has signed.
    pub(crate) require_signature: bool,
    /// The key that signs the manifests of backups that are made there; `None`: none does.
    pub(crate) sign_with: Option<String>,
}

/// For `fuzz/`: a message's framing, and what gpg says of it.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    framing::fuzz(bytes);
    let said = String::from_utf8_lossy(bytes);
    let _ = status::verdict("it", &said, true, framing::Seen::default());
}
