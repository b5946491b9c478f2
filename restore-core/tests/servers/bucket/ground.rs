//! A site with a directory and a bucket.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use restore_core::Site;
use restore_core::component::Registry;
use restore_core::config::SiteConfig;
use restore_testing::remote::ID;
use restore_testing::s3::Server;
use restore_testing::sshd::Wire;
use serde_json::{Value, json};

/// A prefix of the bucket, the wire to it, and directories here.
pub(crate) struct Ground {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) wire: Wire,
    pub(crate) prefix: String,
}

impl Ground {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let this = Self {
            dir: tempfile::tempdir().unwrap(),
            wire: Wire::to(server().port),
            prefix: format!("sites/{count}"),
        };
        std::fs::create_dir(this.path("here")).unwrap();
        for (at, name) in ["id", "secret", "reader-id", "reader-secret"]
            .iter()
            .enumerate()
        {
            restore_testing::write_secret(this.path(name), format!("{}\n", server().keys[at]));
        }
        this
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn here(&self, path: &str) -> PathBuf {
        self.path("here").join(path)
    }

    /// The key of what is called so in the store.
    pub(crate) fn key(&self, below: &str) -> String {
        format!("{}/{below}", self.prefix)
    }

    /// Puts every file of a folder into the bucket, as the backup of that id.
    pub(crate) fn upload(&self, folder: &Path) {
        for name in restore_testing::remote::tree(folder).keys() {
            server().put(&self.key(&format!("{ID}/{name}")), &folder.join(name));
        }
    }

    /// The bucket's section, with some keys changed.
    pub(crate) fn section(&self, more: &Value) -> Value {
        let mut section = json!({
            "kind": "s3", "bucket": server().bucket, "prefix": self.prefix,
            "region": "eu-central-1",
            "endpoint": format!("http://127.0.0.1:{}", self.wire.port),
            "access_key_file": "id", "secret_key_file": "secret", "part_mib": 5,
        });
        for (key, value) in more.as_object().unwrap() {
            match value {
                Value::Null => drop(section.as_object_mut().unwrap().remove(key)),
                value => section[key] = value.clone(),
            }
        }
        section
    }

    pub(crate) fn site(&self) -> Site {
        self.site_with(&json!({}), &self.here(""), json!({}))
            .unwrap()
    }

    /// The same with other keys of the bucket, another directory, and components.
    pub(crate) fn site_with(
        &self,
        more: &Value,
        here: &Path,
        rest: Value,
    ) -> restore_core::Result<Site> {
        let mut site = json!({
            "site": {"name": "x", "state": "state"},
            "stores": {
                "main": {"kind": "directory", "path": here, "unlocked": true},
                "cloud": self.section(more),
            },
            "components": {},
        });
        for (key, value) in rest.as_object().unwrap() {
            site[key] = value.clone();
        }
        Site::from_config(
            SiteConfig::from_value(site)?,
            self.dir.path(),
            &Registry::default(),
        )
    }
}

pub(crate) fn server() -> &'static Server {
    Server::shared()
}
