//! How much memory a program takes.

use std::io::{Read as _, Seek as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A process that does not outlive the test, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program, which must succeed, and returns the most memory in bytes that it ever had
/// resident: its own, without the processes that it starts.
///
/// The kernel keeps that mark while the process lives; it is read until the process is gone.
///
/// # Panics
///
/// Where it fails, with what it said.
pub fn peak_memory(command: &mut Command) -> u64 {
    let mut said = tempfile::tempfile().expect("a temporary file");
    let log = || Stdio::from(said.try_clone().expect("a file twice"));
    command.stdin(Stdio::null()).stdout(log()).stderr(log());
    let mut running = Running(command.spawn().expect("the program starts"));
    let status = format!("/proc/{}/status", running.0.id());
    let mut peak = 0;
    let exit = loop {
        peak = peak.max(high_water_mark(&status));
        if let Some(exit) = running.0.try_wait().expect("it can be waited for") {
            break exit;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if !exit.success() {
        let mut text = String::new();
        let read = said.rewind().and_then(|()| said.read_to_string(&mut text));
        panic!("{command:?}: {exit} ({read:?})\n{text}");
    }
    assert!(peak > 0, "{command:?} was never seen");
    peak
}

fn high_water_mark(status: &str) -> u64 {
    std::fs::read_to_string(status)
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}
