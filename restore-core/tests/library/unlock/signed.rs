//! Manifests that must be signed.

use restore_core::component::Registry;
use restore_core::config::SiteConfig;
use restore_core::{
    BackupRequest, ErrorKind, FetchOptions, Outcome, PlanRequest, RunOptions, Site,
};
use restore_testing::locked::*;
use restore_testing::remote::*;
use serde_json::json;

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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_is_signed_and_restores_where_signatures_are_demanded() {
    let locked = Locked::new();
    let key = locked.make_key("gnupg");
    std::fs::create_dir_all(locked.path("live/app")).unwrap();
    std::fs::write(locked.path("live/app/file"), "content").unwrap();
    let site = |sign_with: &str, signed_by: &str| {
        let site = json!({
            "site": {"name": "x", "state": "state"},
            "stores": {"main": {
                "kind": "directory", "path": "main", "gnupg_home": "gnupg",
                "passphrase_file": "pass", "sign_with": sign_with, "signed_by": [signed_by],
            }},
            "components": {"app": {
                "kind": "files", "archive": ["app/app-{id}.tar.gz"], "root": "live", "tree": "app",
            }},
        });
        let config = SiteConfig::from_value(site)?;
        Site::from_config(config, locked.dir.path(), &Registry::default())
    };
    let signing = site(&key, &key).unwrap();
    let made = signing
        .back_up(BackupRequest::all(), RunOptions::new())
        .await
        .unwrap();
    let folder = locked.path("main").join(made.id.as_str());
    locked.shell(&format!(
        "command gpg --homedir gnupg --batch -q --verify {0}/MANIFEST.txt.asc {0}/MANIFEST.txt",
        folder.display()
    ));
    std::fs::write(locked.path("live/app/file"), "damaged").unwrap();
    let backup = signing.backup("latest").await.unwrap();
    let options = RunOptions::new();
    let plan = signing
        .plan_with(&backup, PlanRequest::all(), &options)
        .await
        .unwrap();
    let report = signing.run(plan, options).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert_eq!(report.findings, [], "{}", report.to_text());
    // What the run put aside first is signed too, or it could not be gone back to.
    let safety = signing.stores()[0].1.list().await.unwrap();
    let safety = safety.iter().find(|id| id.is_safety()).unwrap();
    assert!(signing.backup(safety.as_str()).await.is_ok());

    // A key that is not there makes no backup that could be taken for a signed one.
    let absent = "0123456789ABCDEF0123456789ABCDEF01234567";
    let error = site(absent, &key)
        .unwrap()
        .back_up(BackupRequest::all(), RunOptions::new())
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        ("signature.cannot_sign", ErrorKind::Config),
        "{error}"
    );
    assert!(
        error.hint_text().unwrap().contains("unfinished"),
        "{error:?}"
    );
    assert_eq!(
        signing.backup("latest").await.unwrap().id(),
        &made.id,
        "the unfinished one is passed over"
    );
    let error = site("--output=x", &key).err().unwrap();
    assert_eq!(error.code(), "config.bad_value");
}
