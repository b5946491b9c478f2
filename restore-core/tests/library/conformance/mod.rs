//! The library's own stores, components, volumes and platforms keep the contracts that others are
//! held to; and the suites notice where somebody does not. Those of databases are tried with the

//! servers.

mod broken;
mod files;
mod platforms;
mod stores;
