//! Archives as other people's tools write them: other compressions, prefixes, labels, odd headers.

use super::*;
use restore_core::stream::Owners;

fn small(root: &Path) {
    fs::create_dir_all(root.join("d/empty")).unwrap();
    fs::write(root.join("a"), b"a").unwrap();
    fs::write(root.join("d/b"), content(200_000, 3)).unwrap();
    symlink("/srv/releases/12", root.join("current")).unwrap();
    symlink("../../up", root.join("d/up")).unwrap();
}

fn any_links() -> UnpackPolicy {
    let mut policy = live("/srv/live");
    policy.any_links = true;
    policy
}

/// Names and contents, without times.
fn held(root: &Path) -> Vec<(PathBuf, String)> {
    let said = |line: String| {
        let words: Vec<&str> = line.split(' ').collect();
        words[3..].join(" ")
    };
    let tree = snapshot(root).into_iter();
    tree.map(|(path, line)| (path, said(line))).collect()
}

#[tokio::test]
async fn each_compression_is_read_whatever_the_name() {
    let tree = tempdir().unwrap();
    small(tree.path());
    let work = tempdir().unwrap();
    let plain = work.path().join("plain");
    tar(&plain, tree.path(), &["--format=pax"]);
    for (program, magic) in [
        ("gzip", &b"\x1f\x8b"[..]),
        ("zstd", b"\x28\xb5\x2f\xfd"),
        ("bzip2", b"BZh"),
        ("xz", b"\xfd7zXZ"),
    ] {
        let packed = std::process::Command::new(program)
            .arg("-c")
            .arg(&plain)
            .output()
            .unwrap()
            .stdout;
        assert!(packed.starts_with(magic));
        let archive = work.path().join("archive.tar.gz");
        fs::write(&archive, &packed).unwrap();
        let target = tempdir().unwrap();
        unpack_with(&archive, target.path(), &any_links())
            .await
            .unwrap();
        assert_eq!(snapshot(tree.path()), snapshot(target.path()), "{program}");
        // Members one behind the other, and the zeros that tapes put behind the last.
        let (first, second) = fs::read(&plain).unwrap().split_at(1000).into_owned();
        let half = |bytes: &[u8]| {
            let part = work.path().join("part");
            fs::write(&part, bytes).unwrap();
            let mut command = std::process::Command::new(program);
            command.arg("-c").arg(&part).output().unwrap().stdout
        };
        let mut padded = [half(&first), half(&second)].concat();
        padded.resize(padded.len().next_multiple_of(10_240) + 10_240, 0);
        fs::write(&archive, &padded).unwrap();
        both(&archive, &any_links()).await.unwrap();
        // What is no padding is no end.
        padded.extend_from_slice(b"something else");
        fs::write(&archive, &padded).unwrap();
        let error = both(&archive, &any_links()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Verification, "{program}: {error}");
        for length in [packed.len() / 2, packed.len() - 3] {
            fs::write(&archive, &packed[..length]).unwrap();
            let error = both(&archive, &any_links()).await.unwrap_err();
            assert_eq!(error.code(), "archive.truncated", "{program}: {error}");
        }
        let mut bytes = packed.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        fs::write(&archive, &bytes).unwrap();
        let error = both(&archive, &any_links()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Verification, "{program}: {error}");
        assert!(estimate_unpacked(&archive).unwrap() >= packed.len() as u64);
    }
}

trait Halves {
    fn into_owned(self) -> (Vec<u8>, Vec<u8>);
}

impl Halves for (&[u8], &[u8]) {
    fn into_owned(self) -> (Vec<u8>, Vec<u8>) {
        (self.0.to_vec(), self.1.to_vec())
    }
}

/// A frame of lz4 as `lz4` writes it: Debian's is not among what the tests install.
#[tokio::test]
async fn frames_of_lz4_are_read() {
    let plain = Raw::default().file("a", b"content").end().0;
    // Stored blocks, no sums: magic, flags, block size, and the sum of these two bytes.
    let mut frame = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
    frame.extend_from_slice(&(u32::try_from(plain.len()).unwrap() | 1 << 31).to_le_bytes());
    frame.extend_from_slice(&plain);
    frame.extend_from_slice(&[0; 4]);
    let work = tempdir().unwrap();
    let archive = work.path().join("a.tar.lz4");
    fs::write(&archive, &frame).unwrap();
    assert_eq!(both(&archive, &live("")).await.unwrap().files, 1);
    fs::write(&archive, &frame[..frame.len() - 600]).unwrap();
    let error = both(&archive, &live("")).await.unwrap_err();
    assert_eq!(error.code(), "archive.truncated", "{error}");
}

#[tokio::test]
async fn links_are_data_and_never_followed() {
    let outside = tempdir().unwrap();
    fs::write(outside.path().join("f"), b"precious").unwrap();
    let there = outside.path().to_str().unwrap();
    let work = tempdir().unwrap();
    let archive = work.path().join("a.tar.gz");
    Raw::default()
        .symlink("current", "/srv/releases/12")
        .symlink("d/up", "../../../etc")
        .symlink("odd", "a/../../b")
        .hard_link("other/up", "d/up")
        .gzip(&archive);
    assert_eq!(both(&archive, &any_links()).await.unwrap().links, 4);
    let error = both(&archive, &live("/srv/live")).await.unwrap_err();
    assert!(error.message().contains("3 members"), "{error}");
    // Through a link nothing is written, whoever asks for it.
    for raw in [
        Raw::default().symlink("d", there).file("d/f", b"evil"),
        Raw::default().symlink("d", there).file("d/new/f", b"evil"),
        Raw::default().symlink("d", there).hard_link("x", "d/f"),
        Raw::default()
            .symlink("f", &format!("{there}/f"))
            .file("f", b"evil"),
    ] {
        raw.gzip(&archive);
        let error = both(&archive, &any_links()).await.unwrap_err();
        assert_eq!(error.code(), "archive.member_refused", "{error}");
    }
    assert_eq!(fs::read(outside.path().join("f")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_prefix_and_strip_choose_what_is_unpacked() {
    let tree = tempdir().unwrap();
    let inside = tree.path().join("backup/uploads");
    fs::create_dir_all(&inside).unwrap();
    small(&inside);
    fs::hard_link(inside.join("a"), inside.join("d/same")).unwrap();
    fs::write(tree.path().join("backup/note"), b"not wanted").unwrap();
    let work = tempdir().unwrap();
    // As tools in containers write them: with the leading slash.
    let archive = work.path().join("a.tar.gz");
    run(
        "tar",
        &[
            "-P",
            "-czf",
            archive.to_str().unwrap(),
            "--transform",
            &format!("s,^{},,S", tree.path().display()),
            &format!("{}/backup", tree.path().display()),
        ],
    );
    let error = both(&archive, &any_links()).await.unwrap_err();
    assert!(error.message().contains("absolute"), "{error}");
    assert!(
        error.hint_text().unwrap().contains("prefix = "),
        "{error:?}"
    );
    for (prefix, strip) in [
        ("backup/uploads", 0),
        ("/backup/uploads/", 0),
        ("backup", 1),
        ("", 2),
    ] {
        let mut policy = any_links();
        policy.prefix = prefix.to_owned();
        policy.strip = strip;
        let target = tempdir().unwrap();
        let done = unpack_with(&archive, target.path(), &policy).await.unwrap();
        assert_eq!(held(&inside), held(target.path()), "{prefix} {strip}");
        assert!(done.left_out >= 1, "{done:?}");
    }
    // Two files of one name are no restore.
    Raw::default()
        .file("x/same", b"1")
        .file("y/same", b"2")
        .gzip(&archive);
    let mut policy = any_links();
    policy.strip = 1;
    let error = both(&archive, &policy).await.unwrap_err();
    assert!(error.message().contains("two members"), "{error}");
}

/// Only what would be written is judged.
#[tokio::test]
async fn what_is_left_out_is_not_judged() {
    let work = tempdir().unwrap();
    let archive = work.path().join("a.tar.gz");
    Raw::default()
        .file("/etc/passwd", b"x")
        .file("../up", b"x")
        .symlink("old", "/anywhere")
        .add(&Header {
            name: "dev/sda",
            kind: b'4',
            ..Header::default()
        })
        .add(&Header {
            name: "srv/skipped/su",
            mode: 0o4755,
            ..Header::default()
        })
        .hard_link("srv/skipped/link", "missing")
        .file("srv/wanted", b"x")
        .gzip(&archive);
    let mut policy = live("/srv");
    policy.prefix = "srv".to_owned();
    policy.except = vec!["skipped".to_owned()];
    let done = both(&archive, &policy).await.unwrap();
    assert_eq!((done.files, done.left_out), (1, 6));
    // What is below the prefix by its first names and leads out of it is judged.
    Raw::default().file("srv/../etc/x", b"x").gzip(&archive);
    let error = both(&archive, &policy).await.unwrap_err();
    assert_eq!(error.code(), "archive.member_refused", "{error}");
}

#[tokio::test]
async fn labels_and_full_incremental_archives_are_let_in() {
    let tree = tempdir().unwrap();
    small(tree.path());
    let work = tempdir().unwrap();
    let snar = work.path().join("snar");
    let snar = snar.to_str().unwrap();
    for options in [
        &["-V", "nightly"][..],
        &["-V", "nightly", "--format=pax"],
        &["-g", snar, "--format=gnu", "-z"],
        &["-g", snar, "--format=pax", "-z"],
    ] {
        let _ = fs::remove_file(snar);
        let archive = work.path().join("full");
        tar(&archive, tree.path(), options);
        let target = tempdir().unwrap();
        unpack_with(&archive, target.path(), &any_links())
            .await
            .unwrap();
        assert_eq!(held(tree.path()), held(target.path()), "{options:?}");
        if options[0] == "-V" {
            continue;
        }
        fs::write(tree.path().join("new"), b"new").unwrap();
        let archive = work.path().join("next");
        tar(&archive, tree.path(), options);
        let error = both(&archive, &any_links()).await.unwrap_err();
        assert!(
            error.message().contains("increment"),
            "{options:?}: {error}"
        );
        assert!(error.hint_text().unwrap().contains("full backup"));
        fs::remove_file(tree.path().join("new")).unwrap();
    }
}

#[tokio::test]
async fn blank_fields_of_a_header_are_filled_in() {
    let work = tempdir().unwrap();
    let archive = work.path().join("a.tar");
    let file = Raw::default().file("a", b"").0;
    let blank = |fields: &[std::ops::Range<usize>], with: u8| {
        let mut block = file[..512].to_vec();
        for field in fields {
            block[field.clone()].fill(with);
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    };
    let all = [100..108, 108..116, 116..124, 124..136, 136..148];
    for block in [
        blank(&all, b' '),
        blank(&all, 0),
        blank(&all[1..3], b' '),
        // The version of the format.
        blank(std::slice::from_ref(&(263..265)), 0),
    ] {
        fs::write(&archive, Raw(block).file("b", b"x").end().0).unwrap();
        let target = tempdir().unwrap();
        let done = unpack_with(&archive, target.path(), &live(""))
            .await
            .unwrap();
        assert_eq!(done.files, 2);
        let meta = fs::metadata(target.path().join("a")).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o644, 0));
    }
}

#[tokio::test]
async fn owners_are_taken_by_number_by_name_or_from_the_live_tree() {
    let tree = tempdir().unwrap();
    fs::write(tree.path().join("f"), b"x").unwrap();
    let work = tempdir().unwrap();
    let archive = work.path().join("a.tar");
    tar(
        &archive,
        tree.path(),
        &["--owner=daemon:4321", "--group=nobody-knows:4322"],
    );
    let daemon = nix_uid("daemon");
    for (owners, chown, want) in [
        (Owners::Numbers, None, (4321, 4322)),
        (Owners::Names, None, (daemon, 4322)),
        (Owners::Volume, None, (70, 71)),
        (Owners::Numbers, Some((999, 998)), (999, 998)),
    ] {
        let mut policy = live("");
        policy.owner = Some((70, 71));
        policy.owners = owners;
        policy.chown = chown;
        let target = tempdir().unwrap();
        unpack_with(&archive, target.path(), &policy).await.unwrap();
        for path in ["", "f"] {
            let meta = fs::metadata(target.path().join(path)).unwrap();
            assert_eq!((meta.uid(), meta.gid()), want, "{owners:?}");
        }
    }
}

fn nix_uid(name: &str) -> u32 {
    let said = std::process::Command::new("id")
        .args(["-u", name])
        .output()
        .unwrap();
    String::from_utf8(said.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

/// Long and odd names of each format, as GNU tar writes them.
#[tokio::test]
async fn long_and_odd_names_come_back_whole() {
    use std::os::unix::ffi::OsStrExt;
    let tree = tempdir().unwrap();
    let deep = |count: usize| vec!["d".repeat(45); count].join("/");
    for name in [deep(2), deep(3), deep(6), deep(60)] {
        let path = tree.path().join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if name.len() < 3000 {
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("f"), &name).unwrap();
        }
    }
    fs::write(tree.path().join("with\nline"), b"1").unwrap();
    fs::write(
        tree.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9")),
        b"1",
    )
    .unwrap();
    let work = tempdir().unwrap();
    for format in ["gnu", "oldgnu", "pax"] {
        let archive = work.path().join(format);
        tar(&archive, tree.path(), &[&format!("--format={format}")]);
        let target = tempdir().unwrap();
        unpack_with(&archive, target.path(), &any_links())
            .await
            .unwrap();
        assert_eq!(held(tree.path()), held(target.path()), "{format}");
    }
}

/// Some writers mark the header of a long name with another version of the format, or with none.
#[tokio::test]
async fn long_names_are_read_whatever_their_header_says_of_the_format() {
    let tree = tempdir().unwrap();
    let long = "d".repeat(90) + "/" + &"f".repeat(120);
    fs::create_dir(tree.path().join(&long[..90])).unwrap();
    fs::write(tree.path().join(&long), b"1").unwrap();
    let work = tempdir().unwrap();
    let plain = work.path().join("a.tar");
    tar(&plain, tree.path(), &["--format=gnu"]);
    let whole = fs::read(&plain).unwrap();
    for magic in [
        b"ustar 00",
        b"ustar  \0",
        b"\0\0\0\0\0\0\0\0",
        b"ustar\x00\x30\0",
    ] {
        let mut bytes = whole.clone();
        let mut marked = 0;
        for block in bytes.chunks_exact_mut(512) {
            if !block.starts_with(b"././@LongLink") {
                continue;
            }
            block[257..265].copy_from_slice(magic);
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            marked += 1;
        }
        assert_eq!(marked, 1);
        fs::write(&plain, &bytes).unwrap();
        let target = tempdir().unwrap();
        unpack_with(&plain, target.path(), &live("")).await.unwrap();
        assert!(target.path().join(&long).is_file(), "{magic:?}");
    }
}
