//! Platforms. Their volumes have a suite of their own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Kept, broken, given, holds, must};
use crate::contract::Platform;
use crate::model::{Error, ErrorKind, Result, Timestamp};
use crate::sys::process::command::Command;

/// A platform of one's own with at least one service, which the suite stops and starts.
#[async_trait]
pub trait PlatformUnderTest: Send + Sync {
    /// The platform, made anew as another process would.
    async fn platform(&self) -> Result<Arc<dyn Platform>>;

    /// A service that may be stopped and started, and in whose context there is a POSIX `sh`.
    fn service(&self) -> String;

    /// How many instances of it can run at the same time; 1 where there can only be one.
    fn most_replicas(&self) -> u32 {
        1
    }
}

const NONE: &str = "no-such-thing-here";

/// Tries a platform. The service runs at the end.
///
/// # Errors
///
/// The first clause of the contract of [`Platform`] that is not kept.
pub async fn platform(under_test: Arc<dyn PlatformUnderTest>) -> Kept {
    let under_test = under_test.as_ref();
    let platform = given("platform", under_test.platform().await)?;
    let service = under_test.service();
    names(platform.as_ref(), &service).await?;
    scales(under_test, &service).await?;
    programs(platform.as_ref(), &service).await?;
    servers(platform.as_ref(), &service).await?;
    logs(platform.as_ref(), &service).await?;
    must(
        "a service is started again",
        platform.scale(&service, 1).await,
    )
}

/// An error, and of this kind.
fn is_not_found<T>(clause: &str, result: Result<T>) -> Kept {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(broken(clause, format!("{:?}: {error}", error.kind()))),
        Ok(_) => Err(broken(clause, "Ok")),
    }
}

async fn names(platform: &dyn Platform, service: &str) -> Kept {
    let described = platform.describe();
    holds(
        "`describe` gives a few words in one line",
        !described.trim().is_empty() && !described.contains('\n'),
        format!("{described:?}"),
    )?;
    let services = platform.services();
    holds(
        "`services` gives the names of all services",
        services.iter().any(|name| name == service),
        format!("{services:?}"),
    )?;
    let clause = "a service that the platform lacks is `NotFound`";
    is_not_found(clause, platform.service(NONE).await)?;
    // No name is taken for a part of another (trap of every tool that filters by substrings).
    let part: String = service.chars().take(service.chars().count() - 1).collect();
    if !services.contains(&part) {
        is_not_found(clause, platform.service(&part).await)?;
    }
    let clause = "a volume that the platform lacks is `NotFound`, and looking makes none";
    for _ in 0..2 {
        is_not_found(clause, platform.volume(NONE).await)?;
    }
    Ok(())
}

async fn scales(under_test: &dyn PlatformUnderTest, service: &str) -> Kept {
    let most = under_test.most_replicas();
    for replicas in [1, 0, most, 0, 1] {
        let platform = given("platform", under_test.platform().await)?;
        let clause = format!("`scale` to {replicas} returns once exactly so many run");
        must(&clause, platform.scale(service, replicas).await)?;
        let state = must(&clause, platform.service(service).await)?;
        holds(
            &clause,
            (state.running, state.desired) == (replicas, replicas) && state.name == service,
            format!("{state:?}"),
        )?;
        let clause = "`scale` to what already is changes nothing, also from another process";
        let platform = given("platform", under_test.platform().await)?;
        must(clause, platform.scale(service, replicas).await)?;
        let again = must(clause, platform.service(service).await)?;
        holds(clause, again == state, format!("{again:?} after {state:?}"))?;
    }
    let platform = given("platform", under_test.platform().await)?;
    let clause = "`scale` of a service that the platform lacks is an error";
    holds(clause, platform.scale(NONE, 0).await.is_err(), "Ok")
}

fn sh(script: &str) -> Command {
    Command::new(["sh", "-c", script])
}

async fn run(
    platform: &dyn Platform,
    service: &str,
    command: Command,
    input: &[u8],
) -> Result<(i32, Vec<u8>, String)> {
    let failed = |e| Error::io("talk to the program", e);
    let mut process = platform.exec(service, command).await?;
    let mut output = Vec::new();
    let (stdin, stdout) = (process.stdin(), process.stdout());
    let write = async {
        if let Some(mut stdin) = stdin {
            stdin.write_all(input).await.map_err(failed)?;
            stdin.shutdown().await.map_err(failed)?;
        }
        Ok::<_, Error>(())
    };
    let read = async {
        if let Some(mut stdout) = stdout {
            stdout.read_to_end(&mut output).await.map_err(failed)?;
        }
        Ok::<_, Error>(())
    };
    let (written, read) = tokio::join!(write, read);
    written.and(read)?;
    let exit = process.wait().await?;
    Ok((exit.code, output, exit.stderr))
}

async fn programs(platform: &dyn Platform, service: &str) -> Kept {
    let clause = "`exec` connects input, output, errors and environment, and gives the exit code";
    // More than any pipe holds.
    let input: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let script = "cat; printf '%s' \"$RESTORE_CONFORMANCE\" >&2; exit 3";
    let command = sh(script).env("RESTORE_CONFORMANCE", "a \"b\" $c");
    let (code, output, errors) = must(clause, run(platform, service, command, &input).await)?;
    holds(
        clause,
        code == 3 && output == input && errors.contains("a \"b\" $c"),
        format!("code {code}, {} bytes, {errors:?}", output.len()),
    )?;
    let clause = "a program that a signal ended has the code 128 + its number";
    let (code, ..) = must(clause, run(platform, service, sh("kill -9 $$"), b"").await)?;
    holds(clause, code == 137, code)?;

    let clause = "`wait` drains what was not taken";
    let mut process = must(
        clause,
        platform.exec(service, sh("yes | head -c 1000000")).await,
    )?;
    drop(process.stdin());
    let exit = tokio::time::timeout(PATIENCE, process.wait()).await;
    let exit = exit.map_err(|_| broken(clause, "it never ends"))?;
    holds(clause, must(clause, exit)?.code == 0, "another code")?;

    let clause = "a program that cannot be started is an error, or ends with one";
    let exit = match platform.exec(service, Command::new([NONE])).await {
        Err(_) => return Ok(()),
        Ok(mut process) => process.wait().await,
    };
    holds(clause, exit.map_or(true, |exit| exit.code != 0), "code 0")
}

const PATIENCE: Duration = Duration::from_secs(60);

async fn servers(platform: &dyn Platform, service: &str) -> Kept {
    let clause = "a scratch server runs until it is stopped, and what it says can be read";
    let command = sh("echo conformance; exec sleep 600");
    let server = must(clause, platform.scratch(service, command).await)?;
    let said = async {
        while !server.log_tail().contains("conformance") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, said)
        .await
        .map_err(|_| broken(clause, format!("{:?}", server.log_tail())))?;
    holds(clause, server.is_running(), "it does not run")?;
    must(clause, server.stop(Duration::from_secs(10)).await)?;

    let clause = "a scratch server that ends by itself is seen to have ended";
    let server = must(clause, platform.scratch(service, sh("exit 1")).await)?;
    let ended = async {
        while server.is_running() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended)
        .await
        .map_err(|_| broken(clause, "it runs"))?;
    must(
        "`stop` of what has ended",
        server.stop(Duration::from_secs(1)).await,
    )
}

async fn logs(platform: &dyn Platform, service: &str) -> Kept {
    let clause = "`logs` gives at most so many lines, and none of the future";
    let lines = must(clause, platform.logs(service, Timestamp::now(), 0).await)?;
    holds(clause, lines.is_empty(), format!("{} lines", lines.len()))?;
    let long_ago = Timestamp::from(std::time::SystemTime::UNIX_EPOCH);
    let lines = must(clause, platform.logs(service, long_ago, 2).await)?;
    holds(clause, lines.len() <= 2, format!("{} lines", lines.len()))
}
