//! Trees that change while they are packed.

use std::os::unix::fs::FileExt;
use std::sync::Mutex;

use tokio_util::sync::CancellationToken;

use super::super::super::{Sink, SinkFile};
use super::super::{Compression, pack};
use super::{Ground, volume};
use crate::model::{Progress, Severity};

/// As Samba takes leases: whoever opens the file is kept waiting until the lease's owner was told and lets go.
#[tokio::test]
async fn a_file_with_a_lease_is_waited_for() {
    const OWNER: &str = "import fcntl, signal, sys, time\n\
        file = open(sys.argv[1], 'r+')\n\
        def told(*_):\n\
        \x20   time.sleep(0.3)\n\
        \x20   fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)\n\
        signal.signal(signal.SIGIO, told)\n\
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
        print(flush=True)\n\
        time.sleep(60)\n";
    let ground = Ground::new();
    let leased = ground.write("leased", "as it was");
    let mut owner = std::process::Command::new("python3")
        .args(["-c", OWNER])
        .arg(&leased)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut taken = String::new();
    let mut said = std::io::BufReader::new(owner.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut said, &mut taken).unwrap();
    let file = std::fs::File::create(&ground.archive).unwrap();
    let packed = pack(
        &ground.tree,
        volume(Compression::None),
        Sink::new("archive", Box::new(Meddling(file, |_| {}))),
        Progress::hidden(),
        CancellationToken::new(),
    )
    .await;
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert_eq!(taken, "\n", "it has the lease");
    packed.unwrap();
    let back = ground.unpack().await;
    assert_eq!(
        std::fs::read_to_string(back.join("leased")).unwrap(),
        "as it was"
    );
}

#[tokio::test]
async fn files_that_change_while_they_are_read_are_named() {
    let ground = Ground::new();
    let size = 24_usize << 20;
    let torn = ground.write("database", vec![0; size]);
    let log = ground.write("log", vec![b'l'; size]);
    let cut = ground.write("rotated", vec![b'r'; size]);
    ground.write("still", "still");
    let written = move |at: u64| {
        let file = std::fs::File::options().write(true).open(&torn).unwrap();
        file.write_all_at(&at.to_le_bytes(), at % (size as u64))
            .unwrap();
        let mut file = std::fs::File::options().append(true).open(&log).unwrap();
        std::io::Write::write_all(&mut file, b"another line\n").unwrap();
        if at > 2 * size as u64 {
            let file = std::fs::File::options().write(true).open(&cut).unwrap();
            file.set_len(10).unwrap();
        }
    };
    let file = std::fs::File::create(&ground.archive).unwrap();
    let packed = pack(
        &ground.tree,
        volume(Compression::None),
        Sink::new("archive", Box::new(Meddling(file, written))),
        Progress::hidden(),
        CancellationToken::new(),
    )
    .await
    .unwrap();
    let said: Vec<(&str, Severity, &str)> = packed
        .findings
        .iter()
        .map(|finding| {
            let names = finding.message.rsplit_once(": ").unwrap().1;
            (finding.code.as_str(), finding.severity, names)
        })
        .collect();
    assert_eq!(
        said,
        [
            ("pack.changed", Severity::Warning, "database, rotated"),
            ("pack.grown", Severity::Info, "log")
        ]
    );
    let back = ground.unpack().await;
    let log = std::fs::read(back.join("log")).unwrap();
    assert!(log.len() >= size && log[..size].iter().all(|byte| *byte == b'l'));
    assert_eq!(std::fs::read(back.join("rotated")).unwrap().len(), size);
    assert_eq!(std::fs::read(back.join("still")).unwrap(), b"still");
}

#[test]
fn small_files_are_whole_however_often_they_are_replaced() {
    let ground = Ground::new();
    for each in 0..200 {
        ground.write(&format!("{each:03}"), vec![b'a'; 5000]);
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tree = &ground.tree;
    // Replaced by rename, as programs that care do, and deleted.
    let packed = busy(
        |count| {
            let content = vec![b'a' + u8::try_from(count % 26).unwrap(); 5000];
            let beside = tree.join("beside");
            std::fs::write(&beside, content).unwrap();
            std::fs::rename(&beside, tree.join(format!("{:03}", count % 200))).unwrap();
        },
        || {
            runtime
                .block_on(ground.pack(volume(Compression::None)))
                .unwrap()
        },
    );
    assert!(packed.files >= 200);
    let back = runtime.block_on(ground.unpack());
    for each in 0..200 {
        let content = std::fs::read(back.join(format!("{each:03}"))).unwrap();
        assert_eq!(content.len(), 5000);
        assert!(content.iter().all(|byte| *byte == content[0]));
    }
}

/// A sink under whose eyes the tree changes: each block that comes through.
struct Meddling<F>(std::fs::File, F);

impl<F: FnMut(u64) + Send> std::io::Write for Meddling<F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        (self.1)(std::io::Seek::stream_position(&mut self.0)?);
        self.0.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<F: FnMut(u64) + Send> SinkFile for Meddling<F> {
    fn seal(self: Box<Self>) -> std::io::Result<()> {
        self.0.sync_all()
    }
}

/// A writer that never rests while a tree is packed.
fn busy<T>(work: impl Fn(u64) + Send + Sync, packing: impl FnOnce() -> T) -> T {
    let stop = std::sync::atomic::AtomicBool::new(false);
    let began = Mutex::new(0_u64);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut count = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                work(count);
                count += 1;
                *began.lock().unwrap() = count;
            }
        });
        while *began.lock().unwrap() == 0 {
            std::thread::yield_now();
        }
        let done = packing();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        done
    })
}
