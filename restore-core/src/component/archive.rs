//! What the components that are restored from one archive share.

use std::path::PathBuf;

use serde_json::Value;

use super::{BackedUp, CheckOutcome, Inspection, SpaceNeed};
use crate::backup::{Backup, BackupWriter, expand_pattern};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::Finding;
use crate::platform::{SwapState, Volume};
use crate::run::RunContext;
use crate::stream::{PackPolicy, UnpackPolicy, Unpacked};

/// The one archive of the backup that fits the first pattern that fits any; the error names
/// every name that was looked for.
pub(super) fn find(backup: &Backup, patterns: &[String]) -> Result<String> {
    let mut found = backup.find(patterns);
    match (found.len(), found.pop()) {
        (1, Some(path)) => Ok(path),
        (0, _) | (_, None) => {
            let tried: Vec<String> = patterns
                .iter()
                .map(|pattern| expand_pattern(pattern, backup.id()))
                .collect();
            Err(Error::new(
                ErrorKind::Preflight,
                "archive.missing",
                format!("backup {} has no {}", backup.id(), tried.join(" and no ")),
            )
            .hint("restore without this component (--only), choose another backup, or set `archive` if its file has another name"))
        }
        (_, Some(path)) => {
            found.push(path);
            Err(Error::new(
                ErrorKind::Config,
                "archive.ambiguous",
                format!(
                    "backup {} has several files that fit: {}",
                    backup.id(),
                    found.join(", ")
                ),
            )
            .hint("make the pattern in `archive` fit one of them only"))
        }
    }
}

/// Fills in what an archive costs to stage into a volume.
pub(super) async fn weigh(
    cx: &RunContext,
    archive: &str,
    volume: &dyn Volume,
    inspection: &mut Inspection,
) -> Result<()> {
    let size = cx.backup().file(archive).map_or(0, |file| file.size);
    inspection.artifacts = vec![archive.to_owned()];
    inspection.read_bytes = size;
    let unpacked = match cx.backup().local_path(archive) {
        Some(path) => {
            let estimate =
                tokio::task::spawn_blocking(move || crate::stream::estimate_unpacked(&path)).await;
            match estimate {
                Ok(Ok(bytes)) => bytes,
                // Whatever is wrong with the file, verification says it better.
                Ok(Err(_)) | Err(_) => size,
            }
        }
        None => size,
    };
    inspection.needs.push(SpaceNeed {
        space: volume.free_space().await?,
        bytes: unpacked.max(size),
        // How many members there are is not known before the archive is read.
        inodes: 4,
    });
    Ok(())
}

/// What is never packed besides run folders: pages of the maintenance mode.
pub(super) fn never_packed() -> String {
    format!("**/{}", crate::maintenance::FILE_NAME)
}

/// Packs a volume or a tree into the archive that a restore will look for first. `name` is what
/// its members are named below, `restore` how they will be unpacked.
pub(super) async fn back_up(
    writer: &BackupWriter,
    patterns: &[String],
    volume: &dyn Volume,
    (name, except): (&str, Vec<String>),
    restore: UnpackPolicy,
) -> Result<BackedUp> {
    let (path, compression) = writer.archive(patterns)?;
    let total = volume.measure(&except).await?.map(|there| there.bytes);
    let mut policy = PackPolicy::new(name, compression);
    policy.except = except;
    policy.restore = restore;
    let sink = writer.artifact(&path).await?.into_sink();
    let progress = writer.progress("pack", total);
    let cancel = writer.cancelled().clone();
    let packed = volume.pack(policy, sink, progress, cancel).await?;
    writer.register(&path, packed.written);
    Ok(BackedUp {
        facts: packed.facts(),
        findings: packed.findings,
    })
}

/// Where something at the top of a volume is, for people.
pub(super) fn in_volume(volume: &dyn Volume, name: &str) -> String {
    match volume.path() {
        Some(root) => root.join(name).display().to_string(),
        None => format!("{}, in {name}", volume.describe()),
    }
}

/// Other runs' folders on a volume: each is a way back that nobody has given up yet.
pub(super) async fn other_runs(cx: &RunContext, volume: &dyn Volume, findings: &mut Vec<Finding>) {
    let own = cx.run().folder();
    let Ok(names) = volume.run_folders().await else {
        return;
    };
    for name in names {
        if name == own {
            continue;
        }
        let run = name.trim_start_matches(".restore-");
        findings.push(
            Finding::info(
                "volume.other_run",
                in_volume(volume, &name),
                format!("run {run} keeps data there, which takes up room and stays where it is"),
            )
            .hint(format!("`restore confirm {run}` deletes it")),
        );
    }
}

/// The counts of an unpacked archive as facts.
pub(super) fn facts(unpacked: &Unpacked) -> serde_json::Map<String, Value> {
    [
        ("files", unpacked.files),
        ("directories", unpacked.directories),
        ("links", unpacked.links),
        ("bytes", unpacked.bytes),
        ("left_out", unpacked.left_out),
    ]
    .into_iter()
    .map(|(key, count)| (key.to_owned(), Value::from(count)))
    .collect()
}

/// Whether what was staged is live, told from the swap's own list.
///
/// Services are up by now and change their data, so a file that went since is said and not
/// held against the restore (stale locks and sockets go at a start); a directory that went is.
pub(super) async fn check_swapped(
    cx: &RunContext,
    name: &str,
    volume: &dyn Volume,
) -> Result<CheckOutcome> {
    let check = format!("{name}/content");
    if volume.state(cx.run()).await? != SwapState::Swapped {
        return Ok(CheckOutcome::new(
            check,
            false,
            format!("what was staged is not live in {}", volume.describe()),
        ));
    }
    let live = volume.compare(cx.run()).await?;
    let bytes = cx.recall("staged").and_then(|staged| {
        Some((
            staged.get("files")?.as_u64()?,
            staged.get("bytes")?.as_u64()?,
        ))
    });
    let mut detail = match bytes {
        Some((files, bytes)) => format!(
            "{} of {} swapped entries live ({files} files, {bytes} bytes staged)",
            live.present, live.swapped
        ),
        None => format!("{} of {} swapped entries live", live.present, live.swapped),
    };
    if !live.gone.is_empty() {
        detail.push_str("; gone since: ");
        detail.push_str(&live.gone.join(", "));
    }
    let passed = live.directories_gone == 0 && (live.present > 0 || live.swapped == 0);
    Ok(CheckOutcome::new(check, passed, detail))
}

/// The facts that frame one cut-over: written before its first effect, and after its undo. A run
/// that is cut over again after an undo has a pair for each.
fn frame(cx: &RunContext) -> (String, String) {
    let key = |word: &str, n: u32| match n {
        0 => word.to_owned(),
        n => format!("{word}_{}", n.saturating_add(1)),
    };
    let mut n = 0_u32;
    while n < u32::MAX && cx.recall(&key("undone", n)).is_some() {
        n += 1;
    }
    (key("cutting", n), key("undone", n))
}

/// Notes that a cut-over begins, before it changes anything.
pub(super) async fn note_cutting(cx: &RunContext) -> Result<()> {
    cx.record(&frame(cx).0, true).await
}

/// Notes that what was begun is taken back wholly; nothing where nothing was begun.
pub(super) async fn note_undone(cx: &RunContext) -> Result<()> {
    let (cutting, undone) = frame(cx);
    if cx.recall(&cutting).is_none() {
        return Ok(());
    }
    cx.record(&undone, true).await
}

/// Refuses to take nothing for undone: a cut-over was begun, so the run's folder must be there.
/// Where it is not (`volume` is `None`: not even the directory is), its disk may not be mounted.
pub(super) async fn ensure_mounted(
    cx: &RunContext,
    volume: Option<&dyn Volume>,
    place: &str,
) -> Result<()> {
    if cx.recall("staged").is_none() || cx.recall(&frame(cx).0).is_none() {
        return Ok(());
    }
    if let Some(volume) = volume
        && volume.state(cx.run()).await? != SwapState::Nothing
    {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Failed,
        "volume.run_folder_missing",
        format!("nothing of this run is found in {place}: is its disk mounted?"),
    )
    .hint(format!(
        "mount it and try again: {} in it holds what was replaced (a confirmed run has deleted that, and there is no way back)",
        cx.run().folder()
    )))
}

/// Where the run keeps what it replaced; `None` where it replaced nothing.
pub(super) async fn replaced_at(cx: &RunContext, volume: &dyn Volume) -> Result<Option<String>> {
    Ok(match volume.state(cx.run()).await? {
        SwapState::Swapped | SwapState::Swapping => Some(volume.replaced_at(cx.run())),
        SwapState::Nothing | SwapState::Staged => None,
    })
}

/// The owner of a directory.
pub(super) async fn owner(path: PathBuf) -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    tokio::fs::metadata(path)
        .await
        .ok()
        .map(|meta| (meta.uid(), meta.gid()))
}
