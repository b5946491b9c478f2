//! Access is never wider after a restore: access control lists come back with what has them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::XattrFlags;

use super::{put, temporary};
use crate::archive::{Compression, PackPolicy, Sink, SinkFile, Source, UnpackPolicy};
use crate::contract::Volume;
use crate::model::{Progress, RunId};
use crate::swap::LocalVolume;
use crate::swap::scope::SwapScope;

const ACCESS: &str = "system.posix_acl_access";

struct Plain(std::fs::File);

impl std::io::Write for Plain {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        std::io::Write::write(&mut self.0, bytes)
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

/// `user::rwx,user:4242:rwx,group::---,mask::rwx,other::---`: the group has nothing, whatever the
/// mode says.
fn list() -> Vec<u8> {
    let mut list = vec![2, 0, 0, 0];
    for (tag, rights, id) in [
        (1_u16, 7_u16, u32::MAX),
        (2, 7, 4242),
        (4, 0, u32::MAX),
        (0x10, 7, u32::MAX),
        (0x20, 0, u32::MAX),
    ] {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&rights.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    list
}

fn give(path: &Path) {
    rustix::fs::setxattr(path, ACCESS, &list(), XattrFlags::empty()).unwrap();
}

fn has(path: &Path) -> Option<Vec<u8>> {
    let mut value = vec![0; 1024];
    let length = rustix::fs::getxattr(path, ACCESS, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

#[tokio::test]
async fn lists_are_packed_and_come_back_also_of_directories_that_stay() {
    let directory = temporary();
    let root = directory.path().join("volume");
    put(&root, "private", "x", 0o600);
    put(&root, "sub/plain", "x", 0o640);
    for path in ["private", "sub", ""] {
        give(&root.join(path));
    }
    let archive = directory.path().join("archive");
    let file = std::fs::File::create(&archive).unwrap();
    let volume = LocalVolume::new(&root).kept_in(directory.path().join("state"));
    let policy = PackPolicy::new(".", Compression::None);
    let sink = Sink::new("archive", Box::new(Plain(file)));
    volume
        .pack(policy, sink, Progress::hidden(), Default::default())
        .await
        .unwrap();

    // Since then one has lost its list, and one has got one.
    rustix::fs::removexattr(&root, ACCESS).unwrap();
    rustix::fs::removexattr(root.join("sub"), ACCESS).unwrap();
    give(&root.join("sub/plain"));
    for scope in [SwapScope::Everything, SwapScope::Tree { keep: Vec::new() }] {
        let run = RunId::generate();
        let source = Source::new(&archive, "archive", None, None);
        let unpacked = volume
            .unpack(&run, source, &UnpackPolicy::default(), Progress::hidden())
            .await
            .unwrap();
        assert_eq!(unpacked.acls_lost, 0);
        volume.swap(&run, &scope).await.unwrap();
        for path in ["private", "sub", ""] {
            assert_eq!(has(&root.join(path)), Some(list()), "{path} {scope:?}");
        }
        assert_eq!(has(&root.join("sub/plain")), None);
        volume.unswap(&run).await.unwrap();
        assert_eq!(has(&root), None);
        assert_eq!(has(&root.join("sub")), None);
        assert_eq!(has(&root.join("sub/plain")), Some(list()));
    }
}

#[tokio::test]
async fn where_a_list_cannot_be_set_the_group_gets_no_more_than_it_had() {
    let directory = temporary();
    let source = directory.path().join("source");
    put(&source, "private", "x", 0o600);
    give(&source.join("private"));
    let archive = directory.path().join("archive");
    let file = std::fs::File::create(&archive).unwrap();
    let sink = Sink::new("archive", Box::new(Plain(file)));
    let policy = PackPolicy::new(".", Compression::None);
    let packed = crate::archive::pack(
        &source,
        policy,
        sink,
        Progress::hidden(),
        Default::default(),
    );
    packed.await.unwrap();
    // ramfs has no such lists.
    let root = directory.path().join("volume");
    std::fs::create_dir(&root).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "ramfs", "none"])
        .arg(&root)
        .status();
    assert!(
        mounted.unwrap().success(),
        "this test mounts: run it as root"
    );
    let volume = LocalVolume::new(&root).kept_in(directory.path().join("state"));
    let run = RunId::generate();
    let unpacked = volume
        .unpack(
            &run,
            Source::new(&archive, "archive", None, None),
            &UnpackPolicy::default(),
            Progress::hidden(),
        )
        .await;
    let swapped = volume.swap(&run, &SwapScope::Everything).await;
    let mode = std::fs::metadata(root.join("private")).map(|meta| meta.mode() & 0o777);
    let unmounted = Command::new("umount").arg(&root).status();
    assert!(unmounted.unwrap().success());
    swapped.unwrap();
    assert_eq!((unpacked.unwrap().acls_lost, mode.unwrap()), (1, 0o700));
}
