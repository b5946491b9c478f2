//! What nobody else can guess.

use std::io::Read;

use crate::model::{Error, Result};

/// Bytes of the kernel's.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(|e| Error::io("read /dev/urandom", e))?;
    Ok(bytes)
}

/// Letters and digits that nobody else knows.
pub(crate) fn random_name() -> Result<String> {
    let bytes = random_bytes::<24>()?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
