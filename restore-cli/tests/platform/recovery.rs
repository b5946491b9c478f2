//! The program killed in the middle of a recovery to a point in time.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use restore_testing::local;
use restore_testing::pitr::Ground;

fn restore(config: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restore"));
    command.arg("--config").arg(config).args(words);
    command
}

/// Whether a scratch server recovers in the run's folder.
fn recovers(ground: &Ground) -> bool {
    let inside = format!("{}/volume/.restore-", ground.root().display());
    local::processes(&inside).into_iter().any(|pid| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| {
            let words = String::from_utf8_lossy(&words).into_owned();
            words.contains("recovery_target_timeline=")
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_the_scratch_server_recovers() {
    let ground = Ground::new().await;
    let here = ground.past().await;
    let live = ground.rows();
    for verb in ["resume", "rollback"] {
        let mut running = restore(
            &ground.config(),
            &["run", "latest", "--to", &here.time, "--yes"],
        )
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !recovers(&ground) {
            assert!(running.try_wait().unwrap().is_none(), "it ended");
            assert!(Instant::now() < deadline, "it never recovers");
            std::thread::sleep(Duration::from_millis(5));
        }
        running.kill().unwrap();
        running.wait().unwrap();
        assert_eq!(ground.rows(), live, "killed before {verb}");
        let words: &[&str] = match verb {
            "resume" => &["resume"],
            _ => &["rollback", "--yes"],
        };
        let ended = restore(&ground.config(), words).output().unwrap();
        assert!(ended.status.success(), "{verb}: {ended:?}");
        match verb {
            "resume" => {
                assert_eq!(ground.rows(), ("1 2".to_owned(), "1 2".to_owned()));
                ground.back().await;
            }
            _ => ground.confirm().await,
        }
        assert_eq!(ground.rows(), live, "{verb}");
    }
}
