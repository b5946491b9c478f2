//! Back to a moment along the live append-only file, where it carries timestamps
//! (`aof-timestamp-enabled`): what was written after the moment is cut off a copy of it.
//!
//! A command is of the time of the timestamp before it. Where the server has stopped to write them
//! that would be a lie: so it must write them now, and where commands are taken up to a file's end,
//! its last timestamp must be of when it was written last. That they were off for a while and are
//! on again cannot be seen.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::data::{Layout, Mode};
use super::moment::created;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Timestamp;

/// How much later than its last timestamp a file may have been written, in seconds: the server
/// waits that long for a disk that is busy.
const LAG: i64 = 5;

/// What the way back takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Rewind {
    /// The moment to go back to.
    pub(super) time: Timestamp,
    /// Whether the server writes timestamps now; `None` where it does not say.
    pub(super) timestamps: Option<bool>,
    /// Whether the backup's copy will do where the live files do not lead there.
    pub(super) or_else_the_backup: bool,
}

/// The files that lead to a moment, each with the length to take of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    dir: PathBuf,
    /// The manifest's lines for them.
    manifest: String,
    files: Vec<(String, u64)>,
}

impl Way {
    /// Bytes to copy.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, length)| length).sum()
    }
}

/// The way along the live files below `root`; `None`: they do not lead there.
pub(super) async fn find(root: &Path, layout: &Layout, rewind: Rewind) -> Result<Option<Way>> {
    if layout.mode == Mode::Off || rewind.timestamps == Some(false) {
        return Ok(None);
    }
    let (root, layout) = (root.to_owned(), layout.clone());
    super::blocking(move || {
        look(&root, &layout, rewind.time.seconds())
            .map_err(|e| Error::io(format!("read {}", layout.appenddirname), e))
    })
    .await
}

fn look(root: &Path, layout: &Layout, time: i64) -> std::io::Result<Option<Way>> {
    let dir = root.join(&layout.appenddirname);
    let manifest = match std::fs::read_to_string(dir.join(layout.manifest())) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut way = Way {
        dir,
        manifest: String::new(),
        files: Vec::new(),
    };
    for line in manifest.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["file", name, "seq", _, "type", kind] = words.as_slice() else {
            return Ok(None);
        };
        let path = way.dir.join(name);
        match *kind {
            "b" => {
                let mut head = Vec::new();
                File::open(&path)?.take(1024).read_to_end(&mut head)?;
                // An earlier moment than the base's is not in it any more.
                let Some(made) = created(&head) else {
                    return Ok(None);
                };
                if made.seconds() > time {
                    return Ok(None);
                }
                way.take(line, name, path.metadata()?.len());
            }
            "i" => {
                let file = File::open(&path)?;
                // Both of one moment: what is written from here on is not looked at.
                let meta = file.metadata()?;
                let reader = BufReader::new(file.take(meta.len()));
                let Some(measured) = measure(reader, time)? else {
                    return Ok(None);
                };
                if !measured.is_of_time(meta.mtime(), time) {
                    return Ok(None);
                }
                way.take(line, name, measured.length);
                if measured.cut {
                    break;
                }
            }
            _ => {}
        }
    }
    Ok((!way.files.is_empty()).then_some(way))
}

impl Way {
    fn take(&mut self, line: &str, name: &str, length: u64) {
        self.manifest += line;
        self.manifest.push('\n');
        self.files.push((name.to_owned(), length));
    }

    /// Copies the files below `work`. `false`: they have changed meanwhile.
    pub(super) async fn copy(self, work: &Path, layout: &Layout) -> Result<Vec<PathBuf>> {
        let (dir, name) = (work.join(&layout.appenddirname), layout.manifest());
        super::blocking(move || {
            let mut made = Vec::new();
            for (file, length) in &self.files {
                let (from, to) = (self.dir.join(file), dir.join(file));
                let copied = File::open(&from).and_then(|source| {
                    let mut target = File::create_new(&to)?;
                    std::io::copy(&mut source.take(*length), &mut target)
                });
                match copied {
                    Ok(bytes) if bytes == *length => made.push(to),
                    Ok(_) => return Err(changed()),
                    // A rewrite has ended in between and removed it.
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(changed()),
                    Err(e) => return Err(Error::io(format!("copy {}", from.display()), e)),
                }
            }
            let manifest = dir.join(name);
            std::fs::write(&manifest, &self.manifest)
                .map_err(|e| Error::io(format!("write {}", manifest.display()), e))?;
            made.push(manifest);
            Ok(made)
        })
        .await
    }
}

fn changed() -> Error {
    Error::new(
        ErrorKind::Failed,
        "redis.rewritten",
        "the live append-only file was rewritten while it was copied",
    )
    .hint("try again; where the rewrite is newer than the moment, only the backup's RDB is left")
    .retryable()
}

/// How much of an increment to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Measured {
    length: u64,
    /// Whether something behind the moment was cut off.
    cut: bool,
    /// The last timestamp of what is taken.
    last: Option<i64>,
}

impl Measured {
    /// Whether what is taken up to the end of a file, written last at `written`, is not of after
    /// `time`.
    fn is_of_time(&self, written: i64, time: i64) -> bool {
        self.cut
            || written <= time
            || self
                .last
                .is_none_or(|last| written.saturating_sub(last) <= LAG)
    }
}

/// How much of an increment to take: up to the first command behind `time`, or up to the last whole
/// one. `None`: it has commands that carry no time.
fn measure(mut reader: impl BufRead, time: i64) -> std::io::Result<Option<Measured>> {
    let (mut at, mut last) = (0_u64, None);
    let taken = |length, cut, last| Ok(Some(Measured { length, cut, last }));
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader
            .by_ref()
            .take(64 * 1024)
            .read_until(b'\n', &mut line)?;
        let mut end = at + read as u64;
        if !line.ends_with(b"\n") {
            return taken(at, false, last);
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if let Some(stamp) = text.strip_prefix("#TS:") {
            match stamp.parse::<i64>() {
                Ok(stamp) if stamp > time => return taken(at, true, last),
                Ok(stamp) => last = Some(stamp),
                Err(_) => return Ok(None),
            }
        } else if let Some(count) = text.strip_prefix('*').and_then(|it| it.parse::<u64>().ok()) {
            if last.is_none() {
                return Ok(None);
            }
            match words(&mut reader, count)? {
                Some(length) => end += length,
                None => return taken(at, false, last),
            }
        } else if !text.starts_with('#') {
            return Ok(None);
        }
        at = end;
    }
}

/// Reads the words of a command; how many bytes they are, or `None` where it breaks off.
fn words(reader: &mut impl BufRead, count: u64) -> std::io::Result<Option<u64>> {
    let mut all = 0;
    for _ in 0..count {
        let mut line = Vec::new();
        all += reader.by_ref().take(64).read_until(b'\n', &mut line)? as u64;
        let length = line
            .strip_prefix(b"$")
            .and_then(|it| it.strip_suffix(b"\r\n"))
            .and_then(|it| std::str::from_utf8(it).ok()?.parse::<u64>().ok());
        let Some(length) = length else {
            return Ok(None);
        };
        let Some(wanted) = length.checked_add(2) else {
            return Ok(None);
        };
        let passed = std::io::copy(&mut reader.by_ref().take(wanted), &mut std::io::sink())?;
        if passed != wanted {
            return Ok(None);
        }
        all += wanted;
    }
    Ok(Some(all))
}

#[cfg(test)]
mod tests {
    use super::measure;

    #[test]
    fn it_is_cut_at_the_first_command_behind_the_moment() {
        let one = "#TS:100\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$9\r\n#TS:1\r\n12\r\n";
        let two = "#TS:200\r\n*2\r\n$3\r\nDEL\r\n$1\r\na\r\n";
        let both = format!("{one}{two}");
        let of = |text: &str, time| {
            let measured = measure(text.as_bytes(), time).unwrap();
            measured.map(|it| (it.length, it.cut))
        };
        assert_eq!(of(&both, 150), Some((one.len() as u64, true)));
        assert_eq!(of(&both, 200), Some((both.len() as u64, false)));
        assert_eq!(of(&both, 99), Some((0, true)));
        // The end of a command that is being written is not there yet.
        let torn = &both[..both.len() - 3];
        assert_eq!(of(torn, 300), Some(((one.len() + 9) as u64, false)));
        // Without timestamps nothing is known.
        assert_eq!(of(&two[9..], 300), None);
        assert_eq!(of("", 300), Some((0, false)));
    }

    #[test]
    fn a_file_that_was_written_long_after_its_last_timestamp_tells_no_time() {
        let text = "#TS:100\r\n*2\r\n$3\r\nDEL\r\n$1\r\na\r\n";
        let all = measure(text.as_bytes(), 200).unwrap().unwrap();
        assert_eq!((all.cut, all.last), (false, Some(100)));
        // Timestamps were turned off, and commands went on: of before the moment, or of after it?
        assert!(all.is_of_time(100, 200) && all.is_of_time(200, 200));
        assert!(!all.is_of_time(201, 200));
        let late = measure(text.as_bytes(), 100).unwrap().unwrap();
        assert!(late.is_of_time(103, 100));
        // What is cut off does not matter, nor does a file without a command.
        assert!(
            measure(text.as_bytes(), 99)
                .unwrap()
                .unwrap()
                .is_of_time(900, 99)
        );
        assert!(measure(&b""[..], 99).unwrap().unwrap().is_of_time(900, 99));
    }
}
