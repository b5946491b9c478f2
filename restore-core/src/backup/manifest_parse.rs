//! Reading `MANIFEST.txt` as shell scripts, editors and interrupted copies leave it.

use std::collections::HashMap;

use super::manifest::{Manifest, ManifestEntry, ManifestSize};
use crate::error::{Error, ErrorKind, Result};
use crate::stream::Digest;

pub(super) fn parse(text: &[u8]) -> Result<Manifest> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut reader = Reader::default();
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Err(problem) = reader.line(line) {
            reader.problems.push((number, problem));
        }
    }
    reader.finish(text.last().is_none_or(|&byte| byte == b'\n'))
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
    /// Something followed the last file line.
    after_files: bool,
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
        // From the right: a name may hold `|`, a size and a hash may not.
        let mut parts = line.rsplitn(3, '|');
        if let (Some(hash), Some(size), Some(path)) = (parts.next(), parts.next(), parts.next()) {
            return self.file(path, size.trim(), hash.trim());
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
        self.after_files = self.in_files;
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
        self.after_files = false;
        if is_manifest(path) {
            // Hashed while it was being written: the line can never match and is no artifact.
            return Ok(());
        }
        // sha256sum puts a backslash before the hash of a name with a backslash in it.
        let sha256 = hash
            .strip_prefix('\\')
            .unwrap_or(hash)
            .parse()
            .map_err(|_| {
                Problem::new(
                    "manifest.bad_line",
                    format!("{path:?} has no valid SHA-256 (64 hexadecimal digits) but {hash:?}"),
                )
            })?;
        let path = clean_path(path)
            .map_err(|why| Problem::new("manifest.bad_path", format!("the path {path:?} {why}")))?;
        let size = self.size(size).ok_or_else(|| {
            Problem::new(
                "manifest.bad_line",
                format!("{path:?} has the size {size:?}, which is not a number of bytes"),
            )
        })?;
        let entry = ManifestEntry { path, size, sha256 };
        let Some(earlier) = self
            .seen
            .get(&entry.path)
            .and_then(|&at| self.manifest.entries.get(at))
        else {
            self.seen
                .insert(entry.path.clone(), self.manifest.entries.len());
            self.manifest.entries.push(entry);
            return Ok(());
        };
        if earlier.sha256 != entry.sha256 || earlier.size.bytes() != entry.size.bytes() {
            return Err(Problem::new(
                "manifest.duplicate",
                format!("{:?} was listed before with other content", entry.path),
            ));
        }
        Ok(())
    }

    fn size(&self, text: &str) -> Option<ManifestSize> {
        let (unit, bytes) = Manifest::UNIT;
        let exact = self.manifest.header.iter().any(|(key, value)| {
            key.eq_ignore_ascii_case(unit) && value.eq_ignore_ascii_case(bytes)
        });
        if exact {
            text.parse().ok().map(ManifestSize::Bytes)
        } else {
            Some(ManifestSize::Rounded(text.to_owned()))
        }
    }

    fn finish(mut self, ends_with_line_break: bool) -> Result<Manifest> {
        let more = self.problems.len().saturating_sub(1);
        if let Some((number, problem)) = self.problems.into_iter().next() {
            let mut message = format!("line {number} of {}: {}", Manifest::FILE_NAME, problem.what);
            if more > 0 {
                message += &format!(" (and {more} more bad lines)");
            }
            return Err(
                Error::new(ErrorKind::Verification, problem.code, message).hint(
                    "the manifest is damaged or was edited: copy it again from where the backup \
                     was made, or choose another backup",
                ),
            );
        }
        self.manifest.truncated = !ends_with_line_break || (self.in_files && !self.after_files);
        Ok(self.manifest)
    }
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
            "./postgres/x.dump|4.0K|{upper}\n=name|0|{HASH}\na|b c|512|{HASH}\n\
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
        let summary = whole.find("=== Summary").unwrap();
        for at in files + 1..summary {
            let cut = parse_text(&whole[..at]);
            assert!(
                cut.as_ref().map_or(true, |m| m.truncated),
                "cut at {at}: {cut:?}"
            );
        }
        assert!(parse_text(whole.trim_end()).unwrap().truncated);
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
