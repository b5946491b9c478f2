//! Programs in containers, and throwaway servers.

use std::time::{Duration, Instant};

use restore_core::platform::{Command, Exit, Platform};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::engine::{Engine, IMAGE, Service, until};

fn sh(script: &str) -> Command {
    Command::new(["sh", "-c", script])
}

async fn said(platform: &dyn Platform, service: &str, command: Command) -> (Exit, String) {
    let mut process = platform.exec(service, command).await.unwrap();
    let mut stdout = process.stdout().unwrap();
    let mut text = String::new();
    let (read, exit) = tokio::join!(stdout.read_to_string(&mut text), process.wait());
    read.unwrap();
    (exit.unwrap(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_stream_both_ways_and_give_their_code() {
    let engine = Engine::shared();
    let service = Service::new(&engine, "worker", &["--env", "PLACE=inside"], "sleep 1000");
    service.runs(1);
    let platform = engine.platform("[services.worker]\n");

    let mut process = platform
        .exec("worker", sh("tr a-z A-Z; echo oops $PLACE >&2; exit 3"))
        .await
        .unwrap();
    let mut stdin = process.stdin().unwrap();
    let mut stdout = process.stdout().unwrap();
    let big = vec![b'q'; 8 << 20];
    let writing = async {
        stdin.write_all(&big).await.unwrap();
        stdin.shutdown().await.unwrap();
    };
    let mut read = Vec::new();
    let (exit, _, ()) = tokio::join!(process.wait(), stdout.read_to_end(&mut read), writing);
    let exit = exit.unwrap();
    assert_eq!((exit.code, exit.stderr.as_str()), (3, "oops inside\n"));
    assert!(read == vec![b'Q'; 8 << 20]);

    // One that ends before its input does: its own words say why, and its code.
    let mut process = platform
        .exec("worker", sh("head -c 10; echo enough >&2; exit 5"))
        .await
        .unwrap();
    let mut stdin = process.stdin().unwrap();
    let begun = Instant::now();
    let mut broken = false;
    for _ in 0..1000 {
        broken |= stdin.write_all(&big[..1 << 20]).await.is_err();
        if broken {
            break;
        }
    }
    drop(stdin);
    let exit = process.wait().await.unwrap();
    assert!(broken);
    assert_eq!((exit.code, exit.stderr.as_str()), (5, "enough\n"));
    // The engine itself would let the writer wait for two minutes.
    assert!(begun.elapsed() < Duration::from_secs(30));

    // Dropping the input ends it, as it does with a pipe.
    let mut process = platform.exec("worker", sh("cat; echo done")).await.unwrap();
    drop(process.stdin());
    let mut stdout = process.stdout().unwrap();
    let mut text = String::new();
    let (_, exit) = tokio::join!(stdout.read_to_string(&mut text), process.wait());
    assert_eq!((exit.unwrap().code, text.as_str()), (0, "done\n"));

    let (exit, _) = said(&*platform, "worker", Command::new(["no-such-program"])).await;
    assert!([126, 127].contains(&exit.code), "{exit:?}");
    let (exit, text) = said(&*platform, "worker", sh("echo $SECRET").env("SECRET", "s")).await;
    assert_eq!((exit.code, text.as_str()), (0, "s\n"));
    // A server that it leaves in the background holds nobody up.
    let begun = Instant::now();
    let (exit, _) = tokio::time::timeout(Duration::from_secs(20), async {
        let mut process = platform
            .exec("worker", sh("sleep 600 & exit 4"))
            .await
            .unwrap();
        (process.wait().await.unwrap(), ())
    })
    .await
    .unwrap();
    assert_eq!(exit.code, 4);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_program_kills_it() {
    let engine = Engine::shared();
    let service = Service::new(&engine, "dropper", &[], "sleep 1000");
    service.runs(1);
    let platform = engine.platform("[services.dropper]\n");
    let process = platform
        .exec("dropper", Command::new(["sleep", "777"]))
        .await
        .unwrap();
    let runs = || {
        let container = &engine.containers("dropper")[0];
        engine
            .docker(&["top", container, "-o", "pid,args"])
            .contains("sleep 777")
    };
    until("it runs", runs);
    drop(process);
    until("it is gone", || !runs());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_replica_is_told() {
    let engine = Engine::shared();
    let service = Service::new(&engine, "many", &["--replicas", "3"], "sleep 1000");
    service.runs(3);
    let platform = engine.platform("[services.many]\n");
    platform.scale("many", 3).await.unwrap();
    for mut process in platform
        .exec_each("many", sh("touch /tmp/told"))
        .await
        .unwrap()
    {
        assert_eq!(process.wait().await.unwrap().code, 0);
    }
    for container in engine.containers("many") {
        engine.docker(&["exec", &container, "test", "-e", "/tmp/told"]);
    }
}

/// A service that does not run still has an image, a user and data to run programs with.
#[tokio::test(flavor = "multi_thread")]
async fn programs_of_a_stopped_service_run_aside() {
    let engine = Engine::shared();
    engine.docker(&["volume", "create", "aside_data"]);
    let _service = Service::new(
        &engine,
        "aside",
        &[
            "--replicas",
            "0",
            "--user",
            "12:34",
            "--mount",
            "type=volume,source=aside_data,target=/data",
        ],
        "sleep 1000",
    );
    let platform = engine.platform("[services.aside]\n");
    let (exit, text) = said(
        &*platform,
        "aside",
        sh("id -u; id -g; test -d /data; echo $?; exit 9"),
    )
    .await;
    assert_eq!((exit.code, text.as_str()), (9, "12\n34\n0\n"));
    assert_eq!(ours(&engine), "");
}

/// Containers of ours.
fn ours(engine: &Engine) -> String {
    engine.docker(&[
        "ps",
        "-aq",
        "--filter",
        "label=restore.site=tests",
        "--filter",
        "ancestor=restore-test/tools:1",
        "--filter",
        "label=restore.owner",
        "--filter",
        "status=running",
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn throwaway_servers_go_away() {
    let engine = Engine::shared();
    let _service = Service::new(&engine, "served", &["--replicas", "0"], "sleep 1000");
    let platform = engine.platform("[services.served]\n");
    let serve = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done";
    let scratch = platform.scratch("served", sh(serve)).await.unwrap();
    until("up", || scratch.log_tail() == "up\n");
    assert!(scratch.is_running());
    let command = ["ps", "-aq", "--filter", "label=restore.site=tests"];
    scratch.stop(Duration::from_secs(10)).await.unwrap();
    let scratch = platform
        .scratch("served", sh("echo no; exit 1"))
        .await
        .unwrap();
    until("its end", || !scratch.is_running());
    until("its words", || scratch.log_tail() == "no\n");
    drop(scratch);
    until("none is left", || engine.docker(&command).is_empty());
}

/// What a killed process left is known by its labels; what others still use is left alone.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_left_is_removed() {
    let engine = Engine::shared();
    let _service = Service::new(&engine, "left", &["--replicas", "0"], "sleep 1000");
    let platform = engine.platform("[services.left]\n");
    let left = |site: &str| {
        let label = format!("restore.site={site}");
        engine.docker(&[
            "run",
            "-d",
            "--network",
            "none",
            "--label",
            &label,
            "--label",
            "restore.owner=gone/1/2",
            IMAGE,
            "sleep",
            "1000",
        ])
    };
    let (own, foreign) = (left("tests"), left("another"));
    let scratch = platform.scratch("left", sh("sleep 1000")).await.unwrap();
    platform.tidy().await.unwrap();
    let all = engine.docker(&["ps", "-aq", "--no-trunc"]);
    assert!(!all.contains(&own) && all.contains(&foreign));
    assert!(scratch.is_running());
    scratch.stop(Duration::from_secs(1)).await.unwrap();
    engine.docker(&["rm", "-f", &foreign]);
}
