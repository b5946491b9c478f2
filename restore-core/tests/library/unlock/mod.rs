//! Packed, encrypted and signed backups, made with `tar` and `gpg` as operators do.

mod artifacts;
mod packed;
mod signed;
