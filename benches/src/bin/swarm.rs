//! On the runbook's platform as a real stack: how long does a full restore take, and how long are
//! users turned away, by `restore run` and by the runbook's own commands, with their fixed sleeps
//! and without; with some data and with ten times as much?
//!
//!     swarm [ROUNDS [ROWS MEGABYTES]]
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use restore_benches::{Result, median, shell, timed};
use restore_testing::{Swarm, run as succeed};

/// What the runbook stumbles over is left out, and Redis takes the RDB that it restores.
const OPTIONS: [&str; 3] = ["--plain", "--appendonly", "no"];

/// The seconds of a whole run, and those in which a user was not served.
#[derive(Clone, Copy, Default)]
struct Took {
    total: Duration,
    down: Duration,
}

fn main() -> Result<()> {
    let numbers: Vec<u32> = std::env::args()
        .skip(1)
        .map(|arg| arg.parse())
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| "usage: swarm [ROUNDS [ROWS MEGABYTES]]")?;
    let at = |index: usize, usual| numbers.get(index).copied().unwrap_or(usual);
    let (rounds, rows, megabytes) = (at(0, 3), at(1, 20_000), at(2, 100));
    let small = measure(rounds, rows, megabytes, true)?;
    let large = measure(rounds, rows * 10, megabytes * 10, false)?;
    println!(
        "{rows} rows and {megabytes} MB of volumes, and ten times as much; median of {rounds} alternating runs, \
         the runbook with its sleeps once\n"
    );
    println!("| seconds | 1x | 10x |");
    println!("|---|---|---|");
    let cell = |time: Duration| match time.is_zero() {
        true => String::new(),
        false => format!("{:.1}", time.as_secs_f64()),
    };
    let names = [
        "restore run",
        "runbook without its sleeps",
        "runbook with its sleeps",
    ];
    for (name, (small, large)) in names.iter().zip(small.iter().zip(&large)) {
        println!(
            "| {name}: whole | {} | {} |",
            cell(small.total),
            cell(large.total)
        );
        println!(
            "| {name}: **downtime** | {} | {} |",
            cell(small.down),
            cell(large.down)
        );
    }
    let ratio = |ours: Duration, theirs: Duration| match theirs.is_zero() {
        true => String::new(),
        false => format!("{:.3}", ours.as_secs_f64() / theirs.as_secs_f64()),
    };
    for (at, against) in [(1, "without sleeps"), (2, "with sleeps")] {
        for (what, of) in [
            ("downtime", (|took: Took| took.down) as fn(Took) -> Duration),
            ("whole", |took: Took| took.total),
        ] {
            let cells = [&small, &large].map(|took| ratio(of(took[0]), of(took[at])));
            println!(
                "| {what}, ours / runbook's {against} | {} | {} |",
                cells[0], cells[1]
            );
        }
    }
    Ok(())
}

/// Ours, the runbook without sleeps, and with them where wanted.
fn measure(rounds: u32, rows: u32, megabytes: u32, sleeps: bool) -> Result<[Took; 3]> {
    let program = program()?;
    let platform = Swarm::alone(rows, megabytes, &OPTIONS);
    let id = platform.back_up();
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..rounds {
        // Whatever is still to be written belongs to the run before.
        shell("sync")?;
        ours.push(run(&program, &platform, &id)?);
        shell("sync")?;
        theirs.push(runbook(&platform, &id, &["--without-sleeps"])?);
    }
    let slept = match sleeps {
        true => runbook(&platform, &id, &[])?,
        false => Took::default(),
    };
    let middle = |took: &[Took]| Took {
        total: median(took.iter().map(|took| took.total).collect()),
        down: median(took.iter().map(|took| took.down).collect()),
    };
    Ok([middle(&ours), middle(&theirs), slept])
}

/// The program that is measured: the one built beside this.
fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("restore");
    if program.exists() {
        Ok(program)
    } else {
        Err(format!("{} is missing: `make build` makes it", program.display()).into())
    }
}

/// Both make a backup of what is live first.
fn run(program: &Path, platform: &Swarm, id: &str) -> Result<Took> {
    let restore = || {
        let mut command = Command::new(program);
        command
            .arg("--config")
            .arg(platform.config())
            .args(["--progress", "off"]);
        command
    };
    let user = User::start(platform.setting("HTTP_PORT"));
    let ((), total) = timed(|| {
        succeed(restore().args(["run", id, "--yes"]));
        Ok(())
    })?;
    std::thread::sleep(Duration::from_secs(1));
    let down = user.end()?;
    succeed(restore().args(["confirm", "--yes"]));
    Ok(Took { total, down })
}

fn runbook(platform: &Swarm, id: &str, options: &[&str]) -> Result<Took> {
    let mut arguments = options.to_vec();
    arguments.push(id);
    let said = platform.script("runbook.sh", &arguments);
    let numbers: Vec<f64> = said
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    match numbers[..] {
        [total, down] => Ok(Took {
            total: Duration::from_secs_f64(total),
            down: Duration::from_secs_f64(down),
        }),
        _ => Err(format!("the runbook says {said:?}").into()),
    }
}

/// Asks by name, through nginx, every 100 ms, as the runbook's script does.
struct User {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Option<(Instant, Instant)>>,
}

impl User {
    fn start(port: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut down: Option<(Instant, Instant)> = None;
            let mut open = false;
            while !told.load(Ordering::Relaxed) {
                let began = Instant::now();
                let served = is_served(&port);
                let ended = Instant::now();
                down = match (served, down) {
                    (false, None) => Some((began, ended)),
                    (false, Some((since, _))) => Some((since, ended)),
                    // Over with the first answer after it.
                    (true, Some((since, _))) if open => Some((since, ended)),
                    (true, down) => down,
                };
                open = !served;
                std::thread::sleep(Duration::from_millis(100));
            }
            down
        });
        Self { stop, thread }
    }

    /// From the first request that was not served to the first that was again.
    fn end(self) -> Result<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let down = self.thread.join().map_err(|_| "the user gave up")?;
        Ok(down.map_or(Duration::ZERO, |(since, until)| until - since))
    }
}

fn is_served(port: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(
            b"GET /health HTTP/1.1\r\nHost: www.example.test\r\nConnection: close\r\n\r\n",
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}
