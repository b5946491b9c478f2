//! A site whose backups are on another host.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use restore_core::backup::{Manifest, ManifestEntry, ManifestSize};
use restore_core::component::Registry;
use restore_core::config::SiteConfig;
use restore_core::{Result, Site};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::sshd::{Sshd, Wire};

pub const ID: &str = "20240215-020000";

/// The other host, the wire to it, and a directory here.
pub struct Fixture {
    pub dir: tempfile::TempDir,
    pub sshd: Sshd,
    pub wire: Wire,
}

impl Fixture {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for store in ["there", "here"] {
            std::fs::create_dir(dir.path().join(store)).unwrap();
        }
        let sshd = Sshd::start();
        let wire = Wire::to(sshd.port);
        Self { dir, sshd, wire }
    }

    pub fn there(&self, path: &str) -> PathBuf {
        self.dir.path().join("there").join(ID).join(path)
    }

    pub fn here(&self, path: &str) -> PathBuf {
        self.dir.path().join("here").join(path)
    }

    /// A site with the directory `here` and the same backups' host as `nas`.
    pub fn site(&self) -> Site {
        self.site_into(&self.here(""))
    }

    pub fn site_into(&self, here: &Path) -> Site {
        self.try_site(here, &self.sshd.good_client(self.wire.port))
            .unwrap()
    }

    pub fn try_site(&self, here: &Path, config: &Path) -> Result<Site> {
        let host = config
            .file_name()
            .unwrap()
            .to_string_lossy()
            .replace("ssh_config-", "");
        let site = json!({
            "site": {"name": "x", "state": "state"},
            "stores": {
                "main": {"kind": "directory", "path": here},
                "nas": {
                    "kind": "ssh", "host": host, "config": config,
                    "path": self.dir.path().join("there"),
                },
            },
            "components": {},
        });
        Site::from_config(
            SiteConfig::from_value(site)?,
            self.dir.path(),
            &Registry::default(),
        )
    }
}

/// Bytes that look like nothing.
pub fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// A backup with checksums whose files are these many bytes.
pub fn make_backup(folder: &Path, files: &[(&str, usize)]) {
    let mut manifest = Manifest::default();
    manifest.header = vec![("Backup ID".into(), ID.into())];
    for (seed, (path, size)) in (1..).zip(files) {
        let content = noise(*size, seed);
        let full = folder.join(path);
        std::fs::create_dir_all(full.parent().unwrap()).unwrap();
        std::fs::write(full, &content).unwrap();
        manifest.entries.push(ManifestEntry {
            path: (*path).to_owned(),
            size: ManifestSize::Bytes(*size as u64),
            sha256: restore_core::stream::Digest(Sha256::digest(&content).into()),
        });
    }
    std::fs::write(
        folder.join(Manifest::FILE_NAME),
        manifest.to_text().unwrap(),
    )
    .unwrap();
}

/// The same without checksums.
pub fn make_backup_b(folder: &Path, files: &[(&str, usize)]) {
    make_backup(folder, files);
    let text = format!(
        "Backup ID: {ID}\nCreated: now\nType: full\nTotal Size: 1M\nTotal Files: {}\n",
        files.len()
    );
    std::fs::write(folder.join(Manifest::FILE_NAME), text).unwrap();
}

pub const FILES: &[(&str, usize)] = &[
    ("postgres/postgres-20240215-020000.dump", 9_000_001),
    ("volumes/prometheus-20240215-020000.tar.gz", 5_000_000),
    ("volumes/grafana-20240215-020000.tar.gz", 3_145_728),
    ("redis/redis-20240215-020000.rdb", 262_143),
    ("configs/env-files/.env", 17),
    ("configs/a name with ünïcode | and 'quotes' $(x)", 40_000),
    ("configs/empty", 0),
];

/// Every file below a folder with its content.
pub fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                let name = path
                    .strip_prefix(folder)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Both folders hold the same files; says which differ, not how.
#[track_caller]
pub fn assert_same(there: &Path, here: &Path) {
    let (there, here) = (tree(there), tree(here));
    let names: Vec<_> = there.keys().collect();
    assert_eq!(names, here.keys().collect::<Vec<_>>());
    for (name, content) in &there {
        assert!(here[name] == *content, "{name} differs");
    }
}

/// The names at the top of the directory `here`.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
