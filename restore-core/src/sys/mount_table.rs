//! The texts of the table of mounts (`/proc/self/mountinfo`).

/// A field as it is meant: blanks and backslashes are `\040` and the like there.
pub(crate) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let code = tail
            .get(..3)
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match (byte, code) {
            (b'\\', Some(code)) => {
                out.push(code);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_backslashes_come_back() {
        assert_eq!(unescape(b"/mnt/da\\040ta\\134x"), b"/mnt/da ta\\x");
        // What is no number stays, also at the end.
        assert_eq!(unescape(b"/a\\9xy\\04"), b"/a\\9xy\\04");
    }
}
