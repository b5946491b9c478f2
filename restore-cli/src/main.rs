//! The program `restore`.

use std::process::ExitCode;

fn main() -> ExitCode {
    restore_cli::complete();
    let words: Vec<_> = std::env::args_os().collect();
    let again = std::env::current_exe().map(|own| vec![own.into()]);
    restore_cli::main(&words, again.unwrap_or_default()).into()
}
