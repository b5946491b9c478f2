//! What is let in, what is not, and that reading alone says the same as unpacking.

use std::path::PathBuf;

use restore_testing::stream::{Header, Raw};

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
