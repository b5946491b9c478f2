//! Signed backups in a store that others can write to.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use restore_core::backup::{BackupFile, BackupId};
use restore_core::component::Registry;
use restore_core::config::Table;
use restore_core::store::{BackupStore, DirectoryStore};
use restore_core::{ErrorKind, PlanRequest, Result, RunOptions, Site};
use tokio::io::AsyncRead;

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
        .plan_with(&backup, PlanRequest::all(), &RunOptions::new())
        .await
        .unwrap();
    plan.provenance.unwrap()
}

/// Makes a signed backup; the fingerprint of the key.
fn signed(dir: &Path) -> String {
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
    shell(
        dir,
        "gpg --batch --with-colons --list-keys | awk -F: '/^fpr/{print $10; exit}'",
    )
}

/// Shows another manifest at one read.
struct TwoFaced {
    directory: DirectoryStore,
    forged: Vec<u8>,
    /// Which read gets it.
    at: usize,
    reads: AtomicUsize,
}

#[async_trait]
impl BackupStore for TwoFaced {
    fn describe(&self) -> String {
        self.directory.describe()
    }
    async fn list(&self) -> Result<Vec<BackupId>> {
        self.directory.list().await
    }
    async fn files(&self, id: &BackupId) -> Result<Vec<BackupFile>> {
        self.directory.files(id).await
    }
    async fn read(
        &self,
        id: &BackupId,
        path: &str,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        if path == "MANIFEST.txt" && self.reads.fetch_add(1, Ordering::Relaxed) == self.at {
            return Ok(Box::new(std::io::Cursor::new(self.forged.clone())));
        }
        self.directory.read(id, path, offset).await
    }
    fn local_path(&self, _: &BackupId, _: &str) -> Option<PathBuf> {
        None
    }
}

/// The manifest that is obeyed is the one whose signature was checked, whatever a store shows at which read.
#[tokio::test]
async fn a_manifest_that_changes_between_two_reads_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let key = signed(dir);
    let toml = dir.join("restore.toml");
    std::fs::write(
        &toml,
        format!(
            "[site]\nname = 's'\nstate = 'state'\n[stores.main]\nkind = 'two-faced'\n\
             signed_by = ['{key}']\ngnupg_home = 'keys'\n\
             [components.crontab]\nkind = 'crontab'\nfile = 'crontab'\n"
        ),
    )
    .unwrap();
    let folder = dir.join("backups").join(ID);
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.txt")).unwrap();
    let hash = manifest.trim_end().rsplit('|').next().unwrap();
    let forged = manifest.replace(hash, &"0".repeat(hash.len()));
    assert_ne!(manifest, forged);
    let mut refused = 0;
    for at in 0..4 {
        let (backups, text) = (dir.join("backups"), forged.clone().into_bytes());
        let make = move |_: &str, _: Table, _: &Path| -> Result<Arc<dyn BackupStore>> {
            Ok(Arc::new(TwoFaced {
                directory: DirectoryStore::new(&backups),
                forged: text.clone(),
                at,
                reads: AtomicUsize::new(0),
            }))
        };
        let registry = Registry::default().with_store("two-faced", Arc::new(make));
        let site = Site::open_with(&toml, &registry).unwrap();
        match site.backup(ID).await {
            // What it lists is what was signed: the forged bytes were read for something else.
            Ok(backup) => {
                assert_eq!(backup.signer(), Some(key.as_str()));
                let listed = format!("{:?}", backup.manifest().unwrap());
                let is_forged =
                    listed.contains(&"0".repeat(64)) || listed.contains("0, 0, 0, 0, 0, 0, 0, 0");
                assert!(!is_forged, "{at}: {listed}");
            }
            Err(error) => {
                assert_eq!(
                    (error.code(), error.kind()),
                    ("signature.changed", ErrorKind::Verification),
                    "{error}"
                );
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
    shell(dir, "gpgconf --kill all");
}

/// An old backup, put in the place of a newer one together with its signature, is not taken for it.
#[tokio::test]
async fn a_signed_manifest_counts_for_its_own_backup_only() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let key = signed(dir);
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
