//! Tries readers of foreign bytes on changes of their corpus, for so many minutes each:
//!
//! ```sh
//! cd fuzz && MINUTES=10 cargo run --release [-- TARGET…]
//! ```
//!
//! `SEED=…` repeats a run. Bytes at which a reader falls over are written to `crashes/`; once it is
//! mended they belong into `corpus/TARGET/`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use restore_core::fuzzing::{TARGETS, Target, mutate};

/// No reader may take longer for one case.
const SLOW: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let minutes = number("MINUTES").unwrap_or(1_u64);
    let seed = number("SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.map_or(0, |now| now.as_secs())
    });
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut failed = false;
    for target in TARGETS {
        if wanted.is_empty() || wanted.iter().any(|name| name == target.0) {
            failed |= !run(target, here, seed, Duration::from_secs(minutes * 60));
        }
    }
    match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// Whether nothing was found.
fn run(&(name, read): &Target, here: &Path, seed: u64, time: Duration) -> bool {
    let corpus = corpus(&here.join("corpus").join(name));
    println!("{name}: SEED={seed}, a corpus of {}", corpus.len());
    let began = Instant::now();
    let (mut state, mut cases) = (seed, 0_u64);
    while began.elapsed() < time {
        let (bytes, next) = mutate(&corpus, state);
        let start = Instant::now();
        let done = std::panic::catch_unwind(|| read(&bytes));
        let took = start.elapsed();
        if done.is_err() || took > SLOW {
            let folder = here.join("crashes");
            let file = folder.join(format!("{name}-{state}"));
            let kept =
                std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, &bytes));
            println!(
                "{name}: FOUND after {cases} cases, {took:?}: {} {kept:?}",
                file.display()
            );
            return false;
        }
        state = next;
        cases += 1;
    }
    println!("{name}: {cases} cases, nothing found");
    true
}

fn corpus(folder: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
        .iter()
        .filter_map(|file| std::fs::read(file).ok())
        .collect()
}
