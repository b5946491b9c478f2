//! What a file of a backup is: its first bytes say, not its name.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinHandle;

use crate::archive::{Digest, Source, forward_chunks};
use crate::model::{Error, ErrorKind, Progress, Result};

/// How many bytes tell.
const HEAD: u64 = 4096;

/// How many pieces of decompressed data may be under way.
const DEPTH: usize = 4;

/// How a dump is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Statements.
    Sql,
    /// pg_dump's custom format.
    Custom,
    /// pg_dump's tar format.
    Tar,
    /// A folder as `pg_dump -Fd` makes it, or a tar archive of one.
    Folder,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) format: Format,
    /// It is compressed as a whole.
    pub(super) packed: bool,
}

impl Content {
    /// Looks at the first bytes, decompressed where they must be.
    ///
    /// # Errors
    ///
    /// `postgres.unknown_format` for what is no dump; those of the stream for a damaged one.
    pub(super) async fn of(path: &Path, label: &str) -> Result<Self> {
        let head = head(path).await?;
        if packer(&head).is_none() {
            return Ok(Self {
                format: Format::of(&head, label)?,
                packed: false,
            });
        }
        let file = crate::sys::open_to_read(path).map_err(|e| read_error(path, e))?;
        let mut pieces = Decompressed::begin(file, label, &head);
        let first = pieces.next().await?.unwrap_or_default();
        if let Some(packer) = packer(&first) {
            return Err(unknown(
                label,
                &format!("is compressed by {packer}, in a way that is not read"),
            )
            .hint("decompress it, and write its line in the manifest anew"));
        }
        Ok(Self {
            format: Format::of(&first, label)?,
            packed: true,
        })
    }

    /// Whether it is statements.
    pub(super) fn is_sql(self) -> bool {
        self.format == Format::Sql
    }
}

impl Format {
    fn of(head: &[u8], label: &str) -> Result<Self> {
        if head.starts_with(b"PGDMP") {
            return Ok(Self::Custom);
        }
        if head.get(257..262) == Some(b"ustar") {
            return Ok(match head.starts_with(b"toc.dat\0") {
                true => Self::Tar,
                false => Self::Folder,
            });
        }
        let what = match head {
            [] => "is empty",
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                return Err(unknown(label, "is text in UTF-16, as a shell of Windows writes it")
                    .hint("iconv -f UTF-16 -t UTF-8 makes it readable; let pg_dump write to its file itself (--file)"));
            }
            _ if is_sql(head) => return Ok(Self::Sql),
            _ => "is no dump of PostgreSQL, neither of an archive format nor in SQL",
        };
        Err(unknown(label, what))
    }
}

/// Whether a text begins as scripts do: not whether it is a good one.
fn is_sql(head: &[u8]) -> bool {
    const BEGIN: [&[u8]; 14] = [
        b"--", b"/*", b"\\", b"SET", b"CREATE", b"ALTER", b"DROP", b"COPY", b"INSERT", b"BEGIN",
        b"SELECT", b"COMMENT", b"START", b"DO ",
    ];
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text = text.trim_ascii_start();
    BEGIN.iter().any(|begin| {
        text.get(..begin.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(begin))
    })
}

/// By what a file is compressed, by its first bytes.
fn packer(head: &[u8]) -> Option<&'static str> {
    match head {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some("Zstandard"),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some("lz4"),
        [b'P', b'K', 3, 4, ..] => Some("zip"),
        _ => None,
    }
}

/// The reason of an error: a file is no dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnknownFormat;

/// The version of the pg_dump that made an archive in the custom format, as its first bytes tell.
pub(super) async fn made_by(path: &Path) -> Option<String> {
    dumper(&head(path).await.ok()?)
}

/// "17.5 (Debian 17.5-1)", of the head of an archive: the size of numbers, how it is compressed, a time
/// of seven numbers, and three texts, of which the last tells.
fn dumper(head: &[u8]) -> Option<String> {
    let rest = head.strip_prefix(b"PGDMP")?;
    let (&[_, minor, _, size, _, _], rest) = rest.split_first_chunk::<6>()?;
    let size = usize::from(size);
    if !(1..=8).contains(&size) {
        return None;
    }
    // A number is a sign and so many bytes. Since format 1.15 a byte names the algorithm of compression,
    // before that a number its level.
    let compression = if minor < 15 { size + 1 } else { 1 };
    let mut rest = rest.get(compression + 7 * (size + 1)..)?;
    let mut text = String::new();
    for _ in 0..3 {
        let (length, after) = rest.split_at_checked(size + 1)?;
        let mut bytes = length.iter().skip(1).rev();
        let length = bytes.try_fold(0_usize, |sum, byte| {
            sum.checked_mul(256)?.checked_add(usize::from(*byte))
        })?;
        let (found, after) = after.split_at_checked(length)?;
        text = String::from_utf8_lossy(found).into_owned();
        rest = after;
    }
    text.starts_with(|first: char| first.is_ascii_digit())
        .then_some(text)
}

fn unknown(label: &str, what: &str) -> Error {
    Error::new(
        ErrorKind::Verification,
        "postgres.unknown_format",
        format!("{label} {what}"),
    )
    .because(UnknownFormat)
    .hint("choose another backup; pg_dump writes what can be restored, in any of its formats")
}

fn read_error(path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("read {}", path.display()), error)
}

async fn head(path: &Path) -> Result<Vec<u8>> {
    let shown = path.to_owned();
    let read = move || {
        let mut head = Vec::new();
        crate::sys::open_to_read(&shown)
            .and_then(|file| file.take(HEAD).read_to_end(&mut head))
            .map(|_| head)
            .map_err(|e| read_error(&shown, e))
    };
    tokio::task::spawn_blocking(read).await.map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "postgres.task",
            format!("reading a file ended unexpectedly: {e}"),
        )
    })?
}

/// The content of a compressed file as it comes.
pub(super) struct Decompressed {
    pieces: Receiver<Bytes>,
    reading: Option<JoinHandle<Result<Digest>>>,
}

impl Decompressed {
    /// Begins to read a file, whose first bytes say how it is compressed: whatever its name says.
    fn begin(file: File, label: &str, head: &[u8]) -> Self {
        let (send, pieces) = channel(DEPTH);
        // A name that claims another way would be believed.
        let label = format!("{label} ({})", packer(head).unwrap_or("compressed"));
        let source = Source::from_file(file, label, None, None);
        let reading = tokio::spawn(forward_chunks(source, Progress::hidden(), send));
        Self {
            pieces,
            reading: Some(reading),
        }
    }

    /// The next piece; `None` at the end of a file that is whole.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if let Some(piece) = self.pieces.recv().await {
            return Ok(Some(piece));
        }
        match self.reading.take() {
            Some(reading) => ended(reading.await).map(|_| None),
            None => Ok(None),
        }
    }
}

fn ended(done: std::result::Result<Result<Digest>, tokio::task::JoinError>) -> Result<Digest> {
    done.map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "postgres.task",
            format!("decompressing a file ended unexpectedly: {e}"),
        )
    })?
}

/// The content of a file as it comes, decompressed where `packed` says so.
pub(super) enum Pieces {
    /// As it is.
    Plain {
        file: tokio::fs::File,
        buffer: Vec<u8>,
        label: String,
    },
    /// What it is decompressed to.
    Packed(Decompressed, Bytes),
}

impl Pieces {
    /// Begins to read `file` from its start.
    pub(super) fn begin(mut file: File, label: &str, packed: bool) -> Result<Self> {
        if !packed {
            return Ok(Self::Plain {
                file: tokio::fs::File::from_std(file),
                buffer: vec![0; 256 * 1024],
                label: label.to_owned(),
            });
        }
        let mut head = [0; 8];
        let read = |e| Error::io(format!("read {label}"), e);
        let count = file.read(&mut head).map_err(read)?;
        std::io::Seek::rewind(&mut file).map_err(read)?;
        let head = head.get(..count).unwrap_or_default();
        Ok(Self::Packed(
            Decompressed::begin(file, label, head),
            Bytes::new(),
        ))
    }

    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<&[u8]>> {
        match self {
            Self::Plain {
                file,
                buffer,
                label,
            } => {
                let count = file
                    .read(buffer)
                    .await
                    .map_err(|e| Error::io(format!("read {label}"), e))?;
                let bytes = buffer.get(..count).unwrap_or_default();
                Ok((!bytes.is_empty()).then_some(bytes))
            }
            Self::Packed(unpacked, piece) => match unpacked.next().await? {
                Some(next) => {
                    *piece = next;
                    Ok(Some(piece))
                }
                None => Ok(None),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_says_which_program_made_it() {
        let text = |text: &str| {
            let length = u8::try_from(text.len()).unwrap();
            [&[0, length, 0, 0, 0][..], text.as_bytes()].concat()
        };
        for (minor, compression) in [(14, &[0, 6, 0, 0, 0][..]), (16, &[1][..])] {
            let head = [
                &b"PGDMP\x01"[..],
                &[minor, 0, 4, 8, 1],
                compression,
                &[0; 35],
                &text("shop"),
                &text("15.4"),
                &text("17.5 (Debian 17.5-1)"),
            ]
            .concat();
            assert_eq!(dumper(&head).as_deref(), Some("17.5 (Debian 17.5-1)"));
            for end in 0..head.len() {
                assert_eq!(dumper(&head[..end]), None, "{minor}, {end}");
            }
        }
        assert_eq!(dumper(b"PGDMP\x01\x10\x00\xff\x08\x01 and more"), None);
    }

    #[tokio::test]
    async fn first_bytes_tell_what_a_file_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postgres.sql.zst");
        let mut tar = [0; 512];
        tar[..8].copy_from_slice(b"toc.dat\0");
        tar[257..262].copy_from_slice(b"ustar");
        let mut folder = tar;
        folder[..8].copy_from_slice(b"./\0\0\0\0\0\0");
        for (bytes, format) in [
            (&b"PGDMP\x01"[..], Format::Custom),
            (b"--\n-- PostgreSQL database dump\n", Format::Sql),
            (b"\xef\xbb\xbf\r\n--\r\n", Format::Sql),
            (b"\\restrict x\n", Format::Sql),
            (&tar, Format::Tar),
            (&folder, Format::Folder),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let plain = Content {
                format,
                packed: false,
            };
            assert_eq!(Content::of(&path, "x").await.unwrap(), plain);
            for program in ["gzip", "zstd"] {
                let packed = std::process::Command::new(program)
                    .args(["-c", "-q"])
                    .stdin(File::open(&path).unwrap())
                    .output()
                    .unwrap();
                let other = dir.path().join("other.gz");
                std::fs::write(&other, packed.stdout).unwrap();
                let content = Content::of(&other, "other.gz").await.unwrap();
                assert_eq!(
                    (content.format, content.packed),
                    (format, true),
                    "{program}"
                );
            }
        }
        for (bytes, words) in [
            (&b""[..], "is empty"),
            (b"no dump", "is no dump"),
            (b"\xff\xfe-\0-\0", "UTF-16"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = Content::of(&path, "x").await.unwrap_err();
            assert_eq!(error.code(), "postgres.unknown_format");
            assert!(error.message().contains(words), "{error}");
        }
        // A damaged one, and one of nothing.
        std::fs::write(&path, b"\x1f\x8b\x08\0").unwrap();
        let error = Content::of(&path, "x").await.unwrap_err();
        assert_eq!(error.code(), "archive.truncated");
    }
}
