//! Connections to the servers of a site: through TLS where the site says so, and without a password
//! going where somebody on the way could read it.
//!
//! Nothing here knows what is asked of a server.

mod postgres;
mod redis;
mod tls;
mod wire;

pub(crate) use postgres::{ConnectError, asked_in_the_clear, connect as connect_postgres};
pub(crate) use redis::{Redis, accepts as accepts_redis, connect as connect_redis};
pub(crate) use tls::{Mode, Tls, TlsKeys, trusting, unverified};

/// For `fuzz/`: what a PostgreSQL server says while it lets in.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    postgres::fuzz(bytes);
}
