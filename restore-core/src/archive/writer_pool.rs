//! Between the parser and the writers: small files are gathered into batches, large ones cut
//! into parts, and every file of a directory goes to the same writer (two writers in one
//! directory only wait for each other).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use super::abort::{Aborted, PipelineAbort};
use super::chunk::{CHUNK, Chunk, Pool};
use super::links::parent;
use super::member::ContentLayout;
use super::write::{Batch, Directories, Job, MemberMeta};

/// All buffers of the writers: one being filled for each, the rest waiting or being written.
const BUFFERS: usize = 8;

/// How many jobs without content make a batch.
const JOBS: usize = 256;

/// How many hard links are put off until their files are written.
const HARD_LINKS: usize = 4096;

/// Files larger than this are cut into parts.
const SMALL: u64 = CHUNK as u64 / 2;

/// How much there is still to do for a writer, in batches.
pub(super) type Load = Arc<AtomicUsize>;

/// Takes members in their order and spreads them over the writers.
pub(super) struct Sink {
    lanes: Vec<WriterQueue>,
    pool: Arc<Pool>,
    halt: PipelineAbort,
    /// The writer of the directory that the last member lay in.
    current: usize,
    directory: Vec<u8>,
    file: Option<Part>,
    hard_links: Vec<(Vec<u8>, Vec<u8>)>,
    directories: Directories,
}

struct WriterQueue {
    send: SyncSender<Batch>,
    load: Load,
    content: Option<Chunk>,
    jobs: Vec<Job>,
}

/// The file that is being filled.
enum Part {
    /// It fits into the buffer, beginning there.
    Whole(Vec<u8>, MemberMeta, usize),
    /// It goes to the writer as it comes.
    ComponentDeps,
}

impl Sink {
    pub(super) fn new(writers: Vec<(SyncSender<Batch>, Load)>, halt: PipelineAbort) -> Self {
        let lanes = writers.into_iter().map(|(send, load)| WriterQueue {
            send,
            load,
            content: None,
            jobs: Vec::new(),
        });
        Self {
            lanes: lanes.collect(),
            pool: Pool::new(BUFFERS),
            halt,
            current: 0,
            directory: Vec::new(),
            file: None,
            hard_links: Vec::new(),
            directories: Directories::new(),
        }
    }

    /// A directory; it is made when something needs it, and finished last.
    pub(super) fn directory(&mut self, path: Vec<u8>, meta: MemberMeta) {
        self.directories.insert(path, meta);
    }

    /// A file begins; its content follows through [`Self::room`] and [`Self::filled`].
    pub(super) fn file(
        &mut self,
        path: Vec<u8>,
        meta: MemberMeta,
        size: u64,
        layout: &ContentLayout,
    ) -> Result<(), Aborted> {
        self.choose(&path);
        let needed = usize::try_from(size.min(SMALL)).unwrap_or(0);
        let lane = self.lane()?;
        if lane
            .content
            .as_mut()
            .is_some_and(|content| content.room().len() < needed)
        {
            self.flush(self.current)?;
        }
        let small = size <= SMALL && *layout == ContentLayout::Whole;
        let lane = self.lane()?;
        let at = lane.content.as_ref().map_or(0, Chunk::filled);
        self.file = Some(if small {
            Part::Whole(path, meta, at)
        } else {
            lane.jobs
                .push(Job::Open(path, meta, *layout != ContentLayout::Whole));
            Part::ComponentDeps
        });
        Ok(())
    }

    /// Room for the open file's content; never none.
    pub(super) fn room(&mut self) -> Result<&mut [u8], Aborted> {
        let current = self.current;
        let full = self
            .lane()?
            .content
            .as_mut()
            .is_some_and(|content| content.room().is_empty());
        if full {
            self.flush(current)?;
        }
        let pool = Arc::clone(&self.pool);
        let lane = self.lane()?;
        Ok(lane.content.get_or_insert_with(|| pool.take()).room())
    }

    /// `count` bytes of the room were filled with what lies at the offset `at` of the file.
    pub(super) fn filled(&mut self, count: usize, at: u64) {
        let parts = matches!(self.file, Some(Part::ComponentDeps));
        let Ok(lane) = self.lane() else { return };
        let Some(content) = &mut lane.content else {
            return;
        };
        let start = content.filled();
        content.fill(count);
        if parts {
            lane.jobs.push(Job::Part(at, start..content.filled()));
        }
    }

    /// The open file ends; `size` is what it should have become.
    pub(super) fn end_file(&mut self, size: u64) -> Result<(), Aborted> {
        let job = match self.file.take() {
            Some(Part::Whole(path, meta, start)) => {
                let end = self.lane()?.content.as_ref().map_or(0, Chunk::filled);
                Job::File(path, meta, start..end)
            }
            Some(Part::ComponentDeps) => Job::Close(size),
            None => return Ok(()),
        };
        self.push(job)
    }

    /// A symbolic link.
    pub(super) fn symlink(
        &mut self,
        path: Vec<u8>,
        target: Vec<u8>,
        meta: MemberMeta,
    ) -> Result<(), Aborted> {
        self.choose(&path);
        self.push(Job::Symlink(path, target, meta))
    }

    /// A named pipe.
    pub(super) fn fifo(&mut self, path: Vec<u8>, meta: MemberMeta) -> Result<(), Aborted> {
        self.choose(&path);
        self.push(Job::Fifo(path, meta))
    }

    /// Another name for what an earlier member made; put off until that is surely there.
    pub(super) fn hard_link(&mut self, path: Vec<u8>, original: Vec<u8>) -> Result<(), Aborted> {
        self.hard_links.push((path, original));
        if self.hard_links.len() >= HARD_LINKS {
            self.settle()?;
        }
        Ok(())
    }

    /// Waits until everything so far is written, hard links included.
    pub(super) fn settle(&mut self) -> Result<(), Aborted> {
        self.barrier()?;
        if !self.hard_links.is_empty() {
            for (path, original) in std::mem::take(&mut self.hard_links) {
                self.push(Job::HardLink(path, original))?;
            }
            self.barrier()?;
        }
        Ok(())
    }

    /// Ends the writers; the directories are still to be finished.
    pub(super) fn end(mut self) -> Result<Directories, Aborted> {
        self.settle()?;
        Ok(self.directories)
    }

    fn barrier(&mut self) -> Result<(), Aborted> {
        let (answer, answers) = sync_channel(self.lanes.len());
        for lane in 0..self.lanes.len() {
            if let Some(lane) = self.lanes.get_mut(lane) {
                lane.jobs.push(Job::Barrier(answer.clone()));
            }
            self.flush(lane)?;
        }
        drop(answer);
        for _ in &self.lanes {
            if answers.recv().is_err() {
                self.halt.check()?;
                return Err(Aborted);
            }
        }
        Ok(())
    }

    /// The writer for `path`: that of its directory; for a new directory the one with less to do.
    fn choose(&mut self, path: &[u8]) {
        let directory = parent(path);
        if directory == self.directory {
            return;
        }
        self.directory.clear();
        self.directory.extend_from_slice(directory);
        let other = (self.current + 1) % self.lanes.len().max(1);
        let load = |lane: usize| {
            self.lanes.get(lane).map(|lane| {
                let filled = lane.content.as_ref().map_or(0, Chunk::filled);
                (lane.load.load(Ordering::Relaxed), lane.jobs.len(), filled)
            })
        };
        if load(other) < load(self.current) {
            self.current = other;
        }
    }

    fn push(&mut self, job: Job) -> Result<(), Aborted> {
        let lane = self.lane()?;
        lane.jobs.push(job);
        if lane.jobs.len() >= JOBS {
            self.flush(self.current)?;
        }
        Ok(())
    }

    fn lane(&mut self) -> Result<&mut WriterQueue, Aborted> {
        self.lanes.get_mut(self.current).ok_or(Aborted)
    }

    fn flush(&mut self, lane: usize) -> Result<(), Aborted> {
        self.halt.check()?;
        let lane = self.lanes.get_mut(lane).ok_or(Aborted)?;
        let batch = Batch {
            content: lane.content.take(),
            jobs: std::mem::take(&mut lane.jobs),
        };
        lane.load.fetch_add(1, Ordering::Relaxed);
        if lane.send.send(batch).is_err() {
            self.halt.check()?;
            return Err(Aborted);
        }
        Ok(())
    }
}
