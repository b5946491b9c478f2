//! What each scope makes live, and what it leaves.

use std::path::PathBuf;

use super::{Case, MAINTENANCE, OTHER_RUN, fingerprint, same, strings};
use crate::contract::Volume;
use crate::swap::scope::SwapScope;

#[test]
fn everything_becomes_exactly_what_was_staged() {
    let case = Case::new();
    let mut staged = fingerprint(&case.staged());
    staged.retain(|path, _| !path.starts_with(".restore-"));
    assert!(case.swap(&SwapScope::Everything, None));
    same("live", &case.live(), &staged);
    assert!(case.root.join(OTHER_RUN).join("staged/f").is_file());
    assert!(!case.root.join(OTHER_RUN).join("replaced").exists());
}

/// What people have called like a run's folder, and no run has made, is theirs.
#[test]
fn what_only_begins_like_a_run_is_data() {
    let case = Case::new();
    for (root, name) in [
        (case.staged(), ".restore-notes"),
        (case.staged(), ".restore-20200101-000000-aaaa.bak"),
        (case.root.clone(), ".restore-live"),
    ] {
        std::fs::write(root.join(name), name).unwrap();
    }
    assert!(case.swap(&SwapScope::Everything, None));
    assert!(case.root.join(".restore-notes").is_file());
    assert!(
        case.root
            .join(".restore-20200101-000000-aaaa.bak")
            .is_file()
    );
    assert!(!case.root.join(".restore-live").exists());
}

#[test]
fn a_tree_keeps_its_directories_and_what_is_kept() {
    use std::os::unix::fs::MetadataExt;
    let case = Case::new();
    let inode = |path: &str| case.root.join(path).metadata().unwrap().ino();
    let before = (
        inode(""),
        inode("common"),
        inode("common/sub"),
        inode("conf.d"),
    );
    let old = case.live();
    let new = fingerprint(&case.staged());
    let keep = strings(["keep", "gone-but/kept", "**/*.log"]);
    assert!(case.swap(&SwapScope::Tree { keep }, None));
    let live = case.live();
    assert_eq!(
        before,
        (
            inode(""),
            inode("common"),
            inode("common/sub"),
            inode("conf.d")
        )
    );
    for path in [
        ".",
        "a.txt",
        ".dot",
        "new.txt",
        "common",
        "common/sub",
        "common/sub/deep.txt",
        "common/sub/new.txt",
        "new/x/y.txt",
        "file-to-dir/now",
        "dir-to-file",
        "dir-to-link",
        "link-to-dir",
        "link-kept-a-link",
        "link-becomes-dir/in",
        "conf.d/site.conf",
        "new-empty",
        "twin-2",
    ] {
        assert_eq!(live.get(path), new.get(path), "{path}");
    }
    let page = format!("conf.d/{MAINTENANCE}");
    for path in ["keep/secret", "gone-but/kept/inner", "logs/app.log", &page] {
        assert_eq!(live.get(path), old.get(path), "{path}");
    }
    let page = format!("new/{MAINTENANCE}");
    for path in [
        "gone",
        "gone.txt",
        "gone-but/other",
        "empty",
        "keep/more",
        &page,
    ] {
        assert!(!live.contains_key(path), "{path}");
    }
    let replaced = PathBuf::from(case.volume.replaced_at(&case.run));
    assert_eq!(
        std::fs::read(replaced.join("gone/x/y.txt")).unwrap(),
        b"only live"
    );
    assert_eq!(std::fs::read(replaced.join("a.txt")).unwrap(), b"old a");
}

#[test]
fn only_the_named_paths_are_swapped() {
    let case = Case::new();
    let old = case.live();
    let new = fingerprint(&case.staged());
    let paths = strings(["common/sub/deep.txt", "new/x/y.txt", "gone.txt"]);
    assert!(case.swap(
        &SwapScope::Paths {
            paths,
            keep: Vec::new()
        },
        None
    ));
    let live = case.live();
    for (path, entry) in &live {
        let should = match path.as_str() {
            "common/sub/deep.txt" | "new" | "new/x" | "new/x/y.txt" => new.get(path),
            _ => old.get(path),
        };
        assert_eq!(Some(entry), should, "{path}");
    }
    assert!(!live.contains_key("gone.txt"));
    assert_eq!(live.len(), old.len() - 1 + 3);
}
