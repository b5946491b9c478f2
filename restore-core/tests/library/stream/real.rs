//! Archives made by the real tar come back entry by entry.

use super::*;

/// A tree with everything that tar can hold and a restore lets in.
pub(super) fn everything(root: &Path) {
    let path = |name: &str| root.join(name);
    for name in ["sub/deep", "empty", ".hidden", "closed", "shared"] {
        fs::create_dir_all(path(name)).unwrap();
    }
    fs::write(path("plain"), b"plain").unwrap();
    fs::write(path("nothing"), b"").unwrap();
    fs::write(path(".dotfile"), b"dot").unwrap();
    fs::write(path(".hidden/.more"), b"more").unwrap();
    fs::write(path("sub/deep/large"), content(3_000_000, 7)).unwrap();
    fs::write(path("sub/edge"), content(128 * 1024, 8)).unwrap();
    fs::write(path("with space\nand line"), b"odd").unwrap();
    fs::write(path("closed/read-only"), b"ro").unwrap();
    fs::set_permissions(path("closed/read-only"), PermissionsExt::from_mode(0o400)).unwrap();
    fs::set_permissions(path("closed"), PermissionsExt::from_mode(0o500)).unwrap();
    fs::set_permissions(path("shared"), PermissionsExt::from_mode(0o3777)).unwrap();
    fs::set_permissions(path("plain"), PermissionsExt::from_mode(0o666)).unwrap();
    fs::write(path("shared/of others"), b"others").unwrap();
    std::os::unix::fs::chown(path("shared/of others"), Some(1234), Some(4321)).unwrap();
    std::os::unix::fs::chown(path("empty"), Some(1234), Some(4321)).unwrap();
    let long = format!("sub/{}/{}", "d".repeat(120), "n".repeat(200));
    fs::create_dir_all(path(&long).parent().unwrap()).unwrap();
    fs::write(path(&long), b"long").unwrap();
    symlink("deep/large", path("sub/link")).unwrap();
    symlink(format!("../{long}"), path("sub/long link")).unwrap();
    symlink("/dev/stdout", path("access.log")).unwrap();
    symlink("missing", path("dangling")).unwrap();
    std::os::unix::fs::lchown(path("sub/link"), Some(1234), Some(4321)).unwrap();
    fs::hard_link(path("plain"), path("sub/same as plain")).unwrap();
    fs::hard_link(path("sub/edge"), path("zz same as edge")).unwrap();
    run("mkfifo", &["-m", "620", path("pipe").to_str().unwrap()]);
    let sparse = fs::File::create(path("sparse")).unwrap();
    for (at, size) in [
        (0, 10),
        (1_000_000, 5000),
        (5_000_000, 70_000),
        (20_000_000, 1),
    ] {
        std::os::unix::fs::FileExt::write_all_at(&sparse, &content(size, at), at).unwrap();
    }
    sparse.set_len(30_000_000).unwrap();
    for (name, time) in [
        ("plain", "2001-02-03 04:05:06.789"),
        ("empty", "1999-01-01"),
        ("closed", "1969-12-31 12:00:00.5 UTC"),
        (".", "2020-02-02"),
    ] {
        run("touch", &["-d", time, path(name).to_str().unwrap()]);
    }
    run(
        "touch",
        &["-h", "-d", "2011-11-11", path("dangling").to_str().unwrap()],
    );
    run(
        "touch",
        &["-d", "2005-05-05 05:05:05.5", path("sub").to_str().unwrap()],
    );
}

fn attribute(path: &Path, key: &str, value: &[u8]) {
    rustix::fs::setxattr(path, key, value, rustix::fs::XattrFlags::empty()).unwrap();
}

/// Without what the archive's format cannot hold.
pub(super) fn whole_seconds(
    tree: std::collections::BTreeMap<PathBuf, String>,
) -> Vec<(PathBuf, String)> {
    let cut = |line: String| {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        words[2] = words[2].split('.').next().unwrap().to_owned();
        words.join(" ")
    };
    tree.into_iter()
        .map(|(path, line)| (path, cut(line)))
        .collect()
}

#[tokio::test]
async fn real_archives_come_back_entry_by_entry() {
    let tree = tempdir().unwrap();
    everything(tree.path());
    let work = tempdir().unwrap();
    for (name, options) in [
        ("gnu.tar", &["--format=gnu"][..]),
        ("gnu.tar.gz", &["--format=gnu", "-z"]),
        ("gnu-sparse.tar.gz", &["--format=gnu", "-z", "-S"]),
        ("pax.tar.gz", &["--format=pax", "-z"]),
        (
            "sparse0.tar",
            &["--format=pax", "-S", "--sparse-version=0.0"],
        ),
        (
            "sparse01.tar",
            &["--format=pax", "-S", "--sparse-version=0.1"],
        ),
        ("sparse1.tar.gz", &["--format=pax", "-S", "-z"]),
        ("zstd.tar.zst", &["--format=pax", "--zstd"]),
    ] {
        let archive = work.path().join(name);
        tar(&archive, tree.path(), options);
        let target = work.path().join(format!("{name}.d"));
        fs::create_dir(&target).unwrap();
        let done = unpack_with(&archive, &target, &live("/srv/x"))
            .await
            .unwrap();
        let (want, got) = (snapshot(tree.path()), snapshot(&target));
        if name.starts_with("gnu") {
            assert_eq!(whole_seconds(want), whole_seconds(got), "{name}");
        } else {
            assert_eq!(want, got, "{name}");
        }
        let blocks = fs::metadata(target.join("sparse")).unwrap().blocks();
        if options.contains(&"-S") {
            assert!(blocks * 512 < 1_000_000, "{name}: the holes are gone");
        }
        let count = |prefix: &str| {
            snapshot(tree.path())
                .values()
                .filter(|line| line.starts_with(prefix))
                .count() as u64
        };
        assert_eq!(
            done.files + done.links,
            count("10") - 1 + count("12"),
            "{name}"
        );
        assert_eq!(done.links, count("12") + 2, "{name}");
        assert_eq!(done.directories, count("4"), "{name}");
        assert_eq!(done.read, fs::metadata(&archive).unwrap().len());
        assert_eq!(done.digest, Some(sha256(&fs::read(&archive).unwrap())));
        let walked = walk(source(&archive), &live("/srv/x"), Progress::hidden())
            .await
            .unwrap();
        assert_eq!(walked, done, "{name}");
    }
}

#[tokio::test]
async fn attributes_come_back() {
    let tree = tempdir().unwrap();
    fs::create_dir(tree.path().join("dir")).unwrap();
    fs::write(tree.path().join("dir/file"), b"x").unwrap();
    attribute(&tree.path().join("dir"), "user.of dir", b"\x00\xff\n");
    attribute(&tree.path().join("dir/file"), "user.comment", b"two\nlines");
    let archive = tree.path().with_extension("tar");
    tar(&archive, tree.path(), &["--xattrs"]);
    let target = tempdir().unwrap();
    let done = unpack_with(&archive, target.path(), &live("")).await;
    fs::remove_file(&archive).unwrap();
    done.unwrap();
    assert_eq!(snapshot(tree.path()), snapshot(target.path()));
}

#[tokio::test]
async fn many_small_files_come_back() {
    let tree = tempdir().unwrap();
    for number in 0..3000_usize {
        let directory = tree.path().join(format!("{}/{}", number % 7, number % 50));
        fs::create_dir_all(&directory).unwrap();
        fs::write(
            directory.join(format!("{number}")),
            content(number * 3, number as u64),
        )
        .unwrap();
    }
    let archive = tree.path().with_extension("tar.gz");
    tar(&archive, tree.path(), &["-z", "--format=pax"]);
    let target = tempdir().unwrap();
    let done = unpack_with(&archive, target.path(), &live("")).await;
    fs::remove_file(&archive).unwrap();
    assert_eq!(done.unwrap().files, 3000);
    assert_eq!(snapshot(tree.path()), snapshot(target.path()));
}

/// What the user who is not root can keep is kept, and the rest is no failure.
#[test]
fn without_root_what_can_be_kept_is_kept() {
    if std::env::var_os("RESTORE_STREAM_AS_NOBODY").is_none() {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        let again =
            restore_testing::test_again(module_path!(), "without_root_what_can_be_kept_is_kept");
        command.arg(again.get_program()).args(again.get_args());
        command.env("RESTORE_STREAM_AS_NOBODY", "1");
        let done = command.output().unwrap();
        assert!(
            done.status.success(),
            "{}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let work = tempdir().unwrap();
        let archive = work.path().join("a.tar.gz");
        Raw::default()
            .add(&Header {
                name: "./",
                kind: b'5',
                mode: 0o750,
                owner: (5, 6),
                ..Header::default()
            })
            .add(&Header {
                name: "closed",
                kind: b'5',
                mode: 0o500,
                owner: (5, 6),
                ..Header::default()
            })
            .add(&Header {
                name: "closed/deep",
                kind: b'5',
                mode: 0o000,
                ..Header::default()
            })
            .add(&Header {
                name: "closed/deep/file",
                mode: 0o4444,
                owner: (5, 6),
                data: b"x",
                ..Header::default()
            })
            .symlink("link", "closed")
            .gzip(&archive);
        let mut policy = live("");
        policy.set_uid = true;
        let target = work.path().join("target");
        fs::create_dir(&target).unwrap();
        unpack_with(&archive, &target, &policy).await.unwrap();
        let mode = |name: &str| fs::symlink_metadata(target.join(name)).unwrap().mode() & 0o7777;
        assert_eq!(
            (mode(""), mode("closed"), mode("closed/deep")),
            (0o750, 0o500, 0)
        );
        for name in ["closed/deep", "closed"] {
            fs::set_permissions(target.join(name), PermissionsExt::from_mode(0o700)).unwrap();
        }
        // Set-uid for the recorded owner is not set-uid for us.
        assert_eq!(mode("closed/deep/file"), 0o444);
        assert_eq!(fs::metadata(&target).unwrap().mtime(), 1_600_000_000);
    });
}
