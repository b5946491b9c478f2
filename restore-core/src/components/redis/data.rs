//! Which files make a data set: the backup's, and those that a server loads when it starts.

use serde::{Deserialize, Serialize};

use super::config::{Prefer, Section};
use crate::contract::Backup;
use crate::model::{Error, ErrorKind, Finding, Result};

/// What a file of the backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A snapshot.
    Rdb,
    /// An append-only file of a server older than Redis 7.
    Aof,
    /// The packed directory of a multi-part append-only file.
    AofDir,
}

/// The file of the backup that is used.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) path: String,
    pub(super) kind: Kind,
    /// Said where the backup left a choice.
    pub(super) finding: Option<Finding>,
}

/// Chooses the one file to restore from: a server loads either an RDB or an AOF, never both
/// together, whichever else lies beside it. `None` where the backup has neither.
pub(super) fn choose(name: &str, section: &Section, backup: &Backup) -> Option<Chosen> {
    let first = |patterns: &[String], kind| {
        let path = backup.find(patterns).into_iter().next()?;
        Some((path, kind))
    };
    let rdb = first(&section.rdb, Kind::Rdb);
    let aof = first(&section.aof_dir, Kind::AofDir).or_else(|| first(&section.aof, Kind::Aof));
    let said = |path: String, kind, code: &str, message: String| Chosen {
        finding: Some(Finding::info(code, name, message)),
        path,
        kind,
    };
    Some(match (section.prefer, rdb, aof) {
        (_, None, None) => return None,
        (Prefer::Rdb, Some((rdb, kind)), Some((aof, _))) => {
            let message = format!(
                "the backup has {rdb} and {aof}; {rdb} is used, the AOF is not (prefer = \"rdb\")"
            );
            said(rdb, kind, "redis.rdb_chosen", message)
        }
        (Prefer::Aof, Some((rdb, _)), Some((aof, kind))) => {
            let message = format!(
                "the backup has {rdb} and {aof}; {aof} is used, the RDB is not (prefer = \"aof\")"
            );
            said(aof, kind, "redis.aof_chosen", message)
        }
        (Prefer::Aof, Some((rdb, kind)), None) => {
            let message = format!("the backup has no AOF: {rdb} is used");
            said(rdb, kind, "redis.no_aof", message)
        }
        (Prefer::Rdb, None, Some((aof, kind))) => {
            let message = format!("the backup has no RDB: {aof} is used");
            said(aof, kind, "redis.no_rdb", message)
        }
        (Prefer::Rdb, Some((path, kind)), None) | (Prefer::Aof, None, Some((path, kind))) => {
            Chosen {
                path,
                kind,
                finding: None,
            }
        }
    })
}

/// What the first bytes of a file say it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// An RDB of this format version.
    Rdb(u32),
    /// Commands.
    Commands,
    /// Nothing at all.
    Empty,
    /// Something else.
    Unknown,
}

/// How many bytes [`Header::of`] needs.
pub(super) const HEADER: usize = 9;

impl Header {
    /// Reads the first [`HEADER`] bytes of a file (or fewer, where there are no more).
    pub(super) fn of(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::Empty;
        }
        let version = bytes
            .strip_prefix(b"REDIS")
            .and_then(|rest| rest.get(..4))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse().ok());
        match (version, bytes.first()) {
            (Some(version), _) => Self::Rdb(version),
            (None, Some(b'*' | b'#')) => Self::Commands,
            _ => Self::Unknown,
        }
    }

    /// Refuses what cannot be `kind`. An empty file must be refused here: as the base of a
    /// multi-part AOF a server takes it for an empty data set and starts without a word.
    pub(super) fn expect(self, kind: Kind, label: &str) -> Result<()> {
        let wrong = |what: &str| {
            Err(Error::new(
                ErrorKind::Verification,
                "redis.not_redis_data",
                format!("{label} {what}"),
            )
            .hint("verify the backup, or restore another one"))
        };
        match (kind, self) {
            (Kind::Rdb, Self::Rdb(_))
            | (Kind::Aof, Self::Rdb(_) | Self::Commands)
            | (Kind::AofDir, Self::Unknown) => Ok(()),
            (_, Self::Empty) => wrong("is empty"),
            (Kind::Rdb, _) => wrong("is not an RDB: it does not begin with REDIS and a version"),
            (Kind::Aof, _) => wrong("is not an append-only file: it begins with no command"),
            (Kind::AofDir, _) => wrong("is not an archive of an appendonlydir"),
        }
    }
}

/// The newest RDB format that a server of this version reads, where that is known.
pub(super) fn newest_rdb(version: (u32, u32)) -> Option<u32> {
    match version {
        (8, 0) | (7, 4..) => Some(12),
        (7, 2..4) => Some(11),
        (7, _) => Some(10),
        (5 | 6, _) => Some(9),
        (4, _) => Some(8),
        _ => None,
    }
}

/// `7.0` of `7.0.15`.
pub(super) fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    Some((major, minor))
}

/// Which of its files a server loads when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    /// `appendonly yes`: the AOF alone.
    On,
    /// `appendonly no`: the RDB alone.
    Off,
    /// Nobody could say: both are staged, with the same content.
    Unknown,
}

/// The names that the server has for its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    pub(super) mode: Mode,
    pub(super) dbfilename: String,
    pub(super) appendfilename: String,
    pub(super) appenddirname: String,
}

impl Default for Layout {
    /// The names of a server that was never told others.
    fn default() -> Self {
        Self {
            mode: Mode::Unknown,
            dbfilename: "dump.rdb".to_owned(),
            appendfilename: "appendonly.aof".to_owned(),
            appenddirname: "appendonlydir".to_owned(),
        }
    }
}

impl Layout {
    /// Every top-level name of the data directory that decides what a server loads. The
    /// single-file AOF is one: a server that finds it takes it over into a new `appendonlydir`.
    pub(super) fn entries(&self) -> Vec<String> {
        let mut names = vec![
            self.dbfilename.clone(),
            self.appendfilename.clone(),
            "appendonly.aof".to_owned(),
            self.appenddirname.clone(),
        ];
        names.sort();
        names.dedup();
        names
    }

    /// The RDB inside the directory of the multi-part AOF.
    pub(super) fn base(&self) -> String {
        format!("{}.1.base.rdb", self.appendfilename)
    }

    /// The manifest's file name there.
    pub(super) fn manifest(&self) -> String {
        format!("{}.manifest", self.appendfilename)
    }

    /// The manifest of a multi-part AOF that is nothing but the base file.
    pub(super) fn manifest_text(&self) -> String {
        format!("file {} seq 1 type b\n", quoted(&self.base()))
    }

    /// Refuses names that lead elsewhere.
    pub(super) fn checked(self) -> Result<Self> {
        for name in [&self.dbfilename, &self.appendfilename, &self.appenddirname] {
            if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
                return Err(Error::new(
                    ErrorKind::Preflight,
                    "redis.bad_name",
                    format!("the server calls one of its data files {name:?}"),
                )
                .hint("give dbfilename, appendfilename and appenddirname plain names"));
            }
        }
        Ok(self)
    }
}

/// A word as Redis reads it in its configuration and in manifests.
pub(super) fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    let mut out = String::from("\"");
    for byte in word.bytes() {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_tells_what_a_file_is() {
        assert_eq!(Header::of(b"REDIS0010\xfa"), Header::Rdb(10));
        assert_eq!(Header::of(b"REDIS00"), Header::Unknown);
        assert_eq!(Header::of(b"*2\r\n$6"), Header::Commands);
        assert_eq!(Header::of(b"#TS:1700"), Header::Commands);
        assert_eq!(Header::of(b""), Header::Empty);
        assert_eq!(Header::of(b"hello wor"), Header::Unknown);
        assert!(Header::Rdb(10).expect(Kind::Rdb, "x").is_ok());
        assert!(Header::Rdb(10).expect(Kind::Aof, "x").is_ok());
        assert!(Header::Commands.expect(Kind::Rdb, "x").is_err());
        for kind in [Kind::Rdb, Kind::Aof, Kind::AofDir] {
            let error = Header::Empty.expect(kind, "redis/x").unwrap_err();
            assert_eq!(error.to_string(), "redis/x is empty");
            assert_eq!(error.kind(), ErrorKind::Verification);
        }
    }

    #[test]
    fn known_servers_read_known_formats() {
        let newest = |text: &str| major_minor(text).and_then(newest_rdb);
        assert_eq!(newest("7.0.15"), Some(10));
        assert_eq!(newest("7.2.4"), Some(11));
        assert_eq!(newest("6.2.1"), Some(9));
        assert_eq!(newest("9.1.0"), None);
        assert_eq!(newest("x"), None);
    }

    #[test]
    fn the_layout_names_what_a_server_loads() {
        let layout = Layout::default();
        assert_eq!(
            layout.manifest_text(),
            "file appendonly.aof.1.base.rdb seq 1 type b\n"
        );
        assert_eq!(
            layout.entries(),
            ["appendonly.aof", "appendonlydir", "dump.rdb"]
        );
        let other = Layout {
            appendfilename: "my log.aof".to_owned(),
            ..Layout::default()
        };
        assert_eq!(other.entries().len(), 4);
        assert!(
            other
                .manifest_text()
                .starts_with("file \"my log.aof.1.base.rdb\" seq")
        );
        for bad in ["", "../x", "a/b", ".hidden"] {
            let layout = Layout {
                dbfilename: bad.to_owned(),
                ..Layout::default()
            };
            assert!(layout.checked().is_err(), "{bad}");
        }
        assert_eq!(quoted("/srv/ü\"x"), "\"/srv/\\xc3\\xbc\\\"x\"");
    }
}
