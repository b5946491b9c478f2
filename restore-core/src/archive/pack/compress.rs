//! Blocks are compressed on several threads, each by itself, and put together in their order: one
//! gzip member, or a row of Zstandard frames.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

use flate2::{Compress, Crc, FlushCompress};

use super::super::abort::{Aborted, PipelineAbort};
use super::super::sink::Sink;
use super::super::unpack::spawn;
use super::Compression;
use super::blocks::Blocks;
use crate::model::{Error, ErrorKind};

/// More threads than this compress faster than one reads.
const LANES: usize = 4;

/// A compressed block.
pub(super) struct Piece {
    bytes: Vec<u8>,
    /// Of what was compressed; for gzip only.
    crc: Option<Crc>,
}

/// Both ends of the threads that compress.
pub(super) struct Lanes {
    blocks: Vec<SyncSender<Vec<u8>>>,
    pieces: Vec<Receiver<Piece>>,
}

/// The end that gives the compressed blocks, in their order.
pub(super) struct Pieces(Vec<Receiver<Piece>>);

/// Starts the threads; they end when no blocks come any more.
pub(super) fn lanes<'scope>(
    scope: &'scope Scope<'scope, '_>,
    compression: Compression,
    halt: &'scope PipelineAbort,
) -> Result<Lanes, Aborted> {
    let count = match compression {
        Compression::None => 1,
        _ => std::thread::available_parallelism().map_or(1, |cores| cores.get().min(LANES)),
    };
    let mut lanes = Lanes {
        blocks: Vec::new(),
        pieces: Vec::new(),
    };
    for _ in 0..count {
        let (send_block, blocks) = sync_channel::<Vec<u8>>(1);
        let (send_piece, pieces) = sync_channel(1);
        // What it comes to is told by `halt`, and the scope waits for it.
        let _thread = spawn(scope, "restore-compress", halt, move || {
            let mut encoder = Encoder::new(compression).map_err(|error| halt.fail(error))?;
            while let Ok(block) = blocks.recv() {
                halt.check()?;
                let piece = encoder.block(block).map_err(|error| halt.fail(error))?;
                if send_piece.send(piece).is_err() {
                    halt.check()?;
                    return Err(Aborted);
                }
            }
            Ok(())
        })?;
        lanes.blocks.push(send_block);
        lanes.pieces.push(pieces);
    }
    Ok(lanes)
}

impl Lanes {
    pub(super) fn split(self, halt: &PipelineAbort) -> (Blocks, Pieces) {
        (Blocks::new(self.blocks, halt), Pieces(self.pieces))
    }
}

impl Pieces {
    /// Writes all pieces, with what the format has before and after them.
    pub(super) fn write(
        self,
        compression: Compression,
        sink: &mut Sink,
        halt: &PipelineAbort,
    ) -> Result<(), Aborted> {
        let mut put = |bytes: &[u8]| sink.put(bytes).map_err(|error| halt.fail(error));
        let gzip = matches!(compression, Compression::Gzip(_));
        if gzip {
            // Deflate, no name, no time: the same tree gives the same archive.
            put(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
        }
        let mut sum = Crc::new();
        let mut length = 0_u32;
        // Given out in turns, so they are taken back in turns; the first that has ended had no
        // more, and nor has any behind it.
        for lane in self.0.iter().cycle() {
            let Ok(piece) = lane.recv() else { break };
            halt.check()?;
            put(&piece.bytes)?;
            if let Some(crc) = &piece.crc {
                sum.combine(crc);
                length = length.wrapping_add(crc.amount());
            }
        }
        halt.check()?;
        if gzip {
            // An empty last block, then the trailer.
            put(&[3, 0])?;
            put(&sum.sum().to_le_bytes())?;
            put(&length.to_le_bytes())?;
        }
        Ok(())
    }
}

enum Encoder {
    Plain,
    Gzip(Compress),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Encoder {
    fn new(compression: Compression) -> Result<Self, Error> {
        Ok(match compression {
            Compression::None => Self::Plain,
            Compression::Gzip(level) => {
                let level = flate2::Compression::new(u32::from(level.min(9)));
                Self::Gzip(Compress::new(level, false))
            }
            Compression::Zstd(level) => {
                let mut zstd = zstd::bulk::Compressor::new(i32::from(level.min(19)))
                    .map_err(|error| broken(&error))?;
                // The size of the first frame would be taken for that of all.
                zstd.include_contentsize(false)
                    .and_then(|()| zstd.include_checksum(true))
                    .map_err(|error| broken(&error))?;
                Self::Zstd(zstd)
            }
        })
    }

    fn block(&mut self, block: Vec<u8>) -> Result<Piece, Error> {
        match self {
            Self::Plain => Ok(Piece {
                bytes: block,
                crc: None,
            }),
            Self::Gzip(deflate) => {
                let mut crc = Crc::new();
                crc.update(&block);
                Ok(Piece {
                    bytes: deflated(deflate, &block)?,
                    crc: Some(crc),
                })
            }
            Self::Zstd(zstd) => Ok(Piece {
                bytes: zstd.compress(&block).map_err(|error| broken(&error))?,
                crc: None,
            }),
        }
    }
}

/// A block as deflate, ended at a byte's border so that the next can follow.
fn deflated(deflate: &mut Compress, block: &[u8]) -> Result<Vec<u8>, Error> {
    deflate.reset();
    let mut out = Vec::with_capacity(block.len() / 2 + 1024);
    loop {
        let read = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        let rest = block.get(read..).unwrap_or_default();
        deflate
            .compress_vec(rest, &mut out, FlushCompress::Sync)
            .map_err(|error| broken(&error))?;
        let done = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX) >= block.len();
        // Room that is left says that the flush came to its end.
        if done && out.len() < out.capacity() {
            return Ok(out);
        }
        out.reserve(block.len() / 4 + 1024);
    }
}

fn broken(error: &dyn std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Internal,
        "stream.compress",
        format!("cannot compress: {error}"),
    )
}
