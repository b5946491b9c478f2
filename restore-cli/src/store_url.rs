//! Stores as people write them in one word: `ssh://user@host/path`, `s3://bucket/prefix`.

use restore_core::site::init::StoreSection;
use restore_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

/// Whether a word is such a store, and no directory.
pub(crate) fn is_url(word: &str) -> bool {
    word.contains("://")
}

/// The store that a word names. What opens a bucket is in the variables that Amazon's own tools read.
pub(crate) fn read(url: &str) -> Result<StoreSection> {
    let variable = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
    Ok(StoreSection::new("from", described(url, variable)?, "."))
}

/// The same as a section of a restore.toml.
fn described(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Value> {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
    if place.is_empty() {
        return Err(bad(url));
    }
    match scheme {
        "ssh" | "sftp" => ssh(url, place, path),
        "s3" => Ok(s3(place, path, variable)),
        _ => Err(bad(url)),
    }
}

fn ssh(url: &str, place: &str, path: &str) -> Result<Value> {
    let (user, host) = match place.rsplit_once('@') {
        // A password is given to ssh by nobody here, and is not repeated.
        Some((user, _)) if user.is_empty() || user.contains(':') => {
            return Err(bad("ssh://…@…"));
        }
        Some((user, host)) => (Some(user), host),
        None => (None, place),
    };
    let (host, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(|| bad(url))?;
            (host, after.strip_prefix(':'))
        }
        None => match host.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (host, None),
        },
    };
    let port = port.map(str::parse::<u16>).transpose();
    let port = port.map_err(|_| bad(url))?;
    // Below the user's home where it says so, as everywhere with ssh.
    let path = match path.strip_prefix("~/") {
        Some(below) => below.to_owned(),
        None => format!("/{path}"),
    };
    if host.is_empty() || path.is_empty() {
        return Err(bad(url));
    }
    let mut section = Map::new();
    section.insert("kind".to_owned(), json!("ssh"));
    section.insert("host".to_owned(), json!(host));
    section.insert("path".to_owned(), json!(path));
    section.extend(user.map(|user| ("user".to_owned(), json!(user))));
    section.extend(port.map(|port| ("port".to_owned(), json!(port))));
    Ok(Value::Object(section))
}

fn s3(bucket: &str, prefix: &str, variable: impl Fn(&str) -> Option<String>) -> Value {
    let mut section = Map::new();
    let mut set = |key: &str, value: Option<String>| {
        section.extend(value.map(|value| (key.to_owned(), Value::String(value))));
    };
    set("kind", Some("s3".to_owned()));
    set("bucket", Some(bucket.to_owned()));
    let prefix = prefix.trim_end_matches('/');
    set("prefix", (!prefix.is_empty()).then(|| prefix.to_owned()));
    let first = |names: [&str; 2]| names.into_iter().find_map(&variable);
    set("region", first(["AWS_REGION", "AWS_DEFAULT_REGION"]));
    set(
        "endpoint",
        first(["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
    );
    // By their names: the values are read where they are used.
    set("access_key_env", Some("AWS_ACCESS_KEY_ID".to_owned()));
    set("secret_key_env", Some("AWS_SECRET_ACCESS_KEY".to_owned()));
    let token = "AWS_SESSION_TOKEN";
    set(
        "session_token_env",
        variable(token).map(|_| token.to_owned()),
    );
    Value::Object(section)
}

fn bad(url: &str) -> Error {
    Error::new(
        ErrorKind::Config,
        "cli.store_url",
        format!("{url} is no store: ssh://USER@HOST:PORT/PATH, or s3://BUCKET/PREFIX"),
    )
    .hint("any other store, or one that takes more to open, is described in a file as in a restore.toml: `restore init --from ID --store FILE`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_store() {
        let none = |_: &str| None;
        for (url, section) in [
            (
                "ssh://nas/srv/backups",
                json!({"kind": "ssh", "host": "nas", "path": "/srv/backups"}),
            ),
            (
                "sftp://backup@nas:2222/~/b",
                json!({"kind": "ssh", "host": "nas", "path": "b", "user": "backup", "port": 2222}),
            ),
            (
                "ssh://[::1]:22/b",
                json!({"kind": "ssh", "host": "::1", "path": "/b", "port": 22}),
            ),
            (
                "s3://bucket/a/b/",
                json!({"kind": "s3", "bucket": "bucket", "prefix": "a/b",
                    "access_key_env": "AWS_ACCESS_KEY_ID", "secret_key_env": "AWS_SECRET_ACCESS_KEY"}),
            ),
        ] {
            assert_eq!(described(url, none).unwrap(), section, "{url}");
        }
        let some = |name: &str| Some(format!("the {name}"));
        assert_eq!(
            described("s3://bucket", some).unwrap(),
            json!({"kind": "s3", "bucket": "bucket", "region": "the AWS_REGION",
                "endpoint": "the AWS_ENDPOINT_URL_S3", "access_key_env": "AWS_ACCESS_KEY_ID",
                "secret_key_env": "AWS_SECRET_ACCESS_KEY", "session_token_env": "AWS_SESSION_TOKEN"})
        );
        for url in [
            "https://bucket.example.org/x",
            "azure://x/y",
            "ssh://",
            "ssh:///path",
            "ssh://nas:port/x",
            "ssh://nas/~/",
            "s3:///x",
        ] {
            let error = described(url, none).unwrap_err();
            assert_eq!(error.code(), "cli.store_url", "{url}");
            assert!(error.message().contains(url), "{error}");
        }
        let error = described("ssh://me:word@nas/x", none).unwrap_err();
        assert!(!error.message().contains("word"), "{error}");
    }
}
