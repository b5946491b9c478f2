//! Swaps of trees that differ in every way: whole, stopped before each change, taken back.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use super::scope::{SwapScope, SwapState};
use super::{LocalVolume, SwapExecutor};
use crate::model::RunId;

mod acl;
mod discards;
mod hostile;
mod racer;
mod refuses;
mod scopes;
mod stopped;
mod undo;

use restore_testing::trees::{fingerprint, temporary};

const MAINTENANCE: &str = crate::model::FILE_NAME;

const OTHER_RUN: &str = ".restore-20200101-000000-aaaa";

struct Case {
    _directory: tempfile::TempDir,
    root: PathBuf,
    volume: LocalVolume,
    run: RunId,
}

fn put(root: &Path, path: &str, content: &str, mode: u32) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
}

fn directory(root: &Path, path: &str, mode: u32, owner: u32) {
    let path = root.join(path);
    std::fs::create_dir_all(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    let _ = chown(&path, Some(owner), Some(owner));
}

impl Case {
    /// A live and a staged tree that differ in every way that two trees can.
    fn new() -> Self {
        let temporary = temporary();
        let root = temporary.path().join("volume");
        directory(&root, "", 0o750, 10);
        put(&root, "a.txt", "old a", 0o644);
        put(&root, ".dot", "old dot", 0o600);
        put(&root, "gone.txt", "only live", 0o640);
        put(&root, "common/same.txt", "old same", 0o644);
        put(&root, "common/sub/deep.txt", "old deep", 0o644);
        put(&root, "common/sub/gone.txt", "only live, deep", 0o644);
        put(&root, "gone/x/y.txt", "only live", 0o644);
        put(&root, "file-to-dir", "a file", 0o644);
        put(&root, "dir-to-file/q/r.txt", "in a directory", 0o644);
        put(&root, "dir-to-link/s.txt", "in a directory", 0o644);
        put(&root, "keep/secret", "kept", 0o600);
        put(&root, "gone-but/kept/inner", "kept", 0o600);
        put(&root, "gone-but/other", "goes", 0o600);
        put(&root, "logs/app.log", "live log", 0o600);
        put(&root, &format!("conf.d/{MAINTENANCE}"), "page on", 0o644);
        put(&root, "conf.d/site.conf", "old site", 0o644);
        put(
            &root,
            &format!("{OTHER_RUN}/staged/f"),
            "another run's",
            0o644,
        );
        put(&root, "twin-1", "twins", 0o644);
        std::fs::hard_link(root.join("twin-1"), root.join("twin-2")).unwrap();
        symlink("common", root.join("link-to-dir")).unwrap();
        symlink("/nowhere", root.join("link-kept-a-link")).unwrap();
        symlink("common", root.join("link-becomes-dir")).unwrap();
        directory(&root, "empty", 0o711, 11);
        directory(&root, "common", 0o755, 12);
        let odd = std::ffi::OsStr::from_bytes(b"odd\xff\nname");
        std::fs::write(root.join(odd), "old odd").unwrap();

        let volume = LocalVolume::new(&root);
        let run: RunId = "20240215-093000-7f3a".parse().unwrap();
        let staged = volume.make_staged(&run).unwrap();
        put(&staged, "a.txt", "new a", 0o600);
        put(&staged, ".dot", "new dot", 0o640);
        put(&staged, "new.txt", "only staged", 0o644);
        put(&staged, "common/same.txt", "new same", 0o644);
        put(&staged, "common/sub/deep.txt", "new deep", 0o644);
        put(&staged, "common/sub/new.txt", "only staged, deep", 0o644);
        put(&staged, "new/x/y.txt", "only staged", 0o644);
        put(&staged, "file-to-dir/now", "in a directory", 0o644);
        put(&staged, "dir-to-file", "a file", 0o644);
        symlink("common", staged.join("dir-to-link")).unwrap();
        put(&staged, "keep/secret", "must not come", 0o600);
        put(&staged, "keep/more", "must not come", 0o600);
        put(&staged, "logs/app.log", "must not come", 0o600);
        put(&staged, &format!("conf.d/{MAINTENANCE}"), "old page", 0o644);
        put(&staged, "conf.d/site.conf", "new site", 0o644);
        put(&staged, &format!("new/{MAINTENANCE}"), "old page", 0o644);
        put(
            &staged,
            &format!("{OTHER_RUN}/replaced/g"),
            "must not come",
            0o644,
        );
        put(&staged, "twin-1", "new twins", 0o644);
        std::fs::hard_link(staged.join("twin-1"), staged.join("twin-2")).unwrap();
        put(&staged, "link-to-dir", "a file now", 0o644);
        symlink("/elsewhere", staged.join("link-kept-a-link")).unwrap();
        put(&staged, "link-becomes-dir/in", "in a directory", 0o644);
        directory(&staged, "common/sub", 0o2775, 21);
        directory(&staged, "common", 0o700, 22);
        directory(&staged, "new-empty", 0o711, 23);
        std::fs::write(staged.join(odd), "new odd").unwrap();
        directory(&staged, "", 0o1777, 24);
        Self {
            _directory: temporary,
            root,
            volume,
            run,
        }
    }

    fn staged(&self) -> PathBuf {
        self.root.join(self.run.folder()).join("staged")
    }

    fn live(&self) -> BTreeMap<String, String> {
        fingerprint(&self.root)
    }

    fn swap(&self, scope: &SwapScope, left: Option<u64>) -> bool {
        done(
            self.volume
                .swap_now(&self.run, scope, &mut SwapExecutor { left }),
        )
    }

    fn unswap(&self, left: Option<u64>) -> bool {
        done(
            self.volume
                .unswap_now(&self.run, &mut SwapExecutor { left }),
        )
    }

    fn state(&self) -> SwapState {
        self.volume.look(&self.run).unwrap()
    }
}

/// Whether it came to its end; `false` where it was stopped.
fn done(result: crate::model::Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) if error.code() == "test.killed" => false,
        Err(error) => panic!("{error}"),
    }
}

fn strings<const N: usize>(all: [&str; N]) -> Vec<String> {
    all.map(str::to_owned).to_vec()
}

fn scopes() -> Vec<SwapScope> {
    let keep = strings(["keep", "gone-but/kept", "**/*.log"]);
    vec![
        SwapScope::Everything,
        SwapScope::Entries(strings(["a.txt", "gone", "new", "dir-to-file", "nowhere"])),
        SwapScope::Tree { keep: keep.clone() },
        SwapScope::Paths {
            paths: strings([
                "a.txt",
                "gone.txt",
                "new/x/y.txt",
                "common/sub",
                "common/sub/deep.txt",
                "file-to-dir",
                "conf.d",
            ]),
            keep,
        },
    ]
}

/// Times of files are their content's; those of what was not moved are compared as well.
fn same(what: &str, is: &BTreeMap<String, String>, should: &BTreeMap<String, String>) {
    let differ: Vec<_> = is
        .iter()
        .filter(|(path, entry)| should.get(*path) != Some(entry))
        .map(|(path, entry)| format!("{path}: {entry}, not {:?}", should.get(path)))
        .chain(
            should
                .keys()
                .filter(|path| !is.contains_key(*path))
                .map(|path| format!("{path}: missing")),
        )
        .collect();
    assert!(differ.is_empty(), "{what}: {differ:#?}");
}
