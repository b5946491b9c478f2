//! A web address is told: one POST of the notice as JSON.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use hyper::{Method, Uri};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{HookCalls, document};
use crate::checks::client::{HttpProbe, Posted, ask};
use crate::contract::{
    ConfigDuration, Hook, HookMoment, HookNotice, HookSubject, SecretSource, Table, parse_section,
};
use crate::model::{Error, ErrorKind, Result};
use crate::sys::connect::{is_this_host, trusting};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    when: Vec<HookMoment>,
    #[serde(rename = "for")]
    subjects: Option<Vec<HookSubject>>,
    url: Option<String>,
    url_file: Option<PathBuf>,
    url_env: Option<String>,
    token_file: Option<PathBuf>,
    token_env: Option<String>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    allow_http: bool,
    timeout: Option<ConfigDuration>,
}

/// An address that is told. It, or a token, may be a secret: messages name its host alone.
pub(super) struct Webhook {
    name: String,
    calls: HookCalls,
    url: Address,
    token: SecretSource,
    ca_file: Option<PathBuf>,
    /// Secrets may go over plain HTTP to another host.
    allow_http: bool,
}

enum Address {
    Known(Target),
    Secret(SecretSource),
}

/// An address, taken apart.
#[derive(Clone)]
struct Target {
    tls: bool,
    host: String,
    port: u16,
    /// As the Host header has it.
    authority: String,
    path: String,
}

impl Target {
    /// Takes an address apart; the error is what is wrong with it, without the address.
    fn of(url: &str) -> std::result::Result<Self, &'static str> {
        let uri: Uri = url.parse().map_err(|_| "is no address")?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("is neither http nor https"),
        };
        let authority = uri.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("holds a user or password");
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        Ok(Self {
            tls,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
        })
    }
}

impl Webhook {
    pub(super) fn new(name: &str, table: Table, base: &Path) -> Result<Self> {
        let path = format!("hooks.{name}");
        let section: Section = parse_section(&path, table)?;
        let error = |code: &'static str, message: String| {
            Error::new(ErrorKind::Config, code, message)
                .hint("name it with `url`, or where it is a secret with `url_file` or `url_env`")
        };
        let file = |file: Option<PathBuf>| file.map(|file| base.join(file));
        let secret = SecretSource::new(&path, file(section.url_file), section.url_env)?;
        let url = match section.url {
            Some(_) if secret.is_named() => {
                let message = format!("[{path}] names its address twice");
                return Err(error("config.bad_value", message));
            }
            Some(url) => Address::Known(Target::of(&url).map_err(|why| {
                error("config.bad_value", format!("[{path}] `url` {why}"))
                    .hint("write it like https://alerts.example.org/restore")
            })?),
            None if secret.is_named() => Address::Secret(secret),
            None => {
                let message = format!("[{path}] needs the key `url`");
                return Err(error("config.missing_key", message));
            }
        };
        let hook = Self {
            calls: HookCalls::new(name, section.when, section.subjects, section.timeout)?,
            name: name.to_owned(),
            url,
            token: SecretSource::new(&path, file(section.token_file), section.token_env)?,
            ca_file: file(section.ca_file),
            allow_http: section.allow_http,
        };
        if let Address::Known(target) = &hook.url {
            hook.keeps_secrets(target)?;
        }
        Ok(hook)
    }

    /// Refuses to send a token, or an address that is a secret itself, where somebody on the way could read it.
    fn keeps_secrets(&self, target: &Target) -> Result<()> {
        let secret = match &self.url {
            Address::Secret(_) => "its address, which is a secret,",
            Address::Known(_) if self.token.is_named() => "its token",
            Address::Known(_) => return Ok(()),
        };
        if target.tls || self.allow_http || is_this_host(&target.host) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Config,
            "hook.token_in_the_clear",
            format!(
                "[hooks.{}] would send {secret} to {} over plain HTTP: whoever is on the way could read it",
                self.name, target.host
            ),
        )
        .hint("use https:// (`ca_file` names a certificate authority of your own), or say allow_http = true"))
    }

    fn target(&self) -> Result<Target> {
        let source = match &self.url {
            Address::Known(target) => return Ok(target.clone()),
            Address::Secret(source) => source,
        };
        let url = source.read()?.unwrap_or_default();
        let target = Target::of(url.expose_secret().trim()).map_err(|why| {
            Error::new(
                ErrorKind::Config,
                "config.bad_value",
                format!("the address of [hooks.{}] {why}", self.name),
            )
            .hint("one line like https://alerts.example.org/restore")
        })?;
        self.keeps_secrets(&target)?;
        Ok(target)
    }
}

#[async_trait]
impl Hook for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_called(&self, when: HookMoment, subject: HookSubject) -> bool {
        self.calls.has(when, subject)
    }

    fn timeout(&self) -> Duration {
        self.calls.timeout
    }

    async fn call(&self, notice: &HookNotice) -> Result<()> {
        let target = self.target()?;
        let token: Option<SecretString> = self.token.read()?;
        let body = document(notice)?;
        let tls = match target.tls {
            true => {
                let ca_file = self.ca_file.clone();
                let config = tokio::task::spawn_blocking(move || trusting(ca_file.as_deref()));
                let config = config
                    .await
                    .map_err(|error| unheard(&target.host, &error))??;
                Some((config, target.host.clone()))
            }
            false => None,
        };
        let question = HttpProbe {
            address: target.host.clone(),
            port: target.port,
            tls,
            proxy_protocol: false,
            method: Method::POST,
            path: target.path,
            host: Some(target.authority),
            posted: Some(Posted {
                body: body.into(),
                token,
            }),
        };
        let answer = ask(&question)
            .await
            .map_err(|silence| unheard(&target.host, &silence))?;
        let status = answer.status.as_u16();
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(unheard(&target.host, &format!("answered {status}"))),
        }
    }
}

fn unheard(host: &str, why: &dyn std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Failed,
        "hook.webhook",
        format!("{host} was not told: {why}"),
    )
    .hint("see that its address and token are right, and that it takes a POST of JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(section: &str) -> Error {
        let table: Table = toml::from_str(section).unwrap();
        match Webhook::new("x", table, Path::new("/nowhere")) {
            Ok(_) => panic!("{section} is taken"),
            Err(error) => error,
        }
    }

    #[test]
    fn an_address_that_cannot_be_told_is_refused_and_not_repeated() {
        let when = "when = ['on-failure']\n";
        for (section, part) in [
            ("", "needs the key `url`"),
            ("url = 'ftp://a/s3cret'", "neither http nor https"),
            ("url = 'https://a:s3cret@b/'", "holds a user or password"),
            ("url = 'http://a b/s3cret'", "is no address"),
            ("url = 'http://a'\nurl_env = 'A'", "twice"),
            ("url_file = 'a'\nurl_env = 'A'", "twice"),
        ] {
            let error = refusal(&format!("{when}{section}"));
            assert!(error.to_string().contains(part), "{error}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        for url in ["http://alerts.example.org/", "http://192.0.2.1:9093/"] {
            let error = refusal(&format!("{when}url = '{url}'\ntoken_env = 'TOKEN'"));
            assert_eq!(error.code(), "hook.token_in_the_clear", "{error}");
        }
        let error = refusal("when = []\nurl = 'http://a'");
        assert!(error.to_string().contains("never be called"), "{error}");
        let error = refusal("when = ['after-swap']\nfor = ['drill']\nurl = 'http://a'");
        assert!(error.to_string().contains("no after-swap"), "{error}");
    }

    #[test]
    fn a_secret_goes_only_where_nobody_on_the_way_reads_it() {
        let base = tempfile::tempdir().unwrap();
        let made = |section: &str| {
            let section = format!("when = ['on-failure']\n{section}");
            Webhook::new("x", toml::from_str(&section).unwrap(), base.path()).unwrap()
        };
        for section in [
            "url = 'https://a/'\ntoken_env = 'T'",
            "url = 'http://127.0.0.1:1/'\ntoken_env = 'T'",
            "url = 'http://[::1]:1/'\ntoken_env = 'T'",
            "url = 'http://localhost/'\ntoken_env = 'T'",
            "url = 'http://a/'\ntoken_env = 'T'\nallow_http = true",
            // Nothing of it is a secret.
            "url = 'http://a/'",
        ] {
            made(section).target().unwrap();
        }
        let secret = |url: &str, more: &str| {
            restore_testing::write_secret(base.path().join("url"), url);
            made(&format!("url_file = 'url'\n{more}")).target()
        };
        secret("https://a/s3cret\n", "").unwrap();
        secret("http://127.0.0.1:1/s3cret", "").unwrap();
        secret("http://a/s3cret", "allow_http = true").unwrap();
        let error = secret("http://a/s3cret", "").err().unwrap();
        assert_eq!(error.code(), "hook.token_in_the_clear", "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}
