//! What is let in, what is not, and that reading alone says the same as unpacking.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use restore_testing::stream::{Header, Raw};

use super::tree::Tree;
use super::write::{MemberMeta, finish_directories};
use super::*;
use crate::model::{Error, Progress, Result};

struct Ground {
    dir: tempfile::TempDir,
    archive: PathBuf,
}

impl Ground {
    fn new(raw: Raw) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("a.tar");
        std::fs::write(&archive, raw.end().0).unwrap();
        Self { dir, archive }
    }

    fn source(&self) -> Source {
        Source::new(&self.archive, "a.tar", None, None)
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    /// Reads it and unpacks it, which must come to the same.
    async fn both(&self, policy: &UnpackPolicy) -> Result<Unpacked> {
        let walked = walk(self.source(), policy, Progress::hidden()).await;
        let target = self.target();
        let _ = std::fs::remove_dir_all(&target);
        std::fs::create_dir(&target).unwrap();
        let unpacked = unpack(self.source(), &target, policy, Progress::hidden()).await;
        match (&walked, &unpacked) {
            (Ok(walked), Ok(unpacked)) => assert_eq!(walked, unpacked),
            (Err(walked), Err(unpacked)) => assert_eq!(walked.to_string(), unpacked.to_string()),
            _ => panic!("{walked:?} {unpacked:?}"),
        }
        unpacked
    }

    async fn refused(&self, policy: &UnpackPolicy) -> Error {
        self.both(policy).await.unwrap_err()
    }
}

/// The same archive, whose last header (of a member without content) gives its owner's names.
fn named(mut raw: Raw, user: &str, group: &str) -> Raw {
    let at = raw.0.len() - 512;
    let block = &mut raw.0[at..];
    block[265..265 + user.len()].copy_from_slice(user.as_bytes());
    block[297..297 + group.len()].copy_from_slice(group.as_bytes());
    sign(block);
    raw
}

fn sign(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn program(mode: u32, owner: (u32, u32)) -> Raw {
    Raw::default().add(&Header {
        name: "su",
        mode,
        owner,
        ..Header::default()
    })
}

#[tokio::test]
async fn powers_are_judged_by_whose_the_file_becomes() {
    let own = (1000, 1000);
    let live = |owners, chown| UnpackPolicy {
        owner: Some(own),
        owners,
        chown,
        ..UnpackPolicy::default()
    };
    let (names, numbers) = (Owners::Names, Owners::Numbers);
    for (raw, policy, words) in [
        (
            named(program(0o4755, own), "root", ""),
            live(names, None),
            "set-uid for user 0, root",
        ),
        (
            named(program(0o2755, own), "", "root"),
            live(names, None),
            "set-gid for group 0, root",
        ),
        (
            program(0o4755, own),
            live(numbers, Some((0, 1000))),
            "set-uid for user 0, root",
        ),
        (
            program(0o2755, own),
            live(numbers, Some((1000, 0))),
            "set-gid for group 0, root",
        ),
        (
            program(0o4755, own),
            live(numbers, Some((33, 1000))),
            "set-uid for user 33, who does not",
        ),
        // Whoever recorded it as another's meant that other's powers.
        (
            program(0o4755, (0, 1000)),
            live(Owners::Volume, None),
            "set-uid for user 0, root",
        ),
    ] {
        let ground = Ground::new(raw);
        let error = ground.refused(&policy).await;
        assert_eq!(error.code(), "archive.member_refused");
        assert!(error.message().contains(words), "{error}");
        let allowed = UnpackPolicy {
            set_uid: true,
            ..policy
        };
        ground.both(&allowed).await.unwrap();
    }
    for policy in [
        live(names, None),
        live(numbers, None),
        live(Owners::Volume, None),
    ] {
        Ground::new(program(0o6755, own))
            .both(&policy)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn directories_that_names_imply_count_as_members() {
    let deep = vec!["d"; 200].join("/");
    let ground = Ground::new(
        Raw::default()
            .pax(&[("path", deep.as_bytes())])
            .file("f", b""),
    );
    let mut policy = UnpackPolicy::default();
    ground.both(&policy).await.unwrap();
    for except in [vec![], vec![deep.clone()]] {
        policy = UnpackPolicy {
            max_members: 100,
            except,
            ..UnpackPolicy::default()
        };
        let error = ground.refused(&policy).await;
        assert_eq!(error.code(), "archive.too_large", "{error}");
        assert!(
            error.hint_text().unwrap().contains("max_members"),
            "{error}"
        );
    }
    policy.max_members = 200;
    ground.both(&policy).await.unwrap();
}

/// They belong to another system, and are never set; a label of SELinux is that of the place.
#[tokio::test]
async fn attributes_that_are_not_given_back_are_counted() {
    let raw = Raw::default()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.ima", b"x"),
            ("SCHILY.xattr.security.selinux", b"label"),
            ("SCHILY.xattr.user.mine", b"kept"),
        ])
        .file("f", b"")
        .pax(&[
            ("SCHILY.xattr.trusted.other", b"y"),
            // As GNU tar writes it with `--selinux`.
            ("RHT.security.selinux", b"system_u:object_r:etc_t:s0"),
        ])
        .file("g", b"");
    let ground = Ground::new(raw);
    let unpacked = ground.both(&UnpackPolicy::default()).await.unwrap();
    assert_eq!(unpacked.attributes_lost, 3);
    assert_eq!(unpacked.labels_lost, 2);
    let mut names = vec![0; 1024];
    let length = rustix::fs::listxattr(ground.target().join("f"), &mut names[..]).unwrap();
    let names = String::from_utf8_lossy(&names[..length]).into_owned();
    assert!(names.contains("user.mine"), "{names}");
    assert!(
        !names.contains("trusted") && !names.contains("ima"),
        "{names}"
    );
    let only = UnpackPolicy {
        only: vec!["g".to_owned()],
        ..UnpackPolicy::default()
    };
    assert_eq!(ground.both(&only).await.unwrap().attributes_lost, 1);
}

/// As `tar --acls` writes them: set where the file system takes them, else counted.
#[tokio::test]
async fn lists_of_who_may_what_are_set_or_counted() {
    let access = b"user::rwx,user:www-data:rwx:33,group::r-x,mask::rwx,other::---";
    let raw = Raw::default()
        .pax(&[
            ("SCHILY.acl.access", access),
            ("SCHILY.acl.default", b"user::rwx,group::r-x,other::---"),
        ])
        .add(&Header {
            name: "dir/",
            kind: b'5',
            mode: 0o770,
            ..Header::default()
        });
    let ground = Ground::new(raw);
    let dir = ground.target().join("dir");
    let unpacked = unpacked_only(&ground).await;
    let mut value = [0; 200];
    let takes = rustix::fs::getxattr(&dir, acl::ACCESS, &mut value[..]);
    match takes {
        Ok(length) => {
            let wanted = acl::from_text(std::str::from_utf8(access).unwrap()).unwrap();
            assert_eq!(value[..length], wanted[..]);
            assert!(rustix::fs::getxattr(&dir, acl::DEFAULT, &mut value[..]).unwrap() > 4);
            assert_eq!(unpacked.acls_lost, 0);
        }
        Err(_) => {
            // The group has what was really its own.
            let mode = std::fs::metadata(&dir).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o750);
            assert_eq!(unpacked.acls_lost, 2);
        }
    }
}

/// What unpacking alone can tell.
async fn unpacked_only(ground: &Ground) -> Unpacked {
    std::fs::create_dir(ground.target()).unwrap();
    let (target, policy) = (ground.target(), UnpackPolicy::default());
    unpack(ground.source(), &target, &policy, Progress::hidden())
        .await
        .unwrap()
}

#[test]
fn what_is_kept_of_directories_is_counted() {
    let policy = UnpackPolicy::default();
    let mut gate = member_filter::MemberFilter::new("a", &policy).unwrap();
    let mut member = member::Member {
        name: b"a/b/c".to_vec(),
        what: member::TarKind::File(member::ContentLayout::Whole),
        mode: 0o644,
        uid: 0,
        gid: 0,
        user: None,
        group: None,
        mtime: (0, 0),
        xattrs: vec![("user.x".to_owned(), vec![0; 60_000])],
        attributes_lost: 0,
        labelled: false,
        size: 0,
    };
    gate.admit(&member).unwrap();
    let implied = gate.held();
    assert!((4..1000).contains(&implied), "{implied}");
    member.name = b"a/b".to_vec();
    member.what = member::TarKind::Directory;
    gate.admit(&member).unwrap();
    assert!(gate.held() > implied + 60_000, "{}", gate.held());
}

#[test]
fn directories_leave_room_to_the_services_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut tree = Tree::open(dir.path(), "a").unwrap();
    tree.limits = floor::Limits::everything();
    let name = |at: usize| (format!("{at:03}").into_bytes(), MemberMeta::implied(None));
    let directories = (0..500).map(name).collect();
    let halt = abort::PipelineAbort::new(Default::default());
    let done = halt.outcome(finish_directories(&tree, &directories, &halt));
    assert_eq!(done.unwrap_err().code(), "archive.no_room_left");
    assert!(std::fs::read_dir(dir.path()).unwrap().count() < 500);
}

#[tokio::test]
async fn nothing_left_after_strip_is_refused() {
    let strip = |strip, prefix: &str| UnpackPolicy {
        strip,
        prefix: prefix.to_owned(),
        ..UnpackPolicy::default()
    };
    let two = Raw::default()
        .directory("./")
        .directory("./data")
        .file("./data/f", b"1");
    let flat = Raw::default().file("f", b"1").file("g", b"2");
    let beside = Raw::default().file("a/f", b"1").directory("a/empty/");
    let outside = Raw::default().file("b/c/f", b"1");
    for (raw, policy) in [
        (two.clone(), strip(3, "")),
        (two.clone(), strip(2, "data")),
        (flat, strip(1, "")),
        (beside, strip(2, "")),
        (outside, strip(1, "a")),
    ] {
        let error = Ground::new(raw).refused(&policy).await;
        assert_eq!(error.code(), "archive.member_missing", "{error}");
        assert!(error.message().contains("strip"), "{error}");
    }
    let done = Ground::new(two).both(&strip(1, "")).await.unwrap();
    assert_eq!((done.files, done.left_out, done.outside), (1, 1, 0));
    // An empty tree is one, and files beside it are said to be left out.
    let empty = Raw::default().directory("./").directory("./data");
    Ground::new(empty).both(&strip(1, "")).await.unwrap();
    let mixed = Raw::default().file("lost", b"1").file("data/f", b"2");
    let done = Ground::new(mixed.clone())
        .both(&strip(1, ""))
        .await
        .unwrap();
    assert_eq!((done.files, done.outside), (1, 1));
    let done = Ground::new(mixed).both(&strip(0, "data")).await.unwrap();
    assert_eq!((done.files, done.outside), (1, 1));
}

/// A member of GNU's own sparse format: `stored` bytes at the end of a file of `size`.
fn sparse(raw: Raw, stored: usize, size: u64) -> Raw {
    let data = vec![b'x'; stored];
    let at = raw.0.len();
    let mut raw = raw.add(&Header {
        name: "sparse",
        kind: b'S',
        data: &data,
        ..Header::default()
    });
    let block = &mut raw.0[at..at + 512];
    block[257..265].copy_from_slice(b"ustar  \0");
    let number = |value: u64| {
        let mut field = [0; 12];
        field[0] = 0x80;
        field[4..].copy_from_slice(&value.to_be_bytes());
        field
    };
    block[386..398].copy_from_slice(&number(size - stored as u64));
    block[398..410].copy_from_slice(&number(stored as u64));
    block[483..495].copy_from_slice(&number(size));
    sign(block);
    raw
}

#[tokio::test]
async fn what_sparse_files_hold_and_leave_out_is_limited() {
    let limited = |max_bytes| UnpackPolicy {
        max_bytes,
        ..UnpackPolicy::default()
    };
    let stored = Ground::new(sparse(Raw::default(), 8192, 8192 + 512));
    stored.both(&limited(8192)).await.unwrap();
    let error = stored.refused(&limited(8191)).await;
    assert_eq!(error.code(), "archive.too_large");
    let holes = Ground::new(sparse(sparse(Raw::default(), 512, 8192), 512, 8192));
    holes.both(&limited(2 * 7680)).await.unwrap();
    let error = holes.refused(&limited(2 * 7680 - 1)).await;
    assert_eq!(error.code(), "archive.too_large");
    assert!(error.message().contains("zeros"), "{error}");
    // Without a limit of the site's the sum has one too, told before a single zero is read.
    let huge = Ground::new(sparse(Raw::default(), 512, 3 << 40));
    let error = huge.refused(&limited(0)).await;
    assert_eq!(error.code(), "archive.too_large");
}

#[tokio::test]
async fn what_no_file_system_takes_is_refused_before_it_is_written() {
    let long = "n".repeat(256);
    let target = "t/".repeat(2048);
    let links = UnpackPolicy {
        any_links: true,
        ..UnpackPolicy::default()
    };
    let link = |to: &[u8]| Raw::default().pax(&[("linkpath", to)]).symlink("l", "x");
    let attribute = |key: &str| Raw::default().pax(&[(key, b"1")]).file("f", b"");
    let key = format!("SCHILY.xattr.user.{long}");
    for (raw, words) in [
        (
            Raw::default()
                .pax(&[("path", long.as_bytes())])
                .file("f", b""),
            "255 bytes",
        ),
        (
            Raw::default()
                .pax(&[("path", format!("d/{long}/f").as_bytes())])
                .file("f", b""),
            "255 bytes",
        ),
        (link(target.as_bytes()), "4095 bytes"),
        (link(b"a\0b"), "zero byte"),
        (attribute(&key), "extended attribute"),
        (attribute("SCHILY.xattr.user."), "extended attribute"),
    ] {
        let error = Ground::new(raw).refused(&links).await;
        assert_eq!(error.code(), "archive.member_refused", "{error}");
        assert!(error.message().contains(words), "{error}");
    }
    let most = "n".repeat(255);
    let raw = Raw::default()
        .pax(&[("path", most.as_bytes())])
        .file("f", b"");
    Ground::new(raw).both(&links).await.unwrap();
    Ground::new(link(&vec![b't'; 4095]))
        .both(&links)
        .await
        .unwrap();
}

#[tokio::test]
async fn refusals_stay_short_and_share_a_hint() {
    let mut raw = Raw::default();
    for number in 0..300 {
        raw = raw.file(&format!("/srv/volumes/data/{number}/file"), b"");
    }
    let ground = Ground::new(raw);
    let error = ground.refused(&UnpackPolicy::default()).await;
    let hint = error.hint_text().unwrap();
    assert_eq!(hint.matches("prefix =").count(), 1, "{hint}");
    assert!(hint.contains("prefix = \"srv/volumes/data\""), "{hint}");
    let all = walk_all(
        ground.source(),
        &UnpackPolicy::default(),
        Progress::hidden(),
    )
    .await;
    let all = all.unwrap().refused;
    assert_eq!(all.len(), 300);
    assert!(all.iter().all(|it| it.hint == hint));
    // Nothing in common: then no example.
    let raw = Raw::default().file("/etc/a", b"").file("/srv/b", b"");
    let error = Ground::new(raw).refused(&UnpackPolicy::default()).await;
    assert!(!error.hint_text().unwrap().contains("such as"), "{error}");
    let target = "/x".repeat(500_000);
    let raw = Raw::default()
        .pax(&[("linkpath", target.as_bytes())])
        .hard_link("l", "x");
    let error = Ground::new(raw).refused(&UnpackPolicy::default()).await;
    assert!(error.message().len() < 2000, "{}", error.message().len());
}

#[tokio::test]
async fn the_list_of_a_large_directory_is_no_header() {
    let list = b"Ya-name-that-is-in-the-archive\0".repeat(100_000);
    assert!(list.len() as u64 > tar_reader::HEADERS);
    let raw = Raw::default()
        .add(&Header {
            name: "d/",
            kind: b'D',
            mode: 0o755,
            data: &list,
            ..Header::default()
        })
        .file("d/f", b"1");
    let done = Ground::new(raw)
        .both(&UnpackPolicy::default())
        .await
        .unwrap();
    assert_eq!((done.files, done.directories), (1, 1));
}

/// No selection has what leads out of the archive.
#[tokio::test]
async fn a_hard_link_that_leads_out_is_not_to_be_selected() {
    let policy = UnpackPolicy {
        prefix: "app".to_owned(),
        ..UnpackPolicy::default()
    };
    let target = "../../../etc/passwd";
    let raw = Raw::default().file("app/a", b"").hard_link("app/l", target);
    let error = Ground::new(raw).refused(&policy).await;
    let told = format!("a hard link to {target:?}, which lies outside the archive");
    assert!(error.message().contains(&told), "{error}");
    let hint = error.hint_text().unwrap_or_default();
    assert!(!hint.contains("select the file"), "{hint}");
    let raw = Raw::default()
        .file("other/a", b"")
        .file("app/a", b"")
        .hard_link("app/l", "other/a");
    let ground = Ground::new(raw);
    // A prefix is one directory: no file can be selected besides.
    let error = ground.refused(&policy).await;
    let hint = error.hint_text().unwrap_or_default();
    assert!(!hint.contains("select the file"), "{hint}");
    assert!(hint.contains("`prefix`"), "{hint}");
    let policy = UnpackPolicy {
        only: vec!["app".to_owned()],
        ..UnpackPolicy::default()
    };
    let error = ground.refused(&policy).await;
    let hint = error.hint_text().unwrap_or_default();
    assert!(hint.contains("select the file"), "{hint}");
}

/// Neither a limit nor an empty tree is damage, and what was refused before the limit is told.
#[tokio::test]
async fn what_a_policy_does_not_take_is_told_with_all_that_was_refused() {
    let mut raw = Raw::default().file("../evil", b"");
    for number in 0..5 {
        raw = raw.file(&format!("data/{number}"), b"12");
    }
    let ground = Ground::new(raw);
    let walked = |policy: UnpackPolicy| {
        let source = ground.source();
        async move { walk_all(source, &policy, Progress::hidden()).await.unwrap() }
    };
    for policy in [
        UnpackPolicy {
            max_members: 3,
            ..UnpackPolicy::default()
        },
        UnpackPolicy {
            max_bytes: 5,
            ..UnpackPolicy::default()
        },
    ] {
        let found = walked(policy).await;
        assert_eq!(found.unfit.unwrap().code(), "archive.too_large");
        assert_eq!(found.refused.len(), 1);
    }
    assert!(walked(UnpackPolicy::default()).await.unfit.is_none());
    let other = Ground::new(Raw::default().file("data/1", b"12"));
    let policy = UnpackPolicy {
        prefix: "absent".to_owned(),
        ..UnpackPolicy::default()
    };
    let found = walk_all(other.source(), &policy, Progress::hidden()).await;
    let found = found.unwrap();
    assert_eq!(found.unfit.unwrap().code(), "archive.member_missing");
    assert!(found.refused.is_empty());
    // Damage is an error all the same.
    let cut = Ground::new(Raw::default().file("data/1", b"12"));
    let bytes = std::fs::read(&cut.archive).unwrap();
    std::fs::write(&cut.archive, &bytes[..600]).unwrap();
    let policy = UnpackPolicy::default();
    let error = walk_all(cut.source(), &policy, Progress::hidden()).await;
    let error = error.unwrap_err();
    let code = error.code();
    assert!(
        ["archive.truncated", "archive.corrupt"].contains(&code),
        "{code}"
    );
}

/// What only the machine with the live tree knows is not judged here, and counted.
#[tokio::test]
async fn of_trees_elsewhere_only_what_is_known_is_judged() {
    let elsewhere = UnpackPolicy {
        elsewhere: true,
        ..UnpackPolicy::default()
    };
    let here = UnpackPolicy::default();
    let walked = |ground: &Ground, policy: &UnpackPolicy| {
        let (source, policy) = (ground.source(), policy.clone());
        async move { walk_all(source, &policy, Progress::hidden()).await.unwrap() }
    };
    for raw in [
        program(0o4755, (70, 71)),
        Raw::default().symlink("l", "/srv/live/x"),
        Raw::default().symlink("l", "../../x"),
    ] {
        let ground = Ground::new(raw);
        let found = walked(&ground, &elsewhere).await;
        assert_eq!((found.refused.len(), found.unjudged), (0, 1));
        assert_eq!(walked(&ground, &here).await.refused.len(), 1);
    }
    for raw in [
        program(0o4755, (0, 71)),
        Raw::default().symlink("l", "a/../../x"),
        Raw::default().hard_link("l", "../x"),
    ] {
        let found = walked(&Ground::new(raw), &elsewhere).await;
        assert_eq!((found.refused.len(), found.unjudged), (1, 0));
    }
    // Where the tree will be is known, and only whose it is is not.
    let rooted = UnpackPolicy {
        live_root: Path::new("/srv/live").to_owned(),
        ..elsewhere
    };
    let ground = Ground::new(Raw::default().symlink("l", "/etc/x"));
    assert_eq!(walked(&ground, &rooted).await.refused.len(), 1);
    let sent = serde_json::to_value(&rooted).unwrap();
    let sent: UnpackPolicy = serde_json::from_value(sent).unwrap();
    assert!(!sent.elsewhere, "whoever has the tree judges everything");
}
