//! Which bucket, and what opens it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider,
};
use secrecy::{ExposeSecret, SecretString};

use super::http::Connector;
use crate::contract::SecretSource;
use crate::model::{Error, ErrorKind, Result};
use crate::sys::connect::{is_this_host, trusting};

/// The smallest part that all services take, and the largest that is not a mistake.
const PARTS: std::ops::RangeInclusive<u64> = 5..=1024;

/// A bucket (a container, as Azure calls it), and how it is reached.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BucketConfig {
    /// Whose protocol is spoken, with what is particular to it.
    pub service: BucketService,
    /// The bucket's or the container's name.
    pub bucket: String,
    /// What the keys of all backups begin with, without slashes at its ends; empty: the backups
    /// are at the top.
    pub prefix: String,
    /// Where the service is, `https://host:port`; `None`: where its maker runs it.
    pub endpoint: Option<String>,
    /// Plain HTTP is spoken to an endpoint that is not this host.
    pub allow_http: bool,
    /// Certificates that the endpoint's must be signed by; `None`: those that this host trusts.
    pub ca_file: Option<PathBuf>,
    /// Who is signed in.
    pub sign_in: SignIn,
    /// MiB of one part of an upload, 5 to 1024. A file that is written holds four parts in
    /// memory, and has 10,000 at most.
    pub part_mib: u64,
}

/// Whose protocol is spoken.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BucketService {
    /// Amazon S3, and what is compatible with it.
    S3 {
        /// The region; `None`: `us-east-1`, which is also what most others take.
        region: Option<String>,
        /// The bucket is a part of the host's name, not of the path.
        virtual_hosted: bool,
        /// The access key's id.
        access_key: SecretSource,
        /// Its secret.
        secret_key: SecretSource,
        /// The token of temporary keys.
        session_token: SecretSource,
    },
    /// Azure Blob Storage.
    Azure {
        /// The storage account.
        account: String,
        /// Its key.
        access_key: SecretSource,
        /// Or a shared access signature.
        sas_token: SecretSource,
    },
    /// Google Cloud Storage.
    Gcs {
        /// The JSON of a service account's key.
        service_account: SecretSource,
    },
}

/// Who is signed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignIn {
    /// Whoever the configured secrets belong to.
    #[default]
    Secrets,
    /// What the service's own machines are told of themselves: an instance's role, a managed
    /// identity, application default credentials.
    Machine,
    /// Nobody: the bucket is open to everyone.
    Nobody,
}

impl BucketConfig {
    /// A bucket at the service's own place, with backups at its top, opened by secrets.
    pub fn new(service: BucketService, bucket: impl Into<String>) -> Self {
        Self {
            service,
            bucket: bucket.into(),
            prefix: String::new(),
            endpoint: None,
            allow_http: false,
            ca_file: None,
            sign_in: SignIn::Secrets,
            part_mib: 16,
        }
    }

    /// What can be said of it without reading a secret.
    pub(super) fn check(&self) -> Result<()> {
        if self.bucket.is_empty() || self.bucket.contains('/') {
            return Err(bad("the name of a bucket is not empty and has no slash"));
        }
        if !PARTS.contains(&self.part_mib) {
            return Err(bad(format!(
                "part_mib is {}, and must be {} to {}",
                self.part_mib,
                PARTS.start(),
                PARTS.end()
            )));
        }
        if let Some(endpoint) = &self.endpoint {
            self.check_endpoint(endpoint)?;
        }
        if self.sign_in != SignIn::Secrets {
            return Ok(());
        }
        let missing = match &self.service {
            BucketService::S3 {
                access_key,
                secret_key,
                ..
            } => (!access_key.is_named() || !secret_key.is_named()).then_some(
                "access_key_file and secret_key_file (or access_key_env and secret_key_env)",
            ),
            BucketService::Azure {
                access_key,
                sas_token,
                ..
            } => (access_key.is_named() == sas_token.is_named())
                .then_some("one of access_key_file, access_key_env, sas_token_file, sas_token_env"),
            BucketService::Gcs { service_account } => (!service_account.is_named())
                .then_some("service_account_file, or service_account_env"),
        };
        match missing {
            None => Ok(()),
            Some(missing) => Err(Error::new(
                ErrorKind::Config,
                "config.no_credentials",
                format!("it is not said what opens the bucket {}: {missing}", self.bucket),
            )
            .hint("or set sign_in = \"machine\" where the machine itself may, \"nobody\" for a bucket open to everyone")),
        }
    }

    fn check_endpoint(&self, endpoint: &str) -> Result<()> {
        let uri: Uri = endpoint
            .parse()
            .map_err(|_| bad("the endpoint is no address like https://host:port"))?;
        let host = uri.host().unwrap_or_default();
        let plain = match uri.scheme_str() {
            Some("https") => false,
            Some("http") => true,
            _ => return Err(bad("the endpoint begins with neither https:// nor http://")),
        };
        if host.is_empty() || uri.query().is_some() {
            return Err(bad("the endpoint is no address like https://host:port"));
        }
        if uri.authority().is_some_and(|it| it.as_str().contains('@')) {
            return Err(bad(
                "the endpoint has a user's name in it: secrets are named by file or environment \
                 variable, never written there",
            ));
        }
        if plain && !self.allow_http && !is_this_host(host) {
            return Err(Error::new(
                ErrorKind::Config,
                "config.plain_http",
                format!("the endpoint {endpoint} is plain HTTP: whoever is on the way reads the backups, and may change them"),
            )
            .hint("use https:// (ca_file names a certificate authority of your own), or say allow_http = true"));
        }
        Ok(())
    }

    fn is_plain(&self) -> bool {
        let plain = |it: &String| it.starts_with("http://");
        self.endpoint.as_ref().is_some_and(plain)
    }

    /// The client of it. Reads the secrets, and files; not for an async thread.
    pub(super) fn connect(&self) -> Result<Arc<dyn ObjectStore>> {
        let tls = match self.is_plain() {
            true => None,
            false => Some(trusting(self.ca_file.as_deref())?),
        };
        let connector = Connector::new(tls);
        let options = ClientOptions::new().with_allow_http(self.is_plain());
        // Whoever fetches goes on by itself, and tells people that it does: this bridges only what
        // nobody needs to hear of.
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(3),
                base: 2.,
            },
            max_retries: 3,
            retry_timeout: Duration::from_secs(30),
        };
        let nobody = self.sign_in == SignIn::Nobody;
        let read = |secret: &SecretSource| match self.sign_in {
            SignIn::Secrets => secret.read(),
            _ => Ok(None),
        };
        let made: Result<Arc<dyn ObjectStore>, object_store::Error> = match &self.service {
            BucketService::S3 {
                region,
                virtual_hosted,
                access_key,
                secret_key,
                session_token,
            } => {
                let mut builder = AmazonS3Builder::new()
                    .with_bucket_name(&self.bucket)
                    .with_region(region.as_deref().unwrap_or("us-east-1"))
                    .with_virtual_hosted_style_request(*virtual_hosted)
                    .with_skip_signature(nobody)
                    .with_client_options(options)
                    .with_retry(retry)
                    .with_http_connector(connector);
                if let Some(endpoint) = &self.endpoint {
                    builder = builder.with_endpoint(endpoint);
                }
                if let Some(key) = read(access_key)? {
                    builder = builder.with_access_key_id(expose(&key));
                }
                if let Some(key) = read(secret_key)? {
                    builder = builder.with_secret_access_key(expose(&key));
                }
                if let Some(token) = read(session_token)? {
                    builder = builder.with_token(expose(&token));
                }
                builder.build().map(|made| Arc::new(made) as _)
            }
            BucketService::Azure {
                account,
                access_key,
                sas_token,
            } => {
                let mut builder = MicrosoftAzureBuilder::new()
                    .with_account(account)
                    .with_container_name(&self.bucket)
                    .with_skip_signature(nobody)
                    .with_client_options(options)
                    .with_retry(retry)
                    .with_http_connector(connector);
                if let Some(endpoint) = &self.endpoint {
                    builder = builder.with_endpoint(endpoint.clone());
                }
                if let Some(key) = read(access_key)? {
                    builder = builder.with_access_key(expose(&key));
                }
                if let Some(token) = read(sas_token)? {
                    let token = expose(&token);
                    let token = token.trim_start_matches('?');
                    builder =
                        builder.with_config(object_store::azure::AzureConfigKey::SasKey, token);
                }
                builder.build().map(|made| Arc::new(made) as _)
            }
            BucketService::Gcs { service_account } => {
                let mut builder = GoogleCloudStorageBuilder::new()
                    .with_bucket_name(&self.bucket)
                    .with_skip_signature(nobody)
                    .with_client_options(options)
                    .with_retry(retry)
                    .with_http_connector(connector);
                if let Some(endpoint) = &self.endpoint {
                    builder = builder.with_base_url(endpoint);
                }
                if let Some(key) = read(service_account)? {
                    builder = builder.with_service_account_key(expose(&key));
                } else if nobody {
                    // Else it looks for some in the user's home.
                    let none = GcpCredential {
                        bearer: String::new(),
                    };
                    builder =
                        builder.with_credentials(Arc::new(StaticCredentialProvider::new(none)));
                }
                builder.build().map(|made| Arc::new(made) as _)
            }
        };
        // What it says may quote what it was given.
        made.map_err(|_| {
            Error::new(
                ErrorKind::Config,
                "object.bad_credentials",
                format!("what is to open the bucket {} is not of the right form", self.bucket),
            )
            .hint(match &self.service {
                BucketService::S3 { .. } => "the files hold the key's id and its secret, each alone",
                BucketService::Azure { .. } => {
                    "the key is the account's, in base64; a shared access signature is its query, sv=…&sig=…"
                }
                BucketService::Gcs { .. } => {
                    "the file is the JSON that was given out for a service account's key, whole"
                }
            })
        })
    }
}

impl BucketService {
    /// For people, and for the kind in a configuration.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::S3 { .. } => "s3",
            Self::Azure { .. } => "azure",
            Self::Gcs { .. } => "gcs",
        }
    }
}

fn expose(secret: &SecretString) -> String {
    // An id or a key has no white space; the end of a file may.
    secret.expose_secret().trim().to_owned()
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, "config.bad_value", message)
}
