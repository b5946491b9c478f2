//! Of what time an RDB is: its server writes that into its first bytes.

use super::data::Chosen;
use super::rdb_head;
use crate::contract::RunContext;
use crate::model::{Result, Timestamp};

/// The auxiliary fields stand before all data.
const HEAD: u64 = 1024;

/// The time of an artifact; `None` where it does not tell.
pub(super) async fn of(cx: &RunContext, chosen: &Chosen) -> Result<Option<Timestamp>> {
    let bytes = rdb_head::of(cx, chosen, HEAD).await?;
    Ok(bytes.and_then(|bytes| created(&bytes)))
}

/// `ctime` is seconds since 1970, as a string's special encoding of a 32-bit number, or as text.
pub(super) fn created(bytes: &[u8]) -> Option<Timestamp> {
    const KEY: &[u8] = b"\xfa\x05ctime";
    let at = bytes.windows(KEY.len()).position(|it| it == KEY)? + KEY.len();
    let seconds = match bytes.get(at)? {
        0xc2 => i64::from(u32::from_le_bytes(
            bytes.get(at + 1..at + 5)?.try_into().ok()?,
        )),
        length @ 1..=0x3f => {
            let text = bytes.get(at + 1..at + 1 + usize::from(*length))?;
            std::str::from_utf8(text).ok()?.parse().ok()?
        }
        _ => return None,
    };
    Timestamp::of_unix(seconds)
}

#[cfg(test)]
mod tests {
    use super::created;

    #[test]
    fn the_time_is_read_from_the_head() {
        let head = b"REDIS0010\xfa\tredis-ver\x057.0.1\xfa\nredis-bits\xc0@\xfa\x05ctime\xc2\x00\xe1\xcd\x65\xfa";
        assert_eq!(created(head).unwrap().precise(), "2024-02-15 10:01:36 UTC");
        assert_eq!(created(b"REDIS0010"), None);
    }
}
