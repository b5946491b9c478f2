//! Maintenance mode: users are told to wait, by every web server, for every host name, and it is
//! proven that they are.

pub(crate) mod command;
pub(crate) mod kinds;
pub(crate) mod nginx;
pub(crate) mod page;
pub(crate) mod page_probe;
pub(crate) mod parse;
pub(crate) mod servers;
pub(crate) mod tokens;
pub(crate) mod tool;

pub use self::kinds::{KINDS, make};
pub use crate::contract::{Maintenance, Readiness};
pub use crate::model::FILE_NAME;

/// For `fuzz/`: what `nginx -T` prints.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    tokens::fuzz(bytes);
    let text = String::from_utf8_lossy(bytes);
    let _ = parse::Config::parse(&text, std::path::Path::new("/etc/nginx/conf.d"));
}
