//! What is left out, how members are named, and what is said of those that a restore refuses.

use std::process::Command;

use super::super::{Compression, PackPolicy, measure};
use super::{Ground, state, volume};
use crate::model::Severity;

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

/// Only root can give a file such an attribute, and not everywhere.
#[tokio::test]
async fn attributes_that_are_not_packed_are_said() {
    let ground = Ground::new();
    let file = ground.write("file", "x");
    let plain = ground.write("plain", "x");
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(plain, "user.mine", b"kept", flags).unwrap();
    let Ok(()) = rustix::fs::setxattr(file, "trusted.theirs", b"x", flags) else {
        return;
    };
    let packed = ground.pack(volume(Compression::None)).await.unwrap();
    let told: Vec<(&str, Severity)> = packed
        .findings
        .iter()
        .map(|finding| (finding.code.as_str(), finding.severity))
        .collect();
    assert_eq!(told, [("pack.attributes", Severity::Info)]);
    let message = &packed.findings[0].message;
    assert!(
        message.starts_with("1 entry has extended attributes") && message.ends_with("/file"),
        "{message}"
    );
}
