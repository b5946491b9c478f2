//! Manifests that must be signed.

use restore_core::{ErrorKind, FetchOptions};
use serde_json::json;

use crate::fixture::*;
use crate::keys::*;

#[tokio::test]
async fn a_store_that_demands_a_signature_gets_one_of_the_right_key() {
    let locked = Locked::new();
    let right = locked.make_key("gnupg");
    let other = locked.make_key("gnupg-other");
    locked.shell("mv work/$ID main/");
    let sign = |key: &str, name: &str| {
        locked.shell(&format!(
            "rm -f main/$ID/MANIFEST.txt.*; gpg -u {key} -b {name} main/$ID/MANIFEST.txt"
        ));
    };
    let spaced = format!("{} {}", &right[..20], right[20..].to_lowercase());
    let site = locked.site(json!({"signed_by": [spaced]}));
    let refused = async |code: &str| {
        for error in [
            site.backup(ID).await.unwrap_err(),
            site.fetch(ID, FetchOptions::new()).await.unwrap_err(),
        ] {
            assert_eq!(
                (error.code(), error.kind()),
                (code, ErrorKind::Verification),
                "{error}"
            );
            assert!(error.hint_text().is_some() && !error.to_string().contains('\n'));
        }
        locked.assert_nothing();
    };
    refused("signature.missing").await;
    // Signed by somebody whose key is not here; then by one that is here and not named.
    locked.shell("cp -a gnupg gnupg-mine; rm -rf gnupg-mine/S.*");
    locked.shell(&format!(
        "command gpg --homedir gnupg-other --batch -q -u {other} --armor -b main/$ID/MANIFEST.txt"
    ));
    refused("signature.unknown_key").await;
    locked.shell("command gpg --homedir gnupg-other -q --export | gpg --import");
    refused("signature.other_key").await;
    // Of another manifest.
    for (arguments, name) in [("--armor", "asc"), ("", "sig")] {
        sign(&right, arguments);
        assert!(
            locked
                .path("main")
                .join(ID)
                .join(format!("MANIFEST.txt.{name}"))
                .exists()
        );
        let manifest = locked.path("main").join(ID).join("MANIFEST.txt");
        flip(&manifest, 30);
        refused("signature.bad").await;
        flip(&manifest, 30);
        assert!(site.backup(ID).await.is_ok());
    }
    let report = site.fetch(ID, FetchOptions::new()).await.unwrap();
    // The signature is not in the manifest that it signs, and nobody minds.
    assert_eq!(report.findings, []);
    assert_same(
        &locked.path("main").join(ID),
        &locked.path("plain").join(ID),
    );
}

#[tokio::test]
async fn a_signature_inside_a_packed_backup_counts() {
    let locked = Locked::new();
    let key = locked.make_key("gnupg");
    locked.encrypt();
    let site = locked.site(json!({"signed_by": [key], "passphrase_file": "pass"}));
    let error = site.fetch(ID, FetchOptions::new()).await.unwrap_err();
    assert_eq!(error.code(), "signature.missing", "{error}");
    locked.assert_nothing();
    locked.shell(&format!(
        "gpg -u {key} -b --passphrase '' work/$ID/MANIFEST.txt"
    ));
    locked.encrypt();
    site.fetch(ID, FetchOptions::new()).await.unwrap();
    locked.assert_unpacked();
}
