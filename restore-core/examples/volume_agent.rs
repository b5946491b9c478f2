//! Answers one request about the volume in a directory, as `restore volume-agent` does: what a
//! [`RemoteVolume`](restore_core::platform::agent::RemoteVolume) starts beside a volume.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

use restore_core::platform::agent::serve;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::env::args_os()
        .skip(1)
        .last()
        .map(PathBuf::from)
        .ok_or("usage: volume_agent [volume-agent] DIRECTORY")?;
    let input = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    serve(&root, input, output).await?;
    Ok(())
}
