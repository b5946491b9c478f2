//! Stores on other hosts: what they list, how they refuse, and fetching from them across cut
//! wires, full disks and files that change.

mod broken;
mod store;
mod whole;
