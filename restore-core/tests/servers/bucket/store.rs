//! The store's contract, its refusals, and what may be said of it.

use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use restore_core::backup::{Backup, BackupId, Generation};
use restore_core::conformance::{self, StoreUnderTest};
use restore_core::store::BackupStore;
use restore_core::{Error, ErrorKind, Result};
use restore_testing::remote::*;
use restore_testing::sshd::free_port;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::ground::*;

#[async_trait]
impl StoreUnderTest for Ground {
    async fn open(&self) -> Result<Arc<dyn BackupStore>> {
        Ok(self.site().stores()[1].1.clone())
    }

    async fn put(&self, folder: &str, path: &str, content: &[u8]) -> Result<()> {
        let file = self.path("content");
        std::fs::write(&file, content).map_err(|e| Error::io("put", e))?;
        server().put(&self.key(&format!("{folder}/{path}")), &file);
        Ok(())
    }

    async fn unreachable(&self) -> Result<Option<Arc<dyn BackupStore>>> {
        let site = self.site_with(&json!({"bucket": "nowhere"}), &self.here(""), json!({}))?;
        Ok(Some(site.stores()[1].1.clone()))
    }
}

#[tokio::test]
async fn it_keeps_the_contract_of_stores() {
    conformance::store(Arc::new(Ground::new())).await.unwrap();
}

/// What is no backup is said, and names of other tools are read as elsewhere.
#[tokio::test]
async fn names_of_other_tools_are_read_and_strangers_told() {
    let ground = Ground::new();
    let (file, made) = (ground.path("content"), ground.path("made"));
    std::fs::write(&file, "content").unwrap();
    std::fs::write(&made, "Created: 2024-02-15 00:00:00\nTotal Files: 1\n").unwrap();
    for key in [
        "dated/backup_2024-02-15/db/shop.sql.gz",
        "dated/20240217-020000/unfinished.tar",
        "dated/notes.txt",
        "dated/old/x",
        "parts/postgres/2024-02-15.sql.gz",
        "parts/uploads/2024-02-15.tar",
        "parts/uploads/notes.txt",
        "told/web-17/www.tar",
        "told/web-18/www.tar",
    ] {
        server().put(&ground.key(key), &file);
    }
    server().put(&ground.key("told/web-17/MANIFEST.txt"), &made);
    let id: BackupId = "20240215-000000".parse().unwrap();
    for (name, keys, backups, file, strangers) in [
        (
            "dated",
            json!({}),
            1,
            "",
            &["backup_2024-02-15", "notes.txt", "old"][..],
        ),
        (
            "dated",
            json!({"id": "backup_{date}"}),
            2,
            "db/shop.sql.gz",
            &["notes.txt", "old"][..],
        ),
        (
            "parts",
            json!({"files": "*/{date}.*"}),
            1,
            "uploads/2024-02-15.tar",
            &["uploads/notes.txt"][..],
        ),
        (
            "told",
            json!({"id": "web-{manifest}"}),
            1,
            "www.tar",
            &["web-18"][..],
        ),
        (
            "dated",
            json!({"id": "{n}"}),
            1,
            "",
            &["backup_2024-02-15", "notes.txt", "old"][..],
        ),
    ] {
        let mut more = keys.clone();
        more["prefix"] = json!(ground.key(name));
        let site = ground
            .site_with(&more, &ground.here(""), json!({}))
            .unwrap();
        let store = site.stores()[1].1.clone();
        let listed = store.list().await.unwrap();
        assert_eq!(listed.len(), backups, "{keys} {listed:?}");
        let found = store.strangers().await.unwrap();
        let named: Vec<&str> = found.iter().map(|it| it.path.as_str()).collect();
        assert_eq!(named, strangers, "{keys} {found:?}");
        if file.is_empty() {
            continue;
        }
        assert_eq!(listed[0], id);
        let mut content = String::new();
        let mut reader = store.read(&id, file, 3).await.unwrap();
        reader.read_to_string(&mut content).await.unwrap();
        assert_eq!(content, "tent", "{keys}");
        let backup = Backup::open(store.clone(), id.clone()).await.unwrap();
        assert_eq!(backup.generation(), Generation::B, "{keys}");
        assert!(backup.file(file).is_some(), "{keys}");
        let kept = store.remove(&id).await.unwrap_err();
        assert_eq!(kept.code(), "store.not_ours", "{keys}");
    }
    let both = json!({"id": "b_{date}", "files": "*_{date}"});
    let error = ground.site_with(&both, &ground.here(""), json!({}));
    assert_eq!(error.err().unwrap().code(), "config.bad_value");
}

/// The server gives ten names at once, as others a thousand.
#[tokio::test]
async fn lists_of_several_pages_are_read_to_their_end() {
    let ground = Ground::new();
    let file = ground.path("content");
    std::fs::write(&file, "content").unwrap();
    let ids: Vec<BackupId> = (1..=25)
        .map(|day| format!("202401{day:02}-020000").parse().unwrap())
        .collect();
    for id in &ids {
        let key = format!("{id}/configs/crontab-{id}.txt");
        server().put(&ground.key(&key), &file);
    }
    for number in 0..24 {
        let key = format!("{}/configs/{number:02}", ids[0]);
        server().put(&ground.key(&key), &file);
    }
    let store = ground.site().stores()[1].1.clone();
    let mut listed = store.list().await.unwrap();
    listed.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    assert_eq!(listed, ids);
    assert_eq!(store.files(&ids[0]).await.unwrap().len(), 25);
}

async fn refused(ground: &Ground, more: Value, code: &str, kind: ErrorKind) -> Error {
    let site = ground
        .site_with(&more, &ground.here(""), json!({}))
        .unwrap();
    let error = site.stores()[1].1.list().await.unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        (code, kind),
        "{more}: {error}"
    );
    assert!(
        error.hint_text().is_some() && !error.to_string().contains('\n'),
        "{more}: {error:?}"
    );
    for secret in &server().keys {
        assert!(!format!("{error:?}").contains(secret), "{error:?}");
    }
    error
}

#[tokio::test]
async fn each_refusal_is_an_error_of_its_own_with_a_next_step() {
    let ground = Ground::new();
    restore_testing::write_secret(ground.path("wrong"), "another\n");
    let login = "object.login_refused";
    for (more, code, kind) in [
        (
            json!({"secret_key_file": "wrong"}),
            login,
            ErrorKind::Config,
        ),
        (
            json!({"access_key_file": "wrong"}),
            login,
            ErrorKind::Config,
        ),
        (
            json!({"bucket": "nowhere"}),
            "object.no_bucket",
            ErrorKind::NotFound,
        ),
        (
            json!({"endpoint": format!("http://127.0.0.1:{}", free_port())}),
            "object.unreachable",
            ErrorKind::Failed,
        ),
        (
            json!({"secret_key_file": "absent"}),
            "config.secret_unreadable",
            ErrorKind::Config,
        ),
        (
            json!({"secret_key_file": null, "secret_key_env": "RESTORE_TEST_UNSET"}),
            "config.secret_unset",
            ErrorKind::Config,
        ),
    ] {
        refused(&ground, more, code, kind).await;
    }

    let store = ground.site().stores()[1].1.clone();
    let error = store.files(&ID.parse().unwrap()).await.unwrap_err();
    assert_eq!(error.code(), "store.no_such_backup");
    ground.wire.cut_after(0, true);
    let error = store.list().await.unwrap_err();
    assert_eq!(error.code(), "object.connection_lost", "{error}");
    assert!(error.is_retryable());
}

/// What is there may be no store, or one of strangers: a list that does not end costs neither memory nor
/// more than its time.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_does_not_end_is_refused() {
    use std::io::{Read, Write};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    let ground = Ground::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    // Ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let counted = counted.clone();
            std::thread::spawn(move || {
                let mut request = Vec::new();
                let mut some = [0; 1024];
                while !request.ends_with(b"\r\n\r\n") {
                    let Ok(read @ 1..) = stream.read(&mut some) else {
                        return;
                    };
                    request.extend_from_slice(&some[..read]);
                }
                let head =
                    "HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\n\r\n<ListBucketResult>";
                let piece = " ".repeat(64 * 1024);
                let mut open = stream.write_all(head.as_bytes()).is_ok();
                while open {
                    open = stream.write_all(piece.as_bytes()).is_ok();
                    counted.fetch_add(piece.len() as u64, Ordering::Relaxed);
                }
            });
        }
    });
    let endpoint = format!("http://127.0.0.1:{port}");
    let site = ground
        .site_with(&json!({"endpoint": endpoint}), &ground.here(""), json!({}))
        .unwrap();
    let error = site.stores()[1].1.list().await.unwrap_err();
    assert!(error.message().contains("longer than any"), "{error}");
    // Three tries, with what lies in between.
    assert!(sent.load(Ordering::Relaxed) < 256 << 20);
}

#[tokio::test]
async fn a_key_that_only_reads_makes_no_backup_and_says_so() {
    let ground = Ground::new();
    let keys = json!({"access_key_file": "reader-id", "secret_key_file": "reader-secret"});
    let site = ground
        .site_with(&keys, &ground.here(""), json!({}))
        .unwrap();
    let store = &site.stores()[1].1;
    assert_eq!(store.list().await.unwrap(), []);
    let error = store.begin(&ID.parse().unwrap()).await.err().unwrap();
    assert_eq!(
        (error.code(), error.kind()),
        ("object.denied", ErrorKind::Failed)
    );
    assert_eq!(server().keys_below(&ground.prefix), [""; 0]);
}

#[test]
fn what_cannot_be_meant_is_said_before_anything_is_done() {
    let ground = Ground::new();
    let far = "http://storage.example.org";
    for (more, code) in [
        (json!({"endpoint": far}), "config.plain_http"),
        (
            json!({"endpoint": "storage.example.org"}),
            "config.bad_value",
        ),
        (
            json!({"endpoint": "https://me:secret@storage.example.org"}),
            "config.bad_value",
        ),
        (json!({"secret_key_file": null}), "config.no_credentials"),
        (json!({"secret_key_env": "X"}), "config.two_passwords"),
        (json!({"part_mib": 4}), "config.bad_value"),
        (json!({"prefix": "a/../b"}), "config.bad_value"),
        (json!({"bucket": ""}), "config.bad_value"),
        (json!({"secret_key": "in the file"}), "config.unknown_key"),
        (
            json!({"kind": "azure", "bucket": null}),
            "config.unknown_key",
        ),
    ] {
        let error = ground
            .site_with(&more, &ground.here(""), json!({}))
            .err()
            .unwrap_or_else(|| panic!("{more} opens"));
        assert_eq!(
            (error.code(), error.kind()),
            (code, ErrorKind::Config),
            "{more}: {error}"
        );
        assert!(error.to_string().contains("stores.cloud"), "{error}");
    }
    let allowed = json!({"endpoint": far, "allow_http": true});
    ground
        .site_with(&allowed, &ground.here(""), json!({}))
        .unwrap();
}

/// Azure and Google Cloud: what a site says of them makes a client that asks, and keeps what it was
/// given to itself.
#[tokio::test]
async fn the_other_services_are_asked_too_and_their_secrets_stay_with_them() {
    let ground = Ground::new();
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let key = "c2VjcmV0LWtleS1vZi1henVyZQ==";
    let sas = "sv=2021-10-04&sig=secret-signature";
    for (name, content) in [
        ("azure", key),
        ("sas", sas),
        ("gcs", "{\"private_key\": \"secret-"),
    ] {
        restore_testing::write_secret(ground.path(name), content);
    }
    let stores = json!({
        "azure": {"kind": "azure", "account": "a", "container": "b", "endpoint": endpoint,
            "access_key_file": "azure"},
        "sas": {"kind": "azure", "account": "a", "container": "b", "endpoint": endpoint,
            "sas_token_file": "sas"},
        "gcs": {"kind": "gcs", "bucket": "b", "endpoint": endpoint, "sign_in": "nobody"},
        "bad-gcs": {"kind": "gcs", "bucket": "b", "service_account_file": "gcs"},
        "bad-azure": {"kind": "azure", "account": "a", "container": "b", "access_key_file": "gcs"},
    });
    let site = ground
        .site_with(&json!({}), &ground.here(""), json!({"stores": stores}))
        .unwrap();
    for (name, store) in site.stores() {
        let error = store.list().await.unwrap_err();
        let code = match name.starts_with("bad") {
            true => "object.bad_credentials",
            false => "object.unreachable",
        };
        assert_eq!(error.code(), code, "{name}: {error}");
        let said = format!("{error:?} {} {:?}", store.describe(), error.hint_text());
        assert!(!said.contains("secret") && !said.contains("c2Vj"), "{said}");
    }
}

/// With TLS: an authority of one's own is believed where it is named, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_proves_who_it_is() {
    let ground = Ground::new();
    let (certificate, key) = (ground.path("cert.pem"), ground.path("key.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=s3", "-addext"])
        .args([
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success());
    let port = tls(&certificate, &key, server().port).await;
    let endpoint = format!("https://127.0.0.1:{port}");
    refused(
        &ground,
        json!({"endpoint": endpoint}),
        "object.untrusted",
        ErrorKind::Config,
    )
    .await;
    // Nor is a server that speaks no TLS.
    let plain = format!("https://127.0.0.1:{}", ground.wire.port);
    refused(
        &ground,
        json!({"endpoint": plain}),
        "object.untrusted",
        ErrorKind::Config,
    )
    .await;
    let folder = ground.path("folder");
    make_backup(&folder, &FILES[3..]);
    ground.upload(&folder);
    let more = json!({"endpoint": endpoint, "ca_file": "cert.pem"});
    let site = ground
        .site_with(&more, &ground.here(""), json!({}))
        .unwrap();
    site.fetch(ID, restore_core::FetchOptions::new())
        .await
        .unwrap();
    assert_same(&folder, &ground.here(ID));
}

/// A port that speaks TLS and passes on to one that does not.
async fn tls(certificate: &std::path::Path, key: &std::path::Path, to: u16) -> u16 {
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::rustls::{ServerConfig, crypto::ring};
    let certificate = CertificateDer::from_pem_file(certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.ok()?;
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", to))
                    .await
                    .ok()?;
                tokio::io::copy_bidirectional(&mut stream, &mut server)
                    .await
                    .ok()
            });
        }
    });
    port
}
