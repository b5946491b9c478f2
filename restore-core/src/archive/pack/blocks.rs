//! The archive's bytes, cut into blocks that are compressed side by side.

use std::sync::mpsc::SyncSender;

use super::super::abort::{Aborted, PipelineAbort};

/// The size of a block: large enough that compressing each by itself costs hardly any room.
pub(super) const BLOCK: usize = 1 << 20;

/// Collects bytes into blocks and gives them to the lanes in turns.
pub(super) struct Blocks {
    lanes: Vec<SyncSender<Vec<u8>>>,
    next: usize,
    block: Vec<u8>,
    filled: usize,
    halt: PipelineAbort,
}

impl Blocks {
    pub(super) fn new(lanes: Vec<SyncSender<Vec<u8>>>, halt: &PipelineAbort) -> Self {
        Self {
            lanes,
            next: 0,
            block: Vec::new(),
            filled: 0,
            halt: halt.clone(),
        }
    }

    /// Room for bytes, at least one; say with [`fill`](Self::fill) how many were put there.
    pub(super) fn room(&mut self) -> Result<&mut [u8], Aborted> {
        if self.filled == self.block.len() {
            self.pass_on()?;
            self.block = vec![0; BLOCK];
        }
        Ok(self.block.get_mut(self.filled..).unwrap_or_default())
    }

    pub(super) fn fill(&mut self, more: usize) {
        self.filled = self.block.len().min(self.filled.saturating_add(more));
    }

    pub(super) fn put(&mut self, mut bytes: &[u8]) -> Result<(), Aborted> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let count = room.len().min(bytes.len());
            let (now, later) = bytes.split_at(count);
            if let Some(place) = room.get_mut(..count) {
                place.copy_from_slice(now);
            }
            self.fill(count);
            bytes = later;
        }
        Ok(())
    }

    pub(super) fn zeros(&mut self, mut count: u64) -> Result<(), Aborted> {
        while count > 0 {
            let room = self.room()?;
            let now = room.len().min(usize::try_from(count).unwrap_or(usize::MAX));
            // A block is made of zeros, and nothing has been written to its room yet but what a
            // shorter read left there.
            if let Some(place) = room.get_mut(..now) {
                place.fill(0);
            }
            self.fill(now);
            count = count.saturating_sub(u64::try_from(now).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    /// Passes the last block on; the lanes end when this is dropped.
    pub(super) fn end(mut self) -> Result<(), Aborted> {
        self.pass_on()
    }

    fn pass_on(&mut self) -> Result<(), Aborted> {
        self.halt.check()?;
        let mut block = std::mem::take(&mut self.block);
        block.truncate(self.filled);
        self.filled = 0;
        if block.is_empty() {
            return Ok(());
        }
        let sent = self.lanes.get(self.next).map(|lane| lane.send(block));
        self.next = (self.next + 1) % self.lanes.len().max(1);
        match sent {
            Some(Ok(())) => Ok(()),
            _ => {
                // Whoever took them has stopped, and says why.
                self.halt.check()?;
                Err(Aborted)
            }
        }
    }
}
