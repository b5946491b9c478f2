//! Members that would reach outside are refused by name.

use super::*;

/// `..`, absolute names, links that lead out, devices, set-uid bits, other owners.
#[tokio::test]
async fn bad_members_are_refused_by_name() {
    let work = tempdir().unwrap();
    let archive = work.path().join("evil.tar.gz");
    let raw = Raw::default;
    let with = |header: Header<'_>| raw().file("first", b"1").add(&header);
    let device = |kind| {
        with(Header {
            name: "dev/sda",
            kind,
            ..Header::default()
        })
    };
    let powers = |mode| {
        with(Header {
            name: "bin/su",
            mode,
            owner: (0, 42),
            ..Header::default()
        })
    };
    for (evil, member, reason) in [
        (raw().file("../outside", b"x"), "../outside", "`..`"),
        (
            raw().file("a/../../outside", b"x"),
            "a/../../outside",
            "`..`",
        ),
        (raw().file("a/..", b"x"), "a/..", "`..`"),
        (raw().file("/etc/passwd", b"x"), "/etc/passwd", "absolute"),
        (
            raw()
                .pax(&[("path", b"/etc/passwd")])
                .file("innocent", b"x"),
            "/etc/passwd",
            "absolute",
        ),
        (raw().file(".", b"x"), ".", "root"),
        (raw().symlink("./", "x"), "./", "root"),
        (raw().symlink("way", "/etc"), "way", "/etc"),
        (raw().symlink("way", "../x"), "way", "../x"),
        (raw().symlink("d/way", "a/../../.."), "d/way", "`..`"),
        (raw().symlink("way", "/srv/live/../other"), "way", "`..`"),
        (raw().hard_link("way", "/etc/shadow"), "way", "/etc/shadow"),
        (raw().hard_link("way", "../x"), "way", "../x"),
        (raw().hard_link("way", "missing"), "way", "missing"),
        (
            raw().file("a", b"1").hard_link("way", "b").file("b", b"1"),
            "way",
            "no member before",
        ),
        (
            raw().directory("d").hard_link("way", "d"),
            "way",
            "directory",
        ),
        (
            raw().symlink("a/b/l", "../../x").hard_link("way", "a/b/l"),
            "way",
            "something else",
        ),
        (device(b'3'), "dev/sda", "character device"),
        (device(b'4'), "dev/sda", "block device"),
        (device(b'S' + 1), "dev/sda", "type"),
        (powers(0o4755), "bin/su", "set-uid"),
        (powers(0o2755), "bin/su", "set-gid"),
        (
            raw()
                .pax(&[("SCHILY.xattr.security.capability", b"\x01\0\0\x02")])
                .file("bin/su", b""),
            "bin/su",
            "capabilities",
        ),
        (
            raw()
                .pax(&[
                    ("SCHILY.xattr.user.a", &[b'x'; 40 << 10]),
                    ("SCHILY.xattr.user.b", &[b'x'; 40 << 10]),
                ])
                .file("tagged", b""),
            "tagged",
            "extended attributes",
        ),
        (
            raw().symlink("d", "e").file("d/file", b"x"),
            "d/file",
            "below \"d\"",
        ),
        (
            raw().symlink("d", "e").file("d/x/y/file", b"x"),
            "d/x/y/file",
            "below \"d\"",
        ),
        (
            raw().file("d", b"").file("d/file", b"x"),
            "d/file",
            "below \"d\"",
        ),
        (raw().file("d/file", b"x").symlink("d", "e"), "d", "twice"),
        (raw().symlink("d", "e").directory("d/"), "d/", "twice"),
        (raw().symlink("d", "e").file("d", b"x"), "d", "twice"),
        (raw().file("d", b"x").symlink("d", "e"), "d", "twice"),
        (
            raw().add(&Header {
                name: "g",
                kind: b'g',
                data: b"20 path=/etc/passwd\n",
                ..Header::default()
            }),
            "g",
            "path",
        ),
    ] {
        evil.gzip(&archive);
        let error = both(&archive, &live("/srv/live")).await.expect_err(member);
        assert_eq!(error.code(), "archive.member_refused", "{error}");
        assert_eq!(error.kind(), ErrorKind::Verification);
        let (message, hint) = (error.message(), error.hint_text().unwrap());
        assert!(message.starts_with("evil.tar.gz: member "), "{message}");
        assert!(message.contains(&format!("{member:?}")), "{message}");
        assert!(message.contains(reason), "{message} lacks {reason}");
        assert_eq!(
            hint.contains("allow_links"),
            message.contains("its link target"),
            "{hint}"
        );
        assert_eq!(hint.contains("allow_setuid"), member == "bin/su", "{hint}");
        if member == "g" {
            // It would be about every member after it.
            continue;
        }
        // Outside of the prefix it is not written, and nobody asks.
        let mut policy = live("/srv/live");
        policy.prefix = "wanted".to_owned();
        let error = both(&archive, &policy).await.unwrap_err();
        assert_eq!(error.code(), "archive.member_missing", "{error}");
    }
}

/// A link that someone puts into the tree while it is written is not followed.
#[tokio::test]
async fn a_link_in_the_target_is_not_followed() {
    let work = tempdir().unwrap();
    let archive = work.path().join("a.tar.gz");
    Raw::default()
        .file("d/file", b"x")
        .file("f", b"new")
        .gzip(&archive);
    let outside = tempdir().unwrap();
    fs::write(outside.path().join("f"), b"precious").unwrap();
    let target = tempdir().unwrap();
    symlink(outside.path(), target.path().join("d")).unwrap();
    symlink(outside.path().join("f"), target.path().join("f")).unwrap();
    let error = unpack_with(&archive, target.path(), &live(""))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
    assert_eq!(fs::read(outside.path().join("f")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let work = tempdir().unwrap();
    let path = work.path().join("bomb.tar.gz");
    let zeros = vec![b'n'; 40 * 1024 * 1024];
    for kind in [b'x', b'L', b'K', b'g'] {
        Raw::default()
            .add(&Header {
                name: "bomb",
                kind,
                data: &zeros,
                ..Header::default()
            })
            .file("a", b"")
            .gzip(&path);
        let error = both(&path, &live("")).await.unwrap_err();
        assert_eq!(error.code(), "archive.corrupt", "{error}");
    }
}

/// Some parsers take one size and skip another: a member hidden in another's content.
#[tokio::test]
async fn a_size_in_a_pax_header_counts() {
    let work = tempdir().unwrap();
    let path = work.path().join("a.tar");
    let inner = Raw::default().file("hidden", b"hidden").0;
    let header = Header {
        name: "outer",
        data: &inner,
        size: Some(0),
        ..Header::default()
    };
    let size = inner.len().to_string();
    let raw = Raw::default()
        .pax(&[("size", size.as_bytes())])
        .add(&header)
        .file("last", b"")
        .end();
    fs::write(&path, raw.0).unwrap();
    let target = tempdir().unwrap();
    unpack_with(&path, target.path(), &live("")).await.unwrap();
    assert_eq!(fs::read(target.path().join("outer")).unwrap(), inner);
    assert!(!target.path().join("hidden").exists());
}

/// One round of mending must do: the first is not the only one that is named.
#[tokio::test]
async fn all_that_are_refused_are_named_at_once() {
    let work = tempdir().unwrap();
    let archive = work.path().join("three.tar.gz");
    Raw::default()
        .file("good", b"1")
        .symlink("current", "/srv/releases/12")
        .file("also-good", b"2")
        .add(&Header {
            name: "bin/su",
            mode: 0o4755,
            owner: (0, 42),
            ..Header::default()
        })
        // A link to what is refused is no fault of its own.
        .hard_link("bin/sudo", "bin/su")
        .symlink("ca.pem", "/etc/ssl/ca.pem")
        .gzip(&archive);
    let error = both(&archive, &live("/srv/live")).await.unwrap_err();
    assert_eq!(error.code(), "archive.member_refused", "{error}");
    let message = error.message();
    assert!(message.contains(": 3 members are refused: "), "{message}");
    for name in [
        "\"current\"",
        "\"bin/su\"",
        "\"ca.pem\"",
        "/srv/releases/12",
    ] {
        assert!(message.contains(name), "{message} lacks {name}");
    }
    let hint = error.hint_text().unwrap();
    assert!(
        hint.contains("allow_links") && hint.contains("allow_setuid"),
        "{hint}"
    );
    assert!(!message.contains("bin/sudo"), "{message}");
    let target = tempdir().unwrap();
    unpack_with(&archive, target.path(), &live("/srv/live"))
        .await
        .unwrap_err();
    assert!(
        !target.path().join("also-good").exists(),
        "nothing is unpacked any more"
    );
}
