//! What is packed is what is unpacked, by us and by tar.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use std::sync::Arc;

use super::super::{Digest, SinkFile, Source, unpack, walk};
use super::*;
use crate::finding::Severity;

/// A sink into a file of the file system.
struct Plain(std::fs::File);

impl std::io::Write for Plain {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl SinkFile for Plain {
    fn seal(self: Box<Self>) -> std::io::Result<()> {
        self.0.sync_all()
    }
}

struct Ground {
    dir: tempfile::TempDir,
    tree: PathBuf,
    archive: PathBuf,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (tree, archive) = (dir.path().join("tree"), dir.path().join("archive"));
        std::fs::create_dir(&tree).unwrap();
        Self { dir, tree, archive }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.tree.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    async fn pack(&self, policy: PackPolicy) -> Result<Packed> {
        let file = std::fs::File::create(&self.archive).unwrap();
        let sink = Sink::new("archive", Box::new(Plain(file)));
        pack(
            &self.tree,
            policy,
            sink,
            Progress::hidden(),
            CancellationToken::new(),
        )
        .await
    }

    /// Unpacks what was packed; the folder.
    async fn unpack(&self) -> PathBuf {
        let target = self.dir.path().join("unpacked");
        std::fs::create_dir(&target).unwrap();
        let policy = UnpackPolicy {
            set_uid: true,
            ..UnpackPolicy::default()
        };
        let source = Source::new(&self.archive, "archive", None, None);
        unpack(source, &target, &policy, Progress::hidden())
            .await
            .unwrap();
        target
    }
}

/// Every entry with all that is to be kept of it.
fn state(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut todo = vec![root.to_owned()];
    let mut first_of: std::collections::HashMap<u64, PathBuf> = Default::default();
    while let Some(path) = todo.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_owned();
        let mut line = format!(
            "{name:?} {:o} {}:{} {}.{}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec()
        );
        if meta.is_dir() {
            let mut children: Vec<PathBuf> = std::fs::read_dir(&path)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            children.sort();
            children.reverse();
            todo.extend(children);
        } else if meta.is_symlink() {
            line += &format!(" -> {:?}", std::fs::read_link(&path).unwrap());
        } else if meta.is_file() {
            let content = std::fs::read(&path).unwrap();
            let hash = Digest(<sha2::Sha256 as sha2::Digest>::digest(&content).into());
            line += &format!(" {} {hash}", content.len());
            if meta.nlink() > 1 {
                let first = first_of.entry(meta.ino()).or_insert_with(|| name.clone());
                line += &format!(" = {first:?}");
            }
            let mut value = [0; 100];
            if let Ok(length) = rustix::fs::getxattr(&path, "user.note", &mut value[..]) {
                line += &format!(" note {:?}", &value[..length]);
            }
        }
        lines.push(line);
    }
    lines
}

fn volume(compression: Compression) -> PackPolicy {
    PackPolicy::new(".", compression)
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

#[tokio::test]
async fn run_folders_and_patterns_are_left_out() {
    let ground = Ground::new();
    for name in [
        ".restore-20240215-093000-7f3a/staged/x",
        ".restore-20240215-093000-7f3a.trash/x",
        ".restore-notes",
        "conf.d/maintenance.conf",
        "conf.d/app.conf",
        "cache/x/y",
    ] {
        ground.write(name, name);
    }
    let mut policy = volume(Compression::None);
    policy.except = vec!["**/conf.d/maintenance.conf".into(), "cache/x".into()];
    ground.pack(policy.clone()).await.unwrap();
    let back = ground.unpack().await;
    let names: Vec<String> = state(&back)
        .iter()
        .map(|line| line.split('"').nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        ["", ".restore-notes", "cache", "conf.d", "conf.d/app.conf"]
    );
    let measured = measure(&ground.tree, &policy.except).await.unwrap();
    assert_eq!(measured.entries, 4);
    assert_eq!(measured.bytes, 14 + 15);
}

#[tokio::test]
async fn members_of_a_tree_are_named_below_its_root() {
    let ground = Ground::new();
    ground.write("conf.d/app.conf", "x");
    let mut policy = PackPolicy::new("mnt/nfs/nginx", Compression::Gzip(9));
    policy.restore.prefix = "mnt/nfs/nginx".into();
    let packed = ground.pack(policy).await.unwrap();
    assert_eq!(packed.findings, []);
    let mut tar = Command::new("tar");
    let listed = tar.arg("-tf").arg(&ground.archive).output().unwrap();
    assert_eq!(
        String::from_utf8(listed.stdout).unwrap(),
        "mnt/nfs/nginx/\nmnt/nfs/nginx/conf.d/\nmnt/nfs/nginx/conf.d/app.conf\n"
    );
}

#[tokio::test]
async fn what_a_restore_would_refuse_is_said_now() {
    let ground = Ground::new();
    std::os::unix::fs::symlink("/etc/passwd", ground.tree.join("out")).unwrap();
    std::os::unix::fs::symlink("/etc/hosts", ground.tree.join("out2")).unwrap();
    let _listening = std::os::unix::net::UnixListener::bind(ground.tree.join("sock")).unwrap();
    let mut mknod = Command::new("mknod");
    mknod.arg(ground.tree.join("null")).args(["c", "1", "3"]);
    assert!(mknod.status().unwrap().success());
    let packed = ground.pack(volume(Compression::None)).await.unwrap();
    let codes: Vec<(&str, Severity)> = packed
        .findings
        .iter()
        .map(|finding| (finding.code.as_str(), finding.severity))
        .collect();
    assert_eq!(
        codes,
        [
            ("pack.restore_refuses", Severity::Warning),
            ("pack.devices", Severity::Warning),
            ("pack.sockets", Severity::Info)
        ]
    );
    assert!(
        packed.findings[0].message.contains("/etc/passwd"),
        "{packed:?}"
    );
    assert!(
        packed.findings[0].message.ends_with("(and 1 more)"),
        "{packed:?}"
    );
    let hint = packed.findings[0].hint.as_deref().unwrap();
    assert!(hint.contains("allow_links"), "{hint}");
}

/// A writer that never rests while a tree is packed.
fn busy<T>(work: impl Fn(u64) + Send + Sync, packing: impl FnOnce() -> T) -> T {
    let stop = std::sync::atomic::AtomicBool::new(false);
    let began = Mutex::new(0_u64);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut count = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                work(count);
                count += 1;
                *began.lock().unwrap() = count;
            }
        });
        while *began.lock().unwrap() == 0 {
            std::thread::yield_now();
        }
        let done = packing();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        done
    })
}

/// A sink under whose eyes the tree changes: each block that comes through.
struct Meddling<F>(std::fs::File, F);

impl<F: FnMut(u64) + Send> std::io::Write for Meddling<F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        (self.1)(std::io::Seek::stream_position(&mut self.0)?);
        self.0.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<F: FnMut(u64) + Send> SinkFile for Meddling<F> {
    fn seal(self: Box<Self>) -> std::io::Result<()> {
        self.0.sync_all()
    }
}

#[tokio::test]
async fn files_that_change_while_they_are_read_are_named() {
    let ground = Ground::new();
    let size = 24_usize << 20;
    let torn = ground.write("database", vec![0; size]);
    let log = ground.write("log", vec![b'l'; size]);
    let cut = ground.write("rotated", vec![b'r'; size]);
    ground.write("still", "still");
    let written = move |at: u64| {
        let file = std::fs::File::options().write(true).open(&torn).unwrap();
        file.write_all_at(&at.to_le_bytes(), at % (size as u64))
            .unwrap();
        let mut file = std::fs::File::options().append(true).open(&log).unwrap();
        std::io::Write::write_all(&mut file, b"another line\n").unwrap();
        if at > 2 * size as u64 {
            let file = std::fs::File::options().write(true).open(&cut).unwrap();
            file.set_len(10).unwrap();
        }
    };
    let file = std::fs::File::create(&ground.archive).unwrap();
    let packed = pack(
        &ground.tree,
        volume(Compression::None),
        Sink::new("archive", Box::new(Meddling(file, written))),
        Progress::hidden(),
        CancellationToken::new(),
    )
    .await
    .unwrap();
    let said: Vec<(&str, Severity, &str)> = packed
        .findings
        .iter()
        .map(|finding| {
            let names = finding.message.rsplit_once(": ").unwrap().1;
            (finding.code.as_str(), finding.severity, names)
        })
        .collect();
    assert_eq!(
        said,
        [
            ("pack.changed", Severity::Warning, "database, rotated"),
            ("pack.grown", Severity::Info, "log")
        ]
    );
    let back = ground.unpack().await;
    let log = std::fs::read(back.join("log")).unwrap();
    assert!(log.len() >= size && log[..size].iter().all(|byte| *byte == b'l'));
    assert_eq!(std::fs::read(back.join("rotated")).unwrap().len(), size);
    assert_eq!(std::fs::read(back.join("still")).unwrap(), b"still");
}

#[test]
fn small_files_are_whole_however_often_they_are_replaced() {
    let ground = Ground::new();
    for each in 0..200 {
        ground.write(&format!("{each:03}"), vec![b'a'; 5000]);
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tree = &ground.tree;
    // Replaced by rename, as programs that care do, and deleted.
    let packed = busy(
        |count| {
            let content = vec![b'a' + u8::try_from(count % 26).unwrap(); 5000];
            let beside = tree.join("beside");
            std::fs::write(&beside, content).unwrap();
            std::fs::rename(&beside, tree.join(format!("{:03}", count % 200))).unwrap();
        },
        || {
            runtime
                .block_on(ground.pack(volume(Compression::None)))
                .unwrap()
        },
    );
    assert!(packed.files >= 200);
    let back = runtime.block_on(ground.unpack());
    for each in 0..200 {
        let content = std::fs::read(back.join(format!("{each:03}"))).unwrap();
        assert_eq!(content.len(), 5000);
        assert!(content.iter().all(|byte| *byte == content[0]));
    }
}

#[tokio::test]
async fn a_full_sink_and_a_missing_tree_are_errors() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl SinkFile for Full {
        fn seal(self: Box<Self>) -> std::io::Result<()> {
            Ok(())
        }
    }
    let ground = Ground::new();
    ground.write("large", vec![7; 9_000_000]);
    let failed = Arc::<std::sync::atomic::AtomicBool>::default();
    let sink = Sink::new("archive", Box::new(Full)).telling(failed.clone());
    let error = pack(
        &ground.tree,
        volume(Compression::None),
        sink,
        Progress::hidden(),
        CancellationToken::new(),
    )
    .await
    .unwrap_err();
    assert_eq!(error.code(), "io.disk_full", "{error}");
    assert!(failed.load(std::sync::atomic::Ordering::Relaxed));

    std::fs::remove_dir_all(&ground.tree).unwrap();
    let error = ground.pack(volume(Compression::None)).await.unwrap_err();
    assert_eq!(error.code(), "volume.missing", "{error}");

    let ground = Ground::new();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let file = std::fs::File::create(&ground.archive).unwrap();
    let error = pack(
        &ground.tree,
        volume(Compression::None),
        Sink::new("x", Box::new(Plain(file))),
        Progress::hidden(),
        cancel,
    )
    .await
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
}
