//! What went wrong with a bucket, in our words. Nothing of an address is repeated: a shared access
//! signature is in its query.

use std::error::Error as _;

use super::BucketConfig;
use super::http::{Broken, Reason};
use crate::contract::StoreReason;
use crate::model::{Error, ErrorKind};

/// What a server says of a refusal: its status, its own code, its words.
#[derive(Debug, Default, PartialEq, Eq)]
struct ServerRefusal {
    status: u16,
    code: String,
    message: String,
}

/// That doing `what` (a verb and its object) failed.
pub(super) fn failed(config: &BucketConfig, what: &str, error: &object_store::Error) -> Error {
    let place = super::place(config);
    let new = |kind, code, why: &str| {
        let why = why.trim_end_matches('.');
        Error::new(kind, code, format!("cannot {what} in {place}: {why}"))
    };
    if let Some(broken) = find(error) {
        return match broken.reason {
            Reason::Unreachable => new(ErrorKind::Failed, "object.unreachable", &broken.text)
                .hint("is the endpoint right, and does this host reach it? Try `curl -v` with it")
                .retryable(),
            Reason::Lost => new(ErrorKind::Failed, "object.connection_lost", &broken.text)
                .hint("try again: what has come already is kept")
                .retryable(),
            Reason::Untrusted => new(ErrorKind::Config, "object.untrusted", &broken.text)
                .hint("somebody may be in between; if the endpoint has a certificate authority of its own, name it with ca_file"),
        };
    }
    if let object_store::Error::Precondition { .. } = error {
        return changed(new);
    }
    let Some(said) = said(error) else {
        return new(ErrorKind::Failed, "object.failed", &deepest(error));
    };
    refused(config, &said, new)
}

fn refused(
    config: &BucketConfig,
    said: &ServerRefusal,
    new: impl Fn(ErrorKind, &'static str, &str) -> Error,
) -> Error {
    let words = match (said.code.as_str(), said.message.as_str()) {
        ("", "") => format!("the server answers {}", said.status),
        ("", message) => message.to_owned(),
        (code, "") => code.to_owned(),
        (code, message) => format!("{message} ({code})"),
    };
    match (said.status, said.code.as_str()) {
        // Of a body that the crate goes on with by itself it says no more than that.
        (412, _) => changed(new),
        (_, "NoSuchBucket" | "ContainerNotFound") => no_bucket(config, &words, &new),
        (_, "RequestTimeTooSkewed") => new(ErrorKind::Failed, "object.clock", &words)
            .hint("set this host's clock: `timedatectl` shows whether it is synchronised"),
        (
            _,
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AuthenticationFailed"
            | "ExpiredToken" | "InvalidToken" | "InvalidAuthenticationInfo"
            | "AuthFailure" | "TokenRefreshRequired",
        )
        | (401, _) => new(ErrorKind::Config, "object.login_refused", &words).hint(
            "the files or variables that the store names hold another key, or one that has expired",
        ),
        (301 | 307, _) | (_, "AuthorizationHeaderMalformed" | "PermanentRedirect") => {
            new(ErrorKind::Config, "object.wrong_region", &words)
                .hint("set the store's region, or its endpoint, to the bucket's own")
        }
        (403, _) => new(ErrorKind::Failed, "object.denied", &words)
            .hint("the key is known, but must not do this: let it list and read, and write for `backup --to`"),
        (404, "NoSuchKey" | "BlobNotFound") => new(ErrorKind::NotFound, "store.vanished", &words)
            .because(StoreReason::Vanished)
            .hint("something deletes there: try again, or choose another backup"),
        // Google's interface says no more than that.
        (404, _) if words.contains("bucket does not exist") => no_bucket(config, &words, &new),
        (404, _) => new(ErrorKind::NotFound, "store.vanished", &words)
            .because(StoreReason::Vanished)
            .hint("something deletes there, or there is no such bucket: look with the service's own tool"),
        (status, _) if status >= 500 || status == 429 || status == 408 => {
            new(ErrorKind::Failed, "object.server_error", &words)
                .hint("the service is at fault: try again in a while")
                .retryable()
        }
        _ => new(ErrorKind::Failed, "object.refused", &words)
            .hint("the service may not be of this kind, or its endpoint another one"),
    }
}

fn changed(new: impl Fn(ErrorKind, &'static str, &str) -> Error) -> Error {
    new(
        ErrorKind::Verification,
        "store.changed",
        "it was changed meanwhile",
    )
    .because(StoreReason::Changed)
    .hint("let whatever writes there end, and try again")
}

fn no_bucket(
    config: &BucketConfig,
    words: &str,
    new: impl Fn(ErrorKind, &'static str, &str) -> Error,
) -> Error {
    new(ErrorKind::NotFound, "object.no_bucket", words).hint(format!(
        "is {} its name, and this the account, the region, the endpoint? It is never made from here",
        config.bucket
    ))
}

fn chain(error: &object_store::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

fn find(error: &object_store::Error) -> Option<&Broken> {
    chain(error).find_map(|error| error.downcast_ref::<Broken>())
}

fn deepest(error: &object_store::Error) -> String {
    let text = chain(error)
        .last()
        .map_or_else(|| error.to_string(), ToString::to_string);
    // Whatever it is, it is no reason to repeat an address's query.
    let text = text.split('?').next().unwrap_or_default();
    text.chars().take(300).collect()
}

/// What a server said, as the crate passes it on.
fn said(error: &object_store::Error) -> Option<ServerRefusal> {
    chain(error).find_map(|error| parse(&error.to_string()))
}

fn parse(text: &str) -> Option<ServerRefusal> {
    if text.starts_with("Received redirect without LOCATION") {
        return Some(ServerRefusal {
            status: 301,
            code: String::new(),
            message: "the bucket is elsewhere".to_owned(),
        });
    }
    if let Some(body) = text.strip_prefix("Server returned error response: ") {
        return Some(ServerRefusal {
            status: 500,
            code: element(body, "Code"),
            message: element(body, "Message"),
        });
    }
    let rest = text.strip_prefix("Server returned non-2xx status code: ")?;
    let (status, body) = rest.split_once(": ").unwrap_or((rest, ""));
    let status = status.split(' ').next()?.parse().ok()?;
    let mut message = element(body, "Message");
    if message.is_empty() {
        message = json_words(body);
    }
    Some(ServerRefusal {
        status,
        code: element(body, "Code"),
        message,
    })
}

/// The text of an XML element that has nothing but text.
fn element(body: &str, name: &str) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let text = body
        .split_once(&open)
        .and_then(|(_, rest)| rest.split_once(&close))
        .map_or("", |(text, _)| text);
    // Azure appends the request's id and time on lines of their own.
    let text = text.lines().next().unwrap_or_default();
    text.chars().take(300).collect()
}

/// What an answer in JSON says: `error_description`, or `message` of its `error`.
fn json_words(body: &str) -> String {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(body) else {
        return String::new();
    };
    let words = ["/error_description", "/error/message", "/error", "/message"]
        .iter()
        .find_map(|at| value.pointer(at)?.as_str());
    words.unwrap_or_default().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say_is_understood() {
        let text = "Server returned non-2xx status code: 403 Forbidden: <?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
        assert_eq!(
            parse(text),
            Some(ServerRefusal {
                status: 403,
                code: "AccessDenied".into(),
                message: "Access Denied".into()
            })
        );
        let text = "Server returned non-2xx status code: 400 Bad Request: {\"error\":\"invalid_grant\",\"error_description\":\"Invalid JWT\"}";
        assert_eq!(parse(text).unwrap().message, "Invalid JWT");
        assert_eq!(
            parse("Server returned non-2xx status code: 503 Service Unavailable: ")
                .unwrap()
                .status,
            503
        );
        assert!(parse("Error performing GET https://x?sig=secret").is_none());
        let azure = "<Error><Code>AuthenticationFailed</Code><Message>Server failed to authenticate the request.\nRequestId:1\nTime:2</Message></Error>";
        assert_eq!(
            element(azure, "Message"),
            "Server failed to authenticate the request."
        );
    }
}
