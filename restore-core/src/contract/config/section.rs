//! One section of the configuration into its type, with errors that name the nearest known key.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::contract::Table;
use crate::model::{Error, ErrorKind, Result};

/// Reads a table into `T`. `path` is where the table stands (`components.redis`), for messages.
/// Where `T` has `#[serde(deny_unknown_fields)]`, an unknown key is an error that names the
/// nearest known one; without it serde takes any key.
pub fn parse_section<T: DeserializeOwned>(path: &str, table: Table) -> Result<T> {
    serde_json::from_value(Value::Object(table.clone())).map_err(|error| {
        let text = error.to_string();
        let place = if path.is_empty() {
            String::new()
        } else {
            format!("[{path}] ")
        };
        let quoted: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
        if let Some((unknown, known)) = text
            .starts_with("unknown field")
            .then(|| quoted.split_first())
            .flatten()
        {
            return Error::new(
                ErrorKind::Config,
                "config.unknown_key",
                format!("{place}unknown key `{unknown}`"),
            )
            .hint(suggestion(unknown, known));
        }
        if let Some(missing) = text
            .starts_with("missing field")
            .then(|| quoted.first())
            .flatten()
        {
            return Error::new(
                ErrorKind::Config,
                "config.missing_key",
                format!("{place}needs the key `{missing}`"),
            );
        }
        Error::new(
            ErrorKind::Config,
            "config.bad_value",
            match culprit::<T>(&table, &text) {
                Some(key) => format!("{place}`{key}`: {}", plain(&text)),
                None => format!("{place}{}", plain(&text)),
            },
        )
    })
}

/// The key whose value is wrong: without it the error is another one.
fn culprit<T: DeserializeOwned>(table: &Table, text: &str) -> Option<String> {
    let keys: Vec<&String> = table.keys().collect();
    let found = keys.into_iter().find(|key| {
        let mut without = table.clone();
        without.remove(*key);
        serde_json::from_value::<T>(Value::Object(without))
            .err()
            .is_none_or(|error| error.to_string() != text)
    })?;
    Some(found.clone())
}

/// What serde says of types, in the words of the file.
fn plain(text: &str) -> String {
    let mut text = text.to_owned();
    for (theirs, ours) in [
        ("expected usize", "expected a whole number"),
        ("expected u16", "expected a whole number"),
        ("expected u32", "expected a whole number"),
        ("expected u64", "expected a whole number"),
        ("expected a sequence", "expected a list like [\"…\"]"),
        ("expected a string", "expected a text in quotes"),
        ("expected a boolean", "expected true or false"),
        ("expected path string", "expected a path in quotes"),
        ("invalid type: string ", "found the text "),
        ("invalid type: integer ", "found the number "),
        ("invalid type: boolean ", "found "),
        ("invalid type: sequence", "found a list"),
        ("invalid type: map", "found a table"),
        ("unknown variant", "unknown value"),
    ] {
        text = text.replace(theirs, ours);
    }
    text
}

/// "did you mean …?", or the list of what is known.
pub(crate) fn suggestion(unknown: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|key| (strsim::jaro_winkler(unknown, key), key))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((_, key)) => format!("did you mean `{key}`?"),
        None => format!("known are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(rename = "service")]
        _service: String,
        #[serde(default, rename = "database")]
        _database: String,
    }

    fn parse(text: &str) -> Error {
        let Value::Object(table) = toml::from_str(text).unwrap() else {
            unreachable!()
        };
        parse_section::<Sample>("components.db", table).unwrap_err()
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let error = parse("sevice = 'x'");
        assert_eq!(error.to_string(), "[components.db] unknown key `sevice`");
        assert_eq!(error.hint_text(), Some("did you mean `service`?"));
    }

    #[test]
    fn a_far_key_lists_the_known() {
        assert_eq!(
            parse("service = 'x'\nzzz = 1").hint_text(),
            Some("known are service, database")
        );
    }

    #[test]
    fn a_wrong_value_names_its_key() {
        assert_eq!(
            parse("database = 'x'\nservice = 3").to_string(),
            "[components.db] `service`: found the number `3`, expected a text in quotes"
        );
    }

    #[test]
    fn a_missing_key_is_named() {
        assert_eq!(
            parse("database = 'x'").to_string(),
            "[components.db] needs the key `service`"
        );
    }
}
