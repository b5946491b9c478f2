//! TLS as a site says it: whether, whom to believe, and who we are.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::model::{Error, ErrorKind, Result};
use crate::sys::trust;
use crate::sys::trust::Trust;

/// `tls = "…"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// With TLS, of a server whose certificate names it and is signed by whom we trust.
    VerifyFull,
    /// With TLS, whoever the server is.
    Require,
    /// With TLS where the server has it.
    Prefer,
    /// Without, and the site says so.
    Disable,
}

/// The keys of a section that speak of TLS.
#[derive(Debug, Default)]
pub(crate) struct TlsKeys {
    pub(crate) tls: Option<Mode>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) cert_file: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
}

/// What a section says of TLS, checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    /// `None`: the section does not say.
    pub(crate) mode: Option<Mode>,
    pub(crate) ca: Option<PathBuf>,
    /// Our certificate and its key.
    pub(crate) own: Option<(PathBuf, PathBuf)>,
}

impl TlsKeys {
    /// Checks the keys of the section `path`, whose relative paths are taken from `base`.
    pub(crate) fn read(self, path: &str, base: &Path) -> Result<Tls> {
        let bad = |why: &str| {
            Error::new(
                ErrorKind::Config,
                "config.bad_value",
                format!("[{path}] {why}"),
            )
        };
        let own = match (self.cert_file, self.key_file) {
            (Some(cert), Some(key)) => Some((base.join(cert), base.join(key))),
            (None, None) => None,
            _ => return Err(bad("`cert_file` and `key_file` belong together")),
        };
        let ca = self.ca_file.map(|file| base.join(file));
        let mode = match (self.tls, &ca) {
            // Who names an authority means it to be asked.
            (None, Some(_)) => Some(Mode::VerifyFull),
            (Some(Mode::Require | Mode::Prefer | Mode::Disable), Some(_)) => {
                return Err(bad("`ca_file` is asked only with tls = \"verify-full\"")
                    .hint("write tls = \"verify-full\", or leave ca_file away"));
            }
            (mode, _) => mode,
        };
        if own.is_some() && matches!(mode, None | Some(Mode::Disable)) {
            return Err(bad("`cert_file` and `key_file` are of use only with TLS")
                .hint("write tls = \"verify-full\""));
        }
        Ok(Tls { mode, ca, own })
    }
}

impl Tls {
    /// These keys, for a protocol that cannot ask whether a server has TLS.
    pub(crate) fn without_asking(self, path: &str) -> Result<Self> {
        match self.mode {
            Some(Mode::Prefer) => Err(Error::new(
                ErrorKind::Config,
                "config.bad_value",
                format!(
                    "[{path}] tls = \"prefer\": a Redis server cannot be asked whether it has TLS"
                ),
            )
            .hint("write verify-full, require or disable")),
            _ => Ok(self),
        }
    }

    /// What a handshake needs. Reads files; not for an async thread.
    fn config(&self) -> Result<Arc<ClientConfig>> {
        let what = "a server";
        let builder = match self.mode {
            Some(Mode::VerifyFull) => {
                builder(what)?.with_root_certificates(roots(self.ca.as_deref())?)
            }
            _ => builder(what)?
                .dangerous()
                .with_custom_certificate_verifier(AnyCertificate::new()),
        };
        let Some((cert, key)) = &self.own else {
            return Ok(Arc::new(builder.with_no_client_auth()));
        };
        trust::check(cert, "the certificate", Trust::Obeyed)?;
        trust::check(key, "the key", Trust::Secret)?;
        let chain = certificates(cert)?;
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| unusable(key, &e))?;
        let config = builder
            .with_client_auth_cert(chain, secret)
            .map_err(|e| unusable(cert, &e))?;
        Ok(Arc::new(config))
    }

    /// What a handshake needs, read off the async threads.
    pub(super) async fn client_config(&self) -> Result<Arc<ClientConfig>> {
        let tls = self.clone();
        tokio::task::spawn_blocking(move || tls.config())
            .await
            .map_err(|e| {
                Error::new(
                    ErrorKind::Internal,
                    "tls.task",
                    format!("reading certificates ended unexpectedly: {e}"),
                )
            })?
    }
}

fn unusable(path: &Path, why: &dyn Display) -> Error {
    Error::new(
        ErrorKind::Config,
        "tls.bad_file",
        format!("cannot use {}: {why}", path.display()),
    )
    .hint("ca_file, cert_file and key_file are files in PEM form")
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .map_err(|e| unusable(path, &e))?
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| unusable(path, &e))
}

/// Whom this machine trusts, or the certificates in `ca_file` alone.
fn roots(ca_file: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            trust::check(path, "the certificate authority", Trust::Obeyed)?;
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| unusable(path, &e))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        return Err(Error::new(
            ErrorKind::Config,
            "tls.no_ca",
            "no certificate authority is known, so no certificate can be believed",
        )
        .hint("install ca-certificates, or name one with ca_file"));
    }
    Ok(roots)
}

fn builder(what: &str) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| {
            Error::new(
                ErrorKind::Internal,
                "tls.unusable",
                format!("cannot use TLS for {what}: {e}"),
            )
        })
}

/// TLS that trusts whom this machine trusts, or the certificates in `ca_file` alone. Reads
/// files; not for an async thread.
pub(crate) fn trusting(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>> {
    let config = builder("https")?
        .with_root_certificates(roots(ca_file)?)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// TLS that asks for no proof of identity: only to see which page a server of ours shows under a
/// name, never to send anything that matters.
pub(crate) fn unverified() -> Result<Arc<ClientConfig>> {
    let config = builder("the proof of the maintenance page")?
        .dangerous()
        .with_custom_certificate_verifier(AnyCertificate::new())
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl AnyCertificate {
    fn new() -> Arc<Self> {
        Arc::new(Self(ring::default_provider()))
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tls: Option<Mode>, files: &[&str]) -> Result<Option<Mode>> {
        let file = |name: &str| files.contains(&name).then(|| PathBuf::from(name));
        let keys = TlsKeys {
            tls,
            ca_file: file("ca"),
            cert_file: file("cert"),
            key_file: file("key"),
        };
        keys.read("components.x", Path::new("/base"))
            .map(|tls| tls.mode)
    }

    #[test]
    fn an_authority_that_is_named_is_asked() {
        assert_eq!(read(None, &[]).unwrap(), None);
        assert_eq!(read(None, &["ca"]).unwrap(), Some(Mode::VerifyFull));
        let own = ["ca", "cert", "key"];
        assert_eq!(read(None, &own).unwrap(), Some(Mode::VerifyFull));
        assert_eq!(
            read(Some(Mode::Require), &["cert", "key"]).unwrap(),
            Some(Mode::Require)
        );
        for (mode, files) in [
            (Some(Mode::Require), &["ca"][..]),
            (Some(Mode::Prefer), &["ca"]),
            (Some(Mode::Disable), &["ca"]),
            (Some(Mode::VerifyFull), &["cert"]),
            (Some(Mode::VerifyFull), &["key"]),
            (Some(Mode::Disable), &["cert", "key"]),
            (None, &["cert", "key"]),
        ] {
            let error = read(mode, files).unwrap_err();
            assert_eq!(error.code(), "config.bad_value", "{mode:?} {files:?}");
        }
    }
}
