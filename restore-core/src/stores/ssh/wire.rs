//! The packets of SFTP, version 3: what is read and written here of draft-ietf-secsh-filexfer-02.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Kinds of packets.
pub(super) mod kind {
    pub(in super::super) const INIT: u8 = 1;
    pub(in super::super) const VERSION: u8 = 2;
    pub(in super::super) const OPEN: u8 = 3;
    pub(in super::super) const CLOSE: u8 = 4;
    pub(in super::super) const READ: u8 = 5;
    pub(in super::super) const OPENDIR: u8 = 11;
    pub(in super::super) const READDIR: u8 = 12;
    pub(in super::super) const STATUS: u8 = 101;
    pub(in super::super) const HANDLE: u8 = 102;
    pub(in super::super) const DATA: u8 = 103;
    pub(in super::super) const NAME: u8 = 104;
    pub(in super::super) const EXTENDED: u8 = 200;
    pub(in super::super) const EXTENDED_REPLY: u8 = 201;
}

/// Codes of a `STATUS` packet.
pub(super) mod status {
    pub(in super::super) const EOF: u32 = 1;
    pub(in super::super) const NO_SUCH_FILE: u32 = 2;
    pub(in super::super) const PERMISSION_DENIED: u32 = 3;
}

/// Open for reading.
pub(super) const READ_ONLY: u32 = 1;

/// No server of good will sends a larger one: OpenSSH's limit is the same.
pub(super) const LARGEST: usize = 256 * 1024;

/// A packet that is being put together; its length is filled in by [`Packet::done`].
pub(super) struct Packet(BytesMut);

impl Packet {
    /// A packet of `kind` without an id (the first one of a session has none).
    pub(super) fn bare(kind: u8) -> Self {
        let mut bytes = BytesMut::with_capacity(64);
        bytes.put_u32(0);
        bytes.put_u8(kind);
        Self(bytes)
    }

    /// A request of `kind`, to be answered under `id`.
    pub(super) fn new(kind: u8, id: u32) -> Self {
        Self::bare(kind).u32(id)
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.put_u32(value);
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.put_u64(value);
        self
    }

    /// A string of bytes with its length.
    pub(super) fn bytes(mut self, value: &[u8]) -> Self {
        self.0
            .put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.put_slice(value);
        self
    }

    /// The packet as it goes over the wire.
    pub(super) fn done(mut self) -> Bytes {
        let length = u32::try_from(self.0.len().saturating_sub(4)).unwrap_or(u32::MAX);
        if let Some(head) = self.0.get_mut(..4) {
            head.copy_from_slice(&length.to_be_bytes());
        }
        self.0.freeze()
    }
}

/// What a packet does not hold although it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Takes a packet apart; every step checks that there is enough left.
pub(super) struct Fields(pub(super) Bytes);

impl Fields {
    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.0.try_get_u32().map_err(|_| Malformed)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.0.try_get_u64().map_err(|_| Malformed)
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        if self.0.len() < length {
            return Err(Malformed);
        }
        Ok(self.0.split_to(length))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The attributes of a file.
    pub(super) fn attributes(&mut self) -> Result<Attributes, Malformed> {
        let flags = self.u32()?;
        let mut found = Attributes::default();
        if flags & 1 != 0 {
            found.size = Some(self.u64()?);
        }
        if flags & 2 != 0 {
            self.u64()?;
        }
        if flags & 4 != 0 {
            found.mode = Some(self.u32()?);
        }
        if flags & 8 != 0 {
            self.u32()?;
            found.modified = Some(self.u32()?);
        }
        if flags & 0x8000_0000 != 0 {
            for _ in 0..self.u32()? {
                self.bytes()?;
                self.bytes()?;
            }
        }
        Ok(found)
    }
}

/// What is known of a file, as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    /// Type and permissions, as in `st_mode`.
    pub(super) mode: Option<u32>,
    /// Seconds since 1970.
    pub(super) modified: Option<u32>,
}

/// What an entry of a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    File,
    Directory,
    Link,
    Other,
}

impl Attributes {
    pub(super) fn kind(&self) -> Type {
        match self.mode.unwrap_or_default() & 0o170_000 {
            0o100_000 => Type::File,
            0o040_000 => Type::Directory,
            0o120_000 => Type::Link,
            _ => Type::Other,
        }
    }
}

/// For `fuzz/`: foreign bytes, in pieces and whole.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(bytes: &[u8]) {
    let mut fields = Fields(Bytes::copy_from_slice(bytes));
    while !fields.is_empty() {
        let name = fields.bytes();
        let attributes = fields.attributes().map(|found| found.kind());
        if name.is_err() && attributes.is_err() && fields.u32().is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_begins_with_its_length() {
        let packet = Packet::new(kind::READ, 7).bytes(b"h").u64(1).u32(2).done();
        assert_eq!(
            &packet[..],
            [
                0, 0, 0, 22, 5, 0, 0, 0, 7, 0, 0, 0, 1, b'h', 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2
            ]
        );
    }

    #[test]
    fn what_is_cut_is_an_error_and_no_panic() {
        let whole = Packet::bare(0)
            .u32(0x8000_000f)
            .u64(5)
            .u32(0)
            .u32(0)
            .u32(0o100_644)
            .u32(1)
            .u32(2)
            .u32(1)
            .bytes(b"a")
            .bytes(b"b")
            .done()
            .slice(5..);
        let found = Fields(whole.clone()).attributes().unwrap();
        assert_eq!((found.size, found.modified), (Some(5), Some(2)));
        assert_eq!(found.kind(), Type::File);
        for length in 0..whole.len() {
            assert_eq!(
                Fields(whole.slice(..length)).attributes(),
                Err(Malformed),
                "{length}"
            );
        }
        // A length that lies.
        assert_eq!(
            Fields(Bytes::from_static(&[255, 255, 255, 255, 1])).bytes(),
            Err(Malformed)
        );
    }
}
