//! The table of contents of a dump in the directory format, as far as it names files.
//!
//! pg_restore opens whatever file an entry names, and a name may lead out of the folder: what is read
//! there becomes rows of a table. So all names are read before any program is started on the folder.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::content::UnknownFormat;
use super::spool::CONTENTS;
use crate::model::{Error, ErrorKind, Result};

/// How much of a text is kept: names of files and kinds of entries are shorter.
const TELLS: u64 = 1024;

/// The longest name of a file.
const NAME: usize = 255;

/// No line of a list of large objects is longer.
const LINE: u64 = 512;

/// How many lists of large objects a dump may have; one has a thousand objects.
const LISTS: usize = 100_000;

/// The list that programs before 16 read, whatever the entry says.
const OLD_LIST: &[u8] = b"blobs.toc";

/// By what ends a program takes a file for compressed, or looks for one that is.
const PACKED: [&str; 3] = [".gz", ".lz4", ".zst"];

/// What speaks against a folder.
#[derive(Debug)]
enum Flaw {
    /// A file that is named so.
    Outside(String),
    /// It is not what pg_dump writes.
    Damaged(String),
    Io(String, io::Error),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged("it is cut off".to_owned()),
            _ => Self::Io(format!("read {CONTENTS}"), error),
        }
    }
}

impl Flaw {
    fn outside(name: &[u8]) -> Self {
        let name = name.get(..NAME).unwrap_or(name);
        Self::Outside(String::from_utf8_lossy(name).into_owned())
    }

    fn damaged(why: &str) -> Self {
        Self::Damaged(why.to_owned())
    }

    fn error(self, label: &str) -> Error {
        let new = |code, text| {
            Error::new(ErrorKind::Verification, code, text)
                // A dump of the same data in another file may be a good one.
                .because(UnknownFormat)
        };
        match self {
            Self::Outside(name) => new(
                "postgres.contents_outside",
                format!(
                    "{label} names {name:?} as one of its files, which is no name that pg_dump gives: pg_restore would read that file wherever it lies"
                ),
            )
            .hint("find out who made this backup, and choose another one"),
            Self::Damaged(why) => new(
                "postgres.contents_unread",
                format!("the table of contents of {label} cannot be read: {why}"),
            )
            .hint("choose another backup; a dump in the custom format (pg_dump -Fc) is one file, without such a table"),
            Self::Io(what, error) => Error::io(what, error),
        }
    }
}

/// Refuses a folder that names files as none of its own; `label` is what people call it.
pub(super) async fn check(folder: &Path, label: &str) -> Result<()> {
    let (folder, label) = (folder.to_owned(), label.to_owned());
    tokio::task::spawn_blocking(move || check_folder(&folder).map_err(|flaw| flaw.error(&label)))
        .await
        .map_err(|e| {
            Error::new(
                ErrorKind::Internal,
                "postgres.task",
                format!("reading a table of contents ended unexpectedly: {e}"),
            )
        })?
}

/// As `check`, of a folder that came out of an archive, in which a file may be a link.
pub(super) async fn check_unpacked(folder: &Path, label: &str) -> Result<()> {
    let failed = |e| Error::io(format!("read {}", folder.display()), e);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_symlink() {
            let name = entry.file_name().to_string_lossy().into_owned();
            return Err(Flaw::Outside(name).error(label));
        }
    }
    check(folder, label).await
}

fn check_folder(folder: &Path) -> Result<(), Flaw> {
    let file = open(folder, CONTENTS)?;
    let mut lists = BTreeSet::from([OLD_LIST.to_vec()]);
    entries(BufReader::new(file), &mut |kind, name| {
        if name.is_empty() {
            return Ok(());
        }
        if !is_plain(name) {
            return Err(Flaw::outside(name));
        }
        // As C reads it.
        if kind.split(|byte| *byte == 0).next() == Some(b"BLOBS") {
            lists.insert(name.to_vec());
        }
        match lists.len() > LISTS {
            true => Err(Flaw::damaged("it has too many lists of large objects")),
            false => Ok(()),
        }
    })?;
    for list in lists {
        check_list(folder, &String::from_utf8_lossy(&list))?;
    }
    Ok(())
}

/// A list of large objects, of which each line names a file too. pg_dump never compresses it.
fn check_list(folder: &Path, name: &str) -> Result<(), Flaw> {
    let packed = || Flaw::Damaged(format!("its list {name} is compressed"));
    if PACKED.iter().any(|end| name.ends_with(*end)) {
        return Err(packed());
    }
    match open(folder, name) {
        Ok(file) => lines(BufReader::new(file), name),
        Err(Flaw::Io(_, error)) if error.kind() == io::ErrorKind::NotFound => {
            let other = |end: &&str| folder.join(format!("{name}{end}")).symlink_metadata();
            match PACKED.iter().any(|end| other(end).is_ok()) {
                true => Err(packed()),
                // Nobody reads what is not there.
                false => Ok(()),
            }
        }
        Err(error) => Err(error),
    }
}

fn open(folder: &Path, name: &str) -> Result<File, Flaw> {
    let path = folder.join(name);
    crate::sys::open_to_read(&path).map_err(|e| Flaw::Io(format!("read {}", path.display()), e))
}

/// "4711 blob_4711.dat", line by line.
fn lines(mut from: impl BufRead, list: &str) -> Result<(), Flaw> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = from.by_ref().take(LINE).read_until(b'\n', &mut line);
        if read.map_err(|e| Flaw::Io(format!("read {list}"), e))? == 0 {
            return Ok(());
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let mut words = text.splitn(2, |byte| *byte == b' ');
        let number = words.next().unwrap_or_default();
        if number.is_empty() || !number.iter().all(u8::is_ascii_digit) {
            return Err(Flaw::Damaged(format!("its list {list} has an odd line")));
        }
        let name = words.next().unwrap_or_default();
        if !is_plain(name) {
            return Err(Flaw::outside(name));
        }
    }
}

/// Whether a name can only be that of a file in the folder itself: letters, digits, `_`, `-` and `.`, which
/// is not the first.
fn is_plain(name: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    (1..=NAME).contains(&name.len()) && name.first() != Some(&b'.') && name.iter().all(fits)
}

/// Takes an entry's kind, and the name of its file.
type Each<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), Flaw> + 'a;

/// Reads a table of contents, in the formats 1.10 (PostgreSQL 8.4) to 1.16; each entry's kind, and the name
/// of its file where it has one, go to `each`.
fn entries(from: impl Read, each: &mut Each<'_>) -> Result<(), Flaw> {
    let mut from = Reader(from);
    let mut head = [0; 11];
    from.0.read_exact(&mut head)?;
    // The version, how many bytes a number and an offset have, and the format.
    let [b'P', b'G', b'D', b'M', b'P', major, minor, _, size, _, _] = head else {
        return Err(Flaw::damaged("it begins otherwise"));
    };
    if major != 1 || !(10..=16).contains(&minor) {
        return Err(Flaw::Damaged(format!(
            "it is of the format {major}.{minor}, and 1.10 to 1.16 are known"
        )));
    }
    if size != 4 {
        return Err(Flaw::damaged("its numbers have another size"));
    }
    // How it is compressed.
    match minor < 15 {
        true => from.numbers(1)?,
        false => from.0.read_exact(&mut [0])?,
    }
    // When it was made, of what, and by what.
    from.numbers(7)?;
    from.texts(3)?;
    for _ in 0..from.number()? {
        // Its own number, whether it has rows; two numbers of the catalogue as text, and its name.
        from.numbers(2)?;
        from.texts(3)?;
        let kind = from.text()?.unwrap_or_default();
        if minor >= 11 {
            from.numbers(1)?;
        }
        // Statements that make, drop and fill it; its schema and tablespace, and since 1.14 its method.
        from.texts(if minor < 14 { 5 } else { 6 })?;
        if minor >= 16 {
            from.numbers(1)?;
        }
        // Its owner, and whether it has row numbers.
        from.texts(2)?;
        // What it depends on.
        while from.text()?.is_some() {}
        let name = from
            .text()?
            .ok_or_else(|| Flaw::damaged("an entry has no name of a file"))?;
        each(&kind, &name)?;
    }
    Ok(())
}

struct Reader<R>(R);

impl<R: Read> Reader<R> {
    /// A sign, and four bytes, the lowest first.
    fn number(&mut self) -> Result<i64, Flaw> {
        let mut bytes = [0; 5];
        self.0.read_exact(&mut bytes)?;
        let [sign, bytes @ ..] = bytes;
        // What does not fit there would be another number for pg_restore.
        let number = i32::try_from(u32::from_le_bytes(bytes))
            .map_err(|_| Flaw::damaged("a number is too large"))?;
        Ok(match sign {
            0 => i64::from(number),
            _ => -i64::from(number),
        })
    }

    /// A text, as much of it as tells; `None` where there is none.
    fn text(&mut self) -> Result<Option<Vec<u8>>, Flaw> {
        let Ok(length) = u64::try_from(self.number()?) else {
            return Ok(None);
        };
        let mut text = Vec::new();
        let kept = length.min(TELLS);
        let mut read = self.0.by_ref().take(kept).read_to_end(&mut text)? as u64;
        read += io::copy(&mut self.0.by_ref().take(length - kept), &mut io::sink())?;
        match read < length {
            true => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            false => Ok(Some(text)),
        }
    }

    fn numbers(&mut self, count: u32) -> Result<(), Flaw> {
        (0..count).try_for_each(|_| self.number().map(|_| ()))
    }

    fn texts(&mut self, count: u32) -> Result<(), Flaw> {
        (0..count).try_for_each(|_| self.text().map(|_| ()))
    }
}

/// For `fuzz/`: a table of contents and a list of large objects. What is found does not depend on how the
/// bytes come, and no name that is let through leads anywhere but into the folder.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(bytes: &[u8]) {
    let read = |from: &mut dyn Read| {
        let mut names = Vec::new();
        let done = entries(from, &mut |kind, name| {
            assert!(kind.len() as u64 <= TELLS && name.len() as u64 <= TELLS);
            names.push(name.to_vec());
            Ok(())
        });
        (done.is_ok(), names)
    };
    let (whole, names) = read(&mut &*bytes);
    let (first, second) = bytes.split_at(bytes.len() / 3);
    assert_eq!(read(&mut first.chain(second)), (whole, names.clone()));
    let folder = Path::new("/dump");
    for name in names.iter().filter(|name| is_plain(name)) {
        let path = folder.join(String::from_utf8_lossy(name).as_ref());
        assert_eq!(path.parent(), Some(folder));
        assert_eq!(path.components().count(), 3);
    }
    let _ = lines(bytes, "it");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: i32) -> Vec<u8> {
        let bytes = number.unsigned_abs().to_le_bytes();
        [&[u8::from(number < 0)][..], &bytes].concat()
    }

    fn text(text: &[u8]) -> Vec<u8> {
        [&number(i32::try_from(text.len()).unwrap())[..], text].concat()
    }

    /// A table of contents as the program of that format writes it.
    fn contents(minor: u8, entries: &[(&str, &[u8])]) -> Vec<u8> {
        let none = number(-1);
        let mut all = [&b"PGDMP\x01"[..], &[minor, 0, 4, 8, 3]].concat();
        all.extend(match minor < 15 {
            true => number(-1),
            false => vec![1],
        });
        all.extend(number(7).repeat(7));
        for name in ["shop", "15.4", "15.4 (Debian 15.4-1)"] {
            all.extend(text(name.as_bytes()));
        }
        all.extend(number(i32::try_from(entries.len()).unwrap()));
        for (at, (kind, file)) in (1..).zip(entries) {
            all.extend([number(at), number(1)].concat());
            all.extend([text(b"1259"), text(b"16385"), text(b"users")].concat());
            all.extend(text(kind.as_bytes()));
            if minor >= 11 {
                all.extend(number(3));
            }
            all.extend([text(&[b'x'; 5000]), none.clone(), text(b"COPY")].concat());
            all.extend([text(b"public"), text(b"")].concat());
            if minor >= 14 {
                all.extend(text(b"heap"));
            }
            if minor >= 16 {
                all.extend(number(114));
            }
            all.extend([text(b"app"), text(b"false")].concat());
            all.extend([text(b"12"), text(b"13"), none.clone()].concat());
            all.extend(text(file));
        }
        all
    }

    fn checked(contents: &[u8], lists: &[(&str, &str)]) -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(CONTENTS), contents).unwrap();
        for (name, text) in lists {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        check_folder(folder.path()).map_err(|flaw| flaw.error("shop.dump"))
    }

    #[test]
    fn only_names_of_files_in_the_folder_are_let_through() {
        for minor in 10..=16 {
            let good: [(&str, &[u8]); 3] = [
                ("TABLE", b""),
                ("TABLE DATA", b"3340.dat"),
                ("BLOBS", b"blobs_12.toc"),
            ];
            checked(&contents(minor, &good), &[]).unwrap();
            for bad in [
                &b"../../etc/shadow"[..],
                b"..",
                b".",
                b"/etc/shadow",
                b"a/b",
                b".hidden",
                b"a b",
                b"a\0/b",
                &[b'x'; 256],
                &[b'/'; 3000],
            ] {
                for kind in ["TABLE", "TABLE DATA", "BLOBS"] {
                    let all = [good[0], good[1], (kind, bad), good[2]];
                    let error = checked(&contents(minor, &all), &[]).unwrap_err();
                    assert_eq!(error.code(), "postgres.contents_outside", "{minor} {kind}");
                }
            }
        }
    }

    #[test]
    fn one_that_is_cut_off_or_of_another_format_is_refused() {
        let unread = |bytes: &[u8]| {
            let error = checked(bytes, &[]).unwrap_err();
            assert_eq!(error.code(), "postgres.contents_unread", "{error}");
        };
        for minor in 10..=16 {
            let rows: (&str, &[u8]) = ("TABLE DATA", b"3340.dat");
            let whole = contents(minor, &[rows, rows]);
            for end in (0..whole.len()).step_by(7) {
                unread(&whole[..end]);
            }
            for (at, byte) in [(0, b'x'), (5, 2), (6, 9), (6, 17), (8, 8)] {
                let mut other = whole.clone();
                other[at] = byte;
                unread(&other);
            }
        }
    }

    #[test]
    fn lists_of_large_objects_name_files_too() {
        let objects: (&str, &[u8]) = ("BLOBS", b"blobs_7.toc");
        let contents = contents(16, &[objects]);
        for list in ["blobs.toc", "blobs_7.toc"] {
            let list_of = |text| checked(&contents, &[(list, text)]);
            list_of("4711 blob_4711.dat\n4712 blob_4712.dat\n").unwrap();
            list_of("").unwrap();
            for bad in [
                "4711 blob_4711.dat\n4712 ../../../etc/shadow\n",
                "4711 /etc/shadow",
                "4711  blob_1.dat\n",
                "4711\n",
            ] {
                let error = list_of(bad).unwrap_err();
                assert_eq!(error.code(), "postgres.contents_outside", "{list} {bad}");
            }
            let error = list_of(" 4711 ../x\n").unwrap_err();
            assert_eq!(error.code(), "postgres.contents_unread", "{list}");
            for end in PACKED {
                let packed = format!("{list}{end}");
                let error = checked(&contents, &[(packed.as_str(), "")]).unwrap_err();
                assert_eq!(error.code(), "postgres.contents_unread", "{packed}");
            }
        }
    }
}
