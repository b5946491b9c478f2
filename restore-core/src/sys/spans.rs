//! What `tracing` is told of programs, requests and connections: a span while each goes on, and an event
//! with how it ended and how long it took. Arguments of programs, queries of addresses and all that is sent
//! stay out of it: they may be secrets.
//!
//! Steps are of level info, programs of level debug, requests and connections of level trace.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tracing::Span;

use crate::model::Endpoint;

/// A program that runs. Hold it until it has ended.
#[derive(Debug)]
pub(crate) struct ProgramSpan {
    span: Span,
    begun: Instant,
    told: AtomicBool,
}

impl ProgramSpan {
    /// A program of this host that was started.
    pub(crate) fn open(name: &str, pid: Option<u32>) -> Self {
        Self::of(tracing::debug_span!("program", name, pid))
    }

    /// A program that was started in a container.
    pub(crate) fn in_container(name: &str, container: &str) -> Self {
        Self::of(tracing::debug_span!("program", name, container))
    }

    fn of(span: Span) -> Self {
        Self {
            span,
            begun: Instant::now(),
            told: AtomicBool::new(false),
        }
    }

    /// It has ended with this exit code. Once that is told, it is not told again.
    pub(crate) fn ended(&self, code: i32) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::debug!(parent: &self.span, code, ms = milliseconds(self.begun), "ended");
        }
    }
}

impl Drop for ProgramSpan {
    fn drop(&mut self) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::debug!(parent: &self.span, ms = milliseconds(self.begun), "not waited for any longer");
        }
    }
}

/// A request that was sent. Dropped, it is over.
#[derive(Debug)]
pub(crate) struct RequestSpan {
    span: Span,
    begun: Instant,
    status: Option<u16>,
}

impl RequestSpan {
    /// A request that begins now; the span says what it is.
    pub(crate) fn begin(span: Span) -> Self {
        Self {
            span,
            begun: Instant::now(),
            status: None,
        }
    }

    /// It was answered with this status.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        let (status, ms) = (self.status, milliseconds(self.begun));
        tracing::trace!(parent: &self.span, status, ms, "over");
    }
}

/// A connection to a server, of which nothing is told but that it is there.
#[derive(Debug)]
pub(crate) struct ConnectionSpan(Span);

impl ConnectionSpan {
    /// A connection that was made.
    pub(crate) fn open(server: &str, endpoint: &Endpoint) -> Self {
        let (host, port) = (endpoint.host.as_str(), endpoint.port);
        let span = tracing::trace_span!("connection", server, host, port);
        tracing::trace!(parent: &span, "connected");
        Self(span)
    }
}

impl Drop for ConnectionSpan {
    fn drop(&mut self) {
        tracing::trace!(parent: &self.0, "closed");
    }
}

/// So many milliseconds have passed since.
pub(crate) fn milliseconds(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}
