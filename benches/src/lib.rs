//! One binary per question that a number answers; what they share.
//!
//! Every figure is a ratio of two ways to do the same work, made in turns in one process, so
//! that what else the machine does hits both alike.
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What a benchmark ends with.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Runs a shell command as an operator would, and fails if it fails.
pub fn shell(command: &str) -> Result<()> {
    let status = Command::new("sh").args(["-c", command]).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command}: {status}").into())
    }
}

/// How long `work` takes.
pub fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let started = Instant::now();
    let done = work()?;
    Ok((done, started.elapsed()))
}

/// The middle one.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The head of the table that [`row`] goes on with.
pub fn head() {
    println!("| work | theirs | ours | ratio | mark | |");
    println!("|---|---|---|---|---|---|");
}

/// A line of the table: medians, their ratio and whether it reaches `mark`, where there is one.
pub fn row(work: &str, theirs: Duration, ours: Duration, mark: Option<f64>) {
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    let reached = mark.map_or("", |mark| if ratio <= mark { "reached" } else { "MISSED" });
    let mark = mark.map_or_else(String::new, |mark| format!("{mark:.2}"));
    println!(
        "| {work} | {:.3} s | {:.3} s | {ratio:.3} | {mark} | {reached} |",
        theirs.as_secs_f64(),
        ours.as_secs_f64(),
    );
}

/// Writes `size` bytes that gzip shrinks to about a third.
pub fn write_content(path: &Path, size: usize, seed: u64) -> Result<()> {
    const WORDS: &[u8] =
        b"GET /api/v1/series?match=node_cpu_seconds_total 200 0.0042 level=info ts=";
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let mut left = size;
    let mut put = |bytes: &[u8]| -> Result<bool> {
        let part = bytes.get(..left.min(bytes.len())).unwrap_or_default();
        file.write_all(part)?;
        left -= part.len();
        Ok(left > 0)
    };
    let mut more = size > 0;
    while more {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let [a, b, ..] = state.to_le_bytes();
        let from = usize::from(a) % WORDS.len();
        let words = WORDS.get(from..).unwrap_or_default();
        let words = words
            .get(..(usize::from(b) % 24).min(words.len()))
            .unwrap_or_default();
        more = put(words)? && put(&state.to_le_bytes())?;
    }
    Ok(())
}

/// A runtime as the program itself has.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}
