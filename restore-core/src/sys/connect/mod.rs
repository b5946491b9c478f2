//! Connections to the servers of a site: through TLS where the site says so, and without a password
//! going where somebody on the way could read it.
//!
//! Nothing here knows what is asked of a server.

mod bounded;
mod postgres;
mod redis;
mod tls;
mod wire;

pub(crate) use postgres::{ConnectError, asked_in_the_clear, connect as connect_postgres};
pub(crate) use redis::{Redis, accepts as accepts_redis, connect as connect_redis};
pub(crate) use tls::{Mode, Tls, TlsKeys, trusting, unverified};

/// Whether the host of an address is this one: what goes there passes nobody.
pub(crate) fn is_this_host(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Whether there is a socket of this host at an absolute path, which a link may lead to.
pub(crate) fn is_socket(path: &std::path::Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    path.is_absolute()
        && path
            .metadata()
            .is_ok_and(|meta| meta.file_type().is_socket())
}

/// For `fuzz/`: what a PostgreSQL server says while it lets in.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    postgres::fuzz(bytes);
}
