//! Signed backups in a store that others can write to.

use std::path::Path;
use std::process::Command;

use restore_core::{ErrorKind, PlanRequest, RunOptions, Site};

const ID: &str = "20240215-020000";

fn shell(dir: &Path, script: &str) -> String {
    let output = Command::new("bash")
        .args(["-ec", script])
        .current_dir(dir)
        .env("GNUPGHOME", dir.join("keys"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What a plan says of who could have written what root obeys.
async fn trust(site: &Site) -> String {
    let backup = site.backup(ID).await.unwrap();
    let plan = site
        .plan(&backup, PlanRequest::all(), &RunOptions::new())
        .await
        .unwrap();
    plan.provenance.unwrap()
}

/// An old backup, put in the place of a newer one together with its signature, is not taken for it.
#[tokio::test]
async fn a_signed_manifest_counts_for_its_own_backup_only() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    shell(
        dir,
        &format!(
            r#"mkdir -m 700 keys; mkdir -p backups/{ID}/configs state; cd backups/{ID}
               echo '0 2 * * * /bin/true' > configs/crontab-{ID}.txt
               {{ echo "Backup ID: {ID}"; f=configs/crontab-{ID}.txt
                  echo "$f|$(stat -c %s $f)|$(sha256sum $f | cut -d' ' -f1)"; }} > MANIFEST.txt
               gpg --batch -q --passphrase '' --quick-gen-key b@example.org ed25519 sign never
               gpg --batch -q --armor --detach-sign MANIFEST.txt"#
        ),
    );
    let key = shell(
        dir,
        "gpg --batch --with-colons --list-keys | awk -F: '/^fpr/{print $10; exit}'",
    );
    let toml = dir.join("restore.toml");
    std::fs::write(
        &toml,
        format!(
            "[site]\nname = 's'\nstate = 'state'\n[stores.main]\nkind = 'directory'\npath = 'backups'\n\
             signed_by = ['{key}']\ngnupg_home = 'keys'\n\
             [components.crontab]\nkind = 'crontab'\nfile = 'crontab'\n"
        ),
    )
    .unwrap();
    let site = Site::open(&toml).await.unwrap();
    let backup = site.backup(ID).await.unwrap();
    assert_eq!(backup.signer(), Some(key.as_str()));
    let provenance = trust(&site).await;
    assert!(
        provenance.starts_with(&format!("signed by {key}: the crontab file")),
        "{provenance}"
    );

    // The same store, of which nothing is known.
    let text = std::fs::read_to_string(&toml).unwrap();
    let without = text.replace(&format!("signed_by = ['{key}']"), "");
    std::fs::write(&toml, &without).unwrap();
    let unsigned = Site::open(&toml).await.unwrap();
    let provenance = trust(&unsigned).await;
    let says = format!(
        "unsigned: whoever can write to directory {} becomes root here: the crontab file",
        dir.join("backups").display()
    );
    assert!(provenance.starts_with(&says), "{provenance}");
    let required = without.replace("gnupg_home", "require_signature = true\ngnupg_home");
    std::fs::write(&toml, required).unwrap();
    let strict = Site::open(&toml).await.unwrap();
    let error = strict.backup(ID).await.unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        ("signature.required", ErrorKind::Verification)
    );
    assert!(
        error
            .hint_text()
            .is_some_and(|hint| hint.contains("signed_by"))
    );

    let newer = "20240301-020000";
    shell(dir, &format!("mv backups/{ID} backups/{newer}"));
    let error = site.backup(newer).await.unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        ("signature.other_backup", ErrorKind::Verification),
        "{error}"
    );
    assert!(error.message().contains(ID) && error.message().contains(newer));
    shell(dir, "gpgconf --kill all");
}
