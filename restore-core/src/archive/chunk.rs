//! Buffers that go round between two threads, so that memory stays flat and warm.

use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The size of every buffer, in bytes: large enough that waking a thread for one costs nothing,
/// small enough to stay in the second-level cache.
pub(super) const CHUNK: usize = 256 * 1024;

/// At most so many buffers of [`CHUNK`] bytes; whoever wants one more waits until one is dropped.
pub(super) struct Pool {
    state: Mutex<Idle>,
    freed: Condvar,
}

struct Idle {
    buffers: Vec<Vec<u8>>,
    /// How many more may be made.
    left: usize,
}

impl Pool {
    /// A pool of at most `most` buffers, made when first needed.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(Idle {
                buffers: Vec::with_capacity(most),
                left: most,
            }),
            freed: Condvar::new(),
        })
    }

    /// An empty buffer; waits for one. Every holder gives its buffer back by dropping it, also
    /// when it fails, so that the wait ends.
    pub(super) fn take(self: &Arc<Self>) -> Chunk {
        let mut state = self.lock();
        let buffer = loop {
            if let Some(buffer) = state.buffers.pop() {
                break buffer;
            }
            if state.left > 0 {
                state.left -= 1;
                break vec![0; CHUNK];
            }
            state = self
                .freed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        };
        Chunk {
            buffer,
            filled: 0,
            pool: Arc::clone(self),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer of a [`Pool`]: a filled part, which it derefs to, and room behind it.
pub(super) struct Chunk {
    buffer: Vec<u8>,
    filled: usize,
    pool: Arc<Pool>,
}

impl Chunk {
    /// The room that is left.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.filled..).unwrap_or_default()
    }

    /// Says that `more` bytes of the room were filled.
    pub(super) fn fill(&mut self, more: usize) {
        self.filled = self.buffer.len().min(self.filled.saturating_add(more));
    }

    /// How many bytes are filled.
    pub(super) fn filled(&self) -> usize {
        self.filled
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.pool
            .lock()
            .buffers
            .push(std::mem::take(&mut self.buffer));
        self.pool.freed.notify_one();
    }
}
