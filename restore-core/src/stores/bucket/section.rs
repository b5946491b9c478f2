//! `[stores.NAME]` of the kinds that are buckets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::{BucketConfig, BucketService, BucketStore, SignIn};
use crate::contract::{SecretSource, Table, config};
use crate::model::Result;
use crate::stores::config::{Keys, pattern, section};

section!(S3 {
    bucket: String,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    endpoint: Option<String>,
    #[serde(default)]
    virtual_hosted: bool,
    #[serde(default)]
    access_key_file: Option<PathBuf>,
    #[serde(default)]
    access_key_env: Option<String>,
    #[serde(default)]
    secret_key_file: Option<PathBuf>,
    #[serde(default)]
    secret_key_env: Option<String>,
    #[serde(default)]
    session_token_file: Option<PathBuf>,
    #[serde(default)]
    session_token_env: Option<String>,
    #[serde(default)]
    sign_in: SignInKey,
    #[serde(default)]
    allow_http: bool,
    #[serde(default)]
    ca_file: Option<PathBuf>,
    #[serde(default)]
    part_mib: Option<u64>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    files: Option<String>,
});

section!(Azure {
    account: String,
    container: String,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    endpoint: Option<String>,
    #[serde(default)]
    access_key_file: Option<PathBuf>,
    #[serde(default)]
    access_key_env: Option<String>,
    #[serde(default)]
    sas_token_file: Option<PathBuf>,
    #[serde(default)]
    sas_token_env: Option<String>,
    #[serde(default)]
    sign_in: SignInKey,
    #[serde(default)]
    allow_http: bool,
    #[serde(default)]
    ca_file: Option<PathBuf>,
    #[serde(default)]
    part_mib: Option<u64>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    files: Option<String>,
});

section!(Gcs {
    bucket: String,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    endpoint: Option<String>,
    #[serde(default)]
    service_account_file: Option<PathBuf>,
    #[serde(default)]
    service_account_env: Option<String>,
    #[serde(default)]
    sign_in: SignInKey,
    #[serde(default)]
    allow_http: bool,
    #[serde(default)]
    ca_file: Option<PathBuf>,
    #[serde(default)]
    part_mib: Option<u64>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    files: Option<String>,
});

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SignInKey {
    #[default]
    Secrets,
    Machine,
    Nobody,
}

impl From<SignInKey> for SignIn {
    fn from(key: SignInKey) -> Self {
        match key {
            SignInKey::Secrets => Self::Secrets,
            SignInKey::Machine => Self::Machine,
            SignInKey::Nobody => Self::Nobody,
        }
    }
}

/// The store that a section of the kind `kind` describes.
pub(crate) fn from_table(
    kind: &str,
    path: &str,
    table: Table,
    base: &Path,
) -> Result<(Arc<BucketStore>, Keys)> {
    let at = |file: Option<PathBuf>| file.map(|file| base.join(file));
    let secret = |file, env| SecretSource::new(path, at(file), env);
    let (config, keys, names) = match kind {
        "azure" => {
            let mut it: Azure = config::parse_section(path, table)?;
            let keys = it.keys();
            let names = pattern(path, (&it.id, &it.files))?;
            let service = BucketService::Azure {
                account: it.account,
                access_key: secret(it.access_key_file, it.access_key_env)?,
                sas_token: secret(it.sas_token_file, it.sas_token_env)?,
            };
            let mut config = BucketConfig::new(service, it.container);
            config.prefix = it.prefix;
            config.endpoint = it.endpoint;
            config.allow_http = it.allow_http;
            config.ca_file = at(it.ca_file);
            config.sign_in = it.sign_in.into();
            config.part_mib = it.part_mib.unwrap_or(config.part_mib);
            (config, keys, names)
        }
        "gcs" => {
            let mut it: Gcs = config::parse_section(path, table)?;
            let keys = it.keys();
            let names = pattern(path, (&it.id, &it.files))?;
            let service = BucketService::Gcs {
                service_account: secret(it.service_account_file, it.service_account_env)?,
            };
            let mut config = BucketConfig::new(service, it.bucket);
            config.prefix = it.prefix;
            config.endpoint = it.endpoint;
            config.allow_http = it.allow_http;
            config.ca_file = at(it.ca_file);
            config.sign_in = it.sign_in.into();
            config.part_mib = it.part_mib.unwrap_or(config.part_mib);
            (config, keys, names)
        }
        _ => {
            let mut it: S3 = config::parse_section(path, table)?;
            let keys = it.keys();
            let names = pattern(path, (&it.id, &it.files))?;
            let service = BucketService::S3 {
                region: it.region,
                virtual_hosted: it.virtual_hosted,
                access_key: secret(it.access_key_file, it.access_key_env)?,
                secret_key: secret(it.secret_key_file, it.secret_key_env)?,
                session_token: secret(it.session_token_file, it.session_token_env)?,
            };
            let mut config = BucketConfig::new(service, it.bucket);
            config.prefix = it.prefix;
            config.endpoint = it.endpoint;
            config.allow_http = it.allow_http;
            config.ca_file = at(it.ca_file);
            config.sign_in = it.sign_in.into();
            config.part_mib = it.part_mib.unwrap_or(config.part_mib);
            (config, keys, names)
        }
    };
    let mut store = BucketStore::new(config).map_err(|error| error.context(format!("[{path}]")))?;
    if let Some(names) = names {
        store = store.with_names(names);
    }
    Ok((Arc::new(store), keys))
}
