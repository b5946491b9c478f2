//! Reading an engine's answers, and writing its URLs.

use serde_json::Value;

use crate::model::{Error, ErrorKind};

/// The text at a JSON pointer.
pub(crate) fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer)?.as_str().map(str::to_owned)
}

/// The texts of a list at a JSON pointer.
pub(crate) fn strings(value: &Value, pointer: &str) -> Vec<String> {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

/// A text as part of a URL's path or query.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

pub(crate) fn odd(what: &str) -> Error {
    Error::new(
        ErrorKind::Failed,
        "swarm.engine",
        format!("cannot {what}: the engine's answer is not understood"),
    )
}
