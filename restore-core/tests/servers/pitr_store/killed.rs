//! Killed while the log is being fetched: gone on with, or as before, and nothing left of it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::both;
use super::place::Place;

/// The example `crash`.
fn crash(place: &Place, action: &str) -> Command {
    let mut command = Command::new(restore_testing::example("crash"));
    command
        .arg(place.ground.config())
        .args([action, "never", "latest", "latest"])
        .stdout(Stdio::piped());
    command
}

/// The folder of what was fetched, where there is one.
fn fetched(place: &Place) -> Option<PathBuf> {
    let entries = std::fs::read_dir(place.ground.path("volume")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths.find(|path| path.extension().is_some_and(|it| it == "wal"))
}

/// How many files it has whole.
fn whole(place: &Place) -> usize {
    let ledger = fetched(place).map(|dir| dir.join(".fetched"));
    let text = ledger.and_then(|ledger| std::fs::read_to_string(ledger).ok());
    text.unwrap_or_default().lines().count()
}

/// Begins a run, lets `bytes` of the log come and then nothing more, and kills it.
async fn kill_after(place: &Place, bytes: i64) {
    let mut child = crash(place, "run").spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let wait = |what: &str| {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    };
    while fetched(place).is_none() {
        wait("it fetches");
    }
    place.wire.cut_after(bytes, true);
    while !place.wire.is_down() || whole(place) == 0 {
        wait("a part of it is here");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(fetched(place).is_some(), "a killed process leaves it");
    place.wire.mend();
}

fn act(place: &Place, action: &str) -> String {
    let output = crash(place, action).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_fetches() {
    let place = Place::on_a_host().await;
    let ground = &place.ground;
    ground.write(1);
    ground.back_up().await;
    let mut rows = "1".to_owned();
    for n in 2..8 {
        ground.write(n);
        ground.archive();
        rows += &format!(" {n}");
    }
    let segment = 16 << 20;
    kill_after(&place, 5 * segment).await;
    let ended = act(&place, "rollback");
    assert!(
        ended.contains("outcome rolled back") || ended.contains("outcome undone"),
        "{ended}"
    );
    assert_eq!(ground.rows(), both(&rows));
    ground.confirm().await;
    ground.nothing_left();
    place.nothing_kept();

    kill_after(&place, 5 * segment).await;
    let (kept, before) = (whole(&place), place.wire.passed());
    let ended = act(&place, "resume");
    assert!(ended.contains("outcome restored"), "{ended}");
    assert_eq!(ground.rows(), both(&rows));
    // What was whole did not come again; the newest is read to see where the archive ends.
    let came = place.wire.passed() - before;
    let all = i64::try_from(place.archived().len()).unwrap();
    let most = (all - i64::try_from(kept).unwrap() + 2) * segment;
    assert!(came < most, "{came} bytes came, {kept} of {all} were here");
    ground.back().await;
    ground.nothing_left();
    place.nothing_kept();
}
