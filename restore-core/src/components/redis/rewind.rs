//! Back to a moment along the live append-only file, where it carries timestamps
//! (`aof-timestamp-enabled`): what was written after the moment is cut off a copy of it.
//!
//! A command is of the time of the timestamp before it. Where the server has stopped to write them
//! that would be a lie: so it must write them now, and where commands are taken up to a file's end,
//! its last timestamp must be of when it was written last. That they were off for a while and are
//! on again cannot be seen.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::data::{DataLayout, Mode};
use super::rdb_timestamp::created;
use crate::model::{Error, ErrorKind, Result, Timestamp};
use crate::swap::Dir;
use crate::sys::{open_beneath, open_file};

/// No manifest is longer.
const LONGEST: u64 = 1 << 20;

/// How much later than its last timestamp a file may have been written, in seconds: the server
/// waits that long for a disk that is busy.
const LAG: i64 = 5;

/// What the way back takes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct AofRecovery {
    /// The moment to go back to.
    pub(super) time: Timestamp,
    /// Whether the server writes timestamps now; `None` where it does not say.
    pub(super) timestamps: Option<bool>,
}

/// The files that lead to a moment, each with the length to take of it.
pub(super) struct AofPrefix {
    /// The server's directory of them, whose entries are its user's.
    dir: OwnedFd,
    shown: PathBuf,
    /// The manifest's lines for them.
    manifest: String,
    files: Vec<(String, u64)>,
}

impl AofPrefix {
    /// Bytes to copy.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, length)| length).sum()
    }
}

/// The way along the live files below `root`; `None`: they do not lead there.
pub(super) async fn find(
    root: &Path,
    layout: &DataLayout,
    rewind: AofRecovery,
) -> Result<Option<AofPrefix>> {
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

fn look(root: &Path, layout: &DataLayout, time: i64) -> std::io::Result<Option<AofPrefix>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let live = rustix::fs::open(root, flags, rustix::fs::Mode::empty())?;
    let name = Path::new(&layout.appenddirname);
    let dir = match open_beneath(live.as_fd(), name, flags) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let mut manifest = String::new();
    match open_file(dir.as_fd(), Path::new(&layout.manifest())) {
        Ok(file) => file.take(LONGEST).read_to_string(&mut manifest)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut way = AofPrefix {
        dir,
        shown: root.join(name),
        manifest: String::new(),
        files: Vec::new(),
    };
    for line in manifest.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["file", name, "seq", _, "type", kind] = words.as_slice() else {
            return Ok(None);
        };
        let open = || open_file(way.dir.as_fd(), Path::new(name));
        match *kind {
            "b" => {
                let mut head = Vec::new();
                let file = open()?;
                let length = file.metadata()?.len();
                file.take(1024).read_to_end(&mut head)?;
                // An earlier moment than the base's is not in it any more.
                let Some(made) = created(&head) else {
                    return Ok(None);
                };
                if made.seconds() > time {
                    return Ok(None);
                }
                way.take(line, name, length);
            }
            "i" => {
                let file = open()?;
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

impl AofPrefix {
    fn take(&mut self, line: &str, name: &str, length: u64) {
        self.manifest += line;
        self.manifest.push('\n');
        self.files.push((name.to_owned(), length));
    }

    /// Copies the files into `work`, for `owner`.
    pub(super) async fn copy(
        self,
        work: Dir,
        layout: &DataLayout,
        owner: Option<(u32, u32)>,
    ) -> Result<()> {
        let name = layout.manifest();
        super::blocking(move || {
            for (file, length) in &self.files {
                let from = self.shown.join(file);
                let mut target = work.create(file)?;
                let copied = open_file(self.dir.as_fd(), Path::new(file))
                    .and_then(|source| std::io::copy(&mut source.take(*length), &mut target));
                match copied {
                    Ok(bytes) if bytes == *length => work.give(file, owner, 0o640, 1)?,
                    Ok(_) => return Err(changed()),
                    // A rewrite has ended in between and removed it.
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(changed()),
                    Err(e) => return Err(Error::io(format!("copy {}", from.display()), e)),
                }
            }
            work.put(&name, self.manifest.as_bytes(), 0o640, owner)
        })
        .await
    }
}

pub(super) fn changed() -> Error {
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

/// For `fuzz/`: foreign bytes, in pieces and whole.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(bytes: &[u8]) {
    if let Ok(Some(measured)) = measure(bytes, 1_700_000_000) {
        assert!(measured.length <= bytes.len() as u64);
    }
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
