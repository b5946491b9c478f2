//! Trees that hold everything an archive can come back as they were.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::process::Command;

use super::super::super::{Source, UnpackPolicy, walk};
use super::super::Compression;
use super::{Ground, state, volume};
use crate::model::Progress;

#[tokio::test]
async fn everything_comes_back_whatever_the_compression() {
    for compression in [
        Compression::None,
        Compression::Gzip(6),
        Compression::Gzip(1),
        Compression::Zstd(3),
    ] {
        let ground = Ground::new();
        rich(&ground);
        let packed = ground.pack(volume(compression)).await.unwrap();
        let size = std::fs::metadata(&ground.archive).unwrap().len();
        assert_eq!(packed.written.bytes, size);
        let source = Source::new(&ground.archive, "x", None, Some(packed.written.digest));
        let policy = UnpackPolicy {
            set_uid: true,
            ..UnpackPolicy::default()
        };
        let walked = walk(source, &policy, Progress::hidden()).await.unwrap();
        assert_eq!(walked.files, packed.files);
        assert_eq!((packed.files, packed.links), (9, 3), "{packed:?}");
        let back = ground.unpack().await;
        assert_eq!(state(&ground.tree), state(&back), "{compression:?}");
    }
}

#[tokio::test]
async fn tar_reads_it_too() {
    for compression in [Compression::Gzip(6), Compression::Zstd(3)] {
        let ground = Ground::new();
        rich(&ground);
        ground.pack(volume(compression)).await.unwrap();
        let target = ground.dir.path().join("by-tar");
        std::fs::create_dir(&target).unwrap();
        let output = Command::new("tar")
            .args(["--xattrs", "--xattrs-include=user.*", "-xpf"])
            .arg(&ground.archive)
            .arg("-C")
            .arg(&target)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        // Of the one from before 1970.
        let odd = said.lines().find(|line| !line.contains("implausibly old"));
        assert_eq!(odd, None);
        assert_eq!(state(&ground.tree), state(&target), "{compression:?}");
    }
}

#[tokio::test]
async fn holes_stay_holes() {
    let ground = Ground::new();
    let path = ground.write("sparse", "");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    // More pieces than the first header has room for, and a hole at the end.
    for piece in 0..30_u64 {
        file.write_all_at(
            &[b'a' + u8::try_from(piece % 26).unwrap(); 4096],
            piece << 20,
        )
        .unwrap();
    }
    file.set_len(100 << 20).unwrap();
    file.sync_all().unwrap();
    let only_hole = ground.write("hole", "");
    std::fs::File::options()
        .write(true)
        .open(&only_hole)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let packed = ground.pack(volume(Compression::Gzip(6))).await.unwrap();
    assert_eq!(packed.bytes, 30 * 4096);
    for by_tar in [false, true] {
        let target = if by_tar {
            let target = ground.dir.path().join("by-tar");
            std::fs::create_dir(&target).unwrap();
            let mut tar = Command::new("tar");
            tar.arg("-xf").arg(&ground.archive).arg("-C").arg(&target);
            assert!(tar.status().unwrap().success());
            target
        } else {
            ground.unpack().await
        };
        let found = std::fs::File::open(target.join("sparse")).unwrap();
        let meta = found.metadata().unwrap();
        assert_eq!(meta.len(), 100 << 20);
        assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
        let mut block = [0; 4097];
        for piece in 0..30_u64 {
            found.read_exact_at(&mut block, piece << 20).unwrap();
            let byte = b'a' + u8::try_from(piece % 26).unwrap();
            assert!(
                block[..4096].iter().all(|found| *found == byte),
                "piece {piece}"
            );
            assert_eq!(block[4096], 0);
        }
        assert_eq!(
            std::fs::read(target.join("hole")).unwrap(),
            vec![0; 1 << 20]
        );
    }
}

/// A tree with everything that an archive can hold.
fn rich(ground: &Ground) {
    ground.write("a/file", "content");
    ground.write("a/empty", "");
    ground.write(".hidden", "dot");
    ground.write("large", vec![b'x'; 3_000_000]);
    ground.write(
        &format!("deep/{}/{}", "d".repeat(120), "f".repeat(200)),
        "long",
    );
    ground.write("exact/".to_owned().as_str().trim_end_matches('/'), "1");
    let odd = OsStr::from_bytes(b"odd \n \xff \\ name");
    std::fs::write(ground.tree.join(odd), "odd").unwrap();
    std::os::unix::fs::symlink("../a/file", ground.tree.join("a/link")).unwrap();
    std::os::unix::fs::symlink("t".repeat(150), ground.tree.join("long-link")).unwrap();
    std::fs::hard_link(
        ground.tree.join("a/file"),
        ground.tree.join("z-second-name"),
    )
    .unwrap();
    let tool = ground.write("tool", "#!/bin/sh\n");
    std::fs::set_permissions(&tool, PermissionsExt::from_mode(0o4755)).unwrap();
    let noted = ground.write("noted", "x");
    rustix::fs::setxattr(
        &noted,
        "user.note",
        b"a\nb=\0",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let run = |argv: &[&str]| {
        let status = Command::new(argv[0])
            .args(&argv[1..])
            .current_dir(&ground.tree)
            .status();
        assert!(status.unwrap().success(), "{argv:?}");
    };
    run(&["mkfifo", "pipe"]);
    run(&["chown", "1234:3000000", "a/empty"]);
    run(&["chown", "-h", "77:88", "long-link"]);
    run(&["touch", "-h", "-d", "1969-12-31T23:59:58.75Z", "a/empty"]);
    run(&[
        "touch",
        "-d",
        "2024-02-15T02:00:00.123456789Z",
        "a",
        "large",
    ]);
    run(&["chmod", "2750", "deep"]);
}
