//! `restore volume-agent`: what a restore on another machine starts beside a volume.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;

use restore_core::platform::agent;
use restore_core::{Error, Result};

use crate::printer::Answer;

/// Answers one request from stdin; stdout is the answer, and nothing else.
pub(super) async fn volume_agent(directory: &Path) -> Result<Answer> {
    let own = |what, fd: std::io::Result<_>| {
        fd.map(File::from)
            .map_err(|e| Error::io(format!("use {what}"), e))
    };
    let input = own("stdin", std::io::stdin().as_fd().try_clone_to_owned())?;
    let output = own("stdout", std::io::stdout().as_fd().try_clone_to_owned())?;
    agent::serve(directory, input, output).await?;
    Answer::new("agent", &(), String::new())
}
