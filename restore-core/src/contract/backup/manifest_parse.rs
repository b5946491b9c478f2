//! Reading `MANIFEST.txt` as shell scripts, editors and interrupted copies leave it.

use std::borrow::Cow;
use std::collections::HashMap;

use super::manifest::{Manifest, ManifestEntry, ManifestSize};
use crate::archive::Digest;
use crate::model::{Error, ErrorKind, Result};

pub(super) fn parse(text: &[u8]) -> Result<Manifest> {
    parse_named(text, Manifest::FILE_NAME)
}

/// As `parse`, of a file of another name, which messages call so.
fn parse_named(text: &[u8], name: &str) -> Result<Manifest> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut reader = Reader::default();
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Err(problem) = reader.line(line) {
            reader.problems.push((number, problem));
        }
    }
    let last = text
        .rsplit(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    // A hash that is whole is the end of its line.
    let whole = last.is_empty()
        || last
            .rsplit(|&byte| byte == b'|')
            .next()
            .and_then(|hash| std::str::from_utf8(hash).ok())
            .is_some_and(|hash| hash.trim().parse::<Digest>().is_ok());
    reader.finish(!whole, name)
}

/// Reads a list of another form: the file's name says which. `folder` is where it lies, to which
/// its paths are relative. `is_there`: whether the backup has a file of that path; a last line without an end
/// is whole where it has.
pub(super) fn parse_list(
    text: &[u8],
    name: &str,
    is_there: impl Fn(&str) -> bool,
) -> Result<Manifest> {
    if name.ends_with(".json") {
        return json(text, name);
    }
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let about = [".sha256", ".sha256sum", ".md5", ".md5sum"]
        .iter()
        .find_map(|end| name.strip_suffix(end));
    let bare = std::str::from_utf8(text).unwrap_or_default().trim();
    let listed = match about {
        // Nothing but the hash.
        Some(about) if is_hash(bare) => {
            let file = about.rsplit('/').next().unwrap_or(about);
            parse_named(format!("{file}||{bare}\n").as_bytes(), name)?
        }
        // Of one file, perhaps by the path that it had where it was made.
        Some(about) => {
            let file = about.rsplit('/').next().unwrap_or(about);
            let text: String = String::from_utf8_lossy(text)
                .lines()
                .map(
                    |line| match checksum_line(line).or_else(|| tagged_line(line)) {
                        Some((hash, path)) if path.rsplit('/').next() == Some(file) => {
                            format!("{hash}  {file}\n")
                        }
                        _ => format!("{line}\n"),
                    },
                )
                .collect();
            parse_named(text.as_bytes(), name)?
        }
        None => parse_named(text, name)?,
    };
    let mut listed = below(listed, folder);
    listed.truncated &= !last_path(text, folder).is_some_and(|path| is_there(&path));
    Ok(listed)
}

/// The path in the last line of a list that lies in `folder`, where that is the line of a file.
fn last_path(text: &[u8], folder: &str) -> Option<String> {
    let last = text.rsplit(|&byte| byte == b'\n').next()?;
    let last = std::str::from_utf8(last).ok()?;
    let (_, path) = checksum_line(last).or_else(|| tagged_line(last))?;
    let path = clean_path(&path).ok()?;
    Some(match folder {
        "" => path,
        folder => format!("{folder}/{path}"),
    })
}

/// Several lists of one backup as one.
#[derive(Default)]
pub(super) struct Merged {
    reader: Reader,
    truncated: bool,
}

impl Merged {
    /// Takes what another list says. What two say of one file must be the same.
    pub(super) fn add(&mut self, list: Manifest) -> Result<()> {
        for entry in list.entries {
            self.reader.entry(entry).map_err(|problem| {
                Error::new(
                    ErrorKind::Verification,
                    problem.code,
                    format!("another list contradicts it: {}", problem.what),
                )
                .hint(
                    "compare both with where the backup was made and delete the wrong one, or \
                     choose another backup",
                )
            })?;
        }
        self.reader.manifest.without_hash.extend(list.without_hash);
        self.truncated |= list.truncated;
        Ok(())
    }

    /// All of it.
    pub(super) fn end(self) -> Manifest {
        let mut whole = self.reader.manifest;
        whole
            .without_hash
            .retain(|path| !self.reader.seen.contains_key(path));
        whole.without_hash.sort();
        whole.without_hash.dedup();
        whole.truncated = self.truncated;
        whole
    }
}

/// The manifest with paths that are relative to a folder further up.
fn below(mut manifest: Manifest, folder: &str) -> Manifest {
    if folder.is_empty() {
        return manifest;
    }
    let at = |path: &mut String| *path = format!("{folder}/{path}");
    manifest.entries.iter_mut().for_each(|it| at(&mut it.path));
    manifest.without_hash.iter_mut().for_each(at);
    manifest
}

/// A list of files in JSON: objects with a path, a size and a hash under their usual names, or an
/// object from paths to hashes.
fn json(text: &[u8], name: &str) -> Result<Manifest> {
    use serde_json::Value;
    let bad = |what: String| {
        Error::new(
            ErrorKind::Verification,
            "manifest.bad_json",
            format!("{name} cannot be read as a list of files: {what}"),
        )
        .hint("copy it again from where the backup was made, or choose another backup")
    };
    let value: Value = serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
    let files = ["files", "artifacts", "entries", "checksums"]
        .iter()
        .find_map(|key| value.get(*key))
        .unwrap_or(&value);
    let field = |it: &Value, keys: &[&str]| keys.iter().find_map(|key| it.get(*key).cloned());
    let hash = |it: Option<Value>| match it {
        Some(Value::String(text)) => text.trim_start_matches("sha256:").to_owned(),
        _ => String::new(),
    };
    let of = |it: &Value| {
        let hashed = field(it, &["sha256", "sha256sum", "hash", "checksum", "digest"]);
        let size = field(it, &["size", "bytes", "length"]).and_then(|size| size.as_u64());
        (size, hash(hashed))
    };
    let mut listed: Vec<(String, Option<u64>, String)> = Vec::new();
    match files {
        Value::Array(files) => {
            for file in files {
                let path = field(file, &["path", "file", "filename", "name"]);
                let Some(Value::String(path)) = path else {
                    return Err(bad("a file has no path".to_owned()));
                };
                let (size, hash) = of(file);
                listed.push((path, size, hash));
            }
        }
        Value::Object(files) => {
            for (path, file) in files {
                match file {
                    Value::String(text) if is_hash(text.trim_start_matches("sha256:")) => {
                        listed.push((path.clone(), None, hash(Some(Value::String(text.clone())))));
                    }
                    Value::Object(_) => {
                        let (size, hash) = of(file);
                        if size.is_some() || !hash.is_empty() {
                            listed.push((path.clone(), size, hash));
                        }
                    }
                    // Something about the backup as a whole.
                    _ => {}
                }
            }
        }
        _ => {}
    }
    let mut reader = Reader::default();
    for (path, size, hash) in listed {
        reader.file(&path, "", &hash).map_err(|it| bad(it.what))?;
        if let (Some(size), Some(last)) = (size, reader.manifest.entries.last_mut())
            && clean_path(&path).ok().as_deref() == Some(last.path.as_str())
        {
            last.size = ManifestSize::Bytes(size);
        }
    }
    reader.finish(false, name)
}

/// Whether it is a hash of any kind.
fn is_hash(text: &str) -> bool {
    text.parse::<Digest>().is_ok() || (text.len() >= 32 && is_weak(text))
}

/// Whether it is a hash that verifies nothing here (MD5, SHA-1 and the like), or none at all.
fn is_weak(hash: &str) -> bool {
    let hex = hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    matches!(hash, "" | "-" | "none") || (hex && matches!(hash.len(), 32 | 40 | 56 | 96 | 128))
}

/// The hash and the path of a line as BSD and `sha256sum --tag` write it.
fn tagged_line(line: &str) -> Option<(&str, Cow<'_, str>)> {
    let (line, is_escaped) = without_mark(line);
    let rest = ["SHA256 (", "MD5 (", "SHA1 ("]
        .iter()
        .find_map(|tag| line.strip_prefix(tag))?;
    let (path, hash) = rest.rsplit_once(") = ")?;
    Some((hash.trim(), unescaped(path, is_escaped)))
}

/// A line without the backslash that says that the name in it is escaped, and whether it had one.
fn without_mark(line: &str) -> (&str, bool) {
    match line.strip_prefix('\\') {
        Some(line) => (line, true),
        None => (line, false),
    }
}

/// A name as it was before `sha256sum` wrote `\\`, `\n` and `\r` for what would break its lines.
fn unescaped(path: &str, is_escaped: bool) -> Cow<'_, str> {
    if !is_escaped {
        return path.into();
    }
    let mut plain = String::with_capacity(path.len());
    let mut rest = path.chars();
    while let Some(next) = rest.next() {
        match (next, rest.as_str().chars().next()) {
            ('\\', Some('\\')) => plain.push('\\'),
            ('\\', Some('n')) => plain.push('\n'),
            ('\\', Some('r')) => plain.push('\r'),
            _ => {
                plain.push(next);
                continue;
            }
        }
        rest.next();
    }
    match plain.contains(['\n', '\r']) {
        // No path can be listed that has those: told as one that is not there.
        true => path.into(),
        false => plain.into(),
    }
}

/// Why a line cannot be taken.
struct Problem {
    code: &'static str,
    what: String,
}

impl Problem {
    fn new(code: &'static str, what: impl Into<String>) -> Self {
        let what = what.into();
        Self { code, what }
    }
}

#[derive(Default)]
struct Reader {
    manifest: Manifest,
    /// Where in the entries a path is.
    seen: HashMap<String, usize>,
    /// A file line was met, if only the manifest's own.
    in_files: bool,
    problems: Vec<(usize, Problem)>,
}

impl Reader {
    fn line(&mut self, line: &[u8]) -> Result<(), Problem> {
        let Ok(line) = std::str::from_utf8(line) else {
            return Err(Problem::new("manifest.not_utf8", "it is not UTF-8 text"));
        };
        if line.contains('\0') {
            // What a crash of the file's server leaves where data had not reached the disk.
            return Err(Problem::new("manifest.bad_line", "it holds NUL bytes"));
        }
        // Whatever they hold: headings and remarks. A name that begins so is written with `./`.
        if line.starts_with(['=', '#']) {
            return Ok(());
        }
        // From the right: a name may hold `|`, a size and a hash may not.
        let mut parts = line.rsplitn(3, '|');
        if let (Some(hash), Some(size), Some(path)) = (parts.next(), parts.next(), parts.next()) {
            return self.file(path, size.trim(), hash.trim());
        }
        if let Some((hash, path)) = checksum_line(line).or_else(|| tagged_line(line)) {
            return self.file(&path, "", hash);
        }
        if let Some((_, hash)) = line.rsplit_once('|')
            && hash.trim().parse::<Digest>().is_ok()
        {
            return Err(Problem::new(
                "manifest.bad_line",
                "it has a hash but no size: a file line is path|size|sha256",
            ));
        }
        if line.trim().is_empty() {
            return Ok(());
        }
        if let Some(pair) = key_value(line) {
            if self.in_files {
                self.manifest.summary.push(pair);
            } else {
                self.manifest.header.push(pair);
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &str, size: &str, hash: &str) -> Result<(), Problem> {
        self.in_files = true;
        if is_manifest(path) {
            // Hashed while it was being written: the line can never match and is no artifact.
            return Ok(());
        }
        // sha256sum puts a backslash before the hash of a name with a backslash in it.
        let hash = hash.strip_prefix('\\').unwrap_or(hash);
        let weak = is_weak(hash);
        let sha256 = match hash.parse() {
            Ok(digest) => Some(digest),
            Err(_) if weak => None,
            Err(_) => {
                return Err(Problem::new(
                    "manifest.bad_line",
                    format!("{path:?} has no valid SHA-256 (64 hexadecimal digits) but {hash:?}"),
                ));
            }
        };
        let path = clean_path(path)
            .map_err(|why| Problem::new("manifest.bad_path", format!("the path {path:?} {why}")))?;
        let size = self.size(size).ok_or_else(|| {
            Problem::new(
                "manifest.bad_line",
                format!("{path:?} has the size {size:?}, which is not a number of bytes"),
            )
        })?;
        let Some(sha256) = sha256 else {
            self.manifest.without_hash.push(path);
            return Ok(());
        };
        self.entry(ManifestEntry { path, size, sha256 })
    }

    fn entry(&mut self, entry: ManifestEntry) -> Result<(), Problem> {
        let at = self.seen.get(&entry.path).copied();
        let Some(earlier) = at.and_then(|at| self.manifest.entries.get_mut(at)) else {
            self.seen
                .insert(entry.path.clone(), self.manifest.entries.len());
            self.manifest.entries.push(entry);
            return Ok(());
        };
        let sizes = (earlier.size.bytes(), entry.size.bytes());
        let differ = matches!(sizes, (Some(one), Some(other)) if one != other);
        if earlier.sha256 != entry.sha256 || differ {
            return Err(Problem::new(
                "manifest.duplicate",
                format!("{:?} was listed before with other content", entry.path),
            ));
        }
        if sizes.0.is_none() && sizes.1.is_some() {
            earlier.size = entry.size;
        }
        Ok(())
    }

    fn says_bytes(&self) -> bool {
        let (unit, bytes) = Manifest::UNIT;
        self.manifest
            .header
            .iter()
            .any(|(key, value)| key.eq_ignore_ascii_case(unit) && value.eq_ignore_ascii_case(bytes))
    }

    fn size(&self, text: &str) -> Option<ManifestSize> {
        if self.says_bytes() {
            text.parse().ok().map(ManifestSize::Bytes)
        } else {
            Some(ManifestSize::Rounded(text.to_owned()))
        }
    }

    /// `torn`: it ends in the middle of a line.
    fn finish(mut self, torn: bool, name: &str) -> Result<Manifest> {
        let more = self.problems.len().saturating_sub(1);
        if let Some((number, problem)) = std::mem::take(&mut self.problems).into_iter().next() {
            let mut message = format!("line {number} of {name}: {}", problem.what);
            if more > 0 {
                message += &format!(" (and {more} more bad lines)");
            }
            return Err(
                Error::new(ErrorKind::Verification, problem.code, message).hint(
                    "it is damaged or was edited: copy it again from where the backup was made, or \
                     choose another backup",
                ),
            );
        }
        // One that just ends is whole; what is written as ours is says something after its files.
        let ours = self.in_files && self.says_bytes();
        let ends = self.manifest.total_files().is_some() || !self.manifest.summary.is_empty();
        self.manifest.truncated = torn || (ours && !ends);
        self.manifest.without_hash.sort();
        self.manifest.without_hash.dedup();
        Ok(self.manifest)
    }
}

/// The hash and the path of a line as `sha256sum` and `md5sum` write it, for text or for binary
/// files.
fn checksum_line(line: &str) -> Option<(&str, Cow<'_, str>)> {
    let (bare, is_escaped) = without_mark(line);
    let (hash, rest) = bare.split_once(' ')?;
    if !is_hash(hash) {
        return None;
    }
    let path = rest.strip_prefix(' ').or_else(|| rest.strip_prefix('*'))?;
    Some((hash, unescaped(path, is_escaped)))
}

/// The key and value of a `Key: value` line: what stands before the first `: ` (or a final `:`).
pub(super) fn key_value(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let (key, value) = line
        .split_once(": ")
        .or_else(|| Some((line.strip_suffix(':')?, "")))?;
    let key = key.trim();
    if key.is_empty() || key.starts_with("===") || key.contains(':') {
        return None;
    }
    Some((key.to_owned(), value.trim().to_owned()))
}

fn is_manifest(path: &str) -> bool {
    path.strip_prefix("./").unwrap_or(path) == Manifest::FILE_NAME
}

/// A path of a manifest as the stores give them: `./` and doubled `/` dropped. The error says
/// what is wrong with it.
pub(super) fn clean_path(path: &str) -> Result<String, &'static str> {
    if path.starts_with('/') {
        return Err("is absolute; only paths inside the backup's folder can be listed");
    }
    if path.contains(['\n', '\r', '\0']) {
        return Err("holds a line break or NUL");
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err("has `..` in it and would lead out of the backup's folder"),
            part => parts.push(part),
        }
    }
    let clean = parts.join("/");
    if clean.is_empty() {
        return Err("is empty");
    }
    if clean == Manifest::FILE_NAME {
        return Err("is the manifest itself");
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse_text(text: &str) -> Result<Manifest> {
        parse(text.as_bytes())
    }

    fn generation_a(lines: &str) -> String {
        format!(
            "=== Backup Manifest ===\nBackup ID: 20240215-020000\nCreated: Thu Feb 15 02:00:00 UTC 2024\n\
             \n=== Files ===\n{lines}\n=== Summary ===\nTotal Size: 12M\n"
        )
    }

    fn fails(text: &str, code: &str, words: &[&str]) {
        let error = parse_text(text).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(error.kind(), ErrorKind::Verification);
        assert!(error.hint_text().is_some());
        for word in words {
            assert!(error.message().contains(word), "{error} lacks {word:?}");
        }
    }

    #[test]
    fn odd_names_line_ends_and_hashes_are_read() {
        let upper = HASH.to_uppercase();
        let text = generation_a(&format!(
            "./postgres/x.dump|4.0K|{upper}\n./=name|0|{HASH}\n= Format: file|size|sha256\n# a|b|c\na|b c|512|{HASH}\n\
             back\\slash|1,2G|\\{HASH}\nMANIFEST.txt|0|short\nx||{HASH}\n"
        ));
        for text in [
            text.clone(),
            text.replace('\n', "\r\n"),
            format!("\u{feff}{text}"),
        ] {
            let manifest = parse_text(&text).unwrap();
            let paths: Vec<_> = manifest.entries.iter().map(|e| e.path.as_str()).collect();
            assert_eq!(
                paths,
                ["postgres/x.dump", "=name", "a|b c", "back\\slash", "x"]
            );
            assert!(
                manifest
                    .entries
                    .iter()
                    .all(|e| e.sha256.to_string() == HASH)
            );
            // A bare number is `du -h` text as well.
            assert_eq!(manifest.entries[1].size, ManifestSize::Rounded("0".into()));
            assert_eq!(
                manifest.entries[2].size,
                ManifestSize::Rounded("512".into())
            );
            assert_eq!(manifest.value("backup id"), Some("20240215-020000"));
            assert_eq!(
                manifest.value("Created"),
                Some("Thu Feb 15 02:00:00 UTC 2024")
            );
            assert_eq!(manifest.summary.len(), 1);
            assert!(!manifest.truncated);
        }
    }

    #[test]
    fn numbers_are_bytes_only_where_the_manifest_says_so() {
        let ours = format!("Size Unit: bytes\na|512|{HASH}\nTotal Files: 1\n");
        let manifest = parse_text(&ours).unwrap();
        assert_eq!(manifest.entries[0].size, ManifestSize::Bytes(512));
        fails(
            &ours.replace("512", "4.0K"),
            "manifest.bad_line",
            &["line 2", "4.0K"],
        );
    }

    #[test]
    fn bad_lines_are_errors_with_their_number() {
        fails(
            &generation_a("a|4.0K|e3b0\nb|1|x\n"),
            "manifest.bad_line",
            &["line 6", "\"a\"", "and 1 more"],
        );
        fails(
            &generation_a(&format!("a|{HASH}\n")),
            "manifest.bad_line",
            &["line 6"],
        );
        fails(
            &generation_a(&format!("/etc/passwd|1|{HASH}\n")),
            "manifest.bad_path",
            &["/etc/passwd", "absolute"],
        );
        fails(
            &generation_a(&format!("a/../../b|1|{HASH}\n")),
            "manifest.bad_path",
            &["a/../../b", ".."],
        );
        fails(
            &generation_a(&format!("a|1|{HASH}\n./a|1|{}\n", HASH.replace('e', "f"))),
            "manifest.duplicate",
            &["line 7", "\"a\""],
        );
        fails("a: b\n\0\0\0\0", "manifest.bad_line", &["line 2", "NUL"]);
        let error = parse(b"Backup ID: x\ncaf\xe9\n").unwrap_err();
        assert_eq!(error.code(), "manifest.not_utf8");
        assert!(error.message().contains("line 2"), "{error}");
    }

    #[test]
    fn the_same_line_twice_is_one_entry() {
        let manifest = parse_text(&generation_a(&format!("a|1|{HASH}\na|1|{HASH}\n"))).unwrap();
        assert_eq!(manifest.entries.len(), 1);
    }

    #[test]
    fn every_cut_is_an_error_or_noticed() {
        let whole = generation_a(&format!("a|4.0K|{HASH}\nb|4.0K|{HASH}\n"));
        assert!(!parse_text(&whole).unwrap().truncated);
        let files = whole.find("a|4.0K").unwrap();
        let summary = whole.find("\n=== Summary").unwrap();
        for at in files + 1..summary {
            let cut = parse_text(&whole[..at]);
            if whole[..at].ends_with(HASH) || whole[..at].ends_with('\n') {
                // One that just ends is whole; what it does not list is found in the folder.
                assert!(!cut.unwrap().truncated);
                continue;
            }
            assert!(
                cut.as_ref().map_or(true, |m| m.truncated),
                "cut at {at}: {cut:?}"
            );
        }
        assert!(parse_text(whole.trim_end()).unwrap().truncated);
    }

    #[test]
    fn a_bare_list_is_whole_in_either_form() {
        let upper = HASH.to_uppercase();
        for text in [
            format!("{HASH}  a/b.gz\n{HASH} *./c d\n"),
            format!("{upper}  a/b.gz\r\n{upper}  c d\r\n"),
            format!("a/b.gz|12|{HASH}\nc d|4.0K|{HASH}\n"),
        ] {
            let manifest = parse_text(&text).unwrap();
            let paths: Vec<_> = manifest.entries.iter().map(|e| e.path.as_str()).collect();
            assert_eq!(paths, ["a/b.gz", "c d"]);
            assert!(!manifest.truncated, "{text}");
            // A path may have lost its end, a hash cannot.
            let torn = parse_text(text.trim_end()).unwrap().truncated;
            assert_eq!(torn, !text.contains('|'), "{text}");
        }
        fails(&format!("{HASH}  ../a\n"), "manifest.bad_path", &["line 1"]);
        let framed = format!("Backup ID: x\n\na|12|{HASH}\n");
        assert!(!parse_text(&framed).unwrap().truncated);
        let ours = format!("Backup ID: x\nSize Unit: bytes\n\na|12|{HASH}\n");
        assert!(parse_text(&ours).unwrap().truncated);
        let ended = format!("{ours}End: yes\n");
        assert!(!parse_text(&ended).unwrap().truncated);
    }

    #[test]
    fn other_lists_and_hashes_that_verify_nothing_are_read() {
        let md5 = "d41d8cd98f00b204e9800998ecf8427e";
        for (text, name, entries, without) in [
            (format!("{HASH}  db/a.gz\n"), "SHA256SUMS", "db/a.gz", ""),
            (format!("SHA256 (a b) = {HASH}\n"), "SHA256SUMS", "a b", ""),
            (
                format!("{HASH}  /backup/db/a.gz\n"),
                "db/a.gz.sha256",
                "db/a.gz",
                "",
            ),
            (format!("{HASH}\n"), "db/a.gz.sha256", "db/a.gz", ""),
            (format!("{md5}  a.gz\n{md5} *b\n"), "MD5SUMS", "", "a.gz b"),
            (
                format!("a|1|{md5}\nb|2|{HASH}\nc|3|\n"),
                "MANIFEST.txt",
                "b",
                "a c",
            ),
            (
                format!(
                    r#"{{"id": 1, "files": [{{"path": "a", "size": 5, "sha256": "{HASH}"}}, {{"name": "b"}}]}}"#
                ),
                "manifest.json",
                "a",
                "b",
            ),
            (
                format!(r#"{{"a": "sha256:{HASH}", "n": 1}}"#),
                "manifest.json",
                "a",
                "",
            ),
        ] {
            let manifest = parse_list(text.as_bytes(), name, |_| false).unwrap();
            let listed: Vec<_> = manifest.entries.iter().map(|e| e.path.as_str()).collect();
            assert_eq!(listed.join(" "), entries, "{text}");
            assert_eq!(manifest.without_hash.join(" "), without, "{text}");
        }
        for text in ["{", "[{}]", r#"[{"path": "../x", "sha256": ""}]"#] {
            let error = parse_list(text.as_bytes(), "manifest.json", |_| false).unwrap_err();
            assert_eq!(error.code(), "manifest.bad_json", "{error}");
        }
    }

    #[test]
    fn names_that_were_escaped_are_read_as_they_are() {
        for text in [
            format!("\\{HASH}  a\\\\b\n{HASH}  c\\d\n"),
            format!("\\SHA256 (a\\\\b) = {HASH}\nSHA256 (c\\d) = {HASH}\n"),
        ] {
            let manifest = parse_text(&text).unwrap();
            let paths: Vec<_> = manifest.entries.iter().map(|e| e.path.as_str()).collect();
            assert_eq!(paths, ["a\\b", "c\\d"], "{text}");
        }
        let manifest = parse_text(&format!("\\{HASH}  a\\nb\n")).unwrap();
        assert_eq!(manifest.entries[0].path, "a\\nb");
    }

    #[test]
    fn a_list_that_just_ends_is_whole_where_its_last_file_is_there() {
        for text in [
            format!("{HASH}  a"),
            format!("{HASH}  x\nSHA256 (a) = {HASH}"),
        ] {
            let listed = |there: &str| {
                let is_there = |path: &str| path == there;
                parse_list(text.as_bytes(), "v/SHA256SUMS", is_there).unwrap()
            };
            assert!(!listed("v/a").truncated, "{text}");
            assert!(listed("v/abc").truncated, "{text}");
        }
        // What is cut in its hash says nothing of the file before.
        let cut = format!("{HASH}  a\n{}", &HASH[..20]);
        let cut = parse_list(cut.as_bytes(), "SHA256SUMS", |_| true).unwrap();
        assert!(cut.truncated);
        let bad = format!("{HASH}  /etc/passwd\n");
        let error = parse_list(bad.as_bytes(), "SHA256SUMS", |_| true).unwrap_err();
        assert!(error.message().contains("line 1 of SHA256SUMS"), "{error}");
    }

    #[test]
    fn several_lists_agree_or_are_refused() {
        let list = |hash: &str, name: &str| {
            let text = format!("{hash}  a\n");
            parse_list(text.as_bytes(), name, |_| false).unwrap()
        };
        let other = HASH.replace('e', "f");
        for names in [["a.sha256", "a.sha256sum"], ["a.sha256sum", "a.sha256"]] {
            let mut merged = Merged::default();
            merged.add(list(HASH, names[0])).unwrap();
            let error = merged.add(list(&other, names[1])).unwrap_err();
            assert_eq!(error.code(), "manifest.duplicate", "{error}");
            let mut merged = Merged::default();
            merged.add(list(HASH, names[0])).unwrap();
            merged.add(list(HASH, names[1])).unwrap();
            merged
                .add(list("d41d8cd98f00b204e9800998ecf8427e", names[1]))
                .unwrap();
            let whole = merged.end();
            assert_eq!((whole.entries.len(), whole.without_hash.len()), (1, 0));
        }
    }

    #[test]
    fn generation_b_has_no_lines_and_is_whole() {
        let text = "Backup ID: 20240215-020000\nCreated: now\nType: full\nTotal Size: 1.2G\n\
                    Total Files: 8\n";
        let manifest = parse_text(text).unwrap();
        assert!(manifest.entries.is_empty() && !manifest.truncated);
        assert_eq!(manifest.total_files(), Some(8));
        assert!(parse(b"").unwrap().entries.is_empty());
    }
}
