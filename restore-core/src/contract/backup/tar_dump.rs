//! Whether dumps are whole that pg_restore does not read to their end: of an archive in the tar format, and
//! of the file of a table in the directory format, it takes what is there for all that there was.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use flate2::write::MultiGzDecoder;

/// The size of a tar archive's blocks.
const BLOCK: usize = 512;

/// How many bytes of the beginning and of the end of a table's rows tell.
const ENDS: usize = 64;

/// What is jumped over in a file instead of being read.
const FAR: u64 = 1 << 20;

/// How the table of contents of a dump begins, and what its file is called.
const MAGIC: &[u8] = b"PGDMP";
const CONTENTS: &str = "toc.dat";

/// So many folders of an archive are told apart.
const FOLDERS: usize = 10_000;

/// By what ends pg_dump names a file that it compresses.
const PACKED: [&str; 3] = [".gz", ".lz4", ".zst"];

const CUT: &str = "it is cut: the end of the archive is missing";

/// Whether a file of a dump in the directory or tar format has the rows of a table, by its name; by what end
/// of it, if any, it is said to be compressed.
pub(crate) fn rows_file(name: &str) -> Option<&'static str> {
    let end = PACKED.into_iter().find(|end| name.ends_with(end));
    let end = end.unwrap_or_default();
    let number = name.strip_suffix(end)?.strip_suffix(".dat")?;
    let is_number = !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit());
    is_number.then_some(end)
}

/// The beginning and the end of what pg_dump wrote of a table.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Rows {
    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let room = ENDS.saturating_sub(self.head.len()).min(bytes.len());
        self.head
            .extend_from_slice(bytes.get(..room).unwrap_or_default());
        let last = bytes.get(bytes.len().saturating_sub(ENDS)..);
        self.tail.extend_from_slice(last.unwrap_or_default());
        let long = self.tail.len().saturating_sub(ENDS);
        self.tail.drain(..long);
    }

    /// Whether the end is there: the line `\.` after the rows of a COPY, an empty one after the
    /// statements of `--inserts`.
    pub(crate) fn is_whole(&self) -> bool {
        let text = self.tail.trim_ascii_end();
        let copied = text == b"\\." || text.ends_with(b"\n\\.");
        let inserted = self.head.starts_with(b"INSERT INTO ") || self.head == b"\n\n";
        copied || (inserted && self.tail.ends_with(b"\n\n"))
    }
}

impl Write for Rows {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.feed(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A member of an archive that is looked into.
#[derive(Debug)]
enum Inside {
    Plain(Rows),
    Gzip(Box<MultiGzDecoder<Rows>>),
    /// It is compressed in a way that is not looked into; whether something has come.
    Packed(bool),
    Damaged,
    /// It is called as the table of contents of a dump; what it begins with.
    Contents(Vec<u8>),
}

impl Inside {
    fn of(name: &str) -> Option<Self> {
        if name == CONTENTS {
            return Some(Self::Contents(Vec::new()));
        }
        let rows = Rows::default();
        Some(match rows_file(name)? {
            "" => Self::Plain(rows),
            ".gz" => Self::Gzip(Box::new(MultiGzDecoder::new(rows))),
            _ => Self::Packed(false),
        })
    }

    fn feed(&mut self, bytes: &[u8]) {
        match self {
            Self::Plain(rows) => rows.feed(bytes),
            Self::Gzip(decoder) => {
                if decoder.write_all(bytes).is_err() {
                    *self = Self::Damaged;
                }
            }
            Self::Packed(some) => *some |= !bytes.is_empty(),
            Self::Damaged => {}
            Self::Contents(head) => {
                let room = MAGIC.len().saturating_sub(head.len()).min(bytes.len());
                head.extend_from_slice(bytes.get(..room).unwrap_or_default());
            }
        }
    }

    fn is_whole(&mut self) -> bool {
        match self {
            Self::Plain(rows) => rows.is_whole(),
            Self::Gzip(decoder) => decoder.try_finish().is_ok() && decoder.get_ref().is_whole(),
            Self::Packed(some) => *some,
            Self::Damaged => false,
            Self::Contents(_) => true,
        }
    }
}

/// Follows an archive of `pg_dump --format=tar` as it comes, or one of a folder of `pg_dump
/// --format=directory`.
#[derive(Debug)]
pub(crate) struct TarDump {
    state: State,
    /// Why it is read no further.
    flaw: Option<String>,
    /// The first table whose rows are cut.
    cut: Option<String>,
    /// The same of each folder in it.
    cut_in: BTreeMap<String, String>,
    /// The folders that have the table of contents of a dump: files of the same names may be anything elsewhere.
    dumps: BTreeSet<String>,
}

#[derive(Debug)]
enum State {
    /// A header begins, or has begun.
    Header(Vec<u8>),
    /// So much of a member is still to come, and so much padding after it.
    Content {
        left: u64,
        padding: u64,
        /// Its name, and what it has of a table or of what is in the dump.
        rows: Option<(String, Inside)>,
    },
    /// One empty block has come; the next ends the archive.
    Empty(Vec<u8>),
    Ended,
}

impl Default for TarDump {
    fn default() -> Self {
        Self {
            state: State::Header(Vec::new()),
            flaw: None,
            cut: None,
            cut_in: BTreeMap::new(),
            dumps: BTreeSet::new(),
        }
    }
}

impl TarDump {
    /// Whether a file that begins so is such an archive.
    pub(crate) fn begins(head: &[u8]) -> bool {
        head.starts_with(b"toc.dat\0") && head.get(257..262) == Some(b"ustar")
    }

    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.flaw.is_none() {
            bytes = match &mut self.state {
                State::Ended => return,
                State::Header(block) | State::Empty(block) => {
                    let room = BLOCK.saturating_sub(block.len()).min(bytes.len());
                    let (taken, rest) = bytes.split_at(room);
                    block.extend_from_slice(taken);
                    if block.len() == BLOCK {
                        self.block();
                    }
                    rest
                }
                State::Content {
                    left,
                    padding,
                    rows,
                } => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX);
                    let (taken, rest) = bytes.split_at(most.min(bytes.len()));
                    *left -= taken.len() as u64;
                    if let Some((_, rows)) = rows {
                        rows.feed(taken);
                    }
                    let (padded, rest) = match *left {
                        0 => {
                            let most = usize::try_from(*padding).unwrap_or(usize::MAX);
                            rest.split_at(most.min(rest.len()))
                        }
                        _ => rest.split_at(0),
                    };
                    *padding -= padded.len() as u64;
                    self.end_content();
                    rest
                }
            };
        }
    }

    /// So many of the next bytes need not be fed.
    fn needless(&self) -> u64 {
        match &self.state {
            State::Content {
                left, rows: None, ..
            } => *left,
            State::Content {
                left,
                rows: Some((_, Inside::Plain(rows))),
                ..
            } if rows.head.len() == ENDS => left.saturating_sub(ENDS as u64),
            _ => 0,
        }
    }

    /// So many bytes, which are [needless](Self::needless), are not fed.
    fn jump(&mut self, bytes: u64) {
        if let State::Content { left, .. } = &mut self.state {
            *left = left.saturating_sub(bytes);
        }
        self.end_content();
    }

    fn end_content(&mut self) {
        let State::Content {
            left: 0,
            padding: 0,
            rows,
        } = &mut self.state
        else {
            return;
        };
        if let Some((name, rows)) = rows {
            let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
            if matches!(rows, Inside::Contents(head) if head.as_slice() == MAGIC) {
                if self.dumps.len() < FOLDERS {
                    self.dumps.insert(folder.to_owned());
                }
            } else if !rows.is_whole() {
                self.cut.get_or_insert_with(|| cut_rows(name));
                if self.cut_in.len() < FOLDERS && !self.cut_in.contains_key(folder) {
                    self.cut_in.insert(folder.to_owned(), cut_rows(name));
                }
            }
        }
        self.state = State::Header(Vec::new());
    }

    /// A whole block has come that is no content.
    fn block(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Header(Vec::new()));
        let (block, again) = match state {
            State::Header(block) => (block, false),
            State::Empty(block) => (block, true),
            other => {
                self.state = other;
                return;
            }
        };
        if block.iter().all(|byte| *byte == 0) {
            self.state = match again {
                true => State::Ended,
                false => State::Empty(Vec::new()),
            };
            return;
        }
        let Some((name, size)) = member(&block) else {
            self.flaw = Some("it is damaged: the header of a member cannot be read".to_owned());
            return;
        };
        // What is said of a file, in records of its own, comes by the file's name too.
        let is_file = matches!(block.get(156), Some(0 | b'0' | b'7'));
        let file = match is_file {
            true => name.rsplit('/').next().unwrap_or_default(),
            false => "",
        };
        let rows = Inside::of(file);
        self.state = State::Content {
            left: size,
            padding: size.wrapping_neg() % BLOCK as u64,
            rows: rows.map(|rows| (name, rows)),
        };
        self.end_content();
    }

    /// Whether all of it has come; else why it is no whole archive.
    pub(crate) fn finish(self) -> Result<(), String> {
        match (self.flaw.or(self.cut), self.state) {
            (Some(flaw), _) => Err(flaw),
            (None, State::Ended) => Ok(()),
            (None, _) => Err(CUT.to_owned()),
        }
    }

    /// As `finish`, where others say whether the archive is whole: of the tables in those of its folders that are
    /// dumps.
    pub(crate) fn finish_rows(self) -> Result<(), String> {
        let mut cut = self.cut_in.into_iter();
        match cut.find(|(folder, _)| self.dumps.contains(folder)) {
            Some((_, cut)) => Err(cut),
            None => Ok(()),
        }
    }
}

/// In words, that the file of a table is cut.
pub(crate) fn cut_rows(name: &str) -> String {
    format!("it is cut: {name} lacks the last line that pg_dump writes after a table's rows")
}

/// Name and size of a member, by its header.
fn member(block: &[u8]) -> Option<(String, u64)> {
    let field = |from: usize, to: usize| block.get(from..to).unwrap_or_default();
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| match at {
            148..156 => u64::from(b' '),
            _ => u64::from(*byte),
        })
        .sum();
    if octal(field(148, 156))? != sum {
        return None;
    }
    let text = |field: &[u8]| {
        let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    };
    let name = text(field(0, 100));
    // A long name is in two fields.
    let name = match (field(257, 263), text(field(345, 500))) {
        (b"ustar\0", folder) if !folder.is_empty() => format!("{folder}/{name}"),
        _ => name,
    };
    let size = match field(124, 136) {
        [first, rest @ ..] if first & 0x80 != 0 => {
            let first = u64::from(first & 0x7f);
            rest.iter().try_fold(first, |size, byte| {
                size.checked_mul(256)?.checked_add(u64::from(*byte))
            })?
        }
        text => octal(text)?,
    };
    // Links and the like have no content, whatever their size says.
    let size = match field(156, 157) {
        [b'1'..=b'6'] => 0,
        _ => size,
    };
    Some((name, size))
}

fn octal(text: &[u8]) -> Option<u64> {
    let end = text.iter().position(|byte| *byte == 0);
    let text = text.get(..end.unwrap_or(text.len()))?.trim_ascii();
    let text = std::str::from_utf8(text).ok()?;
    u64::from_str_radix(text, 8).ok()
}

/// Reads such an archive, and of it only what tells. `stopped`: whether to break off, which is an error.
pub(crate) fn check(
    file: &mut File,
    stopped: impl Fn() -> bool,
) -> std::io::Result<Result<(), String>> {
    let meta = file.metadata()?;
    let mut archive = TarDump::default();
    let mut buffer = vec![0; 64 * 1024];
    let mut at: u64 = 0;
    loop {
        if stopped() {
            return Err(std::io::Error::other("it was broken off"));
        }
        let far = archive.needless();
        if far >= FAR && meta.is_file() {
            if at.saturating_add(far) > meta.len() {
                return Ok(Err(CUT.to_owned()));
            }
            at += far;
            file.seek(SeekFrom::Start(at))?;
            archive.jump(far);
            continue;
        }
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok(archive.finish()),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        archive.feed(buffer.get(..read).unwrap_or_default());
        at += read as u64;
        if archive.flaw.is_some() || archive.cut.is_some() || matches!(archive.state, State::Ended)
        {
            return Ok(archive.finish());
        }
    }
}

/// Whether what pg_dump wrote of a table into this file is whole: by its ends only.
pub(crate) fn check_rows(file: &mut File) -> std::io::Result<bool> {
    let size = file.metadata()?.len();
    let mut rows = Rows::default();
    let mut bytes = Vec::new();
    Read::by_ref(file)
        .take(ENDS as u64)
        .read_to_end(&mut bytes)?;
    rows.feed(&bytes);
    let rest = size.saturating_sub(bytes.len() as u64).min(ENDS as u64);
    file.seek(SeekFrom::Start(size.saturating_sub(rest)))?;
    bytes.clear();
    file.take(rest).read_to_end(&mut bytes)?;
    rows.feed(&bytes);
    Ok(rows.is_whole())
}

/// For `fuzz/`: read as it comes, and from a file of which parts are jumped over.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    let mut archive = TarDump::default();
    for piece in bytes.chunks(700) {
        archive.feed(piece);
    }
    let _ = archive.finish();
    let Ok(file) = rustix::fs::memfd_create("dump", rustix::fs::MemfdFlags::CLOEXEC) else {
        return;
    };
    let mut file = File::from(file);
    if file.write_all(bytes).and_then(|()| file.rewind()).is_err() {
        return;
    }
    let _ = check(&mut file, || false);
    if file.rewind().is_ok() {
        let _ = check_rows(&mut file);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn add(archive: &mut Vec<u8>, name: &str, content: &[u8]) {
        add_as(b'0', archive, name, content);
    }

    fn add_as(kind: u8, archive: &mut Vec<u8>, name: &str, content: &[u8]) {
        let mut block = [0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        block[156] = kind;
        block[257..262].copy_from_slice(b"ustar");
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        archive.extend_from_slice(&block);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }

    /// An archive of a dump with a table of these rows.
    pub(crate) fn archive(rows: &[u8]) -> Vec<u8> {
        let mut archive = Vec::new();
        add(&mut archive, "toc.dat", b"PGDMP");
        add(&mut archive, "3340.dat", rows);
        add(&mut archive, "blob_1.dat", &[b'x'; 1000]);
        archive.resize(archive.len() + 2 * BLOCK, 0);
        archive
    }

    fn told(bytes: &[u8]) -> Result<(), String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        let told = check(&mut file, || false).unwrap();
        let small = bytes.len() < 100_000;
        for size in [1, 7, 513, 100_000]
            .into_iter()
            .filter(|it| small || *it > 513)
        {
            let mut archive = TarDump::default();
            for piece in bytes.chunks(size) {
                archive.feed(piece);
            }
            assert_eq!(archive.finish(), told, "{size}");
        }
        told
    }

    #[test]
    fn an_archive_is_whole_with_its_end_and_those_of_its_tables() {
        let long = [vec![b'1'; 3 << 20], b"\n\\.\n\n\n".to_vec()].concat();
        for rows in [
            &b"1\n2\n\\.\n\n\n"[..],
            b"\\.\n\n\n",
            b"\n\n",
            b"INSERT INTO public.t VALUES (1);\n\n\n",
            long.as_slice(),
        ] {
            let whole = archive(rows);
            assert!(TarDump::begins(&whole));
            assert_eq!(told(&whole), Ok(()));
            for end in (0..whole.len() - 1).step_by(1 + whole.len() / 40) {
                assert!(told(&whole[..end]).is_err(), "{end} of {}", whole.len());
            }
        }
        for rows in [
            &b""[..],
            b"1\n2\n",
            b"1\n2\\.\n",
            b"INSERT INTO public.t VALUES (1);\n",
            &long[..long.len() - 6],
        ] {
            let error = told(&archive(rows)).unwrap_err();
            assert!(error.contains("3340.dat"), "{error}");
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(rows).unwrap();
            file.rewind().unwrap();
            assert!(!check_rows(&mut file).unwrap());
        }
        let mut damaged = archive(b"\\.\n");
        damaged[2 * BLOCK] = b'x';
        assert!(told(&damaged).unwrap_err().contains("damaged"));
    }

    #[test]
    fn a_folder_in_an_archive_is_looked_into() {
        let gzip = |bytes: &[u8]| {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(bytes).unwrap();
            packed.finish().unwrap()
        };
        let folder = |name: &str, content: &[u8]| {
            let mut archive = Vec::new();
            add(&mut archive, name, content);
            add(&mut archive, "d/toc.dat", b"PGDMP");
            archive.resize(archive.len() + 2 * BLOCK, 0);
            let mut read = TarDump::default();
            archive.chunks(100).for_each(|piece| read.feed(piece));
            read.finish_rows().is_ok()
        };
        let whole = gzip(b"1\n2\n\\.\n\n\n");
        assert!(folder("d/3340.dat.gz", &whole));
        assert!(!folder("d/3340.dat.gz", &whole[..whole.len() - 9]));
        assert!(!folder("d/3340.dat.gz", b""));
        assert!(!folder("d/3340.dat.gz", &gzip(b"1\n2\n")));
        assert!(!folder("d/3340.dat.lz4", b""));
        assert!(!folder("d/3340.dat", b"1\n"));
        assert!(folder("d/other.dat", b"1\n"));
        // Another program's files, which only have such names.
        assert!(folder("12.dat", b"1\n"));
        assert!(folder("e/12.dat", b"1\n"));
        let mut archive = Vec::new();
        add(&mut archive, "d/12.dat", b"1\n");
        add(&mut archive, "d/toc.dat", b"a table of contents");
        add(&mut archive, "d/e/toc.dat", b"PGDMP");
        let mut read = TarDump::default();
        archive.chunks(100).for_each(|piece| read.feed(piece));
        assert_eq!(read.finish_rows(), Ok(()));
    }

    #[test]
    fn what_is_said_of_a_file_is_not_taken_for_it() {
        let archive = |rows: &[u8], files: &[u8]| {
            let mut archive = Vec::new();
            for (name, content) in [("toc.dat", &b"PGDMP"[..]), ("3340.dat", rows)] {
                let said = b"30 mtime=1700000000.123456789\n";
                add_as(b'x', &mut archive, &format!("d/PaxHeaders/{name}"), said);
                for kind in files {
                    add_as(*kind, &mut archive, &format!("d/{name}"), content);
                }
            }
            archive.resize(archive.len() + 2 * BLOCK, 0);
            let mut read = TarDump::default();
            archive.chunks(100).for_each(|piece| read.feed(piece));
            (!read.dumps.is_empty(), read.finish_rows().is_ok())
        };
        for kind in [b'0', b'7', 0] {
            assert_eq!(archive(b"1\n\\.\n\n\n", &[kind]), (true, true), "{kind}");
            assert_eq!(archive(b"1\n", &[kind]), (true, false), "{kind}");
        }
        assert_eq!(archive(b"1\n", &[]), (false, true));
    }

    #[test]
    fn files_are_known_by_their_names() {
        for (name, expected) in [
            ("3340.dat", Some("")),
            ("3340.dat.gz", Some(".gz")),
            ("3340.dat.zst", Some(".zst")),
            ("blob_16.dat.zst", None),
            ("toc.dat", None),
            (".dat", None),
            ("blobs.toc", None),
        ] {
            assert_eq!(rows_file(name), expected, "{name}");
        }
    }
}
