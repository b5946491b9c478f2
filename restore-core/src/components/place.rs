//! The directory that a component works in, where it is absent and a run makes it.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::archive;
use crate::contract::{Inspection, Platform, RunContext, Volume};
use crate::model::{Error, ErrorKind, Finding, Result};
use crate::swap::FOLDER_PREFIX;
use crate::sys::absent::{AbsentDirectory, MadeDirectories, Missing, Stays};
use crate::sys::blocking::blocking;
use crate::sys::space::Space;

/// The fact which directories a run made, before they get their name; of a second attempt
/// `directories_2`.
const DIRECTORIES: &str = "directories";

/// So many attempts are kept apart.
const ATTEMPTS: u32 = 64;

fn key(attempt: u32) -> String {
    match attempt {
        0 => DIRECTORIES.to_owned(),
        n => format!("{DIRECTORIES}_{}", n.saturating_add(1)),
    }
}

/// What the run made or was about to make, attempt by attempt.
fn noted(cx: &RunContext) -> Result<Vec<MadeDirectories>> {
    let noted = (0..ATTEMPTS).map_while(|attempt| cx.recall(&key(attempt)));
    noted
        .map(|value| {
            serde_json::from_value(value).map_err(|e| {
                Error::new(
                    ErrorKind::Internal,
                    "create.fact",
                    format!(
                        "the journal's record of directories that were made cannot be read: {e}"
                    ),
                )
            })
        })
        .collect()
}

/// Whether the run had to make the component's directory.
pub(crate) fn was_made(cx: &RunContext) -> bool {
    cx.recall(DIRECTORIES).is_some()
}

/// What is missing of the way to a directory, looked at off the async threads.
pub(crate) async fn missing(at: &AbsentDirectory) -> Result<Option<Missing>> {
    let at = at.clone();
    blocking(move || at.missing()).await
}

/// In the words of plans and reports.
pub(crate) fn words(path: &std::path::Path) -> String {
    format!("directory {}", path.display())
}

/// Says in an inspection that a directory will be made, all of its way that is missing; the room
/// there is where it will be.
pub(crate) async fn announce(
    at: &AbsentDirectory,
    inspection: &mut Inspection,
) -> Result<Option<Space>> {
    let Some(missing) = missing(at).await? else {
        return Ok(None);
    };
    inspection.create_first = true;
    inspection
        .creates
        .extend(missing.paths.iter().map(|path| words(path)));
    blocking(move || Space::of(&missing.above)).await.map(Some)
}

/// Makes a directory that is absent, with what is missing of the way to it. `owner` is the last one's;
/// without one it belongs to whom the directory above belongs to.
pub(crate) async fn make(
    cx: &RunContext,
    at: &AbsentDirectory,
    owner: Option<(u32, u32)>,
) -> Result<()> {
    let noted = noted(cx)?;
    let attempt = u32::try_from(noted.len()).unwrap_or(ATTEMPTS);
    if attempt >= ATTEMPTS {
        return Err(Error::new(
            ErrorKind::Failed,
            "create.again_and_again",
            format!(
                "{} was made and is gone again and again",
                at.path().display()
            ),
        )
        .hint("see who deletes it; then `restore resume`, or `restore rollback`"));
    }
    let temporary = temporary(cx, at);
    let (place, owned) = (at.clone(), owner);
    let planned = cx.clone();
    let prepared = blocking(move || {
        for made in &noted {
            if made.is_there()? {
                return Ok(None);
            }
        }
        // Gone with the disk that it is on, it is not to be made on another.
        if let Some(last) = noted
            .last()
            .filter(|last| !last.is_reachable().unwrap_or(false))
        {
            return Err(unreachable(last.path()));
        }
        ensure_planned(&planned, &place)?;
        place.prepare(&temporary, owned)
    })
    .await?;
    let Some(prepared) = prepared else {
        return ensure_ours(cx).await;
    };
    let fact = serde_json::to_value(&prepared.made).unwrap_or(Value::Null);
    cx.record(&key(attempt), fact).await?;
    for path in prepared.made.paths() {
        cx.record_made(&words(path)).await?;
    }
    blocking(move || prepared.put_in_place()).await
}

/// Refuses where more is missing of the way to a directory than when the run was planned: what was
/// there then may be on a disk that is not mounted, and is not made on another one.
fn ensure_planned(cx: &RunContext, at: &AbsentDirectory) -> Result<()> {
    let Some(missing) = at.missing()? else {
        return Ok(());
    };
    let mut paths = missing.paths.iter();
    match paths.find(|path| !cx.was_absent(&words(path))) {
        Some(gone) => Err(Error::new(
            ErrorKind::Failed,
            "create.gone_since",
            format!(
                "{} was there when the run was planned, and is gone: it is not made anew",
                gone.display()
            ),
        )
        .hint("is its disk mounted? mount it, then `restore resume`; if it is really gone, `restore rollback`, and plan again")),
        None => Ok(()),
    }
}

/// A name beside the directory that no other component of the run has.
fn temporary(cx: &RunContext, at: &AbsentDirectory) -> String {
    use sha2::{Digest as _, Sha256};
    use std::os::unix::ffi::OsStrExt;
    let digest = Sha256::digest(at.path().as_os_str().as_bytes());
    let short: String = digest
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{FOLDER_PREFIX}{}.new-{short}", cx.run())
}

/// Removes what [`make`] made, as far as nobody has put anything into it; what stays is told. `at` is
/// where the directory would be, if it is absent now: what was being made beside it goes as well.
pub(crate) async fn remove(cx: &RunContext, at: Option<AbsentDirectory>) -> Result<()> {
    if let Some(at) = at {
        let temporary = temporary(cx, &at);
        blocking(move || at.forget(&temporary)).await?;
    }
    for made in noted(cx)?.into_iter().rev() {
        let gone = made.clone();
        let (stays, left) = blocking(move || {
            if !gone.is_reachable()? {
                return Err(unreachable(gone.path()));
            }
            Ok((gone.remove()?, gone.left()?))
        })
        .await?;
        for path in made.paths() {
            if !left.contains(path) {
                cx.record_removed(&words(path)).await;
            }
        }
        let finding = match stays {
            None => continue,
            Some(Stays::Used(path)) => Finding::warning(
                "create.in_use",
                cx.component(),
                format!(
                    "{}, which was absent before the run, stays: something is in it by now",
                    path.display()
                ),
            )
            .hint("look at what that is; delete the directory by hand if nothing needs it"),
            Some(Stays::Foreign(path)) => Finding::warning(
                "create.not_ours",
                cx.component(),
                format!(
                    "{} is not what the run made there any more, and is left alone",
                    path.display()
                ),
            )
            .hint("somebody has put it there since; the run's own is gone"),
        };
        cx.notice(finding);
    }
    Ok(())
}

/// Refuses to work in what has the place of a directory that the run made and is not that: whoever put
/// it there uses it, and an undo would take all of it for the run's own.
pub(crate) async fn ensure_ours(cx: &RunContext) -> Result<()> {
    let noted = noted(cx)?;
    let Some(last) = noted.last().cloned() else {
        return Ok(());
    };
    let path = last.path().to_owned();
    let (ours, reachable) = blocking(move || {
        let mut ours = false;
        for made in &noted {
            ours |= made.is_there()?;
        }
        Ok((ours, last.is_reachable()?))
    })
    .await?;
    match (ours, reachable) {
        (true, _) => Ok(()),
        (false, false) => Err(unreachable(&path)),
        (false, true) => Err(Error::new(
            ErrorKind::Failed,
            "create.taken",
            format!(
                "{} is not the directory that the run made there: somebody has put it there since",
                path.display()
            ),
        )
        .hint("move it away, then `restore resume`; or `restore rollback`, which leaves it alone, and plan again")),
    }
}

/// Refuses to take a directory that the run made for gone where what it was made in is gone as well,
/// or something is mounted over it: then its disk may not be mounted.
pub(crate) async fn ensure_reachable(cx: &RunContext) -> Result<()> {
    let Some(made) = noted(cx)?.pop() else {
        return Ok(());
    };
    let path = made.path().to_owned();
    match blocking(move || made.is_reachable()).await? {
        true => Ok(()),
        false => Err(unreachable(&path)),
    }
}

fn unreachable(path: &Path) -> Error {
    Error::new(
        ErrorKind::Failed,
        "create.unreachable",
        format!(
            "{}, which this run has made, cannot be looked for: the directory above it is another one than then, or something is mounted over it",
            path.display()
        ),
    )
    .hint("is its disk mounted? mount it and try again")
}

/// A volume that a component works on; `None` where it is absent and the run had to make it: then that
/// is how it was before.
pub(crate) async fn still_there(
    cx: &RunContext,
    volume: Result<Arc<dyn Volume>>,
) -> Result<Option<Arc<dyn Volume>>> {
    match volume {
        Err(error) if error.kind() == ErrorKind::NotFound && was_made(cx) => {
            ensure_reachable(cx).await?;
            Ok(None)
        }
        found => found.map(Some),
    }
}

/// Refuses where what the run put aside in a volume is not there as it was left: see
/// [`Component::as_left`](crate::contract::Component::as_left).
pub(crate) async fn ensure_left(
    cx: &RunContext,
    volume: Result<Arc<dyn Volume>>,
    name: &str,
) -> Result<()> {
    let volume = still_there(cx, volume).await?;
    match (&volume, cx.cut_over().is_begun()) {
        // It replaced nothing.
        (None, true) => Ok(()),
        (volume, _) => {
            let place = match volume {
                Some(volume) => volume.describe(),
                None => format!("volume {name}"),
            };
            archive::ensure_left(cx, volume.as_deref(), &place).await
        }
    }
}

/// Makes a volume of the site that is absent.
pub(crate) async fn make_volume(
    cx: &RunContext,
    platform: &dyn Platform,
    name: &str,
    owner: Option<(u32, u32)>,
) -> Result<()> {
    match platform.absent_volume(name).await? {
        Some(at) => make(cx, &at, owner).await,
        None => Ok(()),
    }
}

/// Where a volume of the site is or would be, as far as it is on this host.
pub(crate) async fn path_of(
    platform: &dyn Platform,
    name: &str,
) -> Result<Option<std::path::PathBuf>> {
    match platform.absent_volume(name).await? {
        Some(at) => Ok(Some(at.path().to_owned())),
        None => Ok(platform.volume(name).await?.path()),
    }
}

/// Where a volume of the site is on another machine, with that machine's name, where that is known.
pub(crate) async fn path_elsewhere(
    platform: &dyn Platform,
    name: &str,
) -> Result<Option<(String, std::path::PathBuf)>> {
    match platform.nodes().is_some() {
        true => Ok(platform.volume(name).await?.path_elsewhere()),
        false => Ok(None),
    }
}
