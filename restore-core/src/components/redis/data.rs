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
///
/// # Errors
///
/// `redis.several_files` where a key fits more than one: the first by name may be another server's.
pub(super) fn choose(name: &str, section: &Section, backup: &Backup) -> Result<Option<Chosen>> {
    let only = |key: &str, patterns: &[String], kind| {
        let mut found = backup.find_of(name, patterns);
        match found.len() {
            0 | 1 => Ok(found.pop().map(|path| (path, kind))),
            _ => Err(several_files((name, key), backup, &found)),
        }
    };
    let rdb = only("rdb", &section.rdb, Kind::Rdb)?;
    let single = only("aof", &section.aof, Kind::Aof)?;
    let several = only("aof_dir", &section.aof_dir, Kind::AofDir)?;
    // A server that has both loads the several files: it took the single one over into them.
    let unused = several
        .as_ref()
        .and(single.as_ref())
        .map(|(path, _)| path.clone());
    let aof = several.or(single);
    let said = |path: String, kind, code: &str, message: String| Chosen {
        finding: Some(Finding::info(code, name, message)),
        path,
        kind,
    };
    let mut chosen = match (section.prefer, rdb, aof) {
        (_, None, None) => return Ok(None),
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
    };
    if let (Kind::AofDir, Some(unused)) = (chosen.kind, unused) {
        let more =
            format!("{unused}, an AOF of one file, is not: a server that has both loads the other");
        chosen.finding = Some(match chosen.finding.take() {
            Some(mut finding) => {
                finding.message = format!("{}; {more}", finding.message);
                finding
            }
            None => Finding::info(
                "redis.aof_dir_chosen",
                name,
                format!("{} is used; {more}", chosen.path),
            ),
        });
    }
    Ok(Some(chosen))
}

/// All files that [`choose`] would choose of, were there no choice.
pub(super) fn all_of(name: &str, section: &Section, backup: &Backup) -> Vec<String> {
    let keys = [&section.rdb, &section.aof, &section.aof_dir].into_iter();
    keys.flat_map(|patterns| backup.find_of(name, patterns))
        .collect()
}

fn several_files((name, key): (&str, &str), backup: &Backup, found: &[String]) -> Error {
    let named: Vec<&str> = found.iter().take(10).map(String::as_str).collect();
    let more = match found.len().saturating_sub(named.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Error::new(
        ErrorKind::Config,
        "redis.several_files",
        format!(
            "backup {} has several files that `{key}` fits, and only one is restored: {}{more}",
            backup.id(),
            named.join(", ")
        ),
    )
    .hint(format!(
        "make the pattern in `{key}` of [components.{name}] fit the file of this server only"
    ))
}

/// What the first bytes of a file say it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// An RDB of this format version.
    Rdb(u32),
    /// An RDB of Valkey's own, of this format version.
    Valkey(u32),
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
        let version = |magic: &[u8], digits: usize| -> Option<u32> {
            let digits = bytes.strip_prefix(magic)?.get(..digits)?;
            let plain = digits.iter().all(u8::is_ascii_digit);
            std::str::from_utf8(digits)
                .ok()
                .filter(|_| plain)?
                .parse()
                .ok()
        };
        if let Some(version) = version(b"REDIS", 4) {
            return Self::Rdb(version);
        }
        if let Some(version) = version(b"VALKEY", 3) {
            return Self::Valkey(version);
        }
        match bytes.first() {
            Some(b'*' | b'#') => Self::Commands,
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
            (Kind::Rdb, Self::Rdb(_) | Self::Valkey(_))
            | (Kind::Aof, Self::Rdb(_) | Self::Valkey(_) | Self::Commands)
            | (Kind::AofDir, Self::Unknown) => Ok(()),
            (_, Self::Empty) => wrong("is empty"),
            (Kind::Rdb, _) => {
                wrong("is not an RDB: it does not begin with REDIS or VALKEY and a version")
            }
            (Kind::Aof, _) => wrong("is not an append-only file: it begins with no command"),
            (Kind::AofDir, _) => wrong("is not an archive of an appendonlydir"),
        }
    }
}

/// The newest RDB format that Redis wrote and Valkey reads: later ones are of another kind.
const COMMON: u32 = 11;

/// What a server is, by what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Product {
    Redis(u32, u32),
    Valkey(u32, u32),
}

impl Product {
    /// Whose an RDB is that a server of this version does not read, in words; `None`: it reads it, or
    /// whether it does is not known, and the scratch server will tell.
    pub(super) fn refuses(self, header: Header) -> Option<(&'static str, &'static str)> {
        const FOREIGN: &str = "redis.foreign_rdb";
        match (self, header) {
            (Self::Redis(major, minor), Header::Rdb(format)) => {
                let newest = newest_rdb((major, minor))?;
                (format > newest).then(|| ("redis.newer_rdb", first_of(format)))
            }
            (Self::Redis(..), Header::Valkey(_)) | (Self::Valkey(..9, _), Header::Valkey(_)) => {
                Some((FOREIGN, "Valkey 9.0 or later"))
            }
            (Self::Valkey(..), Header::Rdb(format)) if format > COMMON => {
                Some((FOREIGN, first_of(format)))
            }
            _ => None,
        }
    }
}

/// The first Redis that reads an RDB format.
fn first_of(format: u32) -> &'static str {
    match format {
        ..=7 => "Redis 3.2 or later",
        8 => "Redis 4.0 or later",
        9 => "Redis 5.0 or later",
        10 => "Redis 7.0 or later",
        11 => "Redis 7.2 or later",
        12 => "Redis 7.4 or later",
        _ => "a Redis newer than 8.0",
    }
}

/// The newest RDB format that a server of this version reads, where that is known.
fn newest_rdb(version: (u32, u32)) -> Option<u32> {
    match version {
        (8, 0) | (7, 4..) => Some(12),
        (7, 2..4) => Some(11),
        (7, _) => Some(10),
        (5 | 6, _) => Some(9),
        (4, _) => Some(8),
        (3, 2..) => Some(7),
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
pub(super) struct DataLayout {
    pub(super) mode: Mode,
    pub(super) dbfilename: String,
    pub(super) appendfilename: String,
    pub(super) appenddirname: String,
}

impl Default for DataLayout {
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

impl DataLayout {
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
        assert_eq!(Header::of(b"VALKEY080\xfa"), Header::Valkey(80));
        assert_eq!(Header::of(b"VALKEY+80"), Header::Unknown);
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
    fn servers_refuse_what_they_do_not_read_by_who_does() {
        let (old, new) = (Product::Redis(7, 0), Product::Redis(7, 4));
        let (eight, nine) = (Product::Valkey(8, 1), Product::Valkey(9, 0));
        for format in 1..=10 {
            for product in [old, new, eight, nine] {
                assert_eq!(product.refuses(Header::Rdb(format)), None, "{format}");
            }
        }
        let newer = |words| Some(("redis.newer_rdb", words));
        let foreign = |words| Some(("redis.foreign_rdb", words));
        assert_eq!(old.refuses(Header::Rdb(11)), newer("Redis 7.2 or later"));
        assert_eq!(old.refuses(Header::Rdb(12)), newer("Redis 7.4 or later"));
        assert_eq!(new.refuses(Header::Rdb(12)), None);
        assert_eq!(eight.refuses(Header::Rdb(11)), None);
        assert_eq!(nine.refuses(Header::Rdb(12)), foreign("Redis 7.4 or later"));
        for product in [old, new, eight] {
            assert_eq!(
                product.refuses(Header::Valkey(80)),
                foreign("Valkey 9.0 or later")
            );
        }
        assert_eq!(nine.refuses(Header::Valkey(80)), None);
        // Of what is newer than this program the scratch server tells.
        assert_eq!(Product::Redis(9, 9).refuses(Header::Rdb(99)), None);
    }

    #[test]
    fn the_layout_names_what_a_server_loads() {
        let layout = DataLayout::default();
        assert_eq!(
            layout.manifest_text(),
            "file appendonly.aof.1.base.rdb seq 1 type b\n"
        );
        assert_eq!(
            layout.entries(),
            ["appendonly.aof", "appendonlydir", "dump.rdb"]
        );
        let other = DataLayout {
            appendfilename: "my log.aof".to_owned(),
            ..DataLayout::default()
        };
        assert_eq!(other.entries().len(), 4);
        assert!(
            other
                .manifest_text()
                .starts_with("file \"my log.aof.1.base.rdb\" seq")
        );
        for bad in ["", "../x", "a/b", ".hidden"] {
            let layout = DataLayout {
                dbfilename: bad.to_owned(),
                ..DataLayout::default()
            };
            assert!(layout.checked().is_err(), "{bad}");
        }
        assert_eq!(quoted("/srv/ü\"x"), "\"/srv/\\xc3\\xbc\\\"x\"");
    }
}
