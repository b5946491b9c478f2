//! What is packed is what is unpacked, by us and by tar.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::super::{Digest, Sink, SinkFile, Source, unpack};
use super::{Compression, PackPolicy, Packed, pack};
use crate::archive::UnpackPolicy;
use crate::model::{Progress, Result};

mod changing;
mod failing;
mod findings;
mod whole;

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
