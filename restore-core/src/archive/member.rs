//! One archive member, as its headers describe it.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_tar::{Entry, EntryType};

use super::acl::{ACCESS, DEFAULT, from_text, is_acl};
use super::tar_reader::Watch;

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TarKind {
    File(ContentLayout),
    Directory,
    Symlink(Vec<u8>),
    Hardlink(Vec<u8>),
    /// A directory of an incremental archive of GNU tar.
    Dumpdir {
        /// How many of its entries are not in the archive: they were unchanged since another one,
        /// or were renamed.
        absent: u64,
    },
    Fifo,
    CharacterDevice,
    BlockDevice,
    /// A header that describes all members after it, with the keys that it sets.
    Global(Vec<String>),
    /// The label of a volume: a comment for the whole archive.
    Label,
    /// The rest of a file of which another volume has the beginning.
    Continued,
    /// A type that nothing here knows.
    Unknown(u8),
}

/// How a file's content lies in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ContentLayout {
    /// As it is.
    Whole,
    /// The parser fills the holes with zeros; they are to become holes again.
    Zeros {
        /// So many bytes of it are in the archive.
        stored: u64,
    },
    /// Only these pieces (offset, length) of a file of the member's size.
    Pieces(Vec<(u64, u64)>),
}

/// The largest file of ext4, and far more than what anyone waits for to be read.
const HOLES: u64 = 16 << 40;

/// A point in time: seconds since 1970 and nanoseconds.
pub(crate) type Time = (i64, u32);

/// A member's headers, read; nothing of it is checked.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: Vec<u8>,
    pub(super) what: TarKind,
    /// Permission bits, set-uid, set-gid and sticky included.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The names of its owner and group, where the archive has them.
    pub(super) user: Option<Vec<u8>>,
    pub(super) group: Option<Vec<u8>>,
    pub(super) mtime: Time,
    /// Extended attributes that can be given to a file again.
    pub(super) xattrs: Vec<(String, Vec<u8>)>,
    /// How many others it has, which are not given to it again.
    pub(super) attributes_lost: u64,
    /// Whether it has a label of SELinux, which is not either.
    pub(super) labelled: bool,
    /// The file's size once unpacked.
    pub(super) size: u64,
}

impl Member {
    pub(super) fn is_directory(&self) -> bool {
        matches!(self.what, TarKind::Directory | TarKind::Dumpdir { .. })
    }
}

/// What PAX headers say beyond what the parser applies itself.
#[derive(Default)]
struct Extra {
    mtime: Option<Time>,
    xattrs: Vec<(String, Vec<u8>)>,
    attributes_lost: u64,
    labelled: bool,
    sparse_name: Option<Vec<u8>>,
    sparse_size: Option<u64>,
    /// The largest size that is given for what is in the archive.
    size: u64,
    /// Version 1.0: the map stands before the content.
    sparse_inline: bool,
    /// See [`TarKind::Dumpdir`].
    absent: Option<u64>,
    pieces: Option<Vec<(u64, u64)>>,
}

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Reads the headers of `entry`, and of its content only the map of a sparse file and the list of a
/// directory.
pub(super) async fn read<R: AsyncRead + Unpin>(
    entry: &mut Entry<R>,
    watch: &Watch,
) -> io::Result<Member> {
    let extra = if entry.header().entry_type().is_pax_global_extensions() {
        Extra::default()
    } else {
        extra(entry).await?
    };
    let kind = entry.header().entry_type();
    let name = match extra.sparse_name {
        Some(name) => name,
        None => entry.path_bytes()?.into_owned(),
    };
    let target = |entry: &Entry<R>| -> io::Result<Vec<u8>> {
        let link = entry.link_name_bytes()?;
        link.map(std::borrow::Cow::into_owned)
            .ok_or_else(|| bad("a link without a target"))
    };
    let mut size = entry.effective_size();
    let what = match kind {
        // Archives from before the type was invented mark a directory by its name.
        EntryType::Regular if name.ends_with(b"/") => TarKind::Directory,
        EntryType::Regular | EntryType::Continuous => {
            let pieces = if extra.sparse_inline {
                Some(inline_pieces(entry).await?)
            } else {
                extra.pieces
            };
            match pieces {
                Some(pieces) => {
                    size = extra
                        .sparse_size
                        .ok_or_else(|| bad("a sparse file without a size"))?;
                    check_pieces(&pieces, size)?;
                    TarKind::File(ContentLayout::Pieces(pieces))
                }
                None => TarKind::File(ContentLayout::Whole),
            }
        }
        // Its holes are read as zeros: there must be an end to them.
        EntryType::GNUSparse if size > HOLES => {
            return Err(bad("a sparse file larger than any file system takes"));
        }
        EntryType::GNUSparse => {
            // A size in a PAX header overrules the one here: whichever is more.
            let stored = entry.header().raw_entry_size()?.max(extra.size);
            TarKind::File(ContentLayout::Zeros { stored })
        }
        EntryType::Directory => match extra.absent {
            Some(absent) => TarKind::Dumpdir { absent },
            None => TarKind::Directory,
        },
        EntryType::Symlink => TarKind::Symlink(target(entry)?),
        EntryType::Link => TarKind::Hardlink(target(entry)?),
        EntryType::Fifo => TarKind::Fifo,
        EntryType::Char => TarKind::CharacterDevice,
        EntryType::Block => TarKind::BlockDevice,
        EntryType::XGlobalHeader => TarKind::Global(global_keys(entry).await?),
        other => match other.as_byte() {
            b'D' => {
                // The list is its content, and as long as the directory is large.
                watch.content();
                TarKind::Dumpdir {
                    absent: absent_of(entry).await?,
                }
            }
            b'V' => TarKind::Label,
            b'M' => TarKind::Continued,
            byte => TarKind::Unknown(byte),
        },
    };
    let header = entry.header();
    if matches!(what, TarKind::Global(_)) {
        return Ok(Member {
            name,
            what,
            mode: 0,
            uid: 0,
            gid: 0,
            user: None,
            group: None,
            mtime: (0, 0),
            xattrs: Vec::new(),
            attributes_lost: 0,
            labelled: false,
            size: 0,
        });
    }
    let id = |id: u64| match u32::try_from(id) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(bad("an owner's number that does not exist")),
    };
    Ok(Member {
        name,
        what,
        mode: header.mode()? & 0o7777,
        uid: id(header.uid()?)?,
        gid: id(header.gid()?)?,
        user: owner(entry.username_bytes()),
        group: owner(entry.groupname_bytes()),
        // A time before 1970 comes as the two's complement.
        mtime: match extra.mtime {
            Some(mtime) => mtime,
            None => (header.mtime()?.cast_signed(), 0),
        },
        xattrs: extra.xattrs,
        attributes_lost: extra.attributes_lost,
        labelled: extra.labelled,
        size,
    })
}

fn owner(name: Option<&[u8]>) -> Option<Vec<u8>> {
    name.filter(|name| !name.is_empty()).map(<[u8]>::to_vec)
}

/// Whether an entry of such a list is of something that the archive does not have: not dumped
/// because it was unchanged, or renamed from elsewhere.
fn is_absent(kind: u8) -> bool {
    matches!(kind, b'N' | b'R' | b'T' | b'X')
}

/// Reads the list of a directory of an incremental archive, which is its content.
async fn absent_of<R: AsyncRead + Unpin>(entry: &mut Entry<R>) -> io::Result<u64> {
    let (mut absent, mut first) = (0_u64, true);
    let mut buffer = [0; 4096];
    loop {
        let read = entry.read(&mut buffer).await?;
        if read == 0 {
            return Ok(absent);
        }
        for byte in buffer.get(..read).unwrap_or_default() {
            absent += u64::from(first && is_absent(*byte));
            first = *byte == 0;
        }
    }
}

async fn extra<R: AsyncRead + Unpin>(entry: &mut Entry<R>) -> io::Result<Extra> {
    let mut extra = Extra::default();
    let Some(records) = entry.pax_extensions().await? else {
        return Ok(extra);
    };
    let mut offset = None;
    for record in records {
        let record = record?;
        let Ok(key) = record.key() else { continue };
        let value = record.value_bytes();
        let number = || {
            std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<u64>().ok())
                .ok_or_else(|| bad(format!("{key} is not a number")))
        };
        if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
            match fate(name) {
                Fate::Kept => extra.xattrs.push((name.to_owned(), value.to_vec())),
                Fate::Lost => extra.attributes_lost += 1,
                Fate::MadeAnew => extra.labelled = true,
            }
            continue;
        }
        match key {
            // As GNU tar writes it with `--selinux`.
            "RHT.security.selinux" => extra.labelled = true,
            // What is no list here stays one that cannot be set, so that its mode is not believed.
            "SCHILY.acl.access" | "SCHILY.acl.default" => {
                let text = std::str::from_utf8(value).unwrap_or_default();
                let name = if key.ends_with("access") {
                    ACCESS
                } else {
                    DEFAULT
                };
                let list = from_text(text).unwrap_or_default();
                extra.xattrs.push((name.to_owned(), list));
            }
            "GNU.dumpdir" => {
                let entries = value.split(|byte| *byte == 0);
                let absent = entries.filter(|it| it.first().is_some_and(|kind| is_absent(*kind)));
                extra.absent = u64::try_from(absent.count()).ok();
            }
            "mtime" => extra.mtime = Some(time(value).ok_or_else(|| bad("mtime is not a time"))?),
            "size" => extra.size = extra.size.max(number()?),
            "GNU.sparse.name" => extra.sparse_name = Some(value.to_vec()),
            "GNU.sparse.size" | "GNU.sparse.realsize" => extra.sparse_size = Some(number()?),
            "GNU.sparse.major" => extra.sparse_inline = number()? == 1,
            "GNU.sparse.map" => extra.pieces = Some(mapped(value)?),
            "GNU.sparse.offset" => offset = Some(number()?),
            "GNU.sparse.numbytes" => {
                let offset = offset
                    .take()
                    .ok_or_else(|| bad("a length without an offset"))?;
                let pieces = extra.pieces.get_or_insert_default();
                pieces.push((offset, number()?));
            }
            _ => {}
        }
    }
    Ok(extra)
}

/// What becomes of an extended attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    /// It belongs to the system that it was found on, and is told.
    Lost,
    /// Where a file lies says which it gets.
    MadeAnew,
}

/// What becomes of the attribute `name`.
pub(super) fn fate(name: &str) -> Fate {
    match name {
        name if name.strip_prefix("security.") == Some("selinux") => Fate::MadeAnew,
        name if name.starts_with("user.") || name == CAPABILITIES || is_acl(name) => Fate::Kept,
        _ => Fate::Lost,
    }
}

/// The attribute that gives a program powers of root, as set-uid does.
pub(super) const CAPABILITIES: &str = "security.capability";

async fn global_keys<R: AsyncRead + Unpin>(entry: &mut Entry<R>) -> io::Result<Vec<String>> {
    if entry.effective_size() > super::tar_reader::HEADERS {
        return Err(bad("a global header of absurd size"));
    }
    let mut keys = Vec::new();
    if let Some(records) = entry.pax_extensions().await? {
        for record in records {
            keys.push(String::from_utf8_lossy(record?.key_bytes()).into_owned());
        }
    }
    Ok(keys)
}

/// `1700000000.123456789`, possibly negative.
fn time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = whole.parse::<i64>().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanos = digits.parse::<u32>().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        // The fraction counts downwards there; the kernel counts it upwards.
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

/// The map of sparse format 0.1: `offset,length,offset,length`.
fn mapped(value: &[u8]) -> io::Result<Vec<(u64, u64)>> {
    let wrong = || bad("the map of a sparse file cannot be read");
    let text = std::str::from_utf8(value).map_err(|_| wrong())?;
    let mut numbers = text.split(',').map(|number| number.parse::<u64>());
    let mut pieces = Vec::new();
    while let Some(offset) = numbers.next() {
        let length = numbers.next().ok_or_else(wrong)?;
        pieces.push((offset.map_err(|_| wrong())?, length.map_err(|_| wrong())?));
    }
    Ok(pieces)
}

/// The map of sparse format 1.0: numbers in lines before the content, in whole blocks.
async fn inline_pieces<R: AsyncRead + Unpin>(entry: &mut Entry<R>) -> io::Result<Vec<(u64, u64)>> {
    let wrong = || bad("the map of a sparse file cannot be read");
    let mut numbers = Vec::new();
    let mut wanted = 1;
    let mut digits = String::new();
    let mut blocks = 0_u64;
    while numbers.len() < wanted {
        blocks += 1;
        if blocks > super::tar_reader::HEADERS / 512 {
            return Err(bad("the map of a sparse file has no end"));
        }
        let mut block = [0; 512];
        entry.read_exact(&mut block).await?;
        for byte in block {
            match byte {
                b'0'..=b'9' if digits.len() < 20 => digits.push(char::from(byte)),
                b'\n' => {
                    let number: u64 = digits.parse().map_err(|_| wrong())?;
                    digits.clear();
                    if numbers.is_empty() {
                        let count = usize::try_from(number).map_err(|_| wrong())?;
                        wanted = count
                            .checked_mul(2)
                            .and_then(|twice| twice.checked_add(1))
                            .ok_or_else(wrong)?;
                    }
                    numbers.push(number);
                }
                _ => return Err(wrong()),
            }
            if numbers.len() >= wanted {
                break;
            }
        }
    }
    let pairs = numbers.get(1..).unwrap_or_default().chunks_exact(2);
    Ok(pairs
        .filter_map(|pair| Some((*pair.first()?, *pair.get(1)?)))
        .collect())
}

fn check_pieces(pieces: &[(u64, u64)], size: u64) -> io::Result<()> {
    let mut end = 0;
    for (offset, length) in pieces {
        if *offset < end {
            return Err(bad("the pieces of a sparse file overlap"));
        }
        end = offset
            .checked_add(*length)
            .filter(|end| *end <= size)
            .ok_or_else(|| bad("a piece of a sparse file lies behind its end"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_fractions_and_before_1970() {
        assert_eq!(time(b"1700000000"), Some((1_700_000_000, 0)));
        assert_eq!(time(b"1700000000.5"), Some((1_700_000_000, 500_000_000)));
        assert_eq!(time(b"1.1234567891"), Some((1, 123_456_789)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-0.25"), Some((-1, 750_000_000)));
        assert_eq!(time(b"soon"), None);
        assert_eq!(time(b"1.-5"), None);
    }

    #[test]
    fn pieces_are_in_order_and_inside() {
        assert_eq!(mapped(b"0,512,4096,1").unwrap(), [(0, 512), (4096, 1)]);
        assert!(mapped(b"0,512,4096").is_err());
        assert!(check_pieces(&[(0, 512), (4096, 1)], 4097).is_ok());
        assert!(check_pieces(&[(0, 512), (511, 1)], 4097).is_err());
        assert!(check_pieces(&[(0, u64::MAX), (1, 1)], 4097).is_err());
    }
}
