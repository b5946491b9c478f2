//! Hooks: when they are called, with what, and what one that fails stops.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use restore_core::run::{Boundary, Outcome, RunOptions};
use restore_core::{BackupRequest, CancellationToken, ErrorKind, Event, PlanRequest};
use restore_testing::Ended as _;
use serde_json::Value;

use super::toy::Toy;
use super::{dying_at, run, run_with};

/// A hook that writes down what there is when it is called, and its notice as `NAME.json`. It fails
/// where there is a file `fail-NAME`.
fn noting(dir: &Path, name: &str, when: &str) -> String {
    let dir = dir.display();
    format!(
        r#"
        [hooks.{name}]
        kind = "command"
        when = {when}
        command = ["/bin/sh", "-c", '''cd {dir} && cat >$RESTORE_HOOK.json
            page=no; [ -e page ] && page=yes
            echo "$RESTORE_HOOK $RESTORE_WHEN $RESTORE_SUBJECT: $(cat a/live), page $page" >>called
            [ ! -e fail-$RESTORE_HOOK ] || {{ echo "cannot $RESTORE_HOOK" >&2; exit 3; }}''']
        "#
    )
}

fn called(toy: &Toy) -> Vec<String> {
    let text = std::fs::read_to_string(toy.path().join("called")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn notice(toy: &Toy, name: &str) -> Value {
    let text = std::fs::read(toy.path().join(format!("{name}.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// A hook for each moment.
fn all(toy: &Toy) -> String {
    let hook = |name, when| noting(toy.path(), name, when);
    [
        hook("start", r#"["after-start"]"#),
        hook("swap", r#"["after-swap"]"#),
        hook("stop", r#"["before-stop"]"#),
        hook("good", r#"["on-success"]"#),
        hook("bad", r#"["on-failure"]"#),
    ]
    .concat()
}

/// They may have to sign in for that, or to start an agent.
#[tokio::test]
async fn components_are_asked_once_what_they_keep_at_the_end_of_a_run() {
    let toy = Toy::new();
    let site = toy.site_with_hooks(&noting(toy.path(), "good", r#"["on-success"]"#));
    let asked = toy.path().join("a/asked");
    std::fs::write(&asked, "").unwrap();
    let report = run(&site).await;
    assert_eq!(report.outcome, Outcome::Restored);
    assert!(report.components[0].kept_at.is_some());
    assert_eq!(called(&toy).len(), 1);
    assert_eq!(std::fs::read_to_string(asked).unwrap(), "x");
}

#[tokio::test]
async fn each_is_called_at_its_moment_and_told_what_is_known() {
    let toy = Toy::new();
    let site = toy.site_with_hooks(&all(&toy));
    let report = run(&site).await;
    assert_eq!(report.outcome, Outcome::Restored);
    assert_eq!(
        called(&toy),
        [
            "stop before-stop run: old a, page no",
            "swap after-swap run: restored a, page yes",
            "start after-start run: restored a, page yes",
            "good on-success run: restored a, page no",
        ]
    );
    let told = notice(&toy, "good");
    assert_eq!(told["report"]["run"], report.run.as_str());
    assert_eq!(told["report"]["outcome"], "restored");
    assert_eq!(told["site"], "toy");
    let text = told["text"].as_str().unwrap();
    assert!(text.starts_with("toy: Restored"), "{text}");
    assert_eq!(notice(&toy, "swap")["report"]["outcome"], "unfinished");
    // They are in the journal like all other steps.
    for step in ["hook:before-stop:stop", "hook:on-success:good"] {
        let done = report.steps.iter().find(|it| it.step == step).unwrap();
        assert!(done.seconds.is_some(), "{step}");
    }
    // Somebody takes it back: that is done as it was asked.
    site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(
        called(&toy).last().unwrap(),
        "good on-success run: old a, page no"
    );
    assert_eq!(notice(&toy, "good")["report"]["outcome"], "rolled_back");
}

#[tokio::test]
async fn one_that_fails_before_anything_is_stopped_turns_the_run_back_unnoticed() {
    let toy = Toy::new();
    let site = toy.site_with_hooks(&all(&toy));
    std::fs::write(toy.path().join("fail-stop"), "").unwrap();
    let report = run(&site).await;
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(report.downtime_seconds, None);
    assert_eq!(toy.live(), Toy::OLD);
    assert_eq!(toy.leftovers(), Vec::<String>::new());
    let failure = report.failure.clone().unwrap();
    assert_eq!(
        (failure.step.as_str(), failure.code.as_str()),
        ("hook:before-stop:stop", "hook.command")
    );
    assert!(
        failure.message.contains("exit code 3: cannot stop"),
        "{failure:?}"
    );
    assert!(failure.hint.unwrap().contains("[hooks.stop]"));
    let stopped = report.steps.iter().any(|it| it.step.contains("stop:app"));
    assert!(!stopped, "{:?}", report.steps);
    assert_eq!(
        called(&toy),
        [
            "stop before-stop run: old a, page no",
            "bad on-failure run: old a, page no"
        ]
    );
    let told = notice(&toy, "bad");
    assert_eq!(told["report"]["outcome"], "undone");
    assert_eq!(told["report"]["failure"]["code"], "hook.command");
}

#[tokio::test]
async fn one_that_fails_in_the_downtime_turns_the_run_back() {
    for name in ["swap", "start"] {
        let toy = Toy::new();
        let site = toy.site_with_hooks(&all(&toy));
        std::fs::write(toy.path().join(format!("fail-{name}")), "").unwrap();
        let report = run(&site).await;
        assert_eq!(report.outcome, Outcome::Undone, "{name}");
        assert_eq!(toy.live(), Toy::OLD, "{name}");
        assert!(!toy.page_is_up(), "{name}");
        let step = report.failure.unwrap().step;
        assert_eq!(step, format!("hook:after-{name}:{name}"));
        assert!(called(&toy).last().unwrap().starts_with("bad on-failure"));
    }
}

#[tokio::test]
async fn one_that_fails_at_the_end_is_told_and_changes_nothing() {
    let toy = Toy::new();
    let site = toy.site_with_hooks(&all(&toy));
    std::fs::write(toy.path().join("fail-good"), "").unwrap();
    let report = run(&site).await;
    assert_eq!(report.outcome, Outcome::Restored);
    assert!(report.error().is_none() && !report.is_failing());
    assert_eq!(toy.live(), Toy::NEW);
    let told = |report: &restore_core::Report| {
        let mut found = report.findings.iter().filter(|it| it.code == "hook.failed");
        found.next().cloned()
    };
    let finding = told(&report).unwrap();
    assert!(finding.message.contains("cannot good"), "{finding:?}");
    assert_eq!(told(&site.report(None).await.unwrap()), Some(finding));
    // Nor does it stand in the way of what is done next.
    assert!(
        site.confirm(None, RunOptions::new())
            .await
            .unwrap()
            .confirmed
    );

    // One that fails where the run has failed: that is what is told of the run.
    toy.sabotage("a", "stage");
    std::fs::write(toy.path().join("fail-bad"), "").unwrap();
    let report = run(&site).await;
    assert_eq!(report.failure.clone().unwrap().code, "toy.sabotaged");
    assert!(told(&report).is_some());
}

#[tokio::test]
async fn one_that_hangs_is_ended_at_its_deadline_or_with_the_run() {
    let hanging = |toy: &Toy, timeout: &str| {
        let dir = toy.path().display().to_string();
        format!(
            r#"
            [hooks.hang]
            kind = "command"
            when = ["before-stop"]
            timeout = "{timeout}"
            command = ["/bin/sh", "-c", "echo $$ >{dir}/pid; exec sleep 300"]
            "#
        )
    };
    let toy = Toy::new();
    let report = run(&toy.site_with_hooks(&hanging(&toy, "2s"))).await;
    let failure = report.failure.unwrap();
    assert_eq!(failure.code, "hook.timeout");
    assert!(failure.message.contains("2s"), "{}", failure.message);
    gone(&toy).await;

    let toy = Toy::new();
    let site = toy.site_with_hooks(&hanging(&toy, "5m"));
    let cancel = CancellationToken::new();
    let pid = toy.path().join("pid");
    let stop = async {
        while std::fs::read_to_string(&pid).unwrap_or_default().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cancel.cancel();
    };
    let options = RunOptions::new().cancelled_by(cancel.clone());
    let (report, ()) = tokio::join!(run_with(&site, PlanRequest::all(), options), stop);
    let report = report.unwrap();
    assert_eq!(report.failure.unwrap().kind, ErrorKind::Interrupted);
    assert_eq!(toy.live(), Toy::OLD);
    gone(&toy).await;
}

/// Waits until the program that a hook has started is gone.
async fn gone(toy: &Toy) {
    let pid = std::fs::read_to_string(toy.path().join("pid")).unwrap();
    let proc = Path::new("/proc").join(pid.trim());
    let deadline = Instant::now() + Duration::from_secs(10);
    while proc.exists() && !is_zombie(&proc) {
        assert!(Instant::now() < deadline, "{} lives", proc.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_zombie(proc: &Path) -> bool {
    let stat = std::fs::read_to_string(proc.join("stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_none_or(|rest| rest.trim_start().starts_with('Z'))
}

/// Killed in a hook: a resumption calls it again, and none that was done.
#[tokio::test]
async fn death_at_every_boundary_calls_none_again_that_was_done() {
    for at in 0.. {
        let toy = Toy::new();
        let site = toy.site_with_hooks(&all(&toy));
        let dead = AssertUnwindSafe(run_with(&site, PlanRequest::all(), dying_at(at)))
            .catch_unwind()
            .await;
        if dead.is_ok() {
            assert!(at > 30, "only {at} boundaries");
            return;
        }
        let before = called(&toy);
        let over = toy.live() == Toy::NEW && site.resume(None, RunOptions::new()).await.is_err();
        if over {
            // Its end was written: what it came to is settled, and nobody is told again.
            assert_eq!(called(&toy), before, "boundary {at}");
            continue;
        }
        if toy.live() != Toy::NEW {
            let ended = site.resume(None, RunOptions::new()).await.unwrap();
            assert_eq!(ended.outcome, Outcome::Restored, "boundary {at}");
        }
        let now = called(&toy);
        for step in ["stop", "swap", "start", "good"] {
            let count = now.iter().filter(|it| it.starts_with(step)).count();
            // Killed behind the call and before that was written, it is called twice.
            assert!((1..=2).contains(&count), "boundary {at}: {step}: {now:?}");
        }
        assert!(now.len() <= 5, "boundary {at}: {now:?}");
    }
}

#[tokio::test]
async fn a_hook_that_keeps_a_resumption_from_going_on_can_be_taken_out() {
    let toy = Toy::new();
    let site = toy.site_with_hooks(&all(&toy));
    let dies = RunOptions::new().boundary(Arc::new(|boundary: &Boundary| {
        assert!(boundary.record != "intent hook:after-swap:swap", "died");
        Ok(())
    }));
    let dead = AssertUnwindSafe(run_with(&site, PlanRequest::all(), dies)).catch_unwind();
    assert!(dead.await.is_err());
    std::fs::write(toy.path().join("fail-swap"), "").unwrap();
    let site = toy.site_with_page();
    let report = site.resume(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored);
    assert!(report.findings.iter().any(|it| it.code == "hook.gone"));
}

#[tokio::test]
async fn drills_and_backups_call_those_of_their_end() {
    let toy = Toy::new();
    let hooks = noting(
        toy.path(),
        "any",
        r#"["before-stop", "on-success", "on-failure"]"#,
    ) + &noting(toy.path(), "drills", r#"["on-failure"]"#)
        .replace("when =", "for = ['drill']\nwhen =");
    let site = toy.site_with_hooks(&hooks);
    let drilled = run_with(&site, PlanRequest::all().drill(true), RunOptions::new());
    assert_eq!(drilled.await.unwrap().outcome, Outcome::Drilled);
    site.back_up(BackupRequest::all(), RunOptions::new())
        .await
        .unwrap();
    let backup = notice(&toy, "any");
    assert_eq!(backup["backup"]["kind"], "full");
    assert!(backup.get("report").is_none() && backup.get("error").is_none());
    toy.sabotage("a", "back_up");
    let failed = site.back_up(BackupRequest::all(), RunOptions::new()).await;
    let code = failed.unwrap_err().code().to_owned();
    assert_eq!(notice(&toy, "any")["error"]["code"], code);
    // One that is refused, which a timer makes where nobody looks.
    let newest = site.backup("latest").await.unwrap().id().clone();
    std::fs::remove_file(
        toy.path()
            .join("backups")
            .join(newest.as_str())
            .join("a.txt"),
    )
    .unwrap();
    let damaged = site.backup(newest.as_str()).await.unwrap();
    let options = RunOptions::new();
    let request = PlanRequest::all().drill(true);
    let plan = site.plan_with(&damaged, request, &options).await.unwrap();
    let refused = site.run(plan, options).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Verification);
    assert_eq!(
        called(&toy),
        [
            "any on-success drill: old a, page no",
            "any on-success backup: old a, page no",
            "any on-failure backup: old a, page no",
            "any on-failure drill: old a, page no",
            "drills on-failure drill: old a, page no",
        ]
    );
}

/// Whoever fails to tell of a backup says so in its report.
#[tokio::test]
async fn a_backup_says_which_hook_failed() {
    let toy = Toy::new();
    let site = toy.site_with_hooks(&noting(toy.path(), "tell", r#"["on-success"]"#));
    std::fs::write(toy.path().join("fail-tell"), "").unwrap();
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let heard = events.clone();
    let options = RunOptions::new().events(Arc::new(move |event: &Event| {
        heard.lock().unwrap().push(event.clone());
    }));
    let report = site.back_up(BackupRequest::all(), options).await.unwrap();
    let finding = report.findings.last().unwrap().clone();
    assert_eq!(finding.code, "hook.failed");
    assert!(events.lock().unwrap().contains(&Event::Finding { finding }));
}

/// What children get besides what is said to them.
#[tokio::test]
async fn commands_get_a_clean_environment() {
    let toy = Toy::new();
    let dir = toy.path().display().to_string();
    let site = toy.site_with_hooks(&format!(
        "[hooks.env]\nkind = 'command'\nwhen = ['on-success']\ncommand = ['/bin/sh', '-c', 'env >{dir}/env']\n"
    ));
    assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO")));
    run(&site).await;
    let env = std::fs::read_to_string(toy.path().join("env")).unwrap();
    assert!(env.contains("RESTORE_RUN="), "{env}");
    assert!(!env.contains("CARGO"), "{env}");
}

/// Answers so many requests with this status; gives what was asked.
fn server(status: &'static str, count: usize) -> (u16, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        let mut asked = Vec::new();
        for _ in 0..count {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = Vec::new();
            let mut chunk = [0; 4096];
            loop {
                let read = stream.read(&mut chunk).unwrap();
                text.extend_from_slice(&chunk[..read]);
                let shown = String::from_utf8_lossy(&text).to_lowercase();
                let Some((head, body)) = shown.split_once("\r\n\r\n") else {
                    continue;
                };
                let length = head.split("content-length: ").nth(1).unwrap();
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                if body.len() >= length {
                    break;
                }
            }
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            asked.push(String::from_utf8(text).unwrap());
        }
        asked
    };
    (port, std::thread::spawn(serve))
}

fn secret(toy: &Toy, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = toy.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn a_webhook_gets_the_report_and_nobody_its_secrets() {
    for (status, told) in [("204 No Content", true), ("403 Forbidden", false)] {
        let toy = Toy::new();
        let (port, server) = server(status, 2);
        let url = secret(
            &toy,
            "url",
            &format!("http://127.0.0.1:{port}/in/s3cr3t?a=b\n"),
        );
        let token = secret(&toy, "token", "t0ken\n");
        let site = toy.site_with_hooks(&format!(
            "[hooks.chat]\nkind = 'webhook'\nwhen = ['on-success']\nurl_file = '{url}'\ntoken_file = '{token}'\n\
             [hooks.open]\nkind = 'webhook'\nwhen = ['on-success']\nurl = 'http://127.0.0.1:{port}/open'\n"
        ));
        let report = run(&site).await;
        assert_eq!(report.outcome, Outcome::Restored);
        let asked = server.join().unwrap();
        let (head, body) = asked[0].split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("POST /in/s3cr3t?a=b HTTP/1.1\r\n"),
            "{head}"
        );
        let head = head.to_lowercase();
        assert!(head.contains("authorization: bearer t0ken"), "{head}");
        assert!(head.contains("content-type: application/json"), "{head}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["report"]["run"], report.run.as_str());
        assert!(asked[1].starts_with("POST /open HTTP/1.1"));
        assert!(!asked[1].to_lowercase().contains("authorization"));
        let failed = report.findings.iter().any(|it| it.code == "hook.failed");
        assert_eq!(failed, !told);
        let folder = toy.path().join(format!("state/runs/{}", report.run));
        for file in ["journal.jsonl", "report.json", "report.txt"] {
            let text = std::fs::read_to_string(folder.join(file)).unwrap();
            for word in ["s3cr3t", "t0ken"] {
                assert!(!text.contains(word), "{word} in {file}");
            }
        }
    }
}

#[tokio::test]
async fn a_webhook_that_nobody_answers_ends_at_its_deadline() {
    let toy = Toy::new();
    // Accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let site = toy.site_with_hooks(&format!(
        "[hooks.x]\nkind = 'webhook'\nwhen = ['before-stop']\ntimeout = '1s'\nurl = 'http://127.0.0.1:{port}/'\n"
    ));
    let backup = site.backup("latest").await.unwrap();
    let plan = site
        .plan_with(&backup, PlanRequest::all(), &RunOptions::new())
        .await
        .unwrap();
    let report = site.run(plan, RunOptions::new()).await.ended().unwrap();
    assert_eq!(report.failure.unwrap().code, "hook.timeout");
    assert_eq!(toy.live(), Toy::OLD);
}

/// A timer's drill that finds no backup is what somebody has to hear of.
#[tokio::test]
async fn a_drill_that_finds_no_backup_is_told() {
    let toy = Toy::new();
    let site = toy.site_with_hooks(&noting(toy.path(), "bad", r#"["on-failure"]"#));
    std::fs::remove_dir_all(toy.path().join("backups")).unwrap();
    let error = site.drill("latest").run().await.unwrap_err();
    assert_eq!(called(&toy), ["bad on-failure drill: old a, page no"]);
    assert_eq!(notice(&toy, "bad")["error"]["code"], error.code());
    // Whoever has typed a run looks at it.
    site.plan("latest").run().await.unwrap_err();
    assert_eq!(called(&toy).len(), 1);
}

/// Whoever kills the process in one of them, or follows it, finds that the run has ended.
#[tokio::test]
async fn those_of_the_end_find_the_report_written() {
    let toy = Toy::new();
    let dir = toy.path().display().to_string();
    let site = toy.site_with_hooks(&format!(
        "[hooks.seen]\nkind = 'command'\nwhen = ['on-success']\n\
         command = ['/bin/sh', '-c', 'cat {dir}/state/runs/$RESTORE_RUN/report.json >{dir}/seen; exit 3']\n"
    ));
    let report = run(&site).await;
    let seen: Value =
        serde_json::from_slice(&std::fs::read(toy.path().join("seen")).unwrap()).unwrap();
    assert_eq!(seen["outcome"], "restored");
    // Once in the log, with what came of the hook.
    let log = std::fs::read_to_string(toy.path().join("restore.log")).unwrap();
    assert_eq!(log.matches("Restored and checked").count(), 1, "{log}");
    assert!(log.contains("the hook seen"), "{log}");
    let folder = toy.path().join(format!("state/runs/{}", report.run));
    let text = std::fs::read_to_string(folder.join("report.json")).unwrap();
    assert!(text.contains("hook:on-success:seen"), "{text}");

    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let heard = events.clone();
    let options = RunOptions::new().events(Arc::new(move |event: &Event| {
        heard.lock().unwrap().push(event.clone());
    }));
    site.watch(None, &options).await.unwrap();
    let events = events.lock().unwrap();
    let of_hook =
        |it: &Event| matches!(it, Event::StepFailed { step, .. } if step == "hook:on-success:seen");
    assert!(events.iter().any(of_hook), "{events:?}");
    let last = events.last().unwrap();
    assert!(matches!(last, Event::RunFinished { .. }), "{last:?}");
}
