//! A tree that is deeper than there are descriptors, and one that is deeper than any archive.

use std::path::Path;

use restore_core::Progress;
use restore_core::stream::{
    Compression, PackPolicy, Sink, SinkFile, Source, UnpackPolicy, measure, pack, unpack,
};
use rustix::fs::{Mode, OFlags};

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

/// Of each directory: so long that a path is too long before the tree is slow.
const NAME: &str = "directory";

/// `levels` directories within each other, with a file in the last one and one in each hundredth.
fn dig(top: &Path, levels: usize) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut at = rustix::fs::open(top, flags, Mode::empty()).unwrap();
    for level in 1..=levels {
        rustix::fs::mkdirat(&at, NAME, Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, NAME, flags, Mode::empty()).unwrap();
        if level % 100 == 0 || level == levels {
            let flags = OFlags::WRONLY | OFlags::CREATE;
            let file = rustix::fs::openat(&at, "file", flags, Mode::RUSR).unwrap();
            rustix::io::write(&file, b"content").unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_deeper_than_there_are_descriptors_is_packed_and_unpacked() {
    // Of the whole process: this file has no other test.
    let few = rustix::process::Rlimit {
        current: Some(100),
        maximum: Some(100),
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, few).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (levels, files, finding) in [(400, 4, None), (450, 4, Some("pack.too_deep"))] {
        let top = directory.path().join(levels.to_string());
        std::fs::create_dir(&top).unwrap();
        dig(&top, levels);
        let measured = measure(&top, &[]).await.unwrap();
        assert!(measured.entries > levels as u64);
        let archive = directory.path().join("archive");
        let sink = Sink::new(
            "archive",
            Box::new(Plain(std::fs::File::create(&archive).unwrap())),
        );
        let policy = PackPolicy::new(".", Compression::None);
        let packed = pack(&top, policy, sink, Progress::hidden(), Default::default());
        let packed = packed.await.unwrap();
        assert_eq!(packed.files, files, "{levels}");
        let found: Vec<&str> = packed.findings.iter().map(|it| it.code.as_ref()).collect();
        assert_eq!(found, finding.into_iter().collect::<Vec<_>>());
        let target = directory.path().join("unpacked");
        std::fs::create_dir(&target).unwrap();
        let source = Source::new(&archive, "archive", None, None);
        let policy = UnpackPolicy::default();
        let unpacked = unpack(source, &target, &policy, Progress::hidden()).await;
        assert_eq!(unpacked.unwrap().files, files, "{levels}");
        std::process::Command::new("rm")
            .arg("-rf")
            .args([&top, &target])
            .status()
            .unwrap();
    }
}
