//! How much a file of a backup may unpack to: what was planned for it, and a margin.
//!
//! A bomb is small until it is unpacked, and what it becomes is in no manifest. What was planned says
//! what somebody expected; where much more comes, it is not what was meant.

use serde::{Deserialize, Serialize};

use crate::model::text::bytes;
use crate::model::{Error, ErrorKind};

/// A margin where the backup itself says how large the content is, besides a tenth.
const DESCRIBED: u64 = 64 << 20;

/// A margin where the size is a guess, besides a multiple.
const GUESSED: u64 = 1 << 30;

/// So many times a size that is guessed by that of the compressed file: text and logs shrink to a
/// fiftieth, hardly anything that is worth a backup to less.
const TIMES: u64 = 16;

/// So many times the size of a dump that is loaded into a database: a row that takes up sixty bytes, with
/// its indexes, may be two in a dump before that shrinks.
const LOADED: u64 = 64;

/// So many times a file's size where nobody has planned anything: gzip comes to half of that at most.
const TIGHTEST: u64 = 2048;

/// So many times a size that was known about when the backup was made.
const ABOUT: u64 = 2;

/// Members beyond those that the backup says that there are, besides a tenth.
const MEMBERS: u64 = 10_000;

/// The reason of an error: more came than was planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// What a file may unpack to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limit {
    /// The size that was planned for.
    planned: u64,
    /// What may come at most.
    most: u64,
    /// How many members there may be, where that is known.
    #[serde(default)]
    members: Option<u64>,
    /// Where it is set how much may come: the key and the section.
    key: String,
}

impl Limit {
    /// Of what the backup says of its content: that much, a tenth and 64 MiB.
    pub(crate) fn described(planned: u64, key: &str) -> Self {
        let most = planned.saturating_add(planned / 10);
        Self::new(planned, most.saturating_add(DESCRIBED), key)
    }

    /// Of what was about its size when it was backed up: twice that, and 1 GiB.
    pub(crate) fn about(planned: u64, key: &str) -> Self {
        let most = planned.saturating_mul(ABOUT);
        Self::new(planned, most.saturating_add(GUESSED), key)
    }

    /// Of what is guessed by the size of the file: 16 times that, and 1 GiB.
    pub(crate) fn guessed(planned: u64, key: &str) -> Self {
        let most = planned.saturating_mul(TIMES);
        Self::new(planned, most.saturating_add(GUESSED), key)
    }

    /// Of a database, guessed by the size of its dump: 64 times that, and 1 GiB.
    pub(crate) fn loaded(planned: u64, key: &str) -> Self {
        let most = planned.saturating_mul(LOADED);
        Self::new(planned, most.saturating_add(GUESSED), key)
    }

    /// Of a file of this size of which nothing is planned: nothing that is worth a backup is packed more tightly than
    /// gzip packs zeros. At least what the site says that may come.
    pub(crate) fn of_ratio(packed: u64, site: u64) -> Self {
        let most = packed.saturating_mul(TIGHTEST).saturating_add(GUESSED);
        Self::of_site(most.max(site), "`max_bytes` of the component")
    }

    /// What the site says that may come.
    pub(crate) fn of_site(most: u64, key: &str) -> Self {
        Self::new(most, most, key)
    }

    fn new(planned: u64, most: u64, key: &str) -> Self {
        Self {
            planned,
            most,
            members: None,
            key: key.to_owned(),
        }
    }

    /// This limit for an archive that the backup says to have so many members: those, a tenth and
    /// 10,000.
    #[must_use]
    pub(crate) fn with_members(mut self, members: u64) -> Self {
        let most = members.saturating_add(members / 10);
        self.members = Some(most.saturating_add(MEMBERS));
        self
    }

    /// What may come at most.
    pub(crate) fn most(&self) -> u64 {
        self.most
    }

    /// How many members there may be, where that is known.
    pub(crate) fn members(&self) -> Option<u64> {
        self.members
    }

    /// The error where more has come; `label` is what came.
    pub(crate) fn exceeded(&self, label: &str, came: u64) -> Error {
        let planned = match self.planned == self.most {
            true => format!("more than {} may be", bytes(self.most)),
            false => format!(
                "{} were planned, and with a margin {} may be",
                bytes(self.planned),
                bytes(self.most)
            ),
        };
        let came = bytes(came);
        Error::new(
            ErrorKind::Verification,
            "archive.too_large",
            format!("{label} becomes too large: {came} have come so far, {planned}"),
        )
        .because(TooLarge)
        .hint(format!(
            "if that is right, raise {}; `restore show ID --files` lists what is in an archive",
            self.key
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{Source, UnpackPolicy, copy_verified, unpack};
    use crate::model::Progress;

    const KEY: &str = "`max_bytes` of [components.data]";

    /// Two mebibytes that are two kilobytes, in an archive and alone.
    fn bomb(dir: &std::path::Path) -> [std::path::PathBuf; 2] {
        let script = "cd \"$1\" && mkdir made && head -c 2M /dev/zero > made/zeros && \
                      tar -C made -czf made.tar.gz . && gzip -c made/zeros > zeros.gz";
        let status = std::process::Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(dir)
            .status();
        assert!(status.unwrap().success());
        ["made.tar.gz", "zeros.gz"].map(|name| dir.join(name))
    }

    #[tokio::test]
    async fn what_unpacks_to_more_than_was_planned_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let [archive, file] = bomb(dir.path());
        for (most, ends) in [(1 << 20, true), (3 << 20, false)] {
            let limit = Some(Limit::of_site(most, KEY));
            let to = dir.path().join(format!("tree-{most}"));
            std::fs::create_dir(&to).unwrap();
            let policy = UnpackPolicy {
                limit: limit.clone(),
                ..UnpackPolicy::default()
            };
            let source = Source::new(&archive, "made.tar.gz", None, None);
            let unpacked = unpack(source, &to, &policy, Progress::hidden()).await;
            let source = Source::new(&file, "zeros.gz", None, None).limited(limit);
            let to = dir.path().join(format!("copy-{most}"));
            let copied = copy_verified(source, &to, 0o600, None, Progress::hidden()).await;
            assert_eq!(to.exists(), !ends);
            for error in [unpacked.err(), copied.err()] {
                assert_eq!(error.is_some(), ends, "{error:?}");
                let Some(error) = error else { continue };
                assert_eq!(error.code(), "archive.too_large", "{error}");
                assert!(error.message().contains("1.0 MiB may be"), "{error}");
                assert!(error.hint_text().is_some_and(|hint| hint.contains(KEY)));
            }
        }
    }

    /// Of nobody's plan: what gzip makes of zeros comes through, and a bomb comes to an end.
    #[test]
    fn what_nobody_has_planned_has_a_bound_too() {
        let mib = 1 << 20;
        assert!(Limit::of_ratio(mib, 0).most() > 1032 * mib);
        assert!(Limit::of_ratio(mib, 0).most() < 4096 * mib);
        assert_eq!(Limit::of_ratio(mib, 1 << 40).most(), 1 << 40);
    }

    #[tokio::test]
    async fn more_members_than_the_backup_says_are_ended() {
        let dir = tempfile::tempdir().unwrap();
        let script = "cd \"$1\" && mkdir -p made to && cd made && seq 1 12000 | xargs touch && tar -czf ../many.tar.gz .";
        let status = std::process::Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(dir.path())
            .status();
        assert!(status.unwrap().success());
        for (members, ends) in [(1000, true), (12_001, false)] {
            let policy = UnpackPolicy {
                limit: Some(Limit::described(0, KEY).with_members(members)),
                ..UnpackPolicy::default()
            };
            let source = Source::new(dir.path().join("many.tar.gz"), "many.tar.gz", None, None);
            let walked = crate::archive::walk(source, &policy, Progress::hidden()).await;
            assert_eq!(walked.is_err(), ends, "{members}: {walked:?}");
            if let Err(error) = walked {
                assert_eq!(error.code(), "archive.too_large");
                assert!(
                    error.hint_text().unwrap().contains("max_members"),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn the_margin_is_small_where_the_size_is_known() {
        let key = "`max_bytes` of [components.data]";
        assert_eq!(
            Limit::described(10 << 30, key).most(),
            (11 << 30) + DESCRIBED
        );
        assert_eq!(Limit::about(10 << 30, key).most(), 21 << 30);
        assert_eq!(Limit::guessed(10 << 30, key).most(), 161 << 30);
        assert_eq!(Limit::guessed(u64::MAX, key).most(), u64::MAX);
        let error = Limit::described(1000, key).exceeded("volumes/data.tar.gz", 70 << 20);
        assert_eq!(error.code(), "archive.too_large");
        assert!(error.message().contains("1000 B were planned"), "{error}");
        assert!(error.message().contains("70.0 MiB"), "{error}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains(key)));
    }
}
