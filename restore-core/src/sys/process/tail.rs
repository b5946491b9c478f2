//! The end of what a program says.

use std::sync::{Arc, Mutex, PoisonError};

/// How much is kept.
const KEPT: usize = 16 * 1024;

/// Keeps the last 16 KiB of what is pushed into it. Cheap to clone; clones share.
#[derive(Clone, Debug, Default)]
pub(crate) struct RingBuffer(Arc<Mutex<Vec<u8>>>);

impl RingBuffer {
    pub(crate) fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        // Cut rarely: moving the rest down for each push would cost more than it keeps.
        if kept.len() > 2 * KEPT {
            let from = kept.len() - KEPT;
            kept.drain(..from);
        }
    }

    pub(crate) fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = kept.len().saturating_sub(KEPT);
        String::from_utf8_lossy(kept.get(from..).unwrap_or_default()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept() {
        let tail = RingBuffer::default();
        for _ in 0..1000 {
            tail.push(&[b'x'; 100]);
        }
        tail.push(b"end");
        let text = tail.text();
        assert_eq!(text.len(), KEPT);
        assert!(text.ends_with("xend"));
    }
}
