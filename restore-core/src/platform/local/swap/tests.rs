//! A swap is stopped before each of its changes, then finished or taken back.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use super::Hands;
use crate::platform::local::LocalVolume;
use crate::platform::{Discard, SwapScope, SwapState, Volume};
use crate::run::RunId;

#[path = "../../../../tests/support/trees.rs"]
#[expect(unreachable_pub, reason = "shared with the integration tests")]
mod trees;

use trees::{fingerprint, temporary};

const MAINTENANCE: &str = crate::maintenance::FILE_NAME;
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
        done(self.volume.swap_now(&self.run, scope, &mut Hands { left }))
    }

    fn unswap(&self, left: Option<u64>) -> bool {
        done(self.volume.unswap_now(&self.run, &mut Hands { left }))
    }

    fn state(&self) -> SwapState {
        self.volume.look(&self.run).unwrap()
    }
}

/// Whether it came to its end; `false` where it was stopped.
fn done(result: crate::Result<()>) -> bool {
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

#[test]
fn a_path_in_neither_tree_is_refused_before_anything_moves() {
    let case = Case::new();
    let old = case.live();
    for (path, code) in [
        ("a.txtx", "swap.path_missing"),
        ("../volume/a.txt", "path.not_relative"),
        (&format!("conf.d/{MAINTENANCE}"), "swap.path_kept"),
    ] {
        let scope = SwapScope::Paths {
            paths: vec!["a.txt".to_owned(), path.to_owned()],
            keep: Vec::new(),
        };
        let error = case
            .volume
            .swap_now(&case.run, &scope, &mut Hands::default())
            .unwrap_err();
        assert_eq!(error.code(), code);
    }
    same("live", &case.live(), &old);
    assert_eq!(case.state(), SwapState::Staged);
}

#[test]
fn a_path_through_a_link_is_refused() {
    let case = Case::new();
    let old = case.live();
    let scope = SwapScope::Paths {
        paths: strings(["link-to-dir/same.txt"]),
        keep: Vec::new(),
    };
    let error = case
        .volume
        .swap_now(&case.run, &scope, &mut Hands::default())
        .unwrap_err();
    assert!(
        error.hint_text().unwrap().contains("symbolic link"),
        "{error}"
    );
    same("live", &case.live(), &old);
}

#[test]
fn stopped_anywhere_a_swap_can_be_finished_or_taken_back() {
    for scope in scopes() {
        let case = Case::new();
        let before = case.live();
        assert!(case.swap(&scope, None), "{scope:?}");
        assert!(case.swap(&scope, None), "twice");
        assert_eq!(case.state(), SwapState::Swapped);
        let after = case.live();
        assert_ne!(before.keys().count(), 0);
        assert_ne!(before, after);
        for steps in 0.. {
            // Two cases that only differ in their inodes: one is finished, the other undone.
            let (finish, undo) = (Case::new(), Case::new());
            let whole = finish.swap(&scope, Some(steps));
            assert_eq!(undo.swap(&scope, Some(steps)), whole);
            assert!(finish.swap(&scope, None));
            let same_but_times = |is: &Case, should: &BTreeMap<String, String>, what: &str| {
                same(
                    &format!("{what} after {steps} changes of {scope:?}"),
                    &timeless(&is.live()),
                    &timeless(should),
                );
            };
            same_but_times(&finish, &after, "finished");
            assert!(undo.unswap(None));
            assert!(undo.unswap(None), "twice");
            same_but_times(&undo, &before, "undone");
            assert_ne!(undo.state(), SwapState::Swapped);
            // What was taken back can be made live once more.
            assert!(undo.swap(&scope, None));
            same_but_times(&undo, &after, "again");
            if whole {
                break;
            }
        }
    }
}

#[test]
fn an_undo_stopped_anywhere_can_be_finished_or_turned_round() {
    for scope in scopes() {
        let case = Case::new();
        let before = timeless(&case.live());
        assert!(case.swap(&scope, None));
        let after = timeless(&case.live());
        // From a whole swap, and from ones stopped in the middle.
        for swapped in [u64::MAX, 5, 12, 23] {
            for steps in 0.. {
                let (finish, turn) = (Case::new(), Case::new());
                finish.swap(&scope, Some(swapped));
                turn.swap(&scope, Some(swapped));
                let whole = finish.unswap(Some(steps));
                turn.unswap(Some(steps));
                let what = format!("undo after {steps} changes, swap after {swapped}: {scope:?}");
                assert!(finish.unswap(None));
                same(&what, &timeless(&finish.live()), &before);
                assert!(turn.swap(&scope, None));
                same(&what, &timeless(&turn.live()), &after);
                assert!(turn.unswap(None));
                same(&what, &timeless(&turn.live()), &before);
                if whole {
                    break;
                }
            }
        }
    }
}

/// Two cases made one after the other differ in their files' times.
fn timeless(tree: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    tree.iter()
        .map(|(path, entry)| {
            let words: Vec<&str> = entry
                .split(' ')
                .enumerate()
                .filter(|(at, _)| !(entry.starts_with("file ") && *at == 3))
                .map(|(_, word)| word)
                .collect();
            (path.clone(), words.join(" "))
        })
        .collect()
}

#[test]
fn what_services_did_in_between_does_not_stand_in_the_way_of_an_undo() {
    for scope in [SwapScope::Everything, scopes().remove(2)] {
        for steps in 0.. {
            let case = Case::new();
            let before = case.live();
            assert!(case.swap(&scope, None));
            let root = &case.root;
            put(root, "gone.txt", "made anew where one had been", 0o644);
            put(
                root,
                "gone/x/other",
                "made anew where a directory had been",
                0o644,
            );
            put(root, "stray", "made where none was", 0o644);
            put(root, "common/sub/stray/deep", "made where none was", 0o644);
            std::fs::remove_file(root.join("a.txt")).unwrap();
            std::fs::remove_file(root.join("new.txt")).unwrap();
            std::fs::remove_file(root.join("dir-to-file")).unwrap();
            directory(root, "dir-to-file", 0o755, 0);
            std::fs::remove_dir_all(root.join("conf.d")).unwrap();
            let page = root.join("conf.d").join(MAINTENANCE);
            if matches!(scope, SwapScope::Tree { .. }) {
                symlink("common", root.join("conf.d")).unwrap();
            }
            let whole = case.unswap(Some(steps));
            assert!(case.unswap(None));
            let mut before = before;
            if matches!(scope, SwapScope::Tree { .. }) {
                // It was deleted while it stayed: not the undo's to bring back.
                assert!(!page.exists());
                before.remove(&format!("conf.d/{MAINTENANCE}"));
            }
            same(
                &format!("{steps} changes, {scope:?}"),
                &case.live(),
                &before,
            );
            assert!(case.staged().join("stray").is_file());
            assert!(case.staged().join("common/sub/stray/deep").is_file());
            if whole {
                break;
            }
        }
    }
}

#[tokio::test]
async fn discarding_never_touches_live_data() {
    let case = Case::new();
    let scope = SwapScope::Everything;
    let before = case.live();
    let folder = case.root.join(case.run.folder());
    case.volume
        .discard(&case.run, Discard::Replaced)
        .await
        .unwrap();
    assert_eq!(case.state(), SwapState::Staged);
    assert!(!case.swap(&scope, Some(7)));
    assert_eq!(case.state(), SwapState::Swapping);
    for what in [Discard::Staged, Discard::Replaced] {
        let error = case.volume.discard(&case.run, what).await.unwrap_err();
        assert_eq!(error.code(), "volume.swap_begun");
    }
    let error = case.volume.stage_dir(&case.run).await.unwrap_err();
    assert_eq!(error.code(), "volume.swap_begun");
    assert!(case.swap(&scope, None));
    let after = case.live();
    case.volume
        .discard(&case.run, Discard::Staged)
        .await
        .unwrap();
    assert_eq!(case.state(), SwapState::Swapped);
    assert!(case.unswap(None));
    same("undone", &case.live(), &before);
    assert!(case.swap(&scope, None));
    case.volume
        .discard(&case.run, Discard::Replaced)
        .await
        .unwrap();
    case.volume
        .discard(&case.run, Discard::Replaced)
        .await
        .unwrap();
    same("confirmed", &case.live(), &after);
    assert!(!folder.exists());
    assert_eq!(case.state(), SwapState::Nothing);
    assert!(case.unswap(None), "nothing left to take back");
    same("confirmed", &case.live(), &after);
}

#[tokio::test]
async fn a_missing_volume_is_never_made() {
    let temporary = temporary();
    let root = temporary.path().join("typo");
    let volume = LocalVolume::new(&root);
    let run = RunId::generate();
    assert_eq!(
        volume.state(&run).await.unwrap_err().code(),
        "volume.missing"
    );
    assert_eq!(
        volume.stage_dir(&run).await.unwrap_err().code(),
        "volume.missing"
    );
    assert_eq!(
        volume.free_space().await.unwrap_err().code(),
        "volume.missing"
    );
    assert!(!root.exists());
}

#[tokio::test]
async fn without_anything_staged_nothing_is_emptied() {
    let temporary = temporary();
    put(temporary.path(), "data", "live", 0o644);
    let volume = LocalVolume::new(temporary.path());
    let run = RunId::generate();
    let error = volume.swap(&run, &SwapScope::Everything).await.unwrap_err();
    assert_eq!(error.code(), "volume.nothing_staged");
    assert!(temporary.path().join("data").is_file());
}

#[test]
fn a_mount_inside_is_refused_before_anything_moves() {
    let case = Case::new();
    let mount = case.root.join("common/sub");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(&mount)
        .status()
        .unwrap();
    assert!(mounted.success(), "this test mounts: run it as root");
    let results: Vec<_> = scopes()
        .iter()
        .map(|scope| {
            let result = case
                .volume
                .swap_now(&case.run, scope, &mut Hands::default());
            case.volume
                .unswap_now(&case.run, &mut Hands::default())
                .map(|()| result)
        })
        .collect();
    let unmounted = std::process::Command::new("umount").arg(&mount).status();
    assert!(unmounted.unwrap().success());
    for (scope, result) in scopes().iter().zip(results) {
        match (scope, result.unwrap()) {
            // Names entries that have nothing to do with the mount.
            (SwapScope::Entries(_), result) => result.unwrap(),
            (_, result) => assert_eq!(result.unwrap_err().code(), "swap.mount_inside"),
        }
    }
}

/// A file system of 2 MiB, gone when dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn new() -> Self {
        let directory = temporary();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "none"])
            .arg(directory.path())
            .status()
            .unwrap();
        assert!(mounted.success(), "this test mounts: run it as root");
        Self(directory)
    }

    fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.0.path().join("filler")).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        while file.write_all(&[1]).is_ok() {}
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg(self.0.path())
            .status();
    }
}

#[test]
fn a_disk_that_filled_up_does_not_stop_an_undo() {
    let small = Small::new();
    let root = small.0.path().join("volume");
    put(&root, "data", "live", 0o600);
    put(&root, "directory/data", "live", 0o600);
    let before = fingerprint(&root);
    let volume = LocalVolume::new(&root);
    let run = RunId::generate();
    let staged = volume.make_staged(&run).unwrap();
    put(&staged, "data", "staged", 0o600);
    put(&staged, "directory/data", "staged", 0o600);
    let scope = SwapScope::Tree { keep: Vec::new() };

    // Without room for it, a swap does not even begin.
    small.fill();
    let error = volume
        .swap_now(&run, &scope, &mut Hands::default())
        .unwrap_err();
    assert_eq!(error.code(), "io.disk_full");
    assert_eq!(volume.look(&run).unwrap(), SwapState::Staged);
    assert_eq!(fingerprint(&root), before);

    std::fs::remove_file(small.0.path().join("filler")).unwrap();
    volume
        .swap_now(&run, &scope, &mut Hands::default())
        .unwrap();
    small.fill();
    volume.unswap_now(&run, &mut Hands::default()).unwrap();
    same("undone", &fingerprint(&root), &before);
}
