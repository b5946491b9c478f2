//! What restores without an error and is almost nothing.

/// Of how many rows, keys or files that are live one looks whether far fewer come.
pub(super) const FEW: u64 = 100;

/// Of how many bytes that are live one looks whether far fewer come.
pub(super) const SMALL: u64 = 1024 * 1024;

/// Whether what is `restored` is less than a tenth of what is `live`, where that is at least so much.
pub(super) const fn far_less(restored: u64, live: u64, least: u64) -> bool {
    live >= least && restored < live / 10
}
