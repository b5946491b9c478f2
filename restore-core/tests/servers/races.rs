//! A server's user swaps what leads to a run's data for links, again and again, while a run does all
//! that it does; whoever may write where files are brought to puts links in their way. `RESTORE_RACES` says
//! how often (50).

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use restore_core::component::SharedComponent;
use restore_core::platform::agent::RemoteVolume;
use restore_core::platform::{Discard, SwapScope, Volume};
use restore_core::run::RunOptions;
use restore_core::run::{MemoryFacts, RunContext, RunId};
use restore_core::site::GetRequest;
use restore_core::stream::{Compression, PackPolicy, Sink, SinkFile, Source, UnpackPolicy};
use restore_core::{BackupRequest, CancellationToken, NoEvents, Progress, Site};
use restore_testing::archives;
use restore_testing::beside::Here;
use restore_testing::pitr::Ground;
use restore_testing::redis::{Case, Form, Server, back_up};

const STRANGER: u32 = 65_533;

/// What is root's alone: a folder with a file, and the socket of another server.
struct Victim {
    path: PathBuf,
    _listener: UnixListener,
    called: Arc<AtomicU64>,
}

impl Victim {
    fn new(above: &Path) -> Self {
        let path = above.join("victim");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("root-only"), "secret").unwrap();
        let closed = |mode| PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path.join("root-only"), closed(0o600)).unwrap();
        let listener = UnixListener::bind(path.join("socket")).unwrap();
        std::fs::set_permissions(&path, closed(0o700)).unwrap();
        let called = Arc::new(AtomicU64::new(0));
        let (heard, counted) = (listener.try_clone().unwrap(), called.clone());
        std::thread::spawn(move || {
            while heard.accept().is_ok() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            path,
            _listener: listener,
            called,
        }
    }

    fn assert_unharmed(&self, attempt: u32) {
        let meta = std::fs::metadata(&self.path).unwrap();
        let inner = std::fs::metadata(self.path.join("root-only")).unwrap();
        let there = std::fs::read_dir(&self.path).unwrap().count();
        let found = (meta.mode() & 0o7777, meta.uid(), there);
        assert_eq!(found, (0o700, 0, 2), "try {attempt}");
        let found = (inner.mode() & 0o7777, inner.uid());
        assert_eq!(found, (0o600, 0), "try {attempt}");
        let text = std::fs::read(self.path.join("root-only")).unwrap();
        assert_eq!(text, b"secret", "try {attempt}");
        let called = self.called.load(Ordering::Relaxed);
        assert_eq!(called, 0, "try {attempt}: root spoke to another server");
    }
}

/// Of this thread alone.
fn become_user(uid: u32, gid: u32, victim: &Path) {
    use rustix::process::{Gid, Uid};
    rustix::thread::set_thread_groups(&[]).unwrap();
    rustix::thread::set_thread_gid(Gid::from_raw(gid)).unwrap();
    rustix::thread::set_thread_uid(Uid::from_raw(uid)).unwrap();
    assert!(std::fs::read_dir(victim).is_err(), "it is not that user's");
}

/// Whose names are swapped, where, and which of them.
#[derive(Clone)]
struct Racer {
    uid: u32,
    gid: u32,
    /// What the server's user owns.
    root: PathBuf,
    /// Below a run's folder: directories, files and sockets.
    folders: Vec<&'static str>,
    files: Vec<&'static str>,
    sockets: Vec<&'static str>,
}

impl Racer {
    /// Runs as the server's user until told to stop.
    fn race(&self, victim: &Path, stop: &AtomicBool, made: &AtomicU64) {
        become_user(self.uid, self.gid, victim);
        let mut number = 0_u64;
        let mut swap = |path: &Path, target: &Path, back: bool| {
            number += 1;
            let aside = path.with_file_name(format!("aside-{number}"));
            if std::fs::rename(path, &aside).is_err() {
                return;
            }
            let _ = symlink(target, path);
            made.fetch_add(1, Ordering::Relaxed);
            if back || !number.is_multiple_of(3) {
                let _ = std::fs::remove_file(path);
                let _ = std::fs::rename(&aside, path);
            }
        };
        let file = victim.join("root-only");
        let socket = victim.join("socket");
        while !stop.load(Ordering::Relaxed) {
            let Ok(entries) = std::fs::read_dir(&self.root) else {
                continue;
            };
            for entry in entries.flatten() {
                let path = entry.path();
                if !entry.file_name().to_string_lossy().starts_with(".restore-") {
                    swap(&path, victim, true);
                    continue;
                }
                for name in &self.sockets {
                    // Without it whoever waits for the server waits long.
                    swap(&path.join(name), &socket, true);
                }
                for name in &self.files {
                    swap(&path.join(name), &file, false);
                }
                for name in &self.folders {
                    swap(&path.join(name), victim, false);
                }
                swap(&path, victim, false);
            }
        }
    }

    /// Does the work of a run while somebody races, and sees that nothing else was harmed.
    async fn against(&self, victim: &Victim, attempt: u32, work: impl Future<Output = ()>) {
        let stop = Arc::new(AtomicBool::new(false));
        let made = Arc::new(AtomicU64::new(0));
        let racer = {
            let (this, victim) = (self.clone(), victim.path.clone());
            let (stop, made) = (stop.clone(), made.clone());
            std::thread::spawn(move || this.race(&victim, &stop, &made))
        };
        let ended = tokio::time::timeout(Duration::from_secs(120), work).await;
        stop.store(true, Ordering::Relaxed);
        racer.join().unwrap();
        assert!(ended.is_ok(), "try {attempt} does not end");
        assert!(made.load(Ordering::Relaxed) > 0, "nobody raced");
        victim.assert_unharmed(attempt);
        // What was moved aside takes room.
        for entry in std::fs::read_dir(&self.root).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("aside-") || name.starts_with(".restore-") {
                let _ = std::fs::remove_dir_all(entry.path());
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

fn tries() -> u32 {
    let said = std::env::var("RESTORE_RACES").ok();
    said.and_then(|tries| tries.parse().ok()).unwrap_or(50)
}

fn ground() -> (tempfile::TempDir, Victim) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let victim = Victim::new(directory.path());
    (directory, victim)
}

/// All that a run does, whatever comes of it; whether something was swapped.
async fn all_steps(component: &SharedComponent, cx: &RunContext) -> bool {
    let _ = component.stage(cx).await;
    let swapped = component.cut_over(cx).await.is_ok();
    let _ = component.undo(cx).await;
    let _ = component.discard(cx, Discard::Replaced).await;
    let _ = component.discard(cx, Discard::Staged).await;
    swapped
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_runs_redis_wins_no_race() {
    let (_directory, victim) = ground();
    let mut restored = 0;
    for number in 0..tries() {
        let server = Server::new(&["appendonly no"]).with_user(STRANGER, STRANGER);
        let mut case = Case::new(server, "appendonly = false");
        let form = if number % 2 == 0 {
            Form::Rdb
        } else {
            Form::Aof
        };
        back_up(&case, form);
        case.seal();
        case.run = RunId::generate();
        let racer = Racer {
            uid: STRANGER,
            gid: STRANGER,
            root: case.server().data(),
            folders: vec!["staged/.restore-work", "staged", "replaced"],
            files: vec![
                "staged/.restore-scratch.conf",
                "staged/dump.rdb",
                "staged/.restore-work/.restore-scratch.conf",
                "staged/.restore-work/dump.rdb",
                "staged/.restore-work/appendonlydir",
            ],
            sockets: vec![
                "staged/.restore-scratch.sock",
                "staged/.restore-work/.restore-scratch.sock",
            ],
        };
        // Something of theirs, whether or not the run comes far.
        std::fs::create_dir(racer.root.join("theirs")).unwrap();
        let theirs = racer.root.join("theirs");
        std::os::unix::fs::chown(theirs, Some(STRANGER), Some(STRANGER)).unwrap();
        let cx = case.cx().await;
        let work = async {
            restored += u32::from(all_steps(&case.component, &cx).await);
        };
        racer.against(&victim, number, work).await;
    }
    println!("{restored} of {} were restored all the same", tries());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_runs_postgres_wins_no_race() {
    let (_directory, victim) = ground();
    let ground = Ground::with("data", "").await;
    ground.write(1);
    let id = ground.back_up().await;
    ground.archive();
    let site = ground.site().await;
    let backup = Arc::new(site.backup(&id).await.unwrap());
    let component = site.component("cluster").unwrap().clone();
    site.platform().scale("postgres", 0).await.unwrap();
    let owner = std::fs::metadata(ground.path("volume")).unwrap();
    let (uid, gid) = (owner.uid(), owner.gid());
    let racer = Racer {
        uid,
        gid,
        root: ground.path("volume"),
        folders: vec![
            "staged/data/pg_wal",
            "staged/data/base",
            "staged/data",
            "staged/.restore-wal",
            "staged",
            "replaced",
        ],
        files: vec![
            "staged/data/.restore-scratch.conf",
            "staged/data/recovery.signal",
            "staged/data/backup_label",
            "staged/data/pg_hba.conf",
            "staged/data/postmaster.pid",
        ],
        sockets: vec!["staged/data/.s.PGSQL.5432"],
    };
    let mut restored = 0;
    for number in 0..tries() {
        let cx = RunContext::new(
            RunId::generate(),
            "cluster",
            backup.clone(),
            Arc::new(MemoryFacts::default()),
            Arc::new(NoEvents),
            CancellationToken::new(),
        );
        let work = async {
            restored += u32::from(all_steps(&component, &cx).await);
        };
        racer.against(&victim, number, work).await;
    }
    println!("{restored} of {} were restored all the same", tries());
}

/// Gives a tree to the stranger.
fn own(path: &Path) {
    let status = std::process::Command::new("chown")
        .args(["-R", &format!("{STRANGER}:{STRANGER}")])
        .arg(path)
        .status();
    assert!(status.unwrap().success());
}

/// A tree of a stranger's, and a backup of it.
fn tree() -> archives::Site {
    let site = archives::Site::new();
    let open = || PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(site.path(""), open()).unwrap();
    let tree = site.path("host/srv/app");
    for name in ["sub/deep/one", "sub/two", "three", "conf.d/four"] {
        archives::put(tree.join(name), "good");
    }
    own(&tree);
    site.pack(
        &format!("configs/it-{}.tar.gz", archives::ID),
        &site.path("host"),
        &["srv/app"],
    );
    archives::put(tree.join("sub/deep/stray"), "live");
    std::fs::remove_file(tree.join("three")).unwrap();
    own(&tree);
    site
}

const TREE: &str = "
    [components.it]
    kind = 'files'
    archive = ['configs/it-{id}.tar.gz']
    root = '@/host'
    tree = 'srv/app'
";

/// What is root's alone is in no archive of the newest backup.
async fn backed_up(site: &archives::Site) {
    let here = site.path("").display().to_string();
    let config = format!(
        "[site]\nname = 's'\nstate = '@/state'\n[stores.main]\nkind = 'directory'\npath = '@/made'\n{TREE}stops = []\n"
    );
    let config = config.replace('@', here.trim_end_matches('/'));
    archives::put(site.path("restore.toml"), &config.replace("\n    ", "\n"));
    std::fs::create_dir_all(site.path("made")).unwrap();
    let opened = Site::open(&site.path("restore.toml")).await.unwrap();
    let _ = opened
        .back_up(BackupRequest::all(), RunOptions::new())
        .await;
    let found = std::process::Command::new("sh")
        .args([
            "-c",
            "find \"$1\" -name '*.tar*' -exec tar -xOf {} ';' | grep -c secret",
            "sh",
        ])
        .arg(site.path("made"))
        .output()
        .unwrap();
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    assert_eq!(found.trim(), "0", "what is root's alone is in a backup");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_owns_a_tree_wins_no_race() {
    let (_directory, victim) = ground();
    let mut restored = 0;
    for number in 0..tries() {
        let mut site = tree();
        site.run = RunId::generate();
        let component = site.component(TREE);
        let racer = Racer {
            uid: STRANGER,
            gid: STRANGER,
            root: site.path("host/srv/app"),
            folders: vec![
                "staged/sub/deep",
                "staged/sub",
                "staged",
                "replaced/sub",
                "replaced",
                "left-out",
            ],
            files: vec!["staged/three", "staged/conf.d/four", "replaced/three"],
            sockets: Vec::new(),
        };
        let cx = site.context().await;
        let work = async {
            restored += u32::from(all_steps(&component, &cx).await);
            if number % 5 == 0 {
                backed_up(&site).await;
            }
        };
        racer.against(&victim, number, work).await;
    }
    println!("{restored} of {} were restored all the same", tries());
}

/// What a backup would have in it.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<u8>>>);

impl Collected {
    fn has(&self, text: &[u8]) -> bool {
        let bytes = self.0.lock().unwrap();
        bytes.windows(text.len()).any(|part| part == text)
    }
}

impl std::io::Write for Collected {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl SinkFile for Collected {
    fn seal(self: Box<Self>) -> std::io::Result<()> {
        Ok(())
    }
}

/// The same by an agent, a process for each request, which has only what lies beside the data to remember by.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_owns_a_volume_elsewhere_wins_no_race() {
    let (_directory, victim) = ground();
    let site = archives::Site::new();
    let open = || PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(site.path(""), open()).unwrap();
    for name in ["sub/deep/one", "sub/two", "three"] {
        archives::put(site.path("made").join(name), "good");
    }
    own(&site.path("made"));
    site.pack("it.tar.gz", &site.path("made"), &["."]);
    let archive = site.artifact("it.tar.gz");
    let size = std::fs::metadata(&archive).unwrap().len();
    let mut swapped = 0;
    for number in 0..tries() {
        let root = site.path(&format!("volume-{number}"));
        for name in ["sub/deep/old", "old"] {
            archives::put(root.join(name), "live");
        }
        own(&root);
        let racer = Racer {
            uid: STRANGER,
            gid: STRANGER,
            root: root.clone(),
            folders: vec![
                "staged/sub/deep",
                "staged/sub",
                "staged",
                "replaced/sub",
                "replaced",
                "left-out",
            ],
            files: vec!["swap.json", "staged/three", "replaced/old"],
            sockets: Vec::new(),
        };
        let here = Here {
            root: root.clone(),
            through: None,
            leave: false,
        };
        let volume = RemoteVolume::new(Arc::new(here)).sealed_in(site.path("keys"));
        let run = RunId::generate();
        let scope = match number % 2 {
            0 => SwapScope::Everything,
            _ => SwapScope::Tree { keep: Vec::new() },
        };
        let source = Source::new(&archive, "it.tar.gz", Some(size), None);
        let policy = UnpackPolicy::default();
        let packed = Collected::default();
        let work = async {
            let _ = volume
                .unpack(&run, source, &policy, Progress::hidden())
                .await;
            swapped += u32::from(volume.swap(&run, &scope).await.is_ok());
            let _ = volume.compare(&run).await;
            let _ = volume.unswap(&run).await;
            let sink = Sink::new("it", Box::new(packed.clone()));
            let policy = PackPolicy::new(".", Compression::None);
            let _ = volume
                .pack(policy, sink, Progress::hidden(), CancellationToken::new())
                .await;
            let _ = volume.measure(&[]).await;
            let _ = volume.discard(&run, Discard::Replaced).await;
            let _ = volume.discard(&run, Discard::Staged).await;
        };
        racer.against(&victim, number, work).await;
        let has = packed.has(b"secret");
        assert!(!has, "try {number}: what is root's alone is in the backup");
        std::fs::remove_dir_all(root).unwrap();
    }
    println!("{swapped} of {} were swapped all the same", tries());
}

/// Puts links and folders of its own where a directory is to be, and where that is made first.
fn squat(to: &Path, victim: &Path, stop: &AtomicBool, made: &AtomicU64) {
    become_user(STRANGER, STRANGER, victim);
    let beside = to.parent().unwrap();
    let mut names = vec![to.to_owned()];
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        for entry in std::fs::read_dir(beside).into_iter().flatten().flatten() {
            let is_new = !names.contains(&entry.path());
            if is_new && entry.file_name().to_string_lossy().starts_with(".restore-") {
                names.push(entry.path());
            }
        }
        for name in &names {
            number += 1;
            // Of what is root's this does nothing.
            let _ = std::fs::rename(name, beside.join(format!("aside-{number}")));
            let placed = match number % 3 {
                0 => symlink(victim, name),
                1 => std::fs::create_dir(name),
                _ => symlink(victim.join("root-only"), name),
            };
            made.fetch_add(u64::from(placed.is_ok()), Ordering::Relaxed);
            let _ = std::fs::remove_file(name);
            let _ = std::fs::remove_dir(name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_write_beside_wins_no_race() {
    let (_directory, victim) = ground();
    let site = tree();
    let store = "[site]\nname = 's'\nstate = '@/state'\n\
                 [stores.main]\nkind = 'directory'\npath = '@/backups'\n";
    site.configure(&format!("{store}{TREE}stops = []\n"));
    let opened = site.open().await;
    let backup = opened.backup(archives::ID).await.unwrap();
    let shared = site.path("shared");
    std::fs::create_dir(&shared).unwrap();
    // As /tmp.
    std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o1777)).unwrap();
    let to = shared.join("to");
    let stop = Arc::new(AtomicBool::new(false));
    let made = Arc::new(AtomicU64::new(0));
    let racer = {
        let (to, victim) = (to.clone(), victim.path.clone());
        let (stop, made) = (stop.clone(), made.clone());
        std::thread::spawn(move || squat(&to, &victim, &stop, &made))
    };
    let (request, options) = (GetRequest::new(["it"], &to), RunOptions::new());
    let mut brought = 0;
    for number in 0..tries() {
        let got = opened.get(&backup, &request, &options).await;
        if got.is_ok() {
            brought += 1;
            let meta = std::fs::symlink_metadata(&to).unwrap();
            assert!(meta.is_dir() && meta.uid() == 0, "try {number}: {meta:?}");
            assert!(to.join("it/sub/two").is_file() || to.join("it/srv").is_dir());
            std::fs::remove_dir_all(&to).unwrap();
        }
        victim.assert_unharmed(number);
    }
    stop.store(true, Ordering::Relaxed);
    racer.join().unwrap();
    victim.assert_unharmed(tries());
    assert!(made.load(Ordering::Relaxed) > 0, "nobody raced");
    println!("{brought} of {} were brought all the same", tries());
}
