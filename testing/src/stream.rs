//! Trees, real archives of them and hand-made evil ones.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use restore_core::stream::{Digest, Source, UnpackPolicy, Unpacked, unpack, walk};
use restore_core::{Error, Progress};

/// Everything that a restore has to bring back, a line for each path below `root`.
pub fn snapshot(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut inodes: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_path_buf();
        let mut line = format!(
            "{:o} {}:{} {}.{:09}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec()
        );
        let kind = meta.file_type();
        if kind.is_dir() {
            let mut names: Vec<_> = fs::read_dir(&path)
                .unwrap()
                .map(|e| e.unwrap().path())
                .collect();
            names.sort();
            todo.extend(names.into_iter().rev());
        } else if kind.is_symlink() {
            write!(line, " -> {}", fs::read_link(&path).unwrap().display()).unwrap();
        } else if kind.is_file() {
            write!(
                line,
                " {} bytes {}",
                meta.len(),
                sha256(&fs::read(&path).unwrap())
            )
            .unwrap();
        } else {
            assert!(kind.is_fifo());
        }
        if meta.nlink() > 1 && !kind.is_dir() {
            let first = inodes.entry(meta.ino()).or_insert_with(|| name.clone());
            write!(line, " = {}", first.display()).unwrap();
        }
        if kind.is_dir() || kind.is_file() {
            for (key, value) in xattrs(&path) {
                write!(line, " {key}={value:?}").unwrap();
            }
        }
        found.insert(name, line);
    }
    found
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut list = vec![0; 4096];
    let Ok(length) = rustix::fs::listxattr(path, &mut list[..]) else {
        return Vec::new();
    };
    let mut all: Vec<_> = list[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let name = String::from_utf8(name.to_vec()).unwrap();
            let mut value = vec![0; 4096];
            let length = rustix::fs::getxattr(path, name.as_str(), &mut value[..]).unwrap();
            value.truncate(length);
            (name, value)
        })
        .collect();
    all.sort();
    all
}

pub fn sha256(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest(sha2::Sha256::digest(bytes).into())
}

/// Runs the real tool, which must succeed.
pub fn run(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).output().unwrap();
    assert!(
        done.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Archives the tree `from` as `to`, as an operator would, with further options.
pub fn tar(to: &Path, from: &Path, options: &[&str]) {
    let (to, from) = (to.to_str().unwrap(), from.to_str().unwrap());
    let mut args = options.to_vec();
    args.extend(["-cf", to, "-C", from, "."]);
    run("tar", &args);
}

pub fn source(path: &Path) -> Source {
    let name = path.file_name().unwrap().to_str().unwrap();
    Source::new(path, name, None, None)
}

pub async fn unpack_with(
    archive: &Path,
    target: &Path,
    policy: &UnpackPolicy,
) -> Result<Unpacked, Error> {
    unpack(source(archive), target, policy, Progress::hidden()).await
}

/// Unpacks and walks: both must judge alike. Returns what unpacking said.
pub async fn both(archive: &Path, policy: &UnpackPolicy) -> Result<Unpacked, Error> {
    let target = tempfile::tempdir().unwrap();
    let unpacked = unpack_with(archive, target.path(), policy).await;
    let walked = walk(source(archive), policy, Progress::hidden()).await;
    match (&unpacked, &walked) {
        (Ok(unpacked), Ok(walked)) => assert_eq!(unpacked, walked),
        (Err(unpacked), Err(walked)) => assert_eq!(
            (unpacked.code(), unpacked.message()),
            (walked.code(), walked.message())
        ),
        _ => panic!("unpack: {unpacked:?}, walk: {walked:?}"),
    }
    unpacked
}

/// Bytes that gzip neither shrinks to nothing nor leaves as they are.
pub fn content(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(size + 8);
    while out.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if state & 3 == 0 {
            out.extend_from_slice(&state.to_le_bytes());
        } else {
            out.extend_from_slice(b"the same");
        }
    }
    out.truncate(size);
    out
}

/// A raw archive, header by header, with whatever nonsense a test wants.
#[derive(Default, Clone)]
pub struct Raw(pub Vec<u8>);

pub struct Header<'a> {
    pub name: &'a str,
    pub kind: u8,
    pub link: &'a str,
    pub mode: u32,
    pub owner: (u32, u32),
    pub data: &'a [u8],
    pub size: Option<u64>,
}

impl Default for Header<'_> {
    fn default() -> Self {
        Self {
            name: "",
            kind: b'0',
            link: "",
            mode: 0o644,
            owner: (0, 0),
            data: b"",
            size: None,
        }
    }
}

impl Raw {
    #[expect(
        clippy::should_implement_trait,
        reason = "a builder of archives, not a sum"
    )]
    pub fn add(mut self, header: &Header<'_>) -> Self {
        let mut block = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &header.name.as_bytes()[..header.name.len().min(100)]);
        put(100, format!("{:07o}\0", header.mode).as_bytes());
        put(108, format!("{:07o}\0", header.owner.0).as_bytes());
        put(116, format!("{:07o}\0", header.owner.1).as_bytes());
        let size = header.size.unwrap_or(header.data.len() as u64);
        put(124, format!("{size:011o}\0").as_bytes());
        put(136, format!("{:011o}\0", 1_600_000_000).as_bytes());
        put(148, b"        ");
        put(156, &[header.kind]);
        put(157, header.link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(header.data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, data: &[u8]) -> Self {
        self.add(&Header {
            name,
            data,
            ..Header::default()
        })
    }

    pub fn directory(self, name: &str) -> Self {
        self.add(&Header {
            name,
            kind: b'5',
            mode: 0o755,
            ..Header::default()
        })
    }

    pub fn symlink(self, name: &str, link: &str) -> Self {
        self.add(&Header {
            name,
            kind: b'2',
            link,
            mode: 0o777,
            ..Header::default()
        })
    }

    pub fn hard_link(self, name: &str, link: &str) -> Self {
        self.add(&Header {
            name,
            kind: b'1',
            link,
            ..Header::default()
        })
    }

    /// A PAX header for the member after it.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.add(&Header {
            name: "pax",
            kind: b'x',
            data: &data,
            ..Header::default()
        })
    }

    pub fn end(mut self) -> Self {
        self.0.resize(self.0.len() + 1024, 0);
        self
    }

    /// Ends the archive and writes it as gzip.
    pub fn gzip(self, path: &Path) {
        fs::write(path, gzip(&self.end().0)).unwrap();
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
