//! A volume of another machine, by an agent beside it: a process of its own, as there.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use restore_core::platform::agent::{Launch, RemoteVolume};
use restore_core::platform::local::LocalVolume;
use restore_core::platform::{
    Compared, Discard, Process, RemoteTask, SwapScope, SwapState, Volume,
};
use restore_core::run::RunId;
use restore_core::stream::{
    Compression, Digest, PackPolicy, Sink, SinkFile, Source, UnpackPolicy, hash_file,
};
use restore_core::{ErrorKind, Event, Progress, Result};
use restore_testing::archives::put;
use restore_testing::beside::Here;
use restore_testing::trees::{fingerprint, temporary};
use tokio_util::sync::CancellationToken;

struct Case {
    _work: tempfile::TempDir,
    root: PathBuf,
    archive: PathBuf,
    digest: Digest,
    run: RunId,
}

impl Case {
    /// A volume, and an archive of what it should be.
    async fn new() -> Self {
        let work = temporary();
        let root = work.path().join("volume");
        put(root.join("old"), "old");
        put(root.join(".hidden/old"), "old");
        let wanted = work.path().join("wanted");
        put(wanted.join("new"), "new");
        put(wanted.join(".hidden/new"), "new");
        put(wanted.join("large"), &"0123456789abcdef".repeat(64 * 1024));
        chown(wanted.join("new"), Some(472), Some(472)).unwrap();
        let archive = work.path().join("wanted.tar.gz");
        let tar = std::process::Command::new("tar")
            .arg("czf")
            .arg(&archive)
            .args(["--owner-map=/dev/null", "-C"])
            .arg(&wanted)
            .arg(".")
            .status();
        assert!(tar.unwrap().success());
        let source = Source::new(&archive, "wanted.tar.gz", None, None);
        let digest = hash_file(&source, Progress::hidden()).await.unwrap();
        Self {
            root,
            archive,
            digest,
            run: RunId::generate(),
            _work: work,
        }
    }

    fn volume(&self, through: Option<&'static str>) -> RemoteVolume {
        RemoteVolume::new(Arc::new(Here {
            root: self.root.clone(),
            through,
            leave: false,
        }))
    }

    fn source(&self) -> Source {
        let size = std::fs::metadata(&self.archive).unwrap().len();
        Source::new(
            &self.archive,
            "wanted.tar.gz",
            Some(size),
            Some(self.digest),
        )
    }

    async fn here(&self) -> SwapState {
        LocalVolume::new(&self.root).state(&self.run).await.unwrap()
    }
}

fn policy() -> UnpackPolicy {
    UnpackPolicy::default()
}

fn names(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The same on both ends: what one begins, the other sees and finishes.
#[tokio::test(flavor = "multi_thread")]
async fn a_remote_volume_is_staged_swapped_and_taken_back() {
    let case = Case::new().await;
    let (volume, run) = (case.volume(None), &case.run);
    let before = fingerprint(&case.root);
    assert_eq!(volume.state(run).await.unwrap(), SwapState::Nothing);
    let space = volume.free_space().await.unwrap();
    assert!(space.free_bytes > 0 && space.file_system.ends_with(" of worker"));
    const OTHER: &str = ".restore-20240101-000000-abcd";
    let others = [OTHER, ".restore-20240101-000000-abcd.trash"].map(|name| case.root.join(name));
    for other in &others {
        std::fs::create_dir(other).unwrap();
    }
    assert_eq!(volume.run_folders().await.unwrap(), [OTHER]);
    for other in &others {
        std::fs::remove_dir(other).unwrap();
    }

    let seen: Arc<std::sync::Mutex<Vec<u64>>> = Arc::default();
    let events = {
        let seen = seen.clone();
        move |event: &Event| {
            if let Event::Progress { done, .. } = event {
                seen.lock().unwrap().push(*done);
            }
        }
    };
    let size = case.source().size();
    let progress = Progress::new(Arc::new(events), "data", "unpack", size);
    let unpacked = volume.unpack(run, case.source(), &policy(), progress).await;
    let unpacked = unpacked.unwrap();
    assert_eq!((unpacked.files, unpacked.digest), (3, Some(case.digest)));
    assert_eq!(seen.lock().unwrap().last().copied(), size);
    assert_eq!(case.here().await, SwapState::Staged);
    let left_out = volume.leave_out(run, &["**/large".to_owned()]).await;
    assert_eq!(left_out.unwrap(), [Path::new("large")]);
    let staged = case.root.join(run.folder()).join("staged");
    assert_eq!(names(&staged), [".hidden", "new"]);
    // All of it again.
    let again = volume
        .unpack(run, case.source(), &policy(), Progress::hidden())
        .await;
    assert_eq!(again.unwrap().files, 3);

    for _ in 0..2 {
        volume.swap(run, &SwapScope::Everything).await.unwrap();
        assert_eq!(case.here().await, SwapState::Swapped);
    }
    let folder = run.folder();
    assert_eq!(
        names(&case.root),
        [".hidden", folder.as_str(), "large", "new"]
    );
    let compared = volume.compare(run).await.unwrap();
    assert_eq!((compared.swapped, compared.present), (3, 3));
    assert!(volume.replaced_at(run).contains("node worker"));
    assert!(case.root.join(folder).join("replaced/old").exists());

    for _ in 0..2 {
        volume.unswap(run).await.unwrap();
    }
    assert_eq!(volume.compare(run).await.unwrap(), Compared::default());
    for _ in 0..2 {
        volume.discard(run, Discard::Staged).await.unwrap();
    }
    assert_eq!(volume.state(run).await.unwrap(), SwapState::Nothing);
    assert_eq!(fingerprint(&case.root), before);
}

/// The archive comes back whole, or there is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_remote_volume_is_packed_here() {
    let case = Case::new().await;
    let volume = case.volume(None);
    let there = volume.measure(&[]).await.unwrap().unwrap();
    assert!(there.entries > 0);
    let packed = case.root.with_extension("packed.tar.gz");
    let pack = async |volume: RemoteVolume, cancel: &CancellationToken| {
        let file = Packing(std::fs::File::create(&packed).unwrap());
        let sink = Sink::new("it", Box::new(file));
        let policy = PackPolicy::new(".", Compression::default());
        volume
            .pack(policy, sink, Progress::hidden(), cancel.clone())
            .await
    };
    let cancel = CancellationToken::new();
    let done = pack(case.volume(None), &cancel).await.unwrap();
    let source = Source::new(&packed, "it", None, None);
    assert_eq!(
        hash_file(&source, Progress::hidden()).await.unwrap(),
        done.written.digest
    );
    assert_eq!(
        std::fs::metadata(&packed).unwrap().len(),
        done.written.bytes
    );
    let listed = std::process::Command::new("tar")
        .arg("tzf")
        .arg(&packed)
        .output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    assert!(
        listed.contains("./old") && listed.contains("./.hidden"),
        "{listed}"
    );

    // Broken off, or changed on the way.
    let cut = pack(case.volume(Some("\"$@\" | head -c 300")), &cancel).await;
    let error = cut.unwrap_err();
    assert_eq!(error.code(), "agent.ended", "{error}");
    let changed = "\"$@\" | sed 's/\"written\":{\"bytes\":/&1/'";
    let error = pack(case.volume(Some(changed)), &cancel).await.unwrap_err();
    assert_eq!(error.code(), "agent.archive_changed", "{error}");
    cancel.cancel();
    let stopped = pack(case.volume(Some("exec sleep 600")), &cancel).await;
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Interrupted);
}

struct Packing(std::fs::File);

impl std::io::Write for Packing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl SinkFile for Packing {
    fn seal(self: Box<Self>) -> std::io::Result<()> {
        self.0.sync_all()
    }
}

/// Errors are those of the volume itself, with the place.
#[tokio::test(flavor = "multi_thread")]
async fn errors_cross_over_with_their_code_and_hint() {
    let case = Case::new().await;
    let volume = case.volume(None);
    let wrong = Source::new(&case.archive, "it", None, Some(Digest([7; 32])));
    let unpacked = volume
        .unpack(&case.run, wrong, &policy(), Progress::hidden())
        .await;
    let error = unpacked.unwrap_err();
    assert_eq!(error.code(), "hash.mismatch");
    assert_eq!(error.kind(), ErrorKind::Verification);
    assert!(error.hint_text().is_some());
    assert!(
        error
            .message()
            .starts_with("volume data of node worker: it is not")
    );
    assert_eq!(names(&case.root), [".hidden", "old"]);

    let swapped = volume.swap(&case.run, &SwapScope::Everything).await;
    assert_eq!(swapped.unwrap_err().code(), "volume.nothing_staged");
    let error = volume.stage_dir(&case.run).await.unwrap_err();
    assert_eq!(error.code(), "volume.not_here");

    std::fs::remove_dir_all(&case.root).unwrap();
    let error = volume.free_space().await.unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        ("volume.missing", ErrorKind::NotFound)
    );
    assert!(!case.root.exists());
}

/// The connection is cut in the middle of the archive: nothing is staged, and said.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_comes_in_part_is_never_taken_for_whole() {
    let case = Case::new().await;
    for (script, codes) in [
        // The request and a part of the archive, then the end of the input.
        (
            "head -c 1500 | \"$@\"",
            ["archive.truncated", "archive.corrupt"],
        ),
        // The agent is killed before it answers, by a script that then cannot clean up.
        (
            "head -c 1500 >/dev/null; echo lost >&2; exit 9",
            ["agent.ended"; 2],
        ),
    ] {
        let volume = case.volume(Some(script));
        let unpacked = volume
            .unpack(&case.run, case.source(), &policy(), Progress::hidden())
            .await;
        let error = unpacked.unwrap_err();
        assert!(codes.contains(&error.code()), "{}: {error}", error.code());
        assert_eq!(case.here().await, SwapState::Nothing, "{error}");
    }
    let ended = case.volume(Some("echo lost >&2; exit 9"));
    let error = ended.state(&case.run).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(error.message().contains("exit code 9): lost"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_stop_ends_it() {
    let case = Case::new().await;
    let cancel = CancellationToken::new();
    // An agent that never reads on.
    let volume = case.volume(Some("exec sleep 600"));
    let source = case.source().cancelled_by(cancel.clone());
    let began = Instant::now();
    let soon = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cancel.cancel();
    });
    let what = policy();
    let unpacking = volume.unpack(&case.run, source, &what, Progress::hidden());
    // Its cleaning up asks the same agent, which never answers; whoever stops does not wait.
    let stopped = tokio::time::timeout(Duration::from_secs(20), unpacking).await;
    assert_eq!(stopped.unwrap().unwrap_err().kind(), ErrorKind::Interrupted);
    assert!(began.elapsed() < Duration::from_secs(15));
    soon.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_refused() {
    let case = Case::new().await;
    let older = case.volume(Some(
        "sed -u '1s/\"version\":\"[^\"]*\"/\"version\":\"0.0.1\"/' | \"$@\"",
    ));
    let error = older.state(&case.run).await.unwrap_err();
    assert_eq!(error.code(), "agent.version");
    assert!(
        error.message().contains("asked by restore 0.0.1"),
        "{error}"
    );
}

/// Notes how much memory is asked for.
struct Asked(Here, Mutex<Vec<u64>>);

#[async_trait]
impl Launch for Asked {
    async fn launch(&self) -> Result<Box<dyn Process>> {
        self.launch_with(0).await
    }

    async fn launch_with(&self, memory: u64) -> Result<Box<dyn Process>> {
        self.1.lock().unwrap().push(memory);
        self.0.launch().await
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn machine(&self) -> String {
        self.0.machine()
    }
}

/// A container beside a volume holds our own program, which takes little, and servers that take more.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_task_takes_in_memory_is_asked_for() {
    let case = Case::new().await;
    let here = Here {
        root: case.root.clone(),
        through: None,
        leave: false,
    };
    let asked = Arc::new(Asked(here, Mutex::default()));
    let volume = RemoteVolume::new(asked.clone());
    volume.free_space().await.unwrap();
    let task = RemoteTask::new("none", serde_json::Value::Null).taking(5 << 30);
    assert!(volume.dispatch(task).await.is_err());
    assert_eq!(*asked.1.lock().unwrap(), [0, 5 << 30]);
}
