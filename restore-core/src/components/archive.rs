//! What the components that are restored from one archive share.

use std::path::PathBuf;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::archive::{
    Damaged, Digest, Limit, Measured, PackPolicy, Source, UnpackPolicy, Unpacked, estimate_most,
    estimate_source, is_compressed, walk,
};
use crate::components::far_less::{FEW, SMALL, far_less};
use crate::contract::{
    BackedUp, Backup, BackupWriter, CutOver, Inspection, KeptByRun, NeedsAWord, RunContext,
    SpaceNeed, Volume, expand_pattern,
};
use crate::model::text::bytes;
use crate::model::{CheckOutcome, Error, ErrorKind, Finding, Progress, Result};
use crate::swap::scope::SwapState;
use crate::sys::blocking::blocking;
use crate::sys::read_small_from;
use crate::sys::space::Space;

/// The one archive of the backup that fits the first of the component's patterns that fits any; the
/// error names every name that was looked for.
pub(crate) fn find(backup: &Backup, component: &str, patterns: &[String]) -> Result<String> {
    let mut found = backup.find_of(component, patterns);
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

/// That far less is restored of `(component, archive)` than is `live` now, in bytes or in entries.
pub(crate) fn far_smaller(
    (component, archive): (&str, &str),
    unpacked: &Unpacked,
    live: Measured,
) -> Option<Finding> {
    let counts = [unpacked.files, unpacked.directories, unpacked.links];
    let entries = counts.into_iter().fold(0, u64::saturating_add);
    if !far_less(unpacked.bytes, live.bytes, SMALL) && !far_less(entries, live.entries, FEW) {
        return None;
    }
    let message = format!(
        "{archive} holds {} in {entries} files and directories, and {} in {} are live now",
        bytes(unpacked.bytes),
        bytes(live.bytes),
        live.entries
    );
    Some(Finding::warning("volume.far_smaller", component, message).asking())
}

/// Whether there is anything that nobody would want to be replaced by nothing. Directories alone, such as
/// a new file system has, are not.
pub(crate) const fn is_something(live: Measured) -> bool {
    live.bytes > 0 || live.entries >= FEW
}

/// Refuses to put the nothing that `archive` holds in the place of what is live, unless somebody said so.
/// `place`: what `(component, archive)` is restored to.
pub(crate) fn refuse_nothing(
    cx: &RunContext,
    (component, archive): (&str, &str),
    place: &str,
    live: Measured,
) -> Result<()> {
    if cx.allows_empty() || !is_something(live) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Preflight,
        "volume.empty_archive",
        format!(
            "{archive} holds no file, and {place} has {} in {} files and directories",
            bytes(live.bytes),
            live.entries
        ),
    )
    .because(NeedsAWord)
    .hint(format!(
        "choose another backup; --allow-empty {component} puts it in the place of the live data"
    )))
}

/// An archive that is no larger is read for its plan: one of directories alone is small.
const LOOKED_INTO: u64 = 16 << 10;

/// No archive that has a member is so small, however it is compressed.
const NOTHING: u64 = 64;

/// Whether a plan sees that nothing would be restored of an archive. What is wrong with it otherwise is
/// left to the verification and to the staging to say.
///
/// # Errors
///
/// That it is no archive at all, but the compressed form of nothing, and was made so.
pub(crate) async fn restores_nothing(
    cx: &RunContext,
    archive: &str,
    mut policy: UnpackPolicy,
) -> Result<bool> {
    let size = cx.backup().file(archive).map_or(u64::MAX, |file| file.size);
    if size > LOOKED_INTO {
        return Ok(false);
    }
    let Ok(source) = cx.source(archive) else {
        return Ok(false);
    };
    // Only whether there is anything is asked.
    policy.any_links = true;
    policy.set_uid = true;
    policy.reader = None;
    match walk(source.clone(), &policy, Progress::hidden()).await {
        Ok(read) => Ok(read.files.saturating_add(read.links) == 0),
        Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
        Err(error) if error.is(&Damaged) && size <= NOTHING => {
            let Some(content) = content_of_nothing(source).await else {
                return Ok(false);
            };
            let is_nothing = content.is_empty() || is_compressed(&content);
            let found = Digest(Sha256::digest(&content).into());
            let expected = cx.backup().expected_digest(archive);
            match is_nothing && expected.is_none_or(|it| it == found) {
                true => Err(error),
                false => Ok(false),
            }
        }
        Err(_) => Ok(false),
    }
}

/// The content of a file that is no larger than [`NOTHING`]; `None` where it is another one by now. Others may
/// write to the store: a pipe there, a device or a link is not read.
async fn content_of_nothing(source: Source) -> Option<Vec<u8>> {
    let read = blocking(move || {
        let content = source
            .open()
            .and_then(|file| read_small_from(file, NOTHING));
        content.map_err(|error| Error::io(format!("read {}", source.label()), error))
    });
    read.await.ok()
}

/// Makes of what a look into an archive came to a finding of the plan.
pub(crate) fn tell(looked: Result<()>, component: &str, inspection: &mut Inspection) -> Result<()> {
    match looked {
        Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
        Err(error) => inspection
            .findings
            .push(Finding::from_error(component, &error)),
        Ok(()) => {}
    }
    Ok(())
}

/// About how much more of a disk a file takes up than its content.
const BLOCK: u64 = 4096;

/// Fills in what an archive costs to stage where there is this much room.
pub(crate) async fn weigh(
    cx: &RunContext,
    archive: &str,
    space: Space,
    inspection: &mut Inspection,
) -> Result<()> {
    let size = cx.backup().file(archive).map_or(0, |file| file.size);
    inspection.artifacts = vec![archive.to_owned()];
    inspection.read_bytes = size;
    let (bytes, members) = match expected(cx, archive).await {
        Expected::Described { bytes, members } => (bytes, members),
        Expected::Guessed { bytes } => (bytes, 0),
    };
    inspection.needs.push(SpaceNeed {
        space,
        bytes,
        // How many members there are is not known before the archive is read, unless it was said.
        inodes: members.saturating_add(4),
    });
    Ok(())
}

/// What an archive takes up once it is unpacked.
enum Expected {
    /// As the backup says.
    Described { bytes: u64, members: u64 },
    /// As the size of its file makes likely.
    Guessed { bytes: u64 },
}

async fn expected(cx: &RunContext, archive: &str) -> Expected {
    let described = cx.backup().described(archive).await.ok().flatten();
    let described = described.as_ref();
    let fact = |key: &str| described.and_then(|facts| facts.get(key)?.as_u64());
    let members = ["files", "directories", "links"].map(|key| fact(key).unwrap_or(0));
    let members = members.into_iter().fold(0, u64::saturating_add);
    match fact("bytes") {
        // Each file and directory takes up whole blocks.
        Some(bytes) => Expected::Described {
            bytes: bytes.saturating_add(members.saturating_mul(BLOCK)),
            members,
        },
        None => Expected::Guessed {
            bytes: guessed(cx, archive).await,
        },
    }
}

/// About as much as a file of the backup unpacks to, by its size and its first bytes.
pub(crate) async fn guessed(cx: &RunContext, archive: &str) -> u64 {
    guess(cx, archive, estimate_source).await
}

/// The most that a file of the backup may unpack to, however unlikely: no more is refused than that.
async fn guessed_most(cx: &RunContext, archive: &str) -> u64 {
    guess(cx, archive, estimate_most).await
}

async fn guess(cx: &RunContext, archive: &str, of: fn(&Source) -> Result<u64>) -> u64 {
    let size = cx.backup().file(archive).map_or(0, |file| file.size);
    let Ok(source) = cx.backup().source(archive) else {
        return size;
    };
    match tokio::task::spawn_blocking(move || of(&source)).await {
        Ok(Ok(bytes)) => bytes.max(size),
        // Whatever is wrong with the file, verification says it better.
        Ok(Err(_)) | Err(_) => size,
    }
}

/// The key of a component that says how much may come where more was not planned.
pub(crate) fn key(component: &str) -> String {
    format!("`max_bytes` of [components.{component}]")
}

/// How much an archive may unpack to for a component whose section says nothing about that: what
/// its plan told, and a margin.
pub(crate) async fn limit(cx: &RunContext, component: &str, archive: &str) -> Limit {
    let key = key(component);
    match expected(cx, archive).await {
        Expected::Described { bytes, members } => {
            let limit = Limit::described(bytes, &key);
            match members {
                0 => limit,
                members => limit.with_members(members),
            }
        }
        Expected::Guessed { .. } => Limit::guessed(guessed_most(cx, archive).await, &key),
    }
}

/// The limit of a file that is no archive of ours: what the site says, or what its size makes
/// likely.
pub(crate) async fn file_limit(
    cx: &RunContext,
    component: &str,
    (file, max_bytes): (&str, u64),
) -> Limit {
    let key = key(component);
    match max_bytes {
        0 => Limit::guessed(guessed_most(cx, file).await, &key),
        most => Limit::of_site(most, &key),
    }
}

/// What is never packed besides run folders: pages of the maintenance mode.
pub(crate) fn never_packed() -> String {
    format!("**/{}", crate::model::FILE_NAME)
}

/// Packs a volume or a tree into the archive that a restore will look for first. `name` is what
/// its members are named below, `restore` how they will be unpacked.
pub(crate) async fn back_up(
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
pub(crate) fn in_volume(volume: &dyn Volume, name: &str) -> String {
    match volume.path() {
        Some(root) => root.join(name).display().to_string(),
        None => format!("{}, in {name}", volume.describe()),
    }
}

/// Other runs' folders on a volume: each is a way back that nobody has given up yet.
pub(crate) async fn other_runs(cx: &RunContext, volume: &dyn Volume, findings: &mut Vec<Finding>) {
    let own = cx.run().folder();
    let Ok(names) = volume.run_folders().await else {
        return;
    };
    for name in names {
        if name == own {
            continue;
        }
        let run = name.trim_start_matches(".restore-");
        let finding = Finding::info(
            "volume.other_run",
            in_volume(volume, &name),
            format!("run {run} keeps data there, which takes up room and stays where it is"),
        )
        .hint(format!(
            "once that run has ended, `restore confirm {run}` deletes it"
        ));
        findings.push(match run.parse() {
            Ok(run) => finding.kept_by(run),
            Err(_) => finding,
        });
    }
}

/// What is to be said of what files had in the archive and do not have now.
pub(crate) fn lost(found: &str, unpacked: &Unpacked) -> Vec<Finding> {
    let lost = [
        acls_lost(found, unpacked),
        attributes_lost(found, unpacked),
        labels_lost(found, unpacked),
    ];
    lost.into_iter().flatten().collect()
}

/// What is to be said of extended attributes that were not given back.
fn attributes_lost(found: &str, unpacked: &Unpacked) -> Option<Finding> {
    let many = unpacked.attributes_lost;
    (many > 0).then(|| {
        Finding::warning(
            "archive.attributes_lost",
            found,
            format!("{many} extended attributes were not given back: they belong to the system that the archive was made on (trusted.*, security.*), or the file system does not take them"),
        )
        .hint("where a program needs them, set them by hand with `setfattr`: `tar --xattrs --xattrs-include='*'` unpacks them from the archive")
    })
}

/// What is to be said of labels that are not given back.
fn labels_lost(found: &str, unpacked: &Unpacked) -> Option<Finding> {
    let many = unpacked.labels_lost;
    (many > 0).then(|| {
        Finding::info(
            "archive.labels_lost",
            found,
            format!("{many} entries of the archive have labels of SELinux, which are not given back: each has that of the place where it lies"),
        )
        .hint("where SELinux is enforced, have the machine's own policy label them: `restorecon -R` with their directory")
    })
}

/// What is to be said of access control lists that could not be set.
fn acls_lost(found: &str, unpacked: &Unpacked) -> Option<Finding> {
    let many = unpacked.acls_lost;
    (many > 0).then(|| {
        Finding::warning(
            "archive.acls_lost",
            found,
            format!("{many} access control lists could not be set: whom they named has no access, and groups have what was really theirs"),
        )
        .hint("mount the file system with ACLs, or make the users and groups that they name, and restore again")
    })
}

/// The counts of an unpacked archive as facts.
pub(crate) fn facts(unpacked: &Unpacked) -> serde_json::Map<String, Value> {
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
pub(crate) async fn check_swapped(
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
    let mut n = 0_u32;
    while n < u32::MAX && cx.recall(&frame_key("undone", n)).is_some() {
        n += 1;
    }
    (frame_key("cutting", n), frame_key("undone", n))
}

fn frame_key(word: &str, n: u32) -> String {
    match n {
        0 => word.to_owned(),
        n => format!("{word}_{}", n.saturating_add(1)),
    }
}

/// Notes that a cut-over begins, before it changes anything.
pub(crate) async fn note_cutting(cx: &RunContext) -> Result<()> {
    cx.record(&frame(cx).0, true).await
}

/// Notes that what was begun is taken back wholly; nothing where nothing was begun. It is, whether
/// that can be written down or not: a full disk does not make an undo fail.
pub(crate) async fn note_undone(cx: &RunContext) {
    let (cutting, undone) = frame(cx);
    if cx.recall(&cutting).is_some() {
        let _ = cx.record(&undone, true).await;
    }
}

/// Whether the last cut-over that was noted was taken back wholly.
pub(crate) fn is_noted_undone(cx: &RunContext) -> bool {
    let (cutting, _) = frame(cx);
    cutting != frame_key("cutting", 0) && cx.recall(&cutting).is_none()
}

/// Refuses to take nothing for undone: a cut-over was begun, so the run's folder must be there.
/// Where it is not (`volume` is `None`: not even the directory is), its disk may not be mounted.
pub(crate) async fn ensure_mounted(
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
    Err(run_folder_missing(cx, place))
}

/// Refuses where what the run put aside is not there as it was left: see
/// [`Component::way_back`](crate::contract::Component::way_back). `volume` is `None` where not even the
/// directory is there.
pub(crate) async fn ensure_kept(
    cx: &RunContext,
    volume: Option<&dyn Volume>,
    place: &str,
) -> Result<()> {
    let state = match volume {
        Some(volume) => volume.state(cx.run()).await?,
        None => SwapState::Nothing,
    };
    match (state, cx.cut_over()) {
        (SwapState::Nothing, CutOver::Begun | CutOver::Done) => Err(run_folder_missing(cx, place)),
        (SwapState::Swapped | SwapState::Swapping, _) => {
            let kept = match volume {
                Some(volume) => volume.kept(cx.run()).await?,
                None => None,
            };
            let Some(kept) = kept.filter(|kept| kept.present < kept.swapped) else {
                return Ok(());
            };
            Err(Error::new(
                ErrorKind::Failed,
                "volume.kept_gone",
                format!(
                    "what the run replaced in {place} is not all there: {} of {} gone from {}: {}",
                    kept.swapped.saturating_sub(kept.present),
                    kept.swapped,
                    cx.run().folder(),
                    kept.gone.join(", ")
                ),
            )
            .hint("somebody has deleted or moved them; put them back there"))
        }
        _ => Ok(()),
    }
}

/// Refuses where nothing can be moved in a volume as things are now: see
/// [`Component::can_undo`](crate::contract::Component::can_undo). What cannot be measured is left to the
/// undo.
pub(crate) async fn ensure_movable(cx: &RunContext, volume: &dyn Volume) -> Result<()> {
    match volume.state(cx.run()).await? {
        SwapState::Nothing | SwapState::Staged => Ok(()),
        SwapState::Swapping | SwapState::Swapped => match volume.free_space().await {
            Ok(space) => ensure_writable(&space, &volume.describe()),
            Err(_) => Ok(()),
        },
    }
}

/// Refuses where nothing can be written in a place that has this room.
pub(crate) fn ensure_writable(space: &Space, place: &str) -> Result<()> {
    if !space.read_only {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Failed,
        "volume.read_only",
        format!(
            "nothing can be moved in {place}: its file system, {}, is mounted read-only",
            space.shown()
        ),
    )
    .hint("where its disk fails, `dmesg` says so; else mount it read-write"))
}

/// Whether something was left out of what a run has staged, which the facts of that count.
pub(crate) const LEFT_OUT: &str = "staged_left_out";

/// Refuses where what the run staged is not there any more, or not all of it: see
/// [`Component::as_staged`](crate::contract::Component::as_staged). `volume` is `None` where not even
/// the directory is there.
pub(crate) async fn ensure_staged(
    cx: &RunContext,
    volume: Option<&dyn Volume>,
    place: &str,
) -> Result<()> {
    let missing = || {
        let folder = cx.run().folder();
        Error::new(
            ErrorKind::Failed,
            "volume.staged_gone",
            format!("what the run staged is not found in {place}: is its disk mounted?"),
        )
        .hint(format!("mount it and try again: it lies in {folder} there"))
    };
    let Some(volume) = volume else {
        return Err(missing());
    };
    if volume.state(cx.run()).await? == SwapState::Nothing {
        return Err(missing());
    }
    // Of what was left out of it all may have been.
    let staged = cx
        .recall("staged")
        .filter(|_| cx.recall(LEFT_OUT).is_none());
    let (Some(_), Some(staged)) = (volume.path(), staged) else {
        return Ok(());
    };
    let noted = |key: &str| staged.get(key).and_then(Value::as_u64).unwrap_or(0);
    if noted("files").max(noted("links")) == 0 {
        return Ok(());
    }
    let folder = volume.staging_dir(cx.run()).await?;
    match is_empty(&folder.here()).await {
        true => Err(missing()),
        false => Ok(()),
    }
}

/// Refuses where what the run put aside, replaced or staged, is not there as it was left: see
/// [`Component::as_left`](crate::contract::Component::as_left). `volume` is `None` where not even the
/// directory is there. Called of a component that was staged, and of which nothing is deleted yet.
pub(crate) async fn ensure_left(
    cx: &RunContext,
    volume: Option<&dyn Volume>,
    place: &str,
) -> Result<()> {
    if cx.cut_over().is_begun() {
        return ensure_kept(cx, volume, place).await;
    }
    match volume {
        Some(volume) if volume.state(cx.run()).await? != SwapState::Nothing => Ok(()),
        _ => Err(Error::new(
            ErrorKind::Failed,
            "volume.staged_missing",
            format!(
                "what this run has put aside in {place} is not found there: is its disk mounted?"
            ),
        )
        .hint(format!(
            "mount it and try again: {} in it holds what was restored",
            cx.run().folder()
        ))),
    }
}

fn run_folder_missing(cx: &RunContext, place: &str) -> Error {
    Error::new(
        ErrorKind::Failed,
        "volume.run_folder_missing",
        format!("nothing that this run has swapped is found in {place}: is its disk mounted?"),
    )
    .hint(format!(
        "mount it and try again: {} in it holds what was replaced (a confirmed run has deleted that, and there is no way back)",
        cx.run().folder()
    ))
}

/// Refuses to take nothing for undone where the journal says that a swap was begun: what was staged
/// lies in the run's folder then, at the least. Where it does, and nothing more, the swap's own list
/// says that all is back: an undo may have been made whose end the journal could not take.
pub(crate) fn ensure_swapped(cx: &RunContext, state: SwapState, place: &str) -> Result<()> {
    match (state, cx.cut_over()) {
        (SwapState::Nothing, CutOver::Begun | CutOver::Done) => Err(run_folder_missing(cx, place)),
        _ => Ok(()),
    }
}

/// What runs keep on a volume, found by their folders.
pub(crate) async fn kept_by_runs(volume: &dyn Volume) -> Result<Vec<KeptByRun>> {
    let mut kept = Vec::new();
    for name in volume.run_folders().await? {
        let Some(run) = name
            .strip_prefix(".restore-")
            .and_then(|id| id.parse().ok())
        else {
            continue;
        };
        let place = in_volume(volume, &name);
        let replaced = in_volume(volume, &format!("{name}/replaced"));
        let path = volume.path().map(|root| root.join(&name).join("replaced"));
        let put_back = match path {
            Some(path) if is_empty(&path).await => format!(
                "what a run staged lies there, or what it had made live and moved back, with all that was written into it; what is live is left as it is ({replaced} is empty)"
            ),
            _ => format!(
                "with the services that use it stopped, and where {replaced} is not empty: move each path that is in it to the same path, and what is live there elsewhere first"
            ),
        };
        kept.push(KeptByRun::new(
            run,
            place.clone(),
            put_back,
            format!("rm -r {place}, once nothing of it is needed"),
        ));
    }
    Ok(kept)
}

/// Whether a directory is not there, or nothing is in it.
async fn is_empty(path: &std::path::Path) -> bool {
    match tokio::fs::read_dir(path).await {
        Ok(mut entries) => !matches!(entries.next_entry().await, Ok(Some(_))),
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Where the run keeps what it replaced, or after an undo what it had restored; `None` where there
/// is neither.
pub(crate) async fn replaced_at(cx: &RunContext, volume: &dyn Volume) -> Result<Option<String>> {
    Ok(match volume.state(cx.run()).await? {
        // There may have been nothing that it replaced.
        SwapState::Swapped => match volume.kept(cx.run()).await? {
            Some(kept) if kept.swapped == 0 => None,
            _ => Some(volume.replaced_at(cx.run())),
        },
        SwapState::Swapping => Some(volume.replaced_at(cx.run())),
        SwapState::Staged if cx.cut_over() == CutOver::TakenBack => {
            Some(in_volume(volume, &cx.run().folder()))
        }
        SwapState::Nothing | SwapState::Staged => None,
    })
}

/// About how many bytes a run keeps on a volume.
pub(crate) async fn kept_bytes(cx: &RunContext, volume: &dyn Volume) -> Result<Option<u64>> {
    let Some(root) = volume.path() else {
        return Ok(None);
    };
    // What is held for an undo is nobody's data.
    let except = ["reserve".to_owned()];
    let there = crate::archive::measure(&root.join(cx.run().folder()), &except).await?;
    Ok(Some(there.bytes))
}

/// The owner of a directory.
pub(crate) async fn owner(path: PathBuf) -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    tokio::fs::metadata(path)
        .await
        .ok()
        .map(|meta| (meta.uid(), meta.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe would hold the plan up for ever, a device would fill the memory.
    #[tokio::test]
    async fn of_what_is_put_in_the_place_of_an_archive_only_a_small_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("small"), [b'x'; 64]).unwrap();
        std::fs::write(path("larger"), [b'x'; 65]).unwrap();
        std::os::unix::fs::symlink(path("small"), path("link")).unwrap();
        let pipe = path("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for (name, size) in [
            ("small", Some(64)),
            ("larger", None),
            ("link", None),
            ("pipe", None),
            ("none", None),
        ] {
            let source = Source::new(path(name), name, None, None).below(Some(dir.path()));
            let content = content_of_nothing(source).await;
            assert_eq!(content.map(|it| it.len()), size, "{name}");
        }
    }

    #[test]
    fn nothing_is_moved_where_nothing_can_be_written() {
        let space = Space::new(1, 1, "device 8:1");
        ensure_writable(&space, "directory /srv").unwrap();
        let refused = ensure_writable(&space.read_only(true), "directory /srv").unwrap_err();
        assert_eq!(refused.code(), "volume.read_only");
        assert!(refused.message().contains("device 8:1"), "{refused}");
    }
}
