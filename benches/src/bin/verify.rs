//! How fast are files hashed, against `sha256sum`: one file on one core, several on all.
use std::path::PathBuf;
use std::time::Duration;

use restore_benches::{Result, head, median, row, runtime, shell, timed, write_content};
use restore_core::Progress;
use restore_core::stream::{Source, hash_file};

const FILES: usize = 4;
const SIZE: usize = 256 << 20;
const ROUNDS: usize = 7;

fn main() -> Result<()> {
    let work = tempfile::tempdir()?;
    let files: Vec<PathBuf> = (0..FILES)
        .map(|each| work.path().join(format!("{each}")))
        .collect();
    for (seed, file) in (1..).zip(&files) {
        write_content(file, SIZE, seed)?;
    }
    let runtime = runtime()?;
    let ours = |files: &[PathBuf]| -> Result<()> {
        runtime.block_on(async {
            let hashing: Vec<_> = files
                .iter()
                .map(|file| {
                    let source = Source::new(file, "file", None, None);
                    tokio::spawn(async move { hash_file(&source, Progress::hidden()).await })
                })
                .collect();
            for each in hashing {
                each.await??;
            }
            Ok(())
        })
    };
    let theirs = |files: &[PathBuf]| {
        let names: Vec<_> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        shell(&format!("sha256sum {} > /dev/null", names.join(" ")))
    };
    let openssl = |files: &[PathBuf]| {
        let names: Vec<_> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        shell(&format!(
            "openssl dgst -sha256 {} > /dev/null",
            names.join(" ")
        ))
    };
    let one = files.get(..1).unwrap_or_default();
    let mut times = [const { Vec::new() }; 6];
    let mut wanted = Vec::new();
    for _ in 0..ROUNDS {
        let [a, b, c, d, e, f] = &mut times;
        a.push(timed(|| theirs(one))?.1);
        b.push(timed(|| ours(one))?.1);
        c.push(timed(|| theirs(&files))?.1);
        let before = worked()?;
        let (work, took) = timed(|| {
            ours(&files)?;
            worked()
        })?;
        wanted.push(work.saturating_sub(before).as_secs_f64() / took.as_secs_f64());
        d.push(took);
        e.push(timed(|| openssl(&files))?.1);
        f.push(timed(|| files.chunks(1).try_for_each(ours))?.1);
    }
    let [
        one_theirs,
        one_ours,
        all_theirs,
        all_ours,
        all_openssl,
        in_turn,
    ] = times.map(median);
    let cores = std::thread::available_parallelism()?.get();
    println!(
        "{FILES} files of {} MiB, warm, {cores} cores, median of {ROUNDS}\n",
        SIZE >> 20
    );
    head();
    row("one file: `sha256sum`", one_theirs, one_ours, Some(0.25));
    row(
        "all files: ours one by one, ours at once",
        in_turn,
        all_ours,
        Some(0.65),
    );
    row("all files: `sha256sum`", all_theirs, all_ours, None);
    row("all files: `openssl dgst`", all_openssl, all_ours, None);
    wanted.sort_by(f64::total_cmp);
    let wanted = wanted.get(ROUNDS / 2).copied().unwrap_or_default();
    println!("\nall files: {wanted:.2} threads at work or waiting for a core, on average");
    Ok(())
}

/// How long all threads of this process have run, or could have run had a core been free: unlike
/// the time that passes, this tells how many cores are used also while others use them.
fn worked() -> Result<Duration> {
    let mut all = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        // A thread may just have ended, and not every kernel keeps these numbers.
        let stat = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        let mut numbers = stat.split(' ').map(str::parse::<u64>);
        for time in numbers.by_ref().take(2) {
            all += time.unwrap_or_default();
        }
    }
    Ok(Duration::from_nanos(all))
}
