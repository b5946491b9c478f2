//! `-v`, and `RESTORE_LOG`: what the library tells `tracing`, on stderr between everything else.

use std::io::{self, Write};

use restore_core::{Error, ErrorKind, Result};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

use crate::progress::Stderr;

/// The variable that says how much is logged where no option does.
const VARIABLE: &str = "RESTORE_LOG";
/// Nothing else is logged: what other libraries tell may hold what is sent.
const TARGET: &str = "restore_core";

/// Begins to log as `-v` asks for, given so often, else as the environment does. To be called once a process.
pub(crate) fn start(verbose: u8, stderr: &Stderr) -> Result<()> {
    let level = level(verbose, std::env::var(VARIABLE).ok().as_deref())?;
    if level == LevelFilter::OFF {
        return Ok(());
    }
    let stderr = stderr.clone();
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_target(false)
        .with_writer(move || Log(stderr.clone()));
    let only = Targets::new().with_target(TARGET, level);
    // Where another program than ours is around this, it may log by itself.
    let _ = tracing_subscriber::registry()
        .with(only)
        .with(lines)
        .try_init();
    Ok(())
}

fn level(verbose: u8, variable: Option<&str>) -> Result<LevelFilter> {
    match (verbose, variable) {
        (1, _) => Ok(LevelFilter::DEBUG),
        (2.., _) => Ok(LevelFilter::TRACE),
        (0, None | Some("" | "off")) => Ok(LevelFilter::OFF),
        (0, Some("info")) => Ok(LevelFilter::INFO),
        (0, Some("debug")) => Ok(LevelFilter::DEBUG),
        (0, Some("trace")) => Ok(LevelFilter::TRACE),
        (0, Some(other)) => Err(Error::new(
            ErrorKind::Config,
            "cli.log_level",
            format!("{VARIABLE} is {other:?}, which is no level"),
        )
        .hint("set it to off, info (steps), debug (programs too) or trace (requests too)")),
    }
}

/// Takes a line at a time.
struct Log(Stderr);

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.log(String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_goes_before_the_environment() {
        assert_eq!(level(0, None).unwrap(), LevelFilter::OFF);
        assert_eq!(level(0, Some("")).unwrap(), LevelFilter::OFF);
        assert_eq!(level(0, Some("info")).unwrap(), LevelFilter::INFO);
        assert_eq!(level(1, Some("trace")).unwrap(), LevelFilter::DEBUG);
        assert_eq!(level(3, Some("nonsense")).unwrap(), LevelFilter::TRACE);
        let error = level(0, Some("verbose")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.hint_text().unwrap().contains("trace"), "{error}");
    }
}
