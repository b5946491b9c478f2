//! Parts of an archive, repeated members, what a policy lets in.

use super::real::whole_seconds;
use super::*;

#[tokio::test]
async fn a_part_of_an_archive_is_selected() {
    let tree = tempdir().unwrap();
    let top = tree.path().join("mnt/nfs/nginx");
    fs::create_dir_all(top.join("conf.d")).unwrap();
    fs::create_dir_all(top.join("logs")).unwrap();
    fs::create_dir_all(tree.path().join("opt")).unwrap();
    fs::write(tree.path().join("opt/other"), b"other").unwrap();
    fs::write(top.join("nginx.conf"), b"main").unwrap();
    fs::write(top.join("conf.d/app.conf"), b"app").unwrap();
    fs::write(top.join("conf.d/api.conf"), b"api").unwrap();
    fs::write(top.join("logs/access.log"), b"log").unwrap();
    fs::set_permissions(top.join("conf.d"), PermissionsExt::from_mode(0o711)).unwrap();
    run(
        "touch",
        &["-d", "2001-01-01", top.join("conf.d").to_str().unwrap()],
    );
    let work = tempdir().unwrap();
    let archive = work.path().join("a.tar.gz");
    tar(&archive, tree.path(), &["-z"]);

    let mut policy = live("/mnt/nfs/nginx");
    policy.prefix = "./mnt/nfs/nginx/".to_owned();
    policy.except = vec!["logs".to_owned()];
    let target = tempdir().unwrap();
    let done = unpack_with(&archive, target.path(), &policy).await.unwrap();
    assert_eq!((done.files, done.directories), (3, 2));
    // ./, mnt, mnt/nfs, opt, opt/other; logs, logs/access.log
    assert_eq!(done.left_out, 7);
    let names = |target: &Path| -> Vec<String> {
        snapshot(target)
            .keys()
            .map(|path| path.to_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names(target.path()),
        [
            "",
            "conf.d",
            "conf.d/api.conf",
            "conf.d/app.conf",
            "nginx.conf"
        ]
    );

    policy.only = vec!["conf.d/app.conf".to_owned()];
    let target = tempdir().unwrap();
    let done = unpack_with(&archive, target.path(), &policy).await.unwrap();
    assert_eq!((done.files, done.directories), (1, 2));
    assert_eq!(names(target.path()), ["", "conf.d", "conf.d/app.conf"]);
    let (got, want) = (
        snapshot(&target.path().join("conf.d")),
        snapshot(&top.join("conf.d")),
    );
    assert_eq!(whole_seconds(got)[0], whole_seconds(want)[0]);

    for (only, prefix) in [
        ("conf.d/typo.conf", "mnt/nfs/nginx"),
        ("", "mnt/nfs/apache"),
    ] {
        policy.only = if only.is_empty() {
            Vec::new()
        } else {
            vec![only.to_owned()]
        };
        policy.prefix = prefix.to_owned();
        let error = both(&archive, &policy).await.unwrap_err();
        assert_eq!(error.code(), "archive.member_missing");
        assert_eq!(error.kind(), ErrorKind::Verification);
        assert!(error.message().contains("typo") || error.message().contains("apache"));
    }
}

#[tokio::test]
async fn directories_that_the_archive_implies_are_made_open() {
    let work = tempdir().unwrap();
    let archive = work.path().join("a.tar.gz");
    // The first directory is implied by a member that is left out, too.
    Raw::default()
        .file("a/left", b"left")
        .file("a/b/file", b"x")
        .gzip(&archive);
    let mut policy = live("");
    policy.except = vec!["a/left".to_owned()];
    policy.chown = Some((77, 78));
    let target = tempdir().unwrap();
    unpack_with(&archive, target.path(), &policy).await.unwrap();
    for name in ["a", "a/b", "a/b/file"] {
        let meta = fs::metadata(target.path().join(name)).unwrap();
        let mode = if meta.is_dir() { 0o755 } else { 0o644 };
        assert_eq!(
            (meta.mode() & 0o7777, meta.uid(), meta.gid()),
            (mode, 77, 78),
            "{name}"
        );
    }
    assert!(!target.path().join("a/left").exists());
}

#[tokio::test]
async fn hard_links_need_their_file_selected() {
    let work = tempdir().unwrap();
    let archive = work.path().join("a.tar.gz");
    Raw::default()
        .file("a", b"1")
        .hard_link("b", "a")
        .hard_link("c", "b")
        .gzip(&archive);
    let mut policy = live("");
    policy.only = vec!["b".to_owned()];
    let error = both(&archive, &policy).await.unwrap_err();
    assert!(error.message().contains("not selected"), "{error}");
    policy.only = vec!["a".to_owned(), "c".to_owned()];
    let error = both(&archive, &policy).await.unwrap_err();
    assert!(error.message().contains("\"b\""), "{error}");
    policy.only = vec!["a".to_owned(), "b".to_owned()];
    let target = tempdir().unwrap();
    assert_eq!(
        unpack_with(&archive, target.path(), &policy)
            .await
            .unwrap()
            .left_out,
        1
    );
    assert_eq!(fs::metadata(target.path().join("b")).unwrap().nlink(), 2);
}

#[tokio::test]
async fn a_repeated_member_replaces_the_earlier_one() {
    let work = tempdir().unwrap();
    let archive = work.path().join("a.tar.gz");
    Raw::default()
        .file("a", b"old")
        .hard_link("b", "a")
        .file("a", b"new")
        .symlink("l", "x")
        .symlink("l", "y")
        .directory("d")
        .directory("d")
        .hard_link("a", "a")
        .file("c", b"c")
        .hard_link("c", "b")
        .gzip(&archive);
    let target = tempdir().unwrap();
    unpack_with(&archive, target.path(), &live(""))
        .await
        .unwrap();
    let read = |name: &str| fs::read(target.path().join(name)).unwrap();
    assert_eq!(
        (read("a"), read("b"), read("c")),
        (b"new".to_vec(), b"old".to_vec(), b"old".to_vec())
    );
    assert_eq!(
        fs::read_link(target.path().join("l")).unwrap(),
        Path::new("y")
    );
}

#[tokio::test]
async fn what_the_policy_allows_is_let_in() {
    let work = tempdir().unwrap();
    let archive = work.path().join("a.tar.gz");
    Raw::default()
        .add(&Header {
            name: "su",
            mode: 0o6755,
            owner: (70, 71),
            ..Header::default()
        })
        .symlink("modules", "/usr/lib/nginx/modules")
        .symlink("up", "../../usr/lib/nginx/modules")
        .symlink("self", "/srv/live/su")
        .gzip(&archive);
    let mut policy = live("/srv/live");
    policy.links_to = vec![PathBuf::from("/usr/lib/nginx")];
    assert_eq!(
        both(&archive, &policy).await.unwrap_err().code(),
        "archive.member_refused"
    );
    policy.owner = Some((70, 71));
    let target = tempdir().unwrap();
    assert_eq!(
        unpack_with(&archive, target.path(), &policy)
            .await
            .unwrap()
            .links,
        3
    );
    let meta = fs::metadata(target.path().join("su")).unwrap();
    assert_eq!(
        (meta.mode() & 0o7777, meta.uid(), meta.gid()),
        (0o6755, 70, 71)
    );
    policy.owner = None;
    policy.set_uid = true;
    both(&archive, &policy).await.unwrap();

    // Root's powers are let in by word alone, also where root owns the live tree.
    for (mode, owner) in [(0o4755, (0, 71)), (0o2755, (70, 0))] {
        Raw::default()
            .add(&Header {
                name: "su",
                mode,
                owner,
                ..Header::default()
            })
            .gzip(&archive);
        policy.owner = Some(owner);
        policy.set_uid = false;
        assert_eq!(
            both(&archive, &policy).await.unwrap_err().code(),
            "archive.member_refused"
        );
        policy.set_uid = true;
        both(&archive, &policy).await.unwrap();
    }
}
