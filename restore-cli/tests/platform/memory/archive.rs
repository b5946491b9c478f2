//! Makes large archives fast: tar in gzip's stored blocks, of content that does not shrink,

//! hashed on the way.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

const BLOCK: usize = 512;

/// A `.tar.gz` that is being written.
pub struct Archive {
    gzip: GzEncoder<BufWriter<Hashed>>,
    noise: Vec<u8>,
}

impl Archive {
    pub fn create(path: &Path) -> Self {
        let hashed = Hashed {
            file: File::create(path).unwrap(),
            hash: Sha256::new(),
            size: 0,
        };
        let mut noise = vec![0; 1 << 20];
        File::open("/dev/urandom")
            .unwrap()
            .read_exact(&mut noise)
            .unwrap();
        Self {
            gzip: GzEncoder::new(
                BufWriter::with_capacity(1 << 18, hashed),
                Compression::none(),
            ),
            noise,
        }
    }

    pub fn directory(&mut self, name: &str) {
        self.header(name, b'5', 0o755, 0);
    }

    pub fn file(&mut self, name: &str, size: u64) {
        self.header(name, b'0', 0o644, size);
        let mut left = usize::try_from(size).unwrap();
        while left > 0 {
            let part = left.min(self.noise.len());
            self.gzip.write_all(&self.noise[..part]).unwrap();
            left -= part;
        }
        let over = usize::try_from(size).unwrap() % BLOCK;
        if over > 0 {
            self.gzip.write_all(&[0; BLOCK][over..]).unwrap();
        }
    }

    /// The archive's size and its hash in hexadecimal.
    pub fn finish(mut self) -> (u64, String) {
        self.gzip.write_all(&[0; 2 * BLOCK]).unwrap();
        let hashed = self.gzip.finish().unwrap().into_inner().unwrap();
        let sum = hashed.hash.finalize();
        let hex = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        (hashed.size, hex)
    }

    fn header(&mut self, name: &str, kind: u8, mode: u32, size: u64) {
        let mut header = [0; BLOCK];
        let mut put = |at: usize, text: &str| {
            header[at..at + text.len()].copy_from_slice(text.as_bytes());
        };
        put(0, name);
        put(100, &format!("{mode:07o}"));
        put(108, &format!("{:07o}", 0));
        put(116, &format!("{:07o}", 0));
        put(124, &format!("{size:011o}"));
        put(136, &format!("{:011o}", 1_707_962_400));
        put(148, "        ");
        put(156, std::str::from_utf8(&[kind]).unwrap());
        put(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.gzip.write_all(&header).unwrap();
    }
}

/// A file and the hash of what is written to it.
#[derive(Debug)]
struct Hashed {
    file: File,
    hash: Sha256,
    size: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += u64::try_from(written).unwrap();
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
