//! How many keys an RDB has in its first database: a server writes that before them. Those of further databases stand
//! after the keys of the first, which are not read.

use super::data::{Chosen, HEADER};
use super::rdb_head;
use crate::contract::RunContext;
use crate::model::Result;

/// What stands before the first key is hardly ever more: functions are all that can be long.
const HEAD: u64 = 1 << 20;

/// The number of the first database and how many keys it has; `None` where the artifact does not tell.
pub(super) async fn of(cx: &RunContext, chosen: &Chosen) -> Result<Option<(u64, u64)>> {
    let bytes = rdb_head::of(cx, chosen, HEAD).await?;
    Ok(bytes.and_then(|bytes| first(&bytes)))
}

/// A length, or the encoding of a number or of a compressed text.
enum Length {
    Plain(u64),
    Special(u8),
}

/// Takes so many bytes off the front.
fn take<'a>(bytes: &mut &'a [u8], count: u64) -> Option<&'a [u8]> {
    let all: &'a [u8] = bytes;
    let (taken, rest) = all.split_at_checked(usize::try_from(count).ok()?)?;
    *bytes = rest;
    Some(taken)
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    take(bytes, 1)?.first().copied()
}

/// A number whose highest byte comes first.
fn number(bytes: &mut &[u8], count: u64) -> Option<u64> {
    let taken = take(bytes, count)?;
    Some(
        taken
            .iter()
            .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte)),
    )
}

fn length(bytes: &mut &[u8]) -> Option<Length> {
    let first = byte(bytes)?;
    let low = u64::from(first & 0x3f);
    Some(match (first >> 6, first) {
        (0, _) => Length::Plain(low),
        (1, _) => Length::Plain((low << 8) | u64::from(byte(bytes)?)),
        (_, 0x80) => Length::Plain(number(bytes, 4)?),
        (_, 0x81) => Length::Plain(number(bytes, 8)?),
        (3, _) => Length::Special(first & 0x3f),
        _ => return None,
    })
}

fn plain(bytes: &mut &[u8]) -> Option<u64> {
    match length(bytes)? {
        Length::Plain(length) => Some(length),
        Length::Special(_) => None,
    }
}

fn skip_text(bytes: &mut &[u8]) -> Option<()> {
    let count = match length(bytes)? {
        Length::Plain(length) => length,
        Length::Special(0) => 1,
        Length::Special(1) => 2,
        Length::Special(2) => 4,
        Length::Special(3) => {
            let compressed = plain(bytes)?;
            plain(bytes)?;
            compressed
        }
        Length::Special(_) => return None,
    };
    take(bytes, count).map(|_| ())
}

/// What the head of an RDB says of its first database. One without keys has none.
fn first(head: &[u8]) -> Option<(u64, u64)> {
    let mut bytes = head;
    let magic = take(&mut bytes, u64::try_from(HEADER).ok()?)?;
    if !magic.starts_with(b"REDIS") && !magic.starts_with(b"VALKEY") {
        return None;
    }
    let mut database = None;
    loop {
        match (byte(&mut bytes)?, database) {
            // A fact about the server: a name and a value.
            (0xfa, None) => {
                skip_text(&mut bytes)?;
                skip_text(&mut bytes)?;
            }
            // A library of functions.
            (0xf5, None) => skip_text(&mut bytes)?,
            (0xfe, None) => database = Some(plain(&mut bytes)?),
            (0xfb, Some(database)) => return Some((database, plain(&mut bytes)?)),
            // The end.
            (0xff, None) => return Some((0, 0)),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::first;

    #[test]
    fn the_keys_of_the_first_database_are_read_from_the_head() {
        let facts = b"REDIS0010\xfa\tredis-ver\x057.0.1\xfa\nredis-bits\xc0@\xfa\x05ctime\xc2\x00\xe1\xcd\x65";
        let with = |rest: &[u8]| first(&[&facts[..], rest].concat());
        assert_eq!(with(b"\xfe\x00\xfb\x05\x01\x00\x01a\x01b"), Some((0, 5)));
        assert_eq!(with(b"\xfe\x07\xfb\x41\x2c\x00"), Some((7, 300)));
        assert_eq!(
            with(b"\xfe\x00\xfb\x80\x00\x01\x00\x00\x00"),
            Some((0, 65536))
        );
        // With functions, one of them compressed.
        let functions = b"\xf5\x03abc\xf5\xc3\x02\x04xy\xfe\x00\xfb\x01\x00";
        assert_eq!(with(functions), Some((0, 1)));
        assert_eq!(with(b"\xff"), Some((0, 0)));
        // Before version 7 none is told; cut, or of modules; no RDB.
        assert_eq!(with(b"\xfe\x00\x00\x01a\x01b"), None);
        assert_eq!(with(b"\xfe\x00\xfb"), None);
        assert_eq!(with(b"\xf7\x01"), None);
        assert_eq!(first(b"*2\r\n$6\r\nSELECT"), None);
    }
}
