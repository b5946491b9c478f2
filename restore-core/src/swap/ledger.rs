//! Where the list of a swap is kept, and why what is read there is believed.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::dir::{Dir, Inode};
use super::record::{RECORD, SwapRecord};
use super::{REPLACED, STAGED};
use crate::model::{Error, ErrorKind, Result, RunId};

/// Where the lists of a volume's swaps are kept. Whoever can write in the volume must not be able
/// to write one that is believed: its moves are made as root.
#[derive(Clone, Debug)]
pub(crate) enum Records {
    /// In a directory for our eyes alone.
    In(PathBuf),
    /// In the folder of the run, beside the data. With a key only a list that was sealed with it
    /// is believed, otherwise one that nobody but us (and root) can have written.
    Beside(Option<RecordKey>),
}

impl Records {
    /// Whether a list is believed whoever the folder of the run belongs to.
    fn apart(&self) -> bool {
        !matches!(self, Self::Beside(None))
    }

    /// The directory, and what tells this volume from others in it; it is made where it is missing,
    /// if `make` says so.
    pub(crate) fn apart_in(&self, root: &Path, make: bool) -> Result<Option<(Dir, String)>> {
        let Self::In(directory) = self else {
            return Ok(None);
        };
        let fd = crate::sys::private::open_directory(directory, make)?;
        Ok(fd.map(|fd| (Dir::of(fd, directory.clone()), name_of(root))))
    }
}

/// The volume in the names of its files.
fn name_of(root: &Path) -> String {
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    let hash = Sha256::digest(root.as_os_str().as_bytes());
    hexadecimal(hash.get(..8).unwrap_or_default())
}

/// What lists are sealed with that lie beside the data of another machine.
#[derive(Clone)]
pub(crate) struct RecordKey(Arc<[u8; 32]>);

impl RecordKey {
    /// The key of these bytes.
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(Arc::new(bytes))
    }

    /// A key of its own for a run, of which this one cannot be told.
    pub(crate) fn of_run(&self, run: &RunId) -> Self {
        Self::new(self.code(&[b"restore run ", run.as_str().as_bytes()]))
    }

    /// In hexadecimal digits.
    pub(crate) fn digits(&self) -> String {
        hexadecimal(&*self.0)
    }

    /// The key of such digits.
    pub(crate) fn of_digits(digits: &str) -> Option<Self> {
        bytes_of(digits.as_bytes()).map(Self::new)
    }

    /// The key of a site, which is kept in `directory`; made where there is none, if `make` says so.
    pub(crate) fn of_site(directory: &Path, make: bool) -> Result<Option<Self>> {
        const NAME: &str = "key";
        let Some(fd) = crate::sys::private::open_directory(directory, make)? else {
            return Ok(None);
        };
        let place = Dir::of(fd, directory.to_owned());
        let read = || -> Result<Option<Self>> {
            let bytes = match place.read(NAME)? {
                Some((bytes, true)) => bytes,
                Some((_, false)) => return Err(not_ours(&place, NAME)),
                None => return Ok(None),
            };
            let bytes: [u8; 32] = bytes.try_into().map_err(|_| not_ours(&place, NAME))?;
            Ok(Some(Self::new(bytes)))
        };
        let known = read()?;
        if known.is_some() || !make {
            return Ok(known);
        }
        let bytes = crate::sys::random_bytes::<32>()?;
        // Of two that make one at the same time the first one's counts.
        place.write_new(NAME, &bytes)?;
        read()
    }

    fn code(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.mac(parts).finalize().into_bytes().into()
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        // A key that is shorter than a block is one that ends in zeros.
        let mut block = [0; 64];
        for (to, from) in block.iter_mut().zip(self.0.iter()) {
            *to = *from;
        }
        let mut mac = <Hmac<Sha256> as KeyInit>::new(&block.into());
        for part in parts {
            mac.update(part);
        }
        mac
    }

    /// The list with its seal, in hexadecimal digits on a line of its own.
    fn seal(&self, list: &[u8]) -> Vec<u8> {
        let code = self.code(&[SEALED, list]);
        let mut sealed = hexadecimal(&code).into_bytes();
        sealed.push(b'\n');
        sealed.extend_from_slice(list);
        sealed
    }

    /// The list, where the seal is this key's.
    fn open<'a>(&self, sealed: &'a [u8]) -> Option<&'a [u8]> {
        let (digits, list) = sealed.split_at_checked(64)?;
        let list = list.strip_prefix(b"\n")?;
        let code = bytes_of(digits)?;
        self.mac(&[SEALED, list]).verify_slice(&code).ok()?;
        Some(list)
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of(digits: &[u8]) -> Option<[u8; 32]> {
    let mut bytes = [0_u8; 32];
    let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 64 || !digits.iter().all(digit) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

const SEALED: &[u8] = b"restore swap record ";

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordKey(..)")
    }
}

/// What holds room back for an undo's list, besides the list.
fn reserve_of(name: &str) -> String {
    format!("{name}.reserve")
}

/// The list of one run on one volume.
pub(crate) struct Ledger {
    place: Dir,
    name: String,
    key: Option<RecordKey>,
    /// See [`Records::apart`].
    pub(crate) apart: bool,
    /// Whether it lies in the folder itself, and goes with it.
    in_folder: bool,
}

/// A run's folder that is known, and its list.
pub(crate) struct Found {
    pub(crate) folder: Dir,
    /// The name that somebody gave the folder, where it is not its own.
    pub(crate) renamed: Option<OsString>,
    pub(crate) record: SwapRecord,
    pub(crate) ledger: Ledger,
}

impl Ledger {
    /// That of a run on the volume in `root`, whose folder is `folder`.
    pub(crate) fn of(records: &Records, root: &Path, run: &RunId, folder: &Dir) -> Result<Self> {
        let (place, name) = match records.apart_in(root, true)? {
            Some((place, volume)) => (place, format!("{run}.{volume}.json")),
            None => (folder.again()?, RECORD.to_owned()),
        };
        let key = match records {
            Records::Beside(key) => key.clone(),
            Records::In(_) => None,
        };
        Ok(Self {
            place,
            name,
            key,
            apart: records.apart(),
            in_folder: !matches!(records, Records::In(_)),
        })
    }

    /// Replaces the list; durable once this returns.
    pub(crate) fn write(&self, record: &SwapRecord) -> Result<()> {
        let list = record.bytes()?;
        let bytes = match &self.key {
            Some(key) => key.seal(&list),
            None => list,
        };
        self.place.write(&self.name, &bytes)
    }

    /// Sets room aside for the undo's list, which names each entry once more.
    pub(crate) fn reserve(&self, record: &SwapRecord) -> Result<()> {
        let room = vec![0; record.bytes()?.len() * 3];
        self.place.write(&reserve_of(&self.name), &room)
    }

    /// Gives that room back.
    pub(crate) fn release(&self) -> Result<()> {
        self.place.unlink(Path::new(&reserve_of(&self.name)))
    }

    /// Whether it does not go with the folder.
    pub(crate) fn apart_from_folder(&self) -> bool {
        !self.in_folder
    }

    /// Forgets the list: nothing of the run is on the volume any more.
    pub(crate) fn forget(&self) -> Result<()> {
        self.release()?;
        self.place.unlink(Path::new(&self.name))?;
        self.place.sync()
    }

    /// The list; `None` where there is none.
    fn read(&self, folder: Option<&Dir>) -> Result<Option<SwapRecord>> {
        let Some((bytes, ours)) = self.place.read(&self.name)? else {
            return Ok(None);
        };
        let refused = || not_ours(&self.place, &self.name);
        let list = match &self.key {
            Some(key) => key.open(&bytes).ok_or_else(refused)?,
            None if !ours => return Err(refused()),
            // Then the folder is what stands between the list and everybody else.
            None if !self.apart && !folder.map_or(Ok(true), Dir::is_ours)? => {
                return Err(refused());
            }
            None => &bytes,
        };
        SwapRecord::parse(list, &self.place.show(Path::new(&self.name))).map(Some)
    }
}

/// What is known of a run on a volume, for work that moves or deletes: the run's folder gets its
/// name back where somebody gave it another, and another directory its own.
pub(crate) fn claim(
    records: &Records,
    root: &Path,
    live: &Dir,
    run: &RunId,
) -> Result<Option<Found>> {
    let folder = run.folder();
    for _ in 0..16 {
        match find(records, root, live, run)? {
            Some(Found {
                renamed: Some(other),
                ..
            }) => live.exchange(&other, &folder)?,
            found => return Ok(found),
        }
    }
    Err(Error::new(
        ErrorKind::Failed,
        "swap.folder_moved",
        format!(
            "{} is moved away again and again while it is looked for",
            live.show(Path::new(&folder))
        ),
    )
    .hint(
        "somebody who owns the volume works against this run: stop their processes and try again",
    ))
}

/// What is known of a run on a volume. `None`: nothing; whatever has the name of its folder is
/// nothing that we made. Changes nothing.
pub(crate) fn find(
    records: &Records,
    root: &Path,
    live: &Dir,
    run: &RunId,
) -> Result<Option<Found>> {
    let named = live.there(run.folder())?;
    if records.apart_in(root, false)?.is_some() {
        let ledger = Ledger::of(records, root, run, live)?;
        if let Some(record) = ledger.read(None)? {
            if !record.is_of(run) {
                return Err(not_ours(&ledger.place, &ledger.name));
            }
            let located = match record.folder() {
                Some(inode) => located(live, run, named, inode, record.staged_tree())?,
                None => named.map(|folder| (folder, None)),
            };
            return Ok(located.map(|(folder, renamed)| Found {
                folder,
                renamed,
                record,
                ledger,
            }));
        }
    }
    let Some(folder) = named else {
        return Ok(None);
    };
    if !folder.has(Path::new(RECORD))? {
        return unlisted(records, root, folder, run);
    }
    beside(records, root, folder, run).map(Some)
}

/// A folder of which there is no list. Version 0.1 wrote none before a swap began: what it staged
/// lies there, for our eyes alone, and nothing was moved aside.
fn unlisted(records: &Records, root: &Path, folder: Dir, run: &RunId) -> Result<Option<Found>> {
    let Some(staged) = folder.there(STAGED)? else {
        return Ok(None);
    };
    let is_empty = |name| folder.names(Path::new(name)).map(|names| names.is_empty());
    if !folder.is_private()? || is_empty(STAGED)? || !is_empty(REPLACED)? {
        return Ok(None);
    }
    let record = SwapRecord::staged(run, folder.inode()?, staged.inode()?);
    let ledger = Ledger::of(records, root, run, &folder)?;
    Ok(Some(Found {
        folder,
        renamed: None,
        record,
        ledger,
    }))
}

/// The list that lies in the folder itself: because it is kept there, or of version 0.1.
fn beside(records: &Records, root: &Path, folder: Dir, run: &RunId) -> Result<Found> {
    let ledger = Ledger::of(records, root, run, &folder)?;
    let legacy = Ledger {
        place: folder.again()?,
        name: RECORD.to_owned(),
        key: match records {
            Records::In(_) => None,
            Records::Beside(_) => ledger.key.clone(),
        },
        apart: false,
        in_folder: true,
    };
    let read = match legacy.read(Some(&folder)) {
        // What version 0.1 began has no seal, but only root can have written it.
        Err(_) if legacy.key.is_some() => {
            let plain = Ledger {
                place: folder.again()?,
                name: RECORD.to_owned(),
                key: None,
                apart: false,
                in_folder: true,
            };
            plain.read(Some(&folder))?.filter(SwapRecord::is_legacy)
        }
        other => other?,
    };
    let refused = || not_ours(&folder, RECORD);
    let mut record = read.ok_or_else(refused)?;
    let inode = folder.inode()?;
    if record.is_legacy() {
        record.adopt(
            run,
            inode,
            folder
                .sub(super::STAGED)?
                .map(|it| it.inode())
                .transpose()?,
        );
        ledger.write(&record)?;
    } else if matches!(records, Records::In(_))
        || !record.is_of(run)
        || record.folder().map(|it| it.inode) != Some(inode.inode)
    {
        return Err(refused());
    }
    Ok(Found {
        folder,
        renamed: None,
        record,
        ledger,
    })
}

/// The folder that the list was made for, and the name that it has if that is not its own: whoever
/// owns the volume can give it another name, and another directory its own.
///
/// File systems give a new directory the number of one that was deleted. So a directory of another
/// name is the folder only where the staged tree in it is that of the list, too.
fn located(
    live: &Dir,
    run: &RunId,
    named: Option<Dir>,
    folder: Inode,
    staged: Option<Inode>,
) -> Result<Option<(Dir, Option<OsString>)>> {
    if let Some(named) = named
        && named.inode()?.inode == folder.inode
    {
        return Ok(Some((named, None)));
    }
    let trash = format!("{}.trash", run.folder());
    let (Some(name), Some(staged)) = (live.name_of(folder, &trash)?, staged) else {
        return Ok(None);
    };
    let Some(place) = live.there(&name)? else {
        return Ok(None);
    };
    let inside = match place.there(STAGED)? {
        Some(inside) => Some(inside.inode()?.inode),
        None => None,
    };
    let is_it = place.inode()?.inode == folder.inode && inside == Some(staged.inode);
    Ok(is_it.then_some((place, Some(name))))
}

/// That what lies there is not believed.
pub(crate) fn not_ours(place: &Dir, name: &str) -> Error {
    Error::new(
        ErrorKind::Failed,
        "swap.not_ours",
        format!(
            "{} can have been written by somebody else, and is not believed: nothing is moved by it",
            place.show(Path::new(name))
        ),
    )
    .hint("if a run of restore 0.1 was not finished there, finish it with that version; otherwise look at the folder by hand: `replaced` in it has old entries, if any, and without them it may be deleted")
}
