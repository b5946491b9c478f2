//! Killed at every boundary: afterwards as before, or recovered.

use std::path::PathBuf;
use std::process::Command;

use crate::ground::Ground;

/// The example `crash`, which cargo builds beside the tests.
fn crash() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    here.parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/crash")
}

fn act(ground: &Ground, action: &str, when: &str, to: &str) -> String {
    let output = Command::new(crash())
        .arg(ground.config())
        .args([action, when, "latest", to])
        .output()
        .unwrap();
    let killed = output.status.code().is_none();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        killed,
        when.parse::<usize>().is_ok(),
        "{action} {when}: {said}"
    );
    said
}

async fn up(ground: &Ground) {
    let site = ground.site().await;
    site.platform().scale("postgres", 1).await.unwrap();
    while ground.try_sql("postgres", "SELECT 1").is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_boundary() {
    let ground = Ground::quick().await;
    let here = ground.past().await;
    let pair = |rows: &str| (rows.to_owned(), rows.to_owned());
    let (before, recovered) = (pair("1 2 3"), pair("1 2"));
    let counted = act(&ground, "run", "never", &here.time);
    assert!(counted.contains("outcome restored"), "{counted}");
    assert_eq!(ground.rows(), recovered);
    ground.back().await;
    let boundaries = counted
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()))
        .count();
    assert!(boundaries > 8, "{counted}");
    // The last boundary is the run's end.
    for at in 0..boundaries - 1 {
        for action in ["resume", "rollback"] {
            // Each way takes seconds: one of them for each boundary, and both around the swap.
            let around = (boundaries / 3..boundaries).contains(&at);
            if !around && (at % 2 == 0) != (action == "resume") {
                continue;
            }
            act(&ground, "run", &at.to_string(), &here.time);
            let ended = act(&ground, action, "never", &here.time);
            up(&ground).await;
            let rows = ground.rows();
            if ended.contains("outcome restored") {
                assert_eq!(rows, recovered, "{action} after {at}: {ended}");
                ground.back().await;
            } else if ended.contains("run.none") {
                assert_eq!(rows, before, "{action} after {at}: {ended}");
            } else {
                assert!(
                    ended.contains("outcome rolled back") || ended.contains("outcome undone"),
                    "{action} after {at}: {ended}"
                );
                assert_eq!(rows, before, "{action} after {at}: {ended}");
                ground.confirm().await;
            }
            assert_eq!(ground.rows(), before, "{action} after {at}, put back");
        }
    }
}
