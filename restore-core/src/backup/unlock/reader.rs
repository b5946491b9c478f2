//! What comes over a channel, as a thread reads it. Why it ends, whoever sends knows.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc::Receiver;

/// Reads a channel of bytes from a thread that may block.
pub(crate) struct ChannelReader {
    receive: Receiver<Bytes>,
    current: Bytes,
}

impl ChannelReader {
    pub(crate) fn new(receive: Receiver<Bytes>) -> Self {
        Self {
            receive,
            current: Bytes::new(),
        }
    }
}

impl Read for ChannelReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receive.blocking_recv() {
                Some(data) => self.current = data,
                None => return Ok(0),
            }
        }
        let read = into.len().min(self.current.len());
        self.current
            .copy_to_slice(into.get_mut(..read).unwrap_or_default());
        Ok(read)
    }
}
