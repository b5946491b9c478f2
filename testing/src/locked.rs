//! A `gpg` home of the test's own, and a site of two directories: what is locked in the one is
//! unlocked into the other.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use restore_core::Site;
use restore_core::component::Registry;
use restore_core::config::SiteConfig;
use serde_json::{Value, json};

use crate::remote::{FILES, ID, make_backup, noise};

pub const PASSPHRASE: &str = "correct horse \u{e9} battery-staple $(x)";

pub struct Locked {
    pub dir: tempfile::TempDir,
}

impl Locked {
    /// The backup lies in `work`, for the test to pack.
    pub fn new() -> Self {
        let this = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for folder in ["gnupg", "work", "main", "plain"] {
            std::fs::create_dir(this.path(folder)).unwrap();
        }
        this.shell("chmod 700 gnupg");
        std::fs::write(this.path("pass"), format!("{PASSPHRASE}\n")).unwrap();
        std::fs::write(this.path("wrong"), "wrong\n").unwrap();
        for name in ["pass", "wrong"] {
            let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(this.path(name), closed).unwrap();
        }
        make_backup(&this.path("work").join(ID), FILES);
        this
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a shell command in the test's folder, with `gpg` using its home and passphrase.
    #[track_caller]
    pub fn shell(&self, command: &str) {
        let script = format!(
            "set -eu -o pipefail\n\
             gpg() {{ command gpg --homedir gnupg --batch --yes --quiet --no-tty \
             --pinentry-mode loopback --passphrase-file pass --trust-model always \"$@\"; }}\n\
             ID={ID}\n{command}"
        );
        let output = Command::new("bash")
            .args(["-c", &script])
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// The usual packed and encrypted backup.
    pub fn encrypt(&self) -> PathBuf {
        self.shell(
            "tar -C work -czf - $ID | gpg -c --cipher-algo AES256 -o main/backup-$ID.tar.gz.gpg",
        );
        self.path(&format!("main/backup-{ID}.tar.gz.gpg"))
    }

    /// A key without a passphrase; its fingerprint.
    pub fn make_key(&self, home: &str) -> String {
        let home = self.path(home);
        std::fs::create_dir_all(&home).unwrap();
        self.shell(&format!("chmod 700 {}", home.display()));
        let gpg = |args: &[&str]| {
            let output = Command::new("gpg")
                .arg("--homedir")
                .arg(&home)
                .args(["--batch", "--quiet", "--passphrase", ""])
                .args(args)
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        gpg(&[
            "--quick-gen-key",
            "a@example.org",
            "default",
            "default",
            "never",
        ]);
        let listed = gpg(&["--with-colons", "--list-secret-keys"]);
        let line = listed
            .lines()
            .find(|line| line.starts_with("fpr:"))
            .unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }

    pub fn site(&self, keys: Value) -> Site {
        let mut main = json!({
            "kind": "directory", "path": "main", "gnupg_home": "gnupg",
        });
        for (key, value) in keys.as_object().unwrap() {
            main[key] = value.clone();
        }
        let site = json!({
            "site": {"name": "x", "state": "state"},
            "stores": {
                "plain": {"kind": "directory", "path": "plain", "unlocked": true},
                "main": main,
            },
            "components": {},
        });
        let config = SiteConfig::from_value(site).unwrap();
        Site::from_config(config, self.dir.path(), &Registry::default()).unwrap()
    }

    pub fn with_passphrase(&self) -> Site {
        self.site(json!({"passphrase_file": "pass"}))
    }

    /// What is in the folder `work`, and nothing else, is in `plain`.
    #[track_caller]
    pub fn assert_unpacked(&self) {
        crate::remote::assert_same(&self.path("work").join(ID), &self.path("plain").join(ID));
        assert_eq!(crate::remote::names(&self.path("plain")), [ID]);
    }

    /// Nothing is there that could be taken for the backup, and nothing of it outside.
    #[track_caller]
    pub fn assert_nothing(&self) {
        assert!(!self.path("plain").join(ID).exists());
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.dir.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.file_name().to_string_lossy().starts_with("gnupg") {
                let _ = Command::new("gpgconf")
                    .arg("--homedir")
                    .arg(entry.path())
                    .args(["--kill", "all"])
                    .status();
            }
        }
    }
}

/// The same file with one byte of it changed.
pub fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// Something that is no part of a backup.
pub fn junk() -> Vec<u8> {
    noise(1000, 7)
}
