//! Tar headers: GNU's, which every tar reads, with PAX records only for what those cannot hold.

use tokio_tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use super::super::abort::Aborted;
use super::super::member::Time;
use super::blocks::Blocks;

/// What tar rounds everything up to.
const UNIT: u64 = 512;

/// What a member's header says.
pub(super) struct Entry<'a> {
    pub(super) kind: EntryType,
    pub(super) name: &'a [u8],
    pub(super) link: &'a [u8],
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) size: u64,
    pub(super) xattrs: &'a [(String, Vec<u8>)],
}

impl Entry<'_> {
    /// Writes the headers of a member whose content, if any, follows as it is.
    pub(super) fn write(&self, out: &mut Blocks) -> Result<(), Aborted> {
        self.write_before(out)?;
        let mut header = self.header();
        header.set_size(self.size);
        header.set_cksum();
        out.put(header.as_bytes())
    }

    /// Writes the headers of a sparse file of `self.size` bytes, of which only `pieces` (offset,
    /// length) follow.
    pub(super) fn write_sparse(
        &self,
        pieces: &[(u64, u64)],
        out: &mut Blocks,
    ) -> Result<(), Aborted> {
        self.write_before(out)?;
        let mut header = self.header();
        header.set_entry_type(EntryType::GNUSparse);
        header.set_size(pieces.iter().map(|(_, length)| length).sum());
        // A hole at the end is told by an empty piece behind it.
        let end = pieces.last().map_or(0, |(at, length)| at + length);
        let last = (end < self.size).then_some((self.size, 0));
        let mut pieces = pieces.iter().copied().chain(last).peekable();
        if let Some(gnu) = header.as_gnu_mut() {
            number(&mut gnu.realsize, self.size);
            fill(&mut gnu.sparse, &mut pieces);
            gnu.isextended = [u8::from(pieces.peek().is_some())];
        }
        header.set_cksum();
        out.put(header.as_bytes())?;
        while pieces.peek().is_some() {
            let mut more = GnuExtSparseHeader::new();
            fill(&mut more.sparse, &mut pieces);
            more.isextended = [u8::from(pieces.peek().is_some())];
            out.put(more.as_bytes())?;
        }
        Ok(())
    }

    /// What must be said before the header itself.
    fn write_before(&self, out: &mut Blocks) -> Result<(), Aborted> {
        let mut records = Vec::new();
        if self.mtime.1 != 0 || self.mtime.0 < 0 {
            record(&mut records, "mtime", time(self.mtime).as_bytes());
        }
        for (name, value) in self.xattrs {
            record(&mut records, &format!("SCHILY.xattr.{name}"), value);
        }
        if !records.is_empty() {
            extra(EntryType::XHeader, b"././@PaxHeader", &records, out)?;
        }
        if self.link.len() >= NAME {
            let link = [self.link, b"\0"].concat();
            extra(EntryType::GNULongLink, b"././@LongLink", &link, out)?;
        }
        if self.name.len() >= NAME {
            let name = [self.name, b"\0"].concat();
            extra(EntryType::GNULongName, b"././@LongLink", &name, out)?;
        }
        Ok(())
    }

    fn header(&self) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(self.kind);
        header.set_mode(self.mode & 0o7777);
        header.set_uid(self.uid.into());
        header.set_gid(self.gid.into());
        header.set_mtime(u64::try_from(self.mtime.0).unwrap_or(0));
        header.set_size(0);
        if let Some(gnu) = header.as_gnu_mut() {
            text(&mut gnu.name, self.name);
            text(&mut gnu.linkname, self.link);
        }
        header
    }
}

/// The room for names in a header, a zero behind them.
const NAME: usize = 100;

/// Writes zeros up to the next unit.
pub(super) fn pad(written: u64, out: &mut Blocks) -> Result<(), Aborted> {
    out.zeros((UNIT - written % UNIT) % UNIT)
}

/// Writes the archive's end.
pub(super) fn end(out: &mut Blocks) -> Result<(), Aborted> {
    out.zeros(2 * UNIT)
}

/// A member that says something of the next.
fn extra(kind: EntryType, name: &[u8], content: &[u8], out: &mut Blocks) -> Result<(), Aborted> {
    let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
    // PAX belongs to the standard's own headers, names that are too long to GNU's.
    let mut header = match kind {
        EntryType::XHeader => Header::new_ustar(),
        _ => Header::new_gnu(),
    };
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    text(&mut header.as_old_mut().name, name);
    header.set_cksum();
    out.put(header.as_bytes())?;
    out.put(content)?;
    pad(size, out)
}

/// A PAX record, whose length counts itself.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// `1700000000.123456789`; before 1970 the fraction counts away from zero.
fn time((seconds, nanoseconds): Time) -> String {
    let text = if seconds < 0 && nanoseconds > 0 {
        format!(
            "-{}.{:09}",
            (seconds + 1).unsigned_abs(),
            1_000_000_000 - nanoseconds
        )
    } else {
        format!("{seconds}.{nanoseconds:09}")
    };
    let text = text.trim_end_matches('0');
    text.strip_suffix('.').unwrap_or(text).to_owned()
}

fn text(field: &mut [u8], value: &[u8]) {
    for (place, byte) in field.iter_mut().zip(value) {
        *place = *byte;
    }
}

fn fill(fields: &mut [GnuSparseHeader], pieces: &mut impl Iterator<Item = (u64, u64)>) {
    for field in fields {
        let Some((at, length)) = pieces.next() else {
            return;
        };
        number(&mut field.offset, at);
        number(&mut field.numbytes, length);
    }
}

/// A number as octal digits; one that needs more than eleven in binary, marked by a high bit.
fn number(field: &mut [u8; 12], value: u64) {
    if value < 1 << 33 {
        text(field, format!("{value:011o}").as_bytes());
        return;
    }
    *field = [0; 12];
    field[0] = 0x80;
    text(field.get_mut(4..).unwrap_or_default(), &value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for (value, wanted) in [
            (&b"x"[..], &b"6 a=x\n"[..]),
            (b"12345", b"11 a=12345\n"),
            (b"1234", b"9 a=1234\n"),
        ] {
            let mut records = Vec::new();
            record(&mut records, "a", value);
            assert_eq!(records, wanted, "{value:?}");
        }
    }

    #[test]
    fn times_read_as_they_are_meant() {
        for (mtime, wanted) in [
            ((1_700_000_000, 0), "1700000000"),
            ((1_700_000_000, 500_000_000), "1700000000.5"),
            ((-2, 750_000_000), "-1.25"),
            ((-1, 750_000_000), "-0.25"),
            ((-5, 0), "-5"),
            ((10, 0), "10"),
        ] {
            assert_eq!(time(mtime), wanted);
        }
    }

    #[test]
    fn large_numbers_are_binary() {
        let mut field = [0; 12];
        number(&mut field, 0o777);
        assert_eq!(&field, b"00000000777\0");
        number(&mut field, 1 << 40);
        assert_eq!(field, [0x80, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
    }
}
