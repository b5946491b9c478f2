//! Names and words of others, shown as what they are.
//!
//! A file's name may hold line ends, escape sequences of terminals, and characters that turn the
//! direction of what follows: in a report, a log or on a terminal it could pass for a line of ours.

use std::borrow::Cow;

/// A number of bytes for people: `1.2 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut amount = count as f64;
    let mut unit = "B";
    for next in UNITS {
        // 1023.95 would be shown as 1024.0.
        if amount < 1023.95 {
            break;
        }
        amount /= 1024.0;
        unit = next;
    }
    format!("{amount:.1} {unit}")
}

/// How much is needed, and how much there is: in bytes where people's units would show no difference.
pub(crate) fn needed_and_had(needed: u64, had: u64) -> (String, String) {
    match (bytes(needed), bytes(had)) {
        (needed_words, had_words) if needed_words == had_words && needed != had => {
            (format!("{needed} bytes"), format!("{had} bytes"))
        }
        words => words,
    }
}

/// A text as one word of a command that somebody may type.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./,:@=".contains(&byte);
    match !text.is_empty() && text.bytes().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// The text on one line: what is no visible character is written as its escape (`\n`, `\u{1b}`).
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            c if is_harmless(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.extend(c.escape_unicode()),
        }
    }
    Cow::Owned(out)
}

/// Does what [`shown`] does to all texts in a value.
pub(crate) fn shown_in(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => {
            let clean = shown(text).into_owned();
            *text = clean;
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(shown_in),
        serde_json::Value::Object(entries) => {
            if entries.keys().any(|key| !key.chars().all(is_harmless)) {
                *entries = std::mem::take(entries)
                    .into_iter()
                    .map(|(key, value)| (shown(&key).into_owned(), value))
                    .collect();
            }
            entries.values_mut().for_each(shown_in);
        }
        _ => {}
    }
}

/// Neither a control character nor one that ends a line or turns the direction of what follows.
fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_on_its_line_and_says_nothing_to_a_terminal() {
        assert_eq!(
            shown("s\u{1b}]0;owned\u{7}\n  ok  all\u{202e}\u{9b}"),
            r"s\u{1b}]0;owned\u{7}\n  ok  all\u{202e}\u{9b}"
        );
        assert!(matches!(shown("Größe 日本 a b"), Cow::Borrowed(_)));
        let mut value = serde_json::json!({"a\nb": ["c\nd", 1]});
        shown_in(&mut value);
        assert_eq!(value, serde_json::json!({"a\\nb": ["c\\nd", 1]}));
    }
}
